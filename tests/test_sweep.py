"""`sweep` against a Python loop, however it is chunked and spread; what diverges, is interrupted, or is refused."""

import dataclasses
import importlib
import itertools
import math
import signal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnn as nn
from jaxnn import sweep_result
from jaxnn._columns import as_columns
from jaxnn.sweep_program import Block, Program, bytes_at_once, choose_block, trace

pytestmark = pytest.mark.little_optimized

module = importlib.import_module("jaxnn.sweep")  # the attribute jaxnn.sweep is the function

KEY = jax.random.key(3)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 6)).astype(np.float32)
Y = RANDOM.integers(0, 3, 40).astype(np.int32)
IMAGES = RANDOM.normal(size=(20, 6, 6, 1)).astype(np.float32)


def noise(config, key):
    """Cheap, and different for each config and key."""
    return {"value": config["a"] * 10 + jax.random.uniform(key), "pair": jnp.stack([config["a"], config["b"]])}


def columns(count):
    return {"a": jnp.arange(count, dtype=float), "b": np.linspace(0, 1, count)}


def sweep(run=noise, configs=None, **settings):
    return nn.sweep(run, columns(5) if configs is None else configs, **{"key": KEY, "progress": False, **settings})


def by_loop(run, configs, seeds):
    """[configs, seeds, …] from calls one by one."""
    run = jax.jit(run)
    rows = [[run(config, jax.random.fold_in(KEY, seed)) for seed in range(seeds)] for config in configs]
    return jax.tree.map(
        lambda *runs: np.stack(runs).reshape(len(configs), seeds, *np.shape(runs[0])), *itertools.chain(*rows)
    )


def assert_close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.shape(left) == np.shape(right)
        np.testing.assert_allclose(left, right, **(tolerance or {"rtol": 1e-6}))


class TestEqualsALoop:
    @pytest.mark.parametrize("max_parallel", [None, 1, 3])
    @pytest.mark.parametrize("devices", [1, 3, 4])
    @pytest.mark.parametrize("count, seeds", [(5, 1), (2, 3)])
    def test_however_it_is_chunked_and_spread(self, max_parallel, devices, count, seeds):
        configs = columns(count)
        result = sweep(configs=configs, seeds=seeds, max_parallel=max_parallel, devices=jax.devices()[:devices])
        rows = [{name: jnp.float32(column[i]) for name, column in configs.items()} for i in range(count)]
        assert_close(result.outcomes, by_loop(noise, rows, seeds))
        assert result.finished.all()
        assert not result.diverged.any()
        assert result.programs == 1

    @pytest.mark.parametrize(
        "model, x", [(nn.mlp([5], 3, batch_norm=True, dropout=0.3), X), pytest.param(nn.simple_convnet(3, filters=4, filter_size=3, hidden_size=6), IMAGES, marks=pytest.mark.slow)], ids=["batch norm and dropout", "convnet"]
    )  # fmt: skip
    def test_of_fit(self, model, x):
        """Over rates and decays, on every device; two seeds."""

        def run(config, key):
            return nn.fit(
                model,
                nn.softmax_cross_entropy,
                nn.momentum(config["learning_rate"]),
                (x, Y[: len(x)]),
                key=key,
                epochs=2,
                batch_size=10,
                penalty=nn.l2_penalty(config["weight_decay"]),
            )

        pairs = [(0.1, 0.0), (0.3, 1e-3), (0.0, 0.1), (0.0, 0.0)]
        configs = [{"learning_rate": rate, "weight_decay": decay} for rate, decay in pairs]
        result = sweep(run, configs, seeds=2)
        assert_close(result.outcomes, by_loop(run, configs, 2), rtol=2e-4, atol=2e-5)
        for W in jax.tree.leaves(result.outcomes.params):
            np.testing.assert_array_equal(W[2], W[3])  # all configs of a seed start alike
        W = result.outcomes.params["dense1"]["W"]
        assert not np.array_equal(W[2, 0], W[2, 1])

    def test_runs_of_a_seed_see_the_same_batches_as_one_product(self):
        """Nothing is gathered for each run anew: the compiled program reads a batch once for all configs."""

        def run(rate, key):
            train = (X, Y)
            return nn.fit(nn.mlp([5], 3), nn.softmax_cross_entropy, nn.sgd(rate), train, key=key, epochs=1, batch_size=7, metrics={}).history.loss  # fmt: skip

        cols = as_columns(np.linspace(0, 1, 11))
        program = Program(trace(run, cols, 0, KEY), cols, Block(11, 1, 1, 1), jax.devices()[:1], KEY)
        text = program.compiled.as_text()
        assert "f32[7,6]" in text
        assert "f32[11,7,6]" not in text

    def test_data_is_no_constant_of_the_program(self):
        traced = trace(lambda c, key: jnp.sum(jnp.asarray(X) * c), as_columns(jnp.arange(2.0)), 0, KEY)
        assert [constant.shape for constant in traced.constants] == [X.shape]


