"""Downloads: tried from each mirror in turn, verified, and only then under their final name."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxnn.data.dataset import DataError

__all__ = ["download"]


def download(title: str, target: Path, mirrors: Sequence[str], verify: Callable[[Path], None]) -> None:
    """Fetch the file of this name from the first mirror that delivers the right content.

    The file gets its final name once it is whole and `verify` has not refused it, so this can be interrupted and
    repeated.

    Raises:
        DataError: no mirror delivers it, or it cannot be stored.
    """
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as aside:
            fetched = Path(aside) / target.name
            _fetch(title, fetched, mirrors, verify)
            fetched.replace(target)
    except OSError as error:
        raise DataError(f"{folder}: {title} cannot be stored there ({error.strerror})") from None


def _fetch(title: str, target: Path, mirrors: Sequence[str], verify: Callable[[Path], None]) -> None:
    import pooch

    failures = []
    for mirror in mirrors:
        url = f"{mirror}{target.name}"
        progress = _DownloadProgress(f"{title}: {target.name}")
        try:
            pooch.HTTPDownloader(progressbar=progress, timeout=30)(url, str(target), None)
            verify(target)
            return
        except (OSError, DataError) as error:
            reason = str(error) if isinstance(error, DataError) else type(error).__name__  # requests' text is long
            failures.append(f"{mirror} ({reason})")
        finally:
            progress.close()
    raise DataError(
        f"{title}: {target.name} could not be downloaded from {' or '.join(failures)}; "
        f"put the files into a folder yourself and name it with --data-dir"
    )


class _DownloadProgress:
    """The progress bar that pooch asks for, drawn by rich on stderr."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        self.total = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
        )
        self._task = self._progress.add_task(title)
        self._progress.start()

    def update(self, amount: int) -> None:
        self._progress.update(self._task, advance=amount, total=self.total or None)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.stop()
