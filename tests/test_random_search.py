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

    def test_equals_are_told_apart_by_the_next_metric(self):
        def run(config, key):
            accuracy = hill(config, key)["accuracy"]
            return {"accuracy": jnp.round(accuracy), "loss": 1 - accuracy}

        first, best = search(run, metric="accuracy"), search(run, metric=("accuracy", "loss"))
        assert abs(np.log10(first.best.config["rate"]) + 3) > 0.05  # of many equals
        assert abs(np.log10(best.best.config["rate"]) + 3) < 0.05
        kept = best.spaces[1]["rate"]
        assert np.log10(kept.high / kept.low) < 0.4 * 6

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
        with pytest.raises(DivergedError, match="every trial of round 1 has diverged: try others than SearchSpace"):
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

    @pytest.mark.slow
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
    assert result.interrupted
    assert len(result.round) == (40 if halving else 80)
    assert result.trials.finished.sum() == (40 if halving else 55)
    if halving:  # 20 were stopped, and 15 of the others have been through the second stage
        assert result.stopped.sum() == 20
        assert np.bincount(result.stage).tolist() == [0, 25, 15]
    values = np.where(result.stopped, np.nan, result.trials.score("accuracy")[:, 0])
    assert result.best.row == np.nanargmax(values)
    assert result.best.value == np.nanmax(values)


def test_ctrl_c_between_the_rounds_keeps_those_before(monkeypatch):
    drawn = []
    original = nn.SearchSpace.sample

    def sample(self, key, trials):
        drawn.append(1)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return original(self, key, trials)

    monkeypatch.setattr(nn.SearchSpace, "sample", sample)
    result = search()
    assert result.interrupted
    assert len(result.round) == 80


class TestChoices:
    def test_of_decimals_that_float32_rounds(self):
        run = lambda rate, key: {"loss": (rate["rate"] - 2 / 3) ** 2}
        result = search(run, nn.SearchSpace(rate=nn.choice(1 / 3, 2 / 3, 5 / 3)), keep=0.3)
        assert result.spaces[1]["rate"].options == (2 / 3,)
        assert result.trials.programs == 1

    def test_whole_numbers_beside_decimals_are_decimals_in_every_round(self):
        kinds = []

        def run(config, key):
            kinds.append(type(config["rate"]))
            return {"loss": (config["rate"] - 1) ** 2}

        result = search(run, nn.SearchSpace(rate=nn.choice(1, 0.5, 3)), keep=0.3)
        assert len(kinds) == 1
        assert result.spaces[1]["rate"].options == (1.0,)

    @pytest.mark.parametrize("halving", [False, True])
    def test_none_beside_a_decimal_stays_itself(self, halving):
        space = nn.SearchSpace(rate=nn.uniform(0.0, 1.0), clip=nn.choice(None, 0.5))

        def run(config, key, state=None):
            assert config["clip"] is None or config["clip"] == 0.5
            outcomes = {"loss": config["rate"] + (0.0 if config["clip"] else 1.0)}
            return (jnp.zeros(()), outcomes) if halving else outcomes

        result = search(run, space, halving=halving, stages=2, rounds=2)
        assert result.spaces[1]["clip"].options == (0.5,)


class TestStages:
    def test_each_draws_from_a_key_of_its_own(self):
        def run(config, key, state):
            drawn = jax.random.uniform(key)
            seen = jnp.zeros(4).at[0].set(drawn) if state is None else jnp.roll(state, 1).at[0].set(drawn)
            return seen, {"loss": config["rate"], "seen": seen}

        result = search(run, halving=True, stages=4, rounds=1, metric="loss")
        assert len(set(result.trials.outcomes["seen"][result.best.row, 0].tolist())) == 4

    def test_an_infinity_in_a_state_is_no_divergence(self):
        def run(config, key, state):
            least = jnp.minimum(jnp.inf if state is None else state[0], config["rate"])
            return (least, jnp.array(jnp.inf)), {"loss": least}

        result = search(run, halving=True, stages=2, rounds=1)
        assert not result.trials.diverged.any()

    @pytest.mark.parametrize(
        "later, sentence",
        [
            (lambda loss, state: (state, {"a": loss, "loss": loss}), "run returns z as float32.* and not at all for"),
            (lambda loss, state: (jnp.zeros(2), {"loss": loss, "z": loss}), "a state keeps its structure, shapes and dtypes"),
            (lambda loss, state: ((state, jax.nn.relu), {"loss": loss, "z": loss}), "a state is made of arrays; its 1 is the"),
            (lambda loss, state: (3, {"loss": loss, "z": loss}), "a state is made of arrays; its state is the int 3"),
        ],
    )  # fmt: skip
    def test_later_ones_are_as_the_first(self, later, sentence, types_unchecked):
        def run(config, key, state):
            if state is None:
                return jnp.zeros(()), {"loss": config["rate"], "z": config["rate"]}
            return later(config["rate"], state)

        with pytest.raises((ValueError, TypeError), match=sentence):
            search(run, halving=True, stages=2, rounds=1, metric="loss")


def test_one_round_needs_nothing_to_narrow():
    assert len(search(trials=3, rounds=1).round) == 3


def test_every_program_is_counted():
    space = nn.SearchSpace(width=nn.integers(1, 4))
    result = search(lambda config, key: jnp.float32(config["width"]), space, trials=8, rounds=2, keep=0.9, mode="max")
    assert result.trials.programs == len(set(result.trials.configs["width"]))


@pytest.mark.parametrize(
    "settings, error, sentence",
    [
        ({"space": {"rate": 0.1}}, TypeError, "space must be a SearchSpace"),
        ({"trials": 0}, ValueError, "trials must be at least 1"),
        ({"rounds": 0}, ValueError, "rounds must be at least 1"),
        ({"keep": 0.0}, ValueError, "keep must be finite and above 0 and below 1; got 0"),
        ({"keep": 1.0}, ValueError, "keep must be"),
        ({"trials": 5, "rounds": 2}, ValueError, "keep=0.2 of 5 trials is 1; two or more are needed to make a range"),
        ({"metric": "loss"}, ValueError, "unknown metric 'loss'"),
        ({"run": lambda config, key: config["rate"]}, ValueError, "is outcome good when it is large or small"),
        ({"run": lambda config, key: jnp.zeros((2, 3)), "mode": "max"}, ValueError, r"outcome is float32\[1, 1, 2, 3\]; expected one real number"),
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