class TestConfigs:
    def test_a_lone_column_a_list_and_named_tuples(self):
        class Settings(NamedTuple):
            rate: float
            more: dict

        square = lambda rate, key: rate**2
        assert_close(sweep(square, jnp.array([1.0, 2.0])).outcomes, np.array([[1.0], [4.0]], np.float32))
        assert_close(sweep(square, [1.0, 2, np.float32(3)]).outcomes, np.array([[1.0], [4.0], [9.0]], np.float32))
        rows = [Settings(rate, {"power": power}) for rate, power in [(2.0, 2), (3.0, 3)]]
        result = sweep(lambda config, key: config.rate ** config.more["power"], rows)
        assert result.outcomes[:, 0].tolist() == [4.0, 27.0]
        assert result.config(1) == Settings(3.0, {"power": 3})

    def test_what_changes_the_program_is_grouped_and_compiled_once(self):
        traced = []

        def run(config, key):
            traced.append((config["width"], config["activation"].__name__))
            return jnp.sum(config["activation"](jnp.full(config["width"], config["scale"])))

        configs = [
            {"width": width, "activation": activation, "scale": scale}
            for scale in (-1.0, 2.0)
            for width in (3, 5)
            for activation in (nn.relu, nn.identity)
        ]
        result = sweep(run, configs)
        assert result.programs == 4
        assert sorted(traced) == [(3, "identity"), (3, "relu"), (5, "identity"), (5, "relu")]
        assert result.outcomes[:, 0].tolist() == [0, -3, 0, -5, 6, 6, 10, 10]
        assert result.configs["width"] == [3, 3, 5, 5] * 2
        assert "identity" in result.table()

    def test_true_and_one_are_not_the_same_program(self):
        result = sweep(lambda c, key: jnp.float32(isinstance(c["flag"], bool)), {"flag": [True, 1, 1.5]})
        assert result.outcomes[:, 0].tolist() == [1, 0, 0]
        assert result.programs == 3

    def test_whole_numbers_in_an_array_are_traced(self):
        result = sweep(lambda n, key: n * 2, np.arange(3))
        assert result.programs == 1
        assert result.outcomes.dtype == np.int32

    def test_keys_and_arrays_as_hyperparameters(self):
        keys = jax.random.split(KEY, 3)
        result = sweep(lambda c, key: jax.random.normal(c["data_key"]) + c["shift"].sum(), {"data_key": keys, "shift": np.ones((3, 2))})  # fmt: skip
        np.testing.assert_allclose(result.outcomes[:, 0], [jax.random.normal(key) + 2 for key in keys], rtol=1e-6)
        assert "data_key" in result.table()

    def test_older_keys(self):
        assert_close(sweep(key=jax.random.PRNGKey(3)).outcomes, sweep().outcomes)

    def test_tuples_dataclasses_and_devices_in_an_array(self):
        pairs = [(0.5, 2.0), (3.0, 4.0)]
        result = sweep(lambda pair, key: pair[0] * pair[1], pairs, devices=np.array(jax.devices()).reshape(2, 2))
        assert result.outcomes[:, 0].tolist() == [1.0, 12.0]
        assert result.programs == 1
        assert result.config(1) == (3.0, 4.0)

        @jax.tree_util.register_dataclass
        @dataclasses.dataclass
        class Settings:
            rate: float

        result = sweep(lambda settings, key: settings.rate, [Settings(1.0), Settings(2.5)])
        assert result.outcomes[:, 0].tolist() == [1.0, 2.5]

    def test_true_and_one_within_a_tuple(self):
        result = sweep(lambda c, key: jnp.float32(c["t"][0] is True), {"t": [(1, 2), (True, 2)]})
        assert result.outcomes[:, 0].tolist() == [0, 1]

    def test_decimals_take_the_type_of_what_they_meet(self):
        """As in a loop: a bfloat16 network stays one."""
        half = jnp.ones(2, jnp.bfloat16)
        assert sweep(lambda rate, key: half * rate, [0.5, 1.5]).outcomes.dtype == jnp.bfloat16
        assert sweep(lambda rate, key: half.astype(jnp.float32) * rate, jnp.array([0.5])).outcomes.dtype == np.float32

    def test_nothing_as_an_outcome_is_nothing(self):
        result = sweep(lambda rate, key: {"loss": rate, "other": None}, [0.5, 1.5])
        assert result.outcomes["other"] is None
        assert result.best("loss").row == 0


