"""Random search for hyperparameters: draw, train, judge on validation data, narrow the ranges, again."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int, PRNGKeyArray, PyTree

from jaxnn._checks import check_callable, check_flag, check_key, check_number, check_size, in_words
from jaxnn._columns import as_columns
from jaxnn.runner import DivergedError
from jaxnn.search_space import SearchSpace
from jaxnn.search_stages import Halving, Trained, Whole, from_best
from jaxnn.sweep import check_settings, shown
from jaxnn.sweep_result import Best, Metric, Mode, SweepResult, check_metric, check_metric_kind

__all__ = ["SearchResult", "random_search"]


class SearchResult(NamedTuple):
    """What `random_search` returns."""

    trials: SweepResult  # of all rounds, one after the other
    round: Int[np.ndarray, " trials"]  # of each trial, from 0
    stage: Int[np.ndarray, " trials"]  # how many stages each trial was trained for; 1 without halving
    stopped: Bool[np.ndarray, " trials"]  # early, by halving
    spaces: tuple[SearchSpace, ...]  # the ranges of each round, and last those to which the best ones narrow them
    best: Best  # of the trials that were not stopped early
    interrupted: bool  # by Ctrl-C, or the loss of another process, before the last round was over


def random_search(
    run: Callable[..., PyTree],
    space: SearchSpace,
    *,
    key: PRNGKeyArray,
    trials: int = 100,
    rounds: int = 3,
    keep: float = 0.2,
    metric: Metric | None = None,
    mode: Mode | None = None,
    halving: bool = False,
    stages: int = 8,
    seeds: int = 1,
    devices: Sequence[jax.Device] | np.ndarray | None = None,
    max_parallel: int | None = None,
    progress: bool = True,
) -> SearchResult:
    """Search for hyperparameters by random trials, in rounds that narrow the ranges.

    A round draws `trials` sets of hyperparameters from the ranges, trains with each, ranks them by a metric on
    validation data, and narrows every range to the smallest that holds the best `keep` of them; the next round draws
    from those. Random trials find good values sooner than a grid, for few hyperparameters matter and each trial has a
    value of its own of those (Bergstra & Bengio 2012). The trainings are short, as they need not be the best possible
    to be told apart; all of a round are one `sweep`.

    Judge by validation data. What was chosen by test data has been fitted to it, and says nothing about new data: so
    let `run` have no access to it, and measure on it once, at the end.

    Args:
        run: `(config, key) -> outcomes` as `sweep` takes it; a config is a dict with a value for each range.
        space: the ranges.
        key: of all randomness: of the draws, and of the trainings, all of which are given the same key.
        trials: of each round.
        rounds: how many.
        keep: the part of a round's trials to which the ranges are narrowed, between 0 and 1.
        metric: the name of the outcome that says how good a trial is, a function, or names of which each next one
            decides between equals, as `SweepResult.best` takes it. Not needed if there is one outcome.
        mode: "max" or "min", whichever is good, of several names the first. Not needed if the metric's name has the
            word accuracy, loss or error in it.
        halving: train in stages, and stop the worse half after stages 1, 2, 4, … (successive halving, Jamieson &
            Talwalkar 2016): others take their place on the devices. `run` is then a stage,
            `(config, key, state) -> (state, outcomes)`: it is called with the state None first, and then with the one
            that it returned, such as a `TrainState`, and a key of its own each time.
        stages: of a whole training, with `halving`; each trains as long as the others.
        seeds: how many seeds each trial is run with; the mean of the metric counts. One with `halving`.
        devices: as for `sweep`.
        max_parallel: as for `sweep`.
        progress: as for `sweep`.

    Returns:
        Every trial, the ranges of each round, and the best. Ctrl-C keeps the trials that have finished.

    Raises:
        TypeError, ValueError: arguments that do not fit, as for `sweep`.
        DivergedError: every trial of a round has diverged.

    >>> import jax, jaxnn as nn
    >>> train, validation, _ = nn.data.load("digits")
    >>> scale = nn.data.min_max(train.x, axis=None)
    >>> def run(config, key):
    ...     return nn.fit(nn.mlp([20], 10), nn.softmax_cross_entropy, nn.sgd(config["learning_rate"]), train, key=key,
    ...                   epochs=1, validation=validation, metrics={}, preprocess=scale).history.validation["loss"]
    >>> space = nn.SearchSpace(learning_rate=nn.log_uniform(1e-4, 1.0))
    >>> result = nn.random_search(run, space, key=jax.random.key(0), trials=10, rounds=2, keep=0.3, mode="min")
    >>> print(result.trials.outcomes.shape, result.spaces[1]["learning_rate"].low > 0.001)
    (20, 1, 1) True
    """
    check_flag("halving", halving)
    check_flag("progress", progress)
    check_callable("run", run, "(config, key, state) -> (state, outcomes)" if halving else "(config, key) -> outcomes")
    if not isinstance(space, SearchSpace):
        raise TypeError(
            f"space must be a SearchSpace, such as SearchSpace(rate=log_uniform(1e-6, 1e-2)); got {in_words(space)}"
        )
    check_key("key", key)
    check_size("trials", trials)
    check_size("rounds", rounds)
    check_number("keep", keep, above=0, below=1)
    kept = round(keep * trials)
    if kept < 2 and rounds > 1:
        raise ValueError(f"keep={keep:g} of {trials} trials is {kept}; two or more are needed to make a range")
    check_metric_kind(metric, mode)
    check_settings(seeds, devices, max_parallel)
    if halving:
        check_size("stages", stages)
        if seeds != 1:
            raise ValueError(f"seeds is {seeds}; with halving each trial is run with one")
    draw_key, run_key = jax.random.split(key)
    settings = {"key": run_key, "seeds": seeds, "devices": devices, "max_parallel": max_parallel}
    train = Halving(run, stages, settings) if halving else Whole(run, settings)

    spaces = [space]
    rounds_done: list[Trained] = []
    interrupted = False
    with shown(progress) as report:
        try:
            for number in range(rounds):
                drawn = spaces[-1].sample(jax.random.fold_in(draw_key, number), trials)
                columns = as_columns(drawn, static=space.static)
                if number == 0:
                    check_metric(train.outcomes(columns), metric, mode)
                rounds_done.append(train(columns, metric, mode, report))
                good = from_best(rounds_done[-1], metric, mode)
                if rounds_done[-1].result.interrupted:
                    interrupted = True
                    break
                if not good:
                    raise DivergedError(
                        f"every trial of round {number + 1} has diverged: try others than {spaces[-1]!r}"
                    )
                best = {name: [column[trial] for trial in good[: max(2, kept)]] for name, column in drawn.items()}
                spaces.append(spaces[-1] if len(good) < 2 else spaces[-1].narrowed(best))
        except KeyboardInterrupt:
            if not rounds_done:
                raise
            interrupted = True
    return _joined(rounds_done, spaces, metric, mode, train.programs, interrupted)


def _joined(
    rounds: list[Trained],
    spaces: list[SearchSpace],
    metric: Metric | None,
    mode: Mode | None,
    programs: int,
    interrupted: bool,
) -> SearchResult:
    """All rounds as one."""
    results = [trained.result for trained in rounds]
    stopped = np.concatenate([trained.stopped for trained in rounds])
    trials = SweepResult(
        configs={name: _one_after_another([result.configs[name] for result in results]) for name in spaces[0]},
        outcomes=jax.tree.map(lambda *parts: np.concatenate(parts), *(result.outcomes for result in results)),
        diverged=np.concatenate([result.diverged for result in results]),
        finished=np.concatenate([result.finished for result in results]),
        interrupted=interrupted,
        programs=programs,
        compile_seconds=sum(result.compile_seconds for result in results),
        run_seconds=sum(result.run_seconds for result in results),
    )
    return SearchResult(
        trials,
        round=np.repeat(np.arange(len(results)), [len(result.finished) for result in results]),
        stage=np.concatenate([trained.stage for trained in rounds]),
        stopped=stopped,
        spaces=tuple(spaces),
        best=trials._replace(finished=trials.finished & ~stopped[:, None]).best(metric, mode),
        interrupted=interrupted,
    )


def _one_after_another(columns: list[Any]) -> Any:
    if isinstance(columns[0], list):
        return [value for column in columns for value in column]
    return np.concatenate([np.asarray(column) for column in columns])
