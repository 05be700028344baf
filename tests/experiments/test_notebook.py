"""The notebook: top to bottom in its quick form, on what there is; and what is committed of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATH = ROOT / "experiments" / "colab.ipynb"

nbformat = pytest.importorskip("nbformat")


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(PATH, as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text_of(notebook):
    return "".join(output.get("text", "") for output in outputs(notebook))


def assert_it_says_what_it_should(said):
    assert re.search(r"jax \S+ on \w+: ", said)
    assert re.search(r"test accuracy: 0\.\d{4} on \S+ images it has never seen", said)
    rate, accuracy = re.search(r"best: learning rate (\S+) reads ([\d.]+) of the validation data", said).groups()
    assert 0.05 < float(rate) < 2 and float(accuracy) > 0.9
    assert "the gradient is right: 24 of 24 entries checked" in said
    assert "the gradient of W1 is WRONG" in said
    assert re.search(r"stopped by Ctrl-C after epoch [23], saved at step (50|75)\n", said)
    assert "went on to epoch 6; the same bits as a run that nobody interrupted: True" in said


def test_it_runs_from_top_to_bottom(committed, tmp_path):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    environment = {"JAXNN_QUICK": "1", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        notebook = nbformat.from_dict(committed)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = []
        nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    assert_it_says_what_it_should(text_of(notebook))
    assert {output.output_type for output in outputs(notebook)} == {"stream", "display_data"}
    assert not (tmp_path / "held.txt").exists()  # jaxnn was there: nothing was installed
    figures = [output.data["image/png"] for output in outputs(notebook) if output.output_type == "display_data"]
    assert len(figures) == 1 and len(figures[0]) > 5000


def test_what_is_committed_is_whole_and_small(committed):
    nbformat.validate(committed)
    assert PATH.stat().st_size < 100_000
    assert_it_says_what_it_should(text_of(committed))
    counts = [cell.execution_count for cell in committed.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert {output.get("name", "stdout") for output in outputs(committed)} == {"stdout"}
    assert not re.search(r"/(work|tmp|root|home)/", PATH.read_text())


def test_the_install_cell_holds_jax_as_it_is(committed, tmp_path, monkeypatch):
    """In place of pip stands what it would be told."""
    from importlib import metadata

    monkeypatch.chdir(tmp_path)
    (tmp_path / "jaxnn" / "jaxnn").mkdir(parents=True)
    (tmp_path / "jaxnn" / "jaxnn" / "__init__.py").touch()
    told = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: told.append(command))
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    cell = next(cell for cell in committed.cells if "def install" in cell.source)
    exec(compile(cell.source, "install", "exec"), {})
    (command,) = told
    assert command == [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", "held.txt", "jaxnn"]
    held = Path("held.txt").read_text().split()
    assert {f"jax=={metadata.version('jax')}", f"jaxlib=={metadata.version('jaxlib')}"} <= set(held)
    assert all(line.startswith(("jax==", "jaxlib==", "jax-", "libtpu")) for line in held)


@pytest.mark.slow
def test_what_is_held_no_install_changes(tmp_path):
    """pip itself, on an environment with an older jax than there is: it refuses, or leaves jax alone."""
    environment = {**os.environ, "PIP_NO_CACHE_DIR": "1"}
    run = lambda *command: subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run(sys.executable, "-m", "venv", "venv").returncode == 0
    python = tmp_path / "venv" / "bin" / "python"
    assert run(python, "-m", "pip", "install", "-q", "jax==0.10.0", "jaxlib==0.10.0").returncode == 0
    source = next(cell.source for cell in nbformat.read(PATH, 4).cells if "def install" in cell.source)
    script = source.partition("if importlib")[0] + f"install({str(ROOT)!r})\n"
    done = run(python, "-c", script)
    assert done.returncode == 0, done.stderr
    said = run(python, "-c", "import jax, jaxlib, jaxnn; print(jax.__version__, jaxlib.__version__, jaxnn.relu)")
    assert said.stdout.startswith("0.10.0 0.10.0 <"), said.stderr
