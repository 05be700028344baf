"""Training as a pure function of key, data and hyperparameters.

`fit` is a whole run: `lax.scan` over the steps of an epoch inside `lax.scan` over the epochs. `jax.jit`, `jax.vmap`
and sharding go around it. Each random draw has its own key, folded with the number of the step or epoch, so that
step n draws the same numbers however training reached it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxnn._checks import (
    check_batch_size,
    check_choice,
    check_examples,
    check_key,
    check_size,
    check_start,
    check_values,
)
from jaxnn._run_checks import check_arguments, check_optimizer, check_step
from jaxnn.evaluation import Examples, Loss, Metrics, Preprocess, check_model, mean_of_batch, measure
from jaxnn.layers import Layer, ModelState, Params, Shape
from jaxnn.metrics import accuracy
from jaxnn.precision import mixed_precision
from jaxnn.sampling import Sampling, epoch_indices
from jaxnn.sharding import check_batch_sharding, constrain_batch, constrain_whole

__all__ = [
    "FitResult",
    "History",
    "TrainState",
    "fit",
    "init_state",
    "train_epoch",
    "train_step",
]

Penalty: TypeAlias = Callable[[PyTree], Array]  # (params) -> scalar
Augment: TypeAlias = Callable[[PRNGKeyArray, Array], Array]  # (key, x) -> x


class TrainState(NamedTuple):
    """All that a run carries from step to step."""

    params: Params  # what the optimizer moves
    model_state: ModelState  # what training updates otherwise
    opt_state: PyTree  # the optimizer's own
    key: PRNGKeyArray  # the run's key, never changed: draws fold the step into it
    step: Int[Array, ""]  # steps taken


class History(NamedTuple):
    """What was measured on the way."""

    loss: Float[Array, " steps"]  # of each mini-batch, penalty included
    train: dict[str, Float[Array, " epochs"]]  # each metric on the whole training data, after each epoch
    validation: dict[str, Float[Array, " epochs"]]  # "loss" and each metric on the validation data


class FitResult(NamedTuple):
    """What `fit` returns."""

    params: Params
    model_state: ModelState
    opt_state: PyTree
    history: History


def init_state(
    model: Layer, optimizer: optax.GradientTransformation, input_shape: Shape, key: PRNGKeyArray
) -> TrainState:
    """The state before the first step: initial weights from `key`, the optimizer's zeros, step 0.

    `input_shape` is that of one example, without the batch axis.

    Raises:
        TypeError: no model, no optimizer, no PRNG key, or no shape.
        ValueError: the model cannot take such examples.

    >>> import jax, jaxnn as nn
    >>> state = nn.init_state(nn.mlp([4], 2), nn.sgd(0.1), (3,), jax.random.key(0))
    >>> print(state.params["dense1"]["W"].shape, state.step)
    (3, 4) 0
    """
    check_model(model)
    check_optimizer(optimizer)
    check_start(key, input_shape)
    init_key, run_key = jax.random.split(key)
    params, model_state, _ = model.init(init_key, input_shape)
    return TrainState(params, model_state, optimizer.init(params), run_key, jnp.zeros((), jnp.int32))


def train_step(
    model: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    x: Array,
    y: Array,
    *,
    penalty: Penalty | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    batch_sharding: NamedSharding | None = None,
) -> tuple[TrainState, Float[Array, ""]]:
    """One mini-batch: gradient of the loss, one update. Returns the next state and the loss before the update.

        L = loss(model(params, augment(preprocess(x))), y) + penalty(params)
        params <- params + update,    update, opt_state = optimizer(∂L/∂params, opt_state, params)

    `batch_sharding`, such as `data_parallel()`, splits the batch over devices, which must be able to share it evenly.

    Raises:
        TypeError, ValueError: arguments that do not fit, before any work.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> model, optimizer = nn.linear_regression(), nn.sgd(0.1)
    >>> state = nn.init_state(model, optimizer, (1,), jax.random.key(0))
    >>> x, y = jnp.array([[1.0], [2.0]]), jnp.array([[2.0], [4.0]])
    >>> for _ in range(100):
    ...     state, loss = nn.train_step(model, nn.mean_squared_error, optimizer, state, x, y)
    >>> print(f"{loss:.2f}")
    0.00
    """
    check_step(model, loss, optimizer, penalty=penalty, preprocess=preprocess, augment=augment)
    check_batch_sharding(batch_sharding, None)
    _check_state(state)
    check_examples("the batch", (x, y))
    x, y = constrain_batch((x, y), batch_sharding)
    objective = objective_of_step(model, loss, state, x, y, penalty=penalty, preprocess=preprocess, augment=augment)
    (value, model_state), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    # Some of optax's, such as lbfgs, ask for more than the gradient.
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        grads,
        state.opt_state,
        state.params,
        value=value,
        grad=grads,
        value_fn=lambda params: objective(params)[0],
    )
    params = optax.apply_updates(state.params, updates)
    learned = constrain_whole((params, model_state, opt_state), batch_sharding)
    return TrainState(*learned, state.key, state.step + 1), value


def objective_of_step(
    model: Layer,
    loss: Loss,
    state: TrainState,
    x: Array,
    y: Array,
    *,
    penalty: Penalty | None,
    preprocess: Preprocess | None,
    augment: Augment | None,
) -> Callable[[Params], tuple[Float[Array, ""], ModelState]]:
    """What a step goes down: `params -> (the loss and the penalty, the model's next state)`."""
    keys = split_by_purpose(state.key)
    if preprocess is not None:
        x = preprocess(x)
    if augment is not None:
        x = augment(jax.random.fold_in(keys.augment, state.step), x)
    layer_key = jax.random.fold_in(keys.layers, state.step)

    def objective(params: Params) -> tuple[Array, ModelState]:
        outputs, model_state = model.apply(params, state.model_state, x, training=True, key=layer_key)
        value = loss(outputs, y)
        if penalty is not None:
            value = value + penalty(params)
        if jnp.shape(value) != ():
            raise ValueError(f"the loss has shape {jnp.shape(value)}; expected a scalar, the mean over the batch")
        return value, model_state

    return objective


def train_epoch(
    model: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    train: Examples,
    *,
    batch_size: int = 100,
    data_key: PRNGKeyArray | None = None,
    sampling: Sampling = "shuffle",
    penalty: Penalty | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    batch_sharding: NamedSharding | None = None,
    steps: int | None = None,
) -> tuple[TrainState, Float[Array, " steps"]]:
    """One pass over the data, as one `lax.scan`. Returns the next state and the loss of each step.

    An epoch has `len(x) // batch_size` steps. `sampling` says which examples they see: "shuffle" a fresh
    permutation each epoch, whose last `len(x) % batch_size` examples wait for the next; "replacement" a fresh
    random choice each step, as the textbook does; "in_order" the data as it lies, of which the last
    `len(x) % batch_size` are never seen. Without a `data_key` the order comes from the state's key. The epoch's
    number follows from `state.step`: under `vmap` leave the step unmapped, `in_axes=TrainState(0, 0, 0, 0, None)`,
    and runs that share a `data_key` share their mini-batches. `batch_sharding` splits each of them over devices.

    With `steps` it takes so many steps of an epoch alone, from where `state.step` stands in it; they must not go beyond
    its end.

    Raises:
        TypeError, ValueError: arguments that do not fit, before any work: a batch size below 1 or above the number of
            examples, or not a multiple of the devices; more steps than an epoch has.

    >>> import jax, jax.numpy as jnp, jaxnn as nn
    >>> model, optimizer = nn.linear_regression(), nn.sgd(0.1)
    >>> state = nn.init_state(model, optimizer, (1,), jax.random.key(0))
    >>> x = jnp.linspace(-1, 1, 100).reshape(100, 1)
    >>> state, losses = nn.train_epoch(
    ...     model, nn.mean_squared_error, optimizer, state, (x, 3 * x), batch_size=10
    ... )
    >>> print(losses.shape, state.step)
    (10,) 10
    """
    check_step(model, loss, optimizer, penalty=penalty, preprocess=preprocess, augment=augment)
    _check_state(state)
    check_examples("train", train)
    check_batch_size(batch_size, len(train[0]))
    check_batch_sharding(batch_sharding, batch_size)
    check_choice("sampling", sampling, get_args(Sampling))
    if data_key is not None:
        check_key("data_key", data_key)
    if steps is not None:
        check_size("steps", steps, below=len(train[0]) // batch_size + 1)
    x, y = jnp.asarray(train[0]), jnp.asarray(train[1])
    data_key = split_by_purpose(state.key).data if data_key is None else data_key
    steps_per_epoch = len(x) // batch_size
    indices = epoch_indices(data_key, state.step // steps_per_epoch, len(x), batch_size, sampling)
    if steps is not None:
        indices = jax.lax.dynamic_slice_in_dim(indices, state.step % steps_per_epoch, steps)

    def step(state: TrainState, index: Int[Array, " batch"]) -> tuple[TrainState, Float[Array, ""]]:
        return train_step(
            model,
            loss,
            optimizer,
            state,
            x[index],
            y[index],
            penalty=penalty,
            preprocess=preprocess,
            augment=augment,
            batch_sharding=batch_sharding,
        )

    return jax.lax.scan(step, state, indices)


def fit(
    model: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    train: Examples,
    *,
    key: PRNGKeyArray,
    epochs: int = 10,
    batch_size: int = 100,
    validation: Examples | None = None,
    metrics: Metrics | None = None,
    penalty: Penalty | None = None,
    data_key: PRNGKeyArray | None = None,
    sampling: Sampling = "shuffle",
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    compute_dtype: DTypeLike | None = None,
    batch_sharding: NamedSharding | None = None,
) -> FitResult:
    """Train a model: a pure function of key, data and hyperparameters, for `jax.jit` and `jax.vmap` to go around.

    Args:
        model: a `Layer`, such as `mlp([100], outputs=10)`.
        loss: `(outputs, targets) -> scalar`, the mean over the batch.
        optimizer: an `optax.GradientTransformation`, jaxnn's or optax's. Its rate may be traced.
        train: the training data `(x, y)`; `x [n, …]`, `y [n]` integer labels or `[n, outputs]` targets.
        key: initial weights, dropout and augmentation; and the order of the examples, unless `data_key` is given.
        epochs: passes over the data, of `n // batch_size` steps each.
        batch_size: examples per step.
        validation: data `(x, y)` that is only measured.
        metrics: `{name: (outputs, targets) -> mean over the batch}`, measured after each epoch on all of the
            training data and of `validation`. None is `{"accuracy": accuracy}` if `y` are integer labels of two
            classes or more and `{}` otherwise; with `{}` no pass over the training data is made.
        penalty: `(params) -> scalar`, added to the loss, such as `l2_penalty(1e-4)`.
        data_key: order of the examples alone. Runs that share it see the same mini-batches, a paired comparison,
            and under `vmap` their first layers become one large matrix product.
        sampling: "shuffle", "replacement" or "in_order"; see `train_epoch`.
        preprocess: `x -> x` inside the step, so that pixels can stay uint8 in memory.
        augment: `(key, x) -> x` inside the step, in training only.
        compute_dtype: what the model computes in, `jnp.bfloat16` for mixed precision: parameters, the optimizer's
            state and the loss stay float32; see `mixed_precision`. None is the dtype of the parameters.
        batch_sharding: how each mini-batch is laid out over devices, such as `data_parallel()`; None leaves that to
            where the data lies.

    Raises:
        TypeError, ValueError: arguments that do not fit, before any work. Labels out of range and values that
            are not finite are found where the arrays are concrete: under `jit` nothing can be raised.

    >>> import jax, jaxnn as nn
    >>> train, validation, test = nn.data.load("digits")
    >>> scale = nn.data.min_max(train.x, axis=None)
    >>> result = nn.fit(
    ...     nn.mlp([32], outputs=10), nn.softmax_cross_entropy, nn.adam(0.01), train,
    ...     key=jax.random.key(0), epochs=5, validation=validation, preprocess=scale,
    ... )
    >>> print(bool(result.history.validation["accuracy"][-1] > 0.85))
    True
    """
    model = model if compute_dtype is None else mixed_precision(model, compute_dtype)
    metrics = check_run(
        model,
        loss,
        optimizer,
        train,
        key=key,
        epochs=epochs,
        batch_size=batch_size,
        validation=validation,
        metrics=metrics,
        penalty=penalty,
        data_key=data_key,
        sampling=sampling,
        preprocess=preprocess,
        augment=augment,
        batch_sharding=batch_sharding,
    )

    def epoch(state: TrainState, _: None) -> tuple[TrainState, History]:
        state, losses = train_epoch(
            model,
            loss,
            optimizer,
            state,
            train,
            batch_size=batch_size,
            data_key=data_key,
            sampling=sampling,
            penalty=penalty,
            preprocess=preprocess,
            augment=augment,
            batch_sharding=batch_sharding,
        )
        learned = state.params, state.model_state
        return state, History(
            losses, *measure(model, loss, *learned, train, validation, metrics, preprocess, batch_sharding)
        )

    state = init_state(model, optimizer, train[0].shape[1:], key)
    state, history = jax.lax.scan(epoch, state, length=epochs)
    history = history._replace(loss=history.loss.reshape(-1))
    return FitResult(state.params, state.model_state, state.opt_state, history)


def check_run(
    model: Layer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    train: Examples,
    *,
    key: PRNGKeyArray,
    epochs: int,
    batch_size: int,
    validation: Examples | None,
    metrics: Metrics | None,
    penalty: Penalty | None,
    data_key: PRNGKeyArray | None,
    sampling: Sampling,
    preprocess: Preprocess | None,
    augment: Augment | None,
    batch_sharding: NamedSharding | None,
) -> Metrics:
    """Refuse arguments that do not fit, in one sentence, before anything is compiled; return the metrics."""
    check_arguments(
        model,
        loss,
        optimizer,
        train,
        key=key,
        epochs=epochs,
        batch_size=batch_size,
        validation=validation,
        metrics=metrics,
        penalty=penalty,
        data_key=data_key,
        sampling=sampling,
        preprocess=preprocess,
        augment=augment,
        batch_sharding=batch_sharding,
    )

    # On shapes alone: what does not fit together is found before compiling.
    def infer(key: PRNGKeyArray, x: Array) -> Array:
        state = init_state(model, optimizer, x.shape[1:], key)
        x = x if preprocess is None else preprocess(x)
        outputs, _ = model.apply(state.params, state.model_state, x, training=False)
        return outputs

    def step(key: PRNGKeyArray, x: Array, y: Array, metrics: Metrics) -> None:
        state = init_state(model, optimizer, x.shape[1:], key)
        train_step(model, loss, optimizer, state, x, y, penalty=penalty, preprocess=preprocess, augment=augment)
        for name, metric in metrics.items():
            mean_of_batch(name, metric(infer(key, x), y))

    for name, examples in {"train": train, "validation": validation}.items():
        if examples is None:
            continue
        x, y = (jax.ShapeDtypeStruct((batch_size, *part.shape[1:]), part.dtype) for part in examples)
        outputs = jax.eval_shape(infer, key, x)
        classes = outputs.shape[-1] if outputs.ndim == 2 else 0
        check_values(name, examples, classes)
        if metrics is None:
            has_labels = y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.integer) and classes > 1
            metrics = {"accuracy": accuracy} if has_labels else {}
        jax.eval_shape(functools.partial(step, metrics=metrics), key, x, y)
    assert metrics is not None
    return metrics


def _check_state(state: Any) -> None:
    if not isinstance(state, TrainState):
        raise TypeError(f"state must be a TrainState, as init_state makes it; got {type(state).__name__}")


class Keys(NamedTuple):
    """One key per purpose."""

    data: PRNGKeyArray
    layers: PRNGKeyArray
    augment: PRNGKeyArray


def split_by_purpose(key: PRNGKeyArray) -> Keys:
    return Keys(*jax.random.split(key, 3))
