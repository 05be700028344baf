"""docs/: the code of the pages runs, and prints what they say it prints."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxnn import cli

pytestmark = pytest.mark.little_optimized

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page):
    return re.findall(r"```(\w+)\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def run(page, namespace):
    """One block after the other, as a reader would."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for language, block in blocks(page):
            if language == "python":
                exec(compile(block, page, "exec"), namespace)


def test_the_page_on_gradients(capsys):
    namespace = {}
    run("gradients.md", namespace)
    printed, loss = capsys.readouterr().out.split("loss after 20 steps: ")
    (shown,) = (block for language, block in blocks("gradients.md") if language == "text")
    # Errors are rounding, and which is the largest differs from machine to machine; the rest does not.
    ends = lambda table: [(*line.split()[:2], line.split()[-1]) for line in table.strip().splitlines()]
    assert ends(printed) == ends(shown)
    assert namespace["report"].ok
    assert float(loss) < 0.5 * namespace["report"].value


@pytest.mark.slow
def test_the_page_on_data(capsys):
    run("data.md", {})
    said = capsys.readouterr().out
    assert float(re.search(r"validation accuracy ([\d.]+)", said)[1]) > 0.85
    assert "(10,) (88, 10)" in said
    assert "(58, 8, 8, 1) is the last batch" in said
    assert float(re.search(r"after 2 epochs ([\d.]+)", said)[1]) > 0.6


def test_the_page_on_reliability(capsys):
    run("reliability.md", {})
    said = capsys.readouterr().out
    assert re.search(r"2 5 60 \['best-\d{8}\.safetensors'(, 'step-\d{8}\.safetensors'){2}\]", said)
    assert "same weights: True" in said
    assert re.search(r"the loss (became|is) \S+ at step \d \(epoch 1 of 10\): .*dense", said)


@pytest.mark.slow
def test_the_page_on_sweeps(capsys):
    namespace = {}
    run("sweeps.md", namespace)
    said = capsys.readouterr().out
    assert "{'learning_rate': 0.3, 'weight_decay': " in said
    assert "4 runs diverged" in said
    assert "(4, 1, 12) 2 programs" in said
    first, last = namespace["search"].spaces[0]["learning_rate"], namespace["search"].spaces[-1]["learning_rate"]
    assert last.high / last.low < 0.1 * first.high / first.low
    assert namespace["search"].best.value > 0.85
    assert "4 of 16 trained to the end" in said


def commands(page):
    """The lines for a shell, without what is said of them."""
    lines = "".join(block for language, block in blocks(page) if language == "sh").splitlines()
    return [line.split(" #")[0].strip() for line in lines]


@pytest.mark.slow
def test_the_commands_on_the_page_on_reliability(tmp_path, monkeypatch, capsys):
    """With digits and a small network instead of MNIST and a large one."""
    monkeypatch.chdir(tmp_path)
    small = {"--dataset mnist --model convnet": "--hidden-sizes 8 --epochs 2", "mnist-convnet-001": "digits-mlp-001"}
    for line in commands("reliability.md"):
        for large, instead in small.items():
            line = line.replace(large, instead)
        status = cli.main(shlex.split(line)[1:])
        assert status == (1 if " diff " in line else 0), line  # two seeds part
    assert "part at step 1" in capsys.readouterr().out
    assert (tmp_path / "weights.npz").exists()


@pytest.mark.slow
def test_the_commands_on_the_page_on_other_libraries(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    train, export, look = commands("interop.md")
    assert cli.main(shlex.split(train)[1:]) == 0
    capsys.readouterr()
    export, _, file = export.partition(" > ")
    assert cli.main(shlex.split(export)[1:]) == 0
    (tmp_path / file).write_text(capsys.readouterr().out)
    said = subprocess.run([sys.executable, *shlex.split(look)[1:]], capture_output=True, text=True, check=True).stdout
    assert "(dense1): Linear(in_features=64, out_features=200, bias=True)" in said
