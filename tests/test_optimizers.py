"""Every optimizer through every property. Its formula is compared in `test_optimizers_against_others.py`."""

import dataclasses
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.older_jax import enable_x64
from tests.optimizer_cases import CASES, EVERY_LEAF, last, run

MAKERS = {
    "sgd": nn.sgd,
    "momentum": nn.momentum,
    "nesterov": nn.nesterov,
    "adagrad": nn.adagrad,
    "rmsprop": nn.rmsprop,
    "adam": nn.adam,
    "adamw": nn.adamw,
    "lion": nn.lion,
    "muon": nn.muon,
}
# By the form of their state: other settings of these change numbers alone.
FORMS = MAKERS | {"rmsprop centered, with momentum": CASES["rmsprop centered, with momentum"].make}
NOT_SCHEDULES = ("mask", "rest")  # functions that are no schedules
STEPS = 10


class Pair(NamedTuple):
    first: Any
    second: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Record:
    W: Any
    b: Any


def params_and_gradients(dtype=jnp.float32, steps=STEPS):
    random = np.random.default_rng(0)
    draw = lambda shape: jnp.asarray(random.normal(size=shape), dtype)
    shapes = {"dense1": {"W": (3, 4), "b": (4,)}, "scale": ()}
    is_shape = lambda node: isinstance(node, tuple)
    params = jax.tree.map(draw, shapes, is_leaf=is_shape)
    return params, jax.tree.map(lambda shape: draw((steps, *shape)), shapes, is_leaf=is_shape)


