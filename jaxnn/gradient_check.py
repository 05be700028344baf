"""The audit: `jax.grad` against central differences in float64, entry by entry."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxnn._checks import Scalar, check_callable, check_number, check_size, is_concrete
from jaxnn._differences import Values, central, judge, ladder, noise, relative_error
from jaxnn._nearby import dtypes_on_the_way, nearby
from jaxnn.gradient_report import GradientReport, Kink, LeafReport
from jaxnn.gradients import as_entries, check_one_number, entries_at_once, join, leaf_names

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
    through the whole leaf and through all leaves at once. A direction sees a single wrong entry among n if it is off by
    more than about sqrt(n) times what the differences resolve, and the entry is then searched for; below that a
    sample can miss it, and `sample=None`, which checks every entry, cannot.

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
        ValueError: `f` is not finite at `params`, is not deterministic (dropout without a fixed key), or is checked
            under `jit`; an option out of range; a `gradient` of another structure.

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
    if np.dtype(dtype).name not in _DEFAULT_RTOL:
        raise ValueError(f"dtype must be float64 or float32; in {np.dtype(dtype).name} differences are noise")
    rtol = _DEFAULT_RTOL[np.dtype(dtype).name] if rtol is None else rtol
    check_number("rtol", rtol, above=0)
    if step is not None:
        check_number("step", step, above=1e3 * float(np.finfo(dtype).eps))
    if not all(is_concrete(leaf) for leaf in jax.tree.leaves((params, args))):
        raise ValueError("check_gradients looks at values: call it outside jit, vmap and grad")
    # Arrays in f's surroundings may be narrower: let them meet the wider ones.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = jax.tree.map(lambda leaf: _widened(leaf, dtype), as_entries(params))
        if not any(leaf.size for leaf in jax.tree.leaves(params)):
            raise ValueError("params has no entries")
        args = jax.tree.map(lambda leaf: _widened(leaf, dtype), args)
        random = np.random.default_rng(seed)
        chosen = _choose([leaf.size for leaf in jax.tree.leaves(params)], sample, random)
        try:
            subject = _prepare(f, gradient, params, args, points=2 * sum(map(len, chosen)))
        except jax.errors.UnexpectedTracerError as error:
            raise ValueError(_NOT_DETERMINISTIC.format("it changes something outside itself")) from error
        eps = float(np.finfo(dtype).eps)
        h = float(np.cbrt(eps) if step is None else step)
        check = _Check(subject, h, ladder(h, eps), _rounding(subject, h), float(rtol))
        return _audit(check, chosen, directions, random)


_NOT_DETERMINISTIC = "f is not deterministic: {} from one call to the next (is it dropout without a fixed key?)"
# Points at which the rounding of f is measured.
_POINTS = 16
# Doubtful entries to look at before it is plain that there is no kink among them.
_MANY = 500


class _Subject(NamedTuple):
    """A function near `params`, and its gradient there. Entries are counted through all leaves."""

    names: list[str]  # of the leaves
    shapes: list[tuple[int, ...]]
    starts: list[int]  # of the leaves among the entries, and where the last one ends
    entries: np.ndarray  # params in one row
    analytic: np.ndarray  # the gradient to be checked
    value: float  # f(params)
    at: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (entries, offsets) -> f with one of them moved
    along: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (direction, distances) -> f(params + distance direction)
    notes: tuple[str, ...]


class _Check(NamedTuple):
    """How a subject is checked."""

    subject: _Subject
    h: float  # step for entries of size 1 and below
    ladder: np.ndarray  # the steps at which doubtful entries are looked at again
    rounding: float  # of f
    rtol: float


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
    """An array of real numbers in the dtype of the check; all else as it is."""
    if isinstance(leaf, np.ndarray | np.generic | jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.asarray(np.asarray(leaf, dtype))  # by NumPy, which compiles nothing
    return leaf


def _choose(sizes: list[int], sample: int | None, random: np.random.Generator) -> list[np.ndarray]:
    """Entries of each leaf, counted from its beginning."""
    return [
        np.arange(size) if sample is None or size <= sample else np.sort(random.choice(size, sample, replace=False))
        for size in sizes
    ]


def _prepare(
    f: Callable[..., Any],
    gradient: Callable[..., PyTree] | None,
    params: PyTree,
    args: tuple[Any, ...],
    points: int,
) -> _Subject:
    # Arrays are arguments of the compiled programs, not constants of theirs; what is no array stays outside.
    parts, structure = jax.tree.flatten(args)
    is_array = [isinstance(part, np.ndarray | jax.Array) for part in parts]
    arrays = [part for part, dynamic in zip(parts, is_array, strict=True) if dynamic]

    def g(params: PyTree, arrays: list[Array]) -> Any:
        given = iter(arrays)
        merged = [next(given) if dynamic else part for part, dynamic in zip(parts, is_array, strict=True)]
        return f(params, *jax.tree.unflatten(structure, merged))

    check_one_number(g, params, arrays)
    if gradient is None:
        value, grads = jax.jit(jax.value_and_grad(g))(params, arrays)
    else:
        value, grads = jax.jit(g)(params, arrays), gradient(params, *args)
        _check_alike(grads, params)
    if not np.isfinite(value):
        raise ValueError(f"f is {value} at these params; a gradient can be checked where f is finite")

    leaves, leaf_structure = jax.tree.flatten(params)
    starts = [0, *itertools.accumulate(leaf.size for leaf in leaves)]
    points = max(_POINTS, min(points, 2 * entries_at_once(lambda params: g(params, arrays), params)))

    @jax.jit
    def with_one_moved(params: PyTree, arrays: list[Array], index: Array, offset: Array) -> Array:
        return jax.vmap(nearby(lambda params: g(params, arrays), params))(index, offset)

    @jax.jit
    def with_all_moved(params: PyTree, arrays: list[Array], direction: PyTree, distances: Array) -> Array:
        def with_moved(distance: Array) -> Array:
            return g(jax.tree.map(lambda p, d: p + distance * d, params, direction), arrays)

        return jax.lax.map(with_moved, distances)

    def at(index: np.ndarray, offset: np.ndarray) -> np.ndarray:
        missing = (
            -len(index) % points if len(index) else points
        )  # all chunks are of one size, so that one program serves them all
        chunks = (np.pad(part, (0, missing)).reshape(-1, points) for part in (index, offset))
        found = [np.asarray(with_one_moved(params, arrays, *chunk)) for chunk in zip(*chunks, strict=True)]
        return np.concatenate(found)[: len(index)].astype(np.float64)

    def along(direction: np.ndarray, distances: np.ndarray) -> np.ndarray:
        parts = [direction[a : a + leaf.size].reshape(leaf.shape) for a, leaf in zip(starts, leaves, strict=False)]
        return np.asarray(
            with_all_moved(params, arrays, jax.tree.unflatten(leaf_structure, parts), distances), np.float64
        )

    entries = np.asarray(join(leaves))
    narrower = dtypes_on_the_way(jax.make_jaxpr(lambda params: g(params, arrays))(params), entries.dtype)
    notes = tuple(
        f"f computes in {name} on its way; what comes from there is noise to a difference" for name in narrower
    )
    analytic = np.asarray(join(jax.tree.leaves(grads)), np.float64)
    names, shapes = leaf_names(params), [leaf.shape for leaf in leaves]
    subject = _Subject(names, shapes, starts, entries, analytic, float(value), at, along, notes)

    (again,) = at(np.zeros(1, int), np.zeros(1, entries.dtype))
    # Another program rounds otherwise: only more than that is worth two compilations.
    if not np.isclose(again, subject.value, rtol=1e3 * np.finfo(entries.dtype).eps, atol=0):
        first, second = (float(jax.jit(lambda *given: g(*given))(params, arrays)) for _ in range(2))
        if first != second:
            raise ValueError(_NOT_DETERMINISTIC.format(f"it gave {first:.6g} and {second:.6g}"))
    return subject


def _check_alike(grads: PyTree, params: PyTree) -> None:
    expected, found = jax.tree.structure(params), jax.tree.structure(grads)
    if found != expected:  # type: ignore[operator]
        raise ValueError(f"gradient returned the structure {found}; expected that of params, {expected}")
    for name, grad, param in zip(leaf_names(params), jax.tree.leaves(grads), jax.tree.leaves(params), strict=True):
        if np.shape(grad) != param.shape:
            raise ValueError(f"gradient returned shape {np.shape(grad)} for {name}; expected {param.shape}")


def _rounding(subject: _Subject, h: float) -> float:
    """How much rounding moves f: seen in how unevenly it goes over a distance at which any curve is straight."""
    least = float(np.finfo(subject.entries.dtype).eps) * abs(subject.value)
    steepest = int(np.argmax(np.abs(np.nan_to_num(subject.analytic))))
    offsets = 1e-4 * h * max(1.0, abs(float(subject.entries[steepest]))) * np.arange(_POINTS)
    values = subject.at(np.full(_POINTS, steepest), offsets.astype(subject.entries.dtype))
    # A difference of differences, a - 2 b + c, holds the rounding of 1 + 4 + 1 values; the median leaves out a jump.
    return float(np.fmax(least, np.median(np.abs(np.diff(values, n=2))) / np.sqrt(6)))


def _audit(check: _Check, chosen: list[np.ndarray], directions: int, random: np.random.Generator) -> GradientReport:
    subject = check.subject
    everything = np.arange(len(subject.entries))
    starts = subject.starts[: len(chosen)]
    entries = _check_entries(check, np.concatenate([own + start for own, start in zip(chosen, starts, strict=True)]))
    leaves = []
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
    return GradientReport(tuple(leaves), subject.value, dtype, check.h, resolution, check.rtol, subject.notes)


def _check_entries(check: _Check, entry: np.ndarray) -> _Findings:
    """Each entry by one central difference; those that do not agree, by the whole ladder of steps."""
    subject = check.subject
    p, analytic = subject.entries[entry][:, None], subject.analytic[entry]
    steps = check.h * np.maximum(np.abs(p), 1)
    numerical = central(_moved(subject, entry, p, steps))[:, 0]
    error = noise(check.rounding, steps[:, 0])
    nowhere = np.zeros(len(entry), bool)
    found = _Findings(entry, numerical, error, analytic, numerical.copy(), numerical.copy(), nowhere, nowhere.copy())
    doubtful = np.flatnonzero(relative_error(numerical, analytic, error, check.rtol) > check.rtol)
    found.is_wrong[doubtful] = True
    # If many are doubtful and no kink is among the first of them, the gradient is simply wrong.
    for some in (doubtful[:_MANY], doubtful[_MANY:]):
        values = _moved(subject, entry[some], p[some], steps[some] * check.ladder / check.h)
        for name, part in judge(values, analytic[some], check.rounding, check.rtol)._asdict().items():
            getattr(found, name)[some] = part
        if found.is_wrong[some].all():
            break
    return found


def _moved(subject: _Subject, entry: np.ndarray, p: np.ndarray, steps: np.ndarray) -> Values:
    """The function with each entry moved up and down by each of its steps, as far as its rounding lets it."""
    steps = steps.astype(p.dtype)
    up, down = (p + steps) - p, p - (p - steps)
    offsets = np.concatenate([up, -down], axis=1)
    values = subject.at(np.repeat(entry, offsets.shape[1]), offsets.reshape(-1)).reshape(offsets.shape)
    above, below = np.split(values, 2, axis=1)
    return Values(subject.value, above, below, up.astype(np.float64), down.astype(np.float64))


def _with_directions(
    check: _Check, found: _Findings, support: np.ndarray, directions: int, random: np.random.Generator
) -> _Findings:
    """What was found in a leaf, and what random directions through all of it show."""
    for _ in range(directions):
        signs = _signs(support, random)
        along = _check_direction(check, support, signs)
        if along.is_wrong.any() and not found.is_wrong.any():
            found = _joined([found, _search(check, support, signs)])
        found = _joined([found, along])
    return found


def _signs(support: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.choice([-1.0, 1.0], len(support))


def _check_direction(check: _Check, support: np.ndarray, signs: np.ndarray) -> _Findings:
    """The derivative along a direction of length 1 through the entries of the support."""
    subject = check.subject
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
    is_seen = (size_of_both > smooth.error) | (size_of_both == 0)
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
        mean_absolute=float(absolute[is_one].sum() / max(1, is_one.sum())),
        worst_absolute=float(absolute[worst].sum()),
        worst_relative=float(relative[worst].sum()),
        where=place(smooth.entry[worst[0]]) if len(worst) and smooth.entry[worst[0]] >= 0 else None,
        numerical=float(smooth.numerical[worst].sum()),
        analytic=float(smooth.analytic[worst].sum()),
        verdict="wrong" if wrong else "ok" if is_seen.any() or not len(smooth.entry) else "zero",
    )
