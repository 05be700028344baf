"""Data sets by name: where they are looked for, what is believed, and downloads from a server on this machine."""

import gzip
import hashlib
import importlib
import tarfile
from dataclasses import replace

import numpy as np
import pytest

import jaxnn as nn
from jaxnn.data import DataError, sources
from jaxnn.data.sources import download, load_named
from tests.data.test_cifar import cifar_bytes
from tests.data.test_download import serving
from tests.data.test_formats import idx_bytes, tar_bytes

MODULE = importlib.import_module("jaxnn.data.sources")  # whose name in nn.data is the function's
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def tiny_mnist():
    """Thirty training and eight test images in MNIST's layout."""
    random = np.random.default_rng(0)
    arrays = []
    for count in (30, 8):
        arrays.append(random.integers(0, 256, (count, 28, 28)).astype(np.uint8))
        arrays.append((np.arange(count) % 10).astype(np.uint8))
    return dict(zip(NAMES, arrays, strict=True))


def write(folder, arrays, gzipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        content = idx_bytes(array)
        (folder / f"{name}{'.gz' if gzipped else ''}").write_bytes(gzip.compress(content) if gzipped else content)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXNN_DATA", raising=False)
    folder = tmp_path / "cache"
    monkeypatch.setattr(MODULE, "_cache", lambda: folder)
    return folder


def let_there_be(monkeypatch, *known):
    """Other data sets by name than there are."""
    monkeypatch.setattr(MODULE, "SOURCES", known)


def check_tiny(splits):
    arrays = tiny_mnist()
    assert [part.x.shape for part in splits] == [(25, 28, 28, 1), (5, 28, 28, 1), (8, 28, 28, 1)]
    assert {part.x.dtype for part in splits} == {np.dtype(np.uint8)}
    assert {part.y.dtype for part in splits} == {np.dtype(np.int32)}
    images = np.concatenate([splits.train.x, splits.validation.x])[..., 0]
    np.testing.assert_array_equal(images, arrays[NAMES[0]])
    np.testing.assert_array_equal(np.concatenate([splits.train.y, splits.validation.y]), arrays[NAMES[1]])
    np.testing.assert_array_equal(splits.test.x[..., 0], arrays[NAMES[2]])
    np.testing.assert_array_equal(splits.test.y, arrays[NAMES[3]])


def test_digits_are_the_bundled_ones(digits):
    from sklearn.datasets import load_digits

    bundled = load_digits()
    images = np.concatenate([part.x for part in digits])
    assert [len(part.x) for part in digits] == [1258, 180, 359]
    order = np.lexsort(images.reshape(1797, 64).T)
    reference = np.lexsort(bundled.data.T)
    np.testing.assert_array_equal(images.reshape(1797, 64)[order], bundled.data[reference])
    counts = np.bincount(digits.test.y)
    assert counts.min() >= 34, "stratified: 35 or 36 of each digit"


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_folder_or_its_subfolder(gzipped, tmp_path, monkeypatch):
    write(tmp_path / "plain", tiny_mnist(), gzipped)
    write(tmp_path / "sub" / "mnist", tiny_mnist(), gzipped)
    check_tiny(nn.data.load("mnist", tmp_path / "plain"))
    check_tiny(nn.data.load("mnist", str(tmp_path / "sub")))
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path / "sub"))
    check_tiny(nn.data.load("mnist"))


def test_dotted_names_and_the_cache(cache):
    write(cache / "mnist", {name.replace("-idx", ".idx"): array for name, array in tiny_mnist().items()})
    check_tiny(nn.data.load("mnist"))


def test_a_stray_file_does_not_hide_the_cache(cache, tmp_path, monkeypatch):
    write(cache / "mnist", tiny_mnist())
    stray = dict([next(iter(tiny_mnist().items()))])
    write(tmp_path / "shared", stray)
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path / "shared"))
    monkeypatch.setattr(MODULE, "fetch", None)
    check_tiny(nn.data.load("mnist"))
    assert MODULE.download("mnist") == cache / "mnist"


