"""Losses against float64 NumPy, their gradients included, at ordinary values and at the extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxnn as nn

pytestmark = pytest.mark.little_optimized


def log_softmax_64(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def softmax_cross_entropy_64(z, labels):
    z = np.asarray(z, np.float64)
    log_p = log_softmax_64(z)
    t = np.eye(z.shape[-1])[labels]
    return -(t * log_p).sum(-1).mean(), (np.exp(log_p) - t) / len(z)


@st.composite
def logits_and_labels(draw, largest):
    batch, classes = draw(st.sampled_from([(1, 2), (4, 5)]))  # few shapes, so that XLA compiles once for each
    z = draw(hnp.arrays(np.float32, (batch, classes), elements=st.floats(-largest, largest, width=32)))
    labels = draw(hnp.arrays(np.int32, batch, elements=st.integers(0, classes - 1)))
    return z, labels


SOFTMAX_CROSS_ENTROPY = jax.jit(jax.value_and_grad(nn.softmax_cross_entropy))
CROSS_ENTROPY = jax.jit(jax.value_and_grad(nn.cross_entropy))


@pytest.mark.parametrize("largest", [1, 100, 10_000])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_softmax_cross_entropy_is_exact_to_rounding(largest, data):
    z, labels = data.draw(logits_and_labels(largest))
    with np.errstate(under="ignore"):
        value, gradient = softmax_cross_entropy_64(z, labels)
    got, got_gradient = SOFTMAX_CROSS_ENTROPY(jnp.asarray(z), jnp.asarray(labels))
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(got, value, rtol=8 * eps, atol=4 * eps)
    np.testing.assert_allclose(got_gradient, gradient, rtol=8 * eps, atol=2 * eps)


@pytest.mark.parametrize("gap", [5.0, 20.0, 40.0, 80.0])
def test_softmax_cross_entropy_keeps_the_precision_of_a_small_loss(gap):
    z, label = jnp.array([[gap, 0.0, -gap]]), jnp.array([0])
    value, gradient = jax.value_and_grad(nn.softmax_cross_entropy)(z, label)
    exact = np.log1p(np.exp(-gap) + np.exp(-2 * gap))
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    np.testing.assert_allclose(gradient[0, 0], np.expm1(-exact), rtol=1e-6)


def test_softmax_cross_entropy_has_the_right_curvature_at_ties():
    """All logits equal, as zero weights make them: the Hessian of log Σ exp is diag(p) - p pᵀ."""
    hessian = jax.hessian(lambda z: nn.softmax_cross_entropy(z[None], jnp.array([1])))(jnp.zeros(3))
    np.testing.assert_allclose(hessian, np.eye(3) / 3 - 1 / 9, atol=1e-6)


def test_softmax_cross_entropy_with_a_class_ruled_out():
    z = jnp.array([[1.0, -jnp.inf, 0.0]])
    value, gradient = jax.value_and_grad(nn.softmax_cross_entropy)(z, jnp.array([0]))
    p = np.exp([1.0, 0.0]) / np.exp([1.0, 0.0]).sum()
    np.testing.assert_allclose(value, -np.log(p[0]), rtol=1e-6)
    np.testing.assert_allclose(gradient[0], [p[0] - 1, 0, p[1]], rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(case=logits_and_labels(10))
def test_integer_and_one_hot_labels_agree(case):
    z, labels = map(jnp.asarray, case)
    one_hot = jax.nn.one_hot(labels, z.shape[-1])
    for loss, outputs in ((SOFTMAX_CROSS_ENTROPY, z), (CROSS_ENTROPY, nn.softmax(z))):
        integer = loss(outputs, labels)
        for targets in (one_hot, one_hot.astype(jnp.int32), one_hot.astype(jnp.bfloat16)):
            for a, b in zip(integer, loss(outputs, targets), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6)


def test_soft_targets():
    z, t = np.float32([[1.0, 2.0, -1.0]]), np.float32([[0.2, 0.5, 0.3]])
    exact = -(t * log_softmax_64(z.astype(np.float64))).sum()
    np.testing.assert_allclose(nn.softmax_cross_entropy(jnp.asarray(z), jnp.asarray(t)), exact, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32])
def test_labels_of_any_integer_dtype(dtype):
    z = jnp.array([[1.0, 2.0, 0.5]])
    got = nn.softmax_cross_entropy(z, jnp.asarray(np.array([2], dtype)))
    np.testing.assert_allclose(got, softmax_cross_entropy_64(z, [2])[0], rtol=1e-6)


def test_a_label_that_int32_would_wrap(types_unchecked):
    with pytest.raises(ValueError, match=r"targets\[0\] is 4294967297"):
        nn.softmax_cross_entropy(jnp.zeros((1, 3)), np.array([2**32 + 1]))


def test_labels_beyond_what_uint8_counts():
    """300 classes and labels in uint8: class 256 must not be taken for class 0."""
    z = jnp.zeros((1, 300)).at[0, 256].set(5.0)
    got = nn.softmax_cross_entropy(z, jnp.array([0], jnp.uint8))
    np.testing.assert_allclose(got, softmax_cross_entropy_64(z, [0])[0], rtol=1e-6)


def test_cross_entropy_gives_the_figures_of_the_notes():
    p = jnp.array([[0.6, 0.4], [0.1, 0.9]])
    losses = [round(float(nn.cross_entropy(row[None], jnp.array([0]))), 2) for row in p]
    assert losses == [0.51, 2.30]


def test_cross_entropy_is_exact_above_eps():
    p = np.array([[1e-7, 1 - 1e-7], [1e-5, 1 - 1e-5], [0.3, 0.7], [1.0, 0.0]], np.float32)
    for row in p:
        got, slope = jax.value_and_grad(nn.cross_entropy)(jnp.asarray(row[None]), jnp.array([0]))
        np.testing.assert_allclose(got, -np.log(row[0].astype(np.float64)), rtol=1e-6)
        np.testing.assert_allclose(slope[0], [-1 / row[0], 0], rtol=1e-5)


def test_cross_entropy_of_probability_zero():
    value, slope = jax.value_and_grad(nn.cross_entropy)(jnp.array([[0.0, 1.0]]), jnp.array([0]))
    np.testing.assert_allclose(value, 1 - np.log(1e-7), rtol=1e-6)
    np.testing.assert_allclose(slope, [[-1e7, 0]], rtol=1e-6)


def test_cross_entropy_goes_on_smoothly_below_eps():
    loss = lambda p: nn.cross_entropy(jnp.stack([p, 1 - p])[None], jnp.array([0]), eps=0.01)
    slopes = [float(jax.grad(loss)(p)) for p in (0.0, 0.005, 0.01, 0.02)]
    np.testing.assert_allclose(slopes, [-100, -100, -100, -50], rtol=1e-5)


SQUARES = {
    "mean_squared_error": (
        nn.mean_squared_error,
        lambda z, y: ((z - y) ** 2).mean(),
        lambda z, y: 2 * (z - y) / z.size,
    ),
    "mean_absolute_error": (
        nn.mean_absolute_error,
        lambda z, y: abs(z - y).mean(),
        lambda z, y: np.sign(z - y) / z.size,
    ),
}


@pytest.mark.parametrize("name", SQUARES)
@settings(max_examples=30, deadline=None)
@given(z=hnp.arrays(np.float32, (3, 2), elements=st.floats(-9, 9, width=16)))
def test_regression_losses_equal_float64(name, z):
    loss, value, slope = SQUARES[name]
    y = np.float32([[1, 2], [3, 4], [5, 6]])
    got, gradient = jax.value_and_grad(loss)(jnp.asarray(z), jnp.asarray(y))
    np.testing.assert_allclose(got, value(z.astype(float), y), rtol=1e-6)
    np.testing.assert_allclose(gradient, slope(z.astype(float), y), rtol=1e-6)


@pytest.mark.parametrize("loss", [nn.softmax_cross_entropy, nn.cross_entropy])
@pytest.mark.parametrize(
    ("outputs", "targets", "error", "sentence"),
    [
        (
            (4, 3),
            np.array([0, 1, 3, 2]),
            ValueError,
            r"targets\[2\] is 3; expected labels 0 to 2 for 3 outputs",
        ),
        ((4, 3), np.array([0, -1, 1, 2]), ValueError, r"targets\[1\] is -1; expected labels 0 to 2"),
        (
            (4, 3),
            np.zeros((4, 1), int),
            ValueError,
            r"shape \(4, 1\); expected integer labels \(4,\) \(use targets\[:, 0\]\)",
        ),
        ((4, 3), np.zeros(5, int), ValueError, r"shape \(5,\); expected integer labels \(4,\)"),
        ((4, 3), np.zeros(4, np.float32), TypeError, r"dtype float32; expected integer labels"),
        (
            (4, 1),
            np.zeros(4, int),
            ValueError,
            r"outputs have shape \(4, 1\); expected \[batch, classes\] with two",
        ),
    ],
)
def test_bad_targets_get_a_sentence(loss, outputs, targets, error, sentence):
    with pytest.raises(error, match=sentence):
        loss(jnp.full(outputs, 0.5), jnp.asarray(targets))


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_not_silent_under_jit(label):
    z = jnp.zeros((2, 3))
    value, gradient = jax.jit(jax.value_and_grad(nn.softmax_cross_entropy))(z, jnp.array([0, label]))
    assert np.isnan(value)
    assert np.isnan(gradient[1]).all()


@pytest.mark.parametrize("loss", [nn.mean_squared_error, nn.mean_absolute_error])
def test_regression_losses_do_not_broadcast(loss):
    with pytest.raises(ValueError, match=r"\(4, 1\) and targets \(4,\); expected the same \(use targets\[:, None\]\)"):
        loss(jnp.zeros((4, 1)), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"\(use targets\[:, 0\]\)"):
        loss(jnp.zeros(4), jnp.zeros((4, 1)))


def test_l2_penalty_counts_weights_alone():
    params = {
        "dense1": {"W": jnp.array([[1.0, 2.0]]), "b": jnp.array([9.0])},
        "conv1": {"W": jnp.full((1, 1, 1, 2), 3.0)},
    }
    value, gradient = jax.value_and_grad(nn.l2_penalty(0.5))(params)
    np.testing.assert_allclose(value, 0.5 * 0.5 * (1 + 4 + 9 + 9), rtol=1e-6)
    np.testing.assert_allclose(gradient["dense1"]["W"], [[0.5, 1.0]])
    np.testing.assert_allclose(gradient["dense1"]["b"], [0.0])


def test_l2_penalty_takes_a_traced_factor():
    W = {"W": jnp.ones((2, 2))}
    np.testing.assert_allclose(jax.vmap(lambda decay: nn.l2_penalty(decay)(W))(jnp.array([0.0, 0.5, 1.0])), [0, 1, 2])


def test_l2_penalty_refuses():
    with pytest.raises(ValueError, match="weight_decay must be finite and at least 0; got -1"):
        nn.l2_penalty(-1.0)
    with pytest.raises(ValueError, match="found no weights"):
        nn.l2_penalty(0.1)({"b": jnp.ones(3)})
