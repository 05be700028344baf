"""Many trainings as few compiled programs: over hyperparameters and seeds, on every device of every host."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PRNGKeyArray, PyTree

from jaxnn import hosts
from jaxnn._checks import check_callable, check_flag, check_key, check_size
from jaxnn._columns import Columns, as_columns, name_leaves
from jaxnn.free_memory import free_bytes, free_bytes_of_host
from jaxnn.interrupts import noted_interrupts, wait
from jaxnn.sharding import checked_devices
from jaxnn.sweep_program import Program, Run, Traced, choose_block, trace
from jaxnn.sweep_result import SweepResult

__all__ = ["Alike", "ChunkReport", "Sweeper", "all_finite", "check_settings", "room_for", "shown", "sweep"]

# What the runs of one core should take at once: by measurement, beyond it they fall out of its caches.
_CACHE = 8 * 2**20
# Of the memory that is free, how much the runs may take.
_SHARE = 0.8


class ChunkReport(NamedTuple):
    """What is told after each chunk, and when a program has been compiled."""

    finished: int  # runs
    runs: int
    program: int  # that is running, from 1
    programs: int
    seconds_left: float | None  # None before anything is known


def sweep(
    run: Run,
    configs: Any,
    *,
    key: PRNGKeyArray,
    seeds: int = 1,
    devices: Sequence[jax.Device] | np.ndarray | None = None,
    max_parallel: int | None = None,
    progress: bool = True,
) -> SweepResult:
    """Run a pure function for every config and every seed, many at once, on every device.

        outcomes[config, seed] = run(config, fold_in(key, seed))

    All configs of one seed are given the same key. So runs of `fit` start from the same draws and see the same
    mini-batches: a paired comparison, and their first layers become one large matrix product.

    Args:
        run: `(config, key) -> outcomes`, a pure function such as one that calls `fit`; outcomes are any pytree of
            arrays, such as a `History`. It may use arrays that it finds around it, such as the data.
        configs: the hyperparameters, as a pytree of columns of one length, `{"learning_rate": jnp.logspace(-4, 0, 9)}`,
            or a list of dicts, `[{"learning_rate": 0.1, "width": 50}, …]`. Decimals and arrays are traced: one program
            for all. Whole numbers, words, tuples, functions, True, False and None in lists change the program: configs
            are grouped by them, and each group's program is compiled once.
        key: of all randomness; seed number s is given `jax.random.fold_in(key, s)`.
        seeds: how many seeds each config is run with.
        devices: those to use; without it all devices of all hosts. On a CPU there is one, unless
            `jax.config.update("jax_num_cpu_devices", os.cpu_count())` comes before anything that JAX computes: then
            each core is one, and runs side by side, which small networks need to use all cores.
        max_parallel: at most so many runs at once on each device. Without it as many as its free memory holds; on
            a CPU as many as its caches do, which is faster. The numbers are the same, to rounding.
        progress: show on stderr what is done and the time left: on a terminal, else every ten seconds.

    Returns:
        A `SweepResult`: outcomes as arrays `[configs, seeds, …]` beside the configs; which runs diverged (an outcome is
        NaN or infinite: the others are not touched by it); which finished. Ctrl-C keeps the chunks that have
        finished.

    Raises:
        TypeError, ValueError: arguments that do not fit, columns of different length, outcomes that are no arrays or
            have other shapes for other configs: before anything is compiled.
        MemoryError: a single run, or the outcomes of all, need more memory than there is.
        KeyboardInterrupt: Ctrl-C before the first chunk has finished.
        PeerLostError: so is another process gone.

    Where there are many hosts, each calls `sweep` with the same arguments and is given the whole result.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> train, validation, _ = nn.data.load("digits")
    >>> scale = nn.data.min_max(train.x, axis=None)
    >>> def run(config, key):
    ...     result = nn.fit(nn.mlp([20], 10), nn.softmax_cross_entropy, nn.sgd(config["learning_rate"]), train,
    ...                     key=key, epochs=2, preprocess=scale)
    ...     return nn.evaluate(nn.mlp([20], 10), result.params, result.model_state, validation, preprocess=scale)
    >>> result = nn.sweep(run, {"learning_rate": jnp.array([0.001, 0.1, 1.0])}, key=jax.random.key(0), seeds=2)
    >>> print(result.outcomes["accuracy"].shape, result.programs)
    (3, 2) 1
    >>> print(result.best("accuracy").config)
    {'learning_rate': 1.0}
    """
    check_flag("progress", progress)
    sweeper = Sweeper(run, key=key, seeds=seeds, devices=devices, max_parallel=max_parallel)
    columns = as_columns(configs)
    with shown(progress) as report:
        return sweeper(columns, report)


class Sweeper:
    """A sweep that can be called again for other configs: the programs that it has compiled are kept."""

    def __init__(
        self,
        run: Run,
        *,
        key: PRNGKeyArray,
        seeds: int,
        devices: Sequence[jax.Device] | np.ndarray | None,
        max_parallel: int | None,
    ) -> None:
        """See `sweep`."""
        check_callable("run", run, "(config, key) -> outcomes")
        check_key("key", key)
        check_settings(seeds, devices, max_parallel)
        self._run = run
        self._key = key
        self._seeds = seeds
        self._devices = checked_devices(devices)
        self._max_parallel = max_parallel
        self._traced: dict[Any, Traced] = {}
        self._programs: dict[Any, list[Program]] = {}
        self._fits: dict[Any, int] = {}  # runs at once of a program, on each device, where memory has set a limit
        self.programs = 0  # compiled so far

    def outcomes(self, columns: Columns) -> PyTree:
        """Shapes of those of one run; `run` is traced for each program of the columns."""
        alike = Alike()
        for program, configs in columns.programs().items():
            if program not in self._traced:
                self._traced[program] = trace(self._run, columns, configs[0], self._key)
            alike.check(configs[0], self._traced[program].outcomes)
        return alike.outcomes

    def __call__(self, columns: Columns, report: Callable[[ChunkReport], None]) -> SweepResult:
        """Run every config with every seed."""
        began = time.perf_counter()
        groups = columns.programs()
        outcomes = room_for(self.outcomes(columns), (columns.configs, self._seeds))
        sweep = _Reached(outcomes, np.zeros((columns.configs, self._seeds), bool), time.perf_counter() - began)
        with noted_interrupts() as heard:
            try:
                for number, (program, configs) in enumerate(groups.items(), start=1):
                    began = time.perf_counter()
                    compiled = self._program(program, columns, len(configs))
                    sweep.compile_seconds += time.perf_counter() - began
                    report(sweep.report(number, len(groups)))
                    for _ in self._chunks(compiled, columns, configs, heard, sweep):
                        report(sweep.report(number, len(groups)))
            except KeyboardInterrupt:
                sweep.interrupted = True
                if not sweep.finished.any():
                    raise
            except Exception:
                # What XLA says when another process ends may come before that is known.
                lost = hosts.lost(within=2)
                if lost is None:
                    raise
                if not sweep.finished.any():
                    raise lost from None
                sweep.interrupted = True
        return SweepResult(
            columns.tree(),
            outcomes,
            sweep.finished & ~all_finite(outcomes),
            sweep.finished,
            sweep.interrupted or heard.is_set(),
            len(groups),
            sweep.compile_seconds,
            sweep.run_seconds,
        )

    def _chunks(
        self, compiled: Program, columns: Columns, configs: list[int], heard: threading.Event, sweep: "_Reached"
    ) -> Iterator[None]:
        """Run the configs of one program chunk by chunk."""
        data = compiled.place(self._key)
        block = compiled.block
        for first_seed in range(0, self._seeds, block.all_seeds):
            seeds = list(range(first_seed, min(first_seed + block.all_seeds, self._seeds)))
            for first in range(0, len(configs), block.all_configs):
                places = configs[first : first + block.all_configs]
                began = time.perf_counter()
                traced = [column[_padded(places, block.all_configs)] for column in columns.traced]
                reached = compiled.call(data, traced, _padded(seeds, block.all_seeds))
                interrupted = _wait_for_all(reached, heard)
                sweep.keep(reached, places, seeds)
                del reached  # or it would be in memory while the next chunk runs
                sweep.run_seconds += time.perf_counter() - began
                yield
                if interrupted:
                    raise KeyboardInterrupt

    def _program(self, program: Any, columns: Columns, configs: int) -> Program:
        """Compile the program for blocks that fit in memory, unless one that will do has been compiled."""
        traced = self._traced[program]
        device, free = self._devices[0], self._free_bytes()
        most = self._max_parallel
        if most is None:
            most = max(1, (_CACHE if device.platform == "cpu" else free) // max(1, traced.bytes_at_once))
        most = min(most, self._fits.get(program, most))
        # Others than JAX's own generator draw the numbers of one key for all that are mapped.
        mapped_seeds = str(jax.random.key_impl(self._key)) == "threefry2x32"
        choose = functools.partial(choose_block, configs, self._seeds, len(self._devices), mapped_seeds=mapped_seeds)
        known = self._programs.setdefault(program, [])
        wanted = choose(most)
        good = [one for one in known if not one.block.is_wasteful(wanted, configs, self._seeds)]
        if good:
            return min(good, key=lambda one: one.block.calls(configs, self._seeds) * one.block.each)
        while True:
            block = choose(most)
            compiled = Program(traced, columns, block, self._devices, self._key)
            self.programs += 1
            needed = compiled.bytes_on_a_device
            if needed <= free:
                known.append(compiled)
                return compiled
            if block.each == 1:
                raise MemoryError(
                    f"one run takes {_gigabytes(needed)} of memory and {_gigabytes(free)} are free on {device}; "
                    "smaller batches, or less data, take less"
                )
            most = self._fits[program] = min(block.each - 1, max(1, int(block.each * free / needed)))

    def _free_bytes(self) -> int:
        """What a call may take of each device's memory: of the fullest one, for all run the same program."""
        here = [device for device in self._devices if device.process_index == jax.process_index()]
        shared_by = len(here) if here[0].platform == "cpu" else 1
        free = int(_SHARE * min(map(free_bytes, here))) // shared_by
        if jax.process_count() == 1:
            return free
        return int(hosts.call(multihost_utils.process_allgather, np.array(free / 2**20)).min()) * 2**20


