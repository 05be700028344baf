"""Bad input for training and searches: calls, each with a part of the sentence that refuses it."""

from pathlib import Path

import jax
import numpy as np

import jaxnn as nn
from jaxnn import runner
from tests.boundary_formulas import INFINITY, KEY, KEYS, NAN, PARAMS, WORDS, X, not_a_number, not_a_size
from tests.boundary_layers import NEVER, never

HERE = Path(__file__)
LABELS = np.array([0, 1, 2, 0])
DATA = nn.data.Dataset(X, LABELS)
DEVICE = jax.devices()[0]


def run_of(config, key):
    raise AssertionError("was traced before the refusal")


def not_data(call, name):
    """`call(data)`: what is no data set."""
    return [
        (lambda: call("a"), f"{name} must be a Dataset (x, y); got str"),
        (lambda: call((X, LABELS, X)), f"{name} must be a Dataset (x, y); got tuple"),
        (lambda: call(nn.data.Splits(DATA, DATA, DATA)), f"{name} must be a Dataset (x, y); got Splits (use {name}=splits.train)"),
        (lambda: call((X.tolist(), LABELS)), f"{name}.x must be an array; got list"),
        (lambda: call((X, WORDS)), f"{name}.y must hold numbers; got dtype object"),
        (lambda: call((X, LABELS[:3])), f"{name}.x has 4 examples and {name}.y has 3; they must be as many"),
        (lambda: call((X[:0], LABELS[:0])), f"{name} has no examples"),
        (lambda: call((X, LABELS[0])), f"{name}.y must be an array of examples; got a scalar"),
    ]  # fmt: skip


def not_devices(call):
    return [
        (lambda: call(3), "devices must be a list such as jax.devices(); got 3"),
        (lambda: call("cpu"), "devices must be a list such as jax.devices(); got 'cpu'"),
        (lambda: call(DEVICE), "devices must be a list such as jax.devices(); got"),
        (lambda: call(["cpu"]), "devices must be a list such as jax.devices(); it holds 'cpu'"),
        (lambda: call([]), "devices is empty; at least one device is needed"),
        (lambda: call([DEVICE, DEVICE]), "devices has a device twice"),
    ]


def not_a_key(call, name="key"):
    return [
        (lambda: call(7), f"{name} must be a PRNG key; got int (use jax.random.key(7))"),
        (lambda: call("a"), f"{name} must be a PRNG key; got str (use jax.random.key(0))"),
        (lambda: call(KEYS), f"{name} must be one key; got (3,) of them (use jax.vmap for many runs)"),
        (lambda: call(np.zeros((5, 2), np.uint32)), f"{name} must be one key; got (5,) of them"),
        (lambda: call(X[0]), f"{name} must be a PRNG key; got float32[3]"),
        (lambda: call(np.zeros(2, np.int32)), f"{name} must be a PRNG key; got int32[2]"),
    ]


def not_a_compute_dtype(call):
    return [
        (lambda: call("narrow"), "compute_dtype must be a dtype such as jnp.bfloat16; got 'narrow'"),
        (lambda: call(X), "compute_dtype must be a dtype such as jnp.bfloat16; got an array"),
        (lambda: call(np.float64), "compute_dtype must be bfloat16 or float32; got float64"),
        (lambda: call("int8"), "compute_dtype must be bfloat16 or float32; got int8"),
        (lambda: call(np.float16), "compute_dtype float16 would need its loss scaled, or small gradients are 0; use bfloat16"),
    ]  # fmt: skip


def evaluate(model=NEVER, params=PARAMS, model_state=None, data=DATA, metrics=None, **settings):
    return nn.evaluate(model, params, {} if model_state is None else model_state, data, metrics, **settings)


def sweep(run=run_of, configs=None, key=KEY, **settings):
    return nn.sweep(run, {"rate": [0.1, 0.2]} if configs is None else configs, key=key, progress=False, **settings)


SPACE = nn.SearchSpace(rate=nn.uniform(0.0, 1.0))


def search(run=run_of, space=SPACE, key=KEY, **settings):
    return nn.random_search(run, space, key=key, progress=False, **settings)


