"""One page of the results: it holds all it shows, so that it can be kept, mailed, and opened without a network."""

import base64
import dataclasses
import datetime
import hashlib
import html
import http.server
import itertools
import json
import re
import textwrap
import types
import webbrowser
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args, get_origin, get_type_hints
from xml.etree.ElementTree import Element, tostring

import jinja2
from latex2mathml.converter import convert_to_element
from markupsafe import Markup, escape

from experiments.shared.catalogue import NAMES
from experiments.shared.claims import Claim
from jaxnn.progress import format_seconds

__all__ = ["GROUPS", "ROWS", "serve", "write"]

GROUPS = {
    "A": "The steps of building a model",
    "B": "The two-layer network",
    "C": "Techniques of learning",
    "D": "Optimizing CNNs",
    "X": "Beyond the sources",
}
ROWS = {
    "A1": "Training, validation and test data",
    "A2": "Features scaled to [0, 1]",
    "A3": "Shuffled batches from a generator",
    "A4": "Data checked, by machine and by eye",
    "A5": "Reading beside training",
    "A6": "Sigmoid and softmax",
    "A7": "Mean squared error",
    "A8": "Cross-entropy",
    "A9": "A gradient worked out by hand",
    "A10": "Descent on a loss surface",
    "A11": "Mini-batches and epochs",
    "A12": "Four optimizers compared",
    "A13": "Learning rates: small, good, large",
    "A14": "From one layer to a CNN",
    "B1": "The network as pure functions",
    "B2": "Its training loop",
    "B3": "Training by numerical gradients",
    "B4": "Numerical gradients and jax.grad",
    "C1": "Update rules and their paths",
    "C2": "Four optimizers on MNIST",
    "C3": "Zero weights stay equal",
    "C4": "Activations of five layers",
    "C5": "Three initial scales on MNIST",
    "C6": "Batch norm, training and inference",
    "C7": "Batch norm at sixteen scales",
    "C8": "Overfitting and weight decay",
    "C9": "Dropout",
    "C10": "Validation data for choices",
    "C11": "Random search, then narrower",
    "D1": "The pipeline from end to end",
    "D2": "CNNs on MNIST and CIFAR-10",
    "D3": "RMSprop; activations compared",
    "D4": "The sign perceptron",
    "D5": "Inside the network",
    "X1": "All runs as one program",
    "X2": "Claims beside their references",
    "X3": "The gradient audit",
    "X4": "CNNs on a CPU, as fast as PyTorch",
    "X5": "Killed and continued, bit for bit",
    "X6": "Optimizers equal to optax's",
}
THE_PAGE = "X2"  # the row that asks for this page: it holds where no other row of the sources lacks its claim

_CLAIMS_IN_SIGHT = 12
_DOTS_PER_INCH, _CSS_PIXELS_PER_INCH = 130, 96
_ROLES = {"png": "image/png", "svg": "image/svg+xml", "gif": "image/gif"}
# Of MathML; what else a formula turns into is not let into the page.
_ELEMENTS = set(
    "math mrow mi mo mn mtext mspace msub msup msubsup mfrac msqrt mroot mover munder munderover mtable mtr mtd mstyle "
    "mpadded mphantom".split()
)
_ATTRIBUTES = set(
    "accent accentunder columnalign depth displaystyle fence form height largeop linebreak linethickness lspace "
    "mathvariant maxsize minsize movablelimits rspace scriptlevel separator stretchy symmetric width".split()
)


@dataclass(frozen=True)
class Result:
    """What `result.json` says."""

    name: str
    question: str
    description: str
    rows: list[str]
    formula: str
    quick: bool
    data: str | None
    config: dict[str, Any]
    claims: list[dict[str, Any]]
    figures: list[dict[str, str]]
    seconds: float
    compile_seconds: float
    book_seconds: float | None
    command: str
    date: str
    versions: dict[str, str]
    devices: list[str]
    processor: str


class Figure(NamedTuple):
    """A picture as data URIs."""

    title: str
    alt: str
    still: str
    animation: str | None
    width: int  # in CSS pixels, at the size it was drawn for
    height: int


class Block(NamedTuple):
    """A part of a description."""

    kind: str  # prose, list, formula or command
    parts: list[Markup]


class Section(NamedTuple):
    """An experiment on the page."""

    number: int
    title: str
    result: Result
    claims: list[Claim]
    figures: list[Figure]
    formula: list[Markup]
    blocks: list[Block]

    @property
    def failing(self) -> list[Claim]:
        """The claims that do not hold."""
        return [claim for claim in self.claims if not claim.holds]

    @property
    def groups(self) -> list[str]:
        """Those of its rows."""
        return sorted({row[0] for row in (*self.result.rows, *(claim.row for claim in self.claims))})


class Row(NamedTuple):
    """A row of the textbook, and the experiments with claims about it."""

    code: str
    title: str
    verdict: str  # reproduced, fails or missing
    places: list[tuple[int, str]]  # number of the experiment, and where on the page


