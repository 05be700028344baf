"""What adamw, lion and muon have beside the others: masks, decay, and matrices made orthogonal."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.older_jax import enable_x64
from tests.optimizer_cases import run

pytestmark = pytest.mark.little_optimized

DECAYING = {
    "adamw": lambda **settings: nn.adamw(0.1, weight_decay=0.5, **settings),
    "lion": lambda **settings: nn.lion(0.1, weight_decay=0.5, **settings),
}
PARAMS = {"dense1": {"W": jnp.full((2, 3), 2.0), "b": jnp.full(3, 2.0)}, "scale": jnp.float32(2.0)}


def decayed(optimizer, params=PARAMS):
    """Which leaves a step without a gradient makes smaller; by 0.1 · 0.5 of them."""
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    jax.tree.map(lambda u, W: np.testing.assert_allclose(u, np.where(u == 0, 0, -0.05 * W), rtol=1e-6), updates, params)
    return jax.tree.map(lambda u: bool((u != 0).all()), updates)


@pytest.mark.parametrize("name", DECAYING)
class TestMasks:
    def test_none_decays_leaves_of_two_axes_or_more(self, name):
        assert decayed(DECAYING[name]()) == {"dense1": {"W": True, "b": False}, "scale": False}

    @pytest.mark.parametrize(
        ("mask", "expected"),
        [
            ({"dense1": {"W": False, "b": True}, "scale": True}, {"dense1": {"W": False, "b": True}, "scale": True}),
            ({"dense1": True, "scale": False}, {"dense1": {"W": True, "b": True}, "scale": False}),
            (True, {"dense1": {"W": True, "b": True}, "scale": True}),
            (lambda params: {"dense1": np.False_, "scale": params["scale"].ndim == 0}, {"dense1": {"W": False, "b": False}, "scale": True}),
        ],
    )  # fmt: skip
    def test_a_tree_its_beginning_or_a_function(self, name, mask, expected):
        assert decayed(DECAYING[name](mask=mask)) == expected

    def test_what_does_not_fit_is_refused_by_init(self, name):
        with pytest.raises(ValueError, match=r"mask has the structure .*; expected that of params or the beginning"):
            DECAYING[name](mask={"dense2": True}).init(PARAMS)
        with pytest.raises(TypeError, match=r"mask\['dense1'\] must be True or False; got 1"):
            DECAYING[name](mask={"dense1": 1, "scale": True}).init(PARAMS)

    def test_without_the_parameters_nothing_can_decay(self, name):
        optimizer = DECAYING[name]()
        with pytest.raises(ValueError, match=rf"{name} decays the parameters.*update\(grads, state, params\)"):
            optimizer.update(PARAMS, optimizer.init(PARAMS))

    def test_bfloat16_weights_decay_in_float32(self, name):
        """A step and a decay that bfloat16 would lose one by one."""
        W = jnp.full((1, 1), 1.0, jnp.bfloat16)
        optimizer = (
            nn.adamw(2.0**-7, weight_decay=2.0**-9) if name == "adamw" else nn.lion(2.0**-7, weight_decay=2.0**-9)
        )
        updates, _ = optimizer.update(W, optimizer.init(W), W)
        np.testing.assert_array_equal(updates, np.asarray([[-(2.0**-7) * (1 + 2.0**-9)]]).astype(jnp.bfloat16))


def test_no_decay_needs_no_parameters():
    for optimizer in (nn.adamw(0.1, weight_decay=0.0), nn.lion(0.1), nn.muon(0.1)):
        without, _ = optimizer.update(PARAMS, optimizer.init(PARAMS))
        given, _ = optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)
        jax.tree.map(np.testing.assert_array_equal, without, given)


def test_decay_is_not_part_of_the_gradient():
    """Through the gradient, Adam's root would divide it away: the step has length lr whatever lambda is."""
    W, g = jnp.full((1, 1), 10.0), jnp.full((1, 1), 1e-3)
    beside, _ = nn.adamw(0.1, weight_decay=0.1).update(g, nn.adamw().init(W), W)
    through, _ = nn.adam(0.1).update(g + 0.1 * W, nn.adam().init(W))
    np.testing.assert_allclose([beside[0, 0], through[0, 0]], [-0.1 - 0.1, -0.1], rtol=1e-4)


def test_lion_moves_every_entry_by_the_rate():
    random = np.random.default_rng(0)
    g = jnp.asarray(random.normal(size=(20, 100)) * 10 ** random.uniform(-30, 30, size=100), jnp.float32)
    walked, _ = run(nn.lion(0.5), jnp.zeros(100), g)
    steps = np.diff(walked, axis=0)
    np.testing.assert_array_equal(np.abs(steps), 0.5)


