"""`random_search`: finds what is good, narrows, halves; and what it refuses."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn.runner import DivergedError

KEY = jax.random.key(1)
SPACE = nn.SearchSpace(rate=nn.log_uniform(1e-6, 1.0), shift=nn.uniform(-1.0, 1.0))


def hill(config, key):
    """Best at a rate of 1e-3; the shift hardly matters."""
    return {"accuracy": 1 - (jnp.log10(config["rate"]) + 3) ** 2 / 10 - 1e-4 * config["shift"] ** 2}


def search(run=hill, space=SPACE, **settings):
    return nn.random_search(run, space, **{"key": KEY, "trials": 40, "progress": False, **settings})


class TestNarrowing:
    @pytest.mark.parametrize("seed", range(5))
    def test_closes_in_on_the_best(self, seed):
        result = search(key=jax.random.key(seed))
        assert result.trials.outcomes["accuracy"].shape == (120, 1)
        assert result.round.tolist() == [0] * 40 + [1] * 40 + [2] * 40
        assert len(result.spaces) == 4
        widths = [np.log10(space["rate"].high / space["rate"].low) for space in result.spaces]
        assert widths[0] == pytest.approx(6)
        assert widths[1] < 0.4 * widths[0]
        assert widths[3] < 0.1 * widths[0]
        assert abs(np.log10(result.best.config["rate"]) + 3) < 0.05
        assert result.best.value == result.trials.outcomes["accuracy"].max()
        assert result.trials.programs == 1

    def test_each_range_is_that_of_the_best_of_its_round(self):
        result = search(keep=0.25)
        for number in range(3):
            here = result.round == number
            best = np.argsort(-result.trials.outcomes["accuracy"][here, 0])[:10]
            for name in ("rate", "shift"):
                kept = result.trials.configs[name][here][best]
                narrowed = result.spaces[number + 1][name]
                np.testing.assert_allclose([narrowed.low, narrowed.high], [kept.min(), kept.max()], rtol=1e-5)

    def test_small_is_good_of_a_loss(self):
        run = lambda config, key: {"loss": -hill(config, key)["accuracy"]}
        assert abs(np.log10(search(run).best.config["rate"]) + 3) < 0.05
        one = lambda config, key: -hill(config, key)["accuracy"]
        assert abs(np.log10(search(one, mode="min").best.config["rate"]) + 3) < 0.05

    def test_diverged_trials_are_neither_best_nor_kept(self):
        run = lambda config, key: {"accuracy": jnp.where(config["rate"] > 1e-3, jnp.nan, jnp.log10(config["rate"]))}
        result = search(run)
        assert result.trials.diverged.any()
        assert all(space["rate"].high <= 1e-3 * (1 + 1e-6) for space in result.spaces[1:])
        with pytest.raises(
            DivergedError, match="every trial of round 1 has diverged: try other ranges than SearchSpace"
        ):
            search(lambda config, key: {"accuracy": config["rate"] * jnp.nan})

    def test_choices_narrow_to_good_ones_and_each_program_is_compiled_once(self):
        space = nn.SearchSpace(rate=nn.log_uniform(1e-6, 1.0), kind=nn.choice("good", "bad", "ugly"))
        traced = []

        def run(config, key):
            traced.append(config["kind"])
            return {"accuracy": hill({**config, "shift": 0.0}, key)["accuracy"] - 10.0 * (config["kind"] != "good")}

        result = search(run, space)
        assert result.spaces[1]["kind"].options == ("good",)
        assert sorted(traced) == ["bad", "good", "ugly"]
        assert result.best.config["kind"] == "good"

    def test_seeds_are_averaged(self):
        run = lambda config, key: {"accuracy": hill(config, key)["accuracy"] + jax.random.normal(key)}
        result = search(run, seeds=3, rounds=1)
        assert result.best.value == pytest.approx(result.trials.outcomes["accuracy"].mean(axis=1).max())


def in_stages(config, key, state):
    """Each stage comes nearer to the hill's value; the state holds a key, as a TrainState does."""
    count, run_key = (jnp.zeros(()), key) if state is None else state
    value = hill(config, key)["accuracy"] * (1 - 0.5 ** (count + 1.0)) + 0 * jax.random.uniform(run_key)
    return (count + 1, run_key), {"accuracy": value, "stages": count + 1}


