"""docs/interop.md: each part of the page runs where its library is installed, and reaches what the page says."""

import os
import re

import jax
import numpy as np
import pytest

from jaxnn import runner
from tests.end_to_end.test_docs import DOCS

os.environ.setdefault("KERAS_BACKEND", "jax")  # Keras looks for TensorFlow otherwise
pytestmark = pytest.mark.little_optimized

PAGE = (DOCS / "interop.md").read_text()
INTRODUCTION, *SECTIONS = re.split(r"^##+ (.*)\n", PAGE, flags=re.MULTILINE)
SECTIONS = dict(zip(SECTIONS[::2], SECTIONS[1::2], strict=True))


def run(text, namespace):
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(compile(block, "interop.md", "exec"), namespace)


@pytest.fixture(scope="module")
def start():
    """What the first lines of the page define."""
    namespace = {}
    run(INTRODUCTION, namespace)
    return namespace


@pytest.fixture(scope="module")
def with_a_convnet(start):
    namespace = dict(start)
    run(SECTIONS["Parameters, and back"], namespace)
    assert namespace["accuracy"](namespace["model"], namespace["result"]) > 0.9
    return namespace


@pytest.mark.slow
@pytest.mark.parametrize("name, package", [("PyTorch", "torch"), ("Keras", "keras")])
def test_weights_out_and_back(name, package, with_a_convnet, capsys, tmp_path, monkeypatch):
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    run(SECTIONS[name], dict(with_a_convnet))
    assert capsys.readouterr().out == f"{name} equal to 1e-5: True\nfrom {name} equal to 1e-5: True\n"


@pytest.mark.slow
def test_optimizers_of_optax(start, capsys):
    run(SECTIONS["Any optimizer of optax"], dict(start))
    said = re.findall(r"(.*) ([\d.]+)\n", capsys.readouterr().out)
    assert [name for name, _ in said] == ["optax.adamw, clipped", "optax.lbfgs"]
    assert all(float(figure) > 0.93 for _, figure in said)


@pytest.mark.parametrize(
    "name, package", [("Equinox", "equinox"), pytest.param("Flax NNX", "flax", marks=pytest.mark.slow)]
)
def test_models_of_others(name, package, start, capsys):
    pytest.importorskip(package)
    namespace = dict(start)
    run(SECTIONS[f"A model of {name}"], namespace)
    assert float(re.fullmatch(rf"{name} ([\d.]+)\n", capsys.readouterr().out)[1]) > 0.94


@pytest.mark.slow
@pytest.mark.parametrize("name, package", [("Equinox", "equinox"), ("Flax NNX", "flax")])
def test_they_are_mapped_over_and_resumed(name, package, start, tmp_path):
    pytest.importorskip(package)
    namespace = dict(start)
    run(SECTIONS[f"A model of {name}"], namespace)
    nn, model, train, scale = (namespace[part] for part in ("nn", "model", "train", "scale"))
    arguments = (model, nn.softmax_cross_entropy, nn.adam(0.005), train)

    def loss_of(key):
        return nn.fit(*arguments, key=key, epochs=2, preprocess=scale).history.loss

    keys = jax.random.split(jax.random.key(0))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        both = jax.vmap(loss_of)(keys)
        np.testing.assert_allclose(both[1], loss_of(keys[1]), rtol=1e-3)
        assert not np.allclose(both[0], both[1], rtol=1e-2)

        def run_to(epochs, **options):
            return runner.train(*arguments, key=keys[0], epochs=epochs, preprocess=scale, **options)

        run_to(1, checkpoints=nn.Checkpoints(tmp_path / "run", resume=True))
        resumed = run_to(2, checkpoints=nn.Checkpoints(tmp_path / "run", resume=True))
        whole = run_to(2)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