@pytest.mark.parametrize("max_parallel", [None, 1])
@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_keys_of_other_generators(kind, max_parallel):
    """Theirs draw for all that are mapped what the first key draws: a device runs one seed at once."""
    key = jax.random.key(0, impl=kind)
    run = lambda rate, key: rate * jax.random.normal(key, (2,))
    result = nn.sweep(run, [1.0, 2.0], key=key, seeds=5, max_parallel=max_parallel, progress=False)
    for seed in range(5):
        expected = jax.random.normal(jax.random.fold_in(key, seed), (2,))
        np.testing.assert_allclose(result.outcomes[1, seed], 2 * expected, rtol=1e-6)


class TestDivergence:
    @pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 4])
    def test_is_marked_and_leaves_the_neighbours_bits_alone(self, devices):
        def run(rate, key):
            return nn.fit(nn.mlp([5], 3, batch_norm=True), nn.softmax_cross_entropy, nn.sgd(rate), (X, Y), key=key, epochs=2, batch_size=8)  # fmt: skip

        sweeper = module.Sweeper(run, key=KEY, seeds=1, devices=jax.devices()[:devices], max_parallel=5)
        good, bad = (
            sweeper(as_columns(np.array(rates)), lambda report: None)
            for rates in ([0.1, 0.2, 0.3, 0.4, 0.5], [0.1, np.inf, 0.3, 1e38, 0.5])
        )
        assert not good.diverged.any()
        assert bad.diverged[:, 0].tolist() == [False, True, False, True, False]
        for left, right in zip(jax.tree.leaves(good.outcomes), jax.tree.leaves(bad.outcomes), strict=True):
            np.testing.assert_array_equal(left[[0, 2, 4]], right[[0, 2, 4]])
        assert bad.best("train/accuracy").row in (0, 2, 4)
        assert bad.table("train/accuracy").count("diverged") == 2
        assert np.isnan(bad.score("train/accuracy")[1, 0])

    def test_a_config_one_seed_of_which_diverged_is_not_the_best(self):
        run = lambda a, key: jnp.where((a == 2) & (jax.random.uniform(key) < 0.5), jnp.nan, a)
        result = sweep(run, jnp.arange(3.0), seeds=8)
        assert 0 < result.diverged[2].sum() < 8
        assert result.best(mode="max").config == 1
        assert f"{result.diverged[2].sum()} of 8 diverged" in result.table()


