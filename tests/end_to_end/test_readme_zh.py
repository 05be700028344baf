"""README.zh.md says what README.md says: the same headings, code, links, files and figures, in the same order."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text() for name in ("README.md", "README.zh.md"))


def prose_of(text):
    return re.sub(r"^```\w+\n.*?^```\n", "", text, flags=re.DOTALL | re.MULTILINE)


def blocks(text):
    """Each code block, with the number of headings before it."""
    found = re.finditer(r"^```\w+\n.*?^```\n", text, re.DOTALL | re.MULTILINE)
    return [(len(levels(text[: match.start()])), match[0]) for match in found]


def levels(text):
    return [len(hashes) for hashes in re.findall(r"^(#+) ", prose_of(text), re.MULTILINE)]


def sections(text):
    return re.split(r"^#+ .*$", prose_of(text), flags=re.MULTILINE)


def test_headings_and_code_blocks_are_the_same():
    assert levels(CHINESE) == levels(ENGLISH)
    assert blocks(CHINESE) == blocks(ENGLISH)


@pytest.mark.parametrize("number", range(len(sections(ENGLISH))))
def test_each_section_has_the_same_links_words_of_code_and_figures(number):
    english, chinese = (sections(text)[number] for text in (ENGLISH, CHINESE))
    links = [re.findall(r"\]\(([^)#]+)\)", text) for text in (english, chinese)]
    swapped = {"README.zh.md": "README.md"}
    assert sorted(swapped.get(link, link) for link in links[0]) == sorted(links[1])
    assert sorted(re.findall(r"`[^`]+`", english)) == sorted(re.findall(r"`[^`]+`", chinese))
    digits = [re.findall(r"\d[\d.,]*\d|\d", re.sub(r"`[^`]+`|\]\([^)]*\)", "", text)) for text in (english, chinese)]
    assert sorted(digits[0]) == sorted(digits[1])
    rows = [len(re.findall(r"^\|.*\|$", text, re.MULTILINE)) for text in (english, chinese)]
    assert rows[0] == rows[1]


def test_it_is_in_chinese():
    for section in sections(CHINESE)[1:]:
        assert len(re.findall(r"[\u4e00-\u9fff]", section)) >= 6, section
