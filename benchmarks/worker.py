"""One contender in a process of its own: `python -m benchmarks.worker NAME CONTENDER [--quick]`.

So nobody's threads, devices, settings or memory touch another's. It builds the contender and says so; then each line
on stdin asks for one run and is answered with a line of JSON. At the end of stdin it says how much memory it took.
"""

import json
import multiprocessing
import os
import re
import resource
import sys
import time
from pathlib import Path


def main(row_name: str, contender_name: str, *, quick: bool) -> None:
    """Serve runs of one contender until stdin ends."""
    # What the libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**content: float) -> None:
        print(json.dumps(content), file=answers, flush=True)

    from benchmarks.catalogue import find

    contender = find(row_name, quick=quick).contenders[contender_name]
    run = contender.build()
    answer(built=1)
    for _ in sys.stdin:
        start = time.perf_counter()
        value = run()
        answer(seconds=time.perf_counter() - start, value=value)
    answer(peak_megabytes=peak_megabytes(contender.processes))


def peak_megabytes(processes: int = 0) -> float:
    """The largest resident memory of this process so far, and of `processes` others that it had started."""
    children = multiprocessing.active_children()
    known = [peak for process in children if (peak := _linux_peak(process.pid)) is not None]
    for process in children:
        process.terminate()
        process.join()
    peak = _linux_peak("self") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak += sum(known)
    peak += max(0, processes - len(known)) * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _linux_peak(process: int | str | None) -> int | None:
    """Of a running process, in kilobytes; None elsewhere than on Linux.

    There ru_maxrss begins with the size of the process that started this one.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) if found else None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], quick="--quick" in sys.argv[3:])
