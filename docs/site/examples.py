"""The notebook and the experiments, as the site shows them."""

from pathlib import Path

from nbconvert import MarkdownExporter

from experiments.shared.page import Section

_TEMPLATE = Path(__file__).parent / "notebook.md.j2"
_PICTURE = "Validation accuracy of 64 networks over their learning rate, after the last epoch"


def notebook_page(path: Path, source: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, with a link to itself below its title, and its pictures by name."""
    exporter = MarkdownExporter(template_file=str(_TEMPLATE))
    about = {"output_files_dir": "notebook-pictures", "alt": _PICTURE}
    markdown, resources = exporter.from_filename(str(path), resources=about)
    title, _, text = markdown.strip().partition("\n")
    note = f"[Download the notebook]({source}). What it printed here was on a CPU."
    return f"{title}\n\n{note}\n{text}\n", resources["outputs"]


def experiments_list(sections: list[Section], page: str) -> str:
    """The experiments as a list in Markdown, each with a link to its place on the page of the results."""
    entries = (
        f"{section.number}. [{section.result.question}]({page}#{section.result.name})<br>`{section.result.name}`: "
        f"{len(section.claims) - len(section.failing)} of {len(section.claims)} claims hold"
        for section in sections
    )
    return "\n".join([f"[All results on one page]({page}), or question by question:\n", *entries])
