"""The audit: what it lets pass, what it finds and where, what it calls a kink, and what it refuses."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

import jaxnn as nn
from jaxnn.older_jax import enable_x64


def two_layer_net(hidden=50, batch=100):
    """The textbook's net with relu, its parameters, and a batch like MNIST's: pixels from 0 to 1, many of them 0."""
    model = nn.two_layer_net(hidden, activation=nn.relu)
    params, model_state, _ = model.init(jax.random.key(0), (784,))
    random = np.random.default_rng(0)
    x = jnp.asarray(np.maximum(random.uniform(-1, 1, (batch, 784)), 0), jnp.float32)
    y = jnp.asarray(random.integers(0, 10, batch))

    def loss(params, x, y):
        return nn.softmax_cross_entropy(model.apply(params, model_state, x)[0], y)

    return loss, params, x, y


def scaled(loss, leaf, factor):
    """The gradient of a loss, wrong by a factor in one leaf."""
    layer, name = leaf.split("/")

    def gradient(params, *args):
        grads = jax.grad(loss)(params, *args)
        return grads | {layer: grads[layer] | {name: factor * grads[layer][name]}}

    return gradient


class TestTheTextbooksNetInFull:
    """All 39,760 entries, with relu."""

    def test_the_right_gradient_passes(self):
        loss, params, x, y = two_layer_net()
        report = nn.check_gradients(loss, params, x, y, sample=None)
        assert report.ok
        assert sum(leaf.checked for leaf in report.leaves) == 39_760
        assert max(leaf.worst_relative for leaf in report.leaves) < 1e-4
        assert {leaf.name: leaf.verdict for leaf in report.leaves} == dict.fromkeys(
            ["dense1/W", "dense1/b", "dense2/W", "dense2/b"], "ok"
        )

    def test_kinks_are_named_as_kinks(self):
        """An example of zeros with biases of 0 is at the kink of every unit; b[7] is 1e-7 beside one."""
        loss, params, x, y = two_layer_net()
        z = np.asarray(x, np.float64) @ np.asarray(params["dense1"]["W"], np.float64)
        params["dense1"]["b"] = params["dense1"]["b"].at[7].set(1e-7 - z[5, 7])
        x = x.at[3].set(0.0)
        report = nn.check_gradients(loss, params, x, y, sample=None)
        assert report.ok
        kinks = {leaf.name: [kink.where for kink in leaf.kinks] for leaf in report.leaves}
        assert kinks["dense1/b"] == [(j,) for j in range(50)]
        # Where a pixel of example 5 is lit, a step of its weight reaches over the kink of unit 7.
        lit = np.flatnonzero(x[5] > 0.1)
        assert set(kinks["dense1/W"]) >= {(int(i), 7) for i in lit}
        assert {j for _, j in kinks["dense1/W"]} == {7}
        assert kinks["dense2/W"] == kinks["dense2/b"] == []

    @pytest.mark.parametrize(
        ("factor", "leaf"),
        [*(pytest.param(factor, "dense1/W", marks=pytest.mark.slow) for factor in (2.0, 1.001)), (1.001, "dense2/b")],
    )
    def test_a_scaled_gradient_fails_and_the_leaf_is_named(self, factor, leaf):
        loss, params, x, y = two_layer_net()
        report = nn.check_gradients(loss, params, x, y, sample=None, gradient=scaled(loss, leaf, factor))
        assert report.failed == (leaf,)
        (found,) = (one for one in report.leaves if one.name == leaf)
        np.testing.assert_allclose(found.analytic / found.numerical, factor, rtol=1e-4)
        with pytest.raises(nn.GradientError, match=f"the gradient of {leaf} is wrong"):
            report.raise_if_failed()

    def test_a_sample_and_directions_find_a_single_wrong_entry(self):
        """None of the sampled entries is wrong, but the leaf as a whole is: the search ends at the entry."""
        loss, params, x, y = two_layer_net()

        def gradient(params, x, y):
            grads = jax.grad(loss)(params, x, y)
            return grads | {"dense1": grads["dense1"] | {"W": grads["dense1"]["W"].at[77, 7].add(1e-4)}}

        report = nn.check_gradients(loss, params, x, y, gradient=gradient)
        assert report.failed == ("dense1/W",)
        assert report.leaves[0].where == (77, 7)
        assert report.leaves[0].checked == 201
        assert report.leaves[0].directions == 2

    @pytest.mark.parametrize(
        "place", [pytest.param(place, marks=pytest.mark.slow) for place in ((300, 20), (93, 15), (0, 49))]
    )
    def test_a_single_entry_that_is_hardly_wrong(self, place):
        """By 1e-4 of the largest: the direction through 39,200 entries is off by 2e-9, and known to 2e-10."""
        loss, params, x, y = two_layer_net()

        def gradient(params, x, y):
            grads = jax.grad(loss)(params, x, y)
            return grads | {"dense1": grads["dense1"] | {"W": grads["dense1"]["W"].at[place].add(4e-7)}}

        report = nn.check_gradients(loss, params, x, y, gradient=gradient)
        assert (report.failed, report.leaves[0].where) == (("dense1/W",), place)

    @pytest.mark.slow
    def test_what_a_sample_can_miss_checking_all_cannot(self):
        """An entry that is off by too little for a direction through 39,200 of them to show."""
        loss, params, x, y = two_layer_net()
        smallest = np.unravel_index(np.argmin(np.abs(jax.grad(loss)(params, x, y)["dense1"]["W"])), (784, 50))

        def gradient(params, x, y):
            grads = jax.grad(loss)(params, x, y)
            return grads | {"dense1": grads["dense1"] | {"W": grads["dense1"]["W"].at[smallest].add(4e-9)}}

        assert nn.check_gradients(loss, params, x, y, gradient=gradient).ok
        report = nn.check_gradients(loss, params, x, y, gradient=gradient, sample=None)
        assert report.failed == ("dense1/W",)
        assert report.leaves[0].where == smallest

    @pytest.mark.slow
    def test_kinks_in_one_leaf_stay_kinks_when_another_is_wrong_all_over(self):
        loss, params, x, y = two_layer_net()
        x = x.at[3].set(0.0)  # at the kink of every unit, by the biases
        report = nn.check_gradients(loss, params, x, y, sample=None, gradient=scaled(loss, "dense1/W", 2.0))
        assert report.failed == ("dense1/W",)
        assert len(next(leaf for leaf in report.leaves if leaf.name == "dense1/b").kinks) == 50


def times(factor, leaf="dense1/W"):
    """The loss with a derivative in which one leaf is wrong by a factor."""
    loss, params, x, y = two_layer_net()
    layer, name = leaf.split("/")

    @jax.custom_vjp
    def same(W):
        return W

    same.defvjp(lambda W: (W, None), lambda _, g: (factor * g,))
    return lambda params: loss(params | {layer: params[layer] | {name: same(params[layer][name])}}, x, y), params


class TestBesideTheStockTools:
    """The same three runs (right, doubled, 1.001) through JAX's and chex's own checks: docs/gradients.md has the table."""

    @staticmethod
    def jax_check(factor, *, wide, **options):
        f, params = times(factor)
        with enable_x64(wide), jax.numpy_dtype_promotion("standard"):
            dtype = jnp.float64 if wide else jnp.float32
            params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, dtype)), params)
            check_grads(f, (params,), order=1, modes=("rev",), **options)

    @staticmethod
    def chex_check(factor):
        f, params = times(factor)
        flat, unravel = ravel_pytree(params)
        chex.assert_numerical_grads(lambda flat: f(unravel(flat)), (flat,), order=1, modes=("rev",))

    def test_jaxnn_tells_all_three(self):
        """Here by a custom derivative; the others are in `TestTheTextbooksNetInFull`."""
        f, params = times(1.001)
        assert nn.check_gradients(f, params).failed == ("dense1/W",)

    @pytest.mark.slow
    def test_check_grads_in_float32_passes_them_all(self):
        for factor in (1.0, 2.0, 1.001):
            self.jax_check(factor, wide=False)

    @pytest.mark.slow
    def test_check_grads_in_float64_rejects_the_right_gradient(self):
        with pytest.raises(AssertionError, match="VJP cotangent projection") as error:
            self.jax_check(1.0, wide=True)
        assert "dense1" not in str(error.value)  # no leaf, no entry

    @pytest.mark.slow
    def test_check_grads_in_float64_with_a_step_of_1e_6_misses_the_small_fault(self):
        self.jax_check(1.0, wide=True, eps=1e-6)
        self.jax_check(1.001, wide=True, eps=1e-6)
        with pytest.raises(AssertionError, match="VJP cotangent projection"):
            self.jax_check(2.0, wide=True, eps=1e-6)

    @pytest.mark.slow
    def test_chex_passes_them_all_and_takes_no_dict(self):
        for factor in (1.0, 2.0, 1.001):
            self.chex_check(factor)
        f, params = times(1.0)
        with pytest.raises(AttributeError, match="'dict' object has no attribute 'size'"):
            chex.assert_numerical_grads(f, (params,), order=1, modes=("rev",))


KINKED = jnp.array([0.0, 1e-7, -3e-7, 2e-6, 0.5, -0.5, 1e-9])
AT_KINK = [(0,), (1,), (2,), (3,), (6,)]


@pytest.mark.parametrize(
    "f",
    [jnp.abs, nn.relu, nn.leaky_relu, lambda x: jnp.where(x > 0, 3 * x, x), lambda x: jnp.where(x > 0, 1.0, 0.0) + x],
)
def test_kinks_are_told_from_smooth_entries(f):
    report = nn.check_gradients(lambda x: jnp.sum(f(x)), KINKED)
    assert report.ok
    assert [kink.where for kink in report.leaves[0].kinks] == AT_KINK


@pytest.mark.parametrize("factor", [0.5, 2.0, -1.0])
def test_a_wrong_gradient_beside_a_kink_is_no_kink(factor):
    """Half of relu's slope lies between its sides, and passes where steps cannot get past the kink; beside it, not."""
    f = lambda x: jnp.sum(jnp.abs(x))
    report = nn.check_gradients(f, KINKED, gradient=lambda x: factor * jnp.sign(x))
    assert not report.ok
    assert report.leaves[0].wrong >= 6 - (abs(factor) < 1)
    assert len(report.leaves[0].kinks) <= 1 + (abs(factor) < 1)


