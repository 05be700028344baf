"""`jaxnn doctor`: what this machine has for jaxnn, how fast it multiplies, and what is wrong."""

import dataclasses
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxnn.compilation_cache import MOST_BYTES, cache_folder, kept_in, total_bytes
from jaxnn.data._files import printable
from jaxnn.free_memory import free_bytes, free_bytes_of_host
from jaxnn.terminal import FAILED, print_json
from jaxnn.versions import available_cores, describe_devices, describe_processor, versions

__all__ = ["DoctorConfig", "Findings", "examine", "faults", "run"]

_SIZE = 2048  # of the matrices that are multiplied; large enough for a GPU to be busy
_SECONDS = 0.5  # that products of one kind are timed for
_LITTLE = 2**30  # bytes
# Packages that some commands need, and what they are for.
_OPTIONAL = {"grain": "data that does not fit in memory", "latex2mathml": "the page of the experiments"}
_SLOW = {
    "JAX_DISABLE_JIT": "nothing is compiled",
    "JAX_ENABLE_X64": "everything is computed in float64",
    "JAX_DEBUG_NANS": "every operation waits for its result",
}


@dataclass(frozen=True)
class DoctorConfig:
    """Say what is installed, on which devices it computes and how fast, where its caches are, and what is wrong.

    The exit status is 1 if something is wrong.
    """

    json: bool = False
    """Print it in JSON, for a program."""
    debug: bool = False
    """Show the whole traceback of an error."""


class Products(NamedTuple):
    """How a device multiplies matrices of one dtype."""

    per_second: float  # operations: 2 size³ a product
    error: float  # the largest, as a share of the largest entry


@dataclass(frozen=True)
class Findings:
    """All that is looked at."""

    versions: dict[str, str]
    """Of Python and the packages that numbers depend on."""
    plugins: dict[str, str]
    """JAX's packages for GPUs and TPUs, and their versions."""
    missing: tuple[str, ...]
    """Optional packages that are not installed."""
    processor: str
    """Name of the CPU."""
    cores: int
    """Cores that this process may use."""
    quota: float | None
    """Cores' worth of time that a container allows."""
    devices: tuple[str, ...]
    """What JAX computes on, by platform and kind."""
    nvidia: bool
    """Whether the system has an NVIDIA GPU."""
    free_bytes: int
    """Free memory of the first device."""
    host_free_bytes: int
    """Free memory of the host."""
    products: dict[str, Products]
    """By dtype, on the first device."""
    compiled: str | None
    """Folder of compiled programs; None if none are kept."""
    compiled_bytes: int
    """What they take."""
    wrong_programs: tuple[str, ...]
    """Of a few small programs that some versions of jaxlib have compiled wrongly, those that this one does."""
    environment: dict[str, str]
    """Variables that JAX, XLA and jaxnn listen to."""


def run(config: DoctorConfig, console: Console) -> int:
    """Print what is found, and return the exit status."""
    found = examine(os.environ)
    wrong = faults(found)
    if config.json:
        products = {name: measured._asdict() for name, measured in found.products.items()}
        print_json({**dataclasses.asdict(found), "products": products, "wrong": wrong})
    else:
        for line in _lines(found):
            console.print(printable(line))
        for number, sentence in enumerate(wrong):
            console.print(f"{'wrong' if number == 0 else '':8}{printable(sentence)}")
        if not wrong:
            console.print("all is well")
    return FAILED if wrong else 0


def examine(environment: Mapping[str, str]) -> Findings:
    """Look at everything, and multiply matrices for about a second."""
    here = jax.local_devices()[0]
    folder = kept_in()
    return Findings(
        versions(),
        {
            name: package.version
            for package in metadata.distributions()
            if (name := package.name or "").startswith(("jax-cuda", "jax-rocm", "libtpu"))  # half removed, it has none
            and name.endswith(("plugin", "tpu"))
        },
        tuple(name for name in _OPTIONAL if not _is_installed(name)),
        describe_processor(),
        available_cores(),
        _quota(Path("/sys/fs/cgroup/cpu.max")),
        tuple(describe_devices()),
        Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None,
        free_bytes(here),
        free_bytes_of_host(),
        {name: _products(name, here) for name in ("float32", "bfloat16")},
        None if folder is None else str(folder),
        0 if folder is None else total_bytes(folder),
        tuple(name for name, is_right in _PROGRAMS.items() if not is_right()),
        {
            name: value
            for name, value in sorted(environment.items())
            if name.startswith(("JAX_", "XLA_", "JAXNN_", "CUDA_VISIBLE"))
        },
    )


