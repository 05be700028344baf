"""The benchmarks: what they refuse to compare, their arithmetic, their command. No time is asserted here."""

import importlib.util
import json
import math
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import reading, report, scale, two_layer_net
from benchmarks.__main__ import main
from benchmarks.catalogue import catalogue, find, groups
from benchmarks.data import flat_images, images
from benchmarks.judge import faults, geometric_mean, judge
from benchmarks.measure import ContenderError, Measured, Worker, machine, measure_row
from benchmarks.row import COMPUTING, IN_TURNS, OURS, READING, Contender, Row
from jaxnn.data.streaming import stream


def a_row(**changes):
    settings = {
        "group": "a_row",
        "name": "a_row",
        "work": "some work",
        "unit": "ms a step",
        "units": 10,
        "operations": 2e6,
        "contenders": {},
        "target": 0.5,
    }
    return Row(**(settings | changes))


def measured(seconds, value=1.0, **more):
    return Measured(seconds=seconds, values=[value], first_seconds=9.0, **more)


def test_a_contender_that_does_not_learn_is_caught():
    """The textbook's loop in NumPy, beside itself with a rate of 0 and with one that is too small."""
    contenders = {"right": 0.1, "right too": 0.1, "no step": 0.0, "half a step": 0.05}
    runs = {name: two_layer_net.numpy_textbook(10_000, rate) for name, rate in contenders.items()}
    values = {name: np.mean([run(), run()]) for name, run in runs.items()}
    found = faults(values, margin=0.05, below=2.25)
    assert found.keys() == {"no step", "half a step"}
    assert "has not fallen below 2.25" in found["no step"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_wrong(value):
    assert faults({"a": 1.0, "b": value}, margin=0.1, below=None).keys() == {"b"}


def test_when_two_disagree_neither_is_believed():
    assert faults({"a": 1.0, "b": 2.0}, margin=0.1, below=None).keys() == {"a", "b"}


def test_ratio_floor_and_memory():
    shown = {
        OURS: measured([0.02, 0.01, 0.9], peak_megabytes=100.0),
        "PyTorch eager": measured([0.08, 0.1, 0.2], peak_megabytes=400.0),
        "PyTorch compiled": measured([0.05, 0.05, 0.05], peak_megabytes=50.0),
    }
    result = judge(a_row(), shown, 1e10)
    assert result["ours"] == pytest.approx(2.0)  # the median, in ms a step
    assert result["best_peer"] == "PyTorch compiled"
    assert result["ratio"] == pytest.approx(0.4)
    assert result["floor"] == pytest.approx(0.2)
    assert result["floors"] == pytest.approx(10)
    assert result["memory_ratio"] == pytest.approx(2)
    assert result["verdict"] == "met"
    assert judge(a_row(target=0.3), shown, 1e10)["verdict"] == "missed"
    assert judge(a_row(floors_target=5), shown, 1e10)["verdict"] == "missed"
    assert judge(a_row(seconds_target=0.03), shown, 1e10)["verdict"] == "met"
    assert judge(a_row(against=("PyTorch eager",)), shown, 1e10)["ratio"] == pytest.approx(0.2)


def test_the_floor_of_what_only_moves_memory():
    result = judge(a_row(operations=0, bytes_moved=8e6), {OURS: measured([0.02])}, 4e9)
    assert result["floor"] == pytest.approx(2.0)  # ms a step
    assert result["floors"] == pytest.approx(1.0)
    assert (result["memory_rate"], result["product_rate"]) == (4e9, None)


def test_a_fast_wrong_answer_has_no_ratio():
    right = {name: measured([1.0]) for name in ("PyTorch", "NumPy")}
    result = judge(a_row(), {OURS: measured([0.01], value=5.0), **right}, 1e10)
    assert (result["ratio"], result["ours"]) == (None, None)
    assert result["verdict"].startswith("wrong: 5")


def test_a_fast_wrong_peer_is_not_the_best_peer():
    shown = {OURS: measured([1.0]), "NumPy": measured([2.0]), "wrong": measured([0.1], value=5.0)}
    result = judge(a_row(), shown, 1e10)
    assert (result["best_peer"], result["ratio"]) == ("NumPy", 0.5)


def test_a_failed_peer_takes_no_part():
    result = judge(a_row(), {OURS: measured([1.0]), "PyTorch": Measured(failed="no compiler")}, 1e10)
    assert (result["ratio"], result["verdict"]) == (None, "no peer")
    assert result["contenders"]["PyTorch"]["fault"] == "failed: no compiler"


def test_the_share_that_is_hidden():
    shown = {
        OURS: measured([0.05]),
        IN_TURNS: measured([0.08]),
        READING: measured([0.03], value=192.0),
        COMPUTING: measured([0.04]),
        "PyTorch": measured([0.06]),
    }
    result = judge(a_row(target=None, hidden_target=0.8), shown, 1e10)
    assert result["hidden"] == pytest.approx(1.0)
    assert result["verdict"] == "met"
    assert result["best_of_all_peers"] == "PyTorch"  # a part of the work is no peer
    shown[OURS] = measured([0.06])
    assert judge(a_row(target=None, hidden_target=0.8), shown, 1e10)["verdict"] == "missed"
    del shown[READING]
    result = judge(a_row(target=None, hidden_target=0.8), shown, 1e10)
    assert (result["hidden"], result["verdict"]) == (None, "missed")


def test_reading_by_hand_is_in_the_streams_order():
    source = reading.Delayed(2 * reading.BATCH)
    data = stream(source, threads=2)
    for index, (x, y) in zip(reading.order(2), data.batches(reading.BATCH, key=jax.random.key(1)), strict=True):
        by_hand = reading.read(source, index)
        np.testing.assert_array_equal(x, by_hand[0])
        np.testing.assert_array_equal(y, by_hand[1])


def test_the_value_of_a_search_depends_on_learning_more_than_on_draws():
    rng = np.random.default_rng(0)
    row = find("search", quick=False)

    def value(learning, trials=100):
        rates = np.exp(rng.uniform(*np.log(scale.RATES), trials))
        expected = np.clip(0.85 - learning * 0.75 * np.log10(rates / scale.LEARNING_FROM), 0.1, 0.9)
        return scale.at_middle_rate(rates, expected + rng.normal(0, 0.05, trials))

    values = {number: value(learning=1) for number in range(20)}
    assert faults(values, margin=row.margin, below=row.below) == {}
    assert faults({"no step": value(learning=0)}, margin=row.margin, below=row.below).keys() == {"no step"}


def test_geometric_mean():
    assert geometric_mean([{"ratio": 0.5}, {"ratio": 2.0}]) == pytest.approx(1)
    assert geometric_mean([{"ratio": 0.5}, {"ratio": None}]) is None


def test_unknown_name(capsys):
    assert main(["two_layer_net", "three_layer_net"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "'three_layer_net'" in said
    assert all(name in said for name in groups())


def test_list(capsys):
    assert main(["--list"]) == 0
    said = capsys.readouterr().out
    assert [line.partition(":")[0] for line in said.splitlines()] == list(groups())


def test_names_are_unique_and_the_short_form_has_the_same_rows():
    names = [row.name for row in catalogue(quick=False)]
    assert len(set(names)) == len(names)
    assert names == [row.name for row in catalogue(quick=True)]


def test_images_have_something_to_learn():
    x, y = images(2000, 32, 3)
    assert (x.shape, x.dtype) == ((2000, 32, 32, 3), np.uint8)
    assert set(y) == set(range(10))
    x, y = flat_images(2000)
    means = np.stack([x[y == label].mean(0) for label in range(10)])
    nearest = ((x[:, None].astype(float) - means) ** 2).sum(2).argmin(1)
    assert 0.8 < (nearest == y).mean() < 0.95  # a tenth of the labels is noise


def test_a_worker_runs_and_tells_its_memory():
    worker = Worker(find("two_layer_net", quick=True), "NumPy", quick=True)
    try:
        seconds, value = worker.run()
        assert seconds > 0
        assert 0 < value < 3
        assert 10 < worker.end() < 1000
    finally:
        worker.close()


@pytest.mark.slow
def test_a_worker_does_not_count_the_memory_of_who_started_it():
    large = np.ones(2**27)  # 1 GB
    worker = Worker(find("two_layer_net", quick=True), "NumPy", quick=True)
    try:
        worker.run()
        assert 10 < worker.end() < large.nbytes / 2**20
    finally:
        worker.close()


def test_a_worker_that_fails_says_why():
    with pytest.raises(ContenderError, match="KeyError: 'nobody'"):
        Worker(find("two_layer_net", quick=True), "nobody", quick=True)


@pytest.mark.slow
def test_a_row_end_to_end(tmp_path):
    """Measured, judged, written and drawn: jaxnn, NumPy, one that fails and one that is not installed."""
    row = find("two_layer_net", quick=True)
    contenders = {name: row.contenders[name] for name in (OURS, "NumPy")}
    contenders |= {"nobody": Contender(lambda: None), "absent": Contender(lambda: None, ("no_such_package",))}
    settings = {name: getattr(row, name) for name in Row.__dataclass_fields__}
    row = Row(**(settings | {"contenders": contenders, "rounds": 1}))
    said = []
    shown, rate = measure_row(row, lambda: 1e11, quick=True, say=said.append)
    assert "absent is left out: no_such_package not installed" in said[0]
    result = judge(row, shown, rate)
    assert result["contenders"]["nobody"]["fault"] == "failed: KeyError: 'nobody'"
    assert result["best_peer"] == "NumPy"
    assert result["ratio"] > 0
    other = result | {"name": "measured earlier"}
    report.write([other], machine(), quick=True, folder=tmp_path)
    path = report.write([result], machine(), quick=True, folder=tmp_path)
    written = json.loads(path.read_text())
    assert [row["name"] for row in written["rows"]] == ["measured earlier", "two_layer_net"]
    assert "jax" in written["versions"]
    assert path.with_suffix(".png").stat().st_size > 1000


def test_the_programs_own_rows_need_no_peers_to_be_listed():
    """Peers are imported by the processes that run them, so the command works without them."""
    heavy = ["jax", "torch", "flax", "keras", "matplotlib"]
    program = f"import sys, benchmarks.__main__; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_pytorch_learns_the_same(types_unchecked):
    """jaxnn's and PyTorch's two-layer net, in one process."""
    import torch

    torch.set_num_threads(1)  # two libraries' threads in one process wait for each other
    runs = {
        OURS: two_layer_net.jaxnn(12_000),
        "PyTorch": two_layer_net.pytorch(12_000),
        "NumPy": two_layer_net.numpy_textbook(12_000),
    }
    values = {name: np.mean([run() for _ in range(2)]) for name, run in runs.items()}
    assert faults(values, margin=0.05, below=2.28) == {}