@pytest.mark.parametrize(
    "f",
    {
        "curved over a step": lambda x, _: jnp.sin(1e5 * x) / 1e5,
        "steep": lambda x, _: jnp.exp(20 * x),
        "large beside its slope": lambda x, _: 1e6 + x**2,
        "cancelling": lambda x, c: (c + x) - c,
        "cancelling in one entry": lambda x, c: x.at[0].set((c + x[0]) - c),
        "linear": lambda x, _: 3 * x,
        "constant": lambda x, _: 0 * x,
        "small": lambda x, _: 1e-30 * jnp.sin(x),
        "large": lambda x, _: 1e30 * jnp.sin(x),
    }.items(),
    ids=lambda item: item[0],
)
def test_smooth_functions_that_are_hard_to_difference_pass_without_kinks(f):
    report = nn.check_gradients(lambda x, c: jnp.sum(f[1](x, c)), KINKED, jnp.float32(1e8))
    report.raise_if_failed()
    assert report.leaves[0].kinks == ()


def test_a_kink_of_the_slope_is_no_fault():
    nn.check_gradients(lambda x: jnp.sum(x * jnp.abs(x)), KINKED).raise_if_failed()


@pytest.mark.parametrize("p", [1e-7, 1e-12])
def test_parameters_near_the_end_of_a_function(p):
    """Steps of 6e-6 from 1e-12 leave the logarithm's numbers."""
    f = lambda p: jnp.sum(jnp.log(p[0])) + jnp.sum(jnp.sqrt(p[1]))
    params = jnp.array([[p, 1.0], [p, 1.0]])
    nn.check_gradients(f, params).raise_if_failed()
    wrong = lambda p: jax.grad(f)(p) * jnp.array([[1.01, 1.0], [1.0, 1.0]])
    report = nn.check_gradients(f, params, gradient=wrong)
    assert (report.leaves[0].where, report.leaves[0].wrong) == ((0, 0), 1)