def not_runs(call):
    """What neither a sweep nor a search can run."""
    return [
        (lambda: call(run=3), "run must be a function (config, key"),
        (lambda: call(run=None), "run must be a function (config, key"),
        *not_a_key(lambda key: call(key=key)),
        *not_a_size(lambda seeds: call(seeds=seeds), "seeds"),
        *not_a_size(lambda most: call(max_parallel=most), "max_parallel"),
        *not_devices(lambda devices: call(devices=devices)),
    ]


def not_a_range(make, name):
    return [
        (lambda: make("a", 1.0), f"{name}'s low must be a number; got 'a'"),
        (lambda: make(0.1, None), f"{name}'s high must be a number; got None"),
        (lambda: make(0.1, True), f"{name}'s high must be a number; got True"),
        (lambda: make(NAN, 1.0), f"{name}'s low must be finite"),
        (lambda: make(0.1, INFINITY), f"{name}'s high must be finite"),
        (lambda: make(1.0, 0.5), f"{name}: low is 1, which is not below high, 0.5"),
        (lambda: make(0.5, 0.5), f"{name}: low is 0.5, which is not below high, 0.5"),
        (lambda: make(0.1, 1e39), f"{name}: 1e+39 is out of the range of float32"),
        (lambda: make(0.1, np.ones(2)), f"{name}'s high must be a scalar; got an array of shape (2,)"),
    ]


SEARCHES = {
    "evaluate": [
        (lambda: evaluate(nn.relu), "model must be a Layer, such as mlp([100], outputs=10); got function"),
        (lambda: evaluate(metrics="accuracy"), "metrics must be a dict such as {'accuracy': accuracy}; got str"),
        (lambda: evaluate(metrics=[nn.accuracy]), "metrics must be a dict such as {'accuracy': accuracy}; got list"),
        (lambda: evaluate(metrics={"accuracy": 3}), "metric 'accuracy' must be a function (outputs, targets) -> scalar"),
        (lambda: evaluate(preprocess=X), "preprocess must be a function (x) -> x; got an array"),
        (lambda: evaluate(batch_sharding=4), "batch_sharding must be made by data_parallel(…); got 4"),
        *not_data(lambda data: evaluate(data=data), "data"),
        *not_a_size(lambda size: evaluate(batch_size=size), "batch_size"),
    ],
    "data_parallel": not_devices(nn.data_parallel),
    "sweep": [
        *not_runs(sweep),
        (lambda: sweep(configs=3), "configs is 3; expected a column"),
        (lambda: sweep(configs={"rate": 0.1}), "configs: rate is 0.1; expected a column: an array or a list with a value for each config"),
        (lambda: sweep(configs=[]), "configs is empty: there is nothing to run"),
        (lambda: sweep(configs={"rate": np.array(["a"])}), "configs: rate is an array of <U1; give words as a list"),
        (lambda: sweep(configs={"rate": [0.1], "width": [1, 2]}), "configs: rate has 1 values and width has 2"),
        (lambda: nn.sweep(run_of, {"rate": [0.1]}, key=KEY, progress="yes"), "progress must be True or False; got 'yes'"),
    ],
    "random_search": [
        *not_runs(search),
        (lambda: search(space={"rate": 0.1}), "space must be a SearchSpace, such as SearchSpace(rate=log_uniform(1e-6, 1e-2)); got a dict of rate"),
        *not_a_size(lambda trials: search(trials=trials), "trials"),
        *not_a_size(lambda rounds: search(rounds=rounds), "rounds"),
        *not_a_number(lambda keep: search(keep=keep), "keep"),
        (lambda: search(keep=1), "keep must be finite and above 0 and below 1; got 1"),
        (lambda: search(trials=5), "keep=0.2 of 5 trials is 1; two or more are needed to make a range"),
        (lambda: search(mode="most"), "unknown mode 'most': there are max, min"),
        (lambda: search(metric=3), "metric must be a name, a function, or a tuple of names; got 3"),
        (lambda: search(metric=("loss", 3)), "metric must be a name, a function, or a tuple of names; got ('loss', 3)"),
        (lambda: search(metric=["loss"]), "metric must be a name, a function, or a tuple of names; got ['loss']"),
        (lambda: search(halving="yes"), "halving must be True or False; got 'yes'"),
        *not_a_size(lambda stages: search(halving=True, stages=stages), "stages"),
        (lambda: search(halving=True, seeds=2), "seeds is 2; with halving each trial is run with one"),
    ],
    "uniform": not_a_range(nn.uniform, "uniform"),
    "log_uniform": [
        *not_a_range(nn.log_uniform, "log_uniform"),
        (lambda: nn.log_uniform(0.0, 1.0), "log_uniform's low must be finite and above 0; got 0"),
        (lambda: nn.log_uniform(-1.0, 1.0), "log_uniform's low must be finite and above 0; got -1"),
    ],
    "integers": [
        (lambda: nn.integers(1.5, 3), "integers' low must be a whole number; got 1.5"),
        (lambda: nn.integers(1, True), "integers' high must be a whole number; got True"),
        (lambda: nn.integers(None, 3), "integers' low must be a whole number; got None"),
        (lambda: nn.integers(3, 1), "integers: low is 3, which is above high, 1"),
        (lambda: nn.integers(1, 2**31), "integers' high must be below 2147483648"),
    ],
    "choice": [
        (lambda: nn.choice(), "choice needs at least one option"),
        (lambda: nn.choice("a", "a"), "choice has the option 'a' twice"),
        (lambda: nn.choice(X, X), "choice takes numbers, words, tuples and functions; got an array"),
        (lambda: nn.choice([1, 2], [3]), "choice takes numbers, words, tuples and functions; got the list [1, 2]"),
        (lambda: nn.choice({"rate": 1}), "choice takes numbers, words, tuples and functions; got the dict"),
        (lambda: nn.choice(0.1, NAN), "option must be finite; got nan"),
        (lambda: nn.choice(1, INFINITY), "option must be finite; got inf"),
    ],
    "SearchSpace": [
        (lambda: nn.SearchSpace(), "a SearchSpace needs at least one range, such as learning_rate=log_uniform(1e-6, 1e-2)"),
        *(
            (lambda wrong=wrong: nn.SearchSpace(rate=wrong), "rate must be uniform(…), log_uniform(…), integers(…) or choice(…); got")
            for wrong in (0.1, "uniform", None, (0.0, 1.0), nn.uniform, X)
        ),
    ],
    "SearchSpace.sample": [
        *not_a_key(lambda key: SPACE.sample(key, 3)),
        *not_a_size(lambda trials: SPACE.sample(KEY, trials), "trials"),
    ],
}  # fmt: skip


