"""The numerical gradient: against derivatives known by hand and the textbook's loop in NumPy, as a black box."""

import functools
from typing import NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn.older_jax import enable_x64

pytestmark = pytest.mark.little_optimized


def the_textbooks(f, x, h=1e-4):
    """*Deep Learning from Scratch*, section 4.4.2, for an array of any shape."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        kept = x[place]
        x[place] = kept + h
        above = f(x)
        x[place] = kept - h
        below = f(x)
        x[place] = kept
        gradient[place] = (above - below) / (2 * h)
    return gradient


class Pair(NamedTuple):
    W: object
    b: object


def loss_64(W1, b1, W2, b2, x, y):
    """Two layers with tanh and softmax cross-entropy, in NumPy."""
    z = np.tanh(x @ W1 + b1) @ W2 + b2
    z = z - z.max(axis=1, keepdims=True)
    return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y])


def network(dtype=np.float64):
    random = np.random.default_rng(0)
    params = [random.normal(size=shape).astype(dtype) for shape in ((5, 4), (4,), (4, 3), (3,))]
    return params, random.normal(size=(7, 5)), random.integers(0, 3, 7)


@pytest.mark.parametrize("batch", [None, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (1, 7, 1000))])
def test_equals_the_textbooks_loop(batch):
    params, x, y = network()
    with enable_x64(True):

        def loss(params):
            W1, b1, W2, b2 = params
            return nn.softmax_cross_entropy(nn.tanh(x @ W1 + b1[None, :]) @ W2 + b2[None, :], jnp.asarray(y))

        gradient = nn.numerical_gradient(loss, [jnp.asarray(part) for part in params], step=1e-4, batch=batch)
    for number, part in enumerate(gradient):
        others = lambda own, number=number: loss_64(*params[:number], own, *params[number + 1 :], x, y)
        np.testing.assert_allclose(part, the_textbooks(others, params[number].copy()), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "product",
    {
        "x @ W": lambda x, W: x @ W,
        "W.T @ x.T": lambda x, W: (W.T @ x.T).T,
        "einsum, W first": lambda x, W: jnp.einsum("io,bi->bo", W, x),
        "jitted": lambda x, W: jax.jit(jnp.matmul)(x, W),
        "through a custom derivative": lambda x, W: custom_product(x, W),
        "three axes": lambda x, W: jnp.tensordot(jnp.stack([x, x]), W, axes=1)[1],
        "both factors": lambda x, W: x @ W + 0 * jnp.sum(W.T @ W),
        "in a loop": lambda x, W: jax.lax.fori_loop(0, 2, lambda _, y: y + x @ W / 2, jnp.zeros((7, 4), x.dtype)),
        "under vmap": lambda x, W: jax.vmap(lambda row: row @ W)(x),
        "row by row": lambda x, W: jax.lax.map(lambda row: row @ W, x),
        "checkpointed": lambda x, W: jax.checkpoint(jnp.matmul)(x, W),
        "a constant matrix beside it": lambda x, W: x @ (W + 1) - x @ jnp.ones((5, 4), x.dtype),
    }.items(),
    ids=lambda item: item[0],
)
def test_every_way_to_write_a_product_gives_the_same(product):
    """Products with a perturbed matrix are taken apart: x @ W and what the perturbation adds."""
    (W, *_), x, _ = network()
    with enable_x64(True):
        f = lambda W: jnp.sum(jnp.sin(product[1](jnp.asarray(x), W)))
        expected = x.T @ np.cos(x @ W)
        np.testing.assert_allclose(nn.numerical_gradient(f, jnp.asarray(W)), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_square_matrix_is_not_taken_for_its_transpose(side):
    random = np.random.default_rng(0)
    W, x = random.normal(size=(4, 4)), random.normal(size=(4, 4))
    with enable_x64(True):
        f = lambda W: jnp.sum(jnp.sin(x @ W if side == "right" else W @ x))
        expected = x.T @ np.cos(x @ W) if side == "right" else np.cos(W @ x) @ x.T
        np.testing.assert_allclose(nn.numerical_gradient(f, jnp.asarray(W)), expected, rtol=1e-8, atol=1e-9)


@jax.custom_vjp
def custom_product(x, W):
    return x @ W


custom_product.defvjp(lambda x, W: (x @ W, None), lambda _, g: (None, 7 * jnp.ones((5, 4))))


def test_takes_any_pytree_and_keeps_its_structure_shapes_and_dtypes():
    params = {
        "pair": Pair(jnp.ones((2, 3)), np.float32(0.5)),
        "none": None,
        "empty": [{}, jnp.zeros((0, 3))],
        "half": jnp.ones(2, jnp.bfloat16),
        "number": 2.0,
    }
    f = lambda p: jnp.sum(p["pair"].W) * p["pair"].b * p["number"] + jnp.sum(p["half"].astype(jnp.float32)) * 3
    gradient = nn.numerical_gradient(f, params)
    kinds = lambda tree: jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    assert kinds(gradient) == kinds(params)
    np.testing.assert_allclose(gradient["pair"].W, np.ones((2, 3)), rtol=1e-3)
    np.testing.assert_allclose([gradient["pair"].b, gradient["number"]], [12, 3], rtol=1e-3)
    np.testing.assert_allclose(gradient["half"].astype(jnp.float32), [3, 3], rtol=1e-2)
    assert nn.numerical_gradient(lambda p: 1.0, {"a": None}) == {"a": None}


@hypothesis.given(
    st.lists(st.integers(0, 4), max_size=3), st.sampled_from([jnp.float32, jnp.float64]), st.integers(1, 9)
)
@hypothesis.settings(max_examples=6, deadline=None)
def test_of_a_quadratic(shape, dtype, batch):
    """The central difference of a quadratic is exact but for rounding, whatever the step."""
    with enable_x64(True):
        p = jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)
        gradient = nn.numerical_gradient(lambda tree: jnp.sum(tree["p"] ** 2), {"p": p}, batch=batch)["p"]
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, 2 * np.asarray(p), atol=1e-8 if dtype == jnp.float64 else 3e-3)


def test_default_step_follows_the_dtype_and_the_size_of_the_entry():
    """At 1e6 a step of 5e-3 would be lost in float32's rounding, 0.06."""
    p = jnp.array([1e-3, 1.0, 1e4, 1e6])
    gradient = nn.numerical_gradient(lambda p: jnp.sum(jnp.log(p + 1)), p)
    np.testing.assert_allclose(gradient, 1 / (np.asarray(p, np.float64) + 1), rtol=2e-2)


