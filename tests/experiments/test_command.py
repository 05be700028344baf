import dataclasses
import json
import math
import sys

import jax.numpy as jnp
import pytest

from experiments import __main__ as command
from experiments import perceptron
from experiments.batch_norm import Config as BatchNorm
from experiments.shared import catalogue
from experiments.shared.catalogue import NAMES
from experiments.shared.claims import near
from experiments.shared.command import main
from experiments.shared.experiment import is_the_books, perform, with_seeds
from experiments.shared.images import Place, load_mnist


def typed(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["experiments", *map(str, arguments)])
    return command.main()


@pytest.fixture(autouse=True)
def devices_stay(monkeypatch):
    """Those of the tests: how many there are cannot change once something has been computed."""
    monkeypatch.setattr("experiments.shared.command.use_all_cores", lambda: None)


@pytest.fixture
def replaced(monkeypatch):
    """Let the perceptron's experiment be another one like it."""

    def replace(**changes):
        monkeypatch.setattr(perceptron, "EXPERIMENT", dataclasses.replace(perceptron.EXPERIMENT, **changes))

    return replace


def test_list_names_all_with_their_question(monkeypatch, capsys):
    assert typed(monkeypatch, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert lines[0].split("  ")[-1].strip() == "How does a single neuron learn from its mistakes? (D4)"


def test_a_run_prints_claims_and_writes_them(monkeypatch, capsys, tmp_path):
    assert typed(monkeypatch, "run", "perceptron", "--quick", "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert said.count("✓") == 7
    assert "(0.4, -0.6, -4.8)" in said
    result = json.loads((tmp_path / "perceptron" / "result.json").read_text())
    assert result["command"] == "python -m experiments.perceptron --quick"
    assert [claim["holds"] for claim in result["claims"]] == [True] * 7
    assert result["config"]["learning_rate"] == 0.3
    assert result["seconds"] > result["compile_seconds"] > 0
    for figure in result["figures"]:
        assert (tmp_path / "perceptron" / figure["png"]).read_bytes().startswith(b"\x89PNG")
        assert len(figure["alt"]) > 50


def test_a_claim_that_fails_is_exit_status_1(monkeypatch, capsys, tmp_path, replaced):
    replaced(run=lambda config, key: perceptron.run(dataclasses.replace(config, learning_rate=0.31), key))
    assert typed(monkeypatch, "run", "perceptron", "--out", tmp_path) == 1
    assert "✗" in capsys.readouterr().out


def test_what_breaks_does_not_stop_the_others(monkeypatch, capsys, tmp_path, replaced):
    def broken(config, key):
        raise RuntimeError("a fault")

    replaced(run=broken)
    assert typed(monkeypatch, "run", "perceptron", "data_pipeline", "--quick", "--out", tmp_path) == 1
    assert "perceptron broke off" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["data_pipeline"]


def test_what_is_not_installed_is_left_out(monkeypatch, capsys, tmp_path, replaced):
    def missing(config, key):
        raise ModuleNotFoundError("reading ahead needs grain")

    replaced(run=missing)
    assert typed(monkeypatch, "run", "perceptron", "data_pipeline", "--quick", "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert "left out: reading ahead needs grain" in said
    assert "perceptron was left out" in said
    assert typed(monkeypatch, "run", "perceptron", "--quick", "--out", tmp_path) == 2
    assert "experiments: reading ahead needs grain" in capsys.readouterr().err

    def misspelled(config, key):
        import nunpy  # noqa: F401

    replaced(run=misspelled)
    assert typed(monkeypatch, "run", "perceptron", "data_pipeline", "--quick", "--out", tmp_path) == 1
    assert "perceptron broke off" in capsys.readouterr().out


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "perceptron"
    experiment = perceptron.EXPERIMENT
    perform(experiment, experiment.config, Place(), folder)
    (folder / "stale.png").touch()

    def no_figure(config, outcomes):
        raise RuntimeError("no figure")

    with pytest.raises(RuntimeError, match="no figure"):
        perform(dataclasses.replace(experiment, draw=no_figure), experiment.config, Place(), folder)
    assert (folder / "stale.png").exists()
    perform(experiment, experiment.config, Place(), folder)
    assert not (folder / "stale.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["perceptron"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("run bach_norm", "no experiment is called 'bach_norm'; did you mean batch_norm?"),
        ("run", "name the experiments to run, or say --all"),
        ("run perceptron --all", "names, or --all: not both"),
        ("run batch_norm --seeds 0", "--seeds is 0; expected 1 or more"),
        ("report --results nowhere", "nowhere"),
    ],
)
def test_bad_input_gets_one_line(arguments, sentence, monkeypatch, capsys):
    assert typed(monkeypatch, *arguments.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("experiments: ")
    assert sentence in said
    assert said.count("\n") == 1


def test_a_folder_of_something_else_is_not_replaced(monkeypatch, capsys, tmp_path):
    (tmp_path / "perceptron").mkdir()
    (tmp_path / "perceptron" / "mine.txt").touch()
    assert typed(monkeypatch, "run", "perceptron", "--out", tmp_path) == 2
    assert "holds no result of an experiment and is not replaced" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "perceptron").iterdir()] == ["mine.txt"]


def test_only_the_full_form_goes_to_the_results_that_are_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.shared.command.RESULTS", tmp_path / "kept")
    assert typed(monkeypatch, "run", "perceptron") == typed(monkeypatch, "run", "perceptron", "--quick") == 0
    assert json.loads((tmp_path / "kept/perceptron/result.json").read_text())["quick"] is False
    assert json.loads((tmp_path / "runs/experiments/perceptron/result.json").read_text())["quick"] is True


def test_seeds_that_change_nothing_are_said(monkeypatch, capsys, tmp_path):
    assert typed(monkeypatch, "run", "perceptron", "--seeds", 3, "--out", tmp_path) == 0
    assert "nothing to repeat with other seeds in: perceptron" in capsys.readouterr().err


def test_where_digits_stand_in_the_quick_form_runs_and_that_is_said(tmp_path):
    seen, said = [], []

    def run(config, data, key):
        seen.append((config, data.name))
        return perceptron.run(perceptron.Config(), key)

    experiment = dataclasses.replace(
        perceptron.EXPERIMENT,
        load=load_mnist,
        config=with_seeds(BatchNorm(), 7),
        quick=BatchNorm(scales=4),
        run=run,
        claims=lambda config, data, outcomes: [near("D4", "none", math.nan, 0, 1)],
        draw=lambda config, data, outcomes: perceptron.draw(perceptron.Config(), outcomes),
    )
    result = perform(experiment, experiment.config, Place(data_dir=tmp_path), tmp_path / "it", said.append)
    assert seen == [(BatchNorm(scales=4, seeds=7), "digits")]
    assert said[0].startswith("MNIST could not be had")
    assert result["quick"] is True
    assert result["command"] == "python -m experiments.perceptron --quick --seeds 7"
    assert str(tmp_path) not in json.dumps(result)
    # JSON has no NaN.
    assert result["claims"][0]["values"] == [None]
    assert "NaN" not in (tmp_path / "it" / "result.json").read_text()


def test_ctrl_c_says_so(monkeypatch, capsys, tmp_path, replaced):
    def stopped(config, key):
        raise KeyboardInterrupt

    replaced(run=stopped)
    assert typed(monkeypatch, "run", "perceptron", "--out", tmp_path) == 130
    assert capsys.readouterr().err.startswith("stopped by Ctrl-C")


def test_a_script_has_a_flag_for_each_of_its_numbers(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["perceptron", "--learning-rate", "0.5", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main(perceptron.EXPERIMENT)
    assert stop.value.code == 0
    assert json.loads((tmp_path / "perceptron" / "result.json").read_text())["config"]["learning_rate"] == 0.5


def test_numbers_of_the_book_are_told_from_others():
    (experiment,) = catalogue.find(["batch_norm"])
    assert is_the_books(experiment.config)
    assert is_the_books(with_seeds(experiment.config, 2))
    assert not is_the_books(experiment.quick)
    assert with_seeds(perceptron.Config(), 3) == perceptron.Config()


def test_the_quick_form_reads_no_network_and_says_what_it_learns_from(monkeypatch):
    (experiment,) = catalogue.find(["batch_norm"])
    monkeypatch.setattr("requests.get", None)
    images = experiment.load(Place(quick=True))
    assert (images.title, images.why) == ("the bundled digits", "")


def test_digits_stand_in_for_what_cannot_be_had(tmp_path):
    (experiment,) = catalogue.find(["batch_norm"])
    images = experiment.load(Place(data_dir=tmp_path))
    assert images.name == "digits"
    assert str(tmp_path) in images.why
    assert len(images.official.x) == len(images.train.x) + len(images.validation.x)
    assert jnp.asarray(images.scale(jnp.asarray(images.train.x))).max() == 1
