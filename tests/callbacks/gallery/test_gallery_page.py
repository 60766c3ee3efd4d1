"""The page of the gallery says what there is, and its example runs."""

import re
from pathlib import Path

from made_samples import write_samples

from assay.callbacks.gallery.run_samples import RunSamples
from assay.callbacks.gallery.tab.plugin import _ROUTES

PAGE = (Path(__file__).parents[3] / "docs" / "gallery.md").read_text()


def test_the_page_lists_every_route():
    assert tuple(re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE)) == _ROUTES


def test_the_example_of_the_page_prints_the_worst_samples(tmp_path, monkeypatch, capsys):
    write_samples(tmp_path / "runs/digits/20260101-120000")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    table = RunSamples(tmp_path / "runs/digits/20260101-120000").table("valid")
    wrong = [(-loss, row) for row, loss in enumerate(table.columns["loss"]) if not table.columns["correct"][row]]
    printed = capsys.readouterr().out
    assert printed.startswith(f"{len(wrong)} ['valid-{min(wrong)[1]:03}.png'")
