"""Mixed precision: the model computes in bfloat16, and what must stay float32 does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import cli, runner, search_command
from jaxnn.older_jax import enable_x64
from jaxnn.run_folder import read_config
from jaxnn.train_options import TrainOptions

pytestmark = pytest.mark.little_optimized

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 8, 8, 2)).astype(np.float32)
Y = RANDOM.integers(0, 3, 60).astype(np.int32)
MODELS = {
    "mlp": nn.mlp([16, 8], 3, batch_norm=True, dropout=0.2),
    "convnet": nn.convnet(3, blocks=[[16, 16], [16]]),
    "simple_convnet": nn.simple_convnet(3, filters=4, filter_size=3, hidden_size=8),
}


def rounded(values):
    """To bfloat16's 8 bits, in float64."""
    return np.asarray(values).astype(jnp.bfloat16).astype(np.float64)


def test_it_computes_what_bfloat16_computes():
    model = nn.mixed_precision(nn.two_layer_net(30, 3, 0.5))
    params, model_state, _ = model.init(KEY, X.shape[1:])
    y, _ = model.apply(params, model_state, jnp.asarray(X))
    layers = [(rounded(layer["W"]), rounded(layer["b"])) for layer in params.values()]
    z = rounded(rounded(X.reshape(60, -1)) @ layers[0][0])
    h = rounded(1 / (1 + np.exp(-rounded(z + layers[0][1]))))
    expected = rounded(rounded(h @ layers[1][0]) + layers[1][1])
    assert y.dtype == np.float32
    # Where two ways of summing fall on two sides of a rounding, a result differs by a 256th of itself.
    np.testing.assert_allclose(y, expected, atol=2**-7 * np.abs(expected).max())
    exact, _ = nn.two_layer_net(30, 3, 0.5).apply(params, model_state, jnp.asarray(X))
    assert np.abs(exact - expected).max() > 1e-3  # and float32 would not pass for it


def products(jaxpr):
    """The dtypes that go into each matrix product and convolution of a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "convolution"):
            yield tuple(variable.aval.dtype.name for variable in equation.invars)
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products(inner)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_products_are_narrow_and_what_is_learned_is_not(model):
    def run(key, x, y):
        return nn.fit(
            model, nn.softmax_cross_entropy, nn.adam(0.01), (x, y),
            key=key, epochs=1, batch_size=20, compute_dtype=jnp.bfloat16,
        )  # fmt: skip

    traced = jax.make_jaxpr(run)(KEY, X, Y)
    kinds = list(products(traced.jaxpr))
    assert len(kinds) >= 8 and set(kinds) == {("bfloat16", "bfloat16")}
    result = jax.eval_shape(run, KEY, X, Y)
    wide = {leaf.dtype for leaf in jax.tree.leaves(result) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert wide == {np.dtype(np.float32)}


def test_small_steps_are_not_lost():
    """W = 1 goes down by 1e-4 a step: in bfloat16, whose neighbours of 1 are 0.996 and 1.008, it never would."""
    model, data = nn.mixed_precision(nn.dense(1, nn.constant(1.0))), (jnp.ones((4, 1)), jnp.zeros((4, 1)))
    state = nn.init_state(model, nn.sgd(1e-4), (1,), KEY)
    loss = lambda y, targets: jnp.mean(y - targets)
    state, _ = jax.lax.scan(lambda state, _: nn.train_step(model, loss, nn.sgd(1e-4), state, *data), state, length=50)
    np.testing.assert_allclose(state.params["W"], 1 - 50e-4, rtol=1e-6)


def test_running_moments_do_not_stall():
    model = nn.mixed_precision(nn.batch_norm())
    params, model_state, _ = model.init(KEY, (1,))
    x = jnp.linspace(0.9, 1.1, 64)[:, None]
    for _ in range(200):
        _, model_state = model.apply(params, model_state, x, training=True)
    # At 0.976 a tenth of the way to 1 is no step in bfloat16.
    np.testing.assert_allclose(model_state["mean"], rounded(x).mean(), rtol=1e-4)


def test_float32_changes_no_bit():
    settings = {"key": KEY, "epochs": 2, "batch_size": 20}
    fit = lambda **more: nn.fit(nn.mlp([8], 3), nn.softmax_cross_entropy, nn.adam(0.01), (X, Y), **settings, **more)
    for left, right in zip(*map(jax.tree.leaves, (fit(), fit(compute_dtype="float32"))), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("make", "rate", "margin"),
    [
        (lambda: nn.mlp([50], 10, batch_norm=True), 0.01, 0.01),
        pytest.param(lambda: nn.convnet(blocks=[[16], [32]]), 0.01, 0.015, marks=pytest.mark.slow),
        pytest.param(lambda: nn.simple_convnet(filters=8, filter_size=3), 0.003, 0.015, marks=pytest.mark.slow),
    ],
    ids=["mlp", "convnet", "simple_convnet"],
)
def test_equal_accuracy(make, rate, margin, digits):
    """The mean of six seeds on the digits' test data, the same draws in both."""
    scale = nn.data.min_max(digits.train.x, axis=None)

    def accuracy(key, compute_dtype):
        model = make()
        result = nn.fit(
            model, nn.softmax_cross_entropy, nn.adam(rate), digits.train,
            key=key, epochs=8, metrics={}, preprocess=scale, compute_dtype=compute_dtype,
        )  # fmt: skip
        return nn.evaluate(model, result.params, result.model_state, digits.test, preprocess=scale)["accuracy"]

    keys = jax.random.split(KEY, 6)
    narrow, wide = (
        jax.jit(jax.vmap(lambda key, dtype=dtype: accuracy(key, dtype)))(keys) for dtype in (jnp.bfloat16, None)
    )
    assert wide.mean() > 0.93
    assert abs(narrow.mean() - wide.mean()) < margin
    assert (narrow != wide).any()  # else nothing was narrow


