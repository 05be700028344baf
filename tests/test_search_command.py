"""`jaxnn search`: what it finds, writes and says; and that test data cannot reach it."""

import csv
import json
import shlex

import numpy as np
import pytest

from jaxnn import cli, search_command
from jaxnn.random_search import SearchResult
from jaxnn.search_options import SearchConfig, space_of
from jaxnn.sweep_result import Best
from jaxnn.train_options import TrainOptions

pytestmark = pytest.mark.little_optimized

QUICK = ["search", "--model", "two-layer-net", "--trials", "6", "--rounds", "2", "--keep", "0.5", "--examples", "200", "--epochs", "2"]  # fmt: skip


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def trials_of(folder):
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_finds_writes_and_says(tmp_path, capsys):
    assert cli.main([*QUICK, "--vary", "learning-rate=1e-3:10", "optimizer=sgd,momentum", "--out", "found"]) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "found"
    assert {path.name for path in folder.iterdir()} == {"trials.csv", "search.png", "summary.txt", "config.json"}
    trials = trials_of(folder)
    assert len(trials) == 12
    assert [trial["round"] for trial in trials] == ["1"] * 6 + ["2"] * 6
    assert {trial["optimizer"] for trial in trials[:6]} == {"sgd", "momentum"}
    content = json.loads((folder / "config.json").read_text())
    best = max(trials, key=lambda trial: (float(trial["validation_accuracy"]), -float(trial["validation_loss"])))
    assert content["best"]["validation_accuracy"] == pytest.approx(float(best["validation_accuracy"]))
    assert content["best"]["settings"]["learning_rate"] == pytest.approx(float(best["learning_rate"]))
    assert content["ranges"][0]["learning_rate"] == "0.001 to 10, logarithmic"
    assert len(content["ranges"]) == 3
    assert "200 / 180 for training / validation" in said
    assert "test" not in (folder / "summary.txt").read_text()
    next_line = next(line for line in said.splitlines() if line.startswith("next"))
    assert next_line.startswith("next    jaxnn train --model two-layer-net --optimizer")
    assert "--epochs" not in next_line


@pytest.mark.slow
def test_halving_stops_the_worse_ones(tmp_path):
    assert cli.main([*QUICK, "--halving", "--epochs", "4", "--trials", "8", "--rounds", "1", "--out", "found"]) == 0
    assert sorted(trial["stages"] for trial in trials_of(tmp_path / "found")) == ["1"] * 4 + ["2"] * 2 + ["4"] * 2


@pytest.mark.slow
def test_test_data_cannot_reach_it(tmp_path, monkeypatch, capsys):
    """With other test data, every figure is the same."""
    original = search_command.load_data

    def with_other_test_data(*arguments):
        splits, about = original(*arguments)
        other = np.random.default_rng(0).permutation(splits.test.y)
        return splits._replace(test=splits.test._replace(y=other)), about

    assert cli.main([*QUICK, "--out", "as_it_is"]) == 0
    monkeypatch.setattr(search_command, "load_data", with_other_test_data)
    assert cli.main([*QUICK, "--out", "other"]) == 0
    assert (tmp_path / "as_it_is" / "trials.csv").read_bytes() == (tmp_path / "other" / "trials.csv").read_bytes()


@pytest.mark.slow
def test_numbers_to_predict(tmp_path, capsys):
    assert (
        cli.main(
            ["search", "--dataset", "diabetes", "--trials", "6", "--rounds", "1", "--keep", "0.5", "--out", "found"]
        )
        == 0
    )
    best = json.loads((tmp_path / "found" / "config.json").read_text())["best"]
    errors = [float(trial["validation_mean_absolute_error"]) for trial in trials_of(tmp_path / "found")]
    assert best["validation_mean_absolute_error"] == pytest.approx(min(errors))


def test_words_of_ranges():
    space = space_of(("dropout=0:0.5", "batch-norm=True,False", "hidden-sizes=100,200-100", "learning-rate=0.1,0.01"))
    assert (space["dropout"].low, space["dropout"].high) == (0, 0.5)
    assert space["batch_norm"].options == (True, False)
    assert space["hidden_sizes"].options == ((100,), (200, 100))
    assert space["learning_rate"].options == (0.1, 0.01)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--vary", "learning-rate"], "--vary takes NAME=RANGE, such as learning-rate=1e-6:1e-2; got 'learning-rate'"),
        (["--vary", "learnin-rate=1:2"], "unknown setting to vary 'learnin-rate': did you mean learning-rate?"),
        (["--vary", "learning-rate=1:0.1"], "--vary learning-rate=1:0.1: log_uniform: low is 1, which is not below high, 0.1"),
        (["--vary", "learning-rate=-1:1"], "log_uniform's low must be finite and above 0; got -1"),
        (["--vary", "learning-rate=a:b"], "'a' is no number"),
        (["--vary", "optimizer=sgd:adam"], "is no number with a range; give values, separated by commas"),
        (["--vary", "optimizer=sgd,adem"], "unknown optimizer 'adem': did you mean"),
        (["--vary", "dropout=0:1.5"], "--dropout must be finite and at least 0 and below 1; got 1.5"),
        (["--vary", "batch-size=10,x"], "'x' is no whole number"),
        (["--vary", "batch-norm=yes"], "unknown value 'yes'"),
        (["--vary", "filters=3"], "--vary: filters is no setting of mlp; see jaxnn models"),
        (["--vary", "dropout=0:0.5", "dropout=0:0.1"], "--vary has dropout twice"),
        (["--learning-rate", "0.1"], "--learning-rate is given, and --vary has it too: which is meant?"),
        (["--trials", "5"], "--keep 0.2 of 5 trials leaves fewer than two to narrow ranges to"),
        (["--trials", "0"], "--trials must be at least 1"),
        (["--keep", "2"], "--keep must be finite and above 0 and below 1; got 2"),
        (["--examples", "1"], "--examples must be at least 2"),
        (["--examples", "5000"], "--examples is 5000, but there are only 1258 training examples"),
    ],
)  # fmt: skip
def test_refuses(arguments, sentence, tmp_path, capsys):
    assert cli.main(["search", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert complaint.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_next_command_means_the_same(tmp_path, monkeypatch):
    """Whatever was given is in it, in full, for a shell."""
    config = SearchConfig(
        dataset="my data/tab [é].csv", label_column="house value", validation=0.12345, learning_rate=0.0123456, seed=3,
        data_dir=tmp_path, epochs=2,
    )  # fmt: skip
    best = {"weight_decay": 1.2345678e-05, "hidden_sizes": (200, 100), "batch_norm": False}
    found = SearchResult(*[None] * 7)._replace(best=Best(0, best, 1.0, np.ones(1)))
    words = shlex.split(search_command._next_command(config, found))
    parsed = []
    monkeypatch.setattr(cli, "_run", lambda config, console: parsed.append(config) or 0)
    assert cli.main(words[1:]) == 0
    assert parsed == [
        TrainOptions(
            dataset=config.dataset, label_column=config.label_column, validation=0.12345, learning_rate=0.0123456, seed=3,
            data_dir=tmp_path, **best,
        )
    ]  # fmt: skip
