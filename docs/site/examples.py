"""The notebook and the experiments, as the site shows them."""

from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

from experiments.shared.page import Section


def notebook_page(path: Path, source: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, with a link to itself below its title, and its pictures by name."""
    markdown, resources = MarkdownExporter().from_notebook_node(nbformat.read(path, as_version=4))
    markdown = markdown.replace("![png](", "![What the cell above draws](")
    title, _, text = markdown.strip().partition("\n")
    note = f"This page is [a notebook]({source}) and what it printed on a CPU."
    return f"{title}\n\n{note}\n{text}\n", resources["outputs"]


def experiments_list(sections: list[Section], page: str) -> str:
    """The experiments as a list in Markdown, each with a link to its place on the page of the results."""
    entries = (
        f"{section.number}. [{section.result.question}]({page}#{section.result.name})<br>`{section.result.name}`: "
        f"{len(section.claims) - len(section.failing)} of {len(section.claims)} claims hold, "
        f"on {', '.join(section.result.rows)}"
        for section in sections
    )
    return "\n".join([f"[That page]({page}), or question by question:\n", *entries])
