"""Checkpoints and weights in files: exact, or refused in a sentence."""

import json
import random
import re
import struct
import zipfile

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis.extra import numpy as npst
from safetensors.numpy import load_file, save_file

import jaxnn as nn
from jaxnn import _tensors
from jaxnn.checkpoint import Checkpoint, load_checkpoint, read_about, save_checkpoint
from tests.fuzzing.mutations import BLIND, changed, put

MODEL = nn.mlp([6, 5], 3, batch_norm=True)
OPTIMIZER = optax.chain(optax.clip(1.0), nn.adam(0.01))
BESIDE = {"preprocess": nn.data.MinMax(np.float32(0), np.float32(16))}
ABOUT = {"epoch": 2, "batch": 1, "config": {"name": "tést", "rate": 0.1}}


def state_of(model=MODEL, optimizer=OPTIMIZER, seed=0):
    return nn.init_state(model, optimizer, (4,), jax.random.key(seed))


def checkpoint(seed=0):
    rng = np.random.default_rng(seed)
    history = nn.History(rng.normal(size=7).astype(np.float32), {"accuracy": rng.random(2)}, {"loss": rng.random(2)})
    state = state_of(seed=seed)
    return Checkpoint(state._replace(step=jnp.asarray(7, jnp.int32)), history, BESIDE, ABOUT)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if isinstance(ours, str):
            assert ours == theirs
            continue
        if hasattr(ours, "dtype") and jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
            assert jax.random.key_impl(ours) == jax.random.key_impl(theirs)
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()


