"""How the trials of a round are trained: whole, or in stages after which the worse half stop."""

import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, PRNGKeyArray, PyTree

from jaxnn._checks import is_concrete
from jaxnn._columns import Columns, name_leaves
from jaxnn.sweep import Alike, ChunkReport, Sweeper, all_finite, room_for
from jaxnn.sweep_result import Metric, Mode, SweepResult

__all__ = ["Halving", "Trained", "Whole", "from_best"]

Report: TypeAlias = Callable[[ChunkReport], None]

_STAGES = zlib.crc32(b"stages of a training")


class Trained(NamedTuple):
    """The trials of a round."""

    result: SweepResult
    stage: Int[np.ndarray, " trials"]  # for how many stages each was trained
    stopped: Bool[np.ndarray, " trials"]  # early, for others were better


class Whole:
    """Every trial is trained to the end."""

    def __init__(self, run: Callable[..., PyTree], settings: dict[str, Any]) -> None:
        """`run` and the settings of its sweep."""
        self._sweeper = Sweeper(run, **settings)

    @property
    def programs(self) -> int:
        """How many have been compiled."""
        return self._sweeper.programs

    def outcomes(self, columns: Columns) -> PyTree:
        """Shapes of those of one trial."""
        return self._sweeper.outcomes(columns)

    def __call__(self, columns: Columns, metric: Metric | None, mode: Mode | None, report: Report) -> Trained:
        """Train."""
        del metric, mode
        result = self._sweeper(columns, report)
        return Trained(result, result.finished.all(axis=1).astype(int), np.zeros(columns.configs, bool))


