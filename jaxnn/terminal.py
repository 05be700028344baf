"""What the command says when something is wrong, and the exit statuses that go with it."""

import sys

__all__ = ["BAD_INPUT", "FAILED", "INTERRUPTED", "complain"]

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def complain(sentence: str) -> None:
    """One line on stderr."""
    print(f"jaxnn: {' '.join(sentence.split())}", file=sys.stderr)
