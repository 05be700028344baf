"""The options of the `jaxnn` command, as `--help` tells them."""

import contextlib
import html
import io
import os
import re
from unittest import mock

from jaxnn import cli

_WIDTH = 100


def describe_commands() -> str:
    """A section for each command, in Markdown."""
    return "\n\n".join(_section(name) for name in cli.COMMANDS)


def _section(command: str) -> str:
    written = io.BytesIO()
    said = io.TextIOWrapper(written, encoding="utf-8")  # of which the parser draws its boxes
    with mock.patch.dict(os.environ, COLUMNS=str(_WIDTH), NO_COLOR="1"), contextlib.redirect_stdout(said):
        status = cli.main([command, "--help"])
        said.flush()
    before, *boxes = written.getvalue().decode().split("╭─")
    if status != 0 or not boxes:
        raise ValueError(f"jaxnn {command} --help ends with status {status}, and has {len(boxes)} boxes")
    usage, *description = before.strip().split("\n\n")
    lines = [f"## jaxnn {command}", *map(_text, description), f"```text\n{usage.removeprefix('usage: ')}\n```"]
    return "\n\n".join([*lines, *(entry for box in boxes for entry in _entries(box))])


def _entries(box: str) -> list[str]:
    """The arguments or options in a box, each as an item of a list of definitions."""
    title, *rows = box.splitlines()
    rows = [row[2:-1].rstrip() for row in rows if row.startswith("│")]
    if not rows:
        raise ValueError(f"the box {title!r} of --help is empty")
    entries: list[list[str]] = []
    for row in rows:
        if row[:1].strip():
            name, _, rest = row.partition("  ")
            entries.append([name, rest])
        else:
            entries[-1].append(row)
    return [f"`{name}`\n:   {_text(' '.join(words))}" for name, *words in entries if name != "-h, --help"]


def _text(words: str) -> str:
    """Text in which Markdown finds nothing to set."""
    return re.sub(r"([*_`\[\]|])", r"\\\1", html.escape(" ".join(words.split()), quote=False))