def settings_of_a_run(call):
    """`call` takes the arguments of `fit` by name."""
    return [
        (lambda: call(model=nn.relu), "model must be a Layer, such as mlp([100], outputs=10); got function"),
        (lambda: call(model=None), "model must be a Layer, such as mlp([100], outputs=10); got NoneType"),
        (lambda: call(loss="mse"), "loss must be a function (outputs, targets) -> scalar; got str 'mse'"),
        (lambda: call(loss=None), "loss must be a function (outputs, targets) -> scalar; got NoneType"),
        (lambda: call(optimizer=0.1), "optimizer must be made by sgd(…), adam(…) or optax; got float"),
        (lambda: call(optimizer=nn.sgd), "optimizer must be made by sgd(…), adam(…) or optax; got function"),
        (lambda: call(penalty=0.1), "penalty must be a function (params) -> scalar; got float 0.1"),
        (lambda: call(preprocess=X), "preprocess must be a function (x) -> x; got an array of float32 and shape (4, 3)"),
        (lambda: call(augment="flip"), "augment must be a function (key, x) -> x; got str 'flip'"),
        (lambda: call(batch_sharding=4), "batch_sharding must be made by data_parallel(…); got 4"),
        (lambda: call(batch_sharding="cpu"), "batch_sharding must be made by data_parallel(…); got 'cpu'"),
    ]  # fmt: skip


