"""`jaxnn doctor`: what it measures is so, and each thing that can be wrong is said with what would mend it."""

import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
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
        ({"versions": WELL.versions | {"jaxlib": "0.9.1"}}, ["jax 0.10.2 and jaxlib 0.9.1 do not belong together"]),
        ({"versions": WELL.versions | {"jaxlib": "0.10.1"}}, []),
        (GPU | {"plugins": {"jax-cuda13-plugin": "0.9.0"}}, ["jax-cuda13-plugin 0.9.0 and jaxlib 0.10.2 do not belong together"]),
        ({"quota": 2.0}, ["a container allows 2 cores' worth of time, and 8 are visible"]),
        ({"quota": 8.0}, []),
        ({"free_bytes": 2**29, "host_free_bytes": 2**29}, ["the host has only 537 MB of memory free"]),
        (GPU | {"free_bytes": 2**29}, ["the first device (gpu) has only 537 MB of memory free: something else holds the rest"]),
        ({"products": {"float32": Products(1e11, 0.5)}}, ["products in float32 are wrong by 0.5 of the largest entry"]),
        ({"compiled_bytes": None}, ["/cache/compiled cannot be written: every command compiles anew"]),
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
    (small / "jaxnn" / "compiled").mkdir(parents=True)
    (small / "jaxnn" / "compiled" / "jit_f-cache").write_bytes(bytes(1234))
    monkeypatch.setenv("JAXNN_DATA", str(small))
    status = cli.main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert status == (1 if found["wrong"] else 0)
    assert found["versions"]["jax"] == jax.__version__ == metadata.version("jax")
    assert len(found["devices"]) == jax.device_count()
    assert found["compiled_bytes"] == 1234 and found["compiled"] == str(small / "jaxnn" / "compiled")
    assert found["environment"]["JAXNN_DATA"] == str(small)
    assert found["products"]["float32"]["error"] < 1e-5 < 1e-3 < found["products"]["bfloat16"]["error"] < 2e-2
    cli.main(["doctor"])
    said = capsys.readouterr().out
    assert f"jax {jax.__version__}" in said and "1.23 KB of 268 MB at most" in said
    assert ("all is well" in said) == (not found["wrong"])


def test_a_wrong_product_is_found(small, monkeypatch, capsys):
    monkeypatch.setattr(jnp, "asarray", lambda values, dtype, asarray=jnp.asarray: asarray(values, dtype) * 1.1)
    assert cli.main(["doctor"]) == 1
    assert "wrong   products in float32 are wrong by 0.2 of the largest entry" in capsys.readouterr().out


@pytest.mark.parametrize(("content", "quota"), [("max 100000", None), ("150000 100000", 1.5), ("", None)])
def test_what_a_container_allows(content, quota, tmp_path):
    (tmp_path / "cpu.max").write_text(content)
    assert doctor_command._quota(tmp_path / "cpu.max") == quota
    assert doctor_command._quota(tmp_path / "nothing") is None
