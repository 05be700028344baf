"""The tables of docs/benchmarks.md, made of the committed results.

python -m benchmarks.page     writes them anew, after a measurement
"""

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS
from benchmarks.row import COMPUTING, OURS, READING

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- made by python -m benchmarks.page -->", "<!-- end -->"

# What a user would pick instead of jaxnn; other contenders are jaxnn itself, in another way.
OTHERS = ("PyTorch", "Flax", "Keras", "NumPy", "optax", "JAX", "json")
PARTS = (READING, COMPUTING)


def tables(content: dict[str, Any]) -> str:
    """Machine, versions, the rows beside others, those beside jaxnn itself, and every contender's median."""
    machine, rows = content["machine"], content["rows"]
    dates = sorted(row["date"][:10] for row in rows)
    versions: dict[str, set[str]] = {}
    for row in rows:
        for package, version in row["versions"].items():
            versions.setdefault(package, set()).add(version)
    packages = ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in versions.items())
    beside_others = [row for row in rows if _best(row, others=True)]
    beside_itself = [row for row in rows if not _best(row, others=True)]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; measured {dates[0]} to {dates[-1]} with {packages}.",
        "",
        *_table(beside_others, "best of the others", others=True),
        "",
        _verdict(beside_others),
        "",
        "Beside itself, in another way, or alone:",
        "",
        *_table(beside_itself, "the best other way", others=False),
        "",
        "What each row does, and every contender's median:",
        "",
        *[f"- **{row['name']}**: {row['work']}. In {row['unit']}: {_contenders(row)}." for row in rows],
    ]
    return "\n".join(lines) + "\n"


def with_tables(text: str, content: dict[str, Any]) -> str:
    """The page with its marked part made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables(content)}{END}{after}"


def results() -> dict[str, Any]:
    """The committed ones, of a whole measurement."""
    (path,) = (path for path in RESULTS.glob("*.json") if not path.stem.endswith("-quick"))
    return json.loads(path.read_text())


def _best(row: dict[str, Any], *, others: bool) -> str | None:
    """The fastest whose answer was right: of all others, not only those the target is for, or of our other ways."""
    figures = {
        name: one["figure"]
        for name, one in row["contenders"].items()
        if one["figure"] and not one["fault"] and name not in (OURS, *PARTS) and name.startswith(OTHERS) == others
    }
    return min(figures, key=figures.__getitem__) if figures else None


def _ratio(row: dict[str, Any], *, others: bool) -> float | None:
    best = _best(row, others=others)
    return row["ours"] / row["contenders"][best]["figure"] if best and row["ours"] else None


def _table(rows: list[dict[str, Any]], title: str, *, others: bool) -> list[str]:
    lines = [f"| | | jaxnn | {title} | ratio | floors | memory |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        best, ratio = _best(row, others=others), _ratio(row, others=others)
        peer = f"{_number(row['contenders'][best]['figure'])}, {best}" if best else "-"
        shown = _number(ratio) if ratio is None or ratio <= 1 else f"**{_number(ratio)}**"
        figures = _number(row["floors"]), _number(row["memory_ratio"])
        lines.append(f"| {' | '.join((row['name'], row['unit'], _number(row['ours']), peer, shown, *figures))} |")
    return lines


def _verdict(rows: list[dict[str, Any]]) -> str:
    ratios = {row["name"]: _ratio(row, others=True) for row in rows}
    slower = [f"{name} ({ratio:.2f})" for name, ratio in ratios.items() if ratio and ratio > 1]
    known = [ratio for ratio in ratios.values() if ratio]
    mean = f"The geometric mean of the {len(known)} ratios is {statistics.geometric_mean(known):.2f}."
    return f"**Slower than the best of the others: {'; '.join(slower)}.** {mean}" if slower else mean


def _contenders(row: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {one['fault'] or _number(one['figure'])}" for name, one in row["contenders"].items() if one["figure"]
    )


def _number(figure: float | None) -> str:
    """Three digits that count, and a dash for none."""
    if figure is None:
        return "-"
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(), results()))
