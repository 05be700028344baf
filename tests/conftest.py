"""Strict numerics for every test and doctest, and the data that several tests use."""

import os
from pathlib import Path

import hypothesis
import jax
import jaxtyping
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The gate must not be red by chance: there the examples are always the same.
hypothesis.settings.register_profile("gate", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("gate")

# Real MNIST, where someone has put it: in a folder `mnist` of $JAXNN_TEST_DATA or of ../shared/data.
BESIDE = Path(__file__).parents[2] / "shared" / "data"
REAL_DATA = Path(os.environ.get("JAXNN_TEST_DATA", BESIDE))


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    folder = REAL_DATA / "mnist"
    if not folder.is_dir():
        pytest.skip(f"real MNIST is not here: put its IDX files into {folder}, or set JAXNN_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def digits():
    import jaxnn as nn  # not above: pytest loads this file before jaxtyping has hooked the package

    return nn.data.load("digits")


@pytest.fixture
def types_unchecked():
    """Let wrong types reach jaxnn's own sentences, as they do outside the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