class Halving:
    """Successive halving: trained in stages, and after stages 1, 2, 4, … the better half of the trials go on.

    Those of one program go on together, so that none computes for one that was stopped.
    """

    def __init__(self, run: Callable[..., PyTree], stages: int, settings: dict[str, Any]) -> None:
        """`run` is a stage, `(config, key, state) -> (state, outcomes)`."""
        self._run = run
        self._stages = stages
        self._structures: dict[Any, Any] = {}  # of the states of each program, and how their keys are made
        self._first = Sweeper(self._begin, **settings)
        self._further = Sweeper(self._go_on, **settings)

    @property
    def programs(self) -> int:
        """How many have been compiled."""
        return self._first.programs + self._further.programs

    def outcomes(self, columns: Columns) -> PyTree:
        """Shapes of those of one trial."""
        alike = Alike()
        for trials in columns.programs().values():
            # The states may differ: momentum's is larger than that of plain gradient descent.
            _, outcomes = self._first.outcomes(columns.take(trials))
            alike.check(trials[0], outcomes)
        return alike.outcomes

    def __call__(self, columns: Columns, metric: Metric | None, mode: Mode | None, report: Report) -> Trained:
        """Train. Ctrl-C leaves every trial as it was after the last stage that it has been through."""
        room, no_run = room_for(self.outcomes(columns), (columns.configs, 1)), np.zeros((columns.configs, 1), bool)
        result = SweepResult(columns.tree(), room, no_run.copy(), no_run.copy(), False, 0, 0.0, 0.0)
        trained = Trained(result, np.zeros(columns.configs, int), np.zeros(columns.configs, bool))
        states: dict[int, list[Any]] = {}
        going = list(range(columns.configs))
        try:
            for number in range(self._stages):
                if number and number & (number - 1) == 0:
                    best = [trial for trial in from_best(trained, metric, mode) if trial in states]
                    going = sorted(best[: math.ceil(len(going) / 2)])
                    trained.stopped[list(states.keys() - set(going))] = True
                    states = {trial: states[trial] for trial in going}
                for places in columns.take(going).programs().values() if going else ():
                    trials = [going[place] for place in places]
                    part = self._stage(columns.take(trials), [states.get(trial) for trial in trials], number, report)
                    trained = _with(trained, part, trials, states)
                    if trained.result.interrupted:
                        return trained
        except KeyboardInterrupt:
            if not trained.stage.any():
                raise
            return trained._replace(result=trained.result._replace(interrupted=True))
        return trained

    def _stage(self, columns: Columns, states: list[Any], number: int, report: Report) -> SweepResult:
        """One stage of trials that share a program."""
        if number == 0:
            return self._first(columns, report)
        stacked = tuple(np.stack(leaves) for leaves in zip(*states, strict=True))
        numbers = (np.full(columns.configs, number, np.int32),)
        further = columns.beside(stage=numbers, state=stacked)
        alike = Alike()
        alike.check(0, self._first.outcomes(columns)[1])
        alike.check(0, self._further.outcomes(further)[1])
        return self._further(further, report)

    def _begin(self, config: Any, key: PRNGKeyArray) -> PyTree:
        return self._packed(config, self._run(config, key, None))

    def _go_on(self, given: Any, key: PRNGKeyArray) -> PyTree:
        config, (number,) = given["config"], given["stage"]
        structure, _, implementations = self._structures[_program(config)]
        leaves = [
            leaf if implementation is None else jax.random.wrap_key_data(leaf, impl=implementation)
            for leaf, implementation in zip(given["state"], implementations, strict=True)
        ]
        # Or what each stage draws from its key would be what the one before has drawn.
        key = jax.random.fold_in(jax.random.fold_in(key, _STAGES), number)
        return self._packed(config, self._run(config, key, jax.tree.unflatten(structure, leaves)))

    def _packed(self, config: Any, returned: Any) -> PyTree:
        """What a stage returns: its state as a tuple of arrays, keys as the numbers in them; and the outcomes."""
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(f"with halving, run returns (state, outcomes); it returned {type(returned).__name__}")
        for name, leaf in name_leaves(returned[0], "state").items():
            if not isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.core.Tracer):
                raise TypeError(
                    f"with halving, a state is made of arrays; its {name} is the {type(leaf).__name__} {leaf!r}"
                )
        leaves, structure = jax.tree.flatten(returned[0])
        implementations = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in leaves]
        shapes = [(leaf.shape, str(leaf.dtype)) for leaf in leaves]
        found = structure, shapes, implementations
        known = self._structures.setdefault(_program(config), found)
        if known != found:
            raise TypeError(
                f"run was given a state like {jax.tree.unflatten(known[0], known[1])} and returned one like "
                f"{jax.tree.unflatten(structure, shapes)}; a state keeps its structure, shapes and dtypes"
            )
        return tuple(jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in leaves), returned[1]


def from_best(trained: Trained, metric: Metric | None, mode: Mode | None) -> list[int]:
    """The trials that are numbers, the best first; those trained for longer go before those that were stopped."""
    order = trained.result.order(metric, mode)
    return sorted(order, key=lambda trial: (bool(trained.stopped[trial]), -trained.stage[trial]))


def _with(trained: Trained, part: SweepResult, trials: list[int], states: dict[int, list[Any]]) -> Trained:
    """Write what a stage has come to where it belongs."""
    result = trained.result
    new_states, outcomes = part.outcomes
    through = part.finished[:, 0]
    done = np.asarray(trials)[through]
    for room, found in zip(jax.tree.leaves(result.outcomes), jax.tree.leaves(outcomes), strict=True):
        room[done] = found[through]
    result.finished[done] = True
    # Of the outcomes alone: a state may hold an infinity that stands for nothing yet.
    result.diverged[done] = ~all_finite(outcomes)[through]
    for place in np.flatnonzero(through):
        states[trials[place]] = [leaf[place, 0] for leaf in new_states]
    trained.stage[done] += 1
    result = result._replace(
        interrupted=part.interrupted,
        compile_seconds=result.compile_seconds + part.compile_seconds,
        run_seconds=result.run_seconds + part.run_seconds,
    )
    return trained._replace(result=result)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _program(config: dict[str, Any]) -> tuple[Any, ...]:
    """What of a config is not traced: it makes the program."""
    return tuple((type(value), value) for _, value in sorted(config.items()) if is_concrete(value))
