"""Strict numerics for every test and doctest, and the data that several tests use."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import jaxtyping
import pytest
from _pytest.doctest import DoctestModule

# On a GPU each of the two processes would otherwise take most of its memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

# What is spread over devices is tested on more of them than one; without being told, JAX computes on the first.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# A shell that waits for nobody, as in `nohup python -m pytest &`, starts what it starts deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The gate must not be red by chance: there the examples are always the same.
hypothesis.settings.register_profile("gate", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("gate")

# Real data, where someone has put it: in folders `mnist` and `cifar10` of $JAXNN_TEST_DATA or of ../shared/data.
BESIDE = Path(__file__).parents[2] / "shared" / "data"
REAL_DATA = Path(os.environ.get("JAXNN_TEST_DATA", BESIDE))


@pytest.fixture(autouse=True, scope="module")
def forget_programs(request) -> Iterator[None]:
    """What a file's tests have compiled is kept for them alone: otherwise a process grows to 4 GB, and slower.

    A file marked `little_optimized`, and every doctest, spends most of its time in XLA's optimizer and says nothing of
    speed. As users compile are tested: optimizers, layers of images, bits that repeat and, in the gate, the README's
    command and all experiments.
    """
    is_little = isinstance(request.node, DoctestModule) or request.node.get_closest_marker("little_optimized")
    jax.config.update("jax_disable_most_optimizations", bool(is_little))
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    folder = REAL_DATA / "mnist"
    if not folder.is_dir():
        pytest.skip(f"real MNIST is not here: put its IDX files into {folder}, or set JAXNN_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def cifar10_dir(tmp_path_factory) -> Iterator[Path]:
    """A folder with CIFAR-10's binary files: as they are, or decoded from JPEG by a script beside them."""
    import jaxnn as nn

    if nn.data.where(nn.data.find("cifar10"), REAL_DATA):
        yield REAL_DATA
        return
    script = REAL_DATA / "unpack_cifar10.py"
    if not script.is_file():
        pytest.skip(f"real CIFAR-10 is not here: put its binary files into {REAL_DATA / 'cifar10'}")
    folder = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    yield folder
    shutil.rmtree(folder)  # 180 MB, which pytest would keep for three sessions


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


def pytest_make_parametrize_id(val: object) -> str | None:
    # A gzip file holds the second it was made in: processes that share the tests would call them by different names.
    return f"{len(val)} bytes" if isinstance(val, bytes) else None