def settings_of_epochs(call):
    return [
        *not_data(lambda data: call(train=data), "train"),
        *not_a_size(lambda size: call(batch_size=size), "batch_size"),
        (lambda: call(batch_size=5), "batch_size is 5, but there are only 4 training examples"),
        (lambda: call(batch_size=3, batch_sharding=nn.data_parallel([DEVICE, jax.devices()[-1]])), "batch_size is 3, which 2 devices cannot share evenly; use a multiple of 2"),
        (lambda: call(sampling="shufle"), "unknown sampling 'shufle': did you mean shuffle?"),
        (lambda: call(sampling=None), "unknown sampling None"),
        *not_a_key(lambda key: call(data_key=key), "data_key"),
    ]  # fmt: skip


def settings_of_a_whole_run(call):
    return [
        *settings_of_a_run(call),
        *settings_of_epochs(call),
        *not_a_key(lambda key: call(key=key)),
        *not_a_size(lambda epochs: call(epochs=epochs), "epochs"),
        *not_data(lambda data: call(validation=data), "validation"),
        (lambda: call(validation=(X[:, :2], LABELS)), "validation.x has examples of shape (2,), and train.x of (3,)"),
        (lambda: call(metrics=[nn.accuracy]), "metrics must be a dict such as {'accuracy': accuracy}; got list"),
        (lambda: call(metrics={"hits": 3}), "metric 'hits' must be a function (outputs, targets) -> scalar; got int 3"),
        (lambda: call(metrics={"loss": never}), "a metric cannot be called 'loss'"),
        *not_a_compute_dtype(lambda dtype: call(compute_dtype=dtype)),
    ]


def arguments(**changed):
    """Those of a run, but for what is changed: of the model, the loss and the optimizer none may be called."""
    optimizer = nn.sgd(0.1)._replace(init=never, update=never)
    return {"model": NEVER, "loss": never, "optimizer": optimizer} | changed


def whole_run(train):
    return lambda **changed: train(**arguments(train=DATA, key=KEY, batch_size=2) | changed)


STATE = nn.TrainState(PARAMS, {}, (), KEY, np.int32(0))


def init_state(**changed):
    return nn.init_state(**{"model": NEVER, "optimizer": nn.sgd(0.1), "input_shape": (3,), "key": KEY} | changed)


def train_step(**changed):
    return nn.train_step(**arguments(state=STATE, x=X, y=LABELS) | changed)


def train_epoch(**changed):
    return nn.train_epoch(**arguments(state=STATE, train=DATA, batch_size=2) | changed)


def not_a_state(call):
    return [
        (lambda: call(state=PARAMS), "state must be a TrainState, as init_state makes it; got dict"),
        (lambda: call(state=None), "state must be a TrainState, as init_state makes it; got NoneType"),
        (lambda: call(state=tuple(STATE)), "state must be a TrainState, as init_state makes it; got tuple"),
    ]


def not_a_path(call, name="path"):
    return [
        (lambda: call(3), f"{name} must be a path, as a text or a Path; got"),
        (lambda: call(None), f"{name} must be a path, as a text or a Path; got"),
        (lambda: call([str(HERE)]), f"{name} must be a path, as a text or a Path; got"),
    ]


def checkpoints(**changed):
    return nn.Checkpoints(**{"folder": "nowhere"} | changed)


