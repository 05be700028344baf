"""Every experiment: what its file says, and its quick form under strict numerics; formulas broken on purpose."""

import ast
import dataclasses
import re
from pathlib import Path

import jax
import pytest

import experiments
from experiments.shared.catalogue import NAMES, find
from experiments.shared.experiment import perform
from experiments.shared.images import Place
from experiments.shared.rows import ROWS

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
    assert 50 <= lines <= 260, lines


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_docstring(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    (config,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    kinds = [type(node) for node in config.body[1:]]
    assert kinds[::2] == [ast.AnnAssign] * (len(kinds) // 2)
    assert kinds[1::2] == [ast.Expr] * (len(kinds) // 2)


@pytest.mark.parametrize("name", NAMES)
def test_they_use_what_is_public(name):
    """A reader can copy any line: nothing of jaxnn that begins with an underscore."""
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not re.search(r"\b_", node.module or ""), node.module
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr in ("_replace", "_asdict", "_fields"), node.attr


ALWAYS = ("perceptron", "optimizer_paths", "weight_symmetry")


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


def of(name, key=0, **changes):
    """Claims of the quick form that do not hold, by row."""
    (experiment,) = find([name])
    config = dataclasses.replace(experiment.quick, **changes)
    data = () if experiment.load is None else (experiment.load(Place(quick=True)),)
    outcomes = experiment.run(config, *data, jax.random.key(key))
    return {claim.row for claim in experiment.claims(config, *data, outcomes) if not claim.holds}