def faults(found: Findings) -> list[str]:
    """What is wrong, a sentence each, with what would mend it."""
    said = []
    platform = found.devices[0].partition(":")[0]
    told = found.environment
    is_hidden = told.get("JAX_PLATFORMS") == "cpu" or told.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if found.nvidia and platform == "cpu" and not is_hidden:
        remedy = (
            "its driver may be older than that package needs"
            if any("cuda" in name for name in found.plugins)
            else 'install JAX for it: python -m pip install "jax[cuda13]"'
        )
        said.append(f"there is an NVIDIA GPU, and JAX computes on the CPU: {remedy}")
    jaxlib = found.versions["jaxlib"]
    for program in found.wrong_programs:
        said.append(f"jaxlib {jaxlib} compiles {program} wrongly here: install another version of jax and jaxlib")
    for name, version in found.plugins.items():
        if name.startswith("jax") and version.split(".")[:2] != jaxlib.split(".")[:2]:
            said.append(f"{name} {version} and jaxlib {jaxlib} do not belong together: install both anew")
    if found.quota is not None and found.quota < 0.75 * found.cores:
        said.append(
            f"a container allows {found.quota:g} cores' worth of time, and {found.cores} are visible: threads will "
            f"wait for each other; let it see {max(1, round(found.quota))} (taskset, or --cpuset-cpus)"
        )
    if found.host_free_bytes < _LITTLE:
        said.append(f"only {_bytes(found.host_free_bytes)} of memory are free: something else holds the rest")
    if found.products["float32"].error > 1e-2:
        said.append(f"products in float32 are wrong by {found.products['float32'].error:.1g} of the largest entry")
    for name, consequence in _SLOW.items():
        if told.get(name, "0").lower() not in ("", "0", "false", "off", "no"):
            said.append(f"{name} is set: {consequence}, which is slow")
    folder = told.get("JAXNN_DATA")
    if folder and not Path(folder).expanduser().is_dir():
        said.append(f"JAXNN_DATA is {folder}, which is no folder")
    return said


def _lines(found: Findings) -> list[str]:
    kinds = {kind: found.devices.count(kind) for kind in found.devices}
    memory = f"memory  {_bytes(found.host_free_bytes)} free"
    if not found.devices[0].startswith("cpu"):
        memory += f", {_bytes(found.free_bytes)} on the first device"
    of_float32 = found.products["float32"]
    rates = [f"{measured.per_second / 1e9:,.0f} billion in {name}" for name, measured in found.products.items()]
    cache = f"{_bytes(found.compiled_bytes)} of {_bytes(MOST_BYTES)} at most, in {found.compiled}"
    quota = "" if found.quota is None else f" ({found.quota:g} cores' worth of time)"
    return [
        f"version {', '.join(f'{name} {version}' for name, version in found.versions.items())}",
        *(
            [f"        {', '.join(f'{name} {version}' for name, version in found.plugins.items())}"]
            if found.plugins
            else []
        ),
        f"machine {found.processor}, {found.cores} core{'' if found.cores == 1 else 's'}{quota}",
        f"devices {', '.join(f'{count} of {kind}' for kind, count in kinds.items())}",
        memory,
        f"speed   operations a second in products of {_SIZE} x {_SIZE}: {', '.join(rates)}",
        f"        float32 is exact to {of_float32.error:.1g} of the largest entry"
        + (" (products are rounded: jax.default_matmul_precision)" if of_float32.error > 1e-4 else ""),
        f"cache   compiled programs: {'none are kept' if found.compiled is None else cache}",
        f"        data sets: {cache_folder().parent}",
        *(f"without {name}: needed for {_OPTIONAL[name]}" for name in found.missing),
        *(f"set     {name}={value}" for name, value in found.environment.items()),
    ]


def _products(dtype: str, device: jax.Device) -> Products:
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(_SIZE, _SIZE)).astype(np.float32) for _ in range(2))
    placed = jax.device_put((jnp.asarray(a, dtype), jnp.asarray(b, dtype)), device)
    product = jax.jit(lambda a, b: a @ b)
    c = np.asarray(jax.block_until_ready(product(*placed)), np.float64)
    rows = slice(0, 16)
    exact = a[rows].astype(np.float64) @ b.astype(np.float64)
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < _SECONDS:
        start = time.perf_counter()
        jax.block_until_ready(product(*placed))
        seconds.append(time.perf_counter() - start)
    return Products(2 * _SIZE**3 / min(seconds), float(np.abs(c[rows] - exact).max() / np.abs(exact).max()))


def _quota(path: Path) -> float | None:
    """Cores' worth of time that a container allows; None without a limit."""
    try:
        most, period = path.read_text().split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError):
        return None


def _sums_of_squares_are_right() -> bool:
    """The squares of a vector's numbers, by way of products (jax issue 39103)."""
    numbers = jnp.arange(32_769, dtype=jnp.float32)
    rows = jnp.stack([numbers, jnp.zeros_like(numbers), jnp.zeros_like(numbers)], axis=1)
    squares = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=jnp.float32) @ row) ** 2)))(rows)
    return bool(np.allclose(squares, np.arange(32_769.0) ** 2, rtol=1e-4))


def _arctan_is_right() -> bool:
    """Of more numbers than a vector register holds (jax issue 39352)."""
    numbers = np.linspace(-3, 3, 101, dtype=np.float32)
    return bool(np.allclose(jnp.arctan(jnp.asarray(numbers)), np.arctan(numbers), atol=1e-3))


_PROGRAMS = {
    "a matrix times each of many rows, squared and summed (jax issue 39103),": _sums_of_squares_are_right,
    "jnp.arctan (jax issue 39352)": _arctan_is_right,
}


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _bytes(count: float | int) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
