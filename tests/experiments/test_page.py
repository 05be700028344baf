import base64
import html
import http.client
import io
import itertools
import json
import re
import threading
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import jax
import pytest
from PIL import Image

from experiments import perceptron
from experiments.shared import page
from experiments.shared.catalogue import NAMES, find
from experiments.shared.experiment import perform
from experiments.shared.images import Place
from experiments.shared.markup import description_blocks, formula_markup
from experiments.shared.rows import GROUPS, ROWS
from tests.experiments.sample_results import claim, write_result, write_several


class Read(HTMLParser):
    """The elements of a page with their attributes, and the text outside style and script."""

    def __init__(self, markup):
        super().__init__()
        self.elements, self.text, self._inside = [], "", None
        self.feed(markup)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside not in ("style", "script"):
            self.text += data

    def all(self, wanted, **with_attributes):
        return [
            attributes
            for tag, attributes in self.elements
            if tag == wanted and with_attributes.items() <= attributes.items()
        ]


def pixels(content):
    with Image.open(io.BytesIO(content)) as picture:
        return picture.convert("RGB").tobytes()


def made(results):
    return Read(page.write(results, results / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    write_several(results)
    return made(results)


def test_a_real_result_is_shown_whole(tmp_path):
    result = perform(perceptron.EXPERIMENT, perceptron.Config(), Place(quick=True), tmp_path / "perceptron")
    shown = made(tmp_path)
    for one in result["claims"]:
        for part in ("words", "measured", "reference", "source"):
            assert one[part] in shown.text
    assert result["question"] in shown.text
    assert "python -m experiments.perceptron --quick" in shown.text
    assert "0 of 40" in shown.text
    assert jax.__version__ in shown.text
    image = shown.all("img")[0]
    assert image["alt"] == result["figures"][0]["alt"]
    assert pixels(base64.b64decode(image["src"].partition(",")[2])) == pixels(
        (tmp_path / "perceptron" / result["figures"][0]["png"]).read_bytes()
    )


def test_every_claim_appears_in_the_order_of_its_experiment(several):
    numbers = re.findall(r"accuracy at scale (\d+)", several.text)
    assert numbers == [str(number) for number in range(16)]


def test_verdicts_are_words(several):
    assert several.text.count("✗ fails") == 1 + 1  # the claim, and the legend
    assert "✗ 1 of 17 claims fails" in " ".join(several.text.split())
    assert "its claim holds" in several.text


def test_what_is_folded_away_is_open_where_a_claim_fails_in_it(tmp_path, several):
    assert several.all("details", **{"class": "more"}) == [{"class": "more", "open": None}]
    write_result(tmp_path, "batch_norm", claims=[claim("C7", str(number)) for number in range(13)])
    assert made(tmp_path).all("details", **{"class": "more"}) == [{"class": "more"}]


def test_experiments_are_in_the_order_of_the_course(several):
    names = [article["id"] for article in several.all("article")]
    assert names == sorted(names, key=NAMES.index)
    assert names == ["perceptron", "optimizer_paths", "batch_norm", "dropout"]


def test_text_is_never_markup(several):
    assert several.text.count("window.hacked = true") > 10
    assert several.all("script") == [{}]
    assert not [attributes for _, attributes in several.elements if {"onerror", "style", "onclick"} & set(attributes)]
    assert {attributes["src"][:10] for attributes in several.all("img") if "src" in attributes} == {"data:image"}


def test_nothing_is_asked_of_other_hosts(several):
    for _, attributes in several.elements:
        for name in ("src", "href", "action", "data", "srcset", "xlink:href", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), attributes
    policy = several.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert not several.all("link", rel="stylesheet")


def test_style_and_script_bring_nothing_from_elsewhere():
    folder = Path(page.__file__).parent
    for name in ("page.css", "page.js"):
        assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|import\(", (folder / name).read_text())


def test_every_image_has_words_and_a_size(several):
    images = [image for image in several.all("img") if "src" in image]
    assert len(images) == 4
    for image in images:
        assert image["alt"].startswith("A curve of")
        assert (image["width"], image["height"]) == ("960", "480")


def test_vector_figures_where_there_are_any_and_pixels_of_one_that_moves(several):
    kinds = [image["src"].partition(";")[0] for image in several.all("img") if "src" in image]
    assert kinds == ["data:image/svg+xml", "data:image/webp", "data:image/svg+xml", "data:image/webp"]
    (play,) = several.all("button", **{"class": "play"})
    assert play["data-animation"].startswith("data:image/gif;base64,R0lGOD")


def test_ids_are_unique_and_links_lead_somewhere(several):
    ids = [attributes["id"] for _, attributes in several.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in several.all("a"):
        assert link["href"][1:] in ids
    for _, attributes in several.elements:
        assert set(attributes.get("aria-labelledby", ids[0]).split()) <= set(ids)


def test_headings_are_in_order(several):
    levels = [int(tag[1]) for tag, _ in several.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))


def test_facts_of_all(several):
    words = " ".join(several.text.split())
    assert "20 of 21" in words  # claims: 1 + 17 + 2 + 1, less one
    assert "Partly the quick form. 1 of these 4 results is" in words
    assert "16 s" in words
    assert "4 May 2026" in words
    assert "2 × CPU" in words


def sections_of(tmp_path, **claims_of):
    for name, claims in claims_of.items():
        write_result(tmp_path, name, claims=claims)
    return [page.read_section(number, tmp_path / name / "result.json") for number, name in enumerate(claims_of, 1)]


def test_a_row_is_reproduced_when_all_its_claims_hold(tmp_path):
    sections = sections_of(
        tmp_path,
        perceptron=[claim("D4"), claim("D4"), claim("X1")],
        batch_norm=[claim("C6"), claim("C7"), claim("C7", holds=False), claim("X1", holds=False), claim("Z9")],
        dropout=[],
    )
    verdicts = {row.code: row.verdict for row in page.rows_of(sections)}
    assert {code for code, verdict in verdicts.items() if verdict == "reproduced"} == {"D4", "C6"}
    assert {code for code, verdict in verdicts.items() if verdict == "fails"} == {"C7", "X1"}
    assert len(verdicts) == 40
    places = {row.code: row.places for row in page.rows_of(sections)}
    assert places["X1"] == [(1, "perceptron-X1"), (2, "batch_norm-X1")]


def test_by_the_quick_form_alone_no_row_is_reproduced(tmp_path):
    write_result(tmp_path, "perceptron", claims=[claim("D4", values=[None]), claim("X1")], quick=True)
    write_result(tmp_path, "batch_norm", claims=[claim("X1"), claim("C7", holds=False)])
    names = ("perceptron", "batch_norm")
    sections = [page.read_section(number, tmp_path / name / "result.json") for number, name in enumerate(names, 1)]
    verdicts = {row.code: row.verdict for row in page.rows_of(sections)}
    assert {code: verdicts[code] for code in ("D4", "X1", "C7", "A1")} == {
        "D4": "quick", "X1": "reproduced", "C7": "fails", "A1": "missing"
    }  # fmt: skip
    assert "holds in the quick form" in page.write(tmp_path, tmp_path / "index.html").read_text()


def test_the_row_that_asks_for_this_page_holds_once_the_sources_are_complete(tmp_path):
    rows = [code for code in ROWS if not code.startswith("X")]
    *others, last = rows
    assert len(rows) == 34

    def verdict(name, codes):
        sections = sections_of(tmp_path, **{name: [claim(code) for code in codes]})
        return next(row.verdict for row in page.rows_of(sections) if row.code == page.THE_PAGE)

    assert verdict("perceptron", others) == "missing"
    assert verdict("dropout", [*others, last]) == "reproduced"


def test_rows_and_groups_are_the_textbooks():
    counts = {letter: sum(code.startswith(letter) for code in ROWS) for letter in GROUPS}
    assert counts == {"A": 14, "B": 4, "C": 11, "D": 5, "X": 6}


@pytest.mark.parametrize("name", NAMES)
def test_the_formula_of_every_experiment_becomes_mathml(name):
    for part in formula_markup(find([name])[0].formula):
        assert part.startswith("<math"), part
        assert set(find([name])[0].rows) <= set(ROWS)


def test_formulas_break_at_wide_gaps():
    parts = formula_markup(r"\hat{x} = \frac{x - \mu}{\sqrt{v}}, \qquad y = \gamma x, \quad z \sim 1/2")
    assert [ElementTree.fromstring(part).tag for part in parts] == ["math"] * 3
    assert "<mfrac>" in parts[0] and "γ" in ElementTree.fromstring(parts[1])[2].text


def test_names_of_functions_stand_close_to_what_they_are_of():
    (sign,) = formula_markup(r"\operatorname{sign}(x)")
    assert '<mo lspace="0.17em" rspace="0">sign</mo>' in sign


@pytest.mark.parametrize(
    "bad", ["", r"\left( a", r"\nonsense{x}", r"\text{<script>}<\/script>", r"\text{</math><script>alert(1)</script>}"]
)
def test_a_formula_that_is_none_stays_text(bad):
    for part in formula_markup(bad):
        assert "<script" not in part
        assert html.unescape(part).startswith(("<code>", "<math"))


def test_a_formula_carries_no_links_and_no_style():
    latex = r"\href{javascript:alert(1)}{x} \style{background: url(x)}{y} \class{a}{z} \color{red}{u}"
    for part in formula_markup(latex):
        assert not re.search("href|style=|class|script", part)


def test_descriptions_keep_their_parts_apart():
    text = (
        "What?\n\nOne *word* and `a*b*c`,\nf = g*h*i.\n\n    y = x\n      + 1\n\n- first\n  goes on\n- second\n\n"
        "    python -m experiments.a\n    python -m experiments.b"
    )
    assert [(block.kind, [str(part) for part in block.parts]) for block in description_blocks(text)] == [
        ("prose", ["One <em>word</em> and <code>a*b*c</code>, f = g*h*i."]),
        ("formula", ["y = x\n  + 1"]),
        ("list", ["first goes on", "second"]),
        ("command", ["python -m experiments.a", "python -m experiments.b"]),
    ]
    assert description_blocks("What?") == []


@pytest.mark.parametrize("results", ["", "missing"])
def test_without_results_there_is_no_page(tmp_path, results):
    with pytest.raises(ValueError, match=r"^no results in .*; to have them: python -m experiments run --all$"):
        page.write(tmp_path / results, tmp_path / "index.html")
    assert not (tmp_path / "index.html").exists()


def test_what_is_still_being_written_is_no_result(tmp_path):
    write_result(tmp_path, "perceptron")
    (tmp_path / "perceptron").rename(tmp_path / ".perceptron-1234")
    with pytest.raises(ValueError, match="no results"):
        page.write(tmp_path, tmp_path / "index.html")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda result: result.pop("claims"), "it lacks 'claims'"),
        (lambda result: result.update(seconds="4"), "its 'seconds' is not as expected"),
        (lambda result: result.update(quick=1), "its 'quick' is not as expected"),
        (lambda result: result.update(seconds=True), "its 'seconds' is not as expected"),
        (lambda result: result.update(rows=["D4", 4]), "its 'rows' is not as expected"),
        (lambda result: result.update(name="dropout"), "it is about 'dropout'"),
        (lambda result: result.update(date="yesterday"), "Invalid isoformat string: 'yesterday'"),
        (lambda result: result["claims"][0].pop("holds"), "it lacks 'holds'"),
        (lambda result: result["figures"][0].pop("alt"), "a figure lacks 'alt'"),
        (lambda result: result["figures"][0].update(png="other.png"), "its figure 'other.png' is missing"),
        (
            lambda result: result["figures"][0].update(png="../curve.png"),
            "its figure '../curve.png' is not in its folder",
        ),
        (lambda result: result["figures"][0].update(png="result.json"), "'result.json' is no PNG"),
    ],
)
def test_a_broken_result_is_refused_in_a_sentence(tmp_path, damage, said):
    path = write_result(tmp_path, "perceptron", claims=[claim()])
    result = json.loads(path.read_text())
    damage(result)
    path.write_text(json.dumps(result))
    with pytest.raises(ValueError) as refused:
        page.write(tmp_path, tmp_path / "index.html")
    assert str(refused.value) == f"{path} is broken: {said}; to have it anew: python -m experiments run perceptron"
    assert not (tmp_path / "index.html").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\ufffe"])
