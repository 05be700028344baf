"""Mutated folders of pictures, and what is in them."""

import functools
import os
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from jaxnn.data import Dataset
from jaxnn.data.dataset import Parts
from tests.fuzzing.harness import remove
from tests.fuzzing.mutations import put
from tests.fuzzing.pictures import enormous_picture, mutate_picture, picture_oracle

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_PARTS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
_NAMES = (
    "cats",
    "Dogs",
    "10",
    "9",
    "größe",
    "a b",
    "train",
    "TEST",
    "x\ny",
    "\x1b[31mred",
    os.fsdecode(b"\xff"),
    "n" * 200,
)


def _seed(random: Random, path: Path) -> list[Path]:
    """Pictures of one size in two or three classes, divided into parts or not."""
    divided = random.random() < 0.4
    parts = random.choice((("train", "test"), ("train", "val", "test"), ("train",))) if divided else (".",)
    mode, size = random.choice(("L", "RGB", "RGBA", "1")), (random.randint(1, 5), random.randint(1, 5))
    pictures = []
    for part in parts:
        for name in ("cats", "dogs", "zebras")[: 2 if divided else random.choice((2, 3))]:
            folder = path / part / name
            folder.mkdir(parents=True)
            for number in range(random.randint(1, 2)):
                picture = folder / f"{number}{random.choice(('.png', '.PNG', '.tiff', '.webp', '.ppm'))}"
                image = Image.frombytes("RGBA", size, random.randbytes(4 * size[0] * size[1])).convert(mode)
                if picture.suffix == ".ppm" and mode == "RGBA":
                    picture = picture.with_suffix(".png")
                image.save(picture, "PNG" if picture.suffix == ".png" else None)
                pictures.append(picture)
    return pictures


def _change(random: Random, path: Path, pictures: list[Path]) -> str:
    kind = random.choice(
        ("bytes", "bytes", "bytes", "suffix", "name", "folder's name", "removed", "emptied", "again", "other", "nested",
         "hidden", "link", "loop", "outside", "pipe", "size", "shades", "only one", "part", "unreadable")
    )  # fmt: skip
    there = [picture for picture in pictures if picture.exists()]
    if not there:
        return "no picture to change"
    picture = random.choice(there)
    folder = picture.parent
    name = random.choice(_NAMES)
    if kind == "bytes":
        picture.unlink()
        done = mutate_picture(random, picture)
        return f"{picture.name}: {'; '.join(done) or 'another picture'}"
    if kind == "suffix":
        picture.rename(picture.with_suffix(random.choice((*_SUFFIXES, ".txt", ".PNG", "", ".png.gz"))))
    elif kind == "name":
        picture.rename(picture.with_name(name + picture.suffix))
    elif kind == "folder's name" and not (folder.parent / name).exists():
        folder.rename(folder.parent / name)
    elif kind == "removed":
        remove(picture)
    elif kind == "emptied":
        for each in folder.iterdir():
            remove(each)
    elif kind == "again":
        (folder / f"again{picture.suffix}").write_bytes(picture.read_bytes())
    elif kind == "other":
        where = random.choice((path, folder, folder.parent))
        (where / random.choice(("notes.txt", "Thumbs.db", "a.png", "labels.csv", "x.npz"))).write_bytes(b"hello")
    elif kind == "nested":
        (folder / name / "deep").mkdir(parents=True, exist_ok=True)
    elif kind == "hidden":
        (random.choice((path, folder)) / random.choice((".DS_Store", ".git", "._1.png"))).write_bytes(b"hello")
    elif kind == "link":
        (folder / "link.png").symlink_to(picture)
    elif kind == "loop":
        (folder / random.choice(("loop", "loop.png"))).symlink_to(random.choice((folder, path, folder / "loop.png")))
    elif kind == "outside":
        (folder / "outside.png").symlink_to(random.choice(("/etc/passwd", "/dev/zero", "/nowhere", "/")))
    elif kind == "pipe":
        os.mkfifo(folder / "pipe.png")
    elif kind == "size":
        Image.new("L", (random.choice((1, 4, 6000)), random.choice((1, 4)))).save(folder / "size.png")
    elif kind == "shades":
        Image.new(random.choice(("L", "RGB", "P", "LA", "I;16")), (3, 3)).save(folder / "shades.png")
    elif kind == "only one":
        for each in path.iterdir():
            if each not in picture.parents:
                remove(each)
    elif kind == "part":
        (path / random.choice(("train", "test", "Validation", "val", "training")) / "cats").mkdir(
            parents=True, exist_ok=True
        )
    else:
        return "nothing"
    return f"{folder.name}/{picture.name}: {kind} {name[:10]!r}"


