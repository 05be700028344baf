"""1,000 steps of every optimizer beside float64 NumPy, optax and PyTorch, and what is left between them.

All are fed the same gradients: of chance, with a mean that leads somewhere, and of a network that learnt the digits.
So a different rounding stays as small as it is, where a network of its own would blow it up.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.older_jax import enable_x64
from tests.optimizer_cases import CASES, last, run

pytestmark = pytest.mark.little_optimized

STEPS = 1000
# Their formulas run below by other names, or on the page of differences.
LONG = (
    "muon, its own scale",
    "adam, betas that float32 holds",
    "adagrad from 0.1",
    "adamw on every leaf",
    "rmsprop",
    "adam, eps beside v",
)
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in CASES]
QUICK = ("momentum", "adam", "muon")


@functools.cache
def network():
    return nn.mlp([32], 10)


@functools.cache
def problem():
    """Parameters, and the gradients of 1,000 steps, in float64 that float32 holds."""
    random = np.random.default_rng(0)
    shape = (3, 3, 4, 24)
    # A mean to follow, and sizes from 1/100 to 10, which a rule with a root makes alike.
    gradients = random.normal(size=(STEPS, *shape)) + random.normal(size=shape)
    gradients *= 10 ** random.uniform(-2, 1, size=shape)
    start, recorded = recorded_gradients()
    tree = (
        {"network": start, "chance": random.normal(size=shape), "trees": tree_of_chance(1)},
        {"network": recorded, "chance": gradients, "trees": tree_of_chance(STEPS)},
    )
    return jax.tree.map(lambda leaf: leaf.astype(np.float32).astype(np.float64), tree)


def tree_of_chance(steps):
    """Dicts in dicts, numbers, vectors, wide, tall and flat matrices: two of them, drawn by their seeds."""
    trees = {}
    for seed in range(2):
        shapes, random = np.random.default_rng(seed), np.random.default_rng(seed + steps)
        drawn = [tuple(shapes.integers(1, 7, size=axes)) for axes in shapes.permutation([0, 1, 2, 2, 3])]
        leaves = {f"leaf{n}": random.normal(size=(steps, *shape)) for n, shape in enumerate(drawn)}
        trees[f"tree{seed}"] = {"deep": leaves} if seed else leaves
    return trees if steps > 1 else jax.tree.map(lambda leaf: leaf[0], trees)


def recorded_gradients():
    """Of 1,000 steps of Adam in float64 on the bundled digits."""
    data = nn.data.load("digits").train
    with enable_x64(True):
        x, y = jnp.asarray(data.x / 16.0, jnp.float64), jnp.asarray(data.y, jnp.int32)
        params, *_ = network().init(jax.random.key(0), x.shape[1:])
        params = jax.tree.map(lambda W: W.astype(jnp.float64), params)

        def step(carry, number):
            params, state = carry
            rows = (jnp.arange(50) + 50 * number) % len(x)
            grads = jax.grad(lambda p: nn.softmax_cross_entropy(network().apply(p, {}, x[rows])[0], y[rows]))(params)
            updates, state = optax.adam(0.001).update(grads, state)
            return (optax.apply_updates(params, updates), state), grads

        with jax.numpy_dtype_promotion("standard"):
            start = params, optax.adam(0.001).init(params)
            _, gradients = jax.jit(lambda start: jax.lax.scan(step, start, jnp.arange(STEPS)))(start)
        return jax.tree.map(np.asarray, (params, gradients))


def walk(optimizer, dtype):
    """The parameters after each step in JAX."""
    with enable_x64(dtype == np.float64), jax.numpy_dtype_promotion("standard"):
        params, gradients = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), problem())
        walked = jax.jit(lambda *tree: run(optimizer, *tree)[0])(params, gradients)
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), walked)


@functools.cache
def ours(name, dtype):
    return walk(CASES[name].make(CASES[name].rate), dtype)


@functools.cache
def truth(name):
    """float64 NumPy."""
    return jax.tree.map(CASES[name].numpy, *problem())


def torchs(make, dtype):
    """The parameters after 1,000 steps of torch.optim."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # two libraries' threads in one process wait for each other
    params, gradients = problem()
    leaves, structure = jax.tree.flatten(params)
    kind = torch.float32 if dtype == np.float32 else torch.float64
    tensors = [torch.tensor(leaf, dtype=kind, requires_grad=True) for leaf in leaves]
    optimizer = make(torch.optim, tensors)
    series = [torch.tensor(leaf, dtype=kind) for leaf in jax.tree.leaves(gradients)]
    for t in range(STEPS):
        for tensor, grads in zip(tensors, series, strict=True):
            tensor.grad = grads[t]
        optimizer.step()
    return structure.unflatten([tensor.detach().numpy().astype(np.float64) for tensor in tensors])


