"""Bad input for `nn.data`: calls, each with a part of the sentence that refuses it."""

import numpy as np

import jaxnn as nn
from tests.boundary_formulas import INFINITY, KEY, KEYS, NAN, WORDS, X, not_a_number, not_a_size
from tests.boundary_training import DATA, HERE, LABELS, not_a_key, not_a_path, not_data

FOLDER, MISSING = HERE.parent, HERE.parent / "nowhere"
SPLITS = nn.data.Splits(DATA, DATA, DATA)
NEXT_TO_NOTHING = nn.data.Splits(DATA, DATA, DATA._replace(x="a"))


def not_a_file(read):
    return [
        *not_a_path(read),
        (lambda: read(MISSING), "nowhere: no such file"),
        (lambda: read(FOLDER), "tests: is no file, but a folder"),
        (lambda: read("a\0b"), "path 'a\\x00b' has a NUL in it, which no path has"),
    ]


def not_cifar(read):
    return [
        *not_a_file(read),
        (lambda: read(HERE), "boundary_training.py: is no file of whole records of 307"),
        *not_a_size(lambda records: read(HERE, records=records), "records"),
    ]


def not_pictures(read):
    return [
        *not_a_path(read),
        (lambda: read(MISSING), "nowhere: "),
        (lambda: read(HERE), "boundary_training.py: "),
        (lambda: read(FOLDER, image_size=8), "image_size must be a height and a width, such as (64, 64); got 8"),
        (
            lambda: read(FOLDER, image_size=(8, 8, 3)),
            "image_size must be a height and a width, such as (64, 64); got (8, 8, 3)",
        ),
        (lambda: read(FOLDER, image_size=(8, 0)), "the width of image_size must be at least 1; got 0"),
        (lambda: read(FOLDER, image_size=(8.0, 8)), "the height of image_size must be a whole number; got 8.0"),
        (
            lambda: read(FOLDER, image_size="8x8"),
            "image_size must be a height and a width, such as (64, 64); got '8x8'",
        ),
    ]


def not_a_name(call):
    """What is neither the name of a data set nor a path."""
    return [
        (lambda: call(3), "data is named by a name such as 'digits', or a path; got 3"),
        (lambda: call(None), "data is named by a name such as 'digits', or a path; got None"),
        (lambda: call(["digits"]), "data is named by a name such as 'digits', or a path; got ['digits']"),
        (lambda: call(X), "data is named by a name such as 'digits', or a path; got an array of float32"),
        (lambda: call(DATA), "data is named by a name such as 'digits', or a path; got"),
        (lambda: call(b"digits"), "data is named by a name such as 'digits', or a path; got b'digits'"),
    ]


def not_loaded(load):
    return [
        *not_a_name(load),
        (lambda: load(""), "data is named by a name such as 'digits', or a path; got an empty text"),
        (lambda: load("digit"), "unknown data set 'digit': did you mean digits?"),
        (lambda: load(MISSING), "nowhere: no such file or folder"),
        (lambda: load(HERE), "boundary_training.py: unknown kind of file"),
        *not_a_path(lambda path: load("mnist", [path]), "data_dir"),
        (lambda: load("mnist", 3), "data_dir must be a path, as a text or a Path; got"),
        *not_a_part(lambda **settings: load("digits", **settings)),
        *not_a_size(lambda seed: load("digits", seed=seed), "seed", 0),
        (lambda: load("digits", label=3), "label must be the name of a column; got 3"),
        (lambda: load("digits", task="sorting"), "unknown task 'sorting': there are classification, regression"),
        (lambda: load("digits", image_size=(8, 8)), "image_size= (--image-size) is for a folder of pictures, and digits is"),
        (lambda: load("digits", image_size=8), "image_size must be a height and a width, such as (64, 64); got 8"),
    ]  # fmt: skip


def not_a_part(call):
    """`call` takes validation and test by name."""
    return [
        *(bad for name in ("validation", "test") for bad in not_a_number(lambda size, name=name: call(**{name: size}), name)),
        (lambda: call(validation=-0.1), "validation must be finite and at least 0; got -0.1"),
        (lambda: call(test=1.5), "test must be a fraction from 0 to below 1 or a number of examples; got 1.5"),
    ]  # fmt: skip


def not_splits(call):
    return [
        (lambda: call(DATA), "splits must be Splits(train, validation, test); got Dataset"),
        (lambda: call("digits"), "splits must be Splits(train, validation, test); got str"),
        (lambda: call(None), "splits must be Splits(train, validation, test); got NoneType"),
        (lambda: call(NEXT_TO_NOTHING), "splits.test.x must be an array; got str"),
        (lambda: call(SPLITS._replace(train=(X, LABELS))), "splits.train must be a Dataset (x, y); got tuple"),
        (lambda: call(SPLITS._replace(train=nn.data.Dataset(X.tolist(), LABELS))), "splits.train.x must be an array; got list"),
    ]  # fmt: skip