class Alike:
    """Whether the outcomes of all programs have the same structure, shapes and dtypes."""

    def __init__(self) -> None:
        """Nothing has been seen yet."""
        self.outcomes: PyTree = None
        self._config = 0

    def check(self, config: int, outcomes: PyTree) -> None:
        """Refuse outcomes of a config that are not as those that came first."""
        if self.outcomes is None:
            self.outcomes, self._config = outcomes, config
            return
        expected, found = name_leaves(self.outcomes, "outcome"), name_leaves(outcomes, "outcome")
        for name in (*expected, *found):
            a, b = _in_words(expected.get(name)), _in_words(found.get(name))
            if a != b:
                raise ValueError(
                    f"run returns {name} {a} for configs[{self._config}] and {b} for configs[{config}]; "
                    "return what is alike for all configs, such as history"
                )
        structures: list[Any] = [jax.tree.structure(tree) for tree in (self.outcomes, outcomes)]
        if structures[0] != structures[1]:
            raise ValueError(
                f"run returns {structures[0]} for configs[{self._config}] and {structures[1]} for configs[{config}]"
            )


def room_for(outcomes: PyTree, shape: tuple[int, int]) -> PyTree:
    """Where the outcomes of all runs will be: not a number, or 0 of whole numbers, where there are none yet."""
    runs = shape[0] * shape[1]
    needed = runs * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(outcomes))
    if needed > _SHARE * (free := free_bytes_of_host()):
        raise MemoryError(
            f"the outcomes of {runs:,} runs take {_gigabytes(needed)} and {_gigabytes(free)} are free; "
            "let run return less, such as history"
        )

    def room(leaf: Any) -> np.ndarray:
        nothing = np.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0
        return np.full((*shape, *leaf.shape), nothing, leaf.dtype)

    return jax.tree.map(room, outcomes)


