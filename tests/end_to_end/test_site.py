"""The documentation: every public name has its entry, every link leads somewhere, and the site builds and works."""

import functools
import html
import http.server
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jax
import pytest

from experiments.shared.catalogue import NAMES
from tests.browser import complaints, opened, prefers, served, size

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def public_names():
    import jaxnn as nn
    from jaxnn import convolution, hosts, plotting, runner

    for room in (nn, nn.data):
        for name, value in vars(room).items():
            if not name.startswith("_") and not inspect.ismodule(value):
                yield f"{room.__name__}.{name}"
    for room in (convolution, hosts, plotting, runner):
        yield from (f"{room.__name__}.{name}" for name in room.__all__)


def entries():
    return [name for page in REFERENCE.glob("*.md") for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)]


def without_code(markdown):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE))


def anchors(page):
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(
        r"^#+ (.*)", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE), re.M
    )
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def test_every_public_name_has_one_entry_in_the_reference():
    assert sorted(entries()) == sorted(public_names())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            assert parts.scheme == "https" and "." in parts.netloc, link
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.is_relative_to(ROOT) and target.exists(), link
        if parts.fragment and target.suffix == ".md":
            assert parts.fragment in anchors(target), link


def test_the_script_of_the_first_page(capsys):
    (script,) = re.findall(r"```python\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(script, "index.md", "exec"), {})
    assert float(capsys.readouterr().out.split("test accuracy: ")[1]) > 0.9


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built without a warning."""
    for needed in ("mkdocs", "material", "mkdocstrings_handlers.python", "latex2mathml", "nbconvert"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ".mkdocs.yml", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    lines = built.stderr.strip().splitlines()
    assert [line.split()[0] for line in lines] == ["INFO"] * len(lines), built.stderr
    assert not any("not included in the" in line or "contains a link" in line for line in lines), built.stderr
    return folder


def test_each_entry_stands_under_its_public_name(site):
    shown = "".join(page.read_text() for page in (site / "reference").rglob("*.html"))
    headings = re.findall(r'<h2 id="(jaxnn\.[\w.]+)" class="doc', shown)
    assert sorted(headings) == sorted(entries())
    assert "some outcome is NaN or infinite" in shown  # the comment beside a field


def test_each_formula_is_set(site):
    count = 0
    for page in REFERENCE.glob("*.md"):
        formulas = page.read_text().count("formula: |")
        shown = (site / "reference" / ("" if page.stem == "index" else page.stem) / "index.html").read_text()
        set_ = re.findall(r'<div class="formula">(.*?)</div>', shown, re.DOTALL)
        assert len(set_) == formulas
        assert all(formula.startswith("<math") and "\\" not in formula for formula in set_)
        count += formulas
    assert count > 40


def test_the_page_of_the_command_has_every_option(site, capsys):
    from jaxnn import cli

    shown = (site / "reference" / "command" / "index.html").read_text()
    sections = dict(re.findall(r'<h2 id="jaxnn-([\w-]+)">(.*?)(?=<h2|</article>)', shown, re.DOTALL))
    assert list(sections) == list(cli.COMMANDS)
    for command, section in sections.items():
        assert cli.main([command, "--help"]) == 0
        options = set(re.findall(r"^\W*(--[a-z][\w-]*)", capsys.readouterr().out, re.M))
        assert options and options == set(re.findall(r"<dt><code>(--[\w-]+)", section))
    assert "Normalise each hidden layer over the mini-batch." in sections["train"]


def test_the_notebook_is_a_page_with_what_it_printed(site):
    nbformat = pytest.importorskip("nbformat")
    page = (site / "notebook" / "index.html").read_text()
    shown = html.unescape(re.sub(r"<[^>]+>", "", page))
    outputs = [
        html.unescape(re.sub(r"<[^>]+>", "", text)).strip()
        for text in re.findall(r'<span class="filename">Output</span>(.*?)</pre>', page, re.DOTALL)
    ]
    for cell in nbformat.read(ROOT / "experiments" / "colab.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.source in shown
            assert all(output.text.strip() in outputs for output in cell.outputs if output.output_type == "stream")
    (picture,) = re.findall(r'<img alt="Validation accuracy of 64 networks[^"]*" src="([^"]+)"', page)
    assert (site / "notebook" / picture).resolve().read_bytes().startswith(b"\x89PNG")
    (source,) = re.findall(r'href="([^"]+)">Download the notebook</a>', page)
    assert (site / "notebook" / source).resolve().read_bytes() == (ROOT / "experiments" / "colab.ipynb").read_bytes()


def test_every_experiment_is_listed_and_leads_to_its_results(site):
    listed = re.findall(
        r'href="\.\./results\.html#(\w+)">[^<]+\?</a><br ?/?>\s*<code>\1</code>: (\d+) of \2 claims hold',
        (site / "experiments" / "index.html").read_text(),
    )
    assert [name for name, _ in listed] == list(NAMES)
    results = (site / "results.html").read_text()
    assert '<a href="./">jaxnn</a>' in results
    assert all(f'<article id="{name}"' in results for name in NAMES)


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"?([^\s\">]+)", page.read_text())
        assert fetched
        assert [link for link in fetched if urlsplit(link).netloc] == []
    for style in site.rglob("*.css"):
        assert not re.findall(r"url\(\"?(?:https?:)?//", style.read_text())


@pytest.fixture
def helper(monkeypatch):
    """A module of the site's own, by its name."""
    monkeypatch.syspath_prepend(DOCS / "site")

    def load(name):
        spec = importlib.util.spec_from_file_location(name, DOCS / "site" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_formula_that_cannot_be_set_ends_a_strict_build(helper, caplog):
    pytest.importorskip("mkdocs")
    hook = helper("hook")
    assert "<msub>" in hook.formula("x_1")
    assert not caplog.records
    hook.formula(r"\nothing{x}")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_docstrings_become_markdown(helper):
    pytest.importorskip("griffe")
    docstring = """A rule.

    W <- W - lr g

Differs    in
    optax  nothing

Returns:
    A rule: of
    course.

Raises:
    TypeError, ValueError: never.

>>> print([1,
...        2])
    [1, 2]"""
    expected = """A rule.

```text
W <- W - lr g
```

```text
Differs    in
    optax  nothing
```

**Returns:** A rule: of course.

Raises:
    TypeError | ValueError: never.

```pycon
>>> print([1,
...        2])
    [1, 2]
```"""
    assert re.sub(r"\n{3,}", "\n\n", helper("docstrings").with_fences(docstring)) == expected


def test_links_out_of_docs_are_taken_along(helper, caplog):
    structure = pytest.importorskip("mkdocs.structure.files")
    config = pytest.importorskip("mkdocs.config.defaults").MkDocsConfig()
    config.load_dict({"site_name": "x", "plugins": []})
    assert config.validate() == ([], [])
    config.plugins._current_plugin = "the hook"  # as it is while mkdocs calls one
    hook = helper("hook")
    text = "[a](../../experiments/dropout.py#x) [b](../index.md) ![c](../../benchmarks/results/amd-epyc-2-cores.png)"
    text += " [n](../../experiments/colab.ipynb)"
    here = structure.File.generated(config, "reference/here.md", content=text)
    files = structure.Files([here])
    hook.on_files(files, config)
    taken = {file.src_uri: file.abs_src_path for file in files if file.src_uri.startswith("repository/")}
    places = ("experiments/dropout.py", "benchmarks/results/amd-epyc-2-cores.png", "experiments/colab.ipynb")
    assert taken == {f"repository/{place}": str(ROOT / place) for place in places}
    page = types.SimpleNamespace(file=here)
    assert hook.on_page_markdown(text, page) == (
        "[a](../repository/experiments/dropout.py#x) [b](../index.md) "
        "![c](../repository/benchmarks/results/amd-epyc-2-cores.png) [n](../notebook.md)"
    )
    assert not caplog.records
    hook.on_page_markdown("[d](../../experiments/gone.py)", page)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.fixture(scope="module")
def url(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, served(server) as address:
        yield address


@pytest.fixture(scope="module")
def started(url):
    with opened() as driver:
        yield driver


@pytest.fixture
def browser(started):
    yield started
    assert complaints(started) == []


def until(driver, script):
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(driver, 10, poll_frequency=0.02).until(lambda _: driver.execute_script(script))


def test_no_page_is_wider_than_a_narrow_screen(browser, site, url):
    size(browser, 360)
    pages = [page.parent.relative_to(site) for page in site.glob("*/index.html")]
    pages += [f"reference/{page}" for page in ("optimizers", "layers", "command", "data")]
    assert len(pages) > 8
    for page in pages:
        browser.get(f"{url}{page}/")
        sizes = browser.execute_script("return [document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(sizes) <= 360, page


def test_formulas_have_a_size_and_the_font_that_can_set_them(browser, url):
    size(browser, 1400)
    browser.get(f"{url}reference/optimizers/")
    until(browser, "return document.fonts.status === 'loaded'")
    assert browser.execute_script("return [...document.fonts].map(font => font.status)") == ["loaded"]
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('.formula math')].map(formula => formula.getBoundingClientRect())"
        ".map(box => [box.width, box.height])"
    )
    assert len(sizes) >= 9
    assert all(20 < width < 900 and 10 < height < 300 for width, height in sizes)


def test_search_finds_adam(browser, url):
    size(browser, 1400)
    browser.get(url)
    field = browser.find_element("css selector", "input.md-search__input")
    field.click()
    field.send_keys("adam")
    found = until(
        browser,
        "const links = [...document.querySelectorAll('.md-search-result__link')].map(link => link.href);"
        "return links.length ? links : null",
    )
    assert any("/reference/optimizers/" in link for link in found), found


def test_light_and_dark(browser, url):
    shown = "return getComputedStyle(document.body).backgroundColor"
    for scheme, expected in (("light", "default"), ("dark", "slate")):
        prefers(browser, scheme)
        browser.get("about:blank")  # from where nothing writes the choice of before
        origin = {"origin": url.rstrip("/"), "storageTypes": "local_storage"}
        browser.execute_cdp_cmd("Storage.clearDataForOrigin", origin)
        browser.get(url)
        until(browser, f"return document.body.dataset.mdColorScheme === '{expected}'")
        red = int(re.findall(r"\d+", browser.execute_script(shown))[0])
        assert (red > 200) == (scheme == "light")