class TestMuon:
    def singular_values(self, shape, g=None):
        g = jax.random.normal(jax.random.key(0), shape) if g is None else g
        optimizer = nn.muon(1.0, consistent_rms=None)
        update, _ = optimizer.update(g, optimizer.init(g))
        matrix = np.asarray(update, np.float64).reshape(-1, shape[-1])
        rows, columns = matrix.shape
        return np.linalg.svd(matrix / np.sqrt(max(1, columns / rows)), compute_uv=False)

    @pytest.mark.parametrize(
        "shape",
        [
            (20, 8),
            *(
                pytest.param(shape, marks=pytest.mark.slow)
                for shape in ((8, 20), (12, 12), (3, 3, 2, 30), (1, 5), (1, 1))
            ),
        ],
    )
    def test_singular_values_come_near_one(self, shape):
        values = self.singular_values(shape)
        assert values.min() > 0.6
        assert values.max() < 1.25

    def test_the_singular_vectors_stay(self):
        """The step is -U f(S) V': in the bases of g's singular vectors it is diagonal, f the quintic five times."""
        g = np.asarray(jax.random.normal(jax.random.key(1), (7, 4)), np.float64)
        U, S, Vt = np.linalg.svd(g, full_matrices=False)
        s = S / np.linalg.norm(S)
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        optimizer = nn.muon(0.1, consistent_rms=0.2)
        with enable_x64(True):
            update, _ = optimizer.update(jnp.asarray(g), optimizer.init(jnp.asarray(g)))
        np.testing.assert_allclose(update, -0.1 * 0.2 * np.sqrt(7) * (U * s) @ Vt, atol=1e-12)

    @pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e37])
    def test_the_size_of_the_gradient_does_not_matter(self, size):
        g = jax.random.normal(jax.random.key(0), (8, 6))
        np.testing.assert_allclose(
            self.singular_values((8, 6), g=g * jnp.float32(size)), self.singular_values((8, 6), g=g), rtol=1e-3
        )

    def test_gradients_without_rank_or_entries_give_no_nan(self):
        params = {"zero": jnp.ones((3, 2)), "none": jnp.ones((0, 4)), "nor": jnp.ones((4, 0)), "one": jnp.ones((3, 2))}
        grads = {**jax.tree.map(jnp.zeros_like, params), "one": jnp.ones((3, 2))}
        optimizer = nn.muon(0.1)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        np.testing.assert_array_equal(updates["zero"], 0)
        assert (updates["none"].shape, updates["nor"].shape) == ((0, 4), (4, 0))
        assert (updates["one"] < -0.005).all()

    def test_the_rest_follows_its_own_rule(self):
        """By default adam at muon's rate; else what is given, which sees the other leaves alone."""
        grads = jax.tree.map(lambda W: W + 1, PARAMS)
        others = {"b": grads["dense1"]["b"], "scale": grads["scale"]}
        for rest, alone in ((None, nn.adam(0.1)), (nn.sgd(3.0), nn.sgd(3.0)), (optax.sgd(3.0), nn.sgd(3.0))):
            optimizer = nn.muon(0.1, rest=rest)
            updates, _ = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
            expected, _ = alone.update(others, alone.init(others))
            np.testing.assert_allclose(updates["dense1"]["b"], expected["b"], rtol=1e-6)
            np.testing.assert_allclose(updates["scale"], expected["scale"], rtol=1e-6)
            assert jnp.abs(updates["dense1"]["W"]).max() < 0.05

    def test_the_mask_says_what_is_made_orthogonal(self):
        params = {"first": jnp.ones((2, 2)), "hidden": jnp.ones((2, 2))}
        grads = {"first": jnp.array([[1.0, 2.0], [3.0, 5.0]]), "hidden": jnp.array([[1.0, 2.0], [3.0, 5.0]])}
        optimizer = nn.muon(0.1, weight_decay=0.5, mask={"first": False, "hidden": True}, rest=nn.sgd(1.0))
        state = optimizer.init(params)
        assert state.B["first"] == optax.MaskedNode()
        updates, _ = optimizer.update(grads, state, params)
        np.testing.assert_array_equal(updates["first"], -grads["first"])
        free = nn.muon(0.1)
        orthogonal, _ = free.update(grads["hidden"], free.init(params["hidden"]))
        np.testing.assert_allclose(updates["hidden"], orthogonal - 0.1 * 0.5 * params["hidden"], rtol=1e-5)
        with pytest.raises(ValueError, match=r"params\['b'\] has shape \(3,\); muon makes only leaves of two axes"):
            nn.muon(0.1, mask=True).init({"b": jnp.ones(3)})

    def test_the_rest_must_be_an_optimizer(self, types_unchecked):
        with pytest.raises(TypeError, match=r"rest must be an optimizer, such as adam\(0.001\); got str"):
            nn.muon(0.1, rest="adam")

    def test_the_rest_is_told_what_it_asks_for(self):
        """A rule that follows the loss sees it."""
        optimizer = nn.muon(0.1, rest=optax.chain(nn.sgd(1.0), optax.contrib.reduce_on_plateau(patience=0)))
        state = optimizer.init(PARAMS)
        for _ in range(3):
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(PARAMS, state, PARAMS, value=jnp.float32(1.0))
        assert float(jnp.abs(updates["dense1"]["b"]).max()) < float(jnp.abs(PARAMS["dense1"]["b"]).max())

    def test_a_step_is_about_as_large_as_adams(self):
        """Of full rank, the entries' root mean square is 0.2 lr, whatever the shape (Liu et al. 2025)."""
        for shape in ((64, 64), (16, 64), (64, 16)):
            g = jax.random.normal(jax.random.key(0), shape)
            update, _ = nn.muon(1.0).update(g, nn.muon(1.0).init(g))
            np.testing.assert_allclose(jnp.sqrt(jnp.mean(update**2)), 0.2, rtol=0.2)