def test_real_mnist(mnist_dir):
    splits = nn.data.load("mnist", mnist_dir)
    assert [part.x.shape for part in splits] == [(50000, 28, 28, 1), (10000, 28, 28, 1), (10000, 28, 28, 1)]
    np.testing.assert_array_equal(splits.train.y[:5], [5, 0, 4, 1, 9])
    np.testing.assert_array_equal(splits.test.y[:5], [7, 2, 1, 0, 4])


def test_mnist_is_not_taken_for_fashion_mnist(mnist_dir):
    with pytest.raises(DataError, match="is a file of mnist, not of fashion_mnist"):
        nn.data.load("fashion_mnist", mnist_dir)


def test_a_damaged_pixel_of_real_mnist_is_found(mnist_dir, tmp_path):
    for name in NAMES:
        content = bytearray(gzip.decompress((mnist_dir / f"{name}.gz").read_bytes()))
        content[-1] ^= name == NAMES[2]
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: is damaged, or not mnist's: SHA-256"):
        nn.data.load("mnist", tmp_path)


PARTS = ["train_x", "train_y", "test_x", "test_y"]


def changed(**arrays):
    return {**tiny_mnist(), **{NAMES[PARTS.index(k)]: v for k, v in arrays.items()}}


LABELS = tiny_mnist()[NAMES[1]]


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (changed(train_y=np.where(np.arange(30) == 4, 10, LABELS).astype(np.uint8)), "train-labels-idx1-ubyte: label 4 is 10; expected 0 to 9"),
        (changed(train_y=np.where(np.arange(30) == 4, -1, LABELS).astype(np.int8)), "label 4 is -1; expected 0 to 9"),
        (changed(train_y=LABELS[:, None]), r"holds labels of shape \(30, 1\); expected \(30,\)"),
        (changed(train_y=LABELS.astype(np.float32)), "holds float32; expected integer labels"),
        (changed(train_y=LABELS[:-1]), "holds 29 labels, but train-images-idx3-ubyte 30 images"),
        (changed(test_x=np.zeros((8, 27, 28), np.uint8)), "expected uint8 images of 28x28 pixels"),
        (changed(test_x=np.zeros((8, 28, 28), np.float32)), "holds float32 of shape"),
        (changed(train_x=np.zeros((2, 28, 28), np.uint8), train_y=LABELS[:2]), "holds 2 images; 6 or more are needed"),
    ],
)  # fmt: skip
def test_what_does_not_fit_gets_a_sentence(arrays, sentence, tmp_path):
    write(tmp_path, arrays)
    with pytest.raises(DataError, match=sentence):
        nn.data.load("mnist", tmp_path)


def test_missing_and_truncated_files(tmp_path):
    write(tmp_path, tiny_mnist())
    whole = (tmp_path / NAMES[2]).read_bytes()
    (tmp_path / NAMES[2]).write_bytes(whole[:-1])
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte: is truncated"):
        nn.data.load("mnist", tmp_path)
    (tmp_path / NAMES[2]).unlink()
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte: no such file"):
        nn.data.load("mnist", tmp_path)
    with pytest.raises(DataError, match="no such folder; expected the files of mnist there"):
        nn.data.load("mnist", tmp_path / "nowhere")


def test_unknown_names():
    with pytest.raises(DataError, match="unknown data set 'minst': did you mean mnist"):
        nn.data.load("minst")
    assert nn.data.find("fashion-mnist").name == "fashion_mnist"


FOLDER, ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


