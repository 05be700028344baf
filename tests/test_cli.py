"""The command, called in this process: what it prints, what it leaves, and its exit status."""

import csv
import json
import shutil
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import jaxnn as nn
from jaxnn import cli, data, run_report, train_command
from jaxnn.plotting import plot_history, save_figure
from jaxnn.run_folder import create
from jaxnn.terminal import complain
from tests.data.test_sources import few_records, tiny_cifar10, write_batches

pytestmark = pytest.mark.little_optimized

QUICK = ["--epochs", "3", "--hidden-sizes", "16"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAXNN_DATA", raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder, trained well enough to read digits."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main(["train", "--out", str(run)]) == 0
    return run


def refused(arguments, capsys, status=2):
    assert cli.main(arguments) == status
    said = capsys.readouterr().err
    assert said.startswith("jaxnn: ")
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    return said


def test_train_says_what_it_did_and_leaves_a_run_folder(trained):
    names = {"config.json", "metrics.csv", "curves.png", "weights.safetensors", "summary.txt", "checkpoints"}
    assert {path.name for path in trained.iterdir()} == names
    summary = (trained / "summary.txt").read_text()
    accuracy = float(summary.split("test accuracy: ")[1])
    assert accuracy >= 0.97
    rows = list(csv.DictReader((trained / "metrics.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 31))
    assert float(rows[-1]["loss"]) < 0.1 * float(rows[0]["loss"])
    config = json.loads((trained / "config.json").read_text())
    assert config["config"]["optimizer"] == "adam"
    assert config["config"]["hidden_sizes"] == [200, 100]
    np.testing.assert_allclose(config["test_accuracy"], accuracy, atol=5e-5)
    weights = load_file(trained / "weights.safetensors")
    assert weights["params/dense1/W"].shape == (64, 200)
    assert weights["model_state/batch_norm1/count"].shape == ()
    with Image.open(trained / "curves.png") as picture:
        assert picture.size[0] > 800


def test_evaluate_measures_the_same(trained, capsys):
    assert cli.main(["evaluate", str(trained)]) == 0
    summary = (trained / "summary.txt").read_text()
    for split in ("test", "validation"):
        assert cli.main(["evaluate", str(trained), "--split", split]) == 0
        said = capsys.readouterr().out
        accuracy = said.split(f"{split} accuracy: ")[1].split()[0]
        assert f"{split} accuracy: {accuracy}" in summary


def test_what_a_program_reads(trained, tmp_path, capsys, digits):
    """JSON alone on stdout, with the figures of what a person reads."""

    def answer(*arguments, status=0):
        assert cli.main([*arguments, "--json"]) == status
        heard = capsys.readouterr()
        return json.loads(heard.out), heard.err

    train, said = answer("train", *QUICK, "--out", "run")
    shown = json.loads((tmp_path / "run" / "config.json").read_text())
    assert train["run"] == "run" and train["interrupted"] is None
    assert train["test_accuracy"] == shown["test_accuracy"] and f"{train['test_accuracy']:.4f}" in said
    assert "json" not in shown["config"]
    measured, _ = answer("evaluate", str(trained), "--split", "validation")
    assert (measured["metric"], measured["split"], measured["examples"]) == ("accuracy", "validation", 180)
    assert cli.main(["evaluate", str(trained), "--split", "validation"]) == 0
    assert f"{measured['value']:.4f} on 180" in capsys.readouterr().out
    Image.fromarray(np.kron(digits.test.x[0, :, :, 0] * 15, np.ones((4, 4))).astype(np.uint8)).save("digit.png")
    (predicted,), _ = answer("predict", str(trained), "digit.png")
    assert predicted["example"] == "digit.png" and len(predicted["probabilities"]) == 10
    np.testing.assert_allclose(sum(predicted["probabilities"].values()), 1, rtol=1e-5)
    assert max(predicted["probabilities"], key=predicted["probabilities"].get) == str(digits.test.y[0])
    compared, _ = answer("diff", str(trained), "run", status=1)
    assert compared["same"] is False and compared["settings"]["hidden_sizes"] == [[200, 100], [16]]
    assert answer("diff", "run", "run")[0]["same"] is True
    assert answer("models")[0]["mlp"]["settings"]["activation"] == "relu"
    listed = {source["name"]: source for source in answer("data", "list")[0]}
    assert listed["digits"]["built_in"] and listed["mnist"]["shape"] == [28, 28, 1]
    checked, _ = answer("check-gradients", "--hidden-sizes", "4", "--sample", "5", "--batch-norm", "False")
    assert checked["ok"] and {leaf["name"] for leaf in checked["leaves"]} >= {"dense1/W", "dense2/b"}


def test_a_search_for_a_program(capsys):
    assert (
        cli.main(
            [
                "search",
                "--trials",
                "3",
                "--rounds",
                "1",
                "--epochs",
                "2",
                "--hidden-sizes",
                "8",
                "--out",
                "found",
                "--json",
            ]
        )
        == 0
    )
    heard = capsys.readouterr()
    found = json.loads(heard.out)
    assert found["folder"] == "found" and found["trials"] == 3
    assert found["next"].startswith("jaxnn train --hidden-sizes 8 --learning-rate ")
    assert f"{found['best']['validation_accuracy']:.4f}" in heard.err


@pytest.mark.parametrize("arguments", [["train", "--help"], ["train", "--modl", "mlp"]])
def test_colours_and_boxes_are_for_terminals_alone(arguments):
    """In a process of its own, whose output is a pipe."""
    said = subprocess.run([sys.executable, "-m", "jaxnn.cli", *arguments], capture_output=True, check=False)
    assert b"\x1b" not in said.stdout + said.stderr


def test_version_names_versions_and_devices(capsys):
    assert cli.main(["--version"]) == 0
    said = capsys.readouterr().out
    assert f"jaxnn {metadata.version('jaxnn')}, jax {jax.__version__}, " in said
    assert f"devices {jax.device_count()} of cpu" in said or "gpu" in said


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        ("--versoin", "--version"),
        ("train mlp", "--model mlp"),
        ("train digits", "--dataset digits"),
        ("train adam", "--optimizer adam"),
        ("train --lerning-rate 3", "--learning-rate"),
        ("docter", "doctor"),
        ("completion bahs", "bash"),
        ("evaluate run --split tset", "test"),
    ],
)
def test_errors_name_what_was_meant(arguments, nearest, capsys):
    assert nearest in refused(arguments.split(), capsys)


def test_predict_reads_pictures_of_digits(trained, tmp_path, capsys, digits):
    """Test digits as people send them: large, dark on light, off centre, in colour, as PNG and as JPEG."""
    count, right = 40, 0
    paths = []
    for number in range(count):
        digit = 255 - np.kron(digits.test.x[number, :, :, 0].astype(np.uint8) * 15, np.ones((12, 12), np.uint8))
        page = np.full((170, 140), 240, np.uint8)
        page[20:116, 30:126] = np.minimum(digit, 240)
        picture = Image.fromarray(page).convert("RGB")
        paths.append(tmp_path / f"digit{number}.{'png' if number % 2 else 'jpg'}")
        picture.save(paths[-1])
    assert cli.main(["predict", str(trained), *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == count
    for number, line in enumerate(lines):
        assert line.startswith(f"{paths[number]}: ")
        words = line.split(": ")[1].split()
        probabilities = dict(zip(words[1::2], map(float, words[2::2]), strict=True))
        assert words[0] == words[1], "the class named is the likeliest"
        np.testing.assert_allclose(sum(probabilities.values()), 1, atol=0.006)
        right += int(words[0]) == digits.test.y[number]
    assert right >= 0.9 * count


def test_predict_takes_a_digit_of_the_data_sets_own_size_as_it_is(trained, tmp_path, capsys, digits):
    from jaxnn.data.images import read_image, to_example

    own = digits.test.x[0, :, :, 0]
    Image.fromarray((own * 255.0 / 16).round().astype(np.uint8)).save(tmp_path / "own.png")
    np.testing.assert_array_equal(to_example(read_image(tmp_path / "own.png"), data.find("digits").about)[..., 0], own)


@pytest.mark.slow
def test_runs_are_numbered_and_repeat_themselves(capsys):
    for _ in range(2):
        assert cli.main(["train", *QUICK]) == 0
    first, second = (load_file(f"runs/digits-mlp-00{n}/weights.safetensors") for n in (1, 2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
    assert "saved   runs/digits-mlp-002" in capsys.readouterr().out


@pytest.mark.slow
def test_another_seed_makes_another_run():
    for seed in "01":
        assert cli.main(["train", *QUICK, "--seed", seed, "--out", seed]) == 0
    first, second = (load_file(f"{seed}/weights.safetensors") for seed in "01")
    assert not np.array_equal(first["params/dense1/W"], second["params/dense1/W"])


OPTIMIZERS = (
    "sgd",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adam",
    "adamw",
    "lion",
    "muon",
)


@pytest.mark.slow  # the default's trains in other tests
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains(optimizer, tmp_path):
    out = tmp_path / "run"
    arguments = ["--optimizer", optimizer, "--epochs", "15", "--model", "mlp", "--hidden-sizes", "32"]
    assert cli.main(["train", *arguments, "--out", str(out)]) == 0
    assert float((out / "summary.txt").read_text().split("test accuracy: ")[1]) > 0.85


@pytest.mark.parametrize(
    ("arguments", "expected", "has_penalty"),
    [
        pytest.param("--optimizer adamw", 0.01, False, marks=pytest.mark.slow),
        pytest.param("--optimizer lion", 0.0, False, marks=pytest.mark.slow),
        pytest.param("--optimizer muon --weight-decay 0.5", 0.5, False, marks=pytest.mark.slow),
        pytest.param("--optimizer sgd", 0.0, False, marks=pytest.mark.slow),
        pytest.param("--optimizer sgd --weight-decay 0.5", 0.5, True, marks=pytest.mark.slow),
    ],
)
def test_weights_decay_beside_the_gradient_or_through_a_penalty(
    arguments, expected, has_penalty, tmp_path, monkeypatch
):
    given, train = [], train_command.runner.train

    def spy(model, loss, optimizer, data, *, penalty, **settings):
        given.extend([optimizer, penalty])
        return train(model, loss, optimizer, data, penalty=penalty, **settings)

    monkeypatch.setattr(train_command.runner, "train", spy)
    small = ["--epochs", "1", "--hidden-sizes", "4", "--learning-rate", "0.1"]
    assert cli.main(["train", *small, *arguments.split(), "--out", "run"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["weight_decay"] == expected
    optimizer, penalty = given
    W = {"W": np.ones((2, 2), np.float32)}
    updates, _ = optimizer.update({"W": np.zeros((2, 2), np.float32)}, optimizer.init(W), W)
    np.testing.assert_allclose(updates["W"], 0 if "sgd" in arguments else -0.1 * expected, atol=1e-7)
    assert (penalty is not None) == has_penalty
    if penalty is not None:
        np.testing.assert_allclose(penalty({"W": np.ones((2, 2), np.float32)}), 0.5 * expected * 4)
        assert cli.main(["evaluate", "run"]) == 0


def test_settings_reach_the_run(tmp_path):
    out = tmp_path / "run"
    settings = "--model two-layer-net --hidden-sizes 20 --activation relu --weight-init-std 0.1 --learning-rate 0.3"
    more = "--epochs 4 --batch-size 50 --sampling in_order --weight-decay 0.001 --seed 5"
    assert cli.main(["train", *settings.split(), *more.split(), "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())["config"]
    expected = {"hidden_sizes": [20], "activation": "relu", "weight_init_std": 0.1, "learning_rate": 0.3}
    expected |= {"epochs": 4, "batch_size": 50, "sampling": "in_order", "weight_decay": 0.001, "seed": 5}
    assert {name: config[name] for name in expected} == expected
    assert load_file(out / "weights.safetensors")["params/dense1/W"].shape == (64, 20)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train --dataset mnits", "unknown data set 'mnits': did you mean mnist or kmnist or digits?"),
        ("train --model mpl", "unknown model 'mpl': did you mean mlp?"),
        ("train --model zzz", "unknown model 'zzz': there are mlp, two-layer-net"),
        ("train --optimizer adm", "unknown optimizer 'adm': did you mean adam"),
        ("train --activation rellu", "unknown activation 'rellu': did you mean relu"),
        ("train --sampling shuffled", "unknown sampling 'shuffled': did you mean shuffle?"),
        ("train --learning-rate -0.1", "--learning-rate must be finite and at least 0; got -0.1"),
        ("train --learning-rate nan", "--learning-rate must be finite and at least 0; got nan"),
        ("train --learning-rate fast", "--learning-rate: no type matching FLOAT could be instantiated from ['fast']"),
        ("train --batch-size 0", "--batch-size must be at least 1; got 0"),
        ("train --batch-size 1259", "--batch-size is 1259, but there are only 1258 training examples"),
        ("train --epochs 0", "--epochs must be at least 1; got 0"),
        ("train --dropout 1", "--dropout must be finite and at least 0 and below 1; got 1"),
        ("train --weight-decay -1", "--weight-decay must be finite and at least 0; got -1"),
        ("train --hidden-sizes 10 0", "--hidden-sizes must be at least 1; got 0"),
        ("train --seed -1", "--seed must be at least 0; got -1"),
        ("train --seed 4294967296", "--seed must be below 4294967296"),
        ("train --model two-layer-net --dropout 0.5", "--dropout is no setting of two-layer-net"),
        ("train --model two-layer-net --hidden-sizes 5 5", "--hidden-sizes of two-layer-net is one number; got 2"),
        ("train --learnig-rate 0.1", "did you mean --learning-rate?"),
        ("train --data-dir nowhere --dataset mnist", "nowhere: no such folder"),
        ("train --dataset no/where", "no/where: no such file or folder"),
        ("train --data-dir . --dataset .", "is for data sets with a name, and . is a path"),
        ("train --image-size 64", "is for a folder of pictures, and digits is a data set by name"),
        ("train --image-size 64x", "--image-size must be HEIGHTxWIDTH in pixels, such as 64x64; got '64x'"),
        ("train --validation 0", "--validation must be finite and above 0; got 0"),
        ("train --test 0", "--test must be finite and above 0; got 0"),
        ("train --test 1.5", "test must be a fraction from 0 to below 1 or a number of examples; got 1.5"),
        ("train --task regresion", "unknown task 'regresion': did you mean regression?"),
        ("train --scaling minmax", "unknown scaling 'minmax': did you mean min_max?"),
        ("train --scaling none", "--scaling none leaves the pictures of digits in whole numbers"),
        ("trian", "unknown command 'trian': did you mean train?"),
        ("evaluate nowhere", "nowhere holds no run"),
        ("predict nowhere digit.png", "nowhere holds no run"),
        ("evaluate", "Missing from jaxnn evaluate: RUN"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line_and_exit_status_2(arguments, sentence, capsys, tmp_path):
    assert sentence in refused(arguments.split(), capsys)
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


def test_out_is_never_overwritten(capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    assert "mine exists already" in refused(["train", "--out", "mine"], capsys)
    (tmp_path / "file").write_text("precious")
    assert "file exists already" in refused(["train", "--out", "file"], capsys)
    assert "cannot be written" in refused(["train", "--out", "file/run"], capsys)
    assert ". exists already" in refused(["train", "--out", "."], capsys)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "notes.txt"]


def test_names_as_long_as_files_may_have_lose_no_run(tmp_path):
    (tmp_path / "runs").mkdir()
    for number in (1, 2):
        with create(None, f"{'é' * 125}-mlp") as folder:
            assert folder.finish().name == f"{'é' * 100}-{number:03}"
    sentence = r"cannot be written \(File name too long\); choose another --out"
    with pytest.raises(ValueError, match=sentence), create(Path("a" * 300), "digits"):
        pass


def test_a_name_taken_meanwhile_costs_nothing(tmp_path):

    with create(tmp_path / "run", "label") as folder:
        (folder.aside / "summary.txt").write_text("learned")
        (tmp_path / "run").mkdir()
        final = folder.finish()
    assert final == tmp_path / "run-001"
    assert (final / "summary.txt").read_text() == "learned"


def test_what_fails_leaves_nothing(tmp_path, capsys):
    small = ["--model", "two-layer-net", "--hidden-sizes", "4", "--epochs", "2"]
    said = refused(["train", *small, "--learning-rate", "1e38", "--out", "deep/run"], capsys, status=1)
    assert "the loss became" in said
    assert "smaller learning rate" in said
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback_and_keeps_the_status(capsys):
    assert cli.main(["train", "--learning-rate", "-1", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda run: (run / "weights.safetensors").unlink(), "the run has not ended, and has no weights yet; jaxnn train --resume"),
        (lambda run: flip(run / "weights.safetensors", -5), "weights.safetensors: is damaged: what is in it has another SHA-256"),
        (lambda run: (run / "config.json").write_text("{"), "config.json: cannot be used"),
        (lambda run: (run / "config.json").write_text('{"config": null}'), "config.json: cannot be used"),
        (lambda run: set_config(run, model="foo"), "unknown model 'foo'"),
        (lambda run: set_config(run, activation="foo"), "unknown activation 'foo'"),
        (lambda run: set_config(run, dataset=3), "data is named by a name such as 'digits', or a path; got 3"),
        (lambda run: set_config(run, scaling="none"), "preprocess/maximum is only in the file"),
        (lambda run: set_config(run, split_seed=1), "digits is not what"),
        (lambda run: set_data(run, shape=[]), "config.json: cannot be used (ValueError: its data has no shape"),
        (lambda run: set_data(run, classes=[]), "or nothing to predict"),
        (lambda run: set_data(run, classes=["a", "b"]), "is (100, 10) in the file, (100, 2) in this model"),
        (lambda run: set_data(run, drawing={"box": 3}), "config.json: cannot be used (TypeError: "),
        (lambda run: set_config(run, hidden_sizes=None), "its setting 'hidden_sizes' is null"),
        (lambda run: set_config(run, hidden_sizes=[200, 8]), "is (100,) in the file, (8,) in this model"),
        (lambda run: set_config(run, weight_decay=None), "its setting 'weight_decay' is null"),
        (lambda run: set_config(run, batch_norm=False), "is only in the file"),
        (lambda run: set_config(run, colour="red"), "its setting 'colour' is unknown"),
    ],
)  # fmt: skip
def test_a_damaged_run_is_refused(damage, sentence, trained, tmp_path, capsys, types_unchecked):
    run = shutil.copytree(trained, tmp_path / "copy")
    damage(run)
    assert sentence in refused(["evaluate", str(run)], capsys)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def set_config(run, **settings):
    content = json.loads((run / "config.json").read_text())
    content["config"] |= settings
    (run / "config.json").write_text(json.dumps(content))


def set_data(run, **facts):
    content = json.loads((run / "config.json").read_text())
    content["data"] |= facts
    (run / "config.json").write_text(json.dumps(content))


def test_pictures_that_cannot_be_read(trained, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (50, 50), 200).save(tmp_path / "blank.png")
    Image.new("L", (8, 8), 0).save(tmp_path / "blank8.png")
    digit = np.full((60, 60), 255, np.uint8)
    digit[10:50, 28:32] = 0
    Image.fromarray(digit).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    for name, sentence in {
        "missing.png": "missing.png: no such file",
        "text.png": "text.png: cannot be read as a picture",
        "cut.png": "cut.png: cannot be read as a picture",
        ".": ".: cannot be read as a picture",
        "blank.png": "blank.png: nothing is drawn there",
        "blank8.png": "blank8.png: nothing is drawn there",
    }.items():
        assert sentence in refused(["predict", str(trained), name], capsys)
    assert "at least one file" in refused(["predict", str(trained)], capsys)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_mode_read_alike(mode, tmp_path):
    from jaxnn.data.images import read_image, to_example

    digit = np.full((60, 60), 255, np.uint8)
    digit[10:50, 28:32] = 0
    suffix = "tif" if mode == "CMYK" else "png"
    sixteen_bits = Image.fromarray(digit.astype(np.uint16) * 257)
    picture = sixteen_bits if mode == "I;16" else Image.fromarray(digit).convert(mode)
    picture.save(tmp_path / f"digit.{suffix}")
    expected = to_example(digit.astype(np.float32) / 255, data.find("mnist").about)
    np.testing.assert_allclose(
        to_example(read_image(tmp_path / f"digit.{suffix}"), data.find("mnist").about), expected, atol=2
    )


def test_models_and_data_list_what_there_is(capsys):
    assert cli.main(["models"]) == 0
    said = capsys.readouterr().out
    assert "two-layer-net" in said
    assert "--learning-rate 0.1" in said
    assert cli.main(["data"]) == 0
    said = capsys.readouterr().out
    for name in ("digits", "mnist", "fashion_mnist", "cifar10"):
        assert name in said


@pytest.mark.slow  # a folder of pictures goes the same way
def test_photos_in_colour_from_data_to_prediction(tmp_path, capsys, monkeypatch):
    """On files of four records; photos that the network was trained on are named as they were labelled."""
    images, labels = tiny_cifar10()
    few_records(monkeypatch)
    write_batches(tmp_path / "photos" / "cifar-10-batches-bin")
    settings = "--dataset cifar10 --data-dir photos --batch-size 4 --epochs 30 --hidden-sizes 32 --dropout 0 --out run"
    assert cli.main(["train", *settings.split()]) == 0
    said = capsys.readouterr().out
    assert "16 / 4 / 4 for training / validation / test" in said
    assert "let it name a picture of yours" in said
    paths = [f"photo{number}.png" for number in range(16)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    assert cli.main(["predict", "run", *paths]) == 0
    named = [line.split(": ")[1].split()[0] for line in capsys.readouterr().out.splitlines()]
    classes = data.find("cifar10").about.classes
    right = [name == classes[label] for name, label in zip(named, labels, strict=False)]
    assert len(right) == 16
    assert sum(right) >= 14
    assert cli.main(["evaluate", "run", "--split", "train"]) == 0
    assert "on 16 images of cifar10" in capsys.readouterr().out


@pytest.mark.parametrize("on_terminal", [False, True])
def test_the_list_of_data_keeps_paths_whole(on_terminal, tmp_path, capsys, monkeypatch):
    few_records(monkeypatch)
    place = Path("a folder with a long name, hyphens-and-so-on and 汉字")
    write_batches(place / "cifar-10-batches-bin")
    monkeypatch.setenv("COLUMNS", "60")
    if on_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli.main(["data", "--data-dir", str(place)]) == 0
    said = capsys.readouterr().out
    rows = [row for row in said.splitlines() if str(place / "cifar-10-batches-bin") in row]
    assert len(rows) == 1
    assert (data.find("cifar10").about.title in rows[0]) != on_terminal, "in a pipe nothing is cut or folded"
    assert not any(row.endswith(" ") for row in said.splitlines()), "nothing for the terminal to wrap"


def test_a_figure_that_fails_costs_no_run(tmp_path, capsys, monkeypatch):
    def fail(figure, path):
        path.write_bytes(b"half")
        raise RuntimeError("no letters\x1b[31m")

    monkeypatch.setattr(run_report, "save_figure", fail)
    assert cli.main(["train", "--epochs", "1", "--model", "two-layer-net", "--out", "run"]) == 0
    said = capsys.readouterr()
    assert said.err == "jaxnn: curves.png could not be drawn (no letters\\x1b[31m); all else of the run is saved\n"
    assert "saved   run: weights, settings, checkpoints, metrics.csv, summary.txt\n" in said.out
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert written == {"config.json", "metrics.csv", "weights.safetensors", "summary.txt", "checkpoints"}


def test_a_title_is_no_formula_and_letters_without_a_form_are_boxes(tmp_path):
    history = nn.History(np.ones(4), {"loss": np.ones(2), "$\\foo$": np.ones(2)}, {})
    save_figure(plot_history(history, "mlp on a$\\q$ 汉字"), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_no_other_warning_of_a_figure_is_lost(tmp_path):
    from matplotlib.figure import Figure

    class Odd(Figure):
        def savefig(self, *arguments, **settings):
            warnings.warn("constrained_layout not applied", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="constrained_layout not applied"):
        save_figure(Odd(), tmp_path / "odd.png")


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("d\x1b[31mir: no such file", "d\\x1b[31mir: no such file"),
        ("a\nb.csv: is empty\n", "a\\nb.csv: is empty"),
        ("two  spaces, Größe 汉字 – ½", "two  spaces, Größe 汉字 – ½"),
        ("\udcff.csv", "\\udcff.csv"),
    ],
)
def test_complaints_are_one_line_of_text(sentence, said, capsys):
    complain(sentence)
    assert capsys.readouterr().err == f"jaxnn: {said}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], *([command, "--help"] for command in cli.COMMANDS)])
def test_help(arguments, capsys):
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "usage: jaxnn" in said
    assert "None" not in said
