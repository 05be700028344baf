"""What a gradient check found: a table for people, a dataclass for programs."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["GradientError", "GradientReport", "Kink", "LeafReport"]

Verdict: TypeAlias = Literal["ok", "zero", "wrong"]


class GradientError(AssertionError):
    """A gradient is wrong."""


@dataclass(frozen=True)
class Kink:
    """An entry at which the function has no derivative, or so near to such a point that a step reaches over it."""

    where: tuple[int, ...]
    """Index of the entry in its leaf."""
    left: float
    """Slope on the side of smaller values."""
    right: float
    """Slope on the side of larger values."""
    analytic: float
    """What the gradient says. It lies between the two, unless there are more kinks nearby than steps can resolve."""


@dataclass(frozen=True)
class LeafReport:
    """What was found in one leaf of the params, or along directions through all of them."""

    name: str
    """Path of the leaf, such as dense1/W."""
    shape: tuple[int, ...]
    """Shape of the leaf."""
    size: int
    """Entries of the leaf; 0 for directions through all leaves."""
    checked: int
    """Entries that were checked one by one."""
    directions: int
    """Random directions through the leaf that were checked, because not all entries were."""
    wrong: int
    """Entries and directions along which the gradient is wrong."""
    kinks: tuple[Kink, ...]
    """Entries at a kink, which are not counted as wrong and take no part in the figures below."""
    mean_absolute: float
    """Mean of |numerical - analytic| over the entries (or directions) checked, the textbook's figure."""
    worst_absolute: float
    """Largest |numerical - analytic|."""
    worst_relative: float
    """Largest |numerical - analytic| / max(|numerical|, |analytic|, what the differences resolve)."""
    where: tuple[int, ...] | None
    """Index of the entry most in doubt: wrong before right, then by its relative error. None for a direction."""
    numerical: float
    """Its central difference."""
    analytic: float
    """What the gradient says of it."""
    verdict: Verdict
    """"ok", "wrong", or "zero": neither gradient is larger than what rounding makes of differences."""


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients`. `print(report)` shows it as a table."""

    leaves: tuple[LeafReport, ...]
    """One for each leaf, in the order of the params; last, where leaves were sampled, directions through them all."""
    value: float
    """f(params)."""
    dtype: str
    """What the check computed in."""
    step: float
    """h of the central differences for entries of size 1 and below."""
    resolution: float
    """What rounding can make of a difference at that step: gradients are known to no less."""
    rtol: float
    """Largest relative error that passes."""

    @property
    def ok(self) -> bool:
        """Whether no entry and no direction was found wrong."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the leaves whose gradient is wrong; of all together only if none stands out."""
        wrong = [leaf for leaf in self.leaves if leaf.verdict == "wrong"]
        return tuple(leaf.name for leaf in wrong if leaf.size) or tuple(leaf.name for leaf in wrong)

    def raise_if_failed(self) -> None:
        """Raise a `GradientError`, with the table, if a gradient is wrong."""
        if not self.ok:
            raise GradientError(f"the gradient of {' and '.join(self.failed)} is wrong\n{self}")

    def to_json(self) -> str:
        """The report as JSON; a number that is not finite becomes a string, since JSON has none."""
        content = asdict(self) | {"ok": self.ok, "failed": self.failed}
        return json.dumps(_finite(content), indent=1, allow_nan=False)

    def __str__(self) -> str:
        title = (
            f"gradient check in {self.dtype}: steps of {self.step:.2g}, differences known to {self.resolution:.1g}, "
            f"relative errors up to {self.rtol:g} pass"
        )
        rows = [_HEADINGS, *map(_row, self.leaves)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if heading in _RIGHT else cell.ljust(width)
                for cell, width, heading in zip(row, widths, _HEADINGS, strict=True)
            ).rstrip()
            for row in rows
        ]
        found = "the gradient is right" if self.ok else f"the gradient of {' and '.join(self.failed)} is WRONG"
        kinks = sum(len(leaf.kinks) for leaf in self.leaves)
        checked, size = (sum(getattr(leaf, name) for leaf in self.leaves) for name in ("checked", "size"))
        at = f", {kinks:,} of them at a kink" if kinks else ""
        summary = f"{found}: {checked:,} of {size:,} entries checked{at}"
        return "\n".join([title, *lines, summary])


_HEADINGS = ("leaf", "checked", "mean abs", "worst abs", "worst rel", "at", "numerical", "analytic", "verdict")
_RIGHT = set(_HEADINGS) - {"leaf", "at", "verdict"}


def _row(leaf: LeafReport) -> tuple[str, ...]:
    checked = [f"{leaf.checked:,}" if leaf.checked == leaf.size else f"{leaf.checked:,} of {leaf.size:,}"]
    checked = checked if leaf.size or not leaf.directions else []
    checked += [f"{leaf.directions} directions"] if leaf.directions else []
    words = [f"WRONG ({leaf.wrong:,})" if leaf.wrong else leaf.verdict]
    words += [f"{len(leaf.kinks):,} kink{'s' if len(leaf.kinks) > 1 else ''}"] if leaf.kinks else []
    if leaf.where is None and math.isnan(leaf.worst_relative):  # nothing was compared
        return (leaf.name, " + ".join(checked), *"------", ", ".join(words))
    return (
        leaf.name,
        " + ".join(checked),
        f"{leaf.mean_absolute:.1e}",
        f"{leaf.worst_absolute:.1e}",
        f"{leaf.worst_relative:.1e}",
        "a direction" if leaf.where is None else f"[{', '.join(map(str, leaf.where))}]",
        f"{leaf.numerical:.9g}",
        f"{leaf.analytic:.9g}",
        ", ".join(words),
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
