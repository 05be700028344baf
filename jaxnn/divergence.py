"""A run whose numbers are numbers no longer: where it began, in words, and smaller steps from before it."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from jaxnn.evaluation import Examples
from jaxnn.training import TrainState

__all__ = [
    "DivergedError",
    "Origin",
    "SlowedState",
    "all_finite",
    "find_origin",
    "learning_rate",
    "slowed",
]

SLOWER = 1 / 3  # what the learning rate becomes of itself each time
MOST_RESTORED = 5

# (state, x, y) -> (next state, loss, gradient)
StepWithGradient = Callable[[TrainState, Any, Any], tuple[TrainState, Array, PyTree]]


class DivergedError(RuntimeError):
    """The loss, a gradient or a parameter of a run is no longer a number."""


class SlowedState(NamedTuple):
    """The state of an optimizer whose steps are made smaller."""

    factor: Float[Array, ""]  # of every update
    inner: PyTree


def slowed(optimizer: optax.GradientTransformation, factor: float) -> optax.GradientTransformationExtraArgs:
    """The same optimizer with `factor` times its steps, as a learning rate smaller by it would take.

        update <- factor · update

    The factor is part of the state, not of the compiled program.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: PyTree) -> SlowedState:
        return SlowedState(jnp.asarray(factor, jnp.float32), optimizer.init(params))

    def update(grads: PyTree, state: SlowedState, params: PyTree = None, **extra: Any) -> tuple[PyTree, SlowedState]:
        updates, inner = optimizer.update(grads, state.inner, params, **extra)
        updates = jax.tree.map(lambda update: state.factor.astype(update.dtype) * update, updates)
        return updates, SlowedState(state.factor, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def learning_rate(opt_state: PyTree) -> float | None:
    """The rate that an optimizer's state tells, as `optax.inject_hyperparams` has it there; None where it does not."""
    found = [value for path, value in optax.tree_utils.tree_get_all_with_path(opt_state, "learning_rate")]
    if len(found) != 1 or np.shape(found[0]) != ():
        return None
    return float(found[0]) * (float(opt_state.factor) if isinstance(opt_state, SlowedState) else 1.0)


def all_finite(tree: PyTree) -> Array:
    """Whether every floating value of a tree is a number."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    # Of one array XLA makes one loop, of many as many, which take longer to compile.
    return jnp.all(jnp.concatenate([jnp.isfinite(leaf).ravel() for leaf in leaves])) if leaves else jnp.asarray(True)


class Origin(NamedTuple):
    """The first step of a run that went wrong."""

    number: int  # among the steps that were looked at, from 0
    loss: float
    gradients: list[str]  # the leaves whose gradient has NaN or infinity in it, in the model's order
    updates: list[str]  # the leaves of what was learned that the step has made so
    largest: dict[str, float]  # absolute value in each leaf of the parameters, before the step
    state: TrainState  # before it
    batch: Examples

    def describe(self) -> str:
        """What went wrong first, in words."""
        what = "gradient" if self.gradients else "update"
        leaves = self.gradients or self.updates
        first = ""
        if leaves:
            others = "" if len(leaves) == 1 else f", first of {len(leaves)} leaves,"
            first = f"the {what} of {leaves[0]}{others} is not finite, "
        (name, value) = max(self.largest.items(), key=lambda item: item[1])
        return f"{first}the largest parameter before was {value:.3g}, in {name}"


def find_origin(step: StepWithGradient, state: TrainState, batches: Iterable[Examples]) -> Origin | None:
    """Take the steps of these batches again, one by one, until one has a loss, gradient or result that is no number."""

    @jax.jit
    def look(state: TrainState, x: Array, y: Array) -> tuple[TrainState, Array, dict[str, dict[str, Array]]]:
        after, loss, grads = step(state, x, y)
        return (
            after,
            loss,
            {
                "gradients": _by_leaf(lambda leaf: ~all_finite(leaf), grads),
                "updates": {
                    **_by_leaf(lambda leaf: ~all_finite(leaf), after.params),
                    **_by_leaf(lambda leaf: ~all_finite(leaf), {"model_state": after.model_state}),
                },
                "largest": _by_leaf(lambda leaf: jnp.max(jnp.abs(leaf), initial=0), state.params),
            },
        )

    for number, batch in enumerate(batches):
        after, *found = look(state, *batch)
        loss, seen = jax.device_get(found)
        bad = {part: [name for name, is_bad in seen[part].items() if is_bad] for part in ("gradients", "updates")}
        if not np.isfinite(loss) or any(bad.values()):
            largest = {name: float(value) for name, value in seen["largest"].items()}
            return Origin(number, float(loss), bad["gradients"], bad["updates"], largest, state, batch)
        state = after
    return None


def _by_leaf(function: Callable[[Array], Array], tree: PyTree) -> dict[str, Array]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): function(leaf) for path, leaf in leaves}
