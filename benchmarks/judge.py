"""From measured times to a verdict. A contender whose value is wrong takes no part, so that nobody wins by error."""

import math
import statistics
from dataclasses import asdict
from typing import Any

from benchmarks.measure import Measured
from benchmarks.row import COMPUTING, IN_TURNS, OURS, READING, Row

SCALES = {"µs": 1e6, "ms": 1e3, "s": 1.0}


def faults(values: dict[str, float], *, margin: float, below: float | None) -> dict[str, str]:
    """Whose value is wrong, and how.

    A right one is finite, has fallen below `below`, and differs from the middle of all by `margin` of it at most.

    >>> faults({"a": 0.50, "b": 0.51, "c": 0.40}, margin=0.1, below=None)
    {'c': 'wrong: 0.4, where the middle of all is 0.5'}
    """
    found = {name: f"wrong: the value is {value}" for name, value in values.items() if not math.isfinite(value)}
    finite = {name: value for name, value in values.items() if name not in found}
    middle = statistics.median(finite.values()) if finite else math.nan
    for name, value in finite.items():
        if below is not None and value >= below:
            found[name] = f"wrong: {value:.4g} has not fallen below {below:.4g}"
        elif abs(value - middle) > margin * abs(middle):
            found[name] = f"wrong: {value:.4g}, where the middle of all is {middle:.4g}"
    return found


def judge(row: Row, measured: dict[str, Measured], rate: float) -> dict[str, Any]:
    """Every figure of a row: each contender's, the ratio to the best peer, the floor, and the verdict.

    `rate` is the machine's: of matrix products, or of memory for a row of `bytes_moved`.
    """
    values = {name: statistics.fmean(one.values) for name, one in measured.items() if one.failed is None}
    whole = {name: value for name, value in values.items() if name not in (READING, COMPUTING)}
    wrong = faults(whole, margin=row.margin, below=row.below)
    scale = SCALES[row.unit.split()[0]] / row.units
    contenders = {}
    for name, one in measured.items():
        figure = statistics.median(one.seconds) * scale if one.seconds else None
        fault = f"failed: {one.failed}" if one.failed is not None else wrong.get(name)
        contenders[name] = asdict(one) | {"value": values.get(name), "figure": figure, "fault": fault}
    fit = {name: one["figure"] for name, one in contenders.items() if one["fault"] is None and one["figure"]}
    peers = {name: figure for name, figure in fit.items() if name in whole and name != OURS}
    judged = {name: figure for name, figure in peers.items() if not row.against or name.startswith(row.against)}
    ours = fit.get(OURS)
    best = min(judged, key=judged.__getitem__) if judged else None
    work = row.bytes_moved or row.operations
    floor = work / rate * SCALES[row.unit.split()[0]] if work else None
    result = {
        "group": row.group,
        "name": row.name,
        "work": row.work,
        "unit": row.unit,
        "units": row.units,
        "contenders": contenders,
        "ours": ours,
        "best_peer": best,
        "best_peer_figure": judged[best] if best else None,
        "best_of_all_peers": min(peers, key=peers.__getitem__) if peers else None,
        "ratio": ours / judged[best] if ours and best else None,
        "target": row.target,
        "product_rate": None if row.bytes_moved else rate,
        "memory_rate": rate if row.bytes_moved else None,
        "operations": row.operations,
        "bytes_moved": row.bytes_moved,
        "floor": floor,
        "floors": ours / floor if ours and floor else None,
        "floors_target": row.floors_target,
        "hidden": _hidden(fit),
        "hidden_target": row.hidden_target,
        "seconds": statistics.median(measured[OURS].seconds) if ours else None,
        "seconds_target": row.seconds_target,
        "memory_ratio": _memory_ratio(contenders, fit),
        "quick": False,
    }
    return result | {"verdict": verdict(result)}


def verdict(result: dict[str, Any]) -> str:
    """One word or sentence: met, missed and why, no peer, or what is wrong with jaxnn's answer."""
    ours = result["contenders"].get(OURS)
    if ours is not None and ours["fault"]:
        return ours["fault"]
    if result["target"] is not None and result["ratio"] is None:
        return "no peer"
    if result["hidden_target"] is not None and (result["hidden"] or 0) < result["hidden_target"]:
        return "missed"
    compared = [
        (result[name], result[f"{label}target"])
        for name, label in (("ratio", ""), ("floors", "floors_"), ("seconds", "seconds_"))
        if result[f"{label}target"] is not None
    ]
    if not compared and result["hidden_target"] is None:
        return ""
    return "met" if all(figure is not None and figure <= target for figure, target in compared) else "missed"


def geometric_mean(results: list[dict[str, Any]]) -> float | None:
    """Of the ratios; None where one is missing."""
    ratios = [result["ratio"] for result in results]
    return None if not ratios or None in ratios else statistics.geometric_mean(ratios)


def _hidden(fit: dict[str, float]) -> float | None:
    """The share of the shorter of reading and computing that costs no time; None of work that has no such parts."""
    if not {OURS, IN_TURNS, READING, COMPUTING} <= fit.keys():
        return None
    return (fit[IN_TURNS] - fit[OURS]) / min(fit[READING], fit[COMPUTING])


def _memory_ratio(contenders: dict[str, Any], fit: dict[str, float]) -> float | None:
    """Peak memory over that of the fastest PyTorch."""
    pytorch = {name: figure for name, figure in fit.items() if name.startswith("PyTorch")}
    if OURS not in fit or not pytorch:
        return None
    theirs = contenders[min(pytorch, key=pytorch.__getitem__)]["peak_megabytes"]
    ours = contenders[OURS]["peak_megabytes"]
    return ours / theirs if ours and theirs else None