def write(results: Path, out: Path) -> Path:
    """Make the page of all results in a folder.

    Raises:
        ValueError: there are none, or one of them is broken.
    """
    paths = [path for path in results.glob("*/result.json") if not path.parent.name.startswith(".")]
    if not paths:
        raise ValueError(f"no results in {results}; to have them: python -m experiments run --all")
    order = {name: place for place, name in enumerate(NAMES)}
    paths.sort(key=lambda path: (order.get(path.parent.name, len(order)), path.parent.name))
    sections = [_section(number, path) for number, path in enumerate(paths, start=1)]
    text = _render(sections)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.part")
    aside.write_text(text, encoding="utf-8", newline="\n")
    aside.replace(out)
    return out


def serve(path: Path) -> None:
    """Show a page in the browser: served to this machine alone, until Ctrl-C."""
    with server(path) as serving:
        url = f"http://127.0.0.1:{serving.server_port}/"
        print(f"{url} (Ctrl-C ends it)", flush=True)
        webbrowser.open(url)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print()


def server(path: Path) -> http.server.ThreadingHTTPServer:
    """Serves that file and nothing else, at a free port of 127.0.0.1."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Another site may have its name point here; its pages are not to read this one.
            if self.headers.get("Host") != f"127.0.0.1:{cast(http.server.HTTPServer, self.server).server_port}":
                self.send_error(403)
            elif self.path != "/":
                self.send_error(404)
            else:
                page = path.read_bytes()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(page)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing of each request."""

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def rows_of(sections: Sequence[Section]) -> list[Row]:
    """Every row of the textbook; it is reproduced when all its claims hold, whichever experiments they are of."""
    rows = []
    for code, title in ROWS.items():
        verdicts, places = [], []
        for section in sections:
            about = [claim.holds for claim in section.claims if claim.row == code]
            if about:
                verdicts += about
                places.append((section.number, f"{section.result.name}-{code}"))
        verdict = "missing" if not verdicts else "reproduced" if all(verdicts) else "fails"
        rows.append(Row(code, title, verdict, places))
    if all(row.verdict != "missing" for row in rows if not row.code.startswith("X")):
        rows = [row._replace(verdict="reproduced") if row[0] == THE_PAGE and not row.places else row for row in rows]
    return rows


def formula_markup(latex: str) -> list[Markup]:
    r"""A formula as MathML: one for each part between \qquad, so that a narrow page can break it there.

    What cannot be turned into MathML is shown as it was written.

    >>> formula_markup("a < b")[0].striptags()
    'a < b'
    >>> formula_markup(r"\left( a")
    [Markup('<code>\\left( a</code>')]
    """
    try:
        element = _cleaned(convert_to_element(latex.replace("{aligned}", "{align*}"), display="block"))
    except Exception:  # its errors have nothing in common but this
        return [Markup("<code>{}</code>").format(latex)]
    parts = []
    for is_space, children in itertools.groupby(element[0], key=_parts_formula):
        if not is_space:
            part = Element("math", {"display": "block"})
            part.extend(children)
            parts.append(Markup(tostring(part, encoding="unicode")))
    return parts


def description_blocks(description: str) -> list[Block]:
    """A docstring without its first line, in parts: prose and lists, and what is indented, formulas and commands."""
    blocks = []
    lines = description.splitlines()[1:]
    for kind, group in itertools.groupby(lines, key=lambda line: "blank" if not line.strip() else line[:4] == "    "):
        text = textwrap.dedent("\n".join(group))
        if kind == "blank":
            continue
        if kind and all(line.startswith("python ") for line in text.splitlines()):
            blocks.append(Block("command", [escape(line) for line in text.splitlines()]))
        elif kind:
            blocks.append(Block("formula", [escape(text)]))
        elif text.startswith("- "):
            items = re.split(r"^- ", text, flags=re.MULTILINE)[1:]
            blocks.append(Block("list", [_inline(" ".join(item.split())) for item in items]))
        else:
            blocks.append(Block("prose", [_inline(" ".join(text.split()))]))
    return blocks


def _section(number: int, path: Path) -> Section:
    try:
        result = Result(**_checked(json.loads(path.read_text(encoding="utf-8")), Result))
        claims = [Claim(**{**_checked(claim, Claim), "values": ()}) for claim in result.claims]
        datetime.datetime.fromisoformat(result.date)
        if result.name != path.parent.name:
            raise ValueError(f"it is about {result.name!r}")
        figures = [_figure(figure, path.parent) for figure in result.figures]
    except (ValueError, OSError) as error:
        again = f"python -m experiments run {path.parent.name}"
        raise ValueError(f"{path} is broken: {error}; to have it anew: {again}") from error
    title = _title(result.name)
    blocks = description_blocks(result.description)
    return Section(number, title, result, claims, figures, formula_markup(result.formula), blocks)


def _checked(values: Any, kind: type) -> dict[str, Any]:
    """The fields of a dataclass, of the types that it names, from what a file says."""
    if not isinstance(values, dict):
        raise ValueError(f"expected an object, got {type(values).__name__}")
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.name not in values:
            raise ValueError(f"it lacks {field.name!r}")
        if not _is_of(values[field.name], hints[field.name]):
            raise ValueError(f"its {field.name!r} is not as expected")
    return {field.name: values[field.name] for field in dataclasses.fields(kind)}