def test_at_the_end_of_a_function_one_side_is_enough():
    nn.check_gradients(lambda p: jnp.sum(p**1.5), jnp.array([0.0, 1.0])).raise_if_failed()


def test_a_fault_at_a_point_is_no_kink_because_there_are_kinks_elsewhere():
    """The slope is 3 everywhere, and at 0 the gradient says 0."""
    f = lambda p: jnp.sum(jnp.where(p["a"] == 0, 0.0, 3 * p["a"])) + jnp.abs(p["b"])
    report = nn.check_gradients(f, {"a": jnp.zeros(1), "b": jnp.float32(0)})
    assert report.failed == ("a",)


def test_a_gradient_beyond_both_sides_of_a_kink_is_wrong():
    gradient = lambda x: jnp.where(x == 0, 5.0, jnp.sign(x))
    assert not nn.check_gradients(jnp.abs, 0.0, gradient=gradient).ok


def test_max_pooling_of_equal_values_is_a_kink():
    x = jnp.array([[1.0, 1.0, 0.0, 0.5], [1.0, 0.3, 0.5, 0.5]]).reshape(1, 2, 4, 1)
    report = nn.check_gradients(lambda x: jnp.sum(nn.convolution.max_pool2d(x, 2) ** 2), x)
    assert report.ok
    kinked = [(0, 0, 0, 0), (0, 0, 1, 0), (0, 0, 3, 0), (0, 1, 0, 0), (0, 1, 2, 0), (0, 1, 3, 0)]
    assert [kink.where for kink in report.leaves[0].kinks] == kinked