def test_what_is_loaded_is_what_was_saved(tmp_path):
    saved = checkpoint()
    save_checkpoint(tmp_path / "c.safetensors", saved)
    shapes = jax.eval_shape(state_of)
    for like in (saved.state, shapes):
        assert_same(load_checkpoint(tmp_path / "c.safetensors", like, BESIDE), saved)
    assert read_about(tmp_path / "c.safetensors") == ABOUT
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_other_programs_can_read_it(tmp_path):
    saved = checkpoint()
    save_checkpoint(tmp_path / "c.safetensors", saved)
    found = load_file(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(found["params/dense2/W"], saved.state.params["dense2"]["W"])
    np.testing.assert_array_equal(found["history/loss"], saved.history.loss)
    assert found["opt_state/1/m/dense1/W"].shape == (4, 6)


@pytest.mark.parametrize(
    "key",
    [jax.random.key(3), jax.random.PRNGKey(3), jax.random.key(3, impl="rbg"), jax.random.key(3, impl="unsafe_rbg")],
)
def test_every_kind_of_key(key, tmp_path):
    saved = checkpoint()
    saved = saved._replace(state=saved.state._replace(key=key))
    save_checkpoint(tmp_path / "c.safetensors", saved)
    assert_same(load_checkpoint(tmp_path / "c.safetensors", saved.state, BESIDE), saved)


def test_a_key_of_another_kind_is_refused(tmp_path):
    saved = checkpoint()
    key = jax.random.key(3, impl="rbg")
    save_checkpoint(tmp_path / "c.safetensors", saved._replace(state=saved.state._replace(key=key)))
    like = saved.state._replace(key=jax.random.key(3, impl="unsafe_rbg"))
    with pytest.raises(ValueError, match="key is a key of rbg in the checkpoint, of unsafe_rbg in this run"):
        load_checkpoint(tmp_path / "c.safetensors", like, BESIDE)


LIKE = state_of()


@pytest.mark.parametrize(
    ("like", "sentence"),
    [
        (
            state_of(nn.mlp([6, 9], 3, batch_norm=True)),
            r"params/batch_norm2/beta is \(5,\) in the checkpoint, \(9,\) in this model; .* and \d+ more differ",
        ),
        (state_of(nn.mlp([6], 3, batch_norm=True)), r"params/dense2/W is \(6, 5\) in the checkpoint, \(6, 3\) in this model; .*differ"),
        (state_of(nn.mlp([6, 5, 4], 3, batch_norm=True)), "params/batch_norm3/beta is only in this model"),
        (state_of(optimizer=nn.sgd(0.1)), "opt_state/1/.* is only in the checkpoint"),
        (LIKE._replace(step=jnp.zeros((), jnp.float32)), r"step is int32\[\] in the checkpoint, float32\[\] in this model"),
        (
            LIKE._replace(params={**LIKE.params, "dense2": {"W": np.zeros((100, 10), np.float32), "b": np.zeros(5, np.float16)}}),
            r"dense2/W is \(6, 5\) in the checkpoint, \(100, 10\) in this model; "
            r"params/dense2/b is float32\[5\] in the checkpoint, float16\[5\] in this model$",
        ),
    ],
)  # fmt: skip
def test_what_differs_is_said_in_words(like, sentence, tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", checkpoint())
    with pytest.raises(ValueError, match=sentence):
        load_checkpoint(tmp_path / "c.safetensors", like, BESIDE)


def swap(rng, content):
    """Exchange the places of two tensors in the header: those of one shape are then each other's."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    by_form = {}
    for name in names:
        by_form.setdefault((header[name]["dtype"], tuple(header[name]["shape"])), []).append(name)
    one, other = rng.sample(rng.choice([group for group in by_form.values() if len(group) > 1]), 2)
    header[one], header[other] = header[other], header[one]
    return pack(header, content[8 + length :]), f"{one} and {other} swapped"


def edit(rng, content):
    """Another word in the header: a name, a dtype, a shape, what is said."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = rng.choice([name for name in header if name != "__metadata__"])
    kind = rng.choice(["rename", "dtype", "shape", "about", "no digest", "drop", "case"])
    if kind == "rename":
        header[f"{name}x"] = header.pop(name)
    elif kind == "case":
        header[name.swapcase()] = header.pop(name)
    elif kind == "dtype":
        header[name]["dtype"] = rng.choice(["F32", "I32", "U32", "F16", "BF16", "F64", "F8_E5M2", "F4", "X"])
    elif kind == "shape":
        header[name]["shape"] = rng.choice(
            [[], [1, *header[name]["shape"]], header[name]["shape"][::-1], [2**40], [-1]]
        )
    elif kind == "about":
        header["__metadata__"]["about"] = header["__metadata__"]["about"].replace("2", "3", 1)
    elif kind == "no digest":
        del header["__metadata__"]["sha256"]
    else:
        del header[name]
    return pack(header, content[8 + length :]), f"{kind} {name}"


def pack(header, rest):
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + rest


def outcome(path):
    """The checkpoint, or why it is refused."""
    try:
        return load_checkpoint(path, LIKE, BESIDE)
    except ValueError as refusal:
        return str(refusal)


def test_a_thousand_damaged_checkpoints_are_refused_or_restored_exactly(tmp_path):
    saved = checkpoint()
    save_checkpoint(tmp_path / "c.safetensors", saved)
    content = (tmp_path / "c.safetensors").read_bytes()
    rng = random.Random(7)
    refused = 0
    for number in range(1000):
        done = []
        kind = rng.random()
        if kind < 0.6:
            damaged = changed(rng, content, BLIND, done)
        else:
            damaged, what = (swap if kind < 0.7 else edit)(rng, content)
            done.append(what)
        path = tmp_path / f"{number}.safetensors"
        done = put(rng, path, damaged, done)
        found = outcome(path)
        if isinstance(found, str):
            refused += 1
            assert found.startswith(str(path)), done
            assert "\n" not in found, done
        else:
            assert_same(found, saved)
        if path.is_symlink() or path.exists():
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert refused > 900


def test_parts_that_are_missing_are_named(tmp_path):
    """Written by jaxnn itself, so with the right checksum."""
    saved = checkpoint()
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, saved)
    tensors, said = _tensors.read_tensors(path.read_bytes(), "c")
    names = [name for name in tensors if not name.startswith("history/")]
    for name in names:
        _tensors.write_tensors(path, {other: values for other, values in tensors.items() if other != name}, said)
        with pytest.raises(ValueError, match=rf"{re.escape(name)} is only in this model"):
            load_checkpoint(path, saved.state, BESIDE)


def test_weights_are_no_checkpoint(tmp_path):
    nn.export(tmp_path / "w.safetensors", LIKE.params)
    with pytest.raises(ValueError, match=r"w\.safetensors: is no checkpoint of version 1"):
        load_checkpoint(tmp_path / "w.safetensors", LIKE)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, checkpoint())
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_tensors.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, checkpoint(seed=1))
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


