"""Every code block of the README runs as it is written."""

import re
import shlex
from pathlib import Path

import jax
import matplotlib
import numpy as np
import pytest
from PIL import Image

from jaxnn import cli

matplotlib.use("Agg")
pytestmark = pytest.mark.little_optimized

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL_LINES = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]


SCRIPTS = dict(
    zip(("own", "audit", "sweep", "runner"), (code for language, code in BLOCKS if language == "python"), strict=True)
)


def run(name):
    """As it would run in a file of its own."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        namespace = {}
        exec(compile(SCRIPTS[name], "README.md", "exec"), namespace)
    return namespace


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_there_is_nothing_that_no_test_runs():
    assert {language for language, _ in BLOCKS} == {"sh", "python", "text"}
    for line in SHELL_LINES:
        assert line.startswith(("jaxnn ", "python -m pip install", "python -m experiments")), line


@pytest.mark.parametrize("name", ["own", "audit", "sweep"])
def test_the_three_scripts_are_as_short_as_promised(name):
    assert len(SCRIPTS[name].splitlines()) < 25


def test_a_model_a_loss_and_an_optimizer_of_ones_own(capsys):
    run("own")
    said = capsys.readouterr().out
    assert float(re.search(r"test: \{'accuracy': Array\(([\d.]+)", said)[1]) > 0.96
    assert "'residual1': {'W': (64, 64), 'gain': (64,)}" in said


def test_a_gradient_audited(capsys):
    run("audit")
    printed = capsys.readouterr().out
    (shown,) = (block for language, block in BLOCKS if language == "text")
    # Each entry is 20 times too large, so that rounding says which is the worst.
    for ours, theirs in zip(printed.splitlines(), shown.splitlines(), strict=True):
        if " WRONG (" not in ours:
            assert re.sub(r"to \S+,", "", ours).split() == re.sub(r"to \S+,", "", theirs).split()
            continue
        numerical, analytic = map(float, re.findall(r"-?\d+\.\d{3,}", ours))
        np.testing.assert_allclose(analytic, 20 * numerical, rtol=1e-6)
        assert re.sub(r"\[.*\]  +\S+ +\S+", "", ours).split() == re.sub(r"\[.*\]  +\S+ +\S+", "", theirs).split()


def test_rates_and_seeds_at_once_and_a_plot(capsys, tmp_path):
    found = run("sweep")["found"]
    assert found.outcomes.loss.shape == (16, 4, 120)
    assert found.best("validation/accuracy").value > 0.9
    assert "best: {'learning_rate': 0." in capsys.readouterr().out
    with Image.open(tmp_path / "sweep.png") as drawn, Image.open(ROOT / "docs" / "assets" / "sweep.png") as committed:
        assert drawn.size == committed.size
        # The same points, but for what other rounding moves.
        difference = np.abs(np.asarray(drawn.convert("L"), int) - np.asarray(committed.convert("L"), int))
        assert (difference > 60).mean() < 0.01


def test_nothing_lost(tmp_path):
    run("runner")
    assert (tmp_path / "runs" / "mine" / "step-00000036.safetensors").exists()


@pytest.mark.parametrize("all_of_them", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_jaxnn_lines(all_of_them, tmp_path, capsys):
    lines = [line.split("&& ")[-1] for line in SHELL_LINES]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("jaxnn ")]
    commands.remove(["train"])  # which the gate runs
    commands.remove(["doctor"])
    assert cli.main(["doctor"]) in (0, 1)  # 1 where the machine or its jaxlib has a fault
    assert "devices" in capsys.readouterr().out
    if not all_of_them:
        commands = [command for command in commands if command[0] not in ("search", "check-gradients")]
    for command in commands:
        assert cli.main(command) == 0, command
    said = capsys.readouterr().out
    assert "test accuracy: 0.9" in said
    assert (tmp_path / "runs" / "relu" / "curves.png").exists()


@pytest.mark.parametrize("name", re.findall(r"`(\w+\.py)`", README))
def test_the_files_it_names_exist(name):
    assert [path for folder in ("jaxnn", "experiments") for path in (ROOT / folder).rglob(name)]
