"""The sheet of curves in TensorBoard: once per epoch, of what the run has logged."""

import numpy as np
import pytest
from kit import Given, Scores, fit, read_events

from assay.callbacks import Curves
from assay.callbacks.drawings.curves import draw_curves
from assay.callbacks.tensorboard.summaries import encode_png
from assay.runner import DictRunner


def train(folder, epochs, callbacks=None, **options):
    data = [{"image": np.float32([i % 2, 0.5]), "target": i % 2} for i in range(8)]
    given = [Scores(0.1, 0.9, 0.5), Curves()] if callbacks is None else callbacks
    return fit(DictRunner(), Given(), data, given, batch=4, epochs=epochs, lr=0.0, logdir=str(folder), **options)


@pytest.mark.parametrize("resumed", [False, True])
def test_each_epoch_has_the_sheet_of_all_epochs_until_then(resumed, tmp_path):
    if resumed:
        train(tmp_path, 1)
    runner = train(tmp_path, 3, **({"resume": str(tmp_path)} if resumed else {}))
    images = read_events(tmp_path / "train").Images("3_metrics/curves")
    assert [image.step for image in images] == [1, 2, 3]
    loaders = {e: {k: of for k, of in m.items() if k in ("train", "valid")} for e, m in runner.history.items()}
    for image in images:
        until = {epoch: metrics for epoch, metrics in loaders.items() if epoch <= image.step}
        assert image.encoded_image_string == encode_png(draw_curves(until))
    assert "3_metrics/curves" not in read_events(tmp_path / "valid").Tags()["images"]