@dataclass
class _Reached:
    """How far a sweep has come."""

    outcomes: PyTree
    finished: np.ndarray
    compile_seconds: float
    run_seconds: float = 0.0
    interrupted: bool = False

    def report(self, program: int, programs: int) -> ChunkReport:
        """What a person is told; the time left counts the programs that have still to be compiled."""
        done, runs = int(self.finished.sum()), self.finished.size
        left = None
        if done:
            left = self.run_seconds / done * (runs - done) + self.compile_seconds / program * (programs - program)
        return ChunkReport(done, runs, program, programs, left)

    def keep(self, reached: PyTree, configs: list[int], seeds: list[int]) -> None:
        """Write what a chunk has reached to its place; what was computed to fill the chunk is left."""
        if jax.process_count() > 1:
            arrays = hosts.call(functools.partial(multihost_utils.process_allgather, tiled=True), reached)
        else:
            arrays = jax.device_get(reached)
        for room, array in zip(jax.tree.leaves(self.outcomes), jax.tree.leaves(arrays), strict=True):
            room[np.ix_(configs, seeds)] = array[: len(configs), : len(seeds)]
        self.finished[np.ix_(configs, seeds)] = True


def _wait_for_all(reached: PyTree, heard: threading.Event) -> bool:
    """Wait for a chunk; whether Ctrl-C was heard on another host meanwhile: all stop after the same chunk."""
    if jax.process_count() == 1:
        wait(reached, heard)
        return False
    jax.block_until_ready(reached)
    return bool(np.any(hosts.call(multihost_utils.process_allgather, np.array(heard.is_set()))))