def _is_of(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is types.UnionType:
        return any(_is_of(value, one) for one in inner)
    if origin is dict:
        return isinstance(value, dict) and all(_is_of(one, inner[1]) for one in value.values())
    if origin in (list, tuple):
        return isinstance(value, list) and all(_is_of(one, inner[0]) for one in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def _figure(written: dict[str, str], folder: Path) -> Figure:
    """The vector figure where there is one; of one that moves the PNG, in whose size it goes on."""
    for field in ("png", "alt"):
        if field not in written:
            raise ValueError(f"a figure lacks {field!r}")
    still = "svg" if "svg" in written and "gif" not in written else "png"
    contents = {kind: _bytes_of(folder, written[kind]) for kind in {"png", still, "gif"} & set(written)}
    if contents["png"][:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{written['png']!r} is no PNG")
    width, height = (int.from_bytes(contents["png"][start : start + 4]) for start in (16, 20))
    scale = _CSS_PIXELS_PER_INCH / _DOTS_PER_INCH
    return Figure(
        title=Path(written["png"]).stem.replace("_", " "),
        alt=written["alt"],
        still=_data_uri(_ROLES[still], contents[still]),
        animation=_data_uri(_ROLES["gif"], contents["gif"]) if "gif" in contents else None,
        width=round(width * scale),
        height=round(height * scale),
    )


def _bytes_of(folder: Path, name: str) -> bytes:
    if Path(name).name != name:
        raise ValueError(f"its figure {name!r} is not in its folder")
    if not (folder / name).is_file():
        raise ValueError(f"its figure {name!r} is missing")
    return (folder / name).read_bytes()


def _data_uri(role: str, content: bytes) -> str:
    return f"data:{role};base64,{base64.b64encode(content).decode()}"


def _cleaned(element: Element) -> Element:
    """A copy with nothing in it but formulas: the converter passes on whatever it is given."""
    text = html.unescape(element.text or "")
    if element.tag not in _ELEMENTS or "\\" in text or text == "&":
        raise ValueError(f"no formula: {element.tag} {text}")
    copy = Element(element.tag, {name: value for name, value in element.attrib.items() if name in _ATTRIBUTES})
    copy.text = text
    copy.extend(map(_cleaned, element))
    return copy


def _parts_formula(element: Element) -> bool:
    return element.tag == "mspace" and (element.get("width") == "2em" or element.get("linebreak") == "newline")


def _inline(text: str) -> Markup:
    """`code` and *emphasis*."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"(?<![^\s(])\*(\S[^*<>]*?)(?<=\S)\*(?=[\s),.;:?]|$)", r"<em>\1</em>", marked))


def _title(name: str) -> str:
    """An experiment's name as words.

    >>> _title("convnet_cifar10")
    'Convnet CIFAR-10'
    """
    words = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cnn": "CNN"}
    first, *others = (words.get(word, word) for word in name.split("_"))
    return " ".join([first[0].upper() + first[1:], *others])


def _render(sections: Sequence[Section]) -> str:
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = format_seconds
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    style, script = ((folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    claims = [claim for section in sections for claim in section.claims]
    results = [section.result for section in sections]
    return environment.get_template("page.html.jinja").render(
        sections=sections,
        rows=rows_of(sections),
        groups=GROUPS,
        claims=claims,
        failing=sum(not claim.holds for claim in claims),
        seconds=sum(result.seconds for result in results),
        compile_seconds=sum(result.compile_seconds for result in results),
        quick=sum(result.quick for result in results),
        facts=_facts(results),
        in_sight=_CLAIMS_IN_SIGHT,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _facts(results: Sequence[Result]) -> dict[str, list[str]]:
    """On what, with what and when the results were made; several where they differ."""
    packages = {name: _distinct(result.versions.get(name) for result in results) for name in results[0].versions}
    days = sorted(datetime.datetime.fromisoformat(result.date).date() for result in results)
    return {
        "Data": _distinct(result.data for result in results),
        "Device": _distinct(_devices(result.devices) for result in results),
        "Processor": _distinct(result.processor for result in results),
        "Versions": [f"{name} {' and '.join(numbers)}" for name, numbers in packages.items()],
        "Date": [" to ".join(dict.fromkeys(f"{day.day} {day:%B %Y}" for day in (days[0], days[-1])))],
    }


def _devices(devices: Sequence[str]) -> str:
    """Each kind, and how many of it.

    >>> _devices(["cpu: cpu", "cpu: cpu"]), _devices(["gpu: NVIDIA H100"])
    ('2 × CPU', 'NVIDIA H100')
    """
    kinds = Counter(
        platform.upper() if platform == kind else kind
        for platform, _, kind in (device.partition(": ") for device in devices)
    )
    return ", ".join(f"{count} × {kind}" if count > 1 else kind for kind, count in kinds.items())


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(_given(values)))


def _given(values: Iterable[str | None]) -> Iterator[str]:
    return (value for value in values if value)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