def test_divides_by_the_step_that_was_made():
    """1000 + 1e-4 is 1000.00012 in float32: an eighth more than the step asked for."""
    gradient = nn.numerical_gradient(lambda p: p - 1000, jnp.float32(1000), step=1e-4)
    np.testing.assert_allclose(gradient, 1, rtol=1e-6)


def test_subtracts_before_it_rounds():
    """f in float64 of params in float32: of 1000.000x the differences are in the last digits."""
    with enable_x64(True):
        f = lambda p: 1000 + jnp.sum(p.astype(jnp.float64) ** 2)
        gradient = nn.numerical_gradient(f, jnp.array([1, 2, 3], jnp.float32))
    np.testing.assert_allclose(gradient, [2, 4, 6], rtol=1e-5)


def test_works_under_jit_vmap_and_scan():
    x = jnp.arange(6.0).reshape(3, 2)
    f = lambda p, x: jnp.sum(jnp.sin(p * x))
    gradient = jax.vmap(lambda x: jax.jit(functools.partial(nn.numerical_gradient, lambda p: f(p, x)))(jnp.ones(2)))(x)
    np.testing.assert_allclose(gradient, x * jnp.cos(x), atol=2e-3)

    def step(p, _):
        return p - 0.1 * nn.numerical_gradient(lambda p: jnp.sum((p - 3) ** 2), p), None

    np.testing.assert_allclose(jax.lax.scan(step, jnp.zeros(2), length=50)[0], [3, 3], atol=1e-3)


@pytest.mark.slow
def test_trains_a_network():
    """Row B3: by differences alone, on random digits that can be told apart."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(30, 4)), jnp.float32)
    y = jnp.asarray((x[:, 0] > x[:, 1]).astype(int))
    model = nn.mlp([5], 2, activation=nn.tanh)
    params, model_state, _ = model.init(jax.random.key(0), (4,))
    loss = lambda params: nn.softmax_cross_entropy(model.apply(params, model_state, x)[0], y)

    def step(params, _):
        gradient = nn.numerical_gradient(loss, params)
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient), loss(params)

    params, losses = jax.jit(lambda params: jax.lax.scan(step, params, length=100))(params)
    assert losses[-1] < 0.2 * losses[0]


def test_the_first_product_is_made_once_however_many_entries():
    """In the compiled program no product is as large as batch times the first layer's."""
    x = jnp.zeros((100, 784))
    params = {"W1": jnp.zeros((784, 50)), "W2": jnp.zeros((50, 10))}
    f = lambda p: jnp.sum(nn.relu(x @ p["W1"]) @ p["W2"])
    program = jax.jit(lambda p: nn.numerical_gradient(f, p, batch=64)).lower(params)
    operations = program.cost_analysis()["flops"]  # of one turn of each loop
    assert operations < 3 * 2 * 100 * 784 * 50 + 2 * 64 * 30 * 100 * 50 * 10


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"f": 3}, TypeError, r"f must be a function \(params\) -> scalar; got int 3"),
        ({"f": lambda p: p["W"]}, TypeError, r"f returned an array of shape \(2, 3\); expected a scalar"),
        ({"f": lambda p: (1.0, p)}, TypeError, "f returned a tuple; expected one scalar"),
        ({"f": lambda p: 1}, TypeError, "f returned dtype int32; expected a real floating-point scalar"),
        ({"step": 0.0}, ValueError, "step must be finite and above 0; got 0"),
        ({"step": 1e-9}, ValueError, r"step 1e-09 is lost beside W\[0, 0\], which is 1 in float32"),
        ({"batch": 0}, ValueError, "batch must be at least 1; got 0"),
        ({"params": {"n": jnp.arange(3)}}, TypeError, "n has dtype int32; only real floating-point entries"),
        ({"params": {"z": jnp.ones(3, jnp.complex64)}}, TypeError, "z has dtype complex64; only real"),
        ({"params": {"f": {"g": "W"}}}, TypeError, "f/g is a str; only arrays of real numbers have a gradient"),
    ],
)
def test_refuses(arguments, error, sentence, types_unchecked):
    arguments = {"f": lambda p: jnp.sum(p["W"]), "params": {"W": jnp.ones((2, 3))}} | arguments
    with pytest.raises(error, match=sentence):
        nn.numerical_gradient(**arguments)
