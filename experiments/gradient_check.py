"""Can a gradient be checked that nobody has worked out by hand?

A difference needs no derivative: go a little up and a little down in one parameter, and divide by the distance.

    dL/dW ≈ (L(W + h) - L(W - h)) / 2h        off by  h² L'''/6  (truncation)  and  eps L / h  (rounding)

The textbook takes h = 1e-4, in float64, and compares with back-propagation. Here all 39,760 entries of its network are
compared with jax.grad, group by group; and h goes from 1e-12 to 1. Expect errors of 1e-10 at h = 1e-4, and per cents in
float32; and a cost of hundreds of jax.grad's. (Row B4.)

    python -m experiments.gradient_check
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

import jaxnn as nn
from experiments.shared.claims import Claim, at_least, at_most, between, near
from experiments.shared.clock import seconds_of
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import COLOURS, GREY, Picture, panels
from jaxnn.older_jax import enable_x64


@dataclass(frozen=True)
class Config:
    """The book's network and step."""

    hidden_size: int = 50
    """Units of the hidden layer."""
    examples: int = 20
    """Images that the loss is the mean of (the book takes 3)."""
    step: float = 1e-4
    """h of the comparison."""
    steps: int = 25
    """So many h from 1e-12 to 1, logarithmic."""


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """Both gradients of the book's network and their cost; errors by step."""
    train = data.first(config.examples)
    x, labels = np.asarray(data.scale(train.x), np.float64), np.asarray(train.y)
    model = nn.two_layer_net(config.hidden_size)
    params = jax.jit(lambda key: model.init(key, x.shape[1:])[0])(key)

    def loss(params: PyTree, x: Array, labels: Array) -> Array:
        return nn.softmax_cross_entropy(model.apply(params, {}, x)[0], labels)

    def numerical(params: PyTree, x: Array, labels: Array) -> PyTree:
        return nn.numerical_gradient(lambda params: loss(params, x, labels), params, step=config.step)

    steps = np.logspace(-12, 0, config.steps)
    with enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        both = [jax.jit(one) for one in (numerical, jax.grad(loss))]
        gradients = jax.device_get([one(wide, x, labels) for one in both])
        seconds = [seconds_of(one, wide, x, labels) for one in both]
        of_dtype = jax.jit(errors_by_step, static_argnums=(0, 5))
        errors = {dtype: of_dtype(loss, wide, x, labels, steps, dtype) for dtype in ("float64", "float32")}
    return {
        "numerical": gradients[0],
        "analytic": gradients[1],
        "seconds": seconds,
        "steps": steps,
        "errors": jax.device_get(errors),
    }


