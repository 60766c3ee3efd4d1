import cv2
import numpy as np
import pytest
import torch
from kit import Given, fit
from sklearn import metrics as sk

from assay.callbacks import UsageError
from assay.callbacks.classes import confusion_by_group
from assay.callbacks.classes.confusion_by_group import ConfusionByGroup
from assay.callbacks.drawings.confusion_matrix import draw_confusion_by_group
from assay.runner import DictRunner


def run(folder, callback, output, target, city, loader="valid"):
    model = Given()
    rows = zip(output, target, city, strict=True)
    items = [{"image": torch.as_tensor(o), "target": int(t), "city": torch.as_tensor(c)} for o, t, c in rows]
    fit(
        DictRunner(), model, {"train": items, loader: items}, [callback], batch=4, lr=0.0,
        criterion=lambda output, target: output.mean(), logdir=str(folder),
    )  # fmt: skip
    return folder


def classification(count=19, classes=3, groups=2):
    output = np.random.randn(count, classes).astype(np.float32)
    return output, np.random.randint(0, classes, count), np.random.randint(0, groups, count)


def test_the_picture_shows_the_counts_of_each_group(tmp_path, read_events):
    output, target, city = classification()
    callback = ConfusionByGroup("city", ["Graz", "Wien"], class_names=list("abc"))
    events = read_events(run(tmp_path, callback, output, target, city) / "valid")
    (event,) = events.Images("2_confusion_matrix/by_city")
    counts = np.stack(
        [sk.confusion_matrix(target[city == g], output[city == g].argmax(1), labels=range(3)) for g in range(2)]
    )
    shares = ", ".join(
        f"{name} {np.trace(matrix) / matrix.sum():.0%}" for name, matrix in zip(["Graz", "Wien"], counts, strict=True)
    )
    title = ["valid confusion matrix by city, epoch 1", f"right samples: {shares}"]
    picture = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    expected = draw_confusion_by_group(counts, list("abc"), ["Graz", "Wien"], title)
    assert np.array_equal(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), expected)


def test_of_masks_pixels_are_right(tmp_path, read_events, monkeypatch):
    titles = []

    def draw(counts, names, groups, title):
        titles.append(title)
        return draw_confusion_by_group(counts, names, groups, title)

    monkeypatch.setattr(confusion_by_group, "draw_confusion_by_group", draw)
    target, city = np.random.randint(0, 3, (8, 2, 2)), np.arange(8) % 2
    output = np.moveaxis(np.eye(3, dtype=np.float32)[target], -1, 1)
    output[0] = -output[0]  # the four pixels of a mask of the first group are wrong
    items = [{"image": torch.as_tensor(o), "target": torch.as_tensor(t), "city": int(c)}
             for o, t, c in zip(output, target, city, strict=True)]  # fmt: skip
    fit(
        DictRunner(), Given(), {"train": items, "valid": items},
        [ConfusionByGroup("city", ["Graz", "Wien"], num_classes=3)], batch=4, lr=0.0,
        criterion=lambda output, target: output.mean(), logdir=str(tmp_path),
    )  # fmt: skip
    assert titles[-1] == ["valid confusion matrix by city, epoch 1", "right pixels: Graz 75%, Wien 100%"]


def test_a_group_without_samples_is_drawn_as_such():
    counts = np.zeros((2, 3, 3), dtype=np.int64)
    counts[0] = np.diag([5, 5, 5])
    drawn = draw_confusion_by_group(counts, list("abc"), ["Graz", "Wien"], ["title"])
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3


def test_a_sample_in_no_group_is_an_error(tmp_path):
    output, target, city = classification()
    city[3] = 5
    with pytest.raises(UsageError, match="needs numbers from 0 to 1 in 'city', got 1 others"):
        run(tmp_path, ConfusionByGroup("city", ["Graz", "Wien"], num_classes=3), output, target, city)


def test_a_target_that_is_no_class_is_an_error(tmp_path):
    output, target, city = classification()
    target[3] = 7
    with pytest.raises(UsageError, match="sample 3 of the batch: 'target' holds 7, and ConfusionByGroup takes"):
        run(tmp_path, ConfusionByGroup("city", ["Graz", "Wien"], num_classes=3), output, target, city)


def test_a_key_that_the_batch_lacks_is_named(tmp_path):
    with pytest.raises(UsageError, match="asks for key 'camera'"):
        run(tmp_path, ConfusionByGroup("camera", ["a"], num_classes=3), *classification())


def test_a_group_must_be_one_number_a_sample(tmp_path):
    output, target, city = classification()
    with pytest.raises(UsageError, match=r"needs one number per sample in 'city', \[4\], got \(4, 2\)"):
        run(tmp_path, ConfusionByGroup("city", ["a"], num_classes=3), output, target, np.stack([city, city], axis=1))


def test_there_must_be_a_group():
    with pytest.raises(UsageError, match="group_names must name at least one group, got none"):
        ConfusionByGroup("city", [], num_classes=3)


def test_loaders_for_inference_are_left_out(tmp_path, read_events):
    output, target, city = classification()
    callback = ConfusionByGroup("city", ["Graz", "Wien"], num_classes=3)
    folder = run(tmp_path, callback, output, target, city, loader="infer")
    assert not (folder / "infer").exists() or not read_events(folder / "infer").Tags()["images"]
