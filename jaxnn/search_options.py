"""The settings of `jaxnn search`: what is varied, over which ranges, and what stays."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import tyro

from jaxnn import search_space
from jaxnn._checks import check_choice, check_number, check_size, is_concrete
from jaxnn.config import TrainConfig, check_names, resolve
from jaxnn.presets import PRESETS
from jaxnn.search_space import Range, SearchSpace

__all__ = ["SearchConfig", "check_search", "resolve_search", "resolve_trial", "space_of"]

# Numbers of which LOW:HIGH is a range: logarithmic where an order of magnitude is what matters.
_RANGES: dict[str, Callable[[float, float], Range]] = {
    "learning_rate": search_space.log_uniform,
    "weight_decay": search_space.log_uniform,
    "weight_init_std": search_space.log_uniform,
    "dropout": search_space.uniform,
}
_CHOICES = ("optimizer", "schedule", "sampling", "activation", "batch_norm", "batch_size", "hidden_sizes", "filters")
_BUDGET = 200  # steps, which tell good settings from bad ones


@dataclass(frozen=True)
class SearchConfig(TrainConfig):
    """Search for good settings: short trainings with random ones, judged on validation data, in narrowing rounds.

    All trainings of a round are one compiled program or a few, run side by side on every core or device. Test data
    takes no part. Without any option it looks for the learning rate and weight decay of an mlp on the digits.
    """

    devices: Annotated[str | None, tyro.conf.arg(metavar="all|INT", help_behavior_hint="(default: all)")] = None
    """Devices that share the trainings: all, or so many."""
    vary: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=RANGE ...")] = (
        "learning-rate=1e-6:1",
        "weight-decay=1e-8:1e-2",
    )
    """What is varied, and over which values: LOW:HIGH for learning-rate, weight-decay, weight-init-std (each order of
    magnitude as likely) and dropout; or values to choose from, such as optimizer=sgd,adam, activation=relu,tanh,
    batch-norm=True,False, batch-size=50,100, hidden-sizes=100,200-100. Other options say what stays as it is."""
    trials: Annotated[int, tyro.conf.arg(metavar="INT")] = 100
    """Trainings of each round."""
    rounds: Annotated[int, tyro.conf.arg(metavar="INT")] = 3
    """Rounds; each draws from ranges narrowed to the best of the one before."""
    keep: Annotated[float, tyro.conf.arg(metavar="FLOAT")] = 0.2
    """The part of a round's trainings that the ranges are narrowed to."""
    halving: bool = False
    """Train in up to 8 stages, and stop the worse half after stages 1, 2 and 4."""
    examples: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: all of the training data)")
    ] = None
    """Train on so many of the training examples, drawn at random."""


def check_search(config: SearchConfig) -> SearchSpace:
    """Refuse what can be refused before the data is read; the ranges."""
    check_names(config)
    check_size("--trials", config.trials)
    check_size("--rounds", config.rounds)
    check_number("--keep", config.keep, above=0, below=1)
    if config.rounds > 1 and round(config.keep * config.trials) < 2:
        raise ValueError(f"--keep {config.keep:g} of {config.trials} trials leaves fewer than two to narrow ranges to")
    if config.examples is not None:
        check_size("--examples", config.examples, at_least=2)
    space = space_of(config.vary)
    known: dict[str, Any] = {field.name: field.default for field in fields(TrainConfig)}
    for name, values in space.items():
        flag = name.replace("_", "-")
        if getattr(config, name) != known[name]:
            raise ValueError(f"--{flag} is given, and --vary has it too: which is meant?")
        is_of_a_model = any(name in preset.settings for preset in PRESETS.values())
        if is_of_a_model and name not in PRESETS[config.model].settings:
            raise ValueError(f"--vary: {flag} is no setting of {config.model}; see jaxnn models")
        for bound in _extremes(values):
            try:
                check_names(replace(config, **{name: bound}))
            except (ValueError, TypeError) as error:
                raise ValueError(f"--vary {flag}: {error}") from None
    return space


def space_of(words: tuple[str, ...]) -> SearchSpace:
    """The ranges that `--vary` gives.

    >>> print(space_of(("learning-rate=1e-6:1e-2", "optimizer=sgd,adam")))
    learning_rate: 1e-06 to 0.01, logarithmic
    optimizer: sgd, adam
    """
    ranges: dict[str, Range] = {}
    for word in words:
        flag, equals, text = word.partition("=")
        name = flag.strip().lstrip("-").replace("-", "_")
        if not equals or not text:
            raise ValueError(f"--vary takes NAME=RANGE, such as learning-rate=1e-6:1e-2; got {word!r}")
        check_choice("setting to vary", flag, [known.replace("_", "-") for known in (*_RANGES, *_CHOICES)])
        if name in ranges:
            raise ValueError(f"--vary has {flag} twice")
        try:
            ranges[name] = _range(name, text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"--vary {word}: {error}") from None
    return SearchSpace(**ranges)


def resolve_trial(config: SearchConfig, values: dict[str, Any], examples: int) -> SearchConfig:
    """All settings of one trial."""
    trial = resolve(replace(config, **{name: value for name, value in values.items() if is_concrete(value)}), examples)
    for name, value in values.items():
        if not is_concrete(value):
            object.__setattr__(trial, name, value)  # a traced number, where the field's type asks for a decimal
    return trial


def resolve_search(config: SearchConfig, examples: int) -> SearchConfig:
    """Fill in what was left to the model; without `--epochs` a training is as short as tells settings apart."""
    resolved = resolve(config, examples)
    assert resolved.batch_size is not None and resolved.epochs is not None
    if config.epochs is not None:
        return config
    epochs = max(1, round(_BUDGET / (examples // resolved.batch_size)))
    return replace(config, epochs=min(resolved.epochs, epochs))


def _range(name: str, text: str) -> Range:
    if ":" in text:
        if name not in _RANGES:
            raise ValueError("is no number with a range; give values, separated by commas")
        low, _, high = text.partition(":")
        return _RANGES[name](_number(low), _number(high))
    return search_space.choice(*(_value(name, word.strip()) for word in text.split(",")))


def _value(name: str, word: str) -> Any:
    if name in _RANGES:
        return _number(word)
    if name == "batch_size":
        return _whole(word)
    if name in ("hidden_sizes", "filters"):
        return tuple(_whole(part) for part in word.split("-"))
    if name == "batch_norm":
        check_choice("value", word, ["True", "False"])
        return word == "True"
    return word


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word!r} is no number") from None


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"{word!r} is no whole number") from None


def _extremes(values: Range) -> tuple[Any, ...]:
    return values.options if isinstance(values, search_space.Choice) else (values.low, values.high)
