"""What a run's arguments must be: all that can be said before the model is asked."""

from collections.abc import Callable
from typing import Any, get_args

import optax

from jaxnn._checks import (
    check_batch_size,
    check_callable,
    check_choice,
    check_examples,
    check_functions,
    check_key,
    check_size,
)
from jaxnn.evaluation import check_metrics, check_model
from jaxnn.sampling import Sampling
from jaxnn.sharding import check_batch_sharding

__all__ = ["check_arguments", "check_optimizer", "check_step"]


def check_optimizer(optimizer: Any) -> None:
    """Refuse what is no optimizer."""
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(f"optimizer must be made by sgd(…), adam(…) or optax; got {type(optimizer).__name__}")


def check_step(model: Any, loss: Any, optimizer: Any, *, penalty: Any, preprocess: Any, augment: Any) -> None:
    """Refuse what no step can be made of."""
    check_model(model)
    check_callable("loss", loss, "(outputs, targets) -> scalar")
    check_optimizer(optimizer)
    check_functions(
        penalty=(penalty, "(params) -> scalar"),
        preprocess=(preprocess, "(x) -> x"),
        augment=(augment, "(key, x) -> x"),
    )


def check_arguments(
    model: Any,
    loss: Any,
    optimizer: Any,
    train: Any,
    *,
    key: Any,
    epochs: Any,
    batch_size: Any,
    validation: Any,
    metrics: Any,
    penalty: Callable | None,
    data_key: Any,
    sampling: Any,
    preprocess: Callable | None,
    augment: Callable | None,
    batch_sharding: Any,
) -> None:
    """Refuse what does not fit, in one sentence."""
    check_step(model, loss, optimizer, penalty=penalty, preprocess=preprocess, augment=augment)
    check_key("key", key)
    if data_key is not None:
        check_key("data_key", data_key)
    check_size("epochs", epochs)
    check_choice("sampling", sampling, get_args(Sampling))
    check_examples("train", train)
    check_batch_size(batch_size, len(train[0]))
    check_batch_sharding(batch_sharding, batch_size)
    if metrics is not None:
        check_metrics(metrics)
    if validation is not None:
        check_examples("validation", validation)
        if validation[0].shape[1:] != train[0].shape[1:]:
            raise ValueError(
                f"validation.x has examples of shape {validation[0].shape[1:]}, and train.x of {train[0].shape[1:]}"
            )