def test_units_that_are_dead_to_within_rounding_are_at_a_kink():
    """Weights of 1e-3 through three layers with biases of 0: logits of 1e-9, whose signs no step of 6e-6 can tell."""
    model = nn.mlp([8, 8, 8], 3, activation=nn.leaky_relu, initializer=nn.normal(1e-3))
    params, model_state, _ = model.init(jax.random.key(0), (4,))
    x, y = jax.random.normal(jax.random.key(1), (6, 4)), jnp.array([0, 1, 2, 0, 1, 2])
    loss = lambda params: nn.softmax_cross_entropy(model.apply(params, model_state, x)[0], y)
    report = nn.check_gradients(loss, params)
    report.raise_if_failed()
    assert len(next(leaf for leaf in report.leaves if leaf.name == "dense3/b").kinks) == 8


def test_runs_in_float64_whatever_comes_and_leaves_the_settings_alone():
    seen = []

    def f(params, x, scale, name):
        seen.append((params["W"].dtype, x.dtype, name))
        return scale * jnp.sum(jnp.tanh(x @ params["W"] + closed_over))

    closed_over = jnp.ones((3, 2), jnp.float32)  # keeps its dtype, and meets the wider one
    params = {"W": jnp.ones((4, 2), jnp.bfloat16)}
    report = nn.check_gradients(f, params, jnp.linspace(0, 1, 12, dtype=jnp.float16).reshape(3, 4), 2, "a name")
    report.raise_if_failed()
    assert set(seen) == {(np.dtype(np.float64), np.dtype(np.float64), "a name")}
    assert report.dtype == "float64"
    assert not jax.config.jax_enable_x64
    assert jax.config.jax_numpy_dtype_promotion == "strict"
    assert jnp.ones(1).dtype == jnp.float32


def test_float32_on_request():
    report = nn.check_gradients(lambda p: jnp.sum(jnp.sin(p)), jnp.linspace(-2, 2, 9), dtype=jnp.float32)
    report.raise_if_failed()
    assert (report.dtype, report.rtol) == ("float32", 1e-2)
    np.testing.assert_allclose(report.step, np.finfo(np.float32).eps ** (1 / 3), rtol=1e-6)
    wrong = nn.check_gradients(
        lambda p: jnp.sum(jnp.sin(p)), jnp.linspace(-2, 2, 9), dtype=jnp.float32, gradient=lambda p: 1.1 * jnp.cos(p)
    )
    assert not wrong.ok