def by_kind(tree):
    """All weights and all biases of a part, all trees: ten numbers by themselves would show ten roundings' luck."""
    kinds = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        part = path[0].key
        kinds.setdefault((part, "" if part == "trees" else path[-1].key), []).append(np.ravel(leaf))
    return {kind: np.concatenate(leaves) for kind, leaves in kinds.items()}


def apart(a, b):
    """The largest distance, in norms of the second, and where."""
    a, b = by_kind(a), by_kind(b)
    distances = {kind: np.linalg.norm(a[kind] - b[kind]) / np.linalg.norm(b[kind]) for kind in b}
    assert not np.isnan(list(distances.values())).any(), distances
    return max((distance, kind) for kind, distance in distances.items())


# Each rule alone is compared with NumPy elsewhere; here it trains a network.
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_equals_numpy(name):
    assert apart(last(ours(name, np.float64)), last(truth(name))) < (1e-12,)
    assert apart(last(ours(name, np.float32)), last(truth(name))) < (CASES[name].float32,)


@pytest.mark.parametrize(
    "name",
    [
        name if name.values[0] in ("momentum", "adam") else pytest.param(name.values[0], marks=pytest.mark.slow)
        for name in NAMES
        if CASES[name.values[0]].optax
    ],
)
def test_equals_optax(name):
    case = CASES[name]
    assert apart(last(ours(name, np.float64)), last(walk(case.optax, np.float64))) < (1e-12,)
    assert apart(last(ours(name, np.float32)), last(walk(case.optax, np.float32))) < (case.optax_float32,)


def test_adam_is_nearer_the_truth_than_with_a_rounded_beta2():
    """optax's float32 product 0.999 v is of 0.99900001: v comes out too large, and every step too short by 6e-6."""
    theirs = last(walk(CASES["adam"].optax, np.float32))
    assert (
        apart(last(ours("adam", np.float32)), last(truth("adam")))
        < (1e-6,)
        < (4e-6,)
        < apart(theirs, last(truth("adam")))
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name.values[0]].torch])
def test_equals_pytorch(name):
    case = CASES[name]
    assert apart(last(ours(name, np.float64)), torchs(case.torch, np.float64)) < (1e-12,)
    assert apart(last(ours(name, np.float32)), torchs(case.torch, np.float32)) < (case.torch_float32,)


@pytest.mark.parametrize("name", [name for name in NAMES if "lion" not in name.values])  # its steps hardly round
def test_float32_has_no_drift(name):
    """The error along the way that was gone is no more than chance, and grows no faster than chance does."""
    start, exact, rounded = problem()[0], truth(name), ours(name, np.float32)

    def error_and_way(t):
        pick = lambda tree: np.concatenate([leaf[t].ravel() for leaf in jax.tree.leaves(tree)])
        begin = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(start)])
        return pick(rounded) - pick(exact), pick(exact) - begin, pick(exact)

    error, way, W = error_and_way(-1)
    along = (error * np.sign(way))[way != 0]
    assert abs(along.mean()) < 0.1 * along.std()
    early, _, early_W = error_and_way(STEPS // 4 - 1)
    relative = [np.linalg.norm(error) / np.linalg.norm(W), np.linalg.norm(early) / np.linalg.norm(early_W)]
    assert relative[0] < 3 * relative[1]  # a walk of chance doubles it, a drift makes it four times as large