def first(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


def assert_trees_close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), a, b)


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize("name", FORMS)
class TestEveryForm:
    @pytest.mark.parametrize(
        "dtype",
        [jnp.float32, jnp.bfloat16, *(pytest.param(t, marks=pytest.mark.slow) for t in (jnp.float16, jnp.float64))],
    )
    def test_keeps_structure_and_dtype(self, name, dtype):
        optimizer = FORMS[name](0.1)
        with enable_x64(dtype == jnp.float64):
            params, gradients = params_and_gradients(dtype)
            params = Pair(Record(params, None), [{}, (), jnp.zeros((0, 3), dtype), jnp.ones((2, 2, 1, 3), dtype)])
            grads = Pair(
                Record(first(gradients), None), [{}, (), jnp.zeros((0, 3), dtype), jnp.zeros((2, 2, 1, 3), dtype)]
            )
            state = optimizer.init(params)
            updates, new_state = optimizer.update(grads, state, params)
            assert kinds(updates) == kinds(params)
            assert kinds(new_state) == kinds(state)
            assert not any(np.isnan(leaf.astype(jnp.float32)).any() for leaf in jax.tree.leaves((updates, new_state)))
            state_dtype = jnp.float64 if dtype == jnp.float64 else jnp.float32
            assert {leaf.dtype for leaf in jax.tree.leaves(state)} <= {np.dtype(state_dtype), np.dtype(jnp.int32)}

    def test_an_empty_tree(self, name):
        optimizer = FORMS[name](0.1)
        for empty in ({}, (), None):
            updates, _ = optimizer.update(empty, optimizer.init(empty), empty)
            assert updates == empty

    def test_python_numbers_are_leaves_too(self, name):
        optimizer = FORMS[name](0.1)
        updates, _ = optimizer.update({"a": 2.0}, optimizer.init({"a": 1.0}), {"a": 1.0})
        expected, _ = optimizer.update(jnp.float32(2.0), optimizer.init(jnp.float32(1.0)), jnp.float32(1.0))
        np.testing.assert_allclose(updates["a"], expected, rtol=1e-6)
        assert updates["a"].dtype == jnp.float32

    def test_jitted_it_compiles_once_repeats_its_bits_and_takes_donated_state(self, name):
        start, gradients = params_and_gradients()
        optimizer, traces = FORMS[name](0.1), []

        def step(params, state, grads):
            traces.append(1)
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        def steps():
            params = jax.tree.map(jnp.copy, start)
            state = optimizer.init(params)
            for t in range(STEPS):
                params, state = donating(params, state, jax.tree.map(lambda g, t=t: g[t], gradients))
            assert state.count == STEPS
            return params

        donating = jax.jit(step, donate_argnums=(0, 1))
        once, again = steps(), steps()
        assert len(traces) == 1
        assert_trees_close(once, again, rtol=0)
        assert_trees_close(once, last(run(optimizer, start, gradients)[0]), rtol=1e-5, atol=1e-6)

    def test_schedule_sees_the_number_of_steps_taken(self, name):
        params, gradients = params_and_gradients(steps=3)
        walked, _ = run(FORMS[name](lambda step: jnp.where(step < 2, 0.1, 0.0)), params, gradients)
        moved = jax.tree.map(lambda W: float(abs(W[1] - W[0]).max()), walked)
        assert min(jax.tree.leaves(moved)) > 0
        if name in ("momentum", "nesterov") or "with momentum" in name:
            pytest.skip("its velocity outlives the rate; see test_momentum_keeps_rolling")
        assert_trees_close(last(walked), jax.tree.map(lambda W: W[1], walked), rtol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
class TestEveryOptimizer:
    def test_finds_the_minimum_of_the_textbooks_valley(self, name):
        """f(x, y) = x²/20 + y² from (-7, 2), row C1, with the rates of the textbook where it has one."""
        rates = {"sgd": 0.95, "momentum": 0.1, "nesterov": 0.1, "adagrad": 1.5, "rmsprop": 0.1, "adam": 0.3}
        optimizer = MAKERS[name](rates.get(name, 0.1 if name == "lion" else 0.3))
        gradient = jax.grad(lambda p: jnp.sum(p["x"] ** 2) / 20 + jnp.sum(p["y"] ** 2))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(gradient(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        start = {"x": jnp.float32([[-7]]), "y": jnp.float32([[2]])}
        (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=300)
        # The steps of these do not shrink: they circle the minimum at about their rate.
        circles = name in ("rmsprop", "lion", "muon")
        np.testing.assert_allclose([params["x"], params["y"]], np.zeros((2, 1, 1)), atol=0.2 if circles else 0.02)

    @pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf"), np.float32(-1), -1])
    def test_refuses_a_bad_learning_rate(self, name, rate):
        with pytest.raises(ValueError, match="learning_rate must be finite and at least 0; got"):
            MAKERS[name](rate)

    def test_refuses_a_learning_rate_of_the_wrong_kind(self, name, types_unchecked):
        with pytest.raises(TypeError, match="learning_rate must be a number; got 'fast'"):
            MAKERS[name]("fast")
        with pytest.raises(ValueError, match=r"must be a scalar; got an array of shape \(3,\) \(use jax.vmap"):
            MAKERS[name](jnp.ones(3))

    @pytest.mark.parametrize("bad", [jnp.arange(3), jnp.array(True), jnp.array(1j), 3, True, 1j])
    def test_refuses_a_leaf_that_is_not_floating_point(self, name, bad):
        kind = getattr(bad, "dtype", type(bad).__name__)
        sentence = rf"params\['layer'\]\[1\] is {kind}; .* floating-point leaves only .*optax.masked"
        with pytest.raises(TypeError, match=sentence):
            MAKERS[name](0.1).init({"layer": [jnp.ones(2), bad]})

    def test_such_a_leaf_is_left_alone_by_optax_masked(self, name):
        params = {"ids": jnp.arange(3), "W": jnp.ones((2, 2))}
        grads = {"ids": jnp.arange(3), "W": jnp.array([[1.0, 2.0], [3.0, -4.0]])}
        optimizer = optax.masked(MAKERS[name](0.1), {"ids": False, "W": True})
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        alone = MAKERS[name](0.1)
        expected, _ = alone.update(grads["W"], alone.init(params["W"]), params["W"])
        np.testing.assert_array_equal(updates["ids"], grads["ids"])
        np.testing.assert_allclose(updates["W"], expected, rtol=1e-6)

    def test_inside_optax(self, name):
        """chain, inject_hyperparams, multi_transform and MultiSteps, one inside the other, equal it alone."""
        params, gradients = params_and_gradients()
        expected, _ = run(MAKERS[name](0.05), params, gradients)
        every = list(inspect.signature(MAKERS[name]).parameters)
        static = [part for part in every if part in NOT_SCHEDULES]
        inner = optax.chain(
            optax.identity(), optax.inject_hyperparams(MAKERS[name], static_args=static)(learning_rate=0.05)
        )
        labels = {"dense1": "ours", "scale": "ours"}
        outer = optax.MultiSteps(optax.multi_transform({"ours": inner}, labels), 2)
        twice = jax.tree.map(lambda g: jnp.repeat(g, 2, axis=0), gradients)
        with jax.numpy_dtype_promotion("standard"):
            walked, _ = run(outer, params, twice)
        # In the state beta2 is float32: 0.999 of that is another number, by 1.3e-8.
        assert_trees_close(last(walked), last(expected), rtol=1e-5, atol=1e-5)

    def test_vmap_over_every_number_equals_each_alone(self, name):
        params, gradients = params_and_gradients()
        tried = {
            "learning_rate": 0.05, "momentum": 0.5, "decay": 0.7, "beta1": 0.7, "beta2": 0.8, "eps": 0.1, "weight_decay": 0.3,
            "initial_accumulator": 0.2, "consistent_rms": 0.4,
        }  # fmt: skip
        settings = {part: tried[part] for part in inspect.signature(MAKERS[name]).parameters if part in tried}
        together = jax.vmap(lambda settings: run(MAKERS[name](**settings), params, gradients)[0])
        alone, _ = run(MAKERS[name](**settings), params, gradients)
        walked = together(jax.tree.map(lambda value: jnp.float32([value, value / 2]), settings))
        assert_trees_close(jax.tree.map(lambda leaf: leaf[0], walked), alone, rtol=2e-5, atol=1e-5)
        assert np.abs(walked["dense1"]["W"][0] - walked["dense1"]["W"][1]).max() > 1e-4


@pytest.mark.parametrize(
    ("name", "size"),
    [*((name, 1e20) for name in FORMS), ("adam", 3e38), ("rmsprop", 3e38), ("adam, eps beside v", 1e20)],
)
def test_a_gradient_whose_square_is_infinite_is_survived(name, size):
    """As by optax: what is infinite stays so, and moves nothing more."""
    optimizer = (FORMS | {"adam, eps beside v": CASES["adam, eps beside v"].make})[name](1e-3)
    gradients = jnp.ones((3, 2, 2)).at[0].set(size)
    walked, _ = run(optimizer, jnp.ones((2, 2)), gradients)
    # Centred, the spread of the infinite from its mean is no number.
    assert name == "rmsprop centered, with momentum" or not np.isnan(walked).any()


@pytest.mark.parametrize("name", FORMS)
def test_the_count_stays_at_the_largest_number(name):
    optimizer, params = FORMS[name](0.1), jnp.ones((2, 2))
    state = optimizer.init(params)._replace(count=jnp.int32(2**31 - 1))
    _, state = optimizer.update(params, state, params)
    assert state.count == 2**31 - 1


@pytest.mark.parametrize("name", FORMS)
def test_updates_of_half_precision_gradients_are_as_wide_as_the_parameters(name):
    optimizer, W = FORMS[name](1e-3), jnp.full((2, 2), 1.5)
    g = jnp.array([[0.3, -0.7], [1.1, 0.2]], jnp.bfloat16)
    narrow, _ = optimizer.update(g, optimizer.init(W), W)
    wide, _ = optimizer.update(g.astype(jnp.float32), optimizer.init(W), W)
    assert narrow.dtype == jnp.float32
    np.testing.assert_array_equal(narrow, wide)
    alone, _ = optimizer.update(g, optimizer.init(W)) if name not in ("adamw",) else (g, None)
    assert alone.dtype == jnp.bfloat16


def test_a_negative_rate_cannot_be_seen_under_vmap_and_so_not_refused():
    params, gradients = params_and_gradients()
    walked = jax.vmap(lambda lr: run(nn.adam(lr), params, gradients)[0])(jnp.array([0.1, -0.1]))
    moved = jax.tree.map(lambda leaf, W: leaf[:, 0] - W[None], walked, params)
    assert_trees_close(*(jax.tree.map(lambda leaf, n=n: leaf[n] * (-1) ** n, moved) for n in (0, 1)), rtol=1e-4)


def test_the_rate_meets_the_gradient_in_float32():
    """In float16 a rate of 1e-8 is 0."""
    updates, _ = nn.sgd(1e-8).update(jnp.float16(1e4), nn.sgd(1e-8).init(jnp.float32(1)), jnp.float32(1))
    np.testing.assert_allclose(updates, -1e-4, rtol=1e-6)


@pytest.mark.parametrize("name", ["nesterov", "rmsprop centered, with momentum", "adam", "muon"])
def test_the_state_lies_where_the_parameters_lie(name):
    """Inside shard_map too, where a scan wants its carry to vary as what it meets."""
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.P("x"))
    W = jax.device_put(jnp.ones((2, 2)), place)
    state = FORMS[name](0.1).init(W)
    assert {leaf.sharding for leaf in jax.tree.leaves(state) if leaf.ndim} <= {place}
    gradients = jnp.ones((3, 2, 2))
    steps = lambda W, gradients: last(run(FORMS[name](0.1), W, gradients)[0])
    mapped = jax.shard_map(steps, mesh=mesh, in_specs=(jax.P("x"), jax.P(None, "x")), out_specs=jax.P("x"))
    np.testing.assert_allclose(mapped(W, gradients), steps(jnp.ones((2, 2)), gradients), rtol=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_refuses_gradients_of_another_shape_and_rates_that_are_no_scalars(name):
    W = jnp.ones((2, 2))
    with pytest.raises(ValueError, match=r"grads has shape \(3, 2, 2\); expected that of its parameter, \(2, 2\)"):
        FORMS[name](0.1).update(jnp.ones((3, 2, 2)), FORMS[name](0.1).init(W), W)
    scheduled = FORMS[name](lambda step: jnp.ones(1))
    with pytest.raises(ValueError, match=r"the schedule gave a rate of shape \(1,\); expected a scalar"):
        scheduled.update(W, scheduled.init(W), W)


@pytest.mark.parametrize("name", ["momentum", "rmsprop", "adam", "lion"])
def test_bfloat16_parameters_move(name):
    """0.999 is 1 in bfloat16: moments kept in it would never forget, and Adam's correction would be 0."""
    params, gradients = params_and_gradients(jnp.bfloat16)
    widened = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, gradients))
    walked = last(run(MAKERS[name](0.1), params, gradients)[0])
    expected = last(run(MAKERS[name](0.1), *widened)[0])
    for a, b, c in zip(*map(jax.tree.leaves, (walked, expected, widened[0])), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.08 + 0.03 * float(abs(b - c).max()))


# They take roots.
@pytest.mark.parametrize(
    "name", ["adam", "muon", *(pytest.param(name, marks=pytest.mark.slow) for name in ("adagrad", "rmsprop"))]
)
def test_a_gradient_through_the_run_to_its_rate(name):
    """Against a difference of two runs, with weights that no gradient moves among them."""
    params, gradients = params_and_gradients()
    gradients["dense1"]["W"] = gradients["dense1"]["W"].at[:, 0].set(0)

    def end(lr):
        larger = jax.tree.map(lambda g: 20 * lr * g, gradients)  # so that the roots are on the way
        return sum(jnp.sum(W**2) for W in jax.tree.leaves(last(run(MAKERS[name](lr), params, larger)[0])))

    with enable_x64(True):
        params, gradients = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, gradients))
        above, below, (_, slope) = jax.jit(lambda lr: (end(lr + 1e-6), end(lr - 1e-6), jax.value_and_grad(end)(lr)))(
            0.05
        )
        difference = (above - below) / 2e-6
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.momentum(0.1, momentum=1.0), "momentum must be finite and at least 0 and below 1; got 1"),
        (lambda: nn.nesterov(0.1, momentum=-0.1), "momentum must be finite and at least 0 and below 1; got -0.1"),
        (lambda: nn.adagrad(0.1, eps=0.0), "eps must be finite and above 0; got 0"),
        (lambda: nn.adagrad(0.1, initial_accumulator=-1.0), "initial_accumulator must be finite and at least 0; got -1"),
        (lambda: nn.rmsprop(0.1, decay=-0.5), "decay must be finite and at least 0 and below 1; got -0.5"),
        (lambda: nn.rmsprop(0.1, momentum=1), "momentum must be finite and at least 0 and below 1; got 1"),
        (lambda: nn.adam(0.1, beta1=1.0), "beta1 must be finite and at least 0 and below 1; got 1"),
        (lambda: nn.adam(0.1, beta2=2.0), "beta2 must be finite and at least 0 and below 1; got 2"),
        (lambda: nn.adam(0.1, eps=-1e-8), "eps must be finite and above 0; got -1e-08"),
        (lambda: nn.adam(0.1, eps_beside="vhat"), "unknown eps_beside 'vhat': did you mean v_hat"),
        (lambda: nn.adamw(0.1, weight_decay=-1.0), "weight_decay must be finite and at least 0; got -1"),
        (lambda: nn.adamw(0.1, eps=0), "eps must be finite and above 0; got 0"),
        (lambda: nn.lion(0.1, beta1=1.0), "beta1 must be finite and at least 0 and below 1; got 1"),
        (lambda: nn.lion(0.1, weight_decay=-1.0), "weight_decay must be finite and at least 0; got -1"),
        (lambda: nn.muon(0.1, momentum=1.0), "momentum must be finite and at least 0 and below 1; got 1"),
        (lambda: nn.muon(0.1, consistent_rms=0.0), "consistent_rms must be finite and above 0; got 0"),
    ],
)  # fmt: skip
def test_refuses_hyperparameters_out_of_range(make, sentence, types_unchecked):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("make", [nn.adam, lambda: nn.adamw(mask=EVERY_LEAF)])
def test_an_update_of_a_million_parameters_makes_no_copy(make):
    """Donated, all it needs beside its arguments is less than a hundredth of the parameters."""
    params = {"W": jnp.ones((1000, 1000)), "b": jnp.ones(1000)}
    optimizer = make()

    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, optimizer.init(params), params).compile()
    memory, size = compiled.memory_analysis(), 4 * (10**6 + 1000)
    assert memory.alias_size_in_bytes >= 3 * size  # W, m and v stay where they are
    assert memory.temp_size_in_bytes < size / 100
    assert memory.output_size_in_bytes - memory.alias_size_in_bytes < size / 100
