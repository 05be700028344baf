"""Ranges of hyperparameters: drawn from at random, and narrowed to what has proved good."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxnn._checks import check_key, check_number, check_size, in_words, is_concrete

__all__ = ["Choice", "Integers", "LogUniform", "SearchSpace", "Uniform", "choice", "integers", "log_uniform", "uniform"]

Column: TypeAlias = np.ndarray | list[Any]  # a value for each trial


class Uniform(NamedTuple):
    """Numbers between two bounds."""

    low: float
    high: float

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """That many values."""
        return _as_computed(generator.uniform(self.low, self.high, count))

    def narrowed(self, values: Sequence[Any]) -> "Uniform":
        """The smallest such range that holds the values."""
        return Uniform(*_bounds(values, self.low, self.high))

    def __str__(self) -> str:
        return f"{self.low:.3g} to {self.high:.3g}"


class LogUniform(NamedTuple):
    """Positive numbers between two bounds, each order of magnitude as likely as any other."""

    low: float
    high: float

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """That many values."""
        drawn = np.exp(generator.uniform(math.log(self.low), math.log(self.high), count))
        return _as_computed(np.clip(drawn, self.low, self.high))  # the exponential rounds

    def narrowed(self, values: Sequence[Any]) -> "LogUniform":
        """The smallest such range that holds the values."""
        return LogUniform(*_bounds(values, self.low, self.high))

    def __str__(self) -> str:
        return f"{self.low:.3g} to {self.high:.3g}, logarithmic"


class Integers(NamedTuple):
    """Whole numbers from one bound to the other, both of which can be drawn."""

    low: int
    high: int

    def draw(self, generator: np.random.Generator, count: int) -> list[Any]:
        """That many values."""
        return generator.integers(self.low, self.high, count, endpoint=True).tolist()

    def narrowed(self, values: Sequence[Any]) -> "Integers":
        """The smallest such range that holds the values."""
        return Integers(min(values), max(values))

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"


class Choice(NamedTuple):
    """Any of some values."""

    options: tuple[Any, ...]
    is_traced: bool = False  # decimals: one program for all of them

    def draw(self, generator: np.random.Generator, count: int) -> list[Any]:
        """That many values, each option as often as the others to within one, in random order."""
        options = generator.permutation(len(self.options))
        return [self.options[number] for number in options[generator.permutation(count) % len(options)]]

    def narrowed(self, values: Sequence[Any]) -> "Choice":
        """Those of the options that are among the values."""
        return self._replace(options=tuple(option for option in self.options if option in values))

    @property
    def labels(self) -> list[str]:
        """A word for each option; of a tuple its values with dashes between them.

        >>> print(choice((100,), (200, 100)).labels)
        ['100', '200-100']
        """
        return [
            "-".join(map(str, option)) if isinstance(option, tuple) else str(getattr(option, "__name__", option))
            for option in self.options
        ]

    def __str__(self) -> str:
        return ", ".join(self.labels)


Range: TypeAlias = Uniform | LogUniform | Integers | Choice


def uniform(low: float | int, high: float | int) -> Uniform:
    """Numbers from `low` to `high`, all as likely: for a dropout rate or a momentum.

    Raises:
        TypeError, ValueError: a bound is no finite number, or `low` is not below `high`.

    >>> import jax, jaxnn as nn
    >>> space = nn.SearchSpace(rate=nn.uniform(0.0, 0.5))
    >>> print([f"{x:.2f}" for x in space.sample(jax.random.key(0), 3)["rate"]])
    ['0.50', '0.42', '0.21']
    """
    _check_bounds("uniform", low, high)
    return Uniform(float(low), float(high))


def log_uniform(low: float | int, high: float | int) -> LogUniform:
    """Positive numbers from `low` to `high`, each order of magnitude as likely: for a learning rate or a decay.

        x = exp(u),    u uniform from log(low) to log(high)

    (Bergstra & Bengio 2012, section 2.3.)

    Raises:
        TypeError, ValueError: a bound is no finite number above 0, or `low` is not below `high`.

    >>> import jax, jaxnn as nn
    >>> space = nn.SearchSpace(rate=nn.log_uniform(1e-6, 1e-2))
    >>> print([f"{x:.1e}" for x in space.sample(jax.random.key(0), 3)["rate"]])
    ['9.6e-03', '2.5e-03', '4.9e-05']
    """
    check_number("log_uniform's low", low, above=0)
    _check_bounds("log_uniform", low, high)
    return LogUniform(float(low), float(high))


def integers(low: int, high: int) -> Integers:
    """Whole numbers from `low` to `high`, both included: for a width or a depth.

    They change the program: `sweep` compiles one for each that is drawn.

    Raises:
        TypeError, ValueError: a bound is no whole number, or `low` is above `high`.

    >>> import jax, jaxnn as nn
    >>> print(nn.SearchSpace(depth=nn.integers(1, 3)).sample(jax.random.key(0), 6)["depth"])
    [1, 3, 2, 3, 3, 2]
    """
    for name, bound in {"low": low, "high": high}.items():
        check_size(f"integers' {name}", bound, at_least=-(2**31), below=2**31)
    if low > high:
        raise ValueError(f"integers: low is {low}, which is above high, {high}")
    return Integers(int(low), int(high))


def choice(*options: Any) -> Choice:
    """Any of the values given: activations, optimizers by name, batch sizes, rates.

    Of each round's trials every option gets its share. Numbers are traced if one of them is a decimal: one program
    serves all. All else changes the program, and `sweep` compiles one for each.

    Raises:
        TypeError, ValueError: no option, one twice, a number that is not finite, an array, a list or a dict.

    >>> import jax, jaxnn as nn
    >>> print(nn.SearchSpace(optimizer=nn.choice("sgd", "adam")).sample(jax.random.key(0), 4)["optimizer"])
    ['adam', 'adam', 'sgd', 'sgd']
    """
    if not options:
        raise ValueError("choice needs at least one option")
    for number, option in enumerate(options):
        if isinstance(option, np.ndarray | jax.Array):
            raise TypeError("choice takes numbers, words, tuples and functions; got an array")
        if not isinstance(option, Hashable):
            kind = type(option).__name__
            raise TypeError(f"choice takes numbers, words, tuples and functions; got the {kind} {in_words(option)}")
        if isinstance(option, float):
            check_number("option", option)
        if option in options[:number]:
            raise ValueError(f"choice has the option {option!r} twice")
    are_numbers = all(isinstance(option, int | float) and not isinstance(option, bool) for option in options)
    is_traced = are_numbers and any(isinstance(option, float) for option in options)
    return Choice(tuple(map(float, options)) if is_traced else options, is_traced)


class SearchSpace(Mapping[str, Range]):
    """Hyperparameters by name, each with the range it is drawn from.

    >>> import jax, jaxnn as nn
    >>> space = nn.SearchSpace(learning_rate=nn.log_uniform(1e-6, 1e-2), weight_decay=nn.log_uniform(1e-8, 1e-4))
    >>> columns = space.sample(jax.random.key(0), 100)
    >>> print(sorted(columns), columns["learning_rate"].shape)
    ['learning_rate', 'weight_decay'] (100,)
    >>> print(space)
    learning_rate: 1e-06 to 0.01, logarithmic
    weight_decay: 1e-08 to 0.0001, logarithmic
    """

    def __init__(self, **ranges: Range) -> None:
        """Name the hyperparameters and give the range of each.

        Raises:
            TypeError: a range that is none.
            ValueError: no hyperparameter.
        """
        if not ranges:
            raise ValueError("a SearchSpace needs at least one range, such as learning_rate=log_uniform(1e-6, 1e-2)")
        for name, values in ranges.items():
            if not isinstance(values, Range):
                raise TypeError(
                    f"{name} must be uniform(…), log_uniform(…), integers(…) or choice(…); got {in_words(values)}"
                )
        self._ranges = ranges

    def sample(self, key: PRNGKeyArray, trials: int) -> dict[str, Column]:
        """Draw that many sets of hyperparameters: a column for each, as `sweep` takes them.

        Each name draws by itself: other names beside it change nothing. What is drawn is needed on the host, so it is
        drawn there, by a NumPy generator that starts from the key and the name, and there is nothing to compile.
        Another version of NumPy may draw other numbers.
        """
        check_key("key", key)
        if not is_concrete(key):
            raise TypeError("key is traced; sample draws on the host, outside of jit and vmap")
        check_size("trials", trials)
        words = np.asarray(jax.random.key_data(key)).tolist()
        return {
            name: values.draw(np.random.default_rng([*words, *name.encode()]), trials)
            for name, values in self._ranges.items()
        }

    @property
    def static(self) -> frozenset[str]:
        """The hyperparameters that change the program."""
        return frozenset(
            name
            for name, values in self._ranges.items()
            if isinstance(values, Integers) or (isinstance(values, Choice) and not values.is_traced)
        )

    def narrowed(self, columns: Mapping[str, Sequence[Any]]) -> "SearchSpace":
        """The smallest ranges of the same kind that hold the values given: those of the best trials."""
        return SearchSpace(**{name: values.narrowed(list(columns[name])) for name, values in self._ranges.items()})

    def __getitem__(self, name: str) -> Range:
        return self._ranges[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    def __str__(self) -> str:
        return "\n".join(f"{name}: {values}" for name, values in self._ranges.items())

    def __repr__(self) -> str:
        return f"SearchSpace({', '.join(f'{name}={values!r}' for name, values in self._ranges.items())})"


def _check_bounds(kind: str, low: Any, high: Any) -> None:
    for name, bound in {"low": low, "high": high}.items():
        check_number(f"{kind}'s {name}", bound)
        if not is_concrete(bound):
            raise TypeError(f"{kind}'s {name} must be known before tracing")
    if not float(low) < float(high):
        raise ValueError(f"{kind}: low is {float(low):g}, which is not below high, {float(high):g}")
    limits = np.finfo(np.float32)
    for bound in (float(low), float(high)):
        if abs(bound) > float(limits.max) / 4 or 0 < abs(bound) < float(limits.tiny):
            raise ValueError(f"{kind}: {bound:g} is out of the range of float32")


def _bounds(values: Sequence[Any], low: float, high: float) -> tuple[float, float]:
    # What was drawn in float32 may lie a rounding outside the range that it was drawn from.
    numbers = np.clip(np.asarray(values, np.float64), low, high)
    return float(numbers.min()), float(numbers.max())


def _as_computed(values: np.ndarray) -> np.ndarray:
    """In the precision that the trainings are given."""
    return values.astype(jax.dtypes.canonicalize_dtype(np.float64))
