"""What the site needs beside mkdocs' plugins: formulas, the command's options, links to the repository's files."""

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

from experiments.shared.markup import formula_markup  # noqa: E402

_log = logging.getLogger("mkdocs.hooks.jaxnn")
_LINK_OUT = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+")
_EMPTY_DESCRIPTION = re.compile(r'\s+–\s*<div class="doc-md-description">\s*</div>')
_COMMANDS = "<!-- commands -->"


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
    """Take along what the pages link to outside of docs/: pictures and results, under `repository/`."""
    for page in files.documentation_pages():
        for link in _LINK_OUT.findall(page.content_string):
            place = _place_in_repository(page, link)
            if place is not None and files.get_file_from_path(f"repository/{place}") is None:
                files.append(File.generated(config, f"repository/{place}", abs_src_path=str(ROOT / place)))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links out of docs/ to what was taken along; write the options of the command."""

    def taken_along(match: re.Match[str]) -> str:
        place = _place_in_repository(page.file, match[0])
        if place is None:
            return match[0]
        return posixpath.relpath(f"repository/{place}", posixpath.dirname(page.file.src_uri) or ".")

    markdown = _LINK_OUT.sub(taken_along, markdown)
    return markdown.replace(_COMMANDS, describe_commands()) if _COMMANDS in markdown else markdown


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