def errors_by_step(
    loss: Callable[..., Array], params: PyTree, x: Array, labels: Array, steps: Array, dtype: str
) -> Array:
    """Mean error of central and of forward differences for the last matrix, beside its mean gradient: `[steps, 2]`."""

    def of_last_matrix(W: Array) -> Array:
        first = jax.tree.map(lambda leaf: leaf.astype(W.dtype), params)
        return loss(first | {"dense2": first["dense2"] | {"W": W}}, x.astype(W.dtype), labels)

    W, exact = params["dense2"]["W"].astype(dtype), jax.grad(of_last_matrix)(params["dense2"]["W"])
    one_each = jnp.eye(W.size, dtype=dtype).reshape(-1, *W.shape)

    def errors(h: Array) -> Array:
        central = nn.numerical_gradient(of_last_matrix, W, step=h)
        ahead = jax.vmap(lambda one: of_last_matrix(W + h * one))(one_each).reshape(W.shape)
        forward = (ahead - of_last_matrix(W)) / h
        return jnp.stack([jnp.abs(g.astype(exact.dtype) - exact).mean() for g in (central, forward)])

    return jax.lax.map(errors, steps.astype(dtype)) / jnp.abs(exact).mean()


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """Error over the step; and the difference of the two gradients, entry by entry."""
    figure, axes = panels(1, 2, width=4.8, height=3.6)
    for dtype, colour in (("float32", COLOURS[1]), ("float64", COLOURS[0])):
        for errors, method, style in zip(outcomes["errors"][dtype].T, ("central", "forward"), ("-", "--"), strict=True):
            label = f"{method} difference, {dtype}"
            axes[0, 0].plot(
                outcomes["steps"], np.where(np.isfinite(errors), errors, np.nan), style, color=colour, label=label
            )
    axes[0, 0].axvline(config.step, color=GREY, lw=1, ls=":")
    axes[0, 0].text(config.step, 2e2, f" h = {config.step:g}", color=GREY, fontsize=8)
    axes[0, 0].set(xscale="log", yscale="log", xlabel="step h", ylabel="mean error / mean gradient", ylim=(1e-13, 1e3))
    axes[0, 0].set_title("Rounding to the left, truncation to the right", fontsize=10)
    axes[0, 0].legend(frameon=False, fontsize=8, loc="lower left")
    random = np.random.default_rng(0)
    for (name, numerical, analytic), colour in zip(by_leaf(outcomes), COLOURS, strict=False):
        some = random.choice(analytic.size, min(analytic.size, 300), replace=False)
        apart = np.abs(numerical - analytic)
        axes[0, 1].plot(
            np.abs(analytic[some]), apart[some], ".", ms=3, color=colour, label=f"{name}: {apart.mean():.0e} on average"
        )
    axes[0, 1].set(
        xscale="log", yscale="log", xlabel="|jax.grad|", ylabel="|numerical gradient - jax.grad|", ylim=(1e-15, 1e-7)
    )
    axes[0, 1].set_title(f"Entry by entry at h = {config.step:g}, float64", fontsize=10)
    axes[0, 1].legend(frameon=False, fontsize=8, loc="upper left", markerscale=3)
    alt = (
        "Left, the error of differences over the step, both logarithmic: four V-shaped curves. Those of float64 lie "
        "far below those of float32; those of central differences are steeper to the right, and reach lower than those "
        "of forward differences. Right, for each group of parameters the difference between numerical gradient and "
        "jax.grad over the size of the gradient: a cloud below 1e-9, whatever the size."
    )
    return {"differences": Picture(figure, alt)}


def by_leaf(outcomes: Outcomes) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, numerical gradient and jax.grad of each leaf, in one row."""
    numerical, analytic = (jax.tree_util.tree_leaves_with_path(outcomes[name]) for name in ("numerical", "analytic"))
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), a.ravel(), b.ravel())
        for (path, a), (_, b) in zip(numerical, analytic, strict=True)
    ]


def power(steps: np.ndarray, errors: np.ndarray, low: float, high: float) -> float:
    """That of h, by which errors grow between two steps."""
    chosen = (steps > low) & (steps < high)
    return float(np.polyfit(np.log(steps[chosen]), np.log(errors[chosen]), 1)[0])


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """Of the comparison, and of the step."""
    steps, (central, forward) = outcomes["steps"], outcomes["errors"]["float64"].T
    near_the_books = int(np.abs(np.log(steps / config.step)).argmin())
    numerical_seconds, analytic_seconds = outcomes["seconds"]
    leaves = by_leaf(outcomes)
    entries = sum(analytic.size for _, _, analytic in leaves)
    return [
        *(at_most("B4", f"{name}: mean |numerical gradient - jax.grad|", np.abs(numerical - analytic).mean(), 1e-8)
          for name, numerical, analytic in leaves),
        at_least("B4", f"seconds of a numerical gradient of {entries:,} entries, over those of jax.grad",
                 numerical_seconds / analytic_seconds, entries / 400),
        near("B4", "truncation grows with this power of h, for central differences", power(steps, central, 1e-3, 0.1),
             2, 0.2, "arithmetic"),
        near("B4", "for forward differences", power(steps, forward, 1e-5, 1e-2), 1, 0.2, "arithmetic"),
        near("B4", "rounding grows with this power", power(steps, central, 1e-12, 1e-6), -1, 0.2, "arithmetic"),
        between("B4", "best h of central differences in float64 (the book's is 1e-4)", steps[central.argmin()],
                1e-5, 1e-3),
        at_least("B4", "least error of forward differences over that of central", forward.min() / central.min(), 10),
        at_most("B4", "error at the book's h in float64", central[near_the_books], 1e-6),
        at_least("B4", "error at the book's h in float32", outcomes["errors"]["float32"][near_the_books, 0], 1e-3),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="gradient_check",
    rows=("B4",),
    formula=r"\frac{\partial L}{\partial W} = \frac{L(W + h) - L(W - h)}{2h} + O(h^2)",
    config=Config(),
    quick=Config(),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
