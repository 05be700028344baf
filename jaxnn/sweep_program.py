"""The program of a sweep: `run`, traced once, as one compiled program for many configs, seeds and devices."""

import math
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.sharding import AxisType, Mesh, NamedSharding
from jaxtyping import PRNGKeyArray, PyTree

from jaxnn._checks import is_concrete
from jaxnn._columns import Columns, name_leaves
from jaxnn._nearby import inner_jaxprs

Run: TypeAlias = Callable[[Any, PRNGKeyArray], PyTree]


class Traced(NamedTuple):
    """`run` for configs of one program: arithmetic alone, its data set apart."""

    jaxpr: Any
    constants: tuple[Any, ...]  # the arrays that run found in its surroundings, such as the data
    outcomes: PyTree  # shapes and dtypes of one run
    bytes_at_once: int  # of what one run has for itself, at most, if nothing were fused


class Block(NamedTuple):
    """The runs of one call: so many configs and seeds on each device, and the devices in a grid."""

    configs: int
    seeds: int
    devices_by_config: int
    devices_by_seed: int

    @property
    def all_configs(self) -> int:
        """Of all devices."""
        return self.configs * self.devices_by_config

    @property
    def all_seeds(self) -> int:
        """Of all devices."""
        return self.seeds * self.devices_by_seed

    @property
    def each(self) -> int:
        """Runs of one device."""
        return self.configs * self.seeds

    def calls(self, configs: int, seeds: int) -> int:
        """How many calls a sweep of this size takes."""
        return math.ceil(configs / self.all_configs) * math.ceil(seeds / self.all_seeds)

    def is_wasteful(self, wanted: "Block", configs: int, seeds: int) -> bool:
        """Whether a sweep of this size had better be compiled again, in the blocks wanted, than run in these.

        True if these would compute more than twice as many runs, to fill their calls, or make more than four times as
        many calls. No clock decides: on an idle and on a busy machine it is the same programs, and the same bits.

        >>> print(Block(50, 1, 2, 1).is_wasteful(Block(13, 1, 2, 1), configs=25, seeds=1))
        True
        """
        calls, calls_wanted = self.calls(configs, seeds), wanted.calls(configs, seeds)
        return calls * self.each > 2 * calls_wanted * wanted.each or calls > 4 * calls_wanted


