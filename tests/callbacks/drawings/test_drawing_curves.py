"""The sheet of all curves: where its lines are, and that they are seen in a card of TensorBoard."""

import numpy as np
import pytest
from legibility import check_texts, find_line, recorded_texts, seen_apart

from assay.callbacks.drawings.canvas.palette import class_colours
from assay.callbacks.drawings.curves import draw_curves

TRAIN, VALID = (tuple(colour) for colour in class_colours(2).tolist())
WIDTH = 700


def history(epochs, **metrics):
    """Return metrics of both loaders, each a function of epoch and loader."""
    return {
        epoch: {loader: {name: of(epoch, loader) for name, of in metrics.items()} for loader in ("train", "valid")}
        for epoch in range(1, epochs + 1)
    }


def falls(epoch, loader):
    return 1.0 / epoch + (loader == "valid") * 0.5


@pytest.mark.parametrize("epochs", [2, 30, 300])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_lines_and_texts_are_seen_in_a_card(epochs, count):
    metrics = {
        f"metric {i}": lambda epoch, loader: 1 - epoch / epochs + 0.2 * (loader == "valid") for i in range(count)
    }
    with recorded_texts() as texts:
        picture = draw_curves(history(epochs, **metrics), best=2, best_by="valid/metric 0")
    check_texts(picture, texts)
    written = [line for line, _ in texts]
    assert {"train", "valid", *metrics} <= set(written)
    panel = (WIDTH if count == 1 else WIDTH / 2) - 120
    for colour in (TRAIN, VALID):
        left, top, right, bottom = find_line(picture, colour, gap=2)
        assert right - left > 0.9 * panel
        assert bottom - top > 60
    assert min(seen_apart(TRAIN, VALID)) >= 40


def test_a_better_value_lies_where_the_axis_says():
    rising = draw_curves(history(2, score=lambda epoch, loader: float(epoch)))
    # Both loaders are the same here: the second is drawn over the first.
    rows, columns = np.nonzero((rising == np.array(VALID)).all(axis=-1) & (np.arange(len(rising)) > 100)[:, None])
    assert rows[columns.argmax()] < rows[columns.argmin()]


def test_values_that_are_not_finite_leave_a_gap_and_change_no_axis():
    broken = history(4, loss=lambda epoch, loader: float("nan") if epoch == 2 else float(epoch))
    with recorded_texts() as texts:
        draw_curves(broken)
    assert {"1", "4", "2.5"} <= {line for line, _ in texts}
    with recorded_texts() as texts:
        draw_curves(history(2, loss=lambda epoch, loader: float("inf")))
    assert "no finite value" in [line for line, _ in texts]


def test_values_that_are_far_apart_have_a_logarithmic_axis():
    with recorded_texts() as texts:
        draw_curves(history(3, loss=lambda epoch, loader: 100.0**-epoch))
    assert {"0.01", "0.0001", "1e-06"} <= {line for line, _ in texts}


def test_metrics_of_parts_come_last_and_too_many_are_counted():
    names = {f"part/{i}": falls for i in range(20)} | {"loss": falls}
    with recorded_texts() as texts:
        draw_curves(history(3, **names))
    written = [line for line, _ in texts]
    assert "9 more metrics in metrics.csv" in written
    assert written.index("loss") < written.index("part/0")


def test_one_epoch_is_shown_as_dots():
    picture = draw_curves(history(1, loss=falls))
    for colour in (TRAIN, VALID):
        assert ((picture == np.array(colour)).all(axis=-1)[90:]).sum() > 60


def test_a_run_without_metrics_has_a_sheet_too():
    assert draw_curves({}).shape[2] == 3
    assert draw_curves({1: {}}).shape[2] == 3


def test_bounds_are_left_out_and_a_long_name_stays_in_its_panel():
    long_name = "a_metric_with_a_name_that_is_wider_than_its_panel"
    with recorded_texts() as texts:
        picture = draw_curves(history(3, loss=falls, roc_auc_bound=falls, **{long_name: falls}))
    written = [line for line, _ in texts]
    assert not any("bound" in line for line in written)
    assert long_name not in written
    assert any(line.startswith("a_metric") and line.endswith("panel") for line in written)
    assert (picture[:, -2:] == 255).all()  # nothing reaches the edge
