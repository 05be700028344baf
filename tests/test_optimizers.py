"""Every optimizer through every property, against optax and against float64 NumPy written here."""

import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn


class Case(NamedTuple):
    ours: optax.GradientTransformation
    optax: optax.GradientTransformation  # with the settings that make it the same formula
    numpy: object  # (params, gradients of each step) -> params, in float64


def sgd_64(W, gradients, lr=0.1):
    for g in gradients:
        W = W - lr * g
    return W


def momentum_64(W, gradients, lr=0.1, a=0.9):
    v = 0.0
    for g in gradients:
        v = a * v - lr * g
        W = W + v
    return W


def adagrad_64(W, gradients, lr=0.1, eps=1e-7):
    h = 0.0
    for g in gradients:
        h = h + g * g
        W = W - lr * g / (np.sqrt(h) + eps)
    return W


def rmsprop_64(W, gradients, lr=0.01, decay=0.99, eps=1e-7):
    h = 0.0
    for g in gradients:
        h = decay * h + (1 - decay) * g * g
        W = W - lr * g / (np.sqrt(h) + eps)
    return W


def adam_64(W, gradients, lr=0.01, b1=0.9, b2=0.999, eps=1e-8):
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        W = W - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return W


CASES = {
    "sgd": Case(nn.sgd(0.1), optax.sgd(0.1), sgd_64),
    "momentum": Case(nn.momentum(0.1), optax.sgd(0.1, momentum=0.9), momentum_64),
    "adagrad": Case(
        nn.adagrad(0.1),
        # Its eps is under the root: with 0 there and a gradient that is not 0 the two agree.
        optax.chain(optax.scale_by_rss(initial_accumulator_value=0.0, eps=1e-14), optax.scale(-0.1)),
        adagrad_64,
    ),
    "rmsprop": Case(nn.rmsprop(0.01), optax.rmsprop(0.01, decay=0.99, eps=1e-7, eps_in_sqrt=False), rmsprop_64),
    "adam": Case(nn.adam(0.01), optax.adam(0.01), adam_64),
}
MAKERS = {
    "sgd": nn.sgd,
    "momentum": nn.momentum,
    "adagrad": nn.adagrad,
    "rmsprop": nn.rmsprop,
    "adam": nn.adam,
}
STEPS = 200


def params_and_gradients(dtype=jnp.float32):
    random = np.random.default_rng(0)
    shapes = {"dense1": {"W": (3, 4), "b": (4,)}, "scale": ()}
    draw = lambda shape: jnp.asarray(random.normal(size=shape), dtype)
    is_shape = lambda node: isinstance(node, tuple)
    params = jax.tree.map(draw, shapes, is_leaf=is_shape)
    gradients = jax.tree.map(lambda shape: draw((STEPS, *shape)), shapes, is_leaf=is_shape)
    return params, gradients


def run(optimizer, params, gradients):
    def step(carry, grads):
        params, state = carry
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[0]


def assert_trees_close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), a, b)


