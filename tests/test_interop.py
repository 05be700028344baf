"""Weights out to PyTorch and Keras and back: names and layouts by a reference in NumPy, outputs by the libraries."""

import contextlib
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxnn as nn
from jaxnn import cli
from jaxnn.data_options import load_data
from jaxnn.peer_source import NETWORKS
from jaxnn.presets import PRESETS
from jaxnn.trained import load_trained

pytestmark = pytest.mark.little_optimized

os.environ.setdefault("KERAS_BACKEND", "jax")  # Keras looks for TensorFlow otherwise
HEIGHT, WIDTH, CHANNELS = IMAGE = (8, 6, 3)
SMALL = functools.partial(nn.mlp, [5], outputs=4)


def shapes_of(model, input_shape):
    return jax.eval_shape(lambda key: model.init(key, input_shape)[:2], jax.random.key(0))


def network(model, input_shape, batches=0):
    """Random params, and the moments after so many batches."""
    params, model_state, _ = model.init(jax.random.key(0), input_shape)
    x = jax.random.normal(jax.random.key(1), (7, *input_shape))
    for batch in range(batches):
        scaled = (1.0 + batch) * x + 3.0
        _, model_state = model.apply(params, model_state, scaled, training=True, key=jax.random.key(2))
    return params, model_state


# What other libraries' arrays must be


def test_torch_flattens_channels_first():
    params, _ = network(SMALL(), IMAGE)
    tensors = nn.to_layout("torch", params, {}, IMAGE)
    W = np.asarray(params["dense1"]["W"])
    x = np.random.default_rng(0).normal(size=(3, *IMAGE)).astype(np.float32)
    channels_first = np.stack([image.transpose(2, 0, 1).ravel() for image in x])
    np.testing.assert_allclose(channels_first @ tensors["dense1.weight"].T, x.reshape(3, -1) @ W, atol=1e-5)
    np.testing.assert_array_equal(tensors["dense2.weight"].T, params["dense2"]["W"])
    as_vectors = nn.to_layout("torch", params, {}, (HEIGHT * WIDTH * CHANNELS,))
    np.testing.assert_array_equal(as_vectors["dense1.weight"].T, W)


def test_keras_has_our_axes_under_its_names():
    params, model_state = network(nn.convnet(3, blocks=[[4]]), IMAGE, batches=1)
    tensors = nn.to_layout("keras", params, model_state, IMAGE)
    assert tensors.keys() == {
        "conv1/kernel", "batch_norm1/gamma", "batch_norm1/beta", "batch_norm1/moving_mean",
        "batch_norm1/moving_variance", "dense1/kernel", "dense1/bias",
    }  # fmt: skip
    for theirs, (layer, ours) in {"conv1/kernel": ("conv1", "W"), "dense1/kernel": ("dense1", "W")}.items():
        np.testing.assert_array_equal(tensors[theirs], params[layer][ours])


def test_a_kernel_by_its_indices():
    params, _ = network(nn.simple_convnet(3, filters=4, filter_size=(3, 2), hidden_size=5), IMAGE)
    tensors = nn.to_layout("torch", params, {}, IMAGE)
    assert tensors["conv1.weight"].shape == (4, CHANNELS, 3, 2)
    for o, c, i, j in np.ndindex(4, CHANNELS, 3, 2):
        assert tensors["conv1.weight"][o, c, i, j] == params["conv1"]["W"][i, j, c, o]
    # The pooled image is [3, 2, 4].
    for i, j, c in np.ndindex(3, 2, 4):
        ours, theirs = (i * 2 + j) * 4 + c, (c * 3 + i) * 2 + j
        np.testing.assert_array_equal(tensors["dense1.weight"][:, theirs], params["dense1"]["W"][ours])


def test_the_last_convolution_is_the_tenth():
    """JAX sorts the names of a dict: conv10 before conv2."""
    W = {f"conv{layer}": {"W": np.zeros((1, 1, 2 + layer, 3 + layer))} for layer in range(1, 11)}
    params = {**dict(sorted(W.items())), "dense1": {"W": np.arange(52.0).reshape(26, 2), "b": np.zeros(2)}}
    assert list(params)[:2] == ["conv1", "conv10"]
    W = nn.to_layout("torch", params, {}, (1, 2, 3))["dense1.weight"]
    np.testing.assert_array_equal(W[:, 1], params["dense1"]["W"][13])


