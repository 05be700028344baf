"""What the site needs beside mkdocs' plugins: formulas, and what it shows of the repository beside docs/."""

import functools
import logging
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # this tree's jaxnn, whichever is installed

from commands import describe_commands  # noqa: E402  # mkdocs looks for a hook's imports beside it
from examples import experiments_list, notebook_page  # noqa: E402

from experiments.shared.experiment import RESULTS  # noqa: E402
from experiments.shared.markup import formula_markup  # noqa: E402
from experiments.shared.page import Section, read_sections, render  # noqa: E402

_log = logging.getLogger("mkdocs.hooks.jaxnn")
_LINK_OUT = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+")
_EMPTY_DESCRIPTION = re.compile(r'\s+–\s*<div class="doc-md-description">\s*</div>')
_NOTEBOOK, _NOTEBOOK_PAGE = "experiments/colab.ipynb", "notebook.md"
_RESULTS_PAGE = "results.html"


def on_config(config: MkDocsConfig) -> None:
    """Let a block of the language `math` be a formula, as it is on the hosts of repositories."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "math", "class": "formula", "format": formula}]


def formula(source: str, *_: Any, **__: Any) -> str:
    """LaTeX as MathML, which browsers set by themselves."""
    parts = formula_markup(source.strip())
    if any(part.startswith("<code>") for part in parts):
        _log.warning("no formula: %s", source)
    return f'<div class="formula">{"".join(parts)}</div>'


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add what the pages link to outside of docs/, under `repository/`, and pages of the notebook and the results."""
    for page in files.documentation_pages():
        for link in _LINK_OUT.findall(page.content_string):
            place = _place_in_repository(page, link)
            if place is not None and files.get_file_from_path(f"repository/{place}") is None:
                files.append(File.generated(config, f"repository/{place}", abs_src_path=str(ROOT / place)))
    text, pictures = notebook_page(ROOT / _NOTEBOOK, f"repository/{_NOTEBOOK}")
    made = {_NOTEBOOK_PAGE: text, _RESULTS_PAGE: render(_experiments(), home="./"), **pictures}
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links out of docs/ to what was added; write the options of the command, and the list of experiments."""

    def added(match: re.Match[str]) -> str:
        place = _place_in_repository(page.file, match[0])
        if place is None:
            return match[0]
        target = _NOTEBOOK_PAGE if place == _NOTEBOOK else f"repository/{place}"
        return posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")

    markdown = _LINK_OUT.sub(added, markdown)
    for name, write in _WRITTEN.items():
        if name in markdown:
            markdown = markdown.replace(name, write())
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Take away the dash before a description that is empty."""
    return _EMPTY_DESCRIPTION.sub("", html)


def _place_in_repository(page: File, link: str) -> str | None:
    """Where in the repository a link of a page leads, if that is a file outside of docs/."""
    place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.src_uri), link))
    if place.startswith("docs/"):
        return None
    if place.endswith(".md") or not (ROOT / place).is_file():
        _log.warning("%s links to %s, which cannot be taken along", page.src_uri, place)
        return None
    return place


@functools.cache
def _experiments() -> list[Section]:
    return read_sections(RESULTS)


_WRITTEN = {
    "<!-- commands -->": describe_commands,
    "<!-- experiments -->": lambda: experiments_list(_experiments(), _RESULTS_PAGE),
}
