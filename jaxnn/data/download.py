"""Downloads: tried from each mirror in turn, verified, and only then under their final name."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxnn.data._files import printable
from jaxnn.data.dataset import DataError

__all__ = ["fetch"]

_TIMEOUT = 30  # seconds without a byte
_CHUNK = 2**16


def fetch(title: str, target: Path, mirrors: Sequence[str], size: int, verify: Callable[[Path], None]) -> None:
    """Fetch the file of this name and `size` in bytes from the first mirror that delivers the right content.

    The file gets its final name once it is whole and `verify` has not refused it, so this can be interrupted,
    repeated, and done by two processes at once. No more than `size` bytes are stored.

    Raises:
        DataError: no mirror delivers it, or it cannot be stored.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as aside:
            fetched = Path(aside) / target.name
            _from_first(title, fetched, mirrors, size, verify)
            fetched.replace(target)
    except OSError as error:
        raise DataError(f"{target}: {title} cannot be stored there ({error.strerror})") from None


def _from_first(title: str, path: Path, mirrors: Sequence[str], size: int, verify: Callable[[Path], None]) -> None:
    failures = []
    for mirror in mirrors:
        try:
            _receive(f"{mirror}{path.name}", path, size, f"{title}: {path.name}")
            verify(path)
            return
        except DataError as error:
            failures.append(f"{mirror} ({str(error).removeprefix(f'{path}: ')})")
    raise DataError(
        f"{title}: {path.name} could not be downloaded from {' or '.join(failures)}; "
        f"put the files into a folder yourself and name it with --data-dir"
    )


def _receive(url: str, path: Path, size: int, task: str) -> None:
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from urllib3 import exceptions

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    received = 0
    try:
        with (
            requests.get(url, stream=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}) as response,
            path.open("wb") as file,
            Progress(*columns, console=Console(file=sys.stderr)) as progress,
        ):
            if not response.ok:
                raise DataError(f"HTTP {response.status_code} {printable(response.reason)}")
            announced = response.headers.get("Content-Length", str(size))
            if announced != str(size):
                raise DataError(f"another file than expected: {announced} bytes instead of {size}")
            bar = progress.add_task(task, total=size)
            # Not decoded: servers call a file gzip-encoded that simply is a gzip file.
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                received += len(chunk)
                if received > size:
                    raise DataError(f"another file than expected: more than {size} bytes")
                file.write(chunk)
                progress.update(bar, advance=len(chunk))
    except DataError:
        raise
    except (requests.Timeout, exceptions.TimeoutError) as error:
        raise DataError(f"stalls after {received} of {size} bytes: none for {_TIMEOUT} seconds") from error
    except (requests.RequestException, exceptions.HTTPError, ValueError) as error:  # the last for an odd redirect
        what = f"breaks off after {received} of {size} bytes" if received else "cannot be reached"
        raise DataError(f"{what}: {type(error).__name__}") from error  # their texts are long
    if received < size:
        raise DataError(f"ends after {received} of {size} bytes")
