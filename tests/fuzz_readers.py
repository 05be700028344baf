"""Every reader of files on mutated files: `python -m tests.fuzz_readers [--reader NAME ...] [--count 10000]`."""

import argparse
import faulthandler
import multiprocessing
import os
import sys
from pathlib import Path

from tests.fuzzing.harness import fuzz
from tests.fuzzing.readers import READERS


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Read mutated files: each must be refused with a DataError that names it and says in one line "
        "what is wrong, or give exactly what an independent oracle finds in it; in 10 seconds and 1 GB, without a "
        "warning, without writing. Each reader has a process of its own."
    )
    parser.add_argument("--reader", nargs="+", choices=READERS, default=list(READERS), metavar="NAME")
    parser.add_argument("--count", type=int, default=10_000, help="files per reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N", help="mutation N alone, again")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to put a file that broke its reader")
    parser.add_argument("--failures", type=int, default=1, help="how many may come before a reader's run ends")
    options = parser.parse_args()
    numbers = range(options.count) if options.only is None else range(options.only, options.only + 1)
    alone = multiprocessing.get_context("spawn")  # a crash or an endless loop in C ends only its reader's process
    failed = []
    for name in options.reader:
        process = alone.Process(target=_fuzz, args=(name, numbers, options.seed, options.failures, options.keep))
        process.start()
        process.join()
        if process.exitcode:
            failed.append(name)
        if process.exitcode not in (0, 1):
            print(f"{name}: its process ended with {process.exitcode}; its last file is in a folder fuzz-{name}-…")
    if failed:
        print(f"broken: {', '.join(failed)}")
    return 1 if failed else 0


def _fuzz(name: str, numbers: range, seed: int, failures: int, keep: Path | None) -> None:
    # The C libraries behind the readers tell the terminal of each damaged picture.
    sys.stderr = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    faulthandler.enable()
    report = fuzz(READERS[name], numbers, seed=seed, failures=failures, keep=keep)
    for broke in report.broken:
        print(broke)
    print(report, flush=True)
    sys.exit(1 if report.broken else 0)


if __name__ == "__main__":
    sys.exit(main())
