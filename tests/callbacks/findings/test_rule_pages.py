"""Every rule has a page, and stands in the list of docs/findings.md with its moment."""

import re
from pathlib import Path

import pytest

from assay.callbacks.findings.rules import all_rules

DOCS = Path(__file__).parents[3] / "docs"
LIST = (DOCS / "findings.md").read_text()
RULES = {rule.name: rule for rule in all_rules()}
SECTIONS = ("## What it looks like", "## Why it happens", "## What to do")
MOMENTS = {"data": "before training", "model": "before training", "steps": "first steps", "epoch": "first epochs"}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_a_page_that_says_what_it_looks_like_why_and_what_to_do(name):
    text = (DOCS / "findings" / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    places = [text.index(section) for section in SECTIONS]
    assert places == sorted(places)
    assert all(len(part.split()) >= 5 for part in re.split("|".join(SECTIONS), text)[1:])


@pytest.mark.parametrize("name", RULES)
def test_a_rule_stands_in_the_list_with_its_moment(name):
    (row,) = re.findall(rf"^\| \[{name}\]\(findings/{name}\.md\) \| .+ \| (.+) \|$", LIST, re.M)
    assert row == MOMENTS[RULES[name].at]


def test_there_is_no_page_without_a_rule():
    assert {path.stem for path in (DOCS / "findings").glob("*.md")} == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_names_its_source_its_cost_and_its_risk(name):
    text = Path(RULES[name].find.__code__.co_filename).read_text()
    assert all(word in text for word in ("Source:", "Cost:", "Risk:"))
