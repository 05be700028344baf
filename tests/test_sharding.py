import jax
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import cli, programs, runner, train_command
from jaxnn.older_jax import enable_x64
from jaxnn.sharding import check_batch_sharding, own_rows, place_rows, split_evenly

pytestmark = pytest.mark.little_optimized

four = pytest.mark.skipif(len(jax.devices()) < 4, reason="fewer than 4 devices")

MLP = nn.mlp([8], outputs=3, batch_norm=True, dropout=0.3)
CONVNET = nn.sequential(
    nn.conv2d(4, 3, nn.he()), nn.activation(nn.relu), nn.max_pool2d(2), nn.flatten(), nn.dense(3, nn.he())
)


def classes(count, shape, seed=0):
    """Examples of three classes, each around a point of its own."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    centres = np.random.default_rng(7).normal(size=(3, *shape))
    return nn.data.Dataset((centres[y] + rng.normal(size=(count, *shape))).astype(np.float32), y.astype(np.int32))


def assert_equal_to_rounding(found, expected):
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        other = dict(jax.tree_util.tree_leaves_with_path(found))[path]
        np.testing.assert_allclose(other, leaf, rtol=0, atol=1e-5, err_msg=str(path))


SETTINGS = {"key": jax.random.key(0), "epochs": 3, "batch_size": 24}


def train_from_host(train, validation, batch_sharding=None):
    return runner.train(
        MLP, nn.softmax_cross_entropy, nn.momentum(0.05), train, validation=validation, metrics={},
        batch_sharding=batch_sharding, **SETTINGS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return classes(101, (5,)), classes(31, (5,), seed=1)


@pytest.fixture(scope="module")
def expected(data):
    """What one device learns."""
    return train_from_host(*data)


@pytest.fixture
def split():
    return nn.data_parallel(jax.devices()[:4])


def assert_split(compiled, shape):
    """Each device has 6 of a batch's 24 examples, and nothing is exchanged but sums."""
    program = compiled.as_text()
    assert f"f32[6,{shape}]" in program and f"f32[24,{shape}]" not in program
    assert "all-reduce" in program and "all-gather" not in program and "all-to-all" not in program


@four
def test_fit_over_devices_equals_one_device(data, expected, split):
    def fit(train, validation):
        return nn.fit(
            MLP, nn.softmax_cross_entropy, nn.momentum(0.05), train, validation=validation, metrics={},
            batch_sharding=split, **SETTINGS,
        )  # fmt: skip

    compiled = jax.jit(fit).lower(*data).compile()
    result = compiled(*data)
    for part in ("params", "model_state", "opt_state", "history"):
        assert_equal_to_rounding(getattr(result, part), getattr(expected, part))
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(result.params))
    assert_split(compiled, "5")
    assert "f32[7,5]" in compiled.as_text()  # of 31 that are measured, 28 are shared


@four
def test_convolutions_over_devices_equal_one_device(split):
    train = classes(48, (8, 8, 1))
    optimizer = nn.sgd(0.1)
    state = nn.init_state(CONVNET, optimizer, (8, 8, 1), jax.random.key(0))

    def epoch(state, train, batch_sharding):
        return nn.train_epoch(
            CONVNET, nn.softmax_cross_entropy, optimizer, state, train, batch_size=24, sampling="in_order",
            batch_sharding=batch_sharding,
        )  # fmt: skip

    compiled = jax.jit(epoch, static_argnums=2).lower(state, train, split).compile()
    after, losses = compiled(state, train)
    expected, expected_losses = epoch(state, train, None)
    assert_equal_to_rounding((after.params, losses), (expected.params, expected_losses))
    assert_split(compiled, "8,8,1")


