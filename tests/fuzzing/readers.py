"""The readers that are put to the test."""

from pathlib import Path

from jaxnn.data import loading, read_idx
from jaxnn.data._files import reading
from jaxnn.data.cifar import read_cifar10, read_cifar100
from jaxnn.data.dataset import Parts
from jaxnn.data.formats import read_tar
from jaxnn.data.image_folder import read_image_folder
from jaxnn.data.images import read_image
from jaxnn.data.json_lists import read_json
from jaxnn.data.npz import read_npz
from jaxnn.data.tables import read_csv, read_csv_features
from tests.fuzzing.archives import SIZES, mutate_tar, tar_bomb, tar_oracle
from tests.fuzzing.binary import (
    cifar_oracle,
    idx_bomb,
    idx_folder_bomb,
    idx_folder_oracle,
    idx_oracle,
    mutate_cifar,
    mutate_idx,
    mutate_idx_folder,
)
from tests.fuzzing.folders import folder_oracle, mutate_folder
from tests.fuzzing.harness import Reader
from tests.fuzzing.npz_archives import mutate_npz, npz_bomb, npz_oracle
from tests.fuzzing.pictures import mutate_picture, picture_bomb, picture_oracle
from tests.fuzzing.texts import (
    csv_bomb,
    csv_features_oracle,
    csv_oracle,
    json_bomb,
    json_oracle,
    mutate_csv,
    mutate_json,
)

__all__ = ["READERS"]


def _read_idx_folder(path: Path) -> Parts:
    """As `load` reads it, before it is divided."""
    with reading(path):
        names = sorted(entry.name for entry in path.iterdir() if "images" in entry.name)
        return loading._read_idx_folder(path, names)


_ALL = (
    Reader("idx", read_idx, mutate_idx, idx_oracle, idx_bomb),
    Reader("cifar10", read_cifar10, mutate_cifar(1), cifar_oracle(1)),
    Reader("cifar100", read_cifar100, mutate_cifar(2), cifar_oracle(2)),
    Reader("tar", lambda path: read_tar(path, SIZES), mutate_tar, tar_oracle, tar_bomb),
    Reader("json", read_json, mutate_json, json_oracle, json_bomb),
    Reader("npz", read_npz, mutate_npz, npz_oracle, npz_bomb),
    Reader("csv", read_csv, mutate_csv(","), csv_oracle(None), csv_bomb(","), suffix=".csv"),
    Reader(
        "csv-classes",
        lambda path: read_csv(path, task="classification"),
        mutate_csv(","),
        csv_oracle("classification"),
        csv_bomb(","),
        suffix=".csv",
    ),
    Reader(
        "csv-numbers",
        lambda path: read_csv(path, task="regression"),
        mutate_csv(","),
        csv_oracle("regression"),
        csv_bomb(","),
        suffix=".csv",
    ),
    Reader(
        "tsv-features",
        lambda path: read_csv_features(path, ("d", "c")),
        mutate_csv("\t"),
        csv_features_oracle,
        csv_bomb("\t"),
        suffix=".tsv",
    ),
    Reader("picture", read_image, mutate_picture, picture_oracle(False), picture_bomb, tolerance=2.5 / 255),
    Reader(
        "photo",
        lambda path: read_image(path, colour=True),
        mutate_picture,
        picture_oracle(True),
        picture_bomb,
        tolerance=1.5 / 255,
    ),
    Reader("image-folder", read_image_folder, mutate_folder, folder_oracle, tolerance=3.0),
    Reader("idx-folder", _read_idx_folder, mutate_idx_folder, idx_folder_oracle, idx_folder_bomb),
)
READERS = {reader.name: reader for reader in _ALL}
