"""Compiled programs that are kept: the second run takes them, and nothing that happens to them changes a number."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from jax._src import compiler as _compiler
from jax.experimental.compilation_cache import compilation_cache
from safetensors.numpy import load_file

import jaxnn.compilation_cache
from jaxnn import cli
from jaxnn.compilation_cache import keep_compiled, total_bytes
from jaxnn.older_jax import unregister

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
QUICK = ["train", "--hidden-sizes", "8", "--batch-norm", "False", "--dropout", "0", "--epochs", "1"]


@pytest.fixture(autouse=True)
def as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {name: jax.config.values[name] for name in SETTINGS}
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def hits():
    """How many programs were taken from the cache."""
    yield from counted("/jax/compilation_cache/cache_hits")


@pytest.fixture
def writes():
    """How many programs were put into the cache."""
    yield from counted("/jax/compilation_cache/cache_misses")


def counted(event):
    heard = []

    def count(name, **_):
        if name == event:
            heard.append(name)

    jax.monitoring.register_event_listener(count)
    yield heard
    unregister(count, "event")


def forget(folder):
    """As a new process begins, with every program worth keeping."""
    jax.clear_caches()
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", None)
    keep_compiled(folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def test_a_second_training_compiles_nothing_and_ends_at_the_same_bits(tmp_path, hits, writes, monkeypatch):
    """With every program kept: which takes a tenth of a second to compile differs from one run to the next."""
    monkeypatch.setattr(jaxnn.compilation_cache, "_SHORTEST", 0.0)
    folder = tmp_path / "compiled"
    kept, ended = [], []
    for run in ("first", "second"):
        hits.clear()
        writes.clear()
        jax.clear_caches()
        compilation_cache.reset_cache()
        assert cli.main([*QUICK, "--out", run], compiled=folder) == 0
        kept.append({path.name for path in folder.rglob("*-cache")})
        ended.append({name: values.tobytes() for name, values in load_file(f"{run}/weights.safetensors").items()})
    assert any(name.startswith("jit_chunk-") for name in kept[0])
    assert kept[0] == kept[1] and not writes
    assert len(hits) >= len(kept[0]) - 1  # but for the program that asks whether anything is taken back
    assert ended[0] == ended[1]


def test_half_a_program_is_compiled_anew_without_a_word_and_whole_again(tmp_path, hits):
    def program(x):
        return jnp.sin(x) * 3

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")  # an error, as in the other tests, would stop JAX
        forget(tmp_path)
        expected = jax.jit(program)(jnp.arange(5.0))
        kept = {path: path.read_bytes() for path in tmp_path.rglob("jit_program*")}
        assert kept
        for path, content in kept.items():  # as a process that was killed while it wrote leaves it
            path.write_bytes(content[: len(content) // 2])
        forget(tmp_path)
        hits.clear()
        np.testing.assert_array_equal(jax.jit(program)(jnp.arange(5.0)), expected)
        assert all(len(path.read_bytes()) > len(content) // 2 for path, content in kept.items())
        taken = len(hits)
        forget(tmp_path)
        np.testing.assert_array_equal(jax.jit(program)(jnp.arange(5.0)), expected)
        assert len(hits) > 2 * taken
    assert not heard


@pytest.mark.parametrize(
    ("arguments", "is_kept"),
    [
        ("train", True),
        ("evaluate run", True),
        ("check-gradients", True),
        ("doctor", True),
        ("models", False),
        ("train --no-compilation-cache", False),
        ("search --no-compilation-cache", False),
        ("train --coordinator localhost:1 --processes 2 --process-id 0", False),
    ],
)
def test_who_keeps_what_was_compiled(arguments, is_kept, monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(cli, "keep_compiled", given.append)
    monkeypatch.setattr(cli, "_run", lambda config, console: 0)
    assert cli.main(arguments.split(), compiled=tmp_path) == 0
    assert given == ([tmp_path] if is_kept else [])
    assert cli.main(arguments.split()) == 0
    assert len(given) == is_kept


def test_what_was_used_longest_ago_makes_room(tmp_path):
    """In the folders of all machines and versions."""
    for number in range(5):
        path = tmp_path / f"jaxlib-0.{number}" / "jit_f-cache"
        path.parent.mkdir()
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - number, 1e9 - number))
    keep_compiled(tmp_path, most=250)
    assert sorted(path.parent.name for path in tmp_path.rglob("jit_f-cache")) == ["jaxlib-0.0", "jaxlib-0.1"]
    folder = Path(jax.config.values["jax_compilation_cache_dir"])
    assert folder.parent == tmp_path and folder.name.startswith(f"jaxlib-{jaxlib.__version__}-")
    assert total_bytes(tmp_path) == 200 + total_bytes(folder)
    assert (folder / "takes-back").read_text() == "yes"


def test_where_nothing_is_taken_back_nothing_is_kept(tmp_path, monkeypatch, capfd):
    """As on a processor whose programs XLA refuses to load again: asked once, and without XLA's words."""

    def refuses(*_):
        os.write(2, b"refused")
        raise RuntimeError("Target machine feature is not supported")

    with monkeypatch.context() as patch:
        patch.setattr(_compiler.compilation_cache, "get_executable_and_time", refuses)
        keep_compiled(tmp_path)
    assert jax.config.values["jax_compilation_cache_dir"] is None
    (verdict,) = tmp_path.rglob("takes-back")
    assert verdict.read_text() == "no"
    keep_compiled(tmp_path)
    assert jax.config.values["jax_compilation_cache_dir"] is None
    assert capfd.readouterr().err == ""


def test_two_processes_begin_at_once(tmp_path):
    """And both keep and take back."""
    script = (
        "import sys; from pathlib import Path; from jaxnn.compilation_cache import *; "
        "keep_compiled(Path(sys.argv[1])); print(kept_in())"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True) for _ in "12"]
    said = {process.communicate()[0] for process in both}
    assert len(said) == 1 and Path(said.pop().strip()).parent == tmp_path


def test_a_folder_that_the_user_chose_stays(tmp_path):
    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    keep_compiled(tmp_path / "compiled")
    assert jax.config.values["jax_compilation_cache_dir"] == "/elsewhere"
    assert not (tmp_path / "compiled").exists()


def test_where_nothing_can_be_written_nothing_is_said(tmp_path):
    (tmp_path / "file").write_text("no folder")
    keep_compiled(tmp_path / "file" / "compiled")
    assert jax.config.values["jax_compilation_cache_dir"] is None


def test_other_warnings_are_heard(tmp_path):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        keep_compiled(tmp_path)
        warnings.warn("something else", stacklevel=1)
        (whole,) = tmp_path.rglob("*-cache")
        name = whole.name.partition("-")[0]
        warnings.warn(f"Error writing persistent compilation cache entry for '{name}': full", stacklevel=1)
        assert whole.exists()
    assert [str(warning.message) for warning in heard] == ["something else"]
