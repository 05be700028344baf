"""The experiments, in the order of a course: from one neuron to what a convolutional network sees."""

import difflib
import importlib
from collections.abc import Iterator, Sequence

from experiments.shared.experiment import Experiment

__all__ = ["NAMES", "experiments", "find"]

NAMES = (
    "perceptron",
    "softmax_and_cross_entropy",
    "linear_regression",
    "learning_rate",
    "two_layer_net",
    "gradient_check",
    "gradient_audit",
    "numerical_training",
    "data_pipeline",
    "reading_ahead",
    "shuffling",
    "optimizer_paths",
    "optax_and_pytorch",
    "optimizers_on_mnist",
    "weight_symmetry",
    "activation_histograms",
    "weight_initialization",
    "batch_norm",
    "weight_decay",
    "dropout",
    "hyperparameter_search",
    "from_one_layer_to_cnn",
    "convnet_mnist",
    "convolution_in_scan",
    "convnet_settings",
    "convnet_cifar10",
    "inside_one_layer",
    "inside_the_network",
    "interrupted_training",
    "one_program",
)


def find(names: Sequence[str]) -> list[Experiment]:
    """The experiments of these names.

    Raises:
        ValueError: there is none of such a name; the nearest is said.

    >>> try:
    ...     find(["bach_norm"])
    ... except ValueError as error:
    ...     print(error)
    no experiment is called 'bach_norm'; did you mean batch_norm?
    """
    for name in names:
        if name not in NAMES:
            nearest = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are: {', '.join(NAMES)}"
            raise ValueError(f"no experiment is called {name!r}; {hint}")
    return [importlib.import_module(f"experiments.{name}").EXPERIMENT for name in names]


def experiments() -> Iterator[Experiment]:
    """All of them."""
    yield from find(NAMES)
