"""The audit: `jax.grad` against central differences in float64, entry by entry."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnn._checks import Scalar, check_callable, check_dtype, check_finite, check_number, check_size, is_concrete
from jaxnn._differences import Values, central, judge, ladder, noise, relative_error
from jaxnn._gradient_subject import NOT_DETERMINISTIC, Subject, prepare
from jaxnn.gradient_report import GradientReport, Kink, LeafReport
from jaxnn.gradients import check_entries, leaf_names
from jaxnn.older_jax import enable_x64

__all__ = ["check_gradients"]

_DEFAULT_RTOL = {"float64": 1e-4, "float32": 1e-2}


def check_gradients(
    f: Callable[..., Any],
    params: PyTree,
    *args: Any,
    gradient: Callable[..., PyTree] | None = None,
    sample: int | None = 200,
    directions: int = 2,
    rtol: Scalar | None = None,
    step: Scalar | None = None,
    dtype: Any = jnp.float64,
    seed: int = 0,
) -> GradientReport:
    """Check the gradient of `f(params, *args)` against central differences, and say where it is wrong.

        |numerical - analytic| <= rtol max(|numerical|, |analytic|)        beyond what rounding accounts for

    Everything is computed in float64, whatever the dtype of `params` and `args` and without any setting of JAX: in
    float32 a difference has four digits, and in float16 none. Arrays that `f` finds in its surroundings keep the
    precision that they have.

    An entry that does not agree is looked at again, at shorter and at longer steps and on either side. If the slopes
    on both sides differ and the gradient lies between them, it is a kink (relu, max pooling or abs at 0) and no fault.

    Every entry of small leaves is checked, and a random sample of larger ones; those, besides, along random directions
    through the whole leaf and through all leaves at once. A direction shows a single wrong entry among n if it is off
    by more than sqrt(n) times what a difference is known to, and a search by halves then finds it. What is off by less
    a sample can miss; `sample=None`, which checks every entry, cannot.

    Args:
        f: `(params, *args) -> scalar`.
        params: any pytree of floating-point arrays.
        args: what else `f` takes. Floating-point arrays among them are widened like the params.
        gradient: `(params, *args) -> tree` to check instead of `jax.grad(f)`, such as one written by hand.
        sample: how many entries of each leaf to check; None checks all.
        directions: random directions through each leaf that is not checked whole.
        rtol: the largest relative error that passes; 1e-4 in float64 unless given, 1e-2 in float32.
        step: h for entries of size 1 and below. Without it eps^(1/3), 6e-6 in float64.
        dtype: what to compute in: float64, or float32 for a function that works in that alone.
        seed: of the sample and the directions.

    Raises:
        TypeError: `f` does not return one real number, or a leaf is not floating point.
        ValueError: `f` is not finite at `params`, is not deterministic (dropout without a fixed key), computes in a
            narrower dtype than the check, or is checked under `jit`; an option out of range; a `gradient` of another
            structure.

    After the textbook's gradient check (*Deep Learning from Scratch*, section 5.7.3).

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> params = {"W": jnp.array([[1.0, -2.0]]), "b": jnp.array([0.5, 0.0])}
    >>> loss = lambda params, x: jnp.sum(nn.tanh(x @ params["W"] + params["b"][None, :]))
    >>> x = jnp.array([[0.3], [0.7]])
    >>> nn.check_gradients(loss, params, x).ok
    True
    >>> by_hand = lambda params, x: {"W": jax.grad(loss)(params, x)["W"], "b": jnp.ones(2)}
    >>> nn.check_gradients(loss, params, x, gradient=by_hand).failed
    ('b',)
    """
    check_callable("f", f, "(params, *args) -> scalar")
    if gradient is not None:
        check_callable("gradient", gradient, "(params, *args) -> tree like params")
    if sample is not None:
        check_size("sample", sample)
    check_size("directions", directions, at_least=0)
    check_size("seed", seed, at_least=0)
    check_dtype("dtype", dtype)
    if np.dtype(dtype).name not in _DEFAULT_RTOL:
        raise ValueError(f"dtype must be float64 or float32; in {np.dtype(dtype).name} differences are noise")
    rtol = _DEFAULT_RTOL[np.dtype(dtype).name] if rtol is None else rtol
    check_number("rtol", rtol, above=0, below=1)
    if step is not None:
        check_number("step", step, above=1e3 * float(np.finfo(dtype).eps))
    if not all(is_concrete(leaf) for leaf in jax.tree.leaves((params, args))):
        raise ValueError("check_gradients looks at values: call it outside jit, vmap and grad")
    wide = np.dtype(dtype) == np.float64
    # Arrays in f's surroundings may be narrower: let them meet the wider ones.
    with enable_x64(wide), jax.numpy_dtype_promotion("standard"), np.errstate(all="ignore"):
        check_entries(params)
        for name, leaf in zip(leaf_names(params), jax.tree.leaves(params), strict=True):
            check_finite(name, leaf)
        if not any(np.size(leaf) for leaf in jax.tree.leaves(params)):
            raise ValueError("params has no entries")
        params = jax.tree.map(lambda leaf: _widened(np.asarray(leaf), dtype), params)
        args = jax.tree.map(lambda leaf: _widened(leaf, dtype), args)
        random = np.random.default_rng(seed)
        chosen = _choose([leaf.size for leaf in jax.tree.leaves(params)], sample, random)
        try:
            subject = prepare(f, gradient, params, args, points=2 * sum(map(len, chosen)))
        except jax.errors.UnexpectedTracerError as error:
            raise ValueError(NOT_DETERMINISTIC.format("it changes something outside itself")) from error
        h = float(np.cbrt(np.finfo(dtype).eps) if step is None else step)
        return _audit(_check(subject, h, float(rtol), random), chosen, directions, random)


# Points at which the rounding of f is measured, and how far from params they lie, in steps and in parts of the entry.
_POINTS = 16
_DISTANCES = np.array([1e-3, 1e-1, 1.0])
# Points beside params at which kinks are looked past.
_BESIDE = 4
# Doubtful entries to look at before it is plain that there is no kink among them.
_MANY = 500


class _Check(NamedTuple):
    """How a subject is checked."""

    subject: Subject
    h: float  # step for entries of size 1 and below
    ladder: np.ndarray  # the steps at which doubtful entries are looked at again
    rounding: float  # of f
    rtol: float
    beside: Callable[[int], Subject]  # the same function at random points nearby


class _Findings(NamedTuple):
    """What was found at entries, or along directions: one of each per finding."""

    entry: np.ndarray  # its number among all; -1 for a direction
    numerical: np.ndarray
    error: np.ndarray  # how far the numerical may be off
    analytic: np.ndarray
    left: np.ndarray  # slopes on both sides
    right: np.ndarray
    is_kink: np.ndarray
    is_wrong: np.ndarray

    def where(self, chosen: Any) -> "_Findings":
        """Some of them."""
        return _Findings(*(part[chosen] for part in self))


def _joined(findings: list[_Findings]) -> _Findings:
    return _Findings(*map(np.concatenate, zip(*findings, strict=True)))


def _widened(leaf: Any, dtype: Any) -> Any:
    """Real numbers in the dtype of the check, as arrays of JAX; what holds no numbers stays as it is."""
    if not isinstance(leaf, np.ndarray | np.generic | jax.Array):
        return leaf
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.asarray(np.asarray(leaf, dtype))  # by NumPy, which compiles nothing
    is_number = leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number)
    return jnp.asarray(leaf) if is_number else leaf


def _choose(sizes: list[int], sample: int | None, random: np.random.Generator) -> list[np.ndarray]:
    """Entries of each leaf, counted from its beginning."""
    return [
        np.arange(size) if sample is None or size <= sample else np.sort(random.choice(size, sample, replace=False))
        for size in sizes
    ]


def _check(subject: Subject, h: float, rtol: float, random: np.random.Generator) -> _Check:
    # Far enough for every step to leave the kinks at params behind.
    shifts = 100 * h * np.maximum(np.abs(subject.entries), 1) * random.normal(size=(_BESIDE, len(subject.entries)))
    moved = (subject.entries + shifts).astype(subject.entries.dtype)
    steps = ladder(h, float(np.finfo(subject.entries.dtype).eps))
    beside = functools.cache(lambda number: subject.elsewhere(moved[number]))
    return _Check(subject, h, steps, _rounding(subject, h), rtol, beside)


def _rounding(subject: Subject, h: float) -> float:
    """How much rounding moves f: by how much it misses a parabola nearby, in the steepest entry of each leaf.

    Where f is the same at most points they are too near: it rounds more coarsely than that, and they go further out.
    """
    rounding = float(np.finfo(subject.entries.dtype).eps) * abs(subject.value)
    steepness = np.abs(np.nan_to_num(subject.analytic))
    places = [a + int(np.argmax(steepness[a:b])) for a, b in itertools.pairwise(subject.starts) if a < b]
    uneven = np.sort(np.random.default_rng(0).uniform(0, 1, _POINTS))  # to one side: params may lie at a kink
    p = np.abs(subject.entries[places])[:, None]
    distances = h * np.sort(np.concatenate([p * _DISTANCES, np.maximum(p, 1) * _DISTANCES], axis=1))
    reach = distances[:, :, None] * uneven
    index = np.broadcast_to(np.array(places)[:, None, None], reach.shape)
    offsets = reach.astype(subject.entries.dtype).reshape(-1)
    for values in subject.at(index.reshape(-1), offsets).reshape(reach.shape):
        seen = next((row for row in values if len(np.unique(row)) > _POINTS / 2), values[-1])
        if np.isfinite(seen).all():
            change = seen - seen[0]  # exact, where the fit to the values themselves would round
            missed = change - np.polynomial.Polynomial.fit(uneven, change, 2)(uneven)
            rounding = max(rounding, float(np.median(np.abs(missed))))  # the median leaves out a kink
    return rounding


def _audit(check: _Check, chosen: list[np.ndarray], directions: int, random: np.random.Generator) -> GradientReport:
    subject = check.subject
    everything = np.arange(len(subject.entries))
    starts = subject.starts[: len(chosen)]
    entries = _check_entries(check, np.concatenate([own + start for own, start in zip(chosen, starts, strict=True)]))
    leaves: list[LeafReport] = []
    for own, name, shape, start, end in zip(
        chosen, subject.names, subject.shapes, subject.starts[:-1], subject.starts[1:], strict=True
    ):
        found = entries.where((entries.entry >= start) & (entries.entry < end))
        is_sampled = len(own) < end - start
        if is_sampled:
            found = _with_directions(check, found, everything[start:end], directions, random)
        leaves.append(_leaf_report(name, shape, start, end - start, found, directions * is_sampled, check.rtol))
    if any(leaf.directions for leaf in leaves):
        along = [_check_direction(check, everything, _signs(everything, random)) for _ in range(directions)]
        leaves.append(_leaf_report("all leaves", (), 0, 0, _joined(along), directions, check.rtol))
    resolution = float(noise(check.rounding, np.array([check.h]))[0])
    dtype = subject.entries.dtype.name
    report = GradientReport(tuple(leaves), subject.value, dtype, check.h, resolution, check.rtol)
    is_rough = check.rounding > 1e3 * float(np.finfo(dtype).eps) * abs(subject.value)
    if subject.narrower and (is_rough or not report.ok or any(leaf.kinks for leaf in leaves)):
        raise ValueError(
            f"f computes in {subject.narrower} on its way from params, and differences of that are noise in {dtype}: "
            "give the arrays that it finds in its surroundings as args, which are widened"
            + (", or use dtype=jnp.float32" if dtype == "float64" else "")
        )
    return report


def _past_kinks(check: _Check, found: _Findings, again: Callable[[Subject, np.ndarray], _Findings]) -> _Findings:
    """Look at what seems wrong from points beside params, where f may have kinks that are in the way.

    Many units, some just below 0 and some just above, nearer than any step resolves: then the slopes on both sides need
    not lie on either side of the gradient. But beside the kinks the gradient is right, and the slope of f changes so
    much from point to point that the gradient at params is one of the kind. Where the slope stays, there is no kink.
    """
    at = np.flatnonzero(found.is_wrong & np.isfinite(found.analytic))
    slopes = [found.left[at], found.right[at], found.numerical[at]]
    for number in range(_BESIDE):
        if len(at) == 0:
            return found
        beside = again(check.beside(number), at)
        right = ~beside.is_wrong
        at, slopes = at[right], [slope[right] for slope in (*slopes, beside.numerical)]
    least, most = np.min(slopes, axis=0), np.max(slopes, axis=0)
    # Three times as wide as the few that were seen.
    is_one = np.abs(found.analytic[at] - (least + most) / 2) <= 1.5 * (most - least)
    found.is_wrong[at], found.is_kink[at] = ~is_one, is_one
    return found


def _check_entries(check: _Check, entry: np.ndarray) -> _Findings:
    found = _compare_entries(check, check.subject, entry)
    return _past_kinks(check, found, lambda beside, some: _compare_entries(check, beside, entry[some]))


def _compare_entries(check: _Check, subject: Subject, entry: np.ndarray) -> _Findings:
    """Each entry by one central difference; those that do not agree, by the whole ladder of steps."""
    p, analytic = subject.entries[entry], subject.analytic[entry]
    steps = check.h * np.maximum(np.abs(p), 1)
    numerical = central(_moved(subject, entry, steps[:, None]))[:, 0]
    error = noise(check.rounding, steps)
    is_wrong = relative_error(numerical, analytic, error, check.rtol) > check.rtol
    found = _Findings(
        entry, numerical, error, analytic, numerical.copy(), numerical.copy(), np.zeros_like(is_wrong), is_wrong
    )
    # If many entries of a leaf are doubtful and none of the first of them is let off, its gradient is simply wrong.
    doubtful = np.flatnonzero(is_wrong)
    leaf = np.searchsorted(subject.starts, entry[doubtful], side="right")
    for own in (doubtful[leaf == number] for number in np.unique(leaf)):
        _judge_again(check, subject, found, own[:_MANY])
        if not is_wrong[own[:_MANY]].all():
            _judge_again(check, subject, found, own[_MANY:])
    return found


def _judge_again(check: _Check, subject: Subject, found: _Findings, some: np.ndarray) -> None:
    """Judge some of the findings by the whole ladder, and note it there."""
    if len(some) == 0:
        return
    p = np.abs(subject.entries[found.entry[some]])
    values = _moved(subject, found.entry[some], np.maximum(p, 1)[:, None] * check.ladder)
    # Where f ends within a step, as a logarithm does, steps go by the size of the entry.
    ends = ~np.isfinite(values.above + values.below).all(axis=1) & (p > 0)
    if ends.any():
        nearer = _moved(subject, found.entry[some][ends], np.minimum(p, 1)[ends, None] * check.ladder)
        for all_of_them, part in zip(values[1:], nearer[1:], strict=True):
            all_of_them[ends] = part
    for name, part in judge(values, found.analytic[some], check.rounding, check.rtol)._asdict().items():
        getattr(found, name)[some] = part


def _moved(subject: Subject, entry: np.ndarray, steps: np.ndarray) -> Values:
    """The function with each entry moved up and down by each of its steps, as far as its rounding lets it."""
    p = subject.entries[entry][:, None]
    steps = steps.astype(p.dtype)
    up, down = (p + steps) - p, p - (p - steps)
    offsets = np.concatenate([up, -down], axis=1)
    values = subject.at(np.repeat(entry, offsets.shape[1]), offsets.reshape(-1)).reshape(offsets.shape)
    above, below = (half.copy() for half in np.split(values, 2, axis=1))
    return Values(subject.value, above, below, up.astype(np.float64), down.astype(np.float64))


def _with_directions(
    check: _Check, found: _Findings, support: np.ndarray, directions: int, random: np.random.Generator
) -> _Findings:
    """What was found in a leaf, and what random directions through all of it show."""
    for _ in range(directions):
        signs = _signs(support, random)
        along = _check_direction(check, support, signs)
        # One wrong entry among many hardly shows: even what may be rounding is worth a search.
        closely = check._replace(rtol=1e-3 * check.rtol, rounding=0.2 * check.rounding)
        in_doubt = _compare_direction(closely, check.subject, support, signs).is_wrong.any()
        if in_doubt and not found.is_wrong.any():
            found = _joined([found, _search(check, support, signs)])
        found = _joined([found, along])
    return found


def _signs(support: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.choice([-1.0, 1.0], len(support))


def _check_direction(check: _Check, support: np.ndarray, signs: np.ndarray) -> _Findings:
    found = _compare_direction(check, check.subject, support, signs)
    return _past_kinks(check, found, lambda beside, _: _compare_direction(check, beside, support, signs))


def _compare_direction(check: _Check, subject: Subject, support: np.ndarray, signs: np.ndarray) -> _Findings:
    """The derivative along a direction of length 1 through the entries of the support."""
    direction = np.zeros_like(subject.entries)
    direction[support] = signs / np.sqrt(len(support))
    steps = (max(1.0, float(np.abs(subject.entries[support]).max())) * check.ladder).astype(direction.dtype)
    above, below = subject.along(direction, np.concatenate([steps, -steps])).reshape(2, 1, -1)
    distances = steps[None].astype(np.float64)
    analytic = np.array([subject.analytic @ direction.astype(np.float64)])
    judged = judge(Values(subject.value, above, below, distances, distances), analytic, check.rounding, check.rtol)
    return _Findings(entry=np.array([-1]), analytic=analytic, **judged._asdict())


def _search(check: _Check, support: np.ndarray, signs: np.ndarray) -> _Findings:
    """A wrong entry, by halving the support of a direction that is wrong; nothing if none stands out."""
    while len(support) > 1:
        halves = [(support[part], signs[part]) for part in (slice(len(support) // 2), slice(len(support) // 2, None))]
        found = [_check_direction(check, *half) for half in halves]
        # What a half as a whole is off by: its direction has length 1.
        off = [
            abs(one.numerical - one.analytic)[0] * np.sqrt(len(half[0]))
            for one, half in zip(found, halves, strict=True)
        ]
        support, signs = halves[int(off[1] > off[0])]
    entry = _check_entries(check, support)
    return entry.where(entry.is_wrong)


def _leaf_report(
    name: str, shape: tuple[int, ...], start: int, size: int, found: _Findings, directions: int, rtol: float
) -> LeafReport:
    def place(entry: Any) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(entry - start, shape))

    kinks = found.where(found.is_kink & (found.entry >= 0))
    smooth = found.where(~found.is_kink)
    absolute = np.abs(smooth.numerical - smooth.analytic)
    relative = relative_error(smooth.numerical, smooth.analytic, smooth.error, rtol)
    size_of_both = np.maximum(np.abs(smooth.numerical), np.abs(smooth.analytic))
    is_seen = size_of_both > smooth.error
    wrong = int(smooth.is_wrong.sum())
    is_one = smooth.entry >= 0 if size else smooth.entry < 0
    # Wrong before right, entries before directions, then by the error.
    worst = np.lexsort((relative, smooth.entry >= 0, smooth.is_wrong))[-1:]
    return LeafReport(
        name=name,
        shape=shape,
        size=size,
        checked=len(np.unique(found.entry[found.entry >= 0])),
        directions=directions,
        wrong=wrong,
        kinks=tuple(
            Kink(place(entry), float(left), float(right), float(analytic))
            for entry, left, right, analytic in zip(kinks.entry, kinks.left, kinks.right, kinks.analytic, strict=True)
        ),
        mean_absolute=float(absolute[is_one].mean()) if is_one.any() else math.nan,
        worst_absolute=float(absolute.max()) if len(worst) else math.nan,
        worst_relative=float(relative.max()) if len(worst) else math.nan,
        where=place(smooth.entry[worst[0]]) if len(worst) and smooth.entry[worst[0]] >= 0 else None,
        numerical=_only(smooth.numerical[worst]),
        analytic=_only(smooth.analytic[worst]),
        verdict="wrong" if wrong else "ok" if is_seen.any() or not len(smooth.entry) else "zero",
    )


def _only(figures: np.ndarray) -> float:
    """The one figure; NaN if there is none, as where all that was checked lies at kinks."""
    return float(figures[0]) if len(figures) else math.nan
