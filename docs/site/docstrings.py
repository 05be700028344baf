"""Docstrings as mkdocstrings takes them: what is set apart by indentation alone becomes a block of code."""

import re
import textwrap
from typing import Any

import griffe

_SECTIONS = ("Args:", "Attributes:", "Yields:")
_SEVERAL = re.compile(r"^ {4}\w+(?:, \w+)+(?=: )", re.MULTILINE)  # errors with one description
_EXAMPLE = re.compile(r"^(>>> .*(?:\n.+)*)", re.MULTILINE)
_SET_APART = re.compile(r"^(?P<before>\S.*)?\n\n?(?P<text>(?: {4}.*(?:\n|\Z)|\n(?= {4}))+)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Docstrings of jaxnn: formulas and tables by indentation, examples after `>>>`, fields with a comment."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Prepare what stands in the docstring."""
        if obj.docstring:
            obj.docstring.value = with_fences(obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Write a section of the fields, from the comments or docstrings beside them."""
        fields = []
        for field in cls.attributes.values():
            if field.is_private or field.annotation is None:
                continue
            text = field.docstring.value if field.docstring else _comment(field)
            field.docstring = None  # or it would be an entry of its own besides
            fields.append(f"    {field.name}: {' '.join(text.split())}")
        if fields and cls.docstring:
            cls.docstring.value += "\n\nAttributes:\n" + "\n".join(fields)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Let `jaxnn.sweep` be the function, as it is for who imports it, not the file of that name."""
        for package in (pkg, *(module for module in pkg.modules.values() if module.is_init_module)):
            for module in list(package.modules.values()):
                if not module.is_init_module and module.name in module.members:
                    package.set_member(module.name, griffe.Alias(module.name, module[module.name], parent=package))


def _comment(field: griffe.Attribute) -> str:
    """What the comment beside a field says; nothing if there is none."""
    _, *comments = field.lines[-1].split("  # ")
    return comments[-1] if comments and not comments[-1].startswith("type: ") else ""


def with_fences(text: str) -> str:
    """Markdown in which each indented part and each example is a fenced block."""
    parts = _EXAMPLE.split(text)
    parts[::2] = [_SET_APART.sub(_fenced, part) for part in parts[::2]]
    parts[1::2] = [f"```pycon\n{example}\n```" for example in parts[1::2]]
    return "".join(parts)


def _fenced(match: re.Match[str]) -> str:
    before, text = match["before"] or "", match["text"]
    if before == "Raises:":
        return _SEVERAL.sub(lambda errors: errors[0].replace(", ", " | "), match[0])
    if before == "Returns:":  # whose type the signature has
        return f"**Returns:** {' '.join(text.split())}\n\n"
    if before in _SECTIONS:
        return match[0]
    if "   " in before:  # the headings of a table
        before, text = "", f"{before}\n{text}"
    return f"{before}\n\n```text\n{textwrap.dedent(text).rstrip()}\n```\n\n"