@pytest.mark.parametrize("name", CASES)
class TestEveryOptimizer:
    def test_equals_the_formula_in_float64(self, name):
        params, gradients = params_and_gradients()
        expected = jax.tree.map(
            lambda W, g: CASES[name].numpy(np.asarray(W, np.float64), np.asarray(g, np.float64)),
            params,
            gradients,
        )
        learned, _ = run(CASES[name].ours, params, gradients)
        assert_trees_close(learned, expected, rtol=1e-5, atol=1e-5)
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), (params, gradients))
            learned, _ = run(CASES[name].ours, *wide)
            assert_trees_close(learned, expected, rtol=1e-12, atol=1e-12)

    def test_equals_optax(self, name):
        params, gradients = params_and_gradients()
        learned, _ = run(CASES[name].ours, params, gradients)
        with jax.numpy_dtype_promotion("standard"):
            expected, _ = run(CASES[name].optax, params, gradients)
        assert_trees_close(learned, expected, rtol=1e-5, atol=1e-5)

    def test_finds_the_minimum_of_the_textbooks_valley(self, name):
        """f(x, y) = x²/20 + y² from (-7, 2), row C1, with the rates of the textbook."""
        rates = {"sgd": 0.95, "momentum": 0.1, "adagrad": 1.5, "rmsprop": 0.1, "adam": 0.3}
        optimizer = MAKERS[name](rates[name])
        gradient = jax.grad(lambda p: p["x"] ** 2 / 20 + p["y"] ** 2)

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(gradient(params), state)
            return (optax.apply_updates(params, updates), state), None

        start = {"x": jnp.float32(-7), "y": jnp.float32(2)}
        (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=300)
        # RMSprop's steps do not shrink: it circles the minimum at about its rate.
        np.testing.assert_allclose([params["x"], params["y"]], [0, 0], atol=0.2 if name == "rmsprop" else 0.02)

    def test_same_bits_twice(self, name):
        params, gradients = params_and_gradients()
        for a, b in zip(
            jax.tree.leaves(run(CASES[name].ours, params, gradients)),
            jax.tree.leaves(run(CASES[name].ours, params, gradients)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
    def test_keeps_structure_and_dtype(self, name, dtype):
        params, gradients = params_and_gradients(dtype)
        params = (params, None, [{}])  # a tuple, a None, an empty part
        grads = (jax.tree.map(lambda g: g[0], gradients), None, [{}])
        optimizer = CASES[name].ours
        state = optimizer.init(params)
        updates, new_state = optimizer.update(grads, state, params)
        kinds = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
        assert kinds(updates) == kinds(params)
        assert kinds(new_state) == kinds(state)

    def test_compiles_once(self, name):
        params, gradients = params_and_gradients()
        traces = []

        @jax.jit
        def step(grads, state, params):
            traces.append(1)
            return CASES[name].ours.update(grads, state, params)

        state = CASES[name].ours.init(params)
        for t in range(4):
            _, state = step(jax.tree.map(lambda g, t=t: g[t], gradients), state, params)
        assert len(traces) == 1
        assert state.count == 4

    def test_state_can_be_donated(self, name):
        params, gradients = params_and_gradients()
        grads = jax.tree.map(lambda g: g[0], gradients)
        optimizer = CASES[name].ours
        expected, _ = optimizer.update(grads, optimizer.init(params), params)
        updates, state = jax.jit(optimizer.update, donate_argnums=1)(grads, optimizer.init(params), params)
        assert_trees_close(updates, expected, rtol=1e-6)
        jax.jit(optimizer.update, donate_argnums=1)(grads, state, params)

    def test_vmap_over_learning_rates_equals_each_alone(self, name):
        params, gradients = params_and_gradients()
        rates = jnp.array([0.001, 0.01, 0.1])
        together = jax.vmap(lambda lr: run(MAKERS[name](lr), params, gradients)[0])(rates)
        for number, rate in enumerate((0.001, 0.01, 0.1)):
            alone, _ = run(MAKERS[name](rate), params, gradients)
            assert_trees_close(jax.tree.map(lambda leaf, n=number: leaf[n], together), alone, rtol=2e-5, atol=1e-5)

    def test_schedule_sees_the_number_of_steps_taken(self, name):
        params, gradients = params_and_gradients()
        schedule = optax.piecewise_constant_schedule(0.1, {2: 0.0})
        with jax.numpy_dtype_promotion("standard"):
            (learned, _), (after_two, _) = (
                run(MAKERS[name](schedule), params, jax.tree.map(lambda g, n=n: g[:n], gradients)) for n in (3, 2)
            )
        if name == "momentum":  # it rolls on without a push
            pytest.skip("its velocity outlives the rate; see test_momentum_keeps_rolling")
        assert_trees_close(learned, after_two, rtol=1e-6)
        moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), learned, params)
        assert min(jax.tree.leaves(moved)) > 0

    @pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf"), np.float32(-1), -1])
    def test_refuses_a_bad_learning_rate(self, name, rate):
        with pytest.raises(ValueError, match="learning_rate must be finite and at least 0; got"):
            MAKERS[name](rate)

    def test_refuses_a_learning_rate_of_the_wrong_kind(self, name, types_unchecked):
        with pytest.raises(TypeError, match="learning_rate must be a number; got 'fast'"):
            MAKERS[name]("fast")
        with pytest.raises(ValueError, match=r"must be a scalar; got an array of shape \(3,\) \(use jax.vmap"):
            MAKERS[name](jnp.ones(3))

    def test_a_negative_traced_rate_cannot_be_refused(self, name):
        updates = jax.vmap(lambda lr: run(MAKERS[name](lr), *params_and_gradients())[0]["scale"])(
            jnp.array([-0.1, 0.1])
        )
        assert np.isfinite(updates).all()
        assert updates[0] != updates[1]

    def test_works_in_an_optax_chain_and_under_inject_hyperparams(self, name):
        params, gradients = params_and_gradients()
        expected, _ = run(MAKERS[name](0.05), params, gradients)
        chained = optax.chain(optax.identity(), MAKERS[name](0.05))
        # The others stay Python numbers: 1 - beta2 of a float32 beta2 is off by 5e-5.
        others = [argument for argument in inspect.signature(MAKERS[name]).parameters if argument != "learning_rate"]
        injected = optax.inject_hyperparams(MAKERS[name], static_args=others)(learning_rate=0.05)
        for optimizer in (chained, injected):
            learned, _ = run(optimizer, params, gradients)
            assert_trees_close(learned, expected, rtol=1e-5, atol=1e-6)


