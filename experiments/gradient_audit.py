"""Who checks the gradient of a network and a loss of one's own?

An audit: every entry of a gradient against a central difference in float64, with a bound for each that follows from the
difference's own error. Where the loss has a kink, as relu has at 0, no gradient can agree with a difference; there the
slopes on both sides are looked at, and the gradient must be between the two.

    left = (L(W) - L(W - h)) / h        right = (L(W + h) - L(W)) / h

First a network is audited with three faults planted in its gradient, and with three units exactly at the kink: their
weights and biases are 0. Then others that are right: batch norm, dropout, convolution, weight decay. Expect the three
faults to be named, leaf by leaf, and the kinks to be told from them. (Row X3.)

    python -m experiments.gradient_audit
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree
from matplotlib.patches import Rectangle

import jaxnn as nn
from experiments.shared.claims import Claim, near, true
from experiments.shared.command import main
from experiments.shared.experiment import Experiment, Outcomes
from experiments.shared.images import Images, load_mnist
from experiments.shared.pictures import Picture, panels

Audit: TypeAlias = Literal["faults and kinks", "sigmoid", "batch norm, decay", "dropout", "convolution"]


@dataclass(frozen=True)
class Config:
    """Small networks, all of whose entries are checked."""

    hidden_size: int = 50
    """Units of the hidden layer."""
    examples: int = 20
    """Images that the loss is the mean of."""
    units_at_kinks: int = 3
    """Of the network with faults, so many units have weights and bias 0."""
    audits: tuple[Audit, ...] = get_args(Audit)
    """What is audited."""


PLANTED = {
    "dense1/W": "a factor of 1.001",
    "dense1/b": "no sum over the images",
    "dense2/W": "a stop_gradient left in",
}


def run(config: Config, data: Images, key: PRNGKeyArray) -> Outcomes:
    """A report of each audit."""
    train = data.first(config.examples)
    x, labels = np.asarray(data.scale(train.x), np.float64), np.asarray(train.y)
    return {name: audit(name, config, key, x, labels) for name in config.audits}


def audit(name: Audit, config: Config, key: PRNGKeyArray, x: np.ndarray, labels: np.ndarray) -> nn.GradientReport:
    """Of one network, with weights and biases drawn at random: at a start from 0 units may lie at their kinks."""
    models = {
        "faults and kinks": nn.two_layer_net(config.hidden_size, activation=nn.relu),
        "sigmoid": nn.two_layer_net(config.hidden_size),
        "batch norm, decay": nn.mlp([10], 10, batch_norm=True),
        "dropout": nn.mlp([config.hidden_size], 10, dropout=0.3),
        "convolution": nn.simple_convnet(10, filters=2, filter_size=3, hidden_size=5),
    }
    model = models[name]

    params, model_state = jax.eval_shape(lambda key: model.init(key, x.shape[1:])[:2], key)
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    params = jax.tree.map(lambda leaf: 0.1 * random.normal(size=leaf.shape), params)
    model_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape), model_state)  # which training does not look at
    if name == "faults and kinks":
        for leaf in params["dense1"].values():
            leaf[..., : config.units_at_kinks] = 0

    def loss(params: PyTree, model_state: PyTree, x: Array, labels: Array) -> Array:
        outputs, _ = model.apply(params, model_state, x, training=True, key=key)
        value = nn.softmax_cross_entropy(outputs, labels)
        return value + nn.l2_penalty(0.1)(params) if name == "batch norm, decay" else value

    def faulty(params: PyTree, model_state: PyTree, x: Array, labels: Array) -> PyTree:
        of_all = jax.grad(loss)(params, model_state, x, labels)
        of_one = jax.grad(loss)(params, model_state, x[:1], labels[:1])

        def stopped(W: Array) -> Array:
            last = params["dense2"] | {"W": jax.lax.stop_gradient(W)}
            return loss(params | {"dense2": last}, model_state, x, labels)

        return {
            "dense1": {"W": 1.001 * of_all["dense1"]["W"], "b": of_one["dense1"]["b"] / len(x)},
            "dense2": {"W": jax.grad(stopped)(params["dense2"]["W"]), "b": of_all["dense2"]["b"]},
        }

    gradient = jax.jit(faulty) if name == "faults and kinks" else None
    return nn.check_gradients(loss, params, model_state, x, labels, gradient=gradient, sample=None)


def draw(config: Config, data: Images, outcomes: Outcomes) -> dict[str, Picture]:
    """A row for each network, a cell for each leaf."""
    figure, axes = panels(1, 1, width=9.6, height=0.8 * len(outcomes) + 0.6)
    axis = axes[0, 0]
    axis.axis("off")
    for row, (name, report) in enumerate(outcomes.items()):
        axis.text(-0.05, row, name.replace(", ", ",\n"), ha="right", va="center", fontsize=9)
        for column, leaf in enumerate(leaf for leaf in report.leaves if leaf.size):
            is_wrong = leaf.verdict == "wrong"
            error = "0, as it should be" if leaf.verdict == "zero" else f"off by {leaf.worst_relative:.0e}"
            lines = [leaf.name, f"WRONG: {error}" if is_wrong else error]
            lines += [f"({PLANTED.get(leaf.name)})"] if is_wrong else []
            lines += [f"{len(leaf.kinks):,} entries at a kink"] if leaf.kinks else []
            colour = "#f7cdb3" if is_wrong else "#dbe9f4"
            axis.add_patch(Rectangle((column + 0.02, row - 0.45), 0.96, 0.9, color=colour, lw=0))
            axis.text(column + 0.5, row, "\n".join(lines), ha="center", va="center", fontsize=7)
    axis.set(xlim=(-0.8, 6), ylim=(len(outcomes) - 0.5, -0.5))
    axis.set_title("What the audit says of each leaf: its largest relative error", fontsize=10)
    alt = (
        "A table with a row for each network audited and a cell for each of its leaves. Of the network with planted "
        "faults three cells are orange, wrong, and the fourth is right; some entries of its first layer are at a kink, "
        "and not counted. All cells of other networks are right."
    )
    return {"audits": Picture(figure, alt)}


def claims(config: Config, data: Images, outcomes: Outcomes) -> list[Claim]:
    """What was found wrong, and what was not."""
    found = []
    for name, report in outcomes.items():
        checked, wrong = sum(leaf.checked for leaf in report.leaves), ", ".join(report.failed) or "none"
        wanted = ", ".join(PLANTED) if name == "faults and kinks" else "none"
        found.append(true("X3", f"{name}: leaves found wrong, of {checked:,} entries", wrong == wanted, wrong, wanted))
    if "faults and kinks" in outcomes:
        kinks = [kink for leaf in outcomes["faults and kinks"].leaves for kink in leaf.kinks]
        lit = int(np.asarray(data.first(config.examples).x).any(axis=0).sum())
        found.append(
            near("X3", "entries found at a kink: lit pixels and a bias, for each unit of input 0", len(kinks),
                 config.units_at_kinks * (lit + 1), 0.05 * config.units_at_kinks * lit, "arithmetic")
        )  # fmt: skip
    return found


EXPERIMENT = Experiment(
    name="gradient_audit",
    rows=("X3",),
    formula=r"\text{left} = \frac{L(W) - L(W - h)}{h}, \qquad \text{right} = \frac{L(W + h) - L(W)}{h}",
    config=Config(),
    quick=Config(audits=("faults and kinks", "sigmoid")),
    run=run,
    draw=draw,
    claims=claims,
    load=load_mnist,
)

if __name__ == "__main__":
    main(EXPERIMENT)
