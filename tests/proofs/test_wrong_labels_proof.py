"""The proof that wrong labels are found: what it plants, what it asks for, and the result that is kept."""

import json

import pytest

from assay.experiments.digits import load_items
from proofs import wrong_labels


@pytest.mark.parametrize(("share", "to_next"), [(0.05, False), (0.2, True)])
def test_so_many_training_labels_are_wrong(share, to_next):
    truth = {item["sample_id"]: item["target"] for index, item in enumerate(load_items()) if index % 5}
    wrong = wrong_labels.wrong_labels(share, to_next, seed=1)
    assert len(wrong) == round(share * len(truth))
    assert wrong.keys() <= truth.keys()
    steps = {(label - truth[name]) % 10 for name, label in wrong.items()}
    assert steps == ({1} if to_next else {*range(1, 10)})
    assert wrong != wrong_labels.wrong_labels(share, to_next, seed=2)


def test_the_better_order_must_reach_the_better_bar():
    reached = {"3": {"margin": 0.5, "mean probability": 0.912}, "10": {"margin": 0.98, "mean probability": 0.9}}
    assert wrong_labels.proved("20% next class", reached)
    reached["3"]["mean probability"] = 0.91
    assert not wrong_labels.proved("20% next class", reached)
    assert wrong_labels.proved("20% random", reached)


def test_the_result_that_is_kept_proves_it():
    kept = json.loads(wrong_labels.RESULT.read_text())
    assert kept["machine"]["date"]
    assert kept["rows"].keys() == wrong_labels.SHARES.keys()
    for name, row in kept["rows"].items():
        assert row["proved"] and wrong_labels.proved(name, row["at epoch"])


def test_the_exit_code_says_whether_it_is_proved(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(wrong_labels, "RESULT", tmp_path / "result.json")
    for value, code in ((0.999, 0), (0.9, 1)):
        figures = {str(epoch): {"margin": value, "mean probability": value} for epoch in wrong_labels.AT}
        monkeypatch.setattr(wrong_labels, "measure", lambda *_, figures=figures: figures)
        assert wrong_labels.main([]) == code
    assert '"proved": false' in (tmp_path / "result.json").read_text()
    assert "20% next class" in capsys.readouterr().out