def test_momentum_keeps_rolling():
    """When the rate drops to 0 the textbook's velocity lives on, shrinking by a each step."""
    optimizer = nn.momentum(lambda step: jnp.where(step < 1, 0.1, 0.0), momentum=0.5)
    state = optimizer.init(jnp.float32(0))
    steps = []
    for _ in range(3):
        update, state = optimizer.update(jnp.float32(2.0), state)
        steps.append(float(update))
    np.testing.assert_allclose(steps, [-0.2, -0.1, -0.05], rtol=1e-6)


def test_adagrad_differs_from_optax_as_its_docstring_says():
    """At g = 1e-4 optax's start of 0.1 makes the first step three thousand times shorter."""
    g, W = jnp.float32(1e-4), jnp.float32(0)
    ours, _ = nn.adagrad(0.1).update(g, nn.adagrad(0.1).init(W))
    theirs, _ = optax.adagrad(0.1).update(g, optax.adagrad(0.1).init(W))
    np.testing.assert_allclose(ours, -0.1 * 1e-4 / (1e-4 + 1e-7), rtol=1e-5)
    np.testing.assert_allclose(theirs, -0.1 * 1e-4 / np.sqrt(0.1 + 1e-8 + 1e-7), rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.momentum(0.1, momentum=1.0), "momentum must be finite and at least 0 and below 1; got 1"),
        (lambda: nn.adagrad(0.1, eps=0.0), "eps must be finite and above 0; got 0"),
        (lambda: nn.rmsprop(0.1, decay=-0.5), "decay must be finite and at least 0 and below 1; got -0.5"),
        (lambda: nn.adam(0.1, beta1=1.0), "beta1 must be finite and at least 0 and below 1; got 1"),
        (lambda: nn.adam(0.1, beta2=2.0), "beta2 must be finite and at least 0 and below 1; got 2"),
        (lambda: nn.adam(0.1, eps=-1e-8), "eps must be finite and above 0; got -1e-08"),
    ],
)
def test_refuses_hyperparameters_out_of_range(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_parameters_move(name):
    """0.999 is 1 in bfloat16: moments kept in it would never forget, and Adam's correction would be 0."""
    params, gradients = params_and_gradients(jnp.bfloat16)
    start = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradients)
    few = lambda tree: jax.tree.map(lambda g: g[:10], tree)
    learned, state = run(MAKERS[name](0.1), params, few(gradients))
    expected, _ = run(MAKERS[name](0.1), start, few(wide))
    assert {leaf.dtype for leaf in jax.tree.leaves(learned)} == {np.dtype(jnp.bfloat16)}
    assert jnp.bfloat16 not in {leaf.dtype for leaf in jax.tree.leaves(state)}
    for a, b, c in zip(*map(jax.tree.leaves, (learned, expected, start)), strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.08 + 0.03 * float(abs(b - c).max()))
