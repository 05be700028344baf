"""The command on files of one's own, from the data to the prediction, called in this process."""

import csv
import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from safetensors.numpy import load_file

import jaxnn as nn
from jaxnn import cli, train_command
from jaxnn.config import TrainConfig

pytestmark = pytest.mark.little_optimized

SHORT = ["--hidden-sizes", "8", "--batch-norm", "False", "--dropout", "0"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAXNN_DATA", raising=False)


def picture(shape, seed, size=(40, 30)):
    """A dark or a bright disc on grey, anywhere near the middle."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    middle = np.array(size) / 2 + random.uniform(-2, 2, 2)
    inside = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < random.uniform(50, 90)
    grey = random.integers(100, 156, (*size, 3))
    return np.where(inside[..., None], 20 if shape == "moon" else 235, grey).astype(np.uint8)


def write_pictures(folder, count=20):
    for number in range(count):
        for shape in ("moon", "sun"):
            place = folder / shape / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(shape, number)).save(place)


def test_a_folder_of_images_from_training_to_prediction(tmp_path, capsys):
    write_pictures(tmp_path / "sky")
    settings = "--dataset sky --image-size 8x6 --epochs 15 --learning-rate 0.01 --validation 4 --test 6 --out run"
    assert cli.main(["train", *SHORT, *settings.split()]) == 0
    said = capsys.readouterr().out
    assert "data    sky: pictures, 2 classes; 30 / 4 / 6 for training / validation / test" in said
    assert "test accuracy: 1.0000 on 6 images it has never seen" in said
    assert cli.main(["evaluate", "run"]) == 0
    assert capsys.readouterr().out == "test accuracy: 1.0000 on 6 images of sky\n"

    # New pictures, of another size, with the scaling of the training: reckoned here from the weights by NumPy.
    for name in ("moon", "sun"):
        Image.fromarray(picture(name, 1000, size=(80, 60))).save(f"new {name}.png")
    assert cli.main(["predict", "run", "new moon.png", "new sun.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["new", "moon.png:", "moon"], ["new", "sun.png:", "sun"]]
    weights = {name: values.astype(np.float64) for name, values in load_file("run/weights.safetensors").items()}
    train = nn.data.load("sky", image_size=(8, 6), validation=4, test=6).train.x
    assert (weights["preprocess/minimum"], weights["preprocess/maximum"]) == (train.min(), train.max())
    for name, line in zip(("moon", "sun"), lines, strict=True):
        with Image.open(f"new {name}.png") as file:
            x = np.asarray(file, np.float64).reshape(8, 10, 6, 10, 3).mean(axis=(1, 3))
        scaled = (np.rint(x) - train.min()) / (int(train.max()) - int(train.min()))
        hidden = np.maximum(scaled.reshape(-1) @ weights["params/dense1/W"] + weights["params/dense1/b"], 0)
        logits = hidden @ weights["params/dense2/W"] + weights["params/dense2/b"]
        probabilities = np.exp(logits) / np.exp(logits).sum()
        told = dict(re.findall(r"(moon|sun) (\d\.\d+)", line))
        np.testing.assert_allclose([float(told["moon"]), float(told["sun"])], probabilities, atol=6e-3)

    # The pictures may move.
    (tmp_path / "sky").rename(tmp_path / "elsewhere")
    assert cli.main(["evaluate", "run"]) == 2
    assert "sky: no such file or folder" in capsys.readouterr().err
    assert cli.main(["evaluate", "run", "--dataset", "elsewhere"]) == 0
    assert "test accuracy: 1.0000 on 6 images" in capsys.readouterr().out
    (tmp_path / "elsewhere").rename(tmp_path / "sky")

    # One picture more or less, and the parts are others.
    (tmp_path / "sky" / "sun" / "3.png").unlink()
    assert cli.main(["evaluate", "run"]) == 2
    assert "sky is not what run was trained on, or has changed since" in capsys.readouterr().err


def write_table(path, count=120):
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 3)) * [1, 100, 0.01] + [5, -300, 0]
    y = 3 * (x[:, 0] - 5) - 0.02 * (x[:, 1] + 300) + 1000
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["width", "price", "weight", "shade"])
        writer.writerows([[a, target, b, c] for (a, b, c), target in zip(x, y, strict=True)])
    return x, y


def test_numbers_in_a_table_from_training_to_prediction(tmp_path, capsys):
    x, y = write_table(tmp_path / "boxes.csv")
    settings = "--dataset boxes.csv --label-column price --epochs 40 --learning-rate 0.02 --out run"
    assert cli.main(["train", *SHORT, *settings.split()]) == 0
    said = capsys.readouterr().out
    error, guess = re.search(r"test mean absolute error: ([\d.]+) on 24 .* guessing the mean: ([\d.]+)", said).groups()
    assert float(error) < 0.3 * float(guess)
    assert cli.main(["evaluate", "run"]) == 0
    evaluated = float(re.match(r"test mean absolute error: ([\d.]+) on 24", capsys.readouterr().out)[1])
    np.testing.assert_allclose(evaluated, float(error), rtol=1e-3)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["test_mean_absolute_error"] == pytest.approx(
        evaluated, abs=1e-4
    )

    # The features in another order, a column more, and no prices.
    with (tmp_path / "new.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["shade", "maker", "width", "weight"])
        writer.writerows([[c, 7, a, b] for a, b, c in x])
    assert cli.main(["predict", "run", "new.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[4].startswith("new.csv, row 5: price 9") or lines[4].startswith("new.csv, row 5: price 10")
    predicted = np.array([float(line.split()[-1]) for line in lines])
    assert np.abs(predicted - y).mean() < 0.3 * np.abs(y - y.mean()).mean()
    (tmp_path / "less.csv").write_text("shade,width\n1,2\n")
    assert cli.main(["predict", "run", "less.csv"]) == 2
    assert "weight" in capsys.readouterr().err


def test_what_the_checks_find_stops_the_training_or_is_said_once(tmp_path, capsys):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2
    parts = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    np.savez("good.npz", **parts)
    np.savez("leaky.npz", **{**parts, "x_test": np.concatenate([x[:10], x[50:]]), "y_test": y[40:]})
    odd = x.copy()
    odd[3, 1] = 1e6
    np.savez("odd.npz", **{**parts, "x_train": odd[:40]})
    assert cli.main(["train", "--dataset", "leaky.npz"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("jaxnn: leaky.npz: train and test: known from train: ")
    assert said.endswith("; jaxnn data check leaky.npz shows all\n")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [], "nothing half-written"
    assert cli.main(["train", "--dataset", "odd.npz", *SHORT, "--epochs", "2"]) == 0
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("check ")]
    assert len(warned) == 1
    assert warned[0].startswith("check   train: outliers in x: 1 of")
    assert cli.main(["predict", "runs/odd-mlp-001", "x.png"]) == 2
    assert "was trained on arrays of shape (3,)" in capsys.readouterr().err


def test_the_command_that_is_named_shows_the_same_errors(tmp_path, capsys):
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 3)).astype(np.float32)
    (tmp_path / "my data").mkdir()
    np.savez("my data/leaky.npz", x=np.tile(x[:15], (4, 1)), y=np.tile(np.arange(15) % 2, 4))
    options = ["--validation", "0.25", "--split-seed", "3", "--test", "20"]
    assert cli.main(["train", "--dataset", "my data/leaky.npz", *options]) == 2
    said = capsys.readouterr().err
    command = re.search(r"; (jaxnn data check .*) shows all\n$", said)[1]
    assert command == "jaxnn data check 'my data/leaky.npz' --validation 0.25 --test 20 --split-seed 3"
    assert cli.main(shlex.split(command)[1:]) == 1
    first = said.removeprefix("jaxnn: my data/leaky.npz: ").split(" (and ")[0]
    assert first in " ".join(capsys.readouterr().out.split())


def test_the_checks_call_classes_and_columns_by_their_names(tmp_path, capsys):
    random = np.random.default_rng(0)
    rows = [[f"{random.normal():.6f}", "7", ("ash", "oak")[n % 2]] for n in range(60)]
    (tmp_path / "trees.csv").write_text("\n".join(map(",".join, [["width", "weight", "class"], *rows])))
    assert cli.main(["data", "check", "trees.csv"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"class +ash +oak\n", said)
    assert "constant features" in said and "'weight'" in said
    train_command.check_data(TrainConfig(dataset="trees.csv"), *nn.data.load_described("trees.csv"), Console())
    assert "'weight'" in capsys.readouterr().out


def test_data_list_show_check_download(tmp_path, capsys):
    write_pictures(tmp_path / "sky", 5)
    assert cli.main(["data", "show", "sky"]) == 0
    said = capsys.readouterr().out
    assert "sky: pictures; examples of shape (40, 30, 3)" in said
    with Image.open("sky.png") as drawn:
        assert min(drawn.size) > 200
    assert cli.main(["data", "show", "sky"]) == 0
    assert "sky-2.png" in capsys.readouterr().out, "nothing is overwritten"
    assert cli.main(["data", "check", "sky"]) == 0
    said = capsys.readouterr().out
    assert cli.main(["data", "check", "sky", "--json"]) == 0
    report = nn.data.DataReport.from_json(capsys.readouterr().out)
    assert str(report) == said.rstrip("\n")
    assert report == nn.data.validate(nn.data.load("sky"), classes=["moon", "sun"])
    np.savez("bad.npz", x=np.zeros((20, 3), np.float32), y=np.arange(20) % 2)
    assert cli.main(["data", "check", "bad.npz"]) == 1
    assert "error" in capsys.readouterr().out
    assert cli.main(["data", "download", "digits"]) == 0
    assert capsys.readouterr().out == "digits is built in: there is nothing to download\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("data show", "name the data set: jaxnn data show digits"),
        ("data list digits", "list takes no name; got 'digits'"),
        ("data check digits --out a.png", "--out is no setting of jaxnn data check"),
        ("data list --validation 3", "--validation is no setting of jaxnn data list"),
        ("data download digits --split-seed 3", "--split-seed is no setting of jaxnn data download"),
        ("data show digits --out .", ". must be a new file in a folder that is there"),
        ("data show digits --out a.abc", "--out is a PNG file, whose name ends in .png; got a.abc"),
        ("data show digits --out a.pdf", "--out is a PNG file, whose name ends in .png; got a.pdf"),
        ("data show digits --out no/where.png", "must be a new file in a folder that is there"),
        ("data show digits --json", "--json is no setting of jaxnn data show"),
        ("data download sky", "unknown data set 'sky'"),
        ("data look digits", "look"),
    ],
)
def test_what_the_data_command_refuses(arguments, sentence, capsys, tmp_path):
    assert cli.main(arguments.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert sentence in said
    assert list(tmp_path.iterdir()) == []
