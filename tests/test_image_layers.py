"""Layers for images against float64 NumPy; what holds for every layer is in test_layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import convolution

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 5, 2)), jnp.float32)


def test_conv2d_equals_numpy():
    layer = nn.conv2d(3, (2, 4), nn.normal(1.0), bias_initializer=nn.normal(1.0))
    params, model_state, output_shape = layer.init(jax.random.key(0), (6, 5, 2))
    assert model_state == {}
    assert output_shape == (5, 2, 3)
    W, b = (np.asarray(params[name], np.float64) for name in "Wb")
    assert W.shape == (2, 4, 2, 3)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(IMAGES, np.float64), (2, 4), (1, 2))
    expected = np.einsum("nijcab,abco->nijo", windows, W) + b
    y, _ = layer.apply(params, {}, IMAGES)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_conv2d_starts_from_xavier_and_zero_bias():
    params, _, _ = nn.conv2d(400, 5).init(jax.random.key(0), (9, 9, 4))
    np.testing.assert_allclose(params["W"].std(), 1 / 10, rtol=0.02)
    np.testing.assert_array_equal(params["b"], 0)


def test_conv2d_without_bias_has_none():
    params, _, _ = nn.conv2d(3, bias=False).init(jax.random.key(0), (6, 5, 2))
    assert list(params) == ["W"]
    y, _ = nn.conv2d(3, bias=False).apply(params, {}, IMAGES)
    np.testing.assert_array_equal(y, convolution.conv2d(IMAGES, params["W"]))


def test_settings_reach_the_arithmetic():
    layer = nn.conv2d(3, 2, stride=(1, 2), padding=((1, 0), (0, 2)))
    params, _, output_shape = layer.init(jax.random.key(0), (6, 5, 2))
    y, _ = layer.apply(params, {}, IMAGES)
    assert y.shape[1:] == output_shape
    np.testing.assert_array_equal(y, convolution.conv2d(IMAGES, params["W"], stride=(1, 2), padding=((1, 0), (0, 2))))
    for make, function in ((nn.max_pool2d, convolution.max_pool2d), (nn.average_pool2d, convolution.average_pool2d)):
        y, _ = make(3, stride=(2, 1), padding="SAME").apply({}, {}, IMAGES)
        np.testing.assert_array_equal(y, function(IMAGES, 3, stride=(2, 1), padding="SAME"))


def test_average_pool_of_the_whole_image():
    y, _ = nn.average_pool2d().apply({}, {}, IMAGES)
    np.testing.assert_allclose(y[:, 0, 0], np.asarray(IMAGES, np.float64).mean((1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    "make, shape, error, sentence",
    [
        (lambda: nn.conv2d(0), None, ValueError, "filters must be at least 1; got 0"),
        (lambda: nn.conv2d(3, 0), None, ValueError, "size must be at least 1; got 0"),
        (lambda: nn.conv2d(3, stride=0), None, ValueError, "stride must be at least 1; got 0"),
        (lambda: nn.conv2d(3, padding="same"), None, ValueError, "padding must be 'VALID', 'SAME'"),
        (lambda: nn.conv2d(3, padding=-1), None, ValueError, "padding must be at least 0; got -1"),
        (lambda: nn.conv2d(3, initializer=0.01), None, TypeError, "initializer must be a function"),
        (lambda: nn.max_pool2d(0), None, ValueError, "window must be at least 1; got 0"),
        (lambda: nn.average_pool2d(stride=2), None, ValueError, "of the whole image takes no stride"),
        (lambda: nn.max_pool2d(2, stride=-1), None, ValueError, "stride must be at least 1; got -1"),
        (lambda: nn.conv2d(3), (784,), ValueError, r"conv2d takes examples of shape \(height, width, channels\)"),
        (
            lambda: nn.max_pool2d(),
            (784,),
            ValueError,
            r"max_pool2d takes examples of shape \(height, width, channels\)",
        ),
        (lambda: nn.conv2d(3, 9), (8, 8, 1), ValueError, "the kernel is 9x9, larger than the image of 8x8"),
        (lambda: nn.max_pool2d(9), (8, 8, 1), ValueError, "the window is 9x9, larger than the image of 8x8"),
    ],
)
def test_bad_input_is_refused_before_any_image_is_seen(make, shape, error, sentence):
    with pytest.raises(error, match=sentence):
        make().init(jax.random.key(0), shape)