def mutate_folder(random: Random, path: Path) -> list[str]:
    if random.random() < 0.005:
        return put(random, path, b"no folder", ["a file"])
    path.mkdir()
    pictures = _seed(random, path)
    done: list[str] = []
    if random.random() < 0.95:
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            try:
                done.append(_change(random, path, pictures))
            except OSError as error:  # what an earlier change has left does not take this one
                done.append(f"not possible ({error.strerror})")
    return done


def folder_bomb(random: Random, path: Path) -> list[str]:
    """Enormous pictures among tiny ones, so that several threads come upon one at a time."""
    content, mutation = _enormous(random.choice((3000, 5700)))
    for name in ("cats", "dogs"):
        (path / name).mkdir(parents=True)
    tiny, enormous = path / "cats" / "001.png", path / "cats" / "000.png"
    Image.new("RGBA", (2, 2)).save(tiny)
    enormous.write_bytes(content)
    for number in range(2, 130):
        (path / "cats" / f"{number:03}.png").hardlink_to(enormous if number % 64 == 0 else tiny)
    (path / "dogs" / "0.png").hardlink_to(tiny)
    return [f"{mutation}, three times"]


@functools.cache
def _enormous(side: int) -> tuple[bytes, str]:
    return enormous_picture(side, bits=8, mode=6)


def folder_oracle(path: Path) -> Parts:
    """Folder by folder, every picture by Pillow."""
    names = _shown(path)
    if "train" in names and set(names) <= {*_PARTS, "TEST", "training", "Validation"}:
        parts = {{"training": "train"}.get(name.lower(), _PARTS.get(name.lower(), "?")): path / name for name in names}
        assert len(parts) == len(names) and "?" not in parts
    else:
        parts = {"train": path}
    classes = _shown(parts["train"])
    pictures: dict[str, list[tuple[Path, int]]] = {}
    for part, place in parts.items():
        held = _shown(place)
        assert set(held) <= set(classes)
        pictures[part] = [(place / name / file, classes.index(name)) for name in held for file in _shown(place / name)]
        assert part != "train" or {label for _, label in pictures[part]} == set(range(len(classes)))
    assert len(classes) > 1
    grey = True
    for listed in pictures.values():
        for file, _ in listed:
            assert file.suffix.lower() in _SUFFIXES and file.is_file()
            with Image.open(file) as image:
                grey = grey and image.mode.split(";")[0] in ("1", "L", "LA", "La", "I")
    read = picture_oracle(not grey)
    datasets = {}
    for part, listed in pictures.items():
        images = [np.rint(read(file) * 255).astype(np.uint8) for file, _ in listed]
        x = np.stack([image[..., None] if grey else image for image in images])
        datasets[part] = Dataset(x, np.array([label for _, label in listed], np.int32))
    assert len({dataset.x.shape[1:] for dataset in datasets.values()}) == 1
    return Parts(datasets["train"], datasets.get("validation"), datasets.get("test"), tuple(classes))


def _shown(folder: Path) -> list[str]:
    return sorted(
        entry.name for entry in folder.iterdir() if entry.name[0] != "." and entry.name.lower() != "thumbs.db"
    )