DTYPES = ["float32", "float16", "bfloat16", "float64", "int8", "uint8", "int32", "uint32", "int64", "bool", "complex64"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.array_shapes(min_dims=0, min_side=0, max_side=4).flatmap(
        lambda shape: st.binary(
            min_size=int(np.prod(shape)) * jnp.dtype(dtype).itemsize, max_size=int(np.prod(shape)) * jnp.dtype(dtype).itemsize
        ).map(
            lambda content: (np.frombuffer(content, np.uint8) & (1 if dtype == "bool" else 255))
            .view(jnp.dtype(dtype))
            .reshape(shape)
        )
    )
)  # fmt: skip
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: "/" not in name and name.isprintable()) | st.just("file")
TREES = st.recursive(
    ARRAYS, lambda tree: st.dictionaries(NAMES, tree, max_size=3) | st.tuples(tree, tree), max_leaves=6
)


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
def test_any_tree_comes_back_to_the_bit(ending, tmp_path):
    path = tmp_path / f"weights.{ending}"

    @hypothesis.given(TREES)
    @hypothesis.settings(max_examples=100, deadline=None)
    def check(tree):
        if ending == "npz" and any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(tree)):
            with pytest.raises(ValueError, match=r"is bfloat16, which NumPy does not know; export to \.safetensors"):
                nn.export(path, tree)
            return
        nn.export(path, tree)
        found = nn.load_weights(path, tree)
        chex.assert_trees_all_equal_structs(found, tree)
        assert_same(found, tree)

    check()


def test_weights_of_other_programs_need_no_checksum(tmp_path):
    params = {"dense1": {"W": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}}
    save_file({"dense1/W": params["dense1"]["W"], "dense1/b": params["dense1"]["b"]}, tmp_path / "w.safetensors")
    np.savez_compressed(tmp_path / "w.npz", **{"dense1/W": params["dense1"]["W"], "dense1/b": params["dense1"]["b"]})
    for name in ("w.safetensors", "w.npz"):
        assert_same(nn.load_weights(tmp_path / name, params), params)


def test_numpy_reads_what_is_exported(tmp_path):
    nn.export(tmp_path / "w.npz", LIKE.params)
    with np.load(tmp_path / "w.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["dense1/W"], LIKE.params["dense1"]["W"])


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W.npy", bytes(10**8))


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: path.write_bytes(b""), "is no .npz archive of arrays, or is damaged"),
        (lambda path: np.savez(path, W=np.array([{}], object)), "is no .npz archive of arrays, or is damaged"),
        (
            lambda path: np.savez(path, W=np.ones((3, 2))),
            r"W is float64\[3, 2\] in the file, float32\[2, 3\] in this model",
        ),
        (lambda path: np.savez(path, V=np.ones((2, 3))), "W is only in this model; V is only in the file"),
        (lambda path: None, "cannot be read"),
        (bomb, "W.npy is larger than any array of this model"),
    ],
)
def test_other_archives_are_refused(write, sentence, tmp_path):
    write(tmp_path / "w.npz")
    with pytest.raises(ValueError, match=sentence) as refusal:
        nn.load_weights(tmp_path / "w.npz", {"W": np.ones((2, 3), np.float32)})
    assert "\n" not in str(refusal.value)


def test_names_that_would_be_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two leaves would both be named 'a/b'"):
        nn.export(tmp_path / "w.safetensors", {"a/b": np.ones(1), "a": {"b": np.ones(1)}})
    with pytest.raises(ValueError, match=r"weights are kept in files that end in \.safetensors or \.npz"):
        nn.export(tmp_path / "w.pkl", {"a": np.ones(1)})
    with pytest.raises(ValueError, match="W is of dtype int4, for which safetensors has no form"):
        nn.export(tmp_path / "w.safetensors", {"W": jnp.ones(2, jnp.int4)})
    assert list(tmp_path.iterdir()) == []