def test_what_is_no_result_at_all_is_refused(tmp_path, text):
    path = write_result(tmp_path, "perceptron")
    path.write_text(text, encoding="utf-16" if "\ufffe" in text else "utf-8")
    with pytest.raises(ValueError, match=r"result\.json is broken: "):
        page.write(tmp_path, tmp_path / "index.html")


def test_a_cut_off_picture_is_refused(tmp_path):
    write_result(tmp_path, "perceptron")
    picture = tmp_path / "perceptron" / "curve.png"
    picture.write_bytes(picture.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"result\.json is broken: "):
        page.write(tmp_path, tmp_path / "index.html")


def test_where_webp_is_missing_the_png_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    write_result(tmp_path, "perceptron")
    assert made(tmp_path).all("img")[0]["src"].startswith("data:image/png;")


def test_an_experiment_without_claims_or_pictures_is_shown(tmp_path):
    write_result(tmp_path, "unknown", figures=[], data=None, config={}, rows=["Z9"])
    shown = made(tmp_path)
    assert "no claims in this form" in shown.text
    assert shown.all("article", id="unknown")
    assert not shown.all("a", href="#row-Z9")


def test_the_page_replaces_an_older_one_whole(tmp_path):
    write_result(tmp_path, "perceptron")
    out = tmp_path / "new" / "page.html"
    page.write(tmp_path, out)
    first = out.read_text()
    write_result(tmp_path, "dropout")
    page.write(tmp_path, out)
    assert len(out.read_text()) > len(first)
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_the_page_alone_is_served_and_to_this_machine_alone(tmp_path):
    shown = tmp_path / "index.html"
    shown.write_text("<!DOCTYPE html>")
    (tmp_path / "secret").write_text("secret")

    def ask(path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", serving.server_port, timeout=5)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answered = answer.status, answer.read()
        connection.close()
        return answered

    with page.server(shown) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.05,))
        thread.start()
        try:
            assert serving.server_address[0] == "127.0.0.1"
            assert ask("/") == (200, b"<!DOCTYPE html>")
            assert ask("/secret")[0] == ask("/../secret")[0] == ask("//etc/passwd")[0] == 404
            assert ask("/", Host="elsewhere.test")[0] == 403
        finally:
            serving.shutdown()
            thread.join()


def test_serving_opens_the_browser_and_ends_on_ctrl_c(tmp_path, monkeypatch, capsys):
    opened = []

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", interrupted)
    page.serve(tmp_path / "index.html")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", opened[0])
    assert opened[0] in capsys.readouterr().out
