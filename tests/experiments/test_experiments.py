"""Every experiment: what its file says, and its quick form under strict numerics; formulas broken on purpose."""

import ast
import dataclasses
import re
from pathlib import Path

import jax
import pytest

import experiments
import jaxnn as nn
from experiments.shared.catalogue import NAMES, find
from experiments.shared.experiment import perform
from experiments.shared.images import Place
from experiments.shared.rows import ROWS

pytestmark = pytest.mark.little_optimized

FOLDER = Path(experiments.__file__).parent
WITHOUT_CLAIMS = {"X2"}  # the page itself


def test_every_file_is_in_the_catalogue():
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "__main__"} == set(NAMES)


def test_every_row_has_an_experiment():
    assert {row for experiment in find(NAMES) for row in experiment.rows} | WITHOUT_CLAIMS == set(ROWS)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_says_what_it_is(name):
    (experiment,) = find([name])
    assert experiment.name == name
    assert experiment.question.endswith("?")
    assert len(experiment.question) <= 110
    for row in experiment.rows:
        assert re.search(rf"\b{row}\b", experiment.description), f"the docstring does not say that it is about {row}"
    assert f"python -m experiments.{name}" in experiment.description
    assert dataclasses.is_dataclass(experiment.config)
    assert experiment.config == type(experiment.config)(), "the defaults are the textbook's numbers"
    assert type(experiment.config).__dataclass_params__.frozen
    lines = len((FOLDER / f"{name}.py").read_text().splitlines())
    assert 50 <= lines <= 265, lines


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_docstring(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    (config,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    kinds = [type(node) for node in config.body[1:] if not isinstance(node, ast.FunctionDef)]
    assert kinds[::2] == [ast.AnnAssign] * (len(kinds) // 2)
    assert kinds[1::2] == [ast.Expr] * (len(kinds) // 2)


@pytest.mark.parametrize("name", NAMES)
def test_they_use_what_is_public(name):
    """A reader can copy any line: nothing of jaxnn that begins with an underscore."""
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not re.search(r"\b_", node.module or ""), node.module
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr in ("_replace", "_asdict", "__getitem__"), node.attr


ALWAYS = ("perceptron", "weight_symmetry")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in ALWAYS else pytest.mark.slow) for n in NAMES])
def test_the_quick_form(name, tmp_path):
    (experiment,) = find([name])
    result = perform(experiment, experiment.quick, Place(quick=True), tmp_path / name)
    assert [claim for claim in result["claims"] if not claim["holds"]] == []
    assert {claim["row"] for claim in result["claims"]} == set(experiment.rows)
    assert result["figures"]
    for figure in result["figures"]:
        assert (tmp_path / name / figure["png"]).stat().st_size > 5_000
        assert 60 <= len(figure["alt"]) <= 900


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


def of(name, key=0, **changes):
    """Claims of the quick form that do not hold, by row."""
    (experiment,) = find([name])
    config = dataclasses.replace(experiment.quick, **changes)
    data = () if experiment.load is None else (experiment.load(Place(quick=True)),)
    outcomes = experiment.run(config, *data, jax.random.key(key))
    return {claim.row for claim in experiment.claims(config, *data, outcomes) if not claim.holds}


def test_what_is_broken_below_holds_as_it_is():
    assert (
        of("perceptron") == of("softmax_and_cross_entropy") == of("linear_regression") == of("optimizer_paths") == set()
    )


def times(factor, gradient):
    return lambda *arguments, **settings: jax.tree.map(lambda g: factor * g, gradient(*arguments, **settings))


def without_batch_norm(*sizes, batch_norm, **settings):
    return MLP(*sizes, **settings)


# As they are: what is put in their place calls them.
MSE, MLP, SIGMOID, SGD, CROSS_ENTROPY = nn.mean_squared_error, nn.mlp, nn.sigmoid, nn.sgd, nn.softmax_cross_entropy


# A formula that is wrong, and the rows of which a claim then fails.
BROKEN = [
    ("perceptron", "mean_squared_error", lambda z, y: 2 * MSE(z, y), {"D4"}),
    ("softmax_and_cross_entropy", "softmax", SIGMOID, {"A6", "A8"}),
    ("softmax_and_cross_entropy", "mean_squared_error", lambda z, y: jax.numpy.mean((z - y) ** 4), {"A7"}),
    ("linear_regression", "numerical_gradient", times(1.001, nn.numerical_gradient), {"A9"}),
    ("linear_regression", "mean_squared_error", lambda z, y: 0.5 * MSE(z, y), {"A9"}),
    ("optimizer_paths", "momentum", nn.nesterov, {"C1"}),
    ("optimizer_paths", "adagrad", lambda rate, **_: SGD(0.3 * rate), {"C1", "A12"}),
    ("optax_and_pytorch", "momentum", nn.nesterov, {"X6"}),
    ("optax_and_pytorch", "adagrad", lambda rate, **_: SGD(0.3 * rate), {"X6"}),
    ("optax_and_pytorch", "adam", lambda rate, **_: SGD(0.3 * rate), {"X6"}),
    slow("weight_symmetry", "constant", lambda value: nn.normal(0.1), {"C3"}),
    slow("activation_histograms", "he", nn.xavier, {"C4"}),
    slow("weight_initialization", "he", lambda: nn.normal(0.01), {"C5"}),
    slow("batch_norm", "mlp", without_batch_norm, {"C7"}),
    slow("weight_decay", "l2_penalty", lambda decay: lambda params: jax.numpy.zeros(()), {"C8"}),
    slow("learning_rate", "sgd", lambda rate: SGD(0.001), {"A13"}),
    slow("two_layer_net", "softmax_cross_entropy", lambda z, y: 0.9 * CROSS_ENTROPY(z, y), {"B1", "B2"}),
    slow("gradient_check", "numerical_gradient", times(1.01, nn.numerical_gradient), {"B4"}),
    slow("optimizers_on_mnist", "adagrad", lambda rate: SGD(0.01 * rate), {"C2"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "wrong", "rows"), BROKEN)
def test_a_wrong_formula_fails_a_claim(name, function, wrong, rows, monkeypatch):
    monkeypatch.setattr(f"jaxnn.{function}", wrong)
    jax.clear_caches()  # of what was traced with the right one
    assert rows <= of(name)