def choose_block(configs: int, seeds: int, devices: int, most: int, *, mapped_seeds: bool = True) -> Block:
    """Spread configs × seeds over the devices, at most so many runs on each at once.

    As few runs as can be on the busiest device; then as many configs of one seed as can be on the same one, for
    they share mini-batches. Blocks are as large as each other, and few runs are there only to fill them. Without
    `mapped_seeds` a device has one seed at once.

    >>> print(choose_block(configs=100, seeds=1, devices=8, most=50))
    Block(configs=13, seeds=1, devices_by_config=8, devices_by_seed=1)
    >>> print(choose_block(configs=10, seeds=4, devices=8, most=2))
    Block(configs=2, seeds=1, devices_by_config=2, devices_by_seed=4)

    Two at once, four times, are fewer runs than three at once, three times:

    >>> print(choose_block(configs=8, seeds=1, devices=1, most=3))
    Block(configs=2, seeds=1, devices_by_config=1, devices_by_seed=1)
    """
    grids = [(by_seed, devices // by_seed) for by_seed in range(1, devices + 1) if devices % by_seed == 0]
    by_seed, by_config = min(
        grids, key=lambda grid: (math.ceil(seeds / grid[0]) * math.ceil(configs / grid[1]), -min(seeds, grid[0]))
    )
    wide = _at_once(math.ceil(configs / by_config), most)
    deep = _at_once(math.ceil(seeds / by_seed), max(1, most // wide) if mapped_seeds else 1, wide)
    return Block(wide, deep, by_config, by_seed)


def _at_once(count: int, most: int, runs: int = 1) -> int:
    """How many of `count` go at once, of so many runs each: the last block is filled with runs that are thrown away.

    A call is taken to cost half a run beside its runs. For networks of 0.7 ms a step it is about a third, and two at
    once, four times, took an eighth less than three, three times; for networks of 20 µs a step both took the same.
    """
    return min(range(min(count, most), 0, -1), key=lambda size: math.ceil(count / size) * (2 * runs * size + 1))


def trace(run: Run, columns: Columns, config: int, key: PRNGKeyArray) -> Traced:
    """Trace `run` once, for the program of one config.

    Raises:
        TypeError: what it returns is no pytree of arrays, or it looks at values before they are there.
    """
    program = columns.program_of(config)

    def of_one(traced: Sequence[Any], key: PRNGKeyArray) -> PyTree:
        outcomes = run(columns.build(program, traced), key)
        _check_outcomes(outcomes)
        return outcomes

    example = columns.example
    try:
        closed, outcomes = jax.make_jaxpr(of_one, return_shape=True)(example, key)
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        raise TypeError(
            f"run makes a Python value of one that is known only when the program runs, {_place(error)}; "
            "float(…), int(…), .item(), np.asarray and if do that: return JAX arrays"
        ) from error
    if not all(map(is_concrete, (key, *closed.consts))):
        raise TypeError("run uses a traced value; sweep compiles and runs by itself, outside of jit, vmap and grad")
    mapped = [False] * len(closed.jaxpr.invars)
    mapped[: len(example)] = [True] * len(example)
    return Traced(closed.jaxpr, tuple(closed.consts), outcomes, bytes_at_once(closed.jaxpr, mapped))


def _check_outcomes(outcomes: PyTree) -> None:
    named = name_leaves(outcomes, "outcome")
    if not named:
        raise TypeError("run returned nothing; expected JAX arrays, such as fit(…).history")
    for name, leaf in named.items():
        where = "run returned" if name == "outcome" else f"run returned for {name}"
        if not isinstance(leaf, np.ndarray | np.generic | jax.Array | jax.core.Tracer):
            raise TypeError(f"{where} the {type(leaf).__name__} {leaf!r}; expected a JAX array")
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise TypeError(f"{where} a PRNG key; return jax.random.key_data of it")


def _place(error: BaseException) -> str:
    """Where in the user's own code."""
    others = [file.removesuffix("__init__.py") for file in (jax.__file__, np.__file__)]
    others.append(__file__.removesuffix("sweep_program.py"))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(frame.filename.startswith(folder) for folder in others)
    ]
    return f"in {frames[-1].filename}, line {frames[-1].lineno}" if frames else "inside a library"


def bytes_at_once(jaxpr: Any, mapped: Sequence[bool]) -> int:
    """The most bytes of a run's own that are alive at once, were the operations to run one by one, in order.

    `mapped` says which inputs each run has for itself. Inputs are not counted, nor is what all runs share, such as the
    mini-batch of a seed.
    """
    return _most_alive(jaxpr, mapped)[0]


def _most_alive(jaxpr: Any, mapped: Sequence[bool]) -> tuple[int, list[bool]]:
    """`bytes_at_once`, and which outputs each run has for itself."""
    own = {variable for variable, is_own in zip(jaxpr.invars, mapped, strict=True) if is_own}
    last_use: dict[Any, int] = {}
    for number, equation in enumerate(jaxpr.eqns):
        last_use |= dict.fromkeys((*filter(_is_variable, equation.invars), *equation.outvars), number)
    last_use |= dict.fromkeys(filter(_is_variable, jaxpr.outvars), len(jaxpr.eqns))
    alive: dict[Any, int] = {}
    most = 0
    for number, equation in enumerate(jaxpr.eqns):
        inside, outputs = _inside(equation, [_is_variable(atom) and atom in own for atom in equation.invars])
        of_runs = [variable for variable, is_own in zip(equation.outvars, outputs, strict=True) if is_own]
        own.update(of_runs)
        alive |= {variable: _bytes(variable.aval) for variable in of_runs}
        most = max(most, sum(alive.values()) + inside)
        for variable in (*filter(_is_variable, equation.invars), *equation.outvars):
            if last_use[variable] == number:
                alive.pop(variable, None)
    return most, [_is_variable(atom) and atom in own for atom in jaxpr.outvars]


def _inside(equation: Any, mapped: list[bool]) -> tuple[int, list[bool]]:
    """The same of an operation: the most within it, and which of its outputs each run has for itself."""
    inner = list(inner_jaxprs(equation))
    outputs = [any(mapped)] * len(equation.outvars)
    if not any(mapped) or not inner:
        return 0, outputs
    if equation.primitive.name == "scan":
        (body,), consts, carried = inner, equation.params["num_consts"], equation.params["num_carry"]
        while True:
            most, results = _most_alive(body, mapped)
            carry = mapped[consts : consts + carried]
            grown = [before or after for before, after in zip(carry, results[:carried], strict=True)]
            if grown == carry:
                return most, results
            mapped = [*mapped[:consts], *grown, *mapped[consts + carried :]]
    if len(inner) == 1 and len(inner[0].invars) == len(mapped):
        return _most_alive(inner[0], mapped)
    return max(_most_alive(body, [True] * len(body.invars))[0] for body in inner), outputs


def _is_variable(atom: Any) -> bool:
    return not isinstance(atom, Literal)


def _bytes(aval: Any) -> int:
    """Of an array; keys count as the two words that they are."""
    itemsize = 8 if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key) else aval.dtype.itemsize
    return math.prod(aval.shape) * itemsize


class Program:
    """A compiled block of runs."""

    def __init__(
        self, traced: Traced, columns: Columns, block: Block, devices: Sequence[jax.Device], key: PRNGKeyArray
    ) -> None:
        """Compile for such columns and such a key: for their shapes, not their values."""
        grid = np.array(devices).reshape(block.devices_by_seed, block.devices_by_config)
        mesh = Mesh(grid, ("seeds", "configs"), axis_types=(AxisType.Auto,) * 2)
        self.block = block
        self._traced = traced
        self._everywhere, self._by_config, self._by_seed = (
            NamedSharding(mesh, jax.P(*axes)) for axes in ((), ("configs",), ("seeds",))
        )
        constants = [_shape_of(constant, self._everywhere) for constant in traced.constants]
        configs = [
            _shape_of(column, self._by_config, block.all_configs) for column in self._with_numbers(columns.traced)
        ]
        seeds = jax.ShapeDtypeStruct((block.all_seeds,), np.int32, sharding=self._by_seed)
        many = jax.shard_map(
            self._runs,
            mesh=mesh,
            in_specs=(jax.P(), jax.P(), jax.P("configs"), jax.P("seeds")),
            out_specs=jax.P("configs", "seeds"),
            check_vma=False,
        )
        shapes = constants, _shape_of(key, self._everywhere), configs, seeds
        self.compiled = jax.jit(many).lower(*shapes).compile()

    @property
    def bytes_on_a_device(self) -> int:
        """What a call takes of each device's memory, as XLA has planned it."""
        sizes = self.compiled.memory_analysis()
        if sizes is None:
            return 0
        return sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes

    def place(self, key: PRNGKeyArray) -> tuple[list[jax.Array], jax.Array]:
        """Put what all runs need on all devices, for `call`."""
        data = [_placed(constant, self._everywhere) for constant in self._traced.constants]
        return data, _placed(key, self._everywhere)

    def call(self, placed: tuple[list[jax.Array], jax.Array], traced: Sequence[Any], seeds: np.ndarray) -> PyTree:
        """Start the runs of one block: outcomes `[configs, seeds, …]`."""
        configs = [_placed(column, self._by_config) for column in self._with_numbers(traced)]
        return self.compiled(*placed, configs, _placed(seeds.astype(np.int32), self._by_seed))

    def _with_numbers(self, traced: Sequence[Any]) -> list[Any]:
        # Where nothing is traced there is still something to map over.
        return [np.zeros(self.block.all_configs, np.int32), *traced]

    def _runs(self, constants: list[Any], key: PRNGKeyArray, configs: list[Any], seeds: jax.Array) -> PyTree:
        def one(config: list[Any], seed: jax.Array) -> PyTree:
            seed_key = jax.random.fold_in(key, seed)
            leaves = jax.core.eval_jaxpr(self._traced.jaxpr, constants, *config[1:], seed_key)
            return jax.tree.unflatten(jax.tree.structure(self._traced.outcomes), leaves)

        of_one_seed = jax.vmap(one, (0, None))
        if self.block.seeds > 1:
            return jax.vmap(of_one_seed, (None, 0), out_axes=1)(configs, seeds)
        # The seed is no axis then: what is drawn from it alone, such as mini-batches, is one for all configs.
        return jax.tree.map(lambda outcome: outcome[:, None], of_one_seed(configs, seeds[0]))


def _shape_of(array: Any, sharding: NamedSharding, length: int | None = None) -> jax.ShapeDtypeStruct:
    shape = array.shape if length is None else (length, *array.shape[1:])
    return jax.ShapeDtypeStruct(shape, array.dtype, sharding=sharding)


def _placed(array: Any, sharding: NamedSharding) -> jax.Array:
    """On devices of this process and of others; every process has the whole array."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = _placed(jax.random.key_data(array), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    return jax.make_array_from_callback(array.shape, sharding, np.asarray(array).__getitem__)
