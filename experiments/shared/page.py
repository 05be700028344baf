"""One page of the results: it holds all it shows, so that it can be kept, mailed, and opened without a network."""

import base64
import dataclasses
import datetime
import hashlib
import http.server
import io
import json
import re
import types
import uuid
import webbrowser
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args, get_origin, get_type_hints

from PIL import Image, features

from experiments.shared.catalogue import NAMES
from experiments.shared.claims import Claim
from experiments.shared.markup import Block, description_blocks, formula_markup
from experiments.shared.rows import GROUPS, ROWS
from jaxnn.progress import format_seconds

try:
    import jinja2
    from markupsafe import Markup, escape
except ModuleNotFoundError as error:
    raise ValueError('the page needs more packages: python -m pip install -e ".[report]"') from error

__all__ = ["read_sections", "render", "serve", "write"]

THE_PAGE = "X2"  # the row that asks for this page: it holds where no other row of the sources lacks its claim

# A longer table is folded after its first rows.
_LONG_TABLE, _IN_SIGHT = 12, 8
_DOTS_PER_INCH, _CSS_PIXELS_PER_INCH = 130, 96


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
        return sorted({row[:1] for row in (*self.result.rows, *(claim.row for claim in self.claims))})


class Row(NamedTuple):
    """A row of the textbook, and the experiments with claims about it."""

    code: str
    title: str
    verdict: str  # reproduced, quick (its claims hold, but in the quick form alone), fails or missing
    places: list[tuple[int, str]]  # number of the experiment, and where on the page


def write(results: Path, out: Path) -> Path:
    """Make the page of all results in a folder.

    Raises:
        ValueError: there are none, or one of them is broken.
    """
    text = render(read_sections(results))
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}-{uuid.uuid4().hex[:8]}")
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

        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def rows_of(sections: Sequence[Section]) -> list[Row]:
    """Every row of the textbook; it is reproduced when all its claims hold, whichever experiments they are of."""
    rows = []
    for code, title in ROWS.items():
        verdicts, places, is_full = [], [], False
        for section in sections:
            about = [claim.holds for claim in section.claims if claim.row == code]
            if about:
                verdicts += about
                places.append((section.number, f"{section.result.name}-{code}"))
                is_full |= not section.result.quick
        verdict = "missing" if not verdicts else "fails" if not all(verdicts) else "reproduced" if is_full else "quick"
        rows.append(Row(code, title, verdict, places))
    if all(row.verdict != "missing" for row in rows if not row.code.startswith("X")):
        rows = [row._replace(verdict="reproduced") if row.code == THE_PAGE and not row.places else row for row in rows]
    return rows


def read_sections(results: Path) -> list[Section]:
    """The experiments of which a folder has results, in their order.

    Raises:
        ValueError: there are none, or one of them is broken.
    """
    paths = [path for path in results.glob("*/result.json") if not path.parent.name.startswith(".")]
    if not paths:
        raise ValueError(f"no results in {results}; to have them: python -m experiments run --all")
    order = {name: place for place, name in enumerate(NAMES)}
    paths.sort(key=lambda path: (order.get(path.parent.name, len(order)), path.parent.name))
    return [read_section(number, path) for number, path in enumerate(paths, start=1)]


def read_section(number: int, path: Path) -> Section:
    """An experiment, of its `result.json`."""
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
    png = _bytes_of(folder, written["png"])
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"{written['png']!r} is no PNG")
    with Image.open(io.BytesIO(png)) as picture:
        width, height = (round(side / _DOTS_PER_INCH * _CSS_PIXELS_PER_INCH) for side in picture.size)
        moving = _data_uri("image/gif", _bytes_of(folder, written["gif"])) if "gif" in written else None
        if "svg" in written and not moving:
            still = _data_uri("image/svg+xml", _bytes_of(folder, written["svg"]))
        elif features.check("webp"):
            still = _data_uri("image/webp", _as_webp(picture))
        else:
            still = _data_uri("image/png", png)
    return Figure(Path(written["png"]).stem.replace("_", " "), written["alt"], still, moving, width, height)


def _as_webp(picture: Image.Image) -> bytes:
    """The same pixels, in less than half the room that PNG takes."""
    written = io.BytesIO()
    picture.save(written, "WEBP", lossless=True, exact=True)
    return written.getvalue()


def _bytes_of(folder: Path, name: str) -> bytes:
    if Path(name).name != name:
        raise ValueError(f"its figure {name!r} is not in its folder")
    if not (folder / name).is_file():
        raise ValueError(f"its figure {name!r} is missing")
    return (folder / name).read_bytes()


def _data_uri(role: str, content: bytes) -> str:
    return f"data:{role};base64,{base64.b64encode(content).decode()}"


def _unbroken(text: str) -> Markup:
    """No line ends inside a power of ten."""
    return Markup(re.sub(r"[\d.]+e[+-]\d+", r'<span class="whole">\g<0></span>', str(escape(text))))


def _title(name: str) -> str:
    """An experiment's name as words.

    >>> _title("convnet_cifar10")
    'Convnet CIFAR-10'
    """
    words = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cnn": "CNN", "pytorch": "PyTorch"}
    first, *others = (words.get(word, word) for word in name.split("_"))
    return " ".join([first[0].upper() + first[1:], *others])


def render(sections: Sequence[Section], home: str | None = None) -> str:
    """The page, in HTML; as a part of a site it leads back to its home."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    environment.filters["duration"] = format_seconds
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    style, script = ((folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    claims = [claim for section in sections for claim in section.claims]
    results = [section.result for section in sections]
    return environment.get_template("page.html.jinja").render(
        sections=sections,
        home=home,
        rows=rows_of(sections),
        groups=GROUPS,
        titles=ROWS,
        claims=claims,
        failing=sum(not claim.holds for claim in claims),
        seconds=sum(result.seconds for result in results),
        compile_seconds=sum(result.compile_seconds for result in results),
        quick=sum(result.quick for result in results),
        facts=_facts(results),
        long_table=_LONG_TABLE,
        in_sight=_IN_SIGHT,
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
    return list(dict.fromkeys(value for value in values if value))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
