"""`jaxnn doctor`: what it measures is so, and each thing that can be wrong is said with what would mend it."""

import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import cli, doctor_command
from jaxnn.doctor_command import Findings, Products, faults

FOLDER = Path(__file__).parent
WELL = Findings(
    versions={"python": "3.12.1", "jaxnn": "0.1.0", "jax": "0.10.2", "jaxlib": "0.10.2"},
    plugins={},
    missing=(),
    processor="some CPU",
    cores=8,
    quota=None,
    devices=("cpu: cpu",),
    nvidia=False,
    free_bytes=8 * 2**30,
    host_free_bytes=8 * 2**30,
    products={"float32": Products(1e11, 1e-7), "bfloat16": Products(5e10, 4e-3)},
    compiled="/cache/compiled",
    compiled_bytes=1000,
    wrong_programs=(),
    environment={},
)
CUDA = {"jax-cuda13-plugin": "0.10.2"}
GPU = {"devices": ("gpu: NVIDIA H100",), "nvidia": True, "plugins": CUDA}


@pytest.mark.parametrize(
    ("changed", "sentences"),
    [
        ({}, []),
        (GPU, []),
        ({"nvidia": True}, ['an NVIDIA GPU, and JAX computes on the CPU: install JAX for it: python -m pip install "jax[cuda13]"']),
        ({"nvidia": True, "plugins": CUDA}, ["its driver may be older than that package needs"]),
        ({"nvidia": True, "environment": {"JAX_PLATFORMS": "cpu"}}, []),
        ({"nvidia": True, "environment": {"CUDA_VISIBLE_DEVICES": ""}}, []),
        ({"wrong_programs": ("jnp.arctan",)}, ["jaxlib 0.10.2 compiles jnp.arctan wrongly here: install another version"]),
        (GPU | {"plugins": {"jax-cuda13-plugin": "0.9.0"}}, ["jax-cuda13-plugin 0.9.0 and jaxlib 0.10.2 do not belong together"]),
        ({"quota": 2.0}, ["a container allows 2 cores' worth of time, and 8 are visible"]),
        ({"quota": 8.0}, []),
        ({"host_free_bytes": 2**29}, ["only 537 MB of memory are free: something else holds the rest"]),
        ({"products": {"float32": Products(1e11, 0.5)}}, ["products in float32 are wrong by 0.5 of the largest entry"]),
        ({"compiled": None}, []),
        ({"environment": {"JAX_DISABLE_JIT": "1"}}, ["JAX_DISABLE_JIT is set: nothing is compiled, which is slow"]),
        ({"environment": {"JAX_ENABLE_X64": "false"}}, []),
        ({"environment": {"JAXNN_DATA": "/no/where"}}, ["JAXNN_DATA is /no/where, which is no folder"]),
        ({"environment": {"JAXNN_DATA": str(FOLDER)}}, []),
        ({"quota": 1.0, "environment": {"JAX_DEBUG_NANS": "True"}}, ["a container allows 1 cores'", "every operation waits"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(changed, sentences):
    said = faults(replace(WELL, **changed))
    assert len(said) == len(sentences)
    for sentence, part in zip(said, sentences, strict=True):
        assert part in sentence


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor_command, "_SIZE", 128)
    monkeypatch.setattr(doctor_command, "_SECONDS", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("JAXNN_DATA", "JAX_PLATFORMS", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_it_looks_at_this_machine(small, capsys, monkeypatch):
    (small / "compiled").mkdir()
    (small / "compiled" / "jit_f-cache").write_bytes(bytes(1234))
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(small / "compiled"))
    monkeypatch.setenv("JAXNN_DATA", str(small))
    try:
        status = cli.main(["doctor", "--json"])
        found = json.loads(capsys.readouterr().out)
        cli.main(["doctor"])
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert status == (1 if found["wrong"] else 0)
    assert found["versions"]["jax"] == jax.__version__ == metadata.version("jax")
    assert len(found["devices"]) == jax.device_count()
    assert found["compiled_bytes"] >= 1234 and found["compiled"] == str(small / "compiled")
    assert found["environment"]["JAXNN_DATA"] == str(small)
    # TF32 on a GPU has 11 bits where float32 has 24.
    most = 1e-5 if jax.default_backend() == "cpu" else 1e-2
    assert found["products"]["float32"]["error"] < most
    assert 1e-3 < found["products"]["bfloat16"]["error"] < 2e-2
    said = capsys.readouterr().out
    assert f"jax {jax.__version__}" in said and f"of 268 MB at most, in {small / 'compiled'}" in said
    assert ("all is well" in said) == (not found["wrong"])


def test_what_some_versions_compile_wrongly(small, monkeypatch, capsys):
    """It is asked of this version; and said of one whose arctan were off by a hundredth."""
    arctan = jnp.arctan
    monkeypatch.setattr(jnp, "arctan", lambda x: 1.01 * arctan(x))
    assert cli.main(["doctor"]) == 1
    assert "compiles jnp.arctan (jax issue 39352) wrongly here" in capsys.readouterr().out
    products, _ = doctor_command._PROGRAMS.values()
    numbers = np.arange(32_769, dtype=np.float32)
    rows = jnp.stack([numbers, 0 * numbers, 0 * numbers], axis=1)
    squares = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)
    assert products() == bool(np.abs(np.asarray(squares, np.float64) - np.arange(32_769.0) ** 2).max() < 1e5)


def test_half_a_package_is_no_end(small, monkeypatch, capsys):
    """What an interrupted removal leaves has no name."""
    nameless = metadata.PathDistribution(small / "gone.dist-info")
    distributions = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda: [nameless, *distributions()])
    cli.main(["doctor"])
    assert "devices" in capsys.readouterr().out


def test_a_wrong_product_is_found(small, monkeypatch, capsys):
    monkeypatch.setattr(jnp, "asarray", lambda values, dtype=None, asarray=jnp.asarray: asarray(values, dtype) * 1.1)
    assert cli.main(["doctor"]) == 1
    assert "products in float32 are wrong by 0.2 of the largest entry" in capsys.readouterr().out


@pytest.mark.parametrize(("content", "quota"), [("max 100000", None), ("150000 100000", 1.5), ("", None)])
def test_what_a_container_allows(content, quota, tmp_path):
    (tmp_path / "cpu.max").write_text(content)
    assert doctor_command._quota(tmp_path / "cpu.max") == quota
    assert doctor_command._quota(tmp_path / "nothing") is None