def tiny_cifar10():
    """Twenty training and four test photos in CIFAR-10's layout: six files of four."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (24, 32, 32, 3)).astype(np.uint8)
    return images, np.arange(24, dtype=np.uint8) % 10


def batches():
    images, labels = tiny_cifar10()
    parts = zip(np.split(images, 6), np.split(labels, 6), strict=True)
    return dict(zip(BATCHES, (cifar_bytes(*part) for part in parts), strict=True))


def packed(contents):
    members = [(FOLDER, b"", tarfile.DIRTYPE), (f"{FOLDER}/readme.html", b"<p>")]
    return gzip.compress(tar_bytes([*members, *((f"{FOLDER}/{name}", part) for name, part in contents.items())]))


def write_batches(folder, contents=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (contents or batches()).items():
        (folder / name).write_bytes(content)


def few_records(monkeypatch, *mirrors, sha256=None):
    """Let the files of CIFAR-10 have four records each."""
    official = nn.data.find("cifar10")
    files = tuple(replace(file, count=4) for file in official.files)
    size = len(packed(batches()))
    archive = replace(official.archive, size=size, sha256=sha256 or official.archive.sha256)
    let_there_be(monkeypatch, replace(official, files=files, mirrors=mirrors, archive=archive))


@pytest.fixture
def four_records(monkeypatch):
    few_records(monkeypatch)


def check_tiny_cifar10(splits):
    images, labels = tiny_cifar10()
    assert [len(part.x) for part in splits] == [16, 4, 4]
    for part, start, stop in zip(splits, (0, 16, 20), (16, 20, 24), strict=True):
        assert (part.x.dtype, part.y.dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(part.x, images[start:stop])
        np.testing.assert_array_equal(part.y, labels[start:stop])


@pytest.mark.parametrize("place", [".", FOLDER, "cifar10", f"cifar10/{FOLDER}"])
@pytest.mark.parametrize("form", ["files", "archive", "unzipped archive"])
@pytest.mark.parametrize("by", ["data_dir", "environment", "cache"])
def test_cifar10_in_every_place_and_form(place, form, by, four_records, tmp_path, cache, monkeypatch):
    base = cache if by == "cache" else tmp_path / "data"
    if form == "files":
        write_batches(base / place)
    else:
        write_batches(base / place, {ARCHIVE: packed(batches())})
    if form == "unzipped archive":
        (base / place / ARCHIVE.removesuffix(".gz")).write_bytes(gzip.decompress((base / place / ARCHIVE).read_bytes()))
        (base / place / ARCHIVE).unlink()
    if by == "environment":
        monkeypatch.setenv("JAXNN_DATA", str(base))
    data_dir = base if by == "data_dir" else None
    check_tiny_cifar10(nn.data.load("cifar10", data_dir))
    assert nn.data.where(nn.data.find("cifar10"), data_dir) == base / place


def test_what_is_unpacked_goes_before_the_archive_and_the_archive_before_a_part(four_records, tmp_path):
    write_batches(tmp_path, {ARCHIVE: b"never opened"})
    write_batches(tmp_path / FOLDER)
    check_tiny_cifar10(nn.data.load("cifar10", tmp_path))
    write_batches(tmp_path / "part", {ARCHIVE: packed(batches()), BATCHES[0]: b"never opened"})
    check_tiny_cifar10(nn.data.load("cifar10", tmp_path / "part"))


@pytest.mark.slow  # its files take long to unpack
def test_real_cifar10(cifar10_dir):
    splits = nn.data.load("cifar10", cifar10_dir)
    assert [part.x.shape for part in splits] == [(40000, 32, 32, 3), (10000, 32, 32, 3), (10000, 32, 32, 3)]
    images = np.concatenate([splits.train.x, splits.validation.x])
    np.testing.assert_array_equal(np.bincount(np.concatenate([splits.train.y, splits.validation.y])), [5000] * 10)
    np.testing.assert_array_equal(np.bincount(splits.test.y), [1000] * 10)
    # The means of red, green and blue that papers subtract.
    means = [images[..., channel].mean() for channel in range(3)]
    np.testing.assert_allclose(means, [125.3, 123.0, 113.9], atol=0.3)
    steps = [np.abs(np.diff(images[:1000].astype(np.int16), axis=axis)).mean() for axis in (1, 2)]
    assert max(steps) < 20, "neighbours are alike along rows and columns: 15, against 60 in any order"
    ships = splits.test.x[splits.test.y == nn.data.find("cifar10").about.classes.index("ship")]
    top, bottom = (ships[:, rows].mean() for rows in (slice(0, 8), slice(24, 32)))
    assert top > bottom + 20, "the sky is up"


def test_a_cifar10_file_of_another_length_or_label(four_records, tmp_path):
    whole = batches()
    for content, sentence in {
        whole[BATCHES[2]][:-1]: "is truncated: 4 records are 12292 bytes; it ends after 12291",
        whole[BATCHES[2]] + whole[BATCHES[1]][:3073]: "is too long: 4 records end at byte 12292; there are more",
        b"\x0a" + whole[BATCHES[2]][1:]: "label at byte 0 is 10; expected 0 to 9",
    }.items():
        write_batches(tmp_path, whole | {BATCHES[2]: content})
        with pytest.raises(DataError, match=f"data_batch_3.bin: {sentence}"):
            nn.data.load("cifar10", tmp_path)
    archive = packed(whole | {BATCHES[2]: b"\x0a" + whole[BATCHES[2]][1:]})
    write_batches(tmp_path / "packed", {ARCHIVE: archive})
    with pytest.raises(DataError, match=f"{ARCHIVE}: {FOLDER}/data_batch_3.bin: label at byte 0 is 10"):
        nn.data.load("cifar10", tmp_path / "packed")
    write_batches(tmp_path / "cut", {ARCHIVE: archive[:-1000]})
    with pytest.raises(DataError, match=f"{ARCHIVE}: is truncated: the gzip stream has no end"):
        nn.data.load("cifar10", tmp_path / "cut")


def test_official_files_have_ten_thousand_records(tmp_path):
    write_batches(tmp_path)
    with pytest.raises(DataError, match=r"data_batch_1.bin: is truncated: 10000 records are 30730000 bytes"):
        nn.data.load("cifar10", tmp_path)


def test_missing_cifar10_files(four_records, tmp_path):
    write_batches(tmp_path)
    (tmp_path / BATCHES[3]).unlink()
    with pytest.raises(DataError, match=r"data_batch_4.bin: no such file; cifar10 needs it"):
        nn.data.load("cifar10", tmp_path)
    (tmp_path / "python" / "cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(
        DataError, match=rf"expected the files of cifar10 there: .*test_batch.bin, or {ARCHIVE} \(the binary"
    ):
        nn.data.load("cifar10", tmp_path / "python")
    missing = batches()
    del missing[BATCHES[5]]
    write_batches(tmp_path / "packed", {ARCHIVE: packed(missing)})
    with pytest.raises(DataError, match=f"{ARCHIVE}: does not hold {FOLDER}/test_batch.bin"):
        nn.data.load("cifar10", tmp_path / "packed")


@pytest.fixture
def server(monkeypatch):
    """A server with the tiny files of MNIST; returns a function that names the mirrors."""
    arrays = tiny_mnist()
    files = {f"{name}.gz": gzip.compress(idx_bytes(array)) for name, array in arrays.items()}
    official = nn.data.find("mnist")

    def mirrors(*names, gzipped_digest=False):
        digest = lambda name: {
            "sha256": None if gzipped_digest else hashlib.sha256(idx_bytes(arrays[name])).hexdigest(),
            "gzip_sha256": hashlib.sha256(files[f"{name}.gz"]).hexdigest() if gzipped_digest else None,
        }
        known = tuple(
            replace(f, count=len(arrays[f.name]), gzip_size=len(files[f"{f.name}.gz"]), **digest(f.name))
            for f in official.files
        )
        urls = tuple(f"{host}/{name}/" for name in names)
        let_there_be(monkeypatch, replace(official, files=known, mirrors=urls))

    with serving(files) as running:
        host = running.host
        yield mirrors


@pytest.mark.parametrize("gzipped_digest", [False, True])
def test_download_tries_the_mirrors_in_turn(server, cache, gzipped_digest, capsys):
    server("gone", "broken", "wrong", "good", gzipped_digest=gzipped_digest)
    check_tiny(nn.data.load("mnist"))
    assert sorted(path.name for path in cache.rglob("*.gz")) == sorted(f"{name}.gz" for name in NAMES)
    assert "mnist: t10k-labels-idx1-ubyte.gz" in capsys.readouterr().err
    server("gone")  # the second time nothing is fetched
    check_tiny(nn.data.load("mnist"))


def test_a_download_that_fails_leaves_nothing_and_can_be_repeated(server, cache):
    server("gone", "broken", "wrong")
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte.gz could not be downloaded from .*gone.*broken.*wrong"
    ):
        nn.data.load("mnist")
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    server("good")
    (cache / "mnist" / f"{NAMES[0]}.gz").unlink(missing_ok=True)
    check_tiny(nn.data.load("mnist"))


def test_a_download_begun_is_finished(server, cache):
    server("good")
    nn.data.load("mnist")
    (cache / "mnist" / f"{NAMES[3]}.gz").unlink()
    check_tiny(nn.data.load("mnist"))


def test_a_cache_that_cannot_be_written(server, cache):
    server("good")
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: mnist cannot be stored there"):
        nn.data.load("mnist")


def test_cifar10s_archive_is_downloaded_verified_and_kept(cache, monkeypatch, capsys):
    archive = packed(batches())
    digest = hashlib.sha256(archive).hexdigest()
    with serving({ARCHIVE: archive}) as running:
        host = running.host
        few_records(monkeypatch, *(f"{host}/{name}/" for name in ("gone", "broken", "wrong")), sha256=digest)
        with pytest.raises(
            DataError, match=rf"{ARCHIVE} could not be downloaded from .*gone.*broken.*wrong/ \(another file"
        ):
            nn.data.load("cifar10")
        assert [path for path in cache.rglob("*") if path.is_file()] == []
        few_records(monkeypatch, f"{host}/wrong/", f"{host}/good/", sha256=digest)
        check_tiny_cifar10(nn.data.load("cifar10"))
    assert f"cifar10: {ARCHIVE}" in capsys.readouterr().err
    assert [path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()] == [f"cifar10/{ARCHIVE}"]
    check_tiny_cifar10(nn.data.load("cifar10"))  # the second time nothing is fetched: the server is gone


def test_a_download_with_another_digest_is_refused(cache, monkeypatch):
    with serving({ARCHIVE: packed(batches())}) as running:
        few_records(monkeypatch, f"{running.host}/good/")  # with the official digest
        with pytest.raises(DataError, match="another file than expected, by its SHA-256"):
            nn.data.load("cifar10")


def test_sources_are_all_described():
    assert len({source.name for source in sources()}) == len(sources())
    for source in sources():
        about = source.about
        assert about.title
        assert bool(about.classes) != bool(about.targets)
        assert len(set(about.classes)) == {"diabetes": 0, "cifar100": 100}.get(source.name, 10)
        assert about.brightest == {"digits": 16, "diabetes": None}.get(source.name, 255)
        assert (about.drawing is None) == (source.name in ("diabetes", "cifar10", "cifar100"))
        assert len(source.files) == {"digits": 0, "diabetes": 0, "cifar10": 6, "cifar100": 2}.get(source.name, 4)
        if not source.files:
            continue
        assert len(set(source.mirrors)) >= 2
        assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in source.mirrors)
        assert not any("toronto" in mirror for mirror in source.mirrors[:-1]), "throttled: only if nobody else has it"
        assert sum(file.count for file in source.files) == (60_000 if source.archive else 140_000)
        if source.archive:
            assert source.archive.labels[-1] == about.outputs
        digests = [source.archive.sha256] if source.archive else [f.sha256 or f.gzip_sha256 for f in source.files]
        assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)
        assert source.archive or all(file.gzip_size > 1000 for file in source.files)


def test_diabetes_is_the_bundled_one_in_its_own_units():
    from sklearn.datasets import load_diabetes

    bundled = load_diabetes(scaled=False)
    about = nn.data.find("diabetes").about
    assert list(about.columns) == bundled.feature_names
    assert (about.shape, about.outputs) == ((10,), 1)
    parts = load_named(nn.data.find("diabetes"))
    assert [part.x.shape for part in parts] == [(310, 10), (44, 10), (88, 10)]
    assert {(part.x.dtype, part.y.dtype, part.y.shape[1]) for part in parts} == {(np.dtype("f4"), np.dtype("f4"), 1)}
    rows = np.concatenate([np.c_[part.x, part.y] for part in parts])
    expected = np.c_[bundled.data, bundled.target].astype(np.float32)
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])
    assert rows[:, 0].min() == 19, "years"
    other = load_named(nn.data.find("diabetes"), validation=0, test=42, seed=1)
    assert [len(part.x) for part in other] == [400, 0, 42]
    assert not np.array_equal(other.test.x, load_named(nn.data.find("diabetes"), validation=0, test=42).test.x)


def test_built_in_sets_are_divided_as_asked(digits):
    parts = load_named(nn.data.find("digits"), validation=0.3, seed=2)
    assert [len(part.x) for part in parts] == [899, 539, 359]
    for one, same in zip(digits, load_named(nn.data.find("digits"), test=0.2, seed=0), strict=True):
        np.testing.assert_array_equal(one.x, same.x)


def test_an_official_test_set_stays_itself_and_validation_data_comes_from_the_training_data(tmp_path):
    write(tmp_path, tiny_mnist())
    mnist, arrays = nn.data.find("mnist"), tiny_mnist()
    for validation, sizes in ((0.3, [21, 9]), (10, [20, 10]), (0, [30, 0])):
        parts = load_named(mnist, tmp_path, validation=validation, seed=1)
        assert [len(part.x) for part in parts] == [*sizes, 8]
        np.testing.assert_array_equal(parts.test.x[..., 0], arrays[NAMES[2]])
        np.testing.assert_array_equal(parts.test.y, arrays[NAMES[3]])
        images = np.concatenate([parts.train.x, parts.validation.x])[..., 0].reshape(30, -1)
        official = arrays[NAMES[0]].reshape(30, -1)
        np.testing.assert_array_equal(images[np.lexsort(images.T)], official[np.lexsort(official.T)])
    assert np.bincount(load_named(mnist, tmp_path, validation=10).validation.y).tolist() == [1] * 10, "stratified"
    first, second = (load_named(mnist, tmp_path, validation=10, seed=seed).validation.x for seed in (1, 2))
    assert not np.array_equal(first, second)
    for test in (0.2, 0):
        with pytest.raises(ValueError, match=rf"test={test}: mnist has a test set of its own, which is never mixed in"):
            load_named(mnist, tmp_path / "not read", test=test)


def three_sets(monkeypatch):
    """MNIST, Fashion-MNIST and KMNIST with tiny files of their own, known by their digests."""
    random, contents, known = np.random.default_rng(1), {}, []
    for name in ("mnist", "fashion_mnist", "kmnist"):
        source, files = nn.data.find(name), []
        contents[name] = {}
        for file, shape in zip(source.files, ((30, 28, 28), (30,), (8, 28, 28), (8,)), strict=True):
            content = idx_bytes(random.integers(0, 10, shape).astype(np.uint8))
            contents[name][f"{file.name}.gz"] = gzip.compress(content, mtime=0)
            digests = {
                key: hashlib.sha256(stored).hexdigest()
                for key, stored in (("sha256", content), ("gzip_sha256", contents[name][f"{file.name}.gz"]))
                if getattr(file, key)
            }
            files.append(replace(file, count=shape[0], gzip_size=len(contents[name][f"{file.name}.gz"]), **digests))
        known.append(replace(source, files=tuple(files)))
    let_there_be(monkeypatch, *known)
    return contents


@pytest.mark.parametrize("given", ["mnist", "fashion_mnist", "kmnist"])
def test_sets_of_the_same_layout_are_not_mistaken_for_each_other(given, tmp_path, monkeypatch):
    for name, content in three_sets(monkeypatch)[given].items():
        (tmp_path / name).write_bytes(content)
    for asked in ("mnist", "fashion_mnist", "kmnist"):
        source = nn.data.find(asked)
        if asked == given:
            assert [len(part.x) for part in load_named(source, tmp_path)] == [25, 5, 8]
            continue
        with pytest.raises(DataError, match=f"ubyte.gz: is a file of {given}, not of {asked}"):
            load_named(source, tmp_path)


@pytest.mark.parametrize("given", ["mnist", "fashion_mnist", "kmnist"])
def test_whose_files_lie_in_a_shared_folder_is_told_by_their_digest(given, tmp_path, monkeypatch):
    contents = three_sets(monkeypatch)
    names = list(contents)
    place = lambda name, folder=tmp_path: nn.data.where(nn.data.find(name), folder)
    for name, content in contents[given].items():
        assert [place(asked) for asked in names] == [None] * 3, "some files are not the data set"
        (tmp_path / name).write_bytes(content)
    assert {asked: place(asked) for asked in names} == {asked: tmp_path if asked == given else None for asked in names}
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path))
    assert place(given, None) == tmp_path
    (tmp_path / "kmnist").mkdir()  # in a folder of its name it counts, and does so first
    for name, content in contents["kmnist"].items():
        (tmp_path / "kmnist" / name).write_bytes(content)
    assert place("kmnist") == tmp_path / "kmnist"
    labels = tmp_path / f"{NAMES[3]}.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes()), compresslevel=1, mtime=1))
    told = {"mnist": tmp_path}.get(given)  # of the others the content's digest is not known
    assert place(given) == (tmp_path / "kmnist" if given == "kmnist" else told)
    labels.write_bytes(labels.read_bytes()[:-5])
    assert place("mnist") is place("fashion_mnist") is None


def test_files_of_ones_own_in_the_same_layout_are_mnists(tmp_path):
    write(tmp_path, tiny_mnist())
    found = {source.name for source in sources() if nn.data.where(source, tmp_path)}
    assert found == {"mnist"}
    check_tiny(nn.data.load("fashion_mnist", tmp_path))  # and still read by the name that is asked for


def test_an_incomplete_folder_does_not_hide_a_whole_one(tmp_path):
    write(tmp_path / "mnist", {NAMES[0]: tiny_mnist()[NAMES[0]]})
    with pytest.raises(DataError, match=f"mnist/{NAMES[1]}: no such file, gzipped or not; mnist needs it"):
        nn.data.load("mnist", tmp_path)
    write(tmp_path, tiny_mnist())
    assert nn.data.where(nn.data.find("mnist"), tmp_path) == tmp_path
    check_tiny(nn.data.load("mnist", tmp_path))


def test_the_environments_folder_is_passed_over_where_its_files_are_anothers(tmp_path, cache, monkeypatch):
    contents = three_sets(monkeypatch)
    for name, content in contents["mnist"].items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path))
    with serving(contents["kmnist"]) as server:
        let_there_be(monkeypatch, *(replace(source, mirrors=(f"{server.host}/good/",)) for source in MODULE.SOURCES))
        assert [len(part.x) for part in nn.data.load("kmnist")] == [25, 5, 8]
        assert download("mnist") == tmp_path
        assert download("kmnist", tmp_path) == tmp_path / "kmnist", "mnist's files beside it do not count"
        assert server.asked == [f"/good/{name}" for name in contents["kmnist"]] * 2
    assert {path.name for path in (cache / "kmnist").iterdir()} == set(contents["kmnist"])


@pytest.mark.parametrize("by", ["data_dir", "environment"])
def test_what_lies_in_the_folder_itself_is_verified_and_not_fetched(by, tmp_path, cache, monkeypatch):
    files = three_sets(monkeypatch)["mnist"]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    if by == "environment":
        monkeypatch.setenv("JAXNN_DATA", str(tmp_path))
    data_dir = tmp_path if by == "data_dir" else None
    let_there_be(monkeypatch, *(replace(source, mirrors=()) for source in MODULE.SOURCES))
    assert download("mnist", data_dir) == tmp_path
    images = tmp_path / f"{NAMES[0]}.gz"
    images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes())[:-1] + b"\xff", mtime=0))
    with pytest.raises(DataError, match="is damaged, or not mnist's"):
        download("mnist", data_dir)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def tiny_cifar100(*mirrors):
    """Ten training and four test photos in CIFAR-100's layout, and the archive that holds them."""
    images = np.random.default_rng(3).integers(0, 256, (14, 32, 32, 3)).astype(np.uint8)
    fine = np.arange(14) * 7
    contents = {
        "train.bin": cifar_bytes(images[:10], fine[:10] // 5, fine[:10]),
        "test.bin": cifar_bytes(images[10:], fine[10:] // 5, fine[10:]),
    }
    archive = gzip.compress(tar_bytes([(f"cifar-100-binary/{name}", part) for name, part in contents.items()]), mtime=0)
    official = nn.data.find("cifar100")
    packing = replace(official.archive, size=len(archive), sha256=hashlib.sha256(archive).hexdigest())
    files = tuple(replace(file, count=count) for file, count in zip(official.files, (10, 4), strict=True))
    return replace(official, files=files, archive=packing, mirrors=mirrors), images, fine, contents, archive


@pytest.mark.parametrize("packed", [False, True])
def test_cifar100_has_its_fine_labels(packed, tmp_path):
    source, images, fine, contents, archive = tiny_cifar100()
    write_batches(tmp_path, {"cifar-100-binary.tar.gz": archive} if packed else contents)
    parts = load_named(source, tmp_path)
    for part, start, stop in zip(parts, (0, 8, 10), (8, 10, 14), strict=True):
        np.testing.assert_array_equal(part.x, images[start:stop])
        np.testing.assert_array_equal(part.y, fine[start:stop])
        assert part.y.dtype == np.int32
    with pytest.raises(DataError, match="expected the files of cifar10 there"):
        nn.data.load("cifar10", tmp_path)


def test_a_data_set_is_downloaded_into_a_folder_of_its_name(cache, tmp_path):
    *_, archive = tiny_cifar100()
    with serving({"cifar-100-binary.tar.gz": archive}) as server:
        source = tiny_cifar100(f"{server.host}/wrong/", f"{server.host}/good/")[0]
        assert download(source, tmp_path) == tmp_path / "cifar100"
        assert download(source) == cache / "cifar100"
        asked = len(server.asked)
        assert asked == 4
        assert download(source, str(tmp_path)) == tmp_path / "cifar100"
        assert len(server.asked) == asked, "nothing is fetched twice"
        load_named(source, tmp_path)
        load_named(source)
        stored = tmp_path / "cifar100" / "cifar-100-binary.tar.gz"
        assert [path for path in tmp_path.rglob("*") if path.is_file() and cache not in path.parents] == [stored]
        stored.write_bytes(archive[:-20])
        with pytest.raises(DataError, match=rf"^{stored}: is truncated"):
            download(source, tmp_path)


def test_a_download_is_finished_and_what_is_unpacked_counts(tmp_path, monkeypatch):
    source, *_, contents, _ = tiny_cifar100()
    write_batches(tmp_path / "cifar100" / "cifar-100-binary", contents)
    assert download(source, tmp_path) == tmp_path / "cifar100"
    files = three_sets(monkeypatch)["kmnist"]
    (tmp_path / "kmnist").mkdir()
    first, *others = files
    (tmp_path / "kmnist" / first).write_bytes(files[first])
    with serving(files) as server:
        source = replace(nn.data.find("kmnist"), mirrors=(f"{server.host}/good/",))
        download(source, tmp_path)
        assert server.asked == [f"/good/{name}" for name in others]
    assert {path.name: path.read_bytes() for path in (tmp_path / "kmnist").iterdir()} == files


def test_what_is_built_in_or_unknown_is_not_downloaded(tmp_path):
    for name in ("digits", "diabetes"):
        with pytest.raises(DataError, match=f"^{name} is built in: there is nothing to download"):
            download(name, tmp_path)
    with pytest.raises(DataError, match="unknown data set 'cifar-1000': did you mean cifar100"):
        download("cifar-1000", tmp_path)
    assert list(tmp_path.iterdir()) == []
