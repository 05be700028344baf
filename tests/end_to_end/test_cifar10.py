"""The deep network on real photos."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxnn as nn


def flip(key, x):
    """Half of the photos seen in a mirror."""
    return jnp.where(jax.random.bernoulli(key, 0.5, (len(x), 1, 1, 1)), x[:, :, ::-1], x)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_convnet_learns_cifar10_in_six_epochs(cifar10_dir, seed):
    train, _, test = nn.data.load("cifar10", cifar10_dir)
    scale = nn.data.min_max(train.x, axis=None)
    model, epochs, batch_size = nn.convnet(), 6, 128
    schedule = optax.cosine_onecycle_schedule(epochs * (len(train.x) // batch_size), 0.005)

    def rate(step):
        with jax.numpy_dtype_promotion("standard"):  # optax multiplies truth values by numbers
            return schedule(step)

    @jax.jit
    def accuracy(key, train, test):
        result = nn.fit(
            model,
            nn.softmax_cross_entropy,
            nn.adam(rate),
            train,
            key=key,
            epochs=epochs,
            batch_size=batch_size,
            metrics={},
            preprocess=scale,
            augment=flip,
        )
        return nn.evaluate(model, result.params, result.model_state, test, preprocess=scale)["accuracy"]

    reached = accuracy(jax.random.key(seed), *jax.tree.map(jnp.asarray, (train, test)))
    assert reached >= 0.80, reached
