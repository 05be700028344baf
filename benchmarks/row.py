"""What a row of the benchmarks is: one piece of work, and those who do it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

# Does the row's work once, waits until it is done, and returns the value that shows whether it was done right.
Run: TypeAlias = Callable[[], float]

OURS = "jaxnn"
# Of work that is reading and computing: one after the other, and each alone, which is no whole answer to compare.
IN_TURNS, READING, COMPUTING = "JAX, in turns", "reading alone", "computing alone"


class Contender(NamedTuple):
    """One way to do the work. `build` runs in a process of its own and imports what it needs itself."""

    build: Callable[[], Run]
    needs: tuple[str, ...] = ()  # packages beyond jaxnn's own
    processes: int = 0  # further processes that it starts, for the count of memory


@dataclass(frozen=True)
class Row:
    """One piece of work, the same for all contenders; the first contender is jaxnn."""

    group: str
    """The name on the command line."""
    name: str
    """The name in the table."""
    work: str
    """What is done, in one line."""
    unit: str
    """What one figure is, such as "µs a step"; it begins with µs, ms or s."""
    units: int
    """How many of them one run is."""
    operations: float
    """Floating-point operations of one unit as plain sums, 2 n for a product of n; Winograd's filtering needs fewer."""
    contenders: dict[str, Contender]
    bytes_moved: float = 0
    """Of work that is no arithmetic to speak of: bytes of one unit, every array read once and written once."""
    target: float | None = None
    """Largest ratio to the best peer that is good enough."""
    against: tuple[str, ...] = ()
    """Names, or beginnings of names, of the peers that the ratio is to; without them all peers."""
    floors_target: float | None = None
    """Most floors that are good enough."""
    seconds_target: float | None = None
    """Most seconds a run that are good enough."""
    hidden_target: float | None = None
    """Least share of the shorter of reading and computing that is good enough to be hidden behind the other."""
    margin: float = 0.05
    """How far, relatively, a contender's value, the mean over its runs, may be from the middle of all."""
    below: float | None = None
    """What the value must have fallen below."""
    whole_process: bool = False
    """Time the whole life of a fresh process, imports included."""
    rounds: int = 7
    """How often each contender is timed, in turns."""
