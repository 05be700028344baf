"""Convolution and pooling against float64 NumPy, XLA's convolution and each other."""

import functools
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

from jaxnn import _products, convolution
from jaxnn.older_jax import enable_x64

pytestmark = pytest.mark.little_optimized


def pads_of(image, kernel, strides, padding):
    """The definition of "SAME": size / stride positions rounded up, the odd zero at the end."""
    if padding == "VALID":
        return ((0, 0), (0, 0))
    if padding == "SAME":
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(image, kernel, strides, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return ((padding, padding),) * 2 if isinstance(padding, int) else padding


def three_in_float64(x, W, y_bar, strides, pads):
    """y, and the gradients of sum(y y_bar) for x and W: the sums as they are written."""
    x, W = np.asarray(x, np.float64), np.asarray(W, np.float64)
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    (kh, kw), (sh, sw) = W.shape[:2], strides
    height, width = (padded.shape[1] - kh) // sh + 1, (padded.shape[2] - kw) // sw + 1
    y = np.zeros((len(x), height, width, W.shape[3]))
    y_bar = np.ones_like(y) if y_bar is None else np.asarray(y_bar, np.float64)
    x_bar, W_bar = np.zeros_like(padded), np.zeros_like(W)
    for a in range(kh):
        for b in range(kw):
            window = np.s_[:, a : a + sh * (height - 1) + 1 : sh, b : b + sw * (width - 1) + 1 : sw]
            y += padded[window] @ W[a, b]
            x_bar[window] += y_bar @ W[a, b].T
            W_bar[a, b] = np.tensordot(padded[window], y_bar, ((0, 1, 2), (0, 1, 2)))
    (top, _), (left, _) = pads
    return y, x_bar[:, top : top + x.shape[1], left : left + x.shape[2]], W_bar


def three(conv, x, W, y_bar):
    y, pull_back = jax.vjp(conv, x, W)
    return y, *pull_back(y_bar)


def draw(seed, *shapes, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def assert_close(actual, expected, tolerance):
    """Relative to the largest value: sums of many products cancel."""
    scale = np.abs(expected).max() + 1e-30
    np.testing.assert_allclose(np.asarray(actual, np.float64) / scale, expected / scale, atol=tolerance, rtol=0)


# x [batch, height, width, in], W, stride, padding
CASES = {
    "textbook": ((3, 12, 12, 1), (5, 5, 1, 6), 1, "VALID"),
    "same": ((2, 6, 5, 3), (3, 3, 3, 4), 1, "SAME"),
    "1x1": ((2, 4, 3, 5), (1, 1, 5, 2), 1, "VALID"),
    "as large as the image": ((2, 4, 3, 2), (4, 3, 2, 7), 1, "VALID"),
    "one image": ((1, 7, 7, 2), (3, 3, 2, 3), 1, 1),
    "stride": ((2, 9, 8, 2), (3, 3, 2, 3), 2, "VALID"),
    "stride and same": ((2, 9, 8, 2), (3, 2, 2, 3), (2, 3), "SAME"),
    "stride beyond the kernel": ((2, 9, 8, 2), (2, 1, 2, 3), (3, 4), 1),
    "even kernel": ((2, 6, 6, 2), (2, 4, 2, 3), 1, "SAME"),
    "uneven padding": ((2, 5, 5, 2), (3, 3, 2, 3), 1, ((2, 0), (1, 3))),
    "padding beyond the kernel": ((2, 3, 3, 2), (2, 2, 2, 3), 1, 4),
    "fewer channels out": ((2, 6, 6, 8), (3, 3, 8, 2), 1, "VALID"),
    "winograd": ((3, 7, 11, 17), (3, 3, 17, 16), 1, "VALID"),
    "winograd, uneven padding": ((2, 6, 5, 16), (3, 3, 16, 16), 1, ((2, 0), (0, 3))),
    "winograd, one row high": ((2, 1, 6, 16), (1, 3, 16, 18), 1, "VALID"),
    "winograd, five rows high": ((2, 6, 9, 16), (5, 3, 16, 16), 1, "SAME"),
}


def case(name):
    x_shape, W_shape, stride, padding = CASES[name]
    strides = (stride, stride) if isinstance(stride, int) else stride
    pads = pads_of(x_shape[1:3], W_shape[:2], strides, padding)
    out = [(n + sum(pad) - k) // s + 1 for n, pad, k, s in zip(x_shape[1:3], pads, W_shape[:2], strides, strict=True)]
    x, W, y_bar = draw(0, x_shape, W_shape, (x_shape[0], *out, W_shape[3]))
    return functools.partial(convolution.conv2d, stride=stride, padding=padding), x, W, y_bar, strides, pads


# Between them they take every way through the code.
FEW = ["textbook", "stride and same", "fewer channels out", "winograd"]


@pytest.mark.parametrize("name", CASES)
class TestConv2d:
    def test_output_and_gradients_equal_float64_and_xla(self, name):
        conv, x, W, y_bar, strides, pads = case(name)

        def xla(x, W):
            return lax.conv_general_dilated(x, W, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

        ours, theirs = (jax.jit(functools.partial(three, f))(x, W, y_bar) for f in (conv, xla))
        for actual, xlas, expected in zip(ours, theirs, three_in_float64(x, W, y_bar, strides, pads), strict=True):
            assert actual.shape == expected.shape
            assert actual.dtype == jnp.float32
            assert_close(actual, expected, 1e-5)
            assert_close(actual, np.asarray(xlas, np.float64), 1e-5)

    def test_what_gpus_compile_equals_float64_too(self, name):
        _, x, W, y_bar, strides, pads = case(name)
        geometry = _products.Geometry(x.shape[1:3], W.shape[:2], strides, pads)
        lower = functools.partial(convolution._by_xla, geometry=geometry)
        actual = [
            jax.jit(functools.partial(lower, out=out))(first[None], second[None])[0]
            for out, first, second in (("y", x, W), ("x", y_bar, W), ("W", x, y_bar))
        ]
        for got, expected in zip(actual, three_in_float64(x, W, y_bar, strides, pads), strict=True):
            assert got.shape == expected.shape
            assert_close(got, expected, 1e-5)

    def test_forward_mode_is_the_sum_of_both_slopes(self, name):
        conv, x, W, _, _, _ = case(name)
        x_dot, W_dot = draw(2, x.shape, W.shape)
        _, y_dot = jax.jit(lambda *a: jax.jvp(conv, a[:2], a[2:]))(x, W, x_dot, W_dot)
        *_, strides, pads = case(name)
        expected = (
            three_in_float64(x_dot, W, None, strides, pads)[0] + three_in_float64(x, W_dot, None, strides, pads)[0]
        )
        assert_close(y_dot, expected, 1e-5)


@pytest.mark.parametrize("name", FEW)
def test_in_float64_to_the_last_digits(name):
    with enable_x64(True):
        conv, _, _, _, strides, pads = case(name)
        x_shape, W_shape, *_ = CASES[name]
        x, W = draw(1, x_shape, W_shape, dtype=np.float64)
        for actual, expected in zip(
            jax.jit(lambda x, W: three(conv, x, W, jnp.ones_like(conv(x, W))))(x, W),
            three_in_float64(x, W, None, strides, pads),
            strict=True,
        ):
            assert actual.dtype == jnp.float64
            assert_close(actual, expected, 1e-13)


@pytest.mark.parametrize("name", FEW)
class TestHigherDerivatives:
    """Of L = sum(y³) / 3: its Hessian times a direction, in closed form."""

    def expected(self, name):
        _, x, W, _, strides, pads = case(name)
        x_dot, W_dot = draw(3, x.shape, W.shape)
        form = functools.partial(three_in_float64, strides=strides, pads=pads)
        y = form(x, W, None)[0]
        y_dot = form(x_dot, W, None)[0] + form(x, W_dot, None)[0]
        _, x_part, W_part = form(x, W, 2 * y * y_dot)
        _, x_mixed, _ = form(x, W_dot, y**2)
        _, _, W_mixed = form(x_dot, W, y**2)
        return x_dot, W_dot, x_part + x_mixed, W_part + W_mixed

    def test_hessian_vector_product(self, name):
        conv, x, W, *_ = case(name)
        x_dot, W_dot, *expected = self.expected(name)
        slope = jax.grad(lambda x, W: jnp.sum(conv(x, W) ** 3) / 3, argnums=(0, 1))
        _, actual = jax.jit(lambda *a: jax.jvp(slope, a[:2], a[2:]))(x, W, x_dot, W_dot)
        for got, wanted in zip(actual, expected, strict=True):
            assert_close(got, wanted, 3e-5)

    def test_grad_of_grad(self, name):
        conv, x, W, *_ = case(name)
        x_dot, W_dot, *expected = self.expected(name)

        def along(x, W):
            slopes = jax.grad(lambda x, W: jnp.sum(conv(x, W) ** 3) / 3, argnums=(0, 1))(x, W)
            return jnp.vdot(slopes[0], x_dot) + jnp.vdot(slopes[1], W_dot)

        for got, wanted in zip(jax.jit(jax.grad(along, argnums=(0, 1)))(x, W), expected, strict=True):
            assert_close(got, wanted, 3e-5)


PADDINGS = st.one_of(
    st.sampled_from(["SAME", "VALID"]),
    st.integers(0, 3),
    st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
)


def check_against_float64(batch, image, kernel, channels, strides, padding):
    pads = pads_of(image, kernel, strides, padding)
    assume(all(n + sum(pad) >= k for n, pad, k in zip(image, pads, kernel, strict=True)))
    x, W = draw(4, (batch, *image, channels[0]), (*kernel, *channels))
    conv = functools.partial(convolution.conv2d, stride=strides, padding=padding)
    out = jax.eval_shape(conv, x, W).shape
    (y_bar,) = draw(5, out)
    for actual, expected in zip(
        jax.jit(functools.partial(three, conv))(x, W, y_bar),
        three_in_float64(x, W, y_bar, strides, pads),
        strict=True,
    ):
        assert actual.shape == expected.shape
        assert_close(actual, expected, 1e-5)


@settings(max_examples=12, deadline=None)
@given(
    batch=st.integers(1, 3),
    image=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=PADDINGS,
)
def test_any_shape_stride_and_padding(batch, image, kernel, channels, strides, padding):
    check_against_float64(batch, image, kernel, channels, strides, padding)


@settings(max_examples=3, deadline=None)
@given(
    image=st.tuples(st.integers(1, 7), st.integers(6, 12)),
    height=st.integers(1, 4),
    channels=st.tuples(st.integers(16, 18), st.integers(16, 18)),
    padding=PADDINGS,
)
def test_winograd_with_any_shape_and_padding(image, height, channels, padding):
    check_against_float64(2, image, (height, 3), channels, (1, 1), padding)


VMAPPED = [
    "stride and same",
    "winograd",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("same", "fewer channels out")),
]


@pytest.mark.parametrize("name", VMAPPED)
@pytest.mark.parametrize("mapped", ["x", "W", "both"])
def test_under_vmap_each_equals_its_own(name, mapped):
    conv, x, W, y_bar, strides, pads = case(name)
    xs, Ws, y_bars = draw(6, (4, *x.shape), (4, *W.shape), (4, *y_bar.shape))
    axes = {"x": (0, None, 0), "W": (None, 0, 0), "both": (0, 0, 0)}[mapped]
    arguments = (xs if axes[0] == 0 else x, Ws if axes[1] == 0 else W, y_bars)
    together = jax.jit(jax.vmap(functools.partial(three, conv), axes))(*arguments)
    for number in range(4):
        own = [a[number] if axis == 0 else a for a, axis in zip(arguments, axes, strict=True)]
        for wide, single in zip(together, three_in_float64(*own, strides, pads), strict=True):
            assert_close(wide[number], single, 1e-5)


@pytest.mark.parametrize("alone", ["first", "second", "neither"])
@pytest.mark.parametrize("out", ["x", "W", "y"])
def test_groups_on_gpus_and_cpus_equal_each_by_itself(out, alone):
    _, x, W, y_bar, strides, pads = case("stride and same")
    geometry = _products.Geometry(x.shape[1:3], W.shape[:2], strides, pads)
    (first_name, second_name), index = convolution._OPERANDS[out], {"y": 0, "x": 1, "W": 2}[out]
    shapes = {"x": x.shape, "W": W.shape, "y": y_bar.shape}
    first, second = draw(6, (3, *shapes[first_name]), (3, *shapes[second_name]))
    first, second = (
        (first[:1], second) if alone == "first" else (first, second[:1]) if alone == "second" else (first, second)
    )
    results = [
        jax.jit(functools.partial(lower, out=out, geometry=geometry))(first, second)
        for lower in (convolution._on_cpu, convolution._by_xla)
    ]
    given = {"x": x, "W": W, "y": y_bar}
    for number in range(3):
        given |= {first_name: first[number % len(first)], second_name: second[number % len(second)]}
        expected = three_in_float64(given["x"], given["W"], given["y"], strides, pads)[index]
        for result in results:
            assert_close(result[number], expected, 1e-5)


def test_vmap_inside_vmap_and_over_any_axis():
    conv, x, W, *_ = case("same")
    xs, Ws = draw(7, (*x.shape[:3], 2, x.shape[3]), (3, *W.shape[:3], 2, W.shape[3]))
    inner = jax.vmap(conv, in_axes=(3, 3), out_axes=1)
    together = jax.jit(jax.vmap(inner, in_axes=(None, 0)))(xs, Ws)
    for a in range(3):
        for b in range(2):
            own = conv(xs[:, :, :, b], Ws[a, :, :, :, b])
            assert_close(together[a, :, b], np.asarray(own, np.float64), 1e-5)


@pytest.mark.parametrize("name", ["textbook", "stride", "winograd", "fewer channels out"])
@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_few_examples_at_a_time_changes_nothing(name, chunk, monkeypatch):
    conv, x, W, y_bar, strides, pads = case(name)
    # A prime number of examples: the last of several chunks is short.
    x, y_bar = jnp.concatenate([x, 2 * x, -x[:1]]), jnp.concatenate([y_bar, y_bar, 2 * y_bar[:1]])
    chunks = -(-len(x) // chunk)
    monkeypatch.setattr(_products, "_chunks", lambda examples, per_example: chunks)
    actual = jax.jit(lambda *a: three(conv, *a))(x, W, y_bar)
    text = jax.jit(lambda *a: three(conv, *a)).lower(x, W, y_bar).as_text()
    assert text.count("stablehlo.while") >= 3
    for got, expected in zip(actual, three_in_float64(x, W, y_bar, strides, pads), strict=True):
        assert_close(got, expected, 1e-5)


@pytest.mark.parametrize("examples", [1, 7, 96, 128])
def test_chunks_fit_are_few_and_equal_where_they_can_be(examples):
    for fitting in range(1, 140):
        chunks = _products._chunks(examples, _products._WORKING_SET // fitting)
        least = math.ceil(examples / fitting)
        assert math.ceil(examples / chunks) <= fitting
        assert least <= chunks < 2 * least
        if examples % chunks:
            assert all(examples % count for count in range(least, 2 * least))
    assert _products._chunks(examples, 2 * _products._WORKING_SET) == examples


def test_the_platform_decides_where_it_is_compiled():
    conv, x, W, y_bar, *_ = case("same")
    step = jax.jit(functools.partial(three, conv)).trace(x, W, y_bar)
    for platform, is_xla in {"cpu": False, "cuda": True, "tpu": True}.items():
        text = step.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) is is_xla
        assert ("stablehlo.dot_general" in text) is not is_xla


def test_outside_jit_it_compiles_once():
    conv, x, W, *_ = case("same")
    conv(x, W)
    before = convolution._compiled._cache_size()
    conv(x + 1, W)
    assert convolution._compiled._cache_size() == before


def test_the_backward_pass_keeps_image_and_kernel_alone():
    x, W = draw(8, (2, 16, 16, 16), (5, 5, 16, 16))
    _, pull_back = jax.vjp(convolution.conv2d, x, W)
    kept = sum(leaf.size for leaf in jax.tree.leaves(pull_back))
    assert kept <= x.size + W.size


@pytest.mark.parametrize("name", ["textbook", "stride", "winograd"])
def test_in_bfloat16(name):
    conv, x, W, y_bar, strides, pads = case(name)
    x, W, y_bar = (array.astype(jnp.bfloat16) for array in (x, W, y_bar))
    for got, expected in zip(three(conv, x, W, y_bar), three_in_float64(x, W, y_bar, strides, pads), strict=True):
        assert got.dtype == jnp.bfloat16
        assert_close(got, expected, 4e-3)  # half of a unit in the last place


@pytest.mark.slow
def test_half_precision_is_summed_in_float32(monkeypatch):
    def slopes(x, W):
        return jax.grad(lambda x, W: convolution.conv2d(x, W).sum(dtype=jnp.float32), argnums=(0, 1))(x, W)

    monkeypatch.setattr(_products, "_chunks", lambda examples, per_example: examples)
    _, dW = slopes(jnp.ones((512, 4, 4, 1), jnp.bfloat16), jnp.ones((3, 3, 1, 1), jnp.bfloat16))
    np.testing.assert_array_equal(dW.astype(jnp.float32), np.full((3, 3, 1, 1), 2048.0))
    dx, _ = slopes(jnp.ones((1, 33, 33, 1), jnp.bfloat16), jnp.ones((17, 17, 1, 2), jnp.bfloat16))
    assert dx.max() == jnp.asarray(17 * 17 * 2, jnp.bfloat16)


@pytest.mark.parametrize("channels", [2, 16])
def test_no_image_at_all(channels):
    W = jnp.ones((3, 3, channels, 16))
    y, dx, dW = three(convolution.conv2d, jnp.zeros((0, 8, 8, channels)), W, jnp.zeros((0, 6, 6, 16)))
    assert y.shape == (0, 6, 6, 16)
    assert dx.shape == (0, 8, 8, channels)
    np.testing.assert_array_equal(dW, np.zeros(W.shape))


def test_vmap_over_nothing():
    x, W = jnp.zeros((2, 6, 6, 2)), jnp.ones((3, 3, 2, 4))
    assert jax.vmap(convolution.conv2d, (0, None))(jnp.zeros((0, *x.shape)), W).shape == (0, 2, 4, 4, 4)
    assert jax.vmap(convolution.conv2d, (None, 0))(x, jnp.zeros((0, *W.shape))).shape == (0, 2, 4, 4, 4)
    slope = jax.grad(lambda x: jax.vmap(convolution.conv2d, (None, 0))(x, jnp.zeros((0, *W.shape))).sum())(x)
    np.testing.assert_array_equal(slope, np.zeros(x.shape))


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from jaxnn.convolution import conv2d

jax.config.update("jax_num_cpu_devices", 2)
mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
random = np.random.default_rng(0)
x, W = (jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((4, 6, 6, 2), (3, 3, 2, 4)))
squares = lambda x, W: (conv2d(x, W) ** 2).sum()
expected = jax.grad(squares, (0, 1))(x, W)
for x_spec, W_spec in ((P("d"), P()), (P(), P(None, None, None, "d"))):
    # Each device's gradient, of what it has.
    local = jax.shard_map(jax.grad(squares, (0, 1)), mesh=mesh, in_specs=(x_spec, W_spec), out_specs=(x_spec, W_spec))
    # The gradient through all of it.
    loss = jax.shard_map(
        lambda x, W: jax.lax.psum(squares(x, W), "d"), mesh=mesh, in_specs=(x_spec, W_spec), out_specs=P()
    )
    for actual in (local(x, W), jax.grad(loss, (0, 1))(x, W), jax.jit(local)(x, W)):
        for got, wanted in zip(actual, expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)
# Many networks, split over the devices, on the same images.
Ws = jnp.stack([W, 2 * W, -W, W / 2])
many = jax.shard_map(
    jax.vmap(jax.grad(squares, 1), (None, 0)), mesh=mesh, in_specs=(P(), P("d")), out_specs=P("d")
)(x, Ws)
for got, W in zip(many, Ws, strict=True):
    np.testing.assert_allclose(got, jax.grad(squares, 1)(x, W), rtol=1e-4, atol=1e-3)
explicit = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
with jax.set_mesh(explicit):
    try:
        jax.jit(conv2d)(jax.device_put(x, jax.NamedSharding(explicit, P("d"))), W)
    except ValueError as error:
        assert "explicitly sharded" in str(error), error
    else:
        raise AssertionError("an explicitly sharded image was taken")
"""


@pytest.mark.slow
def test_under_shard_map():
    """In a process of its own, which has two devices."""
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_under_checkpoint():
    x, W = draw(14, (2, 6, 6, 2), (3, 3, 2, 4))
    loss = lambda W: (convolution.conv2d(x, W) ** 3).sum()
    assert_close(jax.grad(jax.checkpoint(loss))(W), np.asarray(jax.grad(loss)(W), np.float64), 1e-6)


IMAGE, KERNEL = jnp.zeros((2, 5, 6, 3)), jnp.zeros((3, 3, 3, 4))


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    "x, W, settings, error, sentence",
    [
        (IMAGE, jnp.zeros((7, 3, 3, 4)), {}, ValueError, "the kernel is 7x3, larger than the image of 5x6"),
        (IMAGE, jnp.zeros((3, 9, 3, 4)), {"padding": 1}, ValueError, "larger than the image of 5x6 padded to 7x8"),
        (IMAGE, KERNEL, {"stride": 0}, ValueError, "stride must be at least 1; got 0"),
        (IMAGE, KERNEL, {"stride": -2}, ValueError, "stride must be at least 1; got -2"),
        (IMAGE, KERNEL, {"stride": 1.5}, TypeError, "stride must be a whole number; got 1.5"),
        (IMAGE, KERNEL, {"stride": (1, 2, 3)}, ValueError, "stride must be one number or two"),
        (IMAGE, KERNEL, {"padding": -1}, ValueError, "padding must be at least 0; got -1"),
        (IMAGE, KERNEL, {"padding": "FULL"}, ValueError, "padding must be 'VALID', 'SAME', a number or.*FULL"),
        (
            IMAGE,
            KERNEL,
            {"padding": ((1, 1),)},
            ValueError,
            r"padding must be .* \(\(top, bottom\), \(left, right\)\); got \(",
        ),
        (
            IMAGE,
            KERNEL,
            {"padding": (1, 2)},
            ValueError,
            r"padding must be .* \(\(top, bottom\), \(left, right\)\); got \(",
        ),
        (IMAGE, jnp.zeros((3, 3, 4, 4)), {}, ValueError, "x has 3 channels and W takes 4"),
        (IMAGE[0], KERNEL, {}, ValueError, r"x of shape \[batch, height, width, channels\]; got \(5, 6, 3\)"),
        (IMAGE, KERNEL[0], {}, ValueError, "W must be .* got shape"),
        (IMAGE, KERNEL[:, :, :, :0], {}, ValueError, "W must not be empty"),
        (IMAGE.astype(jnp.uint8), KERNEL, {}, TypeError, "floating-point x; got uint8"),
        (IMAGE, KERNEL.astype(jnp.int32), {}, TypeError, "floating-point W; got int32"),
    ],
)
def test_bad_input_is_refused_at_trace_time(x, W, settings, error, sentence):
    with pytest.raises(error, match=sentence):
        jax.eval_shape(functools.partial(convolution.conv2d, **settings), x, W)


# x, window, stride, padding
POOLS = {
    "side by side": ((2, 6, 4, 3), 2, None, "VALID"),
    "with a remainder": ((2, 7, 5, 3), 2, None, "VALID"),
    "overlapping": ((2, 7, 6, 3), 3, 2, "SAME"),
    "far apart": ((2, 9, 9, 1), 2, 3, 1),
    "oblong": ((2, 6, 8, 2), (2, 3), (1, 2), ((1, 0), (2, 1))),
    "the whole image": ((2, 5, 4, 3), (5, 4), None, "VALID"),
}


def windows_of(name, x):
    """Every window, padding as NaN: [batch, out_height, out_width, channels, window]; and where its values lie."""
    shape, window, stride, padding = POOLS[name]
    window = (window, window) if isinstance(window, int) else window
    stride = window if stride is None else (stride, stride) if isinstance(stride, int) else stride
    pads = pads_of(shape[1:3], window, stride, padding)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *pads, (0, 0)), constant_values=np.nan)
    out = [(size - k) // s + 1 for size, k, s in zip(padded.shape[1:3], window, stride, strict=True)]
    cut = [
        np.stack([padded[:, i * stride[0] + a, j * stride[1] + b] for a in range(window[0]) for b in range(window[1])])
        for i in range(out[0])
        for j in range(out[1])
    ]
    return np.moveaxis(np.stack(cut).reshape(*out, len(cut[0]), len(x), shape[3]), (3, 0, 1, 4), (0, 1, 2, 3))


@pytest.mark.parametrize("name", POOLS)
class TestPooling:
    @pytest.mark.parametrize(
        "pool, reference", [(convolution.max_pool2d, np.nanmax), (convolution.average_pool2d, np.nanmean)]
    )
    def test_equals_float64_with_its_slope(self, name, pool, reference):
        shape, window, stride, padding = POOLS[name]
        x, x_dot = draw(10, shape, shape)
        pool = jax.jit(functools.partial(pool, window=window, stride=stride, padding=padding))
        y = pool(x)
        assert_close(y, reference(windows_of(name, x), axis=-1), 1e-6)
        # Forward mode: the slope of the largest value, or the mean of the slopes.
        _, y_dot = jax.jvp(pool, (x,), (x_dot,))
        dots = windows_of(name, x_dot)
        if reference is np.nanmax:
            largest = np.nanargmax(windows_of(name, x), axis=-1)
            expected = np.take_along_axis(dots, largest[..., None], -1)[..., 0]
        else:
            expected = np.nanmean(dots, axis=-1)
        assert_close(y_dot, expected, 1e-6)
        # Reverse mode is its transpose.
        (y_bar,) = draw(11, y.shape)
        (x_bar,) = jax.vjp(pool, x)[1](y_bar)
        np.testing.assert_allclose(np.vdot(x_bar, x_dot), np.vdot(y_bar, expected), rtol=1e-4, atol=1e-4)

    def test_of_equal_values_the_first_row_by_row_is_the_largest(self, name):
        shape, window, stride, padding = POOLS[name]
        x = jnp.round(draw(12, shape)[0])
        pool = functools.partial(convolution.max_pool2d, window=window, stride=stride, padding=padding)
        places = jnp.arange(x.size, dtype=jnp.float32).reshape(shape)
        _, winners = jax.jvp(pool, (x,), (places,))
        first = np.nanargmax(windows_of(name, x), axis=-1)
        np.testing.assert_array_equal(
            winners, np.take_along_axis(windows_of(name, places), first[..., None], -1)[..., 0]
        )

    def test_under_vmap(self, name):
        shape, window, stride, padding = POOLS[name]
        (xs,) = draw(13, (3, *shape))
        for pool in (convolution.max_pool2d, convolution.average_pool2d):
            pool = functools.partial(pool, window=window, stride=stride, padding=padding)
            together = jax.vmap(pool)(xs)
            for wide, x in zip(together, xs, strict=True):
                np.testing.assert_allclose(wide, pool(x), rtol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"padding": 1}], ids=["side by side", "padded"])
def test_a_nan_is_not_lost_in_a_pool(settings):
    x = jnp.zeros((1, 2, 4, 1)).at[0, 1, 2, 0].set(jnp.nan)
    for pool in (convolution.max_pool2d, convolution.average_pool2d):
        assert np.isnan(pool(x, 2, **settings)).sum() == 1
    slope = jax.grad(lambda x: convolution.max_pool2d(x, 2, **settings).sum())(x)
    windows = 2 if not settings else 6
    assert slope[0, 1, 2, 0] == 1, "the NaN of its window takes the gradient"
    assert slope.sum() == windows


def test_padding_wins_over_nothing():
    x = jnp.full((1, 2, 2, 1), -jnp.inf)
    slope = jax.grad(lambda x: convolution.max_pool2d(x, 2, stride=1, padding=1).sum())(x)
    assert slope.sum() == 9, "one for each window"


def test_a_mean_of_16_bits_is_summed_in_32():
    x = jnp.full((1, 28, 28, 1), 3000, jnp.float16)
    y = convolution.average_pool2d(x, 28)
    assert y.dtype == jnp.float16
    np.testing.assert_array_equal(y, [[[[3000]]]])


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("pool", [convolution.max_pool2d, convolution.average_pool2d])
@pytest.mark.parametrize(
    "x, settings, error, sentence",
    [
        (IMAGE, {"window": 0}, ValueError, "window must be at least 1; got 0"),
        (IMAGE, {"window": 6}, ValueError, "the window is 6x6, larger than the image of 5x6"),
        (IMAGE, {"window": 2, "stride": 0}, ValueError, "stride must be at least 1; got 0"),
        (IMAGE, {"window": 2, "padding": 2}, ValueError, "nothing but padding"),
        (IMAGE[0], {"window": 2}, ValueError, r"x of shape \[batch, height, width, channels\]"),
        (IMAGE.astype(jnp.int32), {"window": 2}, TypeError, "floating-point x; got int32"),
    ],
)
def test_bad_pools_are_refused(pool, x, settings, error, sentence):
    with pytest.raises(error, match=sentence):
        jax.eval_shape(functools.partial(pool, **settings), x)
