"""What the command says when something is wrong, and the exit statuses that go with it."""

import sys

from jaxnn.data._files import printable

__all__ = ["BAD_INPUT", "FAILED", "INTERRUPTED", "complain"]

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def complain(sentence: str) -> None:
    """One line on stderr, whatever is in it."""
    print(f"jaxnn: {printable(sentence.strip())}", file=sys.stderr)