def not_names(call, name, *others):
    return [
        (lambda: call(*others, **{name: "ab"}), f"{name} must be names; got 'ab'"),
        (lambda: call(*others, **{name: [1, 2]}), f"{name} must be names; got [1, 2]"),
        (lambda: call(*others, **{name: 1.5}), f"{name} must be names; got 1.5"),
    ]


def not_for_a_scaling(fit):
    wide = X.copy()
    wide[2, 1] = NAN
    return [
        (lambda: fit("a"), "x must be an array of real numbers; got str"),
        (lambda: fit(X.tolist()), "x must be an array of real numbers; got list"),
        (lambda: fit(WORDS), "x must be an array of real numbers; got object"),
        (lambda: fit(X.astype(complex)), "x must be an array of real numbers; got complex128"),
        (lambda: fit(KEYS), "x must be an array of real numbers; got key<fry>"),
        (lambda: fit(X[:0]), "x must hold examples to fit a scaling to; got shape (0, 3)"),
        (lambda: fit(np.float32(1)), "x must hold examples to fit a scaling to; got shape ()"),
        (lambda: fit(np.ones(())), "x must hold examples to fit a scaling to; got shape ()"),
        (lambda: fit(wide), "x[2, 1] is nan; every value must be finite"),
        (lambda: fit(X * np.float32(INFINITY)), "x[0, 0] is inf; every value must be finite"),
        (lambda: fit(np.ma.masked_array(X)), "x is a masked array"),
        *(
            (lambda axis=axis: fit(X, axis), "axis must be 0 (each feature by itself) or None (one range for all); got")
            for axis in (1, -1, "0", 0.0, False, X)
        ),
    ]


def not_scaled(scale):
    return [
        (lambda: scale("a"), "x must be an array of real numbers; got str"),
        (lambda: scale(None), "x must be an array of real numbers; got NoneType"),
        (lambda: scale(X.tolist()), "x must be an array of real numbers; got list"),
        (lambda: scale(WORDS), "x must be an array of real numbers; got object"),
        (lambda: scale(X.astype(complex)), "x must be an array of real numbers; got complex128"),
        (lambda: scale(X[:, :2]), "x has shape (4, 2); this scaling was fitted to features of shape (3,)"),
        (lambda: scale(np.ones((4, 1, 1))), "x has shape (4, 1, 1); this scaling was fitted to features of shape (3,)"),
    ]


MIN_MAX, STANDARDIZE = nn.data.min_max(X), nn.data.standardize(X)


def batches(dataset=DATA, batch_size=2, key=KEY, **settings):
    return nn.data.batches(dataset, batch_size, key=key, **settings)


def stream(source=range(4), **settings):
    return nn.data.stream(source, **settings)


STREAM = nn.data.stream((X, LABELS))


def streamed(batch_size=2, key=KEY, **settings):
    return STREAM.batches(batch_size, key=key, **settings)


def not_batches(call):
    return [
        *not_a_size(lambda size: call(batch_size=size), "batch_size"),
        (lambda: call(batch_size=5), "batch_size is 5, but there are only 4 training examples"),
        *not_a_key(lambda key: call(key=key)),
        *not_a_size(lambda epoch: call(epoch=epoch), "epoch", 0),
        (lambda: call(drop_last=1), "drop_last must be True or False; got 1"),
    ]


LARGER = nn.data.Dataset(np.ones((40, 3)), np.arange(40) % 2)
PARTS = nn.data.Parts(LARGER)

