"""The committed results, and what the README says of them."""

import json
import re
from pathlib import Path

import pytest

from experiments.shared import page
from experiments.shared.catalogue import NAMES, find
from experiments.shared.experiment import RESULTS
from experiments.shared.rows import ROWS

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture(scope="module")
def results():
    return {path.parent.name: json.loads(path.read_text()) for path in RESULTS.glob("*/result.json")}


def test_there_is_one_of_each_in_its_full_form_with_the_real_images(results):
    assert set(results) == set(NAMES)
    for experiment in find(NAMES):
        result = results[experiment.name]
        assert not result["quick"]
        assert result["data"] in (None, "MNIST", "CIFAR-10") or "numerical_training" in result["name"], result["data"]
        assert result["question"] == experiment.question
        assert result["description"] == experiment.description


def test_every_claim_holds(results):
    claims = [
        (name, claim["words"]) for name, result in results.items() for claim in result["claims"] if not claim["holds"]
    ]
    assert claims == []


def test_the_readme_counts_the_rows(results):
    sections = [page.read_section(number, RESULTS / name / "result.json") for number, name in enumerate(NAMES, start=1)]
    reproduced = sum(row.verdict == "reproduced" for row in page.rows_of(sections))
    assert reproduced == len(ROWS)  # else "all" is wrong
    assert int(re.search(r"\*\*All (\d+) of the textbook's results are reproduced", README)[1]) == reproduced


def test_the_readmes_figures_are_there():
    figures = re.findall(r"!\[([^]]+)\]\((experiments/results/[^)]+)\)", README)
    assert len(figures) == 3
    for alt, path in figures:
        assert (RESULTS.parents[1] / path).stat().st_size > 5_000
        assert len(alt) > 40


def test_they_are_of_modest_size():
    sizes = [path.stat().st_size for path in RESULTS.rglob("*") if path.name != "index.html"]
    assert sum(sizes) < 15e6
    assert max(sizes) < 1.5e6
