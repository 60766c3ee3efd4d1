"""Which boxes are suspects, by columns of epochs that are made by hand."""

import numpy as np
import pytest

from assay.callbacks.history.suspect_boxes import MOST, find_box_suspects
from assay.callbacks.measures.box_evidence import DOUBT, EVIDENCE, EXTRA

COUNT, EPOCHS, USUAL = 40, 3, 0.6
KNOWN = {"score": 0.9, "boxes": 3.0, "found": 3.0, "missed": 0.0, "false": 0.0, "hit_score": USUAL, "doubt": 0.4}


def epochs(*changes, factor=1.0, **known):
    """Return columns of epochs of a sound data set; a change is the epochs, the sample, and its numbers."""
    columns = dict.fromkeys(EVIDENCE, np.nan) | KNOWN | known
    found = [{name: np.full(COUNT, value) for name, value in columns.items()} for _ in range(EPOCHS)]
    for of, sample, numbers in changes:
        for at in of:
            for name, value in numbers.items():
                found[at][name][sample] = value
    for epoch in found:
        # Scores of a detector that is as good and less sure.
        support = (1 - epoch["doubt"]) * factor
        epoch["doubt"] = np.where(np.isfinite(epoch["doubt_likely"]), epoch["doubt"] * factor, 1 - support)
        for name in ("hit_score", "extra_score"):
            epoch[name] *= factor
    return found


def extra(score, label=2, box=(1, 2, 30, 40.5)):
    return {"extra_score": score, "extra_label": label, **dict(zip(EXTRA, box, strict=True))}


def doubt(value, likely=np.nan, label=1, box=(5, 6, 70, 80)):
    return {"doubt": value, "doubt_label": label, "doubt_likely": likely, **dict(zip(DOUBT, box, strict=True))}


def rows(suspects):
    columns = (suspects.kinds, suspects.index.tolist(), suspects.target.tolist(), suspects.likely.tolist())
    return [*zip(*columns, suspects.places, strict=True)]


ALL = range(EPOCHS)
PLANTED = ((ALL, 7, extra(0.75)), (ALL, 3, doubt(0.5, likely=2)), (ALL, 11, doubt(0.97)))
FOUND = [
    ("swapped_box", 3, 1, 2, "5 6 70 80"),
    ("missing_box", 7, -1, 2, "1 2 30 40.5"),
    ("false_box", 11, 1, -1, "5 6 70 80"),
]


@pytest.mark.parametrize("factor", [1.0, 0.4])
def test_each_kind_is_found_also_by_a_detector_whose_scores_are_all_low(factor):
    suspects = find_box_suspects(epochs(*PLANTED, factor=factor))
    assert rows(suspects) == FOUND
    support = 0.03 / USUAL
    assert suspects.score == pytest.approx([0.5 + 0.5 / (2 * USUAL), 0.75 / (2 * USUAL), (1 - support) / 2])


def test_a_sound_data_set_has_none():
    sound = epochs((ALL, 1, extra(0.65)), (ALL, 2, doubt(0.1, likely=2)), (ALL, 3, doubt(0.85)))
    assert len(find_box_suspects(sound)) == 0


def test_of_a_detector_that_is_sure_as_a_rule_half_of_what_lacks_to_1_is_asked_for():
    for score, count in ((0.92, 0), (0.96, 1)):
        assert len(find_box_suspects(epochs((ALL, 7, extra(score)), hit_score=0.9))) == count


def test_what_one_epoch_finds_is_no_suspect():
    once = epochs(([2], 7, extra(0.75)), ([2], 3, doubt(0.3, likely=2)), ([2], 11, doubt(0.97)))
    assert len(find_box_suspects(once)) == 0


def test_what_the_last_epoch_does_not_show_has_no_place_and_is_none():
    surer = [(sample, {name: 1.5 * value for name, value in of.items()}) for _, sample, of in PLANTED[:2]]
    before = epochs(*(([0, 1], *of) for of in surer))
    assert len(find_box_suspects(before)) == 0
    unseen = epochs(*PLANTED, *(([2], sample, dict.fromkeys(KNOWN, np.nan)) for sample in (3, 7, 11)))
    assert len(find_box_suspects(unseen)) == 0


def test_an_epoch_in_which_a_sample_was_not_seen_does_not_count():
    assert len(find_box_suspects(epochs(*PLANTED, ([0], 7, {"extra_score": np.nan})))) == 2
    skipped = epochs(*PLANTED, ([0], 7, {"extra_score": np.nan, "boxes": np.nan}))
    assert len(find_box_suspects(skipped)) == 3


def test_a_detector_that_finds_little_is_not_asked():
    assert find_box_suspects(epochs(*PLANTED, score=0.55)) is None
    assert find_box_suspects(epochs(*PLANTED, score=np.nan)) is None


def test_of_a_crowd_the_surest_tenth_are_suspects():
    crowd = epochs(*((ALL, sample, extra(0.7 + sample / 1000)) for sample in range(20)))
    suspects = find_box_suspects(crowd)
    assert suspects.index.tolist() == [19, 18, 17, 16] and len(suspects) == MOST * COUNT


def test_labels_and_places_that_are_not_known_are_left_open():
    suspects = find_box_suspects(epochs((ALL, 7, extra(0.75, label=np.nan, box=[np.nan, 2, 3, 4]))))
    assert rows(suspects) == [("missing_box", 7, -1, -1, "")]


def test_without_epochs_or_with_files_of_an_older_version_there_are_none():
    old = [{name: of for name, of in epoch.items() if name not in EVIDENCE} for epoch in epochs(*PLANTED)]
    mixed = old[:2] + epochs(*PLANTED)[2:]
    for given in ([], old):
        assert find_box_suspects(given) is None
    assert rows(find_box_suspects(mixed)) == FOUND