@pytest.mark.parametrize("momentum", [0.9, 0.5])
@pytest.mark.parametrize("batches", [1, 3])
def test_moments_need_no_correction_there(momentum, batches):
    model = nn.sequential(nn.batch_norm(momentum, eps=1e-3))
    params, model_state = network(model, (4,), batches)
    tensors = nn.to_layout("torch", params, model_state, (4,), momentum=momentum)
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    y = (x - tensors["batch_norm1.running_mean"]) / np.sqrt(tensors["batch_norm1.running_var"] + 1e-3)
    np.testing.assert_allclose(y, model.apply(params, model_state, jnp.asarray(x))[0], rtol=1e-5, atol=1e-6)
    assert tensors["batch_norm1.num_batches_tracked"] == batches
    wrong = nn.to_layout("torch", params, model_state, (4,), momentum=0.8)
    assert not np.allclose(wrong["batch_norm1.running_mean"], tensors["batch_norm1.running_mean"], rtol=0.01)


# Out and back


@pytest.mark.parametrize("layout", ["torch", "keras"])
@pytest.mark.parametrize(
    "model, input_shape",
    [
        (SMALL(), (7,)),
        (SMALL(batch_norm=True), IMAGE),
        (nn.simple_convnet(3, filters=4, filter_size=3, hidden_size=5), IMAGE),
        (nn.convnet(3, blocks=[[4, 2], [5]]), IMAGE),
    ],
    ids=["vectors", "images", "simple_convnet", "convnet"],
)
def test_out_and_back_is_the_same_bits(layout, model, input_shape):
    params, model_state = network(model, input_shape)
    settled = jax.tree.map(lambda leaf: leaf + jnp.asarray(0.3 if leaf.ndim else 200, leaf.dtype), model_state)
    for state in (model_state, settled):
        tensors = nn.to_layout(layout, params, state, input_shape)
        back = nn.from_layout(layout, tensors, shapes_of(model, input_shape), input_shape)
        if layout == "keras" and state is settled:  # which keeps no count
            for name in state:
                assert back[1][name].pop("count") >= 165
                state[name].pop("count")
        jax.tree.map(np.testing.assert_array_equal, back, (params, state))
        assert jax.tree.structure(back) == jax.tree.structure((params, state))


@pytest.mark.parametrize("layout", ["torch", "keras"])
def test_moments_of_few_batches_come_back(layout):
    model = SMALL(batch_norm=True)
    params, model_state = network(model, IMAGE, batches=2)
    tensors = nn.to_layout(layout, params, model_state, IMAGE)
    back = nn.from_layout(layout, tensors, (params, model_state), IMAGE)
    x = jax.random.normal(jax.random.key(3), (5, *IMAGE))
    np.testing.assert_allclose(model.apply(*back, x)[0], model.apply(params, model_state, x)[0], rtol=1e-5, atol=1e-6)
    if layout == "torch":
        jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=3e-7), back[1], model_state)


def test_bfloat16_through_a_file(tmp_path):
    params, _ = network(SMALL(), IMAGE)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    nn.export(tmp_path / "w.safetensors", nn.to_layout("torch", params, {}, IMAGE))
    back, _ = nn.from_layout("torch", load_file(tmp_path / "w.safetensors"), (params, {}), IMAGE)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_other_networks_are_refused():
    params, model_state = network(SMALL(batch_norm=True), IMAGE, batches=1)
    like = shapes_of(SMALL(batch_norm=True), IMAGE)
    tensors = nn.to_layout("torch", params, model_state, IMAGE)
    for change, sentence in {
        "missing": "the torch layout: dense2.bias is only in this model",
        "extra": "the torch layout: dense3.weight is only in the tensors",
        "shape": r"the torch layout: dense1.weight is \(5, 143\) in the tensors, \(5, 144\) in this model",
        "dtype": r"dense2.bias is float16\[4\] in the tensors, float32\[4\] in this model",
    }.items():
        changed = dict(tensors)
        match change:
            case "missing":
                del changed["dense2.bias"]
            case "extra":
                changed["dense3.weight"] = tensors["dense2.weight"]
            case "shape":
                changed["dense1.weight"] = tensors["dense1.weight"][:, 1:]
            case "dtype":
                changed["dense2.bias"] = tensors["dense2.bias"].astype(np.float16)
        with pytest.raises(ValueError, match=sentence):
            nn.from_layout("torch", changed, like, IMAGE)


# The lines that jaxnn export prints, in the libraries themselves


RUNS = {
    "mlp": ["--dataset", "{colour}", "--hidden-sizes", "20", "9"],
    "two-layer-net": ["--model", "two-layer-net", "--dataset", "{colour}", "--scaling", "standardize"],
    "simple-convnet": ["--model", "simple-convnet", "--dataset", "{colour}", "--filter-size", "3", "--padding", "1", "--stride", "2", "--filters", "5"],
    "convnet": ["--model", "convnet", "--dataset", "{colour}", "--filters", "6", "--activation", "leaky_relu"],
    "table": ["--dataset", "diabetes", "--activation", "tanh", "--hidden-sizes", "10"],
}  # fmt: skip
LONG = ("two-layer-net", "simple-convnet", "table")


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory, digits):
    """A function: a run by its name. The images are digits in three colours, cut to 8 x 6."""
    folder = tmp_path_factory.mktemp("runs")
    x, y = digits.train
    colours = np.concatenate([x, x[:, ::-1], x[:, :, ::-1]], axis=3)
    np.savez(folder / "colour.npz", x=colours[:400, :, 1:7], y=y[:400])

    @functools.cache
    def train(name):
        words = [word.format(colour=folder / "colour.npz") for word in RUNS[name]]
        with promoting():
            assert cli.main(["train", *words, "--epochs", "2", "--batch-size", "50", "--out", str(folder / name)]) == 0
        return folder / name

    return train


