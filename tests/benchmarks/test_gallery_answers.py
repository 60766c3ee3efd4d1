import json

from benchmarks import gallery, results


def test_each_question_is_answered_and_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "benchmarks" / "results")
    (tmp_path / "benchmarks").mkdir()
    gallery.main(["--samples", "300", "--repetitions", "2"])
    rows = json.loads((results.FOLDER / "gallery-cpu.json").read_text())["rows"]
    assert rows["answers"].keys() == gallery.QUESTIONS.keys()
    for row in rows["answers"].values():
        assert row["first_s"] > 0
        assert len(row["again_s"]["values"]) == 2
    assert "first page" in capsys.readouterr().out