def test_the_host_loop_does_the_same_and_goes_on_with_nothing_else(tmp_path):
    def train(epochs, compute_dtype):
        return runner.train(
            nn.mlp([8], 3), nn.softmax_cross_entropy, nn.adam(0.01), (X, Y), key=KEY, epochs=epochs, batch_size=20,
            compute_dtype=compute_dtype, checkpoints=nn.Checkpoints(tmp_path, resume=True),
        )  # fmt: skip

    train(1, jnp.bfloat16)
    for other, name in ((None, "None"), ("float32", "float32")):
        with pytest.raises(ValueError, match=f"compute_dtype was bfloat16 when the run began, and is {name} now"):
            train(3, other)
    result = train(3, "bfloat16")
    whole = nn.fit(
        nn.mlp([8], 3), nn.softmax_cross_entropy, nn.adam(0.01), (X, Y),
        key=KEY, epochs=3, batch_size=20, compute_dtype=jnp.bfloat16,
    )  # fmt: skip
    np.testing.assert_allclose(result.history.loss, whole.history.loss, rtol=2e-2)
    np.testing.assert_allclose(result.history.loss[:3], whole.history.loss[:3], rtol=1e-2)


def centred():
    """A layer with a state, as one of one's own may be: it casts what it takes from there."""

    def init(key, input_shape):
        return {}, {"mean": jnp.zeros(input_shape)}, input_shape

    def apply(params, model_state, x, *, training=False, key=None):
        mean = x.mean(axis=0).astype(jnp.float32) if training else model_state["mean"]
        return x - mean.astype(x.dtype)[None], {"mean": mean}

    return nn.Layer(init, apply, "centred")


@pytest.mark.parametrize("training", [True, False])
def test_a_state_does_not_make_products_wide(training):
    model = nn.mixed_precision(nn.sequential(nn.flatten(), centred(), nn.dense(3)))
    params, model_state, _ = model.init(KEY, X.shape[1:])
    traced = jax.make_jaxpr(lambda x: model.apply(params, model_state, x, training=training))(X)
    assert set(products(traced.jaxpr)) == {("bfloat16", "bfloat16")}
    assert [value.dtype for value in traced.out_avals] == [np.float32, np.float32]


def test_data_that_is_split_or_read_or_mapped_over(tmp_path):
    """The same numbers, to the rounding of bfloat16, from a stream, on two devices, and in a sweep."""
    settings = {"key": KEY, "epochs": 2, "batch_size": 20, "compute_dtype": jnp.bfloat16}
    model = nn.sequential(nn.flatten(), nn.dense(3))
    loss, optimizer = nn.softmax_cross_entropy, nn.sgd(0.1)
    whole = nn.fit(model, loss, optimizer, (X, Y), **settings).history.loss
    split = nn.fit(model, loss, optimizer, (X, Y), batch_sharding=nn.data_parallel(jax.devices()[:2]), **settings)
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    read = runner.train(model, loss, optimizer, nn.data.stream((X, Y)), metrics={}, **settings)
    settings = settings | {"key": None}

    def run(config, key):
        return nn.fit(model, loss, nn.sgd(config["rate"]), (X, Y), **{**settings, "key": key}).history.loss

    swept = nn.sweep(run, {"rate": jnp.array([0.1, 0.2])}, key=KEY, progress=False).outcomes
    alone = run({"rate": 0.1}, jax.random.fold_in(KEY, 0))
    for ours, expected in ((split.history.loss, whole), (read.history.loss, whole), (swept[0, 0], alone)):
        np.testing.assert_allclose(ours, expected, rtol=2e-2)
        assert ours.dtype == np.float32


def test_without_it_float64_stays(digits):
    """`jaxnn train` under JAX_ENABLE_X64: nothing is narrowed that nobody asked for."""
    with enable_x64(True):
        x, y = X.astype(np.float64), Y
        run = lambda key, x, y, dtype: nn.fit(
            nn.mlp([8], 3), nn.softmax_cross_entropy, nn.sgd(0.1), (x, y), key=key, epochs=1, batch_size=20,
            compute_dtype=dtype,
        )  # fmt: skip
        kinds = {
            dtype: set(products(jax.make_jaxpr(lambda key, x, y, dtype=dtype: run(key, x, y, dtype))(KEY, x, y).jaxpr))
            for dtype in (None, "float32")
        }
    assert kinds == {None: {("float64", "float64")}, "float32": {("float32", "float32")}}
    assert TrainOptions().compute_dtype is None


def test_a_search_computes_in_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    wrapped = []
    monkeypatch.setattr(search_command, "mixed_precision", lambda model, dtype: wrapped.append(dtype) or model)
    small = "search --trials 2 --rounds 1 --epochs 1 --hidden-sizes 4 --batch-norm False --dropout 0"
    assert cli.main([*small.split(), "--compute-dtype", "bfloat16", "--out", "found"]) == 0
    assert set(wrapped) == {"bfloat16"}


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = "--hidden-sizes 32 --epochs 20 --compute-dtype bfloat16 --out run"
    assert cli.main(["train", *options.split()]) == 0
    said = capsys.readouterr().out
    assert "computed in bfloat16" in said
    assert float(said.split("test accuracy: ")[1].split()[0]) > 0.93
    assert read_config(tmp_path / "run").config.compute_dtype == "bfloat16"
    assert cli.main(["train", "--resume", "run", "--compute-dtype", "float32"]) == 2
    assert "--compute-dtype was bfloat16 when run began" in capsys.readouterr().err
    assert cli.main(["train", "--compute-dtype", "bfloat"]) == 2
    assert "did you mean bfloat16" in capsys.readouterr().err
