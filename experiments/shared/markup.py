"""Formulas and docstrings as parts of a page."""

import html
import itertools
import re
import textwrap
from typing import NamedTuple
from xml.etree.ElementTree import Element, tostring

try:
    from latex2mathml.converter import convert_to_element
    from markupsafe import Markup, escape
except ModuleNotFoundError as error:
    raise ValueError('the page needs more packages: python -m pip install -e ".[report]"') from error

__all__ = ["Block", "description_blocks", "formula_markup"]

# Of MathML; what else a formula turns into is not let into the page.
_ELEMENTS = re.compile(
    "math|mrow|mi|mo|mn|mtext|mspace|msub|msup|msubsup|mfrac|msqrt|mroot|mover|munder|munderover|mtable|mtr|mtd|mstyle"
    "|mpadded|mphantom"
)
_ATTRIBUTES = re.compile(
    "accent|accentunder|columnalign|depth|displaystyle|fence|form|height|largeop|linebreak|linethickness|lspace"
    "|mathvariant|maxsize|minsize|movablelimits|rspace|scriptlevel|separator|stretchy|symmetric|width"
)


class Block(NamedTuple):
    """A part of a description."""

    kind: str  # prose, list, formula or command
    parts: list[Markup]


def formula_markup(latex: str) -> list[Markup]:
    r"""A formula as MathML: one for each part between \quad or \qquad, where a narrow page can break it.

    What cannot be turned into MathML is shown as it was written.

    >>> print(*formula_markup("a"))
    <math display="block"><mi>a</mi></math>
    >>> formula_markup(r"\left( a")
    [Markup('<code>\\left( a</code>')]
    """
    try:
        element = _cleaned(convert_to_element(latex.replace("{aligned}", "{align*}"), display="block"))
    except Exception:  # its errors have nothing in common but this
        return [Markup("<code>{}</code>").format(latex)]
    parts = []
    for is_space, children in itertools.groupby(element[0], key=_is_a_gap):
        if not is_space:
            part = Element("math", {"display": "block"})
            part.extend(children)
            parts.append(Markup(tostring(part, encoding="unicode")))
    return parts


def description_blocks(description: str) -> list[Block]:
    """A docstring without its first line, in parts: prose and lists, and what is indented, formulas and commands."""
    blocks = []
    lines = description.splitlines()[1:]
    for kind, group in itertools.groupby(lines, key=lambda line: "blank" if not line.strip() else line[:4] == "    "):
        text = textwrap.dedent("\n".join(group))
        if kind == "blank":
            continue
        if kind and all(line.startswith("python ") for line in text.splitlines()):
            blocks.append(Block("command", [escape(line) for line in text.splitlines()]))
        elif kind:
            blocks.append(Block("formula", [escape(text)]))
        elif text.startswith("- "):
            items = re.split(r"^- ", text, flags=re.MULTILINE)[1:]
            blocks.append(Block("list", [_inline(" ".join(item.split())) for item in items]))
        else:
            blocks.append(Block("prose", [_inline(" ".join(text.split()))]))
    return blocks


def _cleaned(element: Element) -> Element:
    """A copy with nothing in it but formulas: the converter passes on whatever it is given."""
    text = html.unescape(element.text or "")
    if not _ELEMENTS.fullmatch(element.tag) or "\\" in text or text == "&":
        raise ValueError(f"no formula: {element.tag} {text}")
    copy = Element(element.tag, {name: value for name, value in element.attrib.items() if _ATTRIBUTES.fullmatch(name)})
    copy.text = text
    if text == "~":  # the converter's form of \sim, set as a letter
        copy.tag, copy.text = "mo", "∼"
    elif element.tag == "mo" and text == "/":
        copy.attrib |= {"lspace": "0", "rspace": "0"}
    copy.extend(map(_cleaned, element))
    for function, argument in itertools.pairwise(copy):
        if function.tag == "mo" and len(function.text or "") > 1 and (function.text or "").isalpha():
            # It would stand as far from its argument as a plus sign does.
            function.attrib |= {"lspace": "0.17em", "rspace": "0" if argument.text == "(" else "0.17em"}
    return copy


def _is_a_gap(element: Element) -> bool:
    return element.tag == "mspace" and (element.get("width") in ("1em", "2em") or element.get("linebreak") == "newline")


def _inline(text: str) -> Markup:
    """`code` and *emphasis*."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"(?<![^\s(])\*(\S[^*<>]*?)(?<=\S)\*(?=[\s),.;:?]|$)", r"<em>\1</em>", marked))
