"""Where other libraries and the textbook differ, shown, and the settings that remove it. The page is run too."""

import functools
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.older_jax import enable_x64
from tests import textbook
from tests.optimizer_cases import EVERY_LEAF, last, run

pytestmark = pytest.mark.little_optimized

PAGE = Path(__file__).parents[1] / "docs" / "optimizers.md"
STEPS = 1000


def one_matrix():
    """Parameters and gradients of 1,000 steps, small ones among them."""
    random = np.random.default_rng(0)
    sizes = 10 ** random.uniform(-4, 1, size=(8, 6))
    return random.normal(size=(8, 6)), random.normal(size=(STEPS, 8, 6)) * sizes


def in_jax(optimizer, params, gradients):
    with enable_x64(True), jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.jit(lambda *tree: run(optimizer, *tree)[0])(jnp.asarray(params), jnp.asarray(gradients)))


def schedule(step):
    """A rate that drops to a tenth."""
    return jnp.where(step < STEPS // 2, 0.01, 0.001)


lr, a = 0.01, 0.9  # as the page calls them


def evaluated(code):
    """The path of W that a setting of the page leads along."""
    return evaluated_in_torch(code) if code.startswith("torch.") else evaluated_in_jax(code)


def evaluated_in_torch(code):
    torch = pytest.importorskip("torch")
    W, gradients = one_matrix()
    tensor = torch.tensor(W, requires_grad=True)
    optimizer = eval(code, {"torch": torch, "lr": lr, "a": a, "params": [tensor]})
    path = []
    for g in gradients:
        tensor.grad = torch.tensor(g)
        optimizer.step()
        path.append(tensor.detach().numpy().copy())
    return np.stack(path)


@functools.cache
def evaluated_in_jax(code):
    """By jaxnn, optax, or the textbook in NumPy."""
    names = {"nn": nn, "optax": optax, "jax": jax, "lr": lr, "a": a, "schedule": schedule, "every": EVERY_LEAF}
    made = eval(code, names | vars(textbook))
    return made(*one_matrix()) if code[0].isupper() else in_jax(made, *one_matrix())


def rows(heading):
    """The cells of the table under a heading."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip().strip("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]


def code_of(cell):
    return re.findall(r"`([^`]+)`", cell)


SAME = [
    (ours, theirs)
    for first, *others in rows("Settings that make them equal")
    for ours in code_of(first)
    for cell in others
    for theirs in code_of(cell)
]
APART = [(*code_of(first), *code_of(second)) for first, second, _ in rows("Settings that look equal, and are not")]


@pytest.mark.parametrize(("ours", "theirs"), SAME)
def test_settings_of_the_page_that_are_equal(ours, theirs, monkeypatch):
    if "Muon" in theirs:  # its products are in bfloat16, of a copy
        torch = pytest.importorskip("torch")
        monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    np.testing.assert_allclose(evaluated(ours), evaluated(theirs), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("ours", "theirs"), APART)
def test_settings_of_the_page_that_look_equal_and_are_not(ours, theirs):
    first, second = evaluated(ours), evaluated(theirs)
    assert np.linalg.norm(first[-1] - second[-1]) > 1e-4 * np.linalg.norm(second[-1])


def test_the_page_names_every_optimizer():
    named = " ".join(cell for row in rows("Settings that make them equal") for cell in row)
    for name in ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "lion", "muon"):
        assert f"`nn.{name}(" in named
    assert len(SAME) >= 25
    assert len(APART) >= 6


def test_momentum_keeps_rolling():
    """When the rate drops to 0 the textbook's velocity lives on, shrinking by a each step; optax's stops."""
    drop = lambda step: jnp.where(step < 1, 0.1, 0.0)
    gradients = jnp.full(3, 2.0)
    walked, _ = run(nn.momentum(drop, momentum=0.5), jnp.float32(0), gradients)
    np.testing.assert_allclose(walked, [-0.2, -0.3, -0.35], rtol=1e-6)
    walked, _ = run(optax.chain(optax.trace(0.5), nn.sgd(drop)), jnp.float32(0), gradients)
    np.testing.assert_allclose(walked, [-0.2, -0.2, -0.2], rtol=1e-6)


def test_adagrad_differs_from_optax_as_its_docstring_says():
    """At g = 1e-4 optax's start of 0.1 makes the first step three thousand times shorter."""
    g, W = jnp.float32(1e-4), jnp.float32(0)
    ours, _ = nn.adagrad(0.1).update(g, nn.adagrad(0.1).init(W))
    theirs, _ = optax.adagrad(0.1).update(g, optax.adagrad(0.1).init(W))
    np.testing.assert_allclose(ours, -0.1 * 1e-4 / (1e-4 + 1e-7), rtol=1e-5)
    np.testing.assert_allclose(theirs, -0.1 * 1e-4 / np.sqrt(0.1 + 1e-8 + 1e-7), rtol=1e-4)


def test_rmsprop_differs_from_optax_as_its_docstring_says():
    """Under the root an eps of 1e-8 counts as 1e-4 does beside it: at g = 1e-4 the step is ten times shorter."""
    g, W = jnp.float32(1e-4), jnp.float32(0)
    ours, _ = nn.rmsprop(0.1, decay=0.99, eps=1e-8).update(g, nn.rmsprop(0.1).init(W))
    under = optax.rmsprop(0.1, decay=0.99, eps=1e-8)
    theirs, _ = under.update(g, under.init(W))
    np.testing.assert_allclose(ours, -0.1 * 1e-4 / (1e-5 + 1e-8), rtol=1e-5)
    np.testing.assert_allclose(theirs, -0.1 * 1e-4 / np.sqrt(1e-10 + 1e-8), rtol=1e-5)


def test_adams_two_places_of_eps():
    """At g = eps the first step is lr/2 beside v_hat, and a thirtieth of lr beside v: sqrt(v) = sqrt(0.001) g."""
    g, W = jnp.float32(1e-7), jnp.float32(0)
    first_step = lambda place: nn.adam(1.0, eps=1e-7, eps_beside=place).update(g, nn.adam().init(W))[0]
    np.testing.assert_allclose(first_step("v_hat"), -1 / 2, rtol=1e-5)
    root = np.sqrt(0.001)
    np.testing.assert_allclose(first_step("v"), -root / (root + 1), rtol=1e-5)


def test_centred_rmsprop_stands_rounding_that_makes_others_nan():
    """Equal gradients: h - m² is 0 but for rounding, and below 0 in some steps."""
    g = jnp.asarray(np.random.default_rng(0).normal(size=50), jnp.float32)
    W, gradients = jnp.zeros(50), jnp.broadcast_to(g, (3000, 50))
    walked, _ = run(nn.rmsprop(1e-6, eps=1.0, centered=True), W, gradients)
    with jax.numpy_dtype_promotion("standard"):
        theirs, _ = run(optax.rmsprop(1e-6, decay=0.99, eps=1.0, eps_in_sqrt=False, centered=True), W, gradients)
    assert np.isnan(theirs).any()
    exact = textbook.RMSprop(1e-6, eps=1.0, centered=True)(W, gradients)
    np.testing.assert_allclose(last(walked), exact[-1], rtol=1e-2)


def test_rmsprop_keeps_no_state_that_it_does_not_need():
    state = nn.rmsprop(0.1).init(jnp.ones(3))
    assert (state.m, state.v) == (None, None)
    assert nn.rmsprop(0.1, momentum=0.9).init(jnp.ones(3)).m is None
    traced = jax.eval_shape(lambda a: nn.rmsprop(0.1, momentum=a).init(jnp.ones(3)), 0.0)
    assert traced.v.shape == (3,)


def test_the_defaults_that_the_page_names():
    """Of those that are installed; they may change with a new version, and the page then with them."""

    def default(function, name):
        return inspect.signature(function).parameters[name].default

    assert default(optax.adagrad, "initial_accumulator_value") == 0.1
    assert [default(optax.adagrad, "eps"), default(nn.adagrad, "eps")] == [1e-7, 1e-7]
    assert [default(optax.rmsprop, name) for name in ("decay", "eps", "eps_in_sqrt")] == [0.9, 1e-8, True]
    assert [default(nn.rmsprop, name) for name in ("decay", "eps")] == [0.99, 1e-7]
    assert [default(optimizer, "weight_decay") for optimizer in (optax.adamw, nn.adamw)] == [1e-4, 0.01]
    assert [default(optimizer, "weight_decay") for optimizer in (optax.lion, nn.lion)] == [1e-3, 0.0]
    assert [default(optax.contrib.muon, name) for name in ("weight_decay", "eps")] == [0.0, 1e-8]
    torch = pytest.importorskip("torch")
    assert default(torch.optim.Adagrad, "eps") == 1e-10
    assert [default(torch.optim.RMSprop, name) for name in ("alpha", "eps")] == [0.99, 1e-8]
    assert default(torch.optim.AdamW, "weight_decay") == 0.01
    assert default(torch.optim.Muon, "weight_decay") == 0.1