class TestInterruption:
    def test_keeps_the_finished_chunks(self, monkeypatch):
        waited = []

        def wait(values, heard):
            waited.append(1)
            if len(waited) == 3:
                raise KeyboardInterrupt

        monkeypatch.setattr(module, "wait", wait)
        result = sweep(max_parallel=1, devices=jax.devices()[:1])
        assert result.interrupted
        assert result.finished[:, 0].tolist() == [True, True, False, False, False]
        assert_close(result.outcomes["value"][:2], sweep_uninterrupted(monkeypatch).outcomes["value"][:2])
        assert np.isnan(result.outcomes["value"][2:]).all()
        assert not result.diverged.any()
        assert result.table().count("not finished") == 3
        assert result.best("value", "max").row == 1

    def test_ctrl_c_is_heard_between_chunks(self):
        seen = []

        def run(a, key):
            jax.debug.callback(lambda a: (seen.append(a), signal.raise_signal(signal.SIGINT)) if a == 1 else None, a)
            return a

        result = sweep(run, jnp.arange(6.0), max_parallel=1, devices=jax.devices()[:1])
        assert 1 <= result.finished.sum() < 6
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_before_the_first_chunk_goes_on_up(self, monkeypatch):
        def wait(values, heard):
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            sweep()


def sweep_uninterrupted(monkeypatch):
    monkeypatch.undo()
    return sweep()