@four
def test_training_from_the_host_equals_one_device_and_each_device_holds_its_part(data, expected, split, monkeypatch):
    monkeypatch.setattr(programs, "MEASURED", 10)  # of 31: three batches of 8, one of 4, and 3 that are not shared
    placed = []
    place = programs.place_steps
    monkeypatch.setattr(programs, "place_steps", lambda *how: placed.append(place(*how)) or placed[-1])
    result = train_from_host(*data, split)
    for part in ("params", "model_state", "opt_state", "history"):
        assert_equal_to_rounding(getattr(result, part), getattr(expected, part))
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(result.params))
    for x, _ in placed:
        assert {shard.data.shape for shard in x.addressable_shards} == {(x.shape[0], x.shape[1] // 4, 5)}


@four
def test_training_over_devices_follows_how_jax_is_configured_in_this_thread(split):
    train = nn.data.Dataset(np.float64(X := np.arange(16.0).reshape(8, 2)), X[:, :1])
    with enable_x64(True):
        result = runner.train(
            nn.linear_regression(), nn.mean_squared_error, nn.sgd(0.001), train, key=jax.random.key(0), epochs=1,
            batch_size=8, validation=train, metrics={}, batch_sharding=split,
        )  # fmt: skip
    assert {leaf.dtype for leaf in jax.tree.leaves((result.params, result.history))} == {np.dtype(np.float64)}


@four
@pytest.mark.slow
def test_a_stream_over_devices_equals_one_device(data, expected, split):
    # The last batch of a pass over the validation data, of 7, cannot be shared.
    train, validation = (nn.data.stream(tuple(part)) for part in data)
    result = train_from_host(train, validation, split)
    for part in ("params", "model_state", "opt_state", "history"):
        assert_equal_to_rounding(getattr(result, part), getattr(expected, part))


@four
def test_a_process_brings_only_the_rows_of_its_devices(split):
    assert own_rows(split, 8).tolist() == list(range(8))
    assert own_rows(split, 7).tolist() == list(range(7))
    batch = np.arange(16.0, dtype=np.float32).reshape(8, 2)
    placed = place_rows(batch, split, 8)
    np.testing.assert_array_equal(placed, batch)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 2)}
    assert place_rows(batch[:7], split, 7).is_fully_replicated


@four
def test_evaluation_over_devices_counts_every_example_once(split):
    model = nn.mlp([4], outputs=3)
    params, model_state, _ = model.init(jax.random.key(0), (5,))
    for count in (3, 31):
        data = classes(count, (5,))
        once = nn.evaluate(model, params, model_state, data)["accuracy"]
        shared = nn.evaluate(model, params, model_state, data, batch_size=10, batch_sharding=split)["accuracy"]
        np.testing.assert_allclose(shared, once, atol=1e-6)


@pytest.mark.parametrize("examples, at_most, parts", [(1999, 1000, 8), (3, 1000, 4), (8, 10, 4), (50000, 1000, 128)])
def test_batches_that_devices_can_share(examples, at_most, parts):
    pieces = split_evenly(examples, at_most, parts)
    assert pieces.size % parts == pieces.tail % parts == 0
    assert 0 <= pieces.tail < pieces.size <= max(at_most, parts)
    assert 0 <= pieces.rest < parts
    assert pieces.steps * pieces.size + pieces.tail + pieces.rest == examples


@four
def test_devices_of_other_processes_alone_are_refused(monkeypatch, split):
    check_batch_sharding(split, 8)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="process 1 of 2 has none of the devices that share the batches; use devices"):
        check_batch_sharding(split, 8)


@four
def test_more_devices_than_training_examples(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_command, "number_of_parts", lambda split: 8)
    rows = "".join(f"{number},{number % 2}\n" for number in range(6))
    (tmp_path / "few.csv").write_text(f"x,label\n{rows}")
    out = str(tmp_path / "run")
    assert cli.main(["train", "--dataset", str(tmp_path / "few.csv"), "--devices", "4", "--out", out]) == 2
    said = capsys.readouterr().err
    assert said == "jaxnn: 8 devices cannot share batches of 4 training examples; use fewer --devices\n"


@four
def test_bad_batches_and_shardings_are_refused(types_unchecked, split):
    train = classes(101, (5,))
    with pytest.raises(ValueError, match="batch_size is 50, which 4 devices cannot share evenly; use a multiple of 4"):
        nn.fit(MLP, nn.softmax_cross_entropy, nn.sgd(0.1), train, key=jax.random.key(0), batch_size=50,
               batch_sharding=split)  # fmt: skip
    with pytest.raises(ValueError, match="use a multiple of 4"):
        runner.train(MLP, nn.softmax_cross_entropy, nn.sgd(0.1), nn.data.stream(tuple(train)), key=jax.random.key(0),
                     batch_size=50, batch_sharding=split)  # fmt: skip
    with pytest.raises(TypeError, match=r"batch_sharding must be made by data_parallel\(…\); got 4"):
        nn.fit(MLP, nn.softmax_cross_entropy, nn.sgd(0.1), train, key=jax.random.key(0), batch_sharding=4)
    with pytest.raises(ValueError, match="at least one device is needed"):
        nn.data_parallel([])
    with pytest.raises(ValueError, match="devices has a device twice"):
        nn.data_parallel([jax.devices()[0]] * 2)
