"""How the trials of a round are trained: whole, or in stages after which the worse half stop."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from jaxnn._checks import is_concrete
from jaxnn._columns import Columns, as_columns
from jaxnn.sweep import Alike, Sweeper, room_for
from jaxnn.sweep_result import Metric, Mode, SweepResult, ranked

__all__ = ["Halving", "Whole", "from_best"]


class Whole:
    """Every trial is trained to the end."""

    def __init__(self, run: Callable[..., PyTree], settings: dict[str, Any]) -> None:
        """`run` and the settings of its sweep."""
        self._sweeper = Sweeper(run, **settings)

    def outcomes(self, columns: Columns) -> PyTree:
        """Shapes of those of one trial."""
        return self._sweeper.outcomes(columns)

    def __call__(
        self, columns: Columns, metric: Metric | None, mode: Mode, progress: bool
    ) -> tuple[SweepResult, np.ndarray]:
        """Train; what has come of it, and for how many stages each trial was trained: one."""
        del metric, mode
        return self._sweeper(columns, progress=progress), np.ones(columns.configs, int)


class Halving:
    """Successive halving: trained in stages, and after stages 1, 2, 4, … the better half of the trials go on.

    Those of one program go on together, so that none computes for one that was stopped.
    """

    def __init__(self, run: Callable[..., PyTree], stages: int, settings: dict[str, Any]) -> None:
        """`run` is a stage, `(config, key, state) -> (state, outcomes)`."""
        self._stages = stages
        self._structures: dict[Any, Any] = {}  # of the states of each program, and how their keys are made
        self._first = Sweeper(lambda config, key: self._packed(config, run(config, key, None)), **settings)
        self._further = Sweeper(lambda config, key: self._go_on(run, config, key), **settings)

    def outcomes(self, columns: Columns) -> PyTree:
        """Shapes of those of one trial."""
        alike = Alike()
        for trials in columns.programs().values():
            # The states may differ: momentum's is larger than that of plain gradient descent.
            _, outcomes = self._first.outcomes(columns.take(trials))
            alike.check(trials[0], outcomes)
        return alike.outcomes

    def __call__(
        self, columns: Columns, metric: Metric | None, mode: Mode, progress: bool
    ) -> tuple[SweepResult, np.ndarray]:
        """Train; what has come of it, and for how many stages each trial was trained."""
        shape = columns.configs, 1
        no_run = np.zeros(shape, bool)
        result = SweepResult(
            columns.tree(), room_for(self.outcomes(columns), shape), no_run.copy(), no_run.copy(), 0, 0.0, 0.0
        )
        stage = np.zeros(columns.configs, int)
        states: dict[int, Any] = {}
        going = list(range(columns.configs))
        for number in range(self._stages):
            if number and number & (number - 1) == 0:
                best = [trial for trial in from_best(result, stage, metric, mode) if trial in states]
                going = sorted(best[: math.ceil(len(going) / 2)])
                states = {trial: states[trial] for trial in going}
            result.finished[going] = False  # until they have been through this stage
            for places in columns.take(going).programs().values() if going else ():
                trials = [going[place] for place in places]
                try:
                    part = self._stage(columns.take(trials), [states.get(trial) for trial in trials], progress)
                except KeyboardInterrupt:
                    if not stage.any():
                        raise
                    return result, stage
                new_states, outcomes = part.outcomes
                for room, found in zip(jax.tree.leaves(result.outcomes), jax.tree.leaves(outcomes), strict=True):
                    room[trials] = found
                result.finished[trials], result.diverged[trials] = part.finished, part.diverged
                states |= {trial: [leaf[place, 0] for leaf in new_states] for place, trial in enumerate(trials)}
                stage[trials] += part.finished[:, 0]
                result = result._replace(
                    programs=self._first.programs + self._further.programs,
                    compile_seconds=result.compile_seconds + part.compile_seconds,
                    run_seconds=result.run_seconds + part.run_seconds,
                )
                if part.interrupted:
                    return result, stage
        return result, stage

    def _stage(self, columns: Columns, states: list[Any], progress: bool) -> SweepResult:
        """One stage of trials that share a program."""
        if states[0] is None:
            return self._first(columns, progress=progress)
        stacked = tuple(np.stack(leaves) for leaves in zip(*states, strict=True))
        return self._further(as_columns({"config": columns.tree(), "state": stacked}), progress=progress)

    def _go_on(self, run: Callable[..., PyTree], config: Any, key: PRNGKeyArray) -> PyTree:
        structure, implementations = self._structures[_program(config["config"])]
        leaves = [
            leaf if implementation is None else jax.random.wrap_key_data(leaf, impl=implementation)
            for leaf, implementation in zip(config["state"], implementations, strict=True)
        ]
        return self._packed(config["config"], run(config["config"], key, jax.tree.unflatten(structure, leaves)))

    def _packed(self, config: Any, returned: Any) -> PyTree:
        """What a stage returns: its state as a tuple of arrays, keys as the numbers in them; and the outcomes."""
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(f"with halving, run returns (state, outcomes); it returned {type(returned).__name__}")
        leaves, structure = jax.tree.flatten(returned[0])
        implementations = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in leaves]
        known = self._structures.setdefault(_program(config), (structure, implementations))
        if known != (structure, implementations):
            raise TypeError(f"run was given a state with the structure {known[0]} and returned {structure}")
        return tuple(jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in leaves), returned[1]


def from_best(result: SweepResult, stage: np.ndarray, metric: Metric | None, mode: Mode) -> list[int]:
    """The trials that are numbers, the best first; those trained for longer go before those that were stopped."""
    values = result.score(metric).mean(axis=1)
    order = [int(trial) for trial in ranked(values, mode) if np.isfinite(values[trial])]
    return sorted(order, key=lambda trial: -stage[trial])


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _program(config: Any) -> tuple[Any, ...]:
    """What of a config is not traced: it makes the program."""
    return tuple(
        leaf for leaf in jax.tree.leaves(config, is_leaf=lambda node: not isinstance(node, dict)) if is_concrete(leaf)
    )
