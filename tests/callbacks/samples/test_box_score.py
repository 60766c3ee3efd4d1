import pytest
from kit import boxes

from assay.callbacks import UsageError
from assay.callbacks.samples.box_score import BoxF1

LEFT, RIGHT, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        (boxes(LEFT, RIGHT, scores=[0.9, 0.8]), boxes(LEFT, RIGHT), 1.0),
        (boxes(LEFT, FAR, scores=[0.9, 0.8]), boxes(LEFT, RIGHT), 2 / 4),
        (boxes(LEFT, LEFT, scores=[0.9, 0.8]), boxes(LEFT), 2 / 3),
        (boxes(LEFT, scores=[0.4]), boxes(LEFT), 0.0),
        (boxes(LEFT, scores=[0.9], labels=[2]), boxes(LEFT), 0.0),
        (boxes((0, 0, 10, 6), scores=[0.9]), boxes(LEFT), 1.0),
        (boxes((0, 0, 10, 4), scores=[0.9]), boxes(LEFT), 0.0),
        (boxes(scores=[]), boxes(), 1.0),
        (boxes(scores=[]), boxes(LEFT), 0.0),
        (boxes(LEFT, scores=[0.9]), boxes(), 0.0),
    ],
    ids=["all", "one of two", "twice", "unsure", "other class", "overlaps", "hardly", "none", "missed", "false"],
)
def test_f1_of_a_sample(found, true, expected):
    later = BoxF1()({"logits": [found, boxes(LEFT, scores=[1.0])], "target": [true, boxes(LEFT)]})
    assert later() == [pytest.approx(expected), 1.0]


def test_a_missing_key_is_named():
    with pytest.raises(UsageError, match="box_f1 asks for key 'detections'"):
        BoxF1(output_key="detections")({"target": []})
