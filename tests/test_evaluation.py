"""`evaluate` against float64 NumPy, with a last batch of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn

pytestmark = pytest.mark.little_optimized

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(50, 6)).astype(np.float32)
Y = RANDOM.integers(0, 3, 50).astype(np.int32)
DATA = nn.data.Dataset(X, Y)


@pytest.mark.parametrize("batch_size", [7, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 49, 50, 1000))])
def test_evaluate_weighs_every_example_once(batch_size):
    model = nn.mlp([5], 3, batch_norm=True, dropout=0.5)
    result = nn.fit(model, nn.softmax_cross_entropy, nn.sgd(0.1), DATA, key=jax.random.key(0), epochs=3, batch_size=8)
    outputs, _ = model.apply(result.params, result.model_state, jnp.asarray(X))
    outputs = np.asarray(outputs, np.float64)
    log_p = outputs - np.log(np.exp(outputs).sum(1, keepdims=True))
    measured = nn.evaluate(
        model,
        result.params,
        result.model_state,
        DATA,
        {"accuracy": nn.accuracy, "loss": nn.softmax_cross_entropy},
        batch_size=batch_size,
    )
    np.testing.assert_allclose(measured["accuracy"], (outputs.argmax(1) == Y).mean(), rtol=1e-6)
    np.testing.assert_allclose(measured["loss"], -log_p[np.arange(50), Y].mean(), rtol=1e-5)