TRAINING = {
    "fit": settings_of_a_whole_run(whole_run(nn.fit)),
    "runner.train": [
        *settings_of_a_whole_run(whole_run(runner.train)),
        (lambda: whole_run(runner.train)(checkpoints="runs"), "checkpoints must be Checkpoints(folder, …); got str"),
        (lambda: whole_run(runner.train)(on_divergence="go on"), "unknown on_divergence 'go on'"),
        (lambda: whole_run(runner.train)(warn=None), "warn must be a function (sentence) -> None; got NoneType"),
        # Wait for a check in runner.py:
        (lambda: whole_run(runner.train)(report="print"), "report must be a function (epoch) -> None; got str 'print'"),
        (lambda: whole_run(runner.train)(debug_nans=1), "debug_nans must be True or False; got 1"),
    ],
    "mixed_precision": [
        *not_a_compute_dtype(lambda dtype: nn.mixed_precision(NEVER, dtype)),
        (lambda: nn.mixed_precision(NEVER, None), "compute_dtype must be a dtype such as jnp.bfloat16; got None"),
        (lambda: nn.mixed_precision(nn.relu), "model must be a Layer, such as mlp([100], outputs=10); got function"),
        (lambda: nn.mixed_precision(NEVER).apply({}, {}, "a"), "x must be an array; got str"),
        (lambda: nn.mixed_precision(NEVER).apply(None, {}, X), "params must be a dict; got None"),
    ],
    "init_state": [
        *not_a_key(lambda key: init_state(key=key)),
        # Wait for checks in training.py, as most of train_step's and train_epoch's do:
        (lambda: init_state(model=nn.relu), "model must be a Layer, such as mlp([100], outputs=10); got function"),
        (lambda: init_state(optimizer=0.1), "optimizer must be made by sgd(…), adam(…) or optax; got float"),
        (lambda: init_state(input_shape=3), "input_shape must be a tuple of whole numbers; got 3"),
        (lambda: init_state(input_shape=(3.0,)), "every size in input_shape must be a whole number; got 3.0"),
        (lambda: init_state(input_shape=X), "input_shape must be a tuple of whole numbers; got an array of float32"),
    ],
    "train_step": [
        *settings_of_a_run(train_step),
        *not_a_state(train_step),
        (lambda: train_step(x="a"), "the batch.x must be an array; got str"),
        (lambda: train_step(y=LABELS.tolist()), "the batch.y must be an array; got list"),
        (lambda: train_step(y=LABELS[:3]), "the batch.x has 4 examples and the batch.y has 3; they must be as many"),
    ],
    "train_epoch": [
        *settings_of_a_run(train_epoch),
        *settings_of_epochs(train_epoch),
        *not_a_state(train_epoch),
        *not_a_size(lambda steps: train_epoch(steps=steps), "steps"),
        (lambda: train_epoch(steps=3), "steps must be below 3; got 3"),
    ],
    "Checkpoints": [
        (lambda: checkpoints(folder=3), "folder must be a path; got int"),
        (lambda: checkpoints(folder=None), "folder must be a path; got NoneType"),
        *not_a_number(lambda seconds: checkpoints(seconds=seconds), "seconds"),
        (lambda: checkpoints(seconds=-1), "seconds must be finite and at least 0; got -1"),
        *not_a_size(lambda keep: checkpoints(keep=keep), "keep"),
        (lambda: checkpoints(best="speed"), "best must name an accuracy, a loss or an error, such as validation/accuracy; got 'speed'"),
        (lambda: checkpoints(best=3), "best must name an accuracy, a loss or an error"),
        # Wait for checks in checkpoint_folder.py:
        (lambda: checkpoints(resume="yes"), "resume must be True or False; got 'yes'"),
        (lambda: checkpoints(config=[1]), "config must be a dict; got [1]"),
    ],
    # No path, no tree of arrays, no dict: they wait for checks in weights.py.
    "export": [
        *not_a_path(lambda path: nn.export(path, PARAMS)),
        (lambda: nn.export("weights.txt", PARAMS), "weights.txt: weights are kept in files that end in .safetensors or .npz"),
        (lambda: nn.export("nowhere.npz", PARAMS, about={}), "nowhere.npz: an .npz has no place for what is said about it"),
        (lambda: nn.export("nowhere.npz", {"W": "a"}), "tree must hold arrays; its W is a str"),
        (lambda: nn.export("nowhere.npz", {"W": WORDS}), "W is of dtype object"),
        (lambda: nn.export("nowhere.safetensors", {"a/b": X, "a": {"b": X}}), "two leaves would both be named 'a/b'"),
        (lambda: nn.export("nowhere.safetensors", PARAMS, about=[1]), "about must be a dict; got [1]"),
    ],
    "load_weights": [
        *not_a_path(lambda path: nn.load_weights(path, PARAMS)),
        (lambda: nn.load_weights("weights.txt", PARAMS), "weights.txt: weights are kept in files that end in .safetensors or .npz"),
        (lambda: nn.load_weights("nowhere.npz", PARAMS), "nowhere.npz: cannot be read (No such file or directory)"),
        (lambda: nn.load_weights("nowhere.safetensors", PARAMS), "nowhere.safetensors: cannot be read (No such file"),
        (lambda: nn.load_weights("nowhere.npz", {"W": "a"}), "like must hold arrays; its W is a str"),
    ],
}  # fmt: skip
