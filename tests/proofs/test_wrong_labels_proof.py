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


def figures(**last):
    """Return figures that reach the bars of 20% next class by a hair."""
    first = {"margin": 0.5, "mean probability": 0.912, "precision of suspects": 0.5, "recall of suspects": 0.5}
    at_last = {"margin": 0.98, "mean probability": 0.9, "precision of suspects": 0.98, "recall of suspects": 0.89}
    return {"3": first, "10": at_last | last}


def test_the_better_order_must_reach_the_better_bar():
    reached = figures()
    assert wrong_labels.proved("20% next class", reached)
    reached["3"]["mean probability"] = 0.91
    assert not wrong_labels.proved("20% next class", reached)
    reached["10"]["precision of suspects"] = 0.99
    assert wrong_labels.proved("20% random", reached)


@pytest.mark.parametrize("missed", [{"precision of suspects": 0.97}, {"recall of suspects": 0.88}])
def test_suspects_must_be_right_and_found(missed):
    assert not wrong_labels.proved("20% next class", figures(**missed))


def test_right_labels_must_have_few_suspects():
    assert wrong_labels.proved("none", {"3": {"suspects": 5.0}, "10": {"suspects": 4.3}})
    assert not wrong_labels.proved("none", {"3": {"suspects": 6.0}, "10": {"suspects": 4.3}})


def test_the_result_that_is_kept_proves_it():
    kept = json.loads(wrong_labels.RESULT.read_text())
    assert kept["machine"]["date"]
    assert kept["rows"].keys() == {*wrong_labels.SHARES, wrong_labels.OF_SETS}
    for name, row in kept["rows"].items():
        assert row["proved"] and wrong_labels.proved(name, row["at epoch"])


def test_the_exit_code_says_whether_it_is_proved(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(wrong_labels, "RESULT", tmp_path / "result.json")
    for value, code in ((0.999, 0), (0.9, 1)):
        names = ("margin", "mean probability", "precision of suspects", "recall of suspects")
        made = {str(epoch): {**dict.fromkeys(names, value), "suspects": 3.0} for epoch in wrong_labels.AT}
        monkeypatch.setattr(wrong_labels, "measure", lambda *_, made=made: made)
        monkeypatch.setattr(wrong_labels.wrong_label_sets, "measure", lambda *_, made=made: made["10"])
        assert wrong_labels.main([]) == code
    assert '"proved": false' in (tmp_path / "result.json").read_text()
    assert "20% next class" in capsys.readouterr().out


def test_missing_and_false_labels_must_be_ranked_and_listed():
    reached = {"10": dict(wrong_labels.BARS_OF_SETS)}
    assert wrong_labels.proved(wrong_labels.OF_SETS, reached)
    for name, bar in wrong_labels.BARS_OF_SETS.items():
        assert not wrong_labels.proved(wrong_labels.OF_SETS, {"10": wrong_labels.BARS_OF_SETS | {name: bar - 0.001}})


def test_one_row_is_measured_and_the_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(wrong_labels, "RESULT", tmp_path / "result.json")
    (tmp_path / "result.json").write_text('{"rows": {"none": {"proved": true}}}')
    monkeypatch.setattr(wrong_labels.wrong_label_sets, "measure", lambda *_: dict(wrong_labels.BARS_OF_SETS))
    assert wrong_labels.main(["--only", wrong_labels.OF_SETS]) == 0
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert rows["none"] == {"proved": True} and rows[wrong_labels.OF_SETS]["proved"]


def test_pictures_of_several_digits_have_the_labels_of_their_digits():
    images, truth = wrong_labels.wrong_label_sets.pictures(seed=0)
    assert images.shape == (len(truth), 1, 8, 24) and truth.shape[1] == 10
    assert set(truth.sum(axis=1).tolist()) == {1, 2, 3}