def test_a_function_that_rounds_on_its_way_is_refused():
    rounding = lambda p: jnp.sum((p.astype(jnp.float32) ** 2).astype(p.dtype))
    sentence = "f computes in float32 on its way from params, and differences of that are noise in float64"
    with pytest.raises(ValueError, match=sentence):
        nn.check_gradients(rounding, jnp.arange(1.0, 4.0))
    assert nn.check_gradients(rounding, jnp.arange(1.0, 4.0), dtype=jnp.float32).ok
    # A mask of numbers that float32 holds rounds nothing.
    masked = lambda p: jnp.sum((p > 0).astype(jnp.float32) * p)
    assert nn.check_gradients(masked, jnp.array([0.5, 0.0])).ok
    assert not nn.check_gradients(masked, jnp.array([0.5, 1.0]), gradient=lambda p: 2 * jnp.ones(2)).ok
    state = nn.batch_norm().init(jax.random.key(0), (3,))[1] | {"count": jnp.ones((), jnp.int32)}
    f = lambda p, state: jnp.sum(nn.batch_norm().apply({"gamma": p, "beta": p}, state, p[None, :])[0] ** 2)
    with pytest.raises(ValueError, match=sentence):  # the state that it finds in its surroundings is float32
        nn.check_gradients(lambda p: f(p, state), jnp.arange(3.0))
    nn.check_gradients(f, jnp.arange(3.0), state).raise_if_failed()


def test_what_does_not_lead_to_the_value_may_be_as_narrow_as_it_likes():
    f = lambda p, x: jnp.sum(p * x.astype(jnp.float32).astype(p.dtype)) + 0 * jnp.sum(p.astype(jnp.float32))
    nn.check_gradients(f, jnp.arange(3.0), jnp.ones(3)).raise_if_failed()


def test_sees_any_pytree_and_names_its_leaves():
    params = ({"scale": 2.0, "none": None}, [np.ones(3, np.float32), jnp.zeros((0, 2))])
    report = nn.check_gradients(lambda p: p[0]["scale"] * jnp.sum(p[1][0] ** 2), params)
    report.raise_if_failed()
    assert [(leaf.name, leaf.shape, leaf.checked) for leaf in report.leaves] == [
        ("0/scale", (), 1),
        ("1/0", (3,), 3),
        ("1/1", (0, 2), 0),
    ]
    assert [leaf.name for leaf in nn.check_gradients(lambda p: p**2, 3.0).leaves] == ["params"]


def test_the_sample_is_seeded():
    p = jnp.linspace(-1, 1, 5000)
    reports = [nn.check_gradients(lambda p: jnp.sum(jnp.cos(p)), p, seed=seed) for seed in (0, 0, 1)]
    assert reports[0] == reports[1]
    assert reports[0] != reports[2]
    leaf, everything = reports[0].leaves
    assert (leaf.checked, leaf.directions, everything.name, everything.directions) == (200, 2, "all leaves", 2)
    few = nn.check_gradients(lambda p: jnp.sum(jnp.cos(p)), p, sample=7, directions=0).leaves
    assert [(leaf.checked, leaf.directions) for leaf in few] == [(7, 0)]


def test_a_gradient_of_zero_says_so():
    """A bias before batch norm moves nothing."""
    f = lambda p, x: jnp.sum((x + p["b"] - jnp.mean(x + p["b"])) ** 3) + p["W"]
    report = nn.check_gradients(f, {"b": jnp.float32(0.3), "W": jnp.float32(1)}, jnp.array([0.1, 0.7, 2.0]))
    assert {leaf.name: leaf.verdict for leaf in report.leaves} == {"W": "ok", "b": "zero"}


def test_a_gradient_that_is_not_a_number_is_wrong():
    report = nn.check_gradients(lambda p: jnp.sum(jnp.sqrt(p**2)), jnp.array([1.0, 0.0]))
    assert report.failed == ("params",)
    assert report.leaves[0].where == (1,)
    assert '"analytic": "nan"' in report.to_json()


def test_the_table_for_people_and_the_json_for_programs():
    f = lambda p: jnp.sum(p["W"] ** 2) + jnp.abs(p["b"])
    params = {"W": jnp.ones((2, 3)), "b": jnp.float32(0)}
    report = nn.check_gradients(f, params, gradient=lambda p: {"W": 2.5 * p["W"], "b": jnp.ones_like(p["b"])})
    lines = str(report).splitlines()
    assert lines[0].startswith("gradient check in float64: steps of 6.1e-06, differences known to ")
    assert lines[1].split() == [
        "leaf",
        "checked",
        *["mean", "abs", "worst", "abs", "worst", "rel", "at", "numerical", "analytic", "verdict"],
    ]
    assert lines[2].split() == ["W", "6", "5.0e-01", "5.0e-01", "2.0e-01", "[1,", "2]", "2", "2.5", "WRONG", "(6)"]
    assert lines[3].split() == ["b", "1", "-", "-", "-", "-", "-", "-", "ok,", "1", "kink"]
    assert lines[4] == "the gradient of W is WRONG: 7 of 7 entries checked, 1 of them at a kink"
    content = json.loads(report.to_json())
    assert content["ok"] is False
    assert content["failed"] == ["W"]
    assert content["leaves"][0]["where"] == [1, 2]
    np.testing.assert_allclose(
        [content["leaves"][1]["kinks"][0][side] for side in ("left", "right")], [-1, 1], rtol=1e-6
    )
    with pytest.raises(nn.GradientError, match="the gradient of W is wrong\ngradient check"):
        report.raise_if_failed()
    nn.check_gradients(f, params).raise_if_failed()


