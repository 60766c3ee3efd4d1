"""Every tag of TensorBoard is in the table of docs/tensorboard.md, by which users find it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "tensorboard.md").read_text()
DOCUMENTED = re.findall(r"`(\d+_[\w/.]+)`", "".join(re.findall(r"^\| (`.*?`) \|", TABLE, re.M)))
KEPT: set[str] = set()  # places for what comes later
SOURCES = [path for folder in ("callbacks", "runner", "experiments") for path in sorted((ROOT / folder).rglob("*.py"))]


def written(path):
    """Return the tags in a file, with ``NAME`` for what stands in braces."""
    tags = re.findall(r"""["'](\d+_[a-z_]+(?:/[\w/{}.\[\]']*)?)["']""", path.read_text())
    return {re.sub(r"\{[^}]*\}", "NAME", tag) for tag in tags}


def is_like(first, second):
    """Whether two tags may be the same, where names in capitals, and what dots leave out, stand for any name."""
    any_name = re.compile(r"[A-Z][A-Z_]{2,}|\.\.\.")
    patterns = [re.compile(any_name.sub("[^ ]+", tag)) for tag in (first, second)]
    return bool(patterns[0].fullmatch(second) or patterns[1].fullmatch(first))


@pytest.mark.parametrize("path", [path for path in SOURCES if written(path)], ids=lambda path: path.stem)
def test_each_tag_that_is_written_is_in_the_table(path):
    for tag in written(path):
        assert any(is_like(tag, one) or is_like(f"{tag}/NAME", one) for one in DOCUMENTED), tag


def test_each_group_of_the_table_is_written():
    groups = {tag.split("/")[0] for path in SOURCES for tag in written(path)}
    assert {tag.split("/")[0] for tag in DOCUMENTED} - KEPT == groups


def test_tags_have_only_characters_that_every_tracker_takes():
    assert len(DOCUMENTED) > 30
    assert all(re.fullmatch(r"[\w./-]+", tag) for tag in DOCUMENTED)
