import json

import pytest
from offline_browser import chromium

from benchmarks import gallery, gallery_browser, results


def test_each_question_is_answered_and_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "benchmarks" / "results")
    monkeypatch.setattr(gallery_browser, "missing", lambda: "no browser here")
    (tmp_path / "benchmarks").mkdir()
    gallery.main(["--samples", "300", "--repetitions", "2"])
    rows = json.loads((results.FOLDER / "gallery-cpu.json").read_text())["rows"]
    assert rows["answers"].keys() == gallery.QUESTIONS.keys()
    for row in rows["answers"].values():
        assert row["first_s"] > 0
        assert len(row["again_s"]["values"]) == 2
    told = capsys.readouterr().out
    assert "first page" in told and told.count("no browser here") == 1 and rows["browser"] == {}


@pytest.mark.long
def test_the_tab_is_opened_and_used_in_a_browser_and_measured(tmp_path):
    with chromium():
        assert gallery_browser.missing() == ""
    gallery.make_samples(tmp_path / "run" / "samples" / "valid", 300)
    rows = gallery_browser.measure(tmp_path, 1, takes_whole=True)
    assert {"first view", "page_mib", *gallery_browser.ACTS} <= rows.keys()
    assert all(value > 0 for name in gallery_browser.ACTS for value in rows[name]["values"])
    assert len(gallery_browser.told(rows)) == len(gallery_browser.ACTS) + 2