class TestHalving:
    def test_the_better_half_goes_on_after_1_2_and_4_stages(self):
        result = search(in_stages, halving=True, rounds=1, metric="accuracy")
        assert np.bincount(result.stage).tolist() == [0, 20, 10, 0, 5, 0, 0, 0, 5]
        np.testing.assert_array_equal(result.stage, result.trials.outcomes["stages"][:, 0])
        final = np.asarray(
            hill({name: jnp.asarray(column) for name, column in result.trials.configs.items()}, KEY)["accuracy"]
        )
        assert set(np.argsort(-final)[:5]) == set(np.flatnonzero(result.stage == 8))
        assert result.stage[result.best.row] == 8
        assert result.best.row == np.argmax(final)

    def test_equals_whole_trainings(self):
        whole = search(_all_stages, rounds=1, metric="accuracy")
        halved = search(in_stages, halving=True, rounds=1, metric="accuracy")
        finished = halved.stage == 8
        np.testing.assert_allclose(
            halved.trials.outcomes["accuracy"][finished], whole.trials.outcomes["accuracy"][finished], rtol=1e-6
        )

    def test_states_may_differ_between_programs(self):
        space = nn.SearchSpace(rate=nn.log_uniform(1e-6, 1.0), memory=nn.choice(1, 3))

        def run(config, key, state):
            state = jnp.zeros(config["memory"]) if state is None else state + 1
            return state, {"accuracy": hill({**config, "shift": 0.0}, key)["accuracy"] + 0 * state.sum()}

        result = search(run, space, halving=True, stages=2, rounds=2)
        assert result.trials.programs == 4  # a first stage and a further one, each for two sizes

    def test_fit_by_epochs(self):
        """A network trained an epoch at a time, its state a TrainState: equal to `fit`."""
        x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
        data = (x, (x[:, 0] > 0).astype(np.int32))
        model = nn.mlp([4], 2)

        def run(config, key, state):
            optimizer = nn.momentum(config["rate"])
            state = nn.init_state(model, optimizer, (4,), key) if state is None else state
            state, losses = nn.train_epoch(model, nn.softmax_cross_entropy, optimizer, state, data, batch_size=20)
            return state, {"loss": losses[-1]}

        result = search(
            run, nn.SearchSpace(rate=nn.log_uniform(1e-3, 1.0)), halving=True, stages=3, trials=4, rounds=1, keep=0.5
        )
        best = result.best
        key = jax.random.fold_in(jax.random.split(KEY)[1], 0)
        fit = jax.jit(
            lambda rate: nn.fit(
                model,
                nn.softmax_cross_entropy,
                nn.momentum(rate),
                data,
                key=key,
                epochs=3,
                batch_size=20,
                metrics={},
            )
        )
        expected = fit(best.config["rate"])
        assert best.value == pytest.approx(float(expected.history.loss[-1]), rel=1e-4)


def _all_stages(config, key):
    state = None
    for _ in range(8):
        state, outcomes = in_stages(config, key, state)
    return outcomes


@pytest.mark.parametrize("halving", [False, True])
def test_ctrl_c_keeps_what_has_finished(halving, monkeypatch):
    """In the second round, or the second stage, after some trials."""
    module = importlib.import_module("jaxnn.sweep")
    waited = []

    def wait(values, heard):
        waited.append(1)
        if len(waited) == 56:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "wait", wait)
    run = in_stages if halving else hill
    result = search(run, halving=halving, metric="accuracy", max_parallel=1, devices=jax.devices()[:1])
    assert result.trials.finished.sum() == (35 if halving else 55)
    assert len(result.round) == (40 if halving else 80)
    assert result.best.value <= 1
    monkeypatch.undo()
    assert result.trials.score("accuracy")[result.best.row, 0] == result.best.value


@pytest.mark.parametrize(
    "settings, error, sentence",
    [
        ({"space": {"rate": 0.1}}, TypeError, "space must be a SearchSpace"),
        ({"trials": 0}, ValueError, "trials must be at least 1"),
        ({"rounds": 0}, ValueError, "rounds must be at least 1"),
        ({"keep": 0.0}, ValueError, "keep must be finite and above 0 and below 1; got 0"),
        ({"keep": 1.0}, ValueError, "keep must be"),
        ({"trials": 5}, ValueError, "keep=0.2 of 5 trials is 1; two or more are needed to make a range"),
        ({"metric": "loss"}, ValueError, "unknown metric 'loss'"),
        ({"run": lambda config, key: config["rate"]}, ValueError, "is outcome good when it is large or small"),
        ({"run": lambda config, key: jnp.zeros((2, 3)), "mode": "max"}, ValueError, r"outcome is float32\[1, 1, 2, 3\]; expected one number"),
        ({"key": 3}, TypeError, "key must be a PRNG key"),
        ({"run": None}, TypeError, "run must be a function"),
        ({"halving": True, "seeds": 2}, ValueError, "seeds is 2; with halving each trial is run with one"),
        ({"halving": True, "stages": 0}, ValueError, "stages must be at least 1"),
        ({"halving": True, "run": lambda config, key, state: config["rate"]}, TypeError, r"with halving, run returns \(state, outcomes\); it returned"),
    ],
)  # fmt: skip
def test_refuses(settings, error, sentence, types_unchecked, monkeypatch):
    monkeypatch.setattr(
        importlib.import_module("jaxnn.sweep"), "Program", lambda *args: pytest.fail("compiled before it refused")
    )
    with pytest.raises(error, match=sentence):
        search(**settings)