@pytest.fixture
def exported(trained_run, tmp_path, monkeypatch, capsys):
    """A function: a run, its test images, and what the lines define that the command prints for it."""
    monkeypatch.chdir(tmp_path)

    def export(name, layout):
        pytest.importorskip(layout)
        folder = trained_run(name)
        capsys.readouterr()
        assert cli.main(["export", str(folder), "w.safetensors", "--layout", layout]) == 0
        printed = compile(capsys.readouterr().out, "printed", "exec")
        namespace = {}
        with promoting():
            exec(printed, namespace)
        run, trained = load_trained(folder)
        return trained, load_data(run.config.dataset, run.config)[0].test.x, namespace

    return export


@contextlib.contextmanager
def promoting():
    """Keras on JAX, and schedules of optax, promote dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def outputs(trained, x, params=None, model_state=None):
    params, model_state = (trained.params, trained.model_state) if params is None else (params, model_state)
    y, _ = trained.model.apply(params, model_state, trained.scale(x))
    return np.asarray(y if trained.targets is None else trained.targets.inverse(y))


@pytest.mark.parametrize("layout", ["torch", "keras"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in RUNS])
def test_the_printed_lines_give_the_same_outputs(name, layout, exported):
    trained, x, namespace = exported(name, layout)
    with promoting():
        theirs = np.asarray(namespace["predict"](x))
    ours = outputs(trained, x)
    assert ours.std(axis=0).min() > 1e-3
    size = 1.0 if trained.targets is None else float(trained.targets.std[0])
    np.testing.assert_allclose(theirs / size, ours / size, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["mlp", pytest.param("simple-convnet", marks=pytest.mark.slow)])
def test_a_wrong_order_of_rows_is_seen(name, exported):
    trained, x, namespace = exported(name, "torch")
    torch, network = namespace["torch"], namespace["network"]
    W = np.asarray(trained.params["dense1"]["W"]).T.copy()
    with torch.no_grad():
        network.dense1.weight.copy_(torch.from_numpy(W))
    assert np.abs(np.asarray(namespace["predict"](x)) - outputs(trained, x)).max() > 0.1


@pytest.mark.parametrize("name", ["mlp", pytest.param("convnet", marks=pytest.mark.slow)])
def test_what_torch_has_trained_comes_back(name, exported):
    trained, x, namespace = exported(name, "torch")
    torch, network = namespace["torch"], namespace["network"]
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    images = torch.as_tensor(x[:50], dtype=torch.float32).permute(0, 3, 1, 2) / 16
    for _ in range(3):
        optimizer.zero_grad()
        torch.logsumexp(network(images), 1).mean().backward()
        optimizer.step()
    network.eval()
    like = trained.params, trained.model_state
    back = nn.from_layout("torch", network.state_dict(), like, trained.about.shape)
    assert np.abs(outputs(trained, x, *back) - outputs(trained, x)).max() > 0.1
    np.testing.assert_allclose(outputs(trained, x, *back), namespace["predict"](x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["mlp", pytest.param("convnet", marks=pytest.mark.slow)])
def test_what_keras_has_trained_comes_back(name, exported):
    trained, x, namespace = exported(name, "keras")
    network = namespace["network"]
    with promoting():
        network.compile("sgd", namespace["keras"].losses.SparseCategoricalCrossentropy(from_logits=True))
        network.fit(np.asarray(trained.scale(x)), np.zeros(len(x), np.int32), epochs=1, verbose=0)
        theirs = namespace["predict"](x)
    tensors = {f"{layer.name}/{part.name}": part for layer in network.layers for part in layer.weights}
    back = nn.from_layout("keras", tensors, (trained.params, trained.model_state), trained.about.shape)
    assert np.abs(outputs(trained, x, *back) - outputs(trained, x)).max() > 0.1
    np.testing.assert_allclose(outputs(trained, x, *back), theirs, atol=1e-5, rtol=0)


def test_every_network_of_the_command_has_lines():
    assert NETWORKS.keys() == PRESETS.keys()


def test_an_npz_is_refused(trained_run, tmp_path, capsys):
    file = tmp_path / "w.npz"
    assert cli.main(["export", str(trained_run("mlp")), str(file), "--layout", "torch"]) == 2
    assert "w.npz: --layout torch is for files that end in .safetensors" in capsys.readouterr().err
    assert not file.exists()
