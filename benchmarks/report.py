"""The table, the file and the chart."""

import datetime
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.catalogue import catalogue
from benchmarks.judge import geometric_mean

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jaxnn", "jax", "jaxlib", "optax", "numpy", "grain", "torch", "flax", "keras")

# Over all rows of a group.
GEOMETRIC_MEAN_TARGETS = {"convolutions": 0.9}


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def print_table(results: list[dict[str, Any]], console: Console) -> None:
    """One line per row: jaxnn, the best peer, the ratio against its target, the floor, memory, the verdict."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("work", min_width=20)
    table.add_column("unit")
    for header in ("jaxnn", "peer", "ratio", "target", "floors", "target", "memory"):
        table.add_column(header, justify="right")
    table.add_column("verdict")
    for result in results:
        peer = f"{_number(result['best_peer_figure'])} {result['best_peer']}" if result["best_peer"] else "-"
        table.add_row(
            result["name"],
            result["unit"],
            _number(result["ours"]),
            peer,
            _number(result["ratio"]),
            _number(result["target"]),
            _number(result["floors"]),
            _number(result["floors_target"]),
            _number(result["memory_ratio"]),
            result["verdict"].partition(":")[0]
            + (f" (target {result['seconds_target']:g} s)" if result["seconds_target"] else ""),
        )
    console.print(table)
    for group, target in GEOMETRIC_MEAN_TARGETS.items():
        mean = geometric_mean([result for result in results if result["group"] == group])
        if mean is not None:
            console.print(f"{group}: geometric mean of the ratios {mean:.2f}, target {target:g}")
    for result in results:
        if result.get("hidden") is not None:
            console.print(f"{result['name']}: {result['hidden']:.0%} hidden, target {result['hidden_target']:.0%}")
    if results:
        console.print(
            "ratio: jaxnn's time over the best peer's · floors: jaxnn's time over its operations at the machine's rate "
            f"of float32 products ({_span(results, 'product_rate')} GFLOP/s meanwhile), or over the bytes it must move "
            f"at that of memory ({_span(results, 'memory_rate')} GB/s) · memory: jaxnn's peak over PyTorch's"
        )


def _span(results: list[dict[str, Any]], name: str) -> str:
    rates = [result[name] / 1e9 for result in results if result.get(name)]
    return f"{min(rates):.0f} to {max(rates):.0f}" if rates else "not measured"


def contender_line(name: str, one: dict[str, Any], unit: str) -> str:
    """One contender, as it is measured."""
    if one["fault"] or one["value"] is None:
        return f"  {name}: {one['fault']}"
    first = f", first run {one['first_seconds']:.2f} s" if one["first_seconds"] else ""
    memory = f", {one['peak_megabytes']:.0f} MB" if one["peak_megabytes"] else ""
    return f"  {name}: {_number(one['figure'])} {unit}{first}{memory}, value {one['value']:.4g}"


def write(results: list[dict[str, Any]], machine: dict[str, Any], *, quick: bool, folder: Path = RESULTS) -> Path:
    """Write every figure and the chart; rows of an earlier run that were not measured now stay."""
    path = folder / f"{machine['name']}{'-quick' if quick else ''}.json"
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    new = {result["name"]: result | {"date": date, "versions": versions(), "quick": quick} for result in results}
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = {row["name"]: row for row in old} | new
    order = [row.name for row in catalogue(quick=quick)]
    rows = {name: rows[name] for name in sorted(rows, key=lambda name: order.index(name) if name in order else -1)}
    folder.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "date": date, "versions": versions(), "rows": list(rows.values())}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    draw(list(rows.values()), machine, path.with_suffix(".png"))
    return path


def draw(results: list[dict[str, Any]], machine: dict[str, Any], path: Path) -> None:
    """A bar per row: its ratio to the best peer, and a mark at its target."""
    from matplotlib.figure import Figure

    shown = [result for result in results if result["ratio"] is not None]
    figure = Figure(figsize=(9, 1.6 + 0.4 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for row, result in enumerate(shown):
        reached = result["target"] is None or result["ratio"] <= result["target"]
        axes.barh(row, result["ratio"], 0.6, color="tab:blue" if reached else "tab:orange")
        axes.annotate(
            f"{result['ratio']:.2f} of {result['best_peer']}",
            (result["ratio"], row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            zorder=5,
        )
        if result["target"] is not None:
            axes.plot([result["target"]] * 2, [row - 0.4, row + 0.4], color="black", lw=2)
    axes.axvline(1, color="grey", lw=1, ls=":")
    axes.set_yticks(range(len(shown)), [result["name"] for result in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35 * max([1, *(max(result["ratio"], result["target"] or 0) for result in shown)]))
    axes.set_xlabel("time over the best peer's; the black mark is the target")
    axes.set_title(f"jaxnn on {machine['processor']}, {machine['cores']} cores")
    figure.savefig(path, dpi=120)


def _number(figure: float | None) -> str:
    """Three digits that count, and a dash for none."""
    if figure is None:
        return "-"
    return f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
