"""The notebook: top to bottom in its quick form, on what there is; and what is committed of it."""

import os
import re
import subprocess
import sys
from importlib import metadata
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
    environment = {
        "JAXNN_QUICK": "1",
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
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
    assert not any(cell.metadata for cell in committed.cells)  # such as the times at which it ran
    assert not re.search(r"/(work|tmp|root|home)/", PATH.read_text())


INSTALLS = """
import subprocess, sys
from pathlib import Path

def say(command, check):
    print(*command[1:], sep="\\n")
    made = Path(command[-1], "installed", "jaxnn")
    made.mkdir(parents=True)
    (made / "__init__.py").write_text("installed = True")
    sys.path.append(str(made.parent))

subprocess.run = say
sys.path = [""] + [path for path in sys.path if not Path(path or ".", "jaxnn").exists()]  # where jaxnn is not yet
exec(Path("cell.py").read_text())
import jaxnn
print(jaxnn.installed)
"""


def install_cell(notebook):
    return next(cell.source for cell in notebook.cells if "def install" in cell.source)


def installs(notebook, folder):
    """What the first cell tells pip, in a folder like a notebook's, with a jaxnn that is nowhere to be imported."""
    (folder / "cell.py").write_text(install_cell(notebook))
    (folder / "try.py").write_text(INSTALLS)
    site = Path(pytest.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.append({str(site)!r}); " + "exec(open('try.py').read())"],
        cwd=folder, capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip


def test_the_install_cell_installs_the_folder_beside_it_and_holds_jax(committed, tmp_path):
    (tmp_path / "jaxnn" / "jaxnn").mkdir(parents=True)
    (tmp_path / "jaxnn" / "jaxnn" / "__init__.py").touch()
    done = installs(committed, tmp_path)
    assert done.returncode == 0, done.stderr
    options = ["-m", "pip", "install", "--quiet", "--constraint", "held.txt"]
    assert done.stdout.split() == [*options, str(tmp_path / "jaxnn"), "True"]
    held = (tmp_path / "held.txt").read_text().split()
    assert {f"jax=={metadata.version('jax')}", f"jaxlib=={metadata.version('jaxlib')}"} <= set(held)
    assert all(line.startswith(("jax==", "jaxlib==", "jax-", "libtpu")) for line in held)


def test_the_install_cell_says_what_is_missing(committed, tmp_path):
    assert "jaxnn is not here: upload or clone its repository" in installs(committed, tmp_path).stderr
    assert not (tmp_path / "held.txt").exists()


COLABS = (
    "ipython==7.34.0", "matplotlib==3.10.0", "numpy==2.0.2", "optax==0.2.8", "pillow==11.3.0", "platformdirs==4.10.0",
    "requests==2.32.4", "rich==13.9.4", "safetensors==0.7.0", "scikit-learn==1.6.1", "scipy==1.16.3",
)  # fmt: skip


@pytest.mark.slow
def test_the_oldest_jax_stays_and_runs_the_whole_notebook(committed, tmp_path):
    """pip itself, beside what Colab's machines had in June 2026: JAX is left alone, and every cell works with it."""
    environment = {
        **os.environ,
        "PIP_NO_CACHE_DIR": "1",
        "JAXNN_QUICK": "1",
        "JAX_PLATFORMS": "cpu",
        "MPLBACKEND": "agg",
    }
    run = lambda *command: subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    (oldest,) = re.findall(r'"jax>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert run(sys.executable, "-m", "venv", "venv").returncode == 0
    python = tmp_path / "venv" / "bin" / "python"
    packages = (f"jax=={oldest}", f"jaxlib=={oldest}", *COLABS)
    assert run(python, "-m", "pip", "install", "-q", *packages).returncode == 0
    (tmp_path / "jaxnn").symlink_to(ROOT)
    cells = [cell.source for cell in committed.cells if cell.cell_type == "code"]
    (tmp_path / "notebook.py").write_text("\n\n".join(cells))
    done = run(python, "notebook.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"jax {oldest} on cpu: cpu\n")
    assert_it_says_what_it_should(done.stdout)
    assert f"jaxlib=={oldest}" in (tmp_path / "held.txt").read_text().split()
    said = run(python, "-c", "import jax, jaxlib, jaxnn; print(jax.__version__, jaxlib.__version__, jaxnn.__file__)")
    assert said.stdout.split()[:2] == [oldest, oldest]
    assert "site-packages" in said.stdout
