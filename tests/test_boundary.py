"""Every public function refuses bad input with one clear sentence, and before any work.

The tables call each of them in ways that are wrong, and hold a part of the sentence that comes.
"""

import inspect
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.older_jax import unregister
from tests.boundary_data import FILES
from tests.boundary_formulas import FORMULAS, IMAGES, KEY, X
from tests.boundary_interop import INTEROP
from tests.boundary_layers import LAYERS, MODELS
from tests.boundary_training import LABELS, SEARCHES, TRAINING

TABLE = FORMULAS | LAYERS | MODELS | SEARCHES | TRAINING | FILES | INTEROP
CASES = [
    pytest.param(call, sentence, id=f"{name}-{number}")
    for name, cases in TABLE.items()
    for number, (call, sentence) in enumerate(cases)
]
PACKAGE = str(Path(nn.__file__).parent)
WITHOUT_ARGUMENTS = {"data.sources"}
# Types whose arguments are what a function has found, or its own to check.
RESULTS = {
    "data.Dataset", "data.Description", "data.Loaded", "data.Parts", "data.Preview", "data.Source", "data.Splits",
    "data.DataReport", "data.Finding", "data.PartReport", "data.Stream", "data.MinMax", "data.Standardize",
    "FitResult", "GradientReport", "History", "Layer", "LeafReport", "SearchResult", "SweepResult", "TrainState",
}  # fmt: skip
JARGON = ("Traced<", "ShapedArray", "Tracer", "Jaxpr", "jaxpr", "abstract array", "aval", "0x")


@pytest.fixture
def work():
    """What JAX has traced, lowered or compiled since."""
    done = []

    def listen(event, seconds, **about):
        if event.startswith("/jax/core/compile/"):
            done.append(event)

    jax.clear_caches()  # or what another case has compiled would go unnoticed
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield done
    unregister(listen, "event_duration")


@pytest.mark.parametrize("call, sentence", CASES)
def test_one_sentence_before_any_work(call, sentence, work, types_unchecked):
    with pytest.raises((ValueError, TypeError)) as raised:
        call()
    said = str(raised.value)
    assert sentence in said
    assert said == " ".join(said.split("\n")), "more than one line"
    assert len(said) < 400
    assert not any(word in said for word in JARGON)
    assert traceback.extract_tb(raised.tb)[-1].filename.startswith(PACKAGE), "another library's sentence"
    assert work == [], "something was traced or compiled"


def public_names():
    for prefix, room in {"": nn, "convolution.": nn.convolution, "data.": nn.data}.items():
        names = room.__all__ if room is nn.convolution else dir(room)
        for name in names:
            value = getattr(room, name)
            if callable(value) and not name.startswith("_") and getattr(value, "__module__", "").startswith("jaxnn"):
                yield prefix + name, value


def test_no_public_function_is_left_out():
    public = dict(public_names())
    errors = {name for name, value in public.items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert len(public) > 90
    assert public.keys() - errors - RESULTS - WITHOUT_ARGUMENTS <= TABLE.keys()
    assert public.keys() >= RESULTS | WITHOUT_ARGUMENTS


@pytest.mark.parametrize("name", TABLE)
def test_at_least_five_bad_inputs(name):
    assert len(TABLE[name]) >= 5


OLD_KEY = jax.random.PRNGKey(0)
NUMBER = jax.ShapeDtypeStruct((), np.float32)
OPTIMIZERS = {
    nn.sgd: (), nn.momentum: ("momentum",), nn.nesterov: ("momentum",), nn.adagrad: ("eps", "initial_accumulator"),
    nn.rmsprop: ("decay", "eps", "momentum"), nn.adam: ("beta1", "beta2", "eps"),
    nn.adamw: ("beta1", "beta2", "eps", "weight_decay"), nn.lion: ("beta1", "beta2", "weight_decay"),
    nn.muon: ("momentum", "weight_decay", "consistent_rms"),
}  # fmt: skip


@pytest.mark.parametrize("make", OPTIMIZERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("rate", ["traced", 0, np.array(0.1), optax.exponential_decay(0.1, 10, 0.5)])
def test_optimizers_take_numbers_that_are_traced_and_schedules(make, rate, types_unchecked):
    params = {"W": X, "b": 1.0}

    def step(number, params):
        rated = make(number if rate == "traced" else rate, **dict.fromkeys(OPTIMIZERS[make], number))
        return rated.update(params, rated.init(params), params)

    updates, _ = jax.eval_shape(step, NUMBER, params)
    assert updates["W"].shape == X.shape


@pytest.mark.parametrize(
    "call, given",
    [
        *((function, x) for function in (nn.identity, nn.relu, nn.sign, nn.sigmoid, nn.tanh, nn.leaky_relu) for x in (X, 0.5, np.float16(1))),
        (nn.softmax, X),
        (lambda slope: nn.leaky_relu(X, slope), 0.1),
        *((lambda y, loss=loss: loss(X, y), LABELS.astype(kind)) for loss in (nn.cross_entropy, nn.accuracy) for kind in (np.uint8, np.int64)),
        *((lambda x, loss=loss: loss(x, LABELS), X.astype(jnp.bfloat16)) for loss in (nn.softmax_cross_entropy, nn.confusion_matrix)),
        (lambda rows: nn.softmax_cross_entropy(X, rows), np.eye(4, 3, dtype=np.int32)),
        (lambda y: nn.mean_squared_error(X, y), X.astype(np.uint8)),
        (lambda decay: nn.l2_penalty(decay)({"W": X, "b": 1.0, "steps": 3}), 0.1),
        *((lambda key, make=make: make(key, (3, 2)), key) for make in (nn.zeros, nn.constant(1), nn.normal(), nn.xavier(), nn.he()) for key in (KEY, OLD_KEY)),
        (lambda std: nn.normal(std)(np.asarray(OLD_KEY), [np.int64(3), 0], "bfloat16"), 0.1),
        *((lambda key: nn.mlp([5], 2, batch_norm=True).init(key, (3,))[0], key) for key in (KEY, OLD_KEY)),
        (lambda key: nn.dropout(0.5).apply({}, {}, X, training=np.True_, key=key), OLD_KEY),
        (lambda rate: nn.dropout(rate).apply({}, {}, X, training=True, key=KEY), 0.1),
        (lambda eps: nn.batch_norm(0, eps).apply({"gamma": X[0], "beta": X[0]}, {"mean": X[0], "var": X[0], "count": LABELS[1]}, X), 0.1),
        (lambda x: nn.flatten().apply({}, {}, x), IMAGES > 0),
        (lambda x: nn.convolution.conv2d(x, np.ones((2, 2, 3, 1), np.float32), stride=np.int64(2), padding="SAME"), IMAGES),
        (lambda x: nn.data.min_max(X)(x), X > 0),
    ],
)  # fmt: skip
def test_what_is_right_passes_as_an_array_of_numpy_and_traced(call, given, types_unchecked):
    """By shapes alone: nothing is compiled."""
    jax.eval_shape(call, given)
    jax.eval_shape(lambda: call(given))