def check_settings(seeds: Any, devices: Any, max_parallel: Any) -> None:
    """Refuse what a sweep cannot run with."""
    check_size("seeds", seeds)
    if max_parallel is not None:
        check_size("max_parallel", max_parallel)
    if all(device.process_index != jax.process_index() for device in checked_devices(devices)):
        raise ValueError("devices has none of this process; every process that calls sweep needs one")


def _padded(places: list[int], length: int) -> np.ndarray:
    """Indices for a whole block: the last one is repeated."""
    return np.asarray(places + places[-1:] * (length - len(places)))


def all_finite(outcomes: PyTree) -> np.ndarray:
    """Which runs have no outcome that is NaN or infinite, `[configs, seeds]`."""

    def of_leaf(leaf: np.ndarray) -> np.ndarray:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return np.ones(leaf.shape[:2], bool)
        return np.isfinite(leaf).all(axis=tuple(range(2, leaf.ndim)))

    return np.logical_and.reduce([of_leaf(leaf) for leaf in jax.tree.leaves(outcomes)])


@contextlib.contextmanager
def shown(progress: bool) -> Iterator[Callable[[ChunkReport], None]]:
    """What tells a person how far sweeps have come."""
    if not progress or jax.process_index() != 0:
        yield lambda report: None
        return
    from jaxnn.progress import SweepProgress

    with SweepProgress() as shown:
        yield shown


def _in_words(leaf: Any) -> str:
    return "not at all" if leaf is None else f"as {leaf.dtype}{list(leaf.shape)}"


def _gigabytes(count: float | int) -> str:
    return f"{count / 1e9:,.2f} GB"