class TestMemory:
    def test_what_does_not_fit_at_once_runs_in_chunks(self, monkeypatch):
        calls = []
        original = module.Program.call
        monkeypatch.setattr(module.Program, "call", lambda *args: calls.append(1) or original(*args))

        def run(a, key):
            noise = jax.random.normal(key, (300, 1000)) * a  # 1.2 MB
            return jnp.sum(jnp.sort(noise, axis=1)[:, 0])

        one = jax.devices()[:1]
        whole = sweep(run, jnp.arange(1.0, 9.0), devices=one, max_parallel=8)
        assert len(calls) == 1
        calls.clear()
        monkeypatch.setattr(module, "free_bytes", lambda device: 15_000_000)
        in_chunks = sweep(run, jnp.arange(1.0, 9.0), devices=one, max_parallel=8)
        assert 1 < len(calls) <= 8
        assert_close(in_chunks.outcomes, whole.outcomes, rtol=1e-5)

    def test_one_run_that_does_not_fit(self, monkeypatch):
        monkeypatch.setattr(module, "free_bytes", lambda device: 1_000_000)
        run = lambda a, key: jnp.sum(jnp.sort(jax.random.normal(key, (1000, 1000)) * a))
        with pytest.raises(
            MemoryError, match=r"one run takes 0\.01 GB of memory and 0\.00 GB are free on .*: smaller|one run takes"
        ):
            sweep(run, jnp.arange(3.0))

    def test_outcomes_larger_than_the_host(self):
        with pytest.raises(
            MemoryError, match=r"the outcomes of 100,000 runs take 40,000\.00 GB and .* are free; let run return less"
        ):
            sweep(lambda a, key: jnp.zeros(10**8) * a, np.zeros(100_000))

    def test_estimate_of_what_is_alive_at_once(self):
        """Two arrays of 400 bytes while they are added, and what a loop carries; not what all runs share."""

        def adds(x, shared):
            y = x * 2
            z = y + 1
            return z.sum() + (shared + 1).sum()

        def loops(x, shared):
            def step(carry, row):
                return (carry[0] * 2, carry[1] + row), (row * 3).sum()

            (x, total), _ = jax.lax.scan(step, (x, jnp.zeros(100)), jnp.broadcast_to(shared, (3, 100)))
            return x.sum(), total.sum()

        def grows(x, shared):
            """The first step makes the carried array a run's own."""
            return jax.lax.scan(lambda c, _: (c + x.sum(), None), shared, length=3)[0].sum()

        for function, expected in ((adds, 800), (loops, 800), (grows, 804)):
            jaxpr = jax.make_jaxpr(function)(jnp.zeros(100), jnp.zeros(100)).jaxpr
            assert bytes_at_once(jaxpr, [True, False]) == expected, function.__name__
            assert bytes_at_once(jaxpr, [False, False]) == 0

    @settings(deadline=None)
    @given(st.integers(1, 50), st.integers(1, 6), st.integers(1, 9), st.integers(1, 12))
    def test_blocks_cover_all_runs_and_no_more_than_asked(self, configs, seeds, devices, most):
        block = choose_block(configs, seeds, devices, most)
        assert block.configs * block.seeds <= most
        assert block.devices_by_config * block.devices_by_seed == devices
        # No device does more in all than if each had its share of whole configs and seeds.
        calls = math.ceil(configs / (block.configs * block.devices_by_config)) * math.ceil(
            seeds / (block.seeds * block.devices_by_seed)
        )
        busiest = calls * block.configs * block.seeds
        best = min(
            math.ceil(seeds / s) * math.ceil(configs / (devices // s))
            for s in range(1, devices + 1)
            if devices % s == 0
        )
        assert busiest >= best
        assert most < 4 or busiest <= 2 * best + most

    def test_runs_that_only_fill_a_block_are_few(self):
        # Eight by three would be nine. Eleven by six are twelve, but two calls: better than eleven by one.
        assert choose_block(configs=8, seeds=1, devices=1, most=3).configs == 2
        assert choose_block(configs=1, seeds=8, devices=1, most=3).seeds == 2
        assert choose_block(configs=11, seeds=1, devices=1, most=10).configs == 6
        # Eleven seeds by six would be twelve: another ten runs, for one call less out of eleven.
        assert choose_block(configs=10, seeds=11, devices=1, most=100).seeds == 1

    @pytest.mark.parametrize(
        "known, wanted, configs, is_wasteful",
        [
            (Block(50, 1, 2, 1), Block(25, 1, 2, 1), 50, False),  # half of the slots idle
            (Block(50, 1, 2, 1), Block(24, 1, 2, 1), 48, True),
            (Block(3, 1, 2, 1), Block(12, 1, 2, 1), 24, False),  # four calls instead of one
            (Block(3, 1, 2, 1), Block(13, 1, 2, 1), 25, True),
        ],
    )
    def test_a_program_is_compiled_again_by_counts_not_by_clocks(self, known, wanted, configs, is_wasteful):
        assert known.is_wasteful(wanted, configs, 1) is is_wasteful

    def test_a_sweeper_keeps_its_programs(self):
        """Of 50 runs, of half of them with half of the slots idle, of a quarter, and of each again."""
        sweeper = a_sweeper(max_parallel=50)
        compiled = []
        for count in (50, 25, 12, 50, 25, 12):
            result = sweeper(as_columns(columns(count)), lambda report: None)
            np.testing.assert_allclose(result.outcomes["pair"][:, 0, 0], np.arange(count))
            compiled.append(sweeper.programs)
        assert compiled == [1, 1, 2, 2, 2, 2]

    def test_what_memory_has_forced_down_is_compiled_once(self, monkeypatch):
        data = jnp.ones(200_000)
        monkeypatch.setattr(module.Sweeper, "_free_bytes", lambda self: 3_000_000)  # enough for two or three
        sweeper = a_sweeper(lambda config, key: jnp.sort(data * config["a"])[3] + config["b"], max_parallel=50)
        compiled = []
        for _ in range(2):
            result = sweeper(as_columns(columns(50)), lambda report: None)
            np.testing.assert_allclose(result.outcomes[:, 0], np.arange(50) + np.linspace(0, 1, 50), rtol=1e-6)
            compiled.append(sweeper.programs)
        assert compiled[0] == compiled[1] > 1


def a_sweeper(run=noise, max_parallel=None):
    return module.Sweeper(run, key=KEY, seeds=1, devices=jax.devices()[:1], max_parallel=max_parallel)


def test_devices_without_a_seed_of_their_own_wait_for_configs():
    """So what was compiled for one config does for as many as there are devices."""
    assert choose_block(configs=1, seeds=1, devices=4, most=9) == Block(1, 1, 4, 1)
    assert choose_block(configs=1, seeds=3, devices=4, most=9) == Block(1, 1, 1, 4)


RESULT = nn.SweepResult(
    {"rate": np.float32([0.1, 1.0]), "kind": ["a", "b"]},
    {
        "accuracy": np.array([[0.5, 0.7], [0.9, 0.8]]),
        "curve": np.arange(12.0).reshape(2, 2, 3),
        "nested": {"loss": np.array([[1.0, 1.0], [3.0, 0.5]])},
    },
    diverged=np.zeros((2, 2), bool),
    finished=np.ones((2, 2), bool),
    interrupted=False,
    programs=2,
    compile_seconds=0.0,
    run_seconds=0.0,
)


class TestResult:
    def test_best(self):
        best = RESULT.best("accuracy")
        assert (best.row, best.config, best.value) == (1, {"rate": 1.0, "kind": "b"}, pytest.approx(0.85))
        assert best.seeds.tolist() == [0.9, 0.8]
        assert RESULT.best("loss").row == 0
        assert RESULT.best("nested/loss", mode="max").row == 1
        assert RESULT.best("curve", "min").row == 0
        assert RESULT.best(lambda outcomes: outcomes["nested"]["loss"][:, ::-1] * 2, "min").value == 2.0

    def test_equals_are_told_apart_by_the_next_metric(self):
        outcomes = {
            "accuracy": np.array([[0.5, 0.5], [0.8, 0.9], [0.9, 0.8], [0.9, 0.8], [1.0, 1.0]]),
            "loss": np.array([[0.1, 0.1], [0.4, 0.6], [0.3, 0.4], [0.2, 0.6], [0.0, 0.0]]),
            "epoch": np.array([[9], [2], [1], [3], [9]]) * np.ones((5, 2), int),
        }
        diverged = np.zeros((5, 2), bool)
        diverged[4, 1] = True
        result = RESULT._replace(
            configs={"rate": np.arange(5.0)}, outcomes=outcomes, diverged=diverged, finished=np.ones((5, 2), bool)
        )
        assert result.order("accuracy") == [1, 2, 3, 0]
        assert result.order(("accuracy", "loss")) == [2, 3, 1, 0]
        assert result.order(("accuracy", "loss"), "min") == [0, 2, 3, 1]
        assert result.order(("epoch", "accuracy", "loss"), "max") == [0, 3, 1, 2]
        assert result.best(("accuracy", "loss")).row == 2
        assert result.best(("accuracy", "loss")).value == pytest.approx(0.85)

    def test_equals_may_differ_by_rounding(self):
        good = np.ones((2, 2), bool)
        outcomes = {"accuracy": np.float32([[0.7, 0.9], [0.8, 0.8]]), "loss": np.float32([[0.1, 0.1], [0.9, 0.9]])}
        assert len(set(np.float64(outcomes["accuracy"]).mean(axis=1))) == 2
        result = RESULT._replace(configs={"rate": np.arange(2.0)}, outcomes=outcomes, finished=good, diverged=~good)
        for order in ([0, 1], [1, 0]):
            turned = jax.tree.map(lambda values, order=order: values[order], outcomes)
            assert result._replace(outcomes=turned).order(("accuracy", "loss")) == order

    @pytest.mark.parametrize(
        "metric, error, sentence",
        [
            ((), TypeError, r"metric must be a name, a function, or a tuple of names; got \(\)"),
            ((("accuracy", "loss"),), TypeError, "or a tuple of names"),
            (("accuracy", len), TypeError, "or a tuple of names"),
            (["accuracy", "loss"], TypeError, r"must be a name, a function, or a tuple of names; got \['accuracy'"),
            (("accuracy", "nope"), ValueError, "unknown metric 'nope'"),
            (("accuracy", "curve"), ValueError, "is curve good when it is large or small[?] after the first, a metric's"),
        ],
    )  # fmt: skip
    def test_refuses_metrics(self, metric, error, sentence, types_unchecked):
        for ask in (RESULT.order, RESULT.best):
            with pytest.raises(error, match=sentence):
                ask(metric)
        with pytest.raises(error, match=sentence):
            sweep_result.check_metric(jax.tree.map(lambda leaf: leaf[0, 0], RESULT.outcomes), metric, None)

    def test_table(self):
        lines = RESULT.table().splitlines()
        assert lines[0].split() == ["kind", "rate", "accuracy", "curve", "nested/loss"]
        assert lines[1].split()[:5] == ["a", "0.1", "0.6000", "±", "0.1414"]
        assert len(RESULT.table("accuracy").splitlines()[1].split()) == 5

    def test_csv(self, tmp_path):
        text = RESULT.to_csv()
        assert text.splitlines()[0] == "kind,rate,seed,accuracy,curve,nested/loss,diverged,finished"
        assert text.splitlines()[2] == "a,0.1,1,0.7,5.0,1.0,False,True"
        assert RESULT.to_csv(tmp_path / "runs.csv") is None
        assert (tmp_path / "runs.csv").read_text() == text
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize(
        "arguments, sentence",
        [
            (("acuracy",), "unknown metric 'acuracy': did you mean accuracy"),
            ((), "which outcome is the metric"),
            (("curve",), "is curve good when it is large or small"),
            (
                (lambda outcomes: outcomes["accuracy"] * 1j, "max"),
                r"the metric is complex128\[2, 2\]; expected one real number",
            ),
            (("accuracy", "most"), "unknown mode 'most'"),
            (
                (lambda outcomes: outcomes["curve"], "max"),
                r"the metric is float64\[2, 2, 3\]; expected one real number",
            ),
        ],
    )
    def test_refuses(self, arguments, sentence, types_unchecked):
        with pytest.raises(ValueError, match=sentence):
            RESULT.best(*arguments)

    def test_names_that_are_taken(self):
        outcomes = {"seed": np.ones((2, 1)), "loss": np.ones((2, 1))}
        good = np.ones((2, 1), bool)
        result = nn.SweepResult({"seed": [1, 2], "loss": [3, 4]}, outcomes, ~good, good, False, 1, 0.0, 0.0)
        assert result.to_csv().splitlines()[0] == "config/loss,config/seed,seed,loss,outcome/seed,diverged,finished"

    def test_a_file_that_cannot_be_written_leaves_nothing(self, tmp_path):
        with pytest.raises(OSError, match="directory"):
            RESULT.to_csv(tmp_path)
        assert not list(tmp_path.parent.glob("*unfinished*"))

    def test_half_precision_and_truth_are_numbers(self):
        outcomes = {"loss": np.array([[1.0], [0.5]]).astype(jnp.bfloat16), "solved": np.array([[True], [False]])}
        good = np.ones((2, 1), bool)
        result = nn.SweepResult([1, 2], outcomes, ~good, good, False, 1, 0.0, 0.0)
        assert result.best("loss").row == 1
        assert result.best("solved", "max").row == 0

    def test_an_infinite_metric_is_not_the_best(self):
        values = np.array([[0.0], [2.0]])
        with np.errstate(divide="ignore"):
            assert (
                RESULT._replace(outcomes={"x": values}, diverged=values > 9, finished=values < 9)
                .best(lambda outcomes: 1 / outcomes["x"], "max")
                .row
                == 1
            )

    def test_no_best(self):
        with pytest.raises(ValueError, match="no config is the best"):
            RESULT._replace(diverged=np.ones((2, 2), bool)).best("accuracy")


def takes_float(config, key):
    return float(config["a"])


def branches(config, key):
    return config["a"] if config["a"] > 0 else config["b"]


@pytest.mark.parametrize(
    "settings, error, sentence",
    [
        ({"configs": {"a": [1.0, 2.0], "b": [1.0]}}, ValueError, "a has 2 values and b has 1; every column needs one for each"),
        ({"configs": {"a": jnp.zeros(3), "b": jnp.zeros(2)}}, ValueError, "a has 3 values and b has 2"),
        ({"configs": []}, ValueError, "configs is empty"),
        ({"configs": {}}, ValueError, "configs is empty"),
        ({"configs": {"a": []}}, ValueError, "configs is empty"),
        ({"configs": [{"a": 1.0}, {"b": 1.0}]}, ValueError, r"configs\[1\] has b, and configs\[0\] has a; all need the same"),
        ({"configs": {"a": 0.1}}, TypeError, "a is 0.1; expected a column: an array or a list with a value for each config"),
        ({"configs": 3}, TypeError, "configs is 3; expected a column"),
        ({"configs": {"a": jnp.float32(0.1)}}, TypeError, "a is a scalar; expected a column"),
        ({"configs": {"a": [1.0], "b": [[1, 2]]}}, TypeError, r"b has the value \[1, 2\], which cannot tell programs apart: use a tuple"),
        ({"configs": {"a": np.array(["x"])}}, TypeError, "a is an array of <U1; give words as a list"),
        ({"configs": {"a": np.array([2**40 + 7])}}, ValueError, "a has the value 1099511627783, which int32 cannot hold"),
        ({"configs": {"a": [1e300, 1.0]}}, ValueError, r"a has the value 1e\+300, which float32 cannot hold"),
        ({"configs": {"a": np.array([1e-60])}}, ValueError, "a has the value 1e-60, which float32 cannot hold"),
        ({"configs": {"a/b": [1.0], "a": {"b": [2.0]}}}, ValueError, "two leaves of the configs are called a/b"),
        ({"configs": {"a": [jnp.array(1), 2]}}, TypeError, "a has arrays beside other values"),
        ({"run": lambda c, key: {"x/y": c["a"], "x": {"y": c["a"]}}}, ValueError, "two leaves of the outcome are called x/y"),
        ({"run": lambda c, key: (c["a"],) if c["n"] else [c["a"]], "configs": {"a": [0.5, 1.0], "n": [0, 1]}}, ValueError, "run returns PyTreeDef"),
        ({"run": 3}, TypeError, "run must be a function"),
        ({"run": takes_float}, TypeError, r"run makes a Python value of one that is known only when the program runs, in .*test_sweep.py, line \d+"),
        ({"run": branches}, TypeError, "run makes a Python value"),
        ({"run": lambda c, key: np.asarray(c["a"])}, TypeError, "run makes a Python value"),
        ({"run": lambda c, key: 0.5}, TypeError, "run returned the float 0.5; expected a JAX array"),
        ({"run": lambda c, key: {"loss": c["a"], "name": "x"}}, TypeError, "run returned for name the str 'x'; expected a JAX array"),
        ({"run": lambda c, key: None}, TypeError, "run returned nothing"),
        ({"run": lambda c, key: {}}, TypeError, "run returned nothing"),
        ({"run": lambda c, key: key}, TypeError, "run returned a PRNG key; return jax.random.key_data of it"),
        ({"run": lambda c, key: jnp.zeros(c["n"]), "configs": {"n": [1, 2]}}, ValueError, r"run returns outcome as float32\[1\] for configs\[0\] and as float32\[2\] for configs\[1\]"),
        ({"key": 0}, TypeError, r"key must be a PRNG key; got int \(use jax.random.key\(0\)\)"),
        ({"seeds": 0}, ValueError, "seeds must be at least 1; got 0"),
        ({"seeds": 1.5}, TypeError, "seeds must be a whole number"),
        ({"max_parallel": 0}, ValueError, "max_parallel must be at least 1"),
        ({"devices": []}, ValueError, "devices is empty; at least one device is needed"),
        ({"devices": ["cpu"]}, TypeError, "devices must be a list such as jax.devices.*it holds 'cpu'"),
        ({"devices": jax.devices()[:1] * 2}, ValueError, "devices has a device twice"),
    ],
)  # fmt: skip
def test_refuses(settings, error, sentence, types_unchecked, monkeypatch):
    monkeypatch.setattr(module, "Program", lambda *args: pytest.fail("compiled before it refused"))
    with pytest.raises(error, match=sentence):
        sweep(**settings)


def test_refuses_a_traced_key_and_traced_surroundings():
    configs = columns(3)
    with pytest.raises(TypeError, match="run uses a traced value; sweep compiles and runs by itself"):
        jax.jit(lambda key: sweep(configs=configs, key=key).outcomes)(KEY)
    with pytest.raises(TypeError, match="run uses a traced value; sweep compiles and runs by itself"):
        jax.jit(lambda x: sweep(lambda c, key: c["a"] * x, configs).outcomes)(jnp.ones(()))


def test_refuses_to_be_traced():
    with pytest.raises(TypeError, match="outside of jit and vmap"):
        jax.jit(lambda a: sweep(configs={"a": a, "b": a}).outcomes)(jnp.arange(3.0))