FILES = {
    "data.read_idx": [*not_a_file(nn.data.read_idx), (lambda: nn.data.read_idx(HERE), "boundary_training.py: is no IDX file")],
    "data.read_cifar10": not_cifar(nn.data.read_cifar10),
    "data.read_cifar100": not_cifar(nn.data.read_cifar100),
    "data.read_json": [*not_a_file(nn.data.read_json), (lambda: nn.data.read_json(HERE), "boundary_training.py: byte 0: expected")],
    "data.read_npz": [*not_a_file(nn.data.read_npz), (lambda: nn.data.read_npz(HERE), "boundary_training.py: ")],
    "data.read_csv": [
        *not_a_path(nn.data.read_csv),
        (lambda: nn.data.read_csv("nowhere.csv"), "nowhere.csv: no such file"),
        (lambda: nn.data.read_csv(HERE), "boundary_training.py: "),
        (lambda: nn.data.read_csv(HERE, task="sorting"), "unknown task 'sorting': there are classification, regression"),
        (lambda: nn.data.read_csv(HERE, label=3), "label must be the name of a column; got 3"),
    ],
    "data.list_image_folder": not_pictures(nn.data.list_image_folder),
    "data.read_image_folder": not_pictures(nn.data.read_image_folder),
    "data.load": not_loaded(nn.data.load),
    "data.load_described": not_loaded(nn.data.load_described),
    "data.name_of": not_a_name(nn.data.name_of),
    "data.by_name": not_a_name(nn.data.by_name),
    "data.find": [
        *not_a_name(nn.data.find),
        (lambda: nn.data.find("minst"), "unknown data set 'minst': did you mean mnist or kmnist?"),
        (lambda: nn.data.find(MISSING), "unknown data set"),
    ],
    "data.download": [
        *not_a_name(nn.data.download),
        (lambda: nn.data.download("minst"), "unknown data set 'minst': did you mean mnist or kmnist?"),
        (lambda: nn.data.download("digits"), "digits is built in: there is nothing to download"),
        *not_a_path(lambda path: nn.data.download("mnist", [path]), "data_dir"),
    ],
    "data.where": [
        *(
            (lambda wrong=wrong: nn.data.where(wrong), "source must be a Source, as find('mnist') gives it; got")
            for wrong in ("mnist", None, 3, HERE, DATA)
        ),
        *not_a_path(lambda path: nn.data.where(nn.data.find("mnist"), [path]), "data_dir"),
    ],
    "data.split": [
        *not_data(nn.data.split, "dataset"),
        *not_a_part(lambda **settings: nn.data.split(DATA, **settings)),
        (lambda: nn.data.split(DATA, test=4), "validation=0.1 and test=4 leave none of 4 examples to train on"),
        *not_a_size(lambda seed: nn.data.split(DATA, seed=seed), "seed", 0),
    ],
    "data.divide": [
        (lambda: nn.data.divide(DATA), "parts must be Parts(train, validation, test, …); got Dataset"),
        (lambda: nn.data.divide("digits"), "parts must be Parts(train, validation, test, …); got str"),
        *not_data(lambda train: nn.data.divide(nn.data.Parts(train)), "parts.train"),
        *not_a_part(lambda **settings: nn.data.divide(PARTS, **settings)),
        (lambda: nn.data.divide(PARTS._replace(test=LARGER), test=0.5), "test=0.5: the data has a test part of its own"),
        (lambda: nn.data.divide(PARTS, validation=0.01), "validation=0.01 of 40 examples is not one"),
        *not_a_size(lambda seed: nn.data.divide(PARTS, seed=seed), "seed", 0),
    ],
    "data.min_max": not_for_a_scaling(nn.data.min_max),
    "data.standardize": not_for_a_scaling(nn.data.standardize),
    "data.MinMax.__call__": not_scaled(MIN_MAX),
    "data.Standardize.__call__": not_scaled(STANDARDIZE),
    "data.Standardize.inverse": not_scaled(STANDARDIZE.inverse),
    "data.validate": [
        *not_splits(nn.data.validate),
        *not_names(nn.data.validate, "classes", SPLITS),
        *not_names(nn.data.validate, "columns", SPLITS),
        (lambda: nn.data.validate(SPLITS, classes=0), "classes must be at least 1; got 0"),
        (lambda: nn.data.validate(SPLITS, classes=True), "classes must be a whole number; got True"),
        (lambda: nn.data.validate(SPLITS, classes=["a", "a"]), "classes"),
        (lambda: nn.data.validate(SPLITS, columns=["a"]), "columns must be the names of the features; got 1, and train.x of shape (4, 3)"),
    ],
    "data.preview": [
        *not_splits(nn.data.preview),
        *not_names(nn.data.preview, "classes", SPLITS),
        *not_names(nn.data.preview, "columns", SPLITS),
        *not_names(nn.data.preview, "targets", SPLITS),
        *not_a_size(lambda count: nn.data.preview(SPLITS, per_class=count), "per_class"),
        *not_a_size(lambda seed: nn.data.preview(SPLITS, seed=seed), "seed", 0),
    ],
    "data.batches": [
        *not_data(lambda data: batches(data), "dataset"),
        *not_batches(batches),
        (lambda: batches(shuffle="yes"), "shuffle must be True or False; got 'yes'"),
    ],
    "data.stream": [
        (lambda: stream(3), "source must have len(source) and source[i], or be two arrays (x, y); got int"),
        (lambda: stream([]), "source has no examples"),
        (lambda: stream("photos"), "source must hold examples; got the path 'photos'"),
        (lambda: stream(SPLITS), "source must be one part of the data; got Splits (use its .train)"),
        (lambda: stream((X, LABELS[:3])), "source.x has 4 examples and source.y has 3; they must be as many"),
        (lambda: stream(decode=3), "decode must be a function (source[i]) -> (x, y); got int 3"),
        *not_a_size(lambda threads: stream(threads=threads), "threads"),
        *not_a_size(lambda workers: stream(workers=workers), "workers", 0),
        *not_a_size(lambda prefetch: stream(prefetch=prefetch), "prefetch"),
        *not_a_number(lambda timeout: stream(timeout=timeout), "timeout"),
        (lambda: stream(timeout=0), "timeout must be finite and above 0; got 0"),
    ],
    "data.Stream.batches": [
        *not_batches(streamed),
        (lambda: streamed(sampling="random"), "unknown sampling 'random'"),
        *not_a_size(lambda start: streamed(start=start), "start", 0),
        (lambda: streamed(start=3), "start must be below 3; got 3"),
    ],
}  # fmt: skip