def drawn_outside(p, state=np.random.default_rng(0)):  # noqa: B008
    return jnp.sum(p) * state.normal()


def drawn_times_zero(p, state=np.random.default_rng(0)):  # noqa: B008
    return jnp.sum((p - jnp.arange(1.0, 4.0)) * state.normal(size=3))


def key_outside(p, state=[jax.random.key(0)]):  # noqa: B006, B008
    state[0], key = jax.random.split(state[0])
    return jnp.sum(p * jax.random.normal(key, p.shape))


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"f": drawn_outside}, ValueError, "f is not deterministic: it gave .* and .* from one call to the next"),
        ({"f": drawn_times_zero}, ValueError, "f is not deterministic: it gave"),
        ({"f": key_outside}, ValueError, "f is not deterministic: it changes something outside itself"),
        ({"f": 3}, TypeError, r"f must be a function \(params, \*args\) -> scalar; got int 3"),
        ({"f": lambda p: p}, TypeError, r"f returned an array of shape \(3,\); expected a scalar"),
        ({"f": lambda p: (jnp.sum(p), p)}, TypeError, "f returned a tuple; expected one scalar"),
        ({"f": lambda p: jnp.log(-jnp.sum(p))}, ValueError, "f is nan at these params"),
        ({"params": {}}, ValueError, "params has no entries"),
        ({"params": {"n": jnp.arange(3)}}, TypeError, "n has dtype int32; only real floating-point entries"),
        ({"gradient": 3}, TypeError, "gradient must be a function"),
        ({"gradient": lambda p: {"p": p}}, ValueError, "gradient returned the structure .* expected that of params"),
        ({"gradient": lambda p: p[:2]}, ValueError, r"gradient returned shape \(2,\) for params; expected \(3,\)"),
        ({"gradient": lambda p: p + 0j}, TypeError, "gradient returned dtype complex128 for params; expected real"),
        ({"params": jnp.array([1.0, jnp.nan])}, ValueError, r"params\[1\] is nan; every value must be finite"),
        ({"rtol": 5.0}, ValueError, "rtol must be finite and above 0 and below 1; got 5"),
        ({"sample": 0}, ValueError, "sample must be at least 1; got 0"),
        ({"directions": -1}, ValueError, "directions must be at least 0; got -1"),
        ({"rtol": 0.0}, ValueError, "rtol must be finite and above 0 and below 1; got 0"),
        ({"step": 1e-14}, ValueError, "step must be finite and above 2.22045e-13; got 1e-14"),
        ({"dtype": jnp.float16}, ValueError, "dtype must be float64 or float32; in float16 differences are noise"),
    ],
)
def test_refuses(arguments, error, sentence, types_unchecked):
    arguments = {"f": lambda p: jnp.sum(p**2), "params": jnp.arange(1.0, 4.0)} | arguments
    with pytest.raises(error, match=sentence):
        nn.check_gradients(arguments.pop("f"), arguments.pop("params"), **arguments)


def test_says_why_arrays_of_its_surroundings_do_not_fit():
    images = jnp.ones((1, 3, 5, 5))
    f = lambda W: jnp.sum(jax.lax.conv_general_dilated(images, W, (1, 1), "SAME"))
    with pytest.raises(TypeError) as error:
        nn.check_gradients(f, jnp.ones((1, 3, 2, 2)))
    assert "give f the arrays that it finds elsewhere as args too" in error.value.__notes__[-1]


def test_refuses_to_be_compiled():
    with pytest.raises(ValueError, match="call it outside jit, vmap and grad"):
        jax.jit(lambda p: nn.check_gradients(jnp.sum, p).value)(jnp.ones(3))
