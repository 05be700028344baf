"""Every code block of the README runs as it is written."""

import re
import shlex
from pathlib import Path

import jax
import pytest

from jaxnn import cli

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL_LINES = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]


def test_there_is_nothing_that_no_test_runs():
    assert {language for language, _ in BLOCKS} == {"sh", "python"}
    for line in SHELL_LINES:
        assert line.startswith(("jaxnn ", "python -m pip install", "python -m experiments")), line


def test_the_python_blocks(capsys, tmp_path, monkeypatch):
    """One after the other, as a reader would: the second goes on from the first."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for language, block in BLOCKS:
            if language == "python":
                exec(compile(block, "README.md", "exec"), namespace)
    said = capsys.readouterr().out
    accuracy = float(re.search(r"test: \{'accuracy': Array\(([\d.]+)", said)[1])
    assert accuracy >= 0.95
    assert namespace["found"].outcomes.loss.shape == (8, 3, 120)
    assert float(re.search(r"convolution: ([\d.]+)", said)[1]) > 0.9
    assert "the gradient is right: 450 of 3,750 entries checked" in said
    assert namespace["found"].best("validation/accuracy").value > 0.9
    assert (tmp_path / "runs" / "mine" / "step-00000036.safetensors").exists()


def test_the_script_and_the_sweep_are_as_short_as_promised():
    script, sweep, *_ = (block.strip().splitlines() for language, block in BLOCKS if language == "python")
    assert len([line for line in script if line]) <= 10
    assert len([line for line in sweep if line and not line.startswith("print")]) <= 4


@pytest.mark.parametrize("all_of_them", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_jaxnn_lines(all_of_them, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [line.split("&& ")[-1] for line in SHELL_LINES]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("jaxnn ")]
    commands.remove(["train"])  # which the gate runs
    if not all_of_them:
        commands = [command for command in commands if command[0] not in ("search", "check-gradients")]
    for command in commands:
        assert cli.main(command) == 0, command
    said = capsys.readouterr().out
    assert "test accuracy: 0.9" in said
    assert (tmp_path / "runs" / "relu" / "curves.png").exists()


@pytest.mark.parametrize("name", re.findall(r"`(\w+\.py)`", README))
def test_the_files_it_names_exist(name):
    root = Path(__file__).parents[2]
    assert [path for folder in ("jaxnn", "experiments") for path in (root / folder).rglob(name)]
