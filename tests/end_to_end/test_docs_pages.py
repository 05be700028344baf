"""The pages of docs/ that teach: their code runs, prints what they show, and what they say of others is so."""

import contextlib
import importlib.util
import inspect
import io
import operator
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from benchmarks import page as benchmarks_page
from jaxnn import cli
from tests.test_hosts import Started, port  # noqa: F401  (a fixture)

pytestmark = pytest.mark.little_optimized

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = ("tutorial", "layers", "own-optimizer", "hosts", "gpu", "coming-from", "benchmarks", "faq", "contributing")
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")


def text_of(page):
    return (DOCS / f"{page}.md").read_text()


def blocks(page):
    return re.findall(r"^```(\w+)\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def run(page, folder, monkeypatch, *, dtype_promotion="standard"):
    """One block after the other, as a reader would; pairs of what a block prints and what the page shows after it."""
    monkeypatch.chdir(folder)
    namespace, printed, pairs = {}, None, []
    with jax.numpy_dtype_promotion(dtype_promotion), jax.numpy_rank_promotion("allow"):
        for language, block in blocks(page):
            if language == "python":
                said = io.StringIO()
                with contextlib.redirect_stdout(said):
                    exec(compile(block, f"{page}.md", "exec"), namespace)
                printed = said.getvalue()
            elif language == "text" and printed is not None:
                pairs.append((printed, block))
                printed = None
    return namespace, pairs


def assert_agree(pairs, *, within=0.0, counts=0):
    """The same words; decimals to `within`, whole numbers to `counts`: rounding differs from machine to machine."""
    assert pairs
    for printed, shown in pairs:
        words = ["".join(NUMBER.sub("#", text).split()) for text in (printed, shown)]
        assert words[0] == words[1], printed
        for ours, theirs in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
            margin = within if "." in theirs or "e" in theirs else counts
            ours, theirs = (float(number.replace(",", "")) for number in (ours, theirs))
            assert abs(ours - theirs) <= margin + 1e-9, printed


def test_what_agrees_and_what_does_not():
    assert_agree([("a  0.51\n", "a 0.50")], within=0.02)
    for other in ("a 0.55", "b 0.50", "a 0.50 1", "a 50"):
        with pytest.raises((AssertionError, ValueError)):
            assert_agree([(other, "a 0.50")], within=0.02)
    with pytest.raises(AssertionError):
        assert_agree([("3 of 10", "3 of 11")], within=0.02)


def test_the_questions(tmp_path, monkeypatch, types_unchecked):
    _, pairs = run("faq", tmp_path, monkeypatch)
    assert_agree(pairs, within=0.1)


def test_the_tutorial(tmp_path, monkeypatch, types_unchecked):
    namespace, pairs = run("tutorial", tmp_path, monkeypatch)
    at = next(place for place, (_, shown) in enumerate(pairs) if shown.startswith("{'accuracy'"))
    assert_agree(pairs[:at] + pairs[at + 1 :], within=0.03)
    assert_agree([pairs[at]], within=0.02, counts=4)  # the confusion matrix
    assert namespace["report"].ok
    assert namespace["best"]["learning_rate"] == pytest.approx(0.01)
    history = namespace["result"].history
    assert history.train["accuracy"][-1] > history.validation["accuracy"][-1]


@pytest.mark.slow
def test_layers_of_ones_own(tmp_path, monkeypatch, types_unchecked):
    namespace, pairs = run("layers", tmp_path, monkeypatch, dtype_promotion="strict")
    assert_agree(pairs, within=0.05)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)
    layer = namespace["centring"](0.75)
    _, state, _ = layer.init(jax.random.key(0), (3,))
    with jax.numpy_rank_promotion("allow"):  # as a reader has it
        y, state = layer.apply({}, state, x, training=True)
    np.testing.assert_allclose(y, x - np.mean(x, axis=0, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(state["mean"], 0.25 * np.mean(x, axis=0), atol=1e-6)
    noise = namespace["gaussian_noise"](2.0)
    wide = jnp.zeros((1000, 100))
    drawn = [noise.apply({}, {}, wide, training=True, key=jax.random.key(seed))[0] for seed in (0, 1)]
    assert float(drawn[0].std()) == pytest.approx(2.0, rel=0.02)
    assert abs(float(jnp.mean(drawn[0] * drawn[1]))) < 0.1
    np.testing.assert_array_equal(noise.apply({}, {}, wide)[0], wide)
    with pytest.raises(ValueError, match="needs a key"):
        noise.apply({}, {}, wide, training=True)
    with pytest.raises(ValueError, match="keeps the shape"):
        namespace["residual"](nn.dense(4)).init(jax.random.key(0), (3,))
    logits, labels = x, jnp.array([0, 1, 2, 0, 1, 2])
    plain = float(nn.softmax_cross_entropy(logits, labels))
    assert float(namespace["focal_loss"](logits, labels, gamma=0.0)) == pytest.approx(plain, rel=1e-5)
    assert float(namespace["top_3"](x, labels)) == 1.0
    blank = jnp.zeros((500, 8, 8, 1)).at[:, 3, 4].set(1.0)
    moved = namespace["augment"](jax.random.key(0), blank).sum(axis=0)[..., 0]
    assert float(moved[2:5, 3:6].sum()) == 500 and bool((moved[2:5, 3:6] > 25).all())


@pytest.mark.slow
def test_an_optimizer_of_ones_own(tmp_path, monkeypatch, types_unchecked):
    namespace, pairs = run("own-optimizer", tmp_path, monkeypatch)
    checked, others = pairs[0], pairs[1:]
    bounds = {line.split(" after")[0]: float(line.split("within ")[1].split()[0]) for line in checked[0].splitlines()}
    assert list(bounds) == [line.split(" after")[0] for line in checked[1].splitlines()]
    for name, bound in bounds.items():
        assert bound <= (1e-13 if "64" in name else 1e-5)
    assert_agree(others[:1], within=0.03)
    lines = [[line.split() for line in text.splitlines()] for text in others[1]]
    assert [line[:2] for line in lines[0]] == [line[:2] for line in lines[1]] and lines[0][-1][-2:] == ["1", "program"]
    best = namespace["found"].best("accuracy").config
    assert best["learning_rate"] in (1.0, 3.0)
    # A traced rate, a schedule and a number are the same rule.
    W, g = jnp.ones(3), jnp.array([1.0, -2.0, 0.5])
    first = lambda rate: namespace["adadelta"](rate).update(g, namespace["adadelta"](rate).init(W))[0]
    np.testing.assert_allclose(jax.jit(first)(0.5), first(0.5), rtol=1e-6)
    np.testing.assert_allclose(first(lambda count: 0.5), first(0.5), rtol=1e-6)
    np.testing.assert_allclose(first(0.5), -0.5 * np.sqrt(1e-6) / np.sqrt(0.1 * g**2 + 1e-6) * g, rtol=1e-5)


def shell_lines(page):
    lines = [line for language, block in blocks(page) if language == "sh" for line in block.splitlines()]
    return [line for line in lines if line.startswith("jaxnn ")]


@pytest.mark.slow
def test_one_training_on_the_devices_of_one_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (line,) = (line for line in shell_lines("hosts") if "--coordinator" not in line)
    assert cli.main(shlex.split(line)[1:]) == 0
    said = capsys.readouterr().out
    assert (
        f"{len(jax.devices())} of them" in said or f"{len(jax.devices())}" in said.split("device ")[1].splitlines()[0]
    )
    assert (tmp_path / "runs" / "split" / "weights.safetensors").exists()


@pytest.mark.slow
def test_the_rehearsal_with_two_processes_and_the_script(tmp_path, port, monkeypatch):  # noqa: F811
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # in the processes too
    launches = [line for line in shell_lines("hosts") if "--coordinator" in line]
    assert len(launches) == 4

    def start(lines):
        commands = [
            [sys.executable, "-m", "jaxnn.cli", *shlex.split(line.rstrip("& "))[1:]]
            for line in (line.replace("7777", str(port)) for line in lines)
        ]
        return Started(*commands, cwd=tmp_path)

    # The same commands of a smaller network, which XLA compiles sooner.
    one, zero = (line.replace("train", "train --hidden-sizes 8 --batch-norm False", 1) for line in launches[:2])
    with start([one, zero]) as started:
        assert [process.wait(120) for process in started.processes] == [0, 0]
    assert started.said[0].read_text() == ""
    assert "saved   runs/two" in started.said[1].read_text()

    longer = [line.replace("--epochs 20 --out runs/two", "--epochs 200 --out runs/more") for line in (one, zero)]
    with start(longer) as started:
        started.wait_until_said(1, "epoch 1/")
        started.processes[0].kill()
        assert started.processes[1].wait(120) == 1
    assert "process 1 of 2 is gone" in started.said[1].read_text()
    with start(launches[2:]) as started:
        started.wait_until_said(1, "epoch ")  # it has gone on

    (script,) = (block for language, block in blocks("hosts") if language == "python")
    (tmp_path / "two.py").write_text(script.replace("7777", str(port)))
    with Started(*([sys.executable, "two.py", number] for number in "10"), cwd=tmp_path) as started:
        assert [process.wait(120) for process in started.processes] == [0, 0]
    assert float(re.search(r"2 devices, validation accuracy ([\d.]+)", started.said[1].read_text())[1]) > 0.85


@pytest.mark.slow
def test_on_a_gpu(tmp_path, monkeypatch, types_unchecked):
    _, pairs = run("gpu", tmp_path, monkeypatch)
    assert_agree(pairs)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert pytest.approx(47, abs=0.1) == 60_000 * 28 * 28 / 1e6  # MB of MNIST's pictures
    flops = 2 * 100 * (784 * 50 + 50 * 10) * 3 - 2 * 100 * 784 * 50  # forward, both gradients, none for the pictures
    assert flops == pytest.approx(16e6, rel=0.01)
    assert flops / 67e12 == pytest.approx(0.25e-6, rel=0.1)


PEERS = {"PyTorch": "torch", "Keras": "keras", "Flax": "flax"}


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_the_same_training_in_each(peer):
    """In a process of its own: Keras takes its backend from the environment, and PyTorch its threads."""
    if importlib.util.find_spec(PEERS[peer]) is None:
        pytest.skip(f"{peer} is not installed")
    python = [block for language, block in blocks("coming-from") if language == "python"]
    data, ours = python[0], python[-1]
    (theirs,) = (block for block in python if f'print(f"{peer} ' in block)
    said = subprocess.run(
        [sys.executable, "-c", "\n".join((data, theirs, ours))], capture_output=True, text=True, check=True, cwd=ROOT,
        env={"KERAS_BACKEND": "jax", "PATH": "", "HOME": str(Path.home())},
    ).stdout  # fmt: skip
    figures = {name: float(figure) for name, figure in re.findall(r"^(\w+) ([\d.]+)$", said, re.MULTILINE)}
    assert figures.keys() == {peer, "jaxnn"}
    assert all(abs(figure - 0.95) <= 0.03 for figure in figures.values()), figures


def table(page, title):
    """Rows of the table under a heading, as dicts by column."""
    part = text_of(page).partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


def batch_norm_of(library, x):
    """Weight of a new batch in the running mean, running variance after one batch over the batch's, eps, first moments."""
    n = len(x)
    if library == "PyTorch":
        import torch

        layer = torch.nn.BatchNorm1d(x.shape[1])
        start = float(layer.running_mean[0]), float(layer.running_var[0])
        layer(torch.tensor(x))
        mean, var = layer.running_mean.numpy(), layer.running_var.numpy()
        eps = layer.eps
    elif library == "Keras":
        import keras

        layer = keras.layers.BatchNormalization()
        layer.build(x.shape)
        start = float(layer.moving_mean[0]), float(layer.moving_variance[0])
        layer(x, training=True)
        mean, var, eps = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance), layer.epsilon
    elif library == "Flax NNX":
        from flax import nnx

        layer = nnx.BatchNorm(x.shape[1], rngs=nnx.Rngs(0))
        start = float(layer.mean[...][0]), float(layer.var[...][0])
        layer(x)
        mean, var, eps = np.asarray(layer.mean[...]), np.asarray(layer.var[...]), layer.epsilon
    else:
        layer = nn.batch_norm()
        params, state, _ = layer.init(jax.random.key(0), x.shape[1:])
        start = float(state["mean"][0]), float(state["var"][0])
        _, state = layer.apply(params, state, jnp.asarray(x), training=True)
        mean, var = np.asarray(state["mean"]), np.asarray(state["var"])
        eps = inspect.signature(nn.batch_norm).parameters["eps"].default
    weight = float(np.mean(mean / x.mean(axis=0)))
    batch = (var - (1 - weight) * start[1]) / weight / x.var(axis=0)
    return weight, "n / (n - 1) of the batch's" if abs(batch.mean() - n / (n - 1)) < 1e-3 else "the batch's", eps, start


def dense_of(library, inputs, outputs):
    """W [in, out], b and the shape that the library has."""
    if library == "PyTorch":
        import torch

        torch.manual_seed(0)
        layer = torch.nn.Linear(inputs, outputs)
        return layer.weight.detach().numpy().T, layer.bias.detach().numpy(), tuple(layer.weight.shape)
    if library == "Keras":
        import keras

        layer = keras.layers.Dense(outputs)
        layer.build((None, inputs))
        return np.asarray(layer.kernel), np.asarray(layer.bias), layer.kernel.shape
    if library == "Flax NNX":
        from flax import nnx

        layer = nnx.Linear(inputs, outputs, rngs=nnx.Rngs(0))
        return np.asarray(layer.kernel[...]), np.asarray(layer.bias[...]), layer.kernel.shape
    params, _, _ = nn.dense(outputs).init(jax.random.key(0), (inputs,))
    return np.asarray(params["W"]), np.asarray(params["b"]), params["W"].shape


def convolution_of(library):
    """Shape of W, from 2 channels to 5 with a kernel of 3 by 4, and of what it makes of 8 by 8 pictures."""
    if library == "PyTorch":
        import torch

        layer = torch.nn.Conv2d(2, 5, (3, 4))
        return tuple(layer.weight.shape), tuple(layer(torch.zeros(1, 2, 8, 8)).shape)
    if library == "Keras":
        import keras

        layer = keras.layers.Conv2D(5, (3, 4))
        return (shape := layer(np.zeros((1, 8, 8, 2), np.float32)).shape) and (layer.kernel.shape, shape)
    if library == "Flax NNX":
        from flax import nnx

        layer = nnx.Conv(2, 5, (3, 4), rngs=nnx.Rngs(0))
        return layer.kernel.shape, layer(np.zeros((1, 8, 8, 2), np.float32)).shape
    layer = nn.conv2d(5, (3, 4))
    params, state, _ = layer.init(jax.random.key(0), (8, 8, 2))
    return params["W"].shape, layer.apply(params, state, jnp.zeros((1, 8, 8, 2)))[0].shape


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["PyTorch", "Keras", "Flax NNX", "jaxnn"])
def test_the_defaults_are_those_of_the_libraries(library, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    if library != "jaxnn":
        pytest.importorskip(PEERS[library.split()[0]])
    says = {row: cells[library] for row, cells in table("coming-from", "Defaults").items()}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        W, b, shape = dense_of(library, 400, 100)
        x = np.random.default_rng(0).normal(1, 2, size=(20, 7)).astype(np.float32)
        weight, variance, eps, start = batch_norm_of(library, x)
        kernel, made = convolution_of(library)
    bounds = {"uniform, ±1/√in": 1 / 20, "uniform, ±√(6 / (in + out))": np.sqrt(6 / 500)}
    if says["dense W"] in bounds:
        assert np.abs(W).max() == pytest.approx(bounds[says["dense W"]], rel=1e-3)
        assert W.std() == pytest.approx(bounds[says["dense W"]] / np.sqrt(3), rel=0.02)
    else:
        assert W.std() == pytest.approx(1 / 20, rel=0.02)
        assert (np.abs(W).max() < 3 * W.std()) == ("cut off" in says["dense W"])
    assert (np.abs(b).max() == 0) == (says["dense b"] == "0")
    assert shape == {"[in, out]": (400, 100), "[out, in]": (100, 400)}[says["dense W has shape"]]
    assert kernel == {"[out, in, h, w]": (5, 2, 3, 4), "[h, w, in, out]": (3, 4, 2, 5)}[says["convolution W"]]
    pads = {"0": (1, 5, 6, 5), '"valid"': (1, 6, 5, 5), '"VALID"': (1, 6, 5, 5), '"SAME"': (1, 8, 8, 5)}
    assert made == pads[says["convolution pads"]]
    momentum = float(says["batch norm `momentum`"].split(",")[0])
    assert weight == pytest.approx(momentum if "*new*" in says["batch norm `momentum`"] else 1 - momentum, rel=1e-4)
    assert variance == says["running variance"]
    assert eps == pytest.approx(float(says["batch norm eps"]))
    assert start == ((0, 1) if says["running moments start at"] == "0 and 1" else (0, 0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_else_the_page_says_of_the_others(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    torch, keras = pytest.importorskip("torch"), pytest.importorskip("keras")
    default = lambda function, name: inspect.signature(function).parameters[name].default
    assert default(torch.utils.data.DataLoader, "shuffle") in (None, False)
    assert default(torch.utils.data.DataLoader, "drop_last") is False
    assert default(keras.Model.fit, "shuffle") is True
    assert default(keras.losses.SparseCategoricalCrossentropy, "from_logits") is False
    assert (default(torch.optim.Adam, "lr"), default(torch.optim.Adam, "eps")) == (1e-3, 1e-8)
    assert (default(keras.optimizers.Adam, "learning_rate"), default(keras.optimizers.Adam, "epsilon")) == (1e-3, 1e-7)
    assert default(optax.adam, "eps") == 1e-8

    # Keras: eps beside √v, so that a first gradient of eps / √(1 - beta2) is halved; beside √v̂, one of eps is.
    def first_step(eps, g):
        variable = keras.Variable(np.zeros(1, np.float32))
        keras.optimizers.Adam(1.0, epsilon=eps).apply([np.full(1, g, np.float32)], [variable])
        return float(variable[0])

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert first_step(1e-3, 1e-3 / np.sqrt(1e-3)) == pytest.approx(-0.5, rel=1e-3)
        # ... and decays beside the gradient.
        variable = keras.Variable(np.ones(1, np.float32))
        keras.optimizers.Adam(0.1, weight_decay=0.5).apply([np.zeros(1, np.float32)], [variable])
        assert float(variable[0]) == pytest.approx(0.95)
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.zeros(1)
    torch.optim.Adam([parameter], 0.1, weight_decay=0.5).step()
    assert float(parameter) == pytest.approx(0.9, rel=1e-4)  # a whole step of Adam: the decay is a gradient to it
    for made in (torch.nn.Dropout(0.25)(torch.ones(100_000)).numpy(),
                 nn.dropout(0.25).apply({}, {}, jnp.ones((1, 100_000)), training=True, key=jax.random.key(0))[0]):  # fmt: skip
        assert float((np.asarray(made) == 0).mean()) == pytest.approx(0.25, abs=0.01)


def names(module, *paths):
    return [operator.attrgetter(path)(module) for path in paths]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_names_of_the_others_exist(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    torch, keras = pytest.importorskip("torch"), pytest.importorskip("keras")
    nnx, eqx = pytest.importorskip("flax.nnx"), pytest.importorskip("equinox")
    names(torch, "nn.Module.parameters", "nn.Sequential", "compile", "func.vmap", "manual_seed", "autocast", "save",
          "nn.parallel.DistributedDataParallel", "optim.lr_scheduler", "nn.utils.clip_grad_norm_")  # fmt: skip
    names(keras, "Model.trainable_variables", "Model.non_trainable_variables", "Sequential", "distribution",
          "utils.set_random_seed", "optimizers.schedules", "callbacks.EarlyStopping", "Model.save")  # fmt: skip
    names(nnx, "Module.train", "Module.eval", "Param", "BatchStat", "state", "Sequential", "value_and_grad", "jit",
          "vmap", "Rngs", "Optimizer.update")  # fmt: skip
    assert keras.DTypePolicy("mixed_bfloat16").compute_dtype == "bfloat16"
    with jax.numpy_rank_promotion("allow"):
        linear = eqx.nn.Linear(3, 2, key=jax.random.key(0))
        assert linear(jnp.ones(3)).shape == (2,)  # of one example
    x = np.random.default_rng(0).normal(1, 2, size=(20, 7)).astype(np.float32)
    layer = nn.batch_norm(0.9, eps=1e-5)
    params, state, _ = layer.init(jax.random.key(0), (7,))
    ours, _ = layer.apply(params, state, jnp.asarray(x), training=True)
    np.testing.assert_allclose(ours, torch.nn.BatchNorm1d(7)(torch.tensor(x)).detach().numpy(), atol=1e-5)
    params, _, _ = nn.dense(100, jax.nn.initializers.glorot_uniform()).init(jax.random.key(0), (400,))
    assert float(jnp.abs(params["W"]).max()) == pytest.approx(np.sqrt(6 / 500), rel=1e-3)


def test_the_tables_of_the_benchmarks_are_those_of_the_committed_results():
    text = text_of("benchmarks")
    assert benchmarks_page.with_tables(text, benchmarks_page.results()) == text


def test_the_best_of_the_others_is_the_fastest_whatever_the_target_is_for():
    content = benchmarks_page.results()
    row = next(row for row in content["rows"] if row["name"] == "Adam, 1M parameters")
    row["contenders"]["PyTorch fused"]["figure"] = row["ours"] / 2
    made = benchmarks_page.tables(content)
    assert re.search(r"^\| Adam, 1M parameters \|.*, PyTorch fused \| \*\*2\*\* \|", made, re.MULTILINE)
    assert "Adam, 1M parameters (2.00)" in made
    row["contenders"]["PyTorch fused"]["fault"] = "wrong: 1, where the middle of all is 2"
    assert re.search(r"^\| Adam, 1M parameters \|.*, optax \| 0\.849 \|", benchmarks_page.tables(content), re.MULTILINE)


def heading_anchor(line):
    return re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (DOCS / name).read_text()
        assert not anchor or anchor in map(heading_anchor, re.findall(r"^#+ .*$", linked, re.MULTILINE)), target


@pytest.mark.parametrize("page", PAGES)
def test_there_is_nothing_that_no_test_runs(page):
    before, made, after = text_of(page).partition(benchmarks_page.BEGIN)
    by_hand = before + after.partition(benchmarks_page.END)[2]
    assert max(len(line) for line in by_hand.splitlines() if not line.startswith("|")) <= 130
    assert bool(made) == (page == "benchmarks")
    for language, block in blocks(page):
        assert language in {"python", "text", "sh"}
        for line in block.splitlines() if language == "sh" else []:
            assert line.startswith(("jaxnn ", "python -m pip install", "python -m benchmarks", "wait")), line


def test_the_benchmarks_command_has_the_names_that_the_page_has():
    from benchmarks.catalogue import groups

    (line,) = (line for _, block in blocks("benchmarks") for line in block.splitlines() if "two_layer_net" in line)
    assert set(line.partition("#")[0].split()[3:]) <= groups().keys()
    assert importlib.util.find_spec("benchmarks.page")
