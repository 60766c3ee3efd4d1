from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from kit import STOCK, StandIn, observe
from sklearn import metrics as sk

from assay.callbacks import UsageError
from assay.callbacks.classes import confusion_matrix as module
from assay.callbacks.classes.classification_report import ClassificationReport
from assay.callbacks.classes.confusion_matrix import ConfusionMatrix
from assay.callbacks.drawings.confusion_matrix import draw_confusion_matrix, draw_label_matrix

BOTH = [ConfusionMatrix, ClassificationReport]


def run_ours(folder, callback, data, epochs=1, loss=None, stock=False):
    folder, _ = observe(folder, [callback], data, epochs=epochs, criterion=loss, stock=stock)
    return folder


KITS = {"stock": (partial(run_ours, stock=True), STOCK.keys_of("output", "target")), "ours": (run_ours, {})}


@pytest.fixture(params=KITS)
def kit(request):
    return KITS[request.param]


def classification(count=25, classes=4, extra=()):
    output = np.random.randn(count, classes, *extra).astype(np.float32)
    return output, np.random.randint(0, classes, (count, *extra))


def picture_of(events, tag="2_confusion_matrix", index=0):
    encoded = np.frombuffer(events.Images(tag)[index].encoded_image_string, dtype=np.uint8)
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def text_of(events, tag, index=0):
    return events.Tensors(f"{tag}/text_summary")[index].tensor_proto.string_val[0].decode()


@pytest.mark.parametrize("extra", [(), (3, 2)])
def test_matrix_and_pairs_of_every_epoch_and_loader_are_in_the_event_files(kit, extra, tmp_path, read_events):
    run, keys = kit
    data = {"train": classification(20, extra=extra), "valid": classification(9, extra=extra)}
    folder = run(tmp_path, ConfusionMatrix(class_names=list("abcd"), **keys), data, epochs=2)
    for key, (output, target) in data.items():
        events = read_events(folder / key)
        assert [event.step for event in events.Images("2_confusion_matrix")] == [1, 2]
        assert [event.step for event in events.Tensors("2_confusion_matrix/most_confused/text_summary")] == [1, 2]
        counts = sk.confusion_matrix(target.reshape(-1), output.argmax(1).reshape(-1), labels=range(4))
        right = np.trace(counts) / counts.sum()
        unit = "pixels" if extra else "samples"
        title = [f"{key} confusion matrix, epoch 2", f"{counts.sum()} {unit}, {right:.2%} right"]
        assert np.array_equal(picture_of(events, index=1), draw_confusion_matrix(counts, list("abcd"), title))
        first = text_of(events, "2_confusion_matrix/most_confused", 1).splitlines()[2]
        count, true, predicted = max((counts[t, p], -t, -p) for t in range(4) for p in range(4) if t != p)
        share = count / counts[-true].sum()
        assert first == f"| {'abcd'[-true]} | {'abcd'[-predicted]} | {count} | {share:.2%} |"


@pytest.mark.parametrize("shape", [(25,), (25, 1)])
def test_a_binary_task_has_two_classes(shape, tmp_path, read_events):
    output, target = np.random.randn(*shape).astype(np.float32), np.random.randint(0, 2, 25).astype(np.float32)
    folder = run_ours(tmp_path, ConfusionMatrix(task="binary"), {"valid": (output, target)})
    counts = sk.confusion_matrix(target, output.reshape(-1) > 0)
    title = ["valid confusion matrix, epoch 1", f"25 samples, {np.trace(counts) / 25:.2%} right"]
    picture = picture_of(read_events(folder / "valid"))
    assert np.array_equal(picture, draw_confusion_matrix(counts, ["0", "1"], title))


def test_a_multilabel_task_has_a_row_a_label(tmp_path, read_events):
    output, target = np.random.randn(25, 3).astype(np.float32), np.random.randint(0, 2, (25, 3)).astype(np.float32)
    callback = ConfusionMatrix(task="multilabel", class_names=["a", "b", "c"], normalize="none")
    events = read_events(run_ours(tmp_path, callback, {"valid": (output, target)}) / "valid")
    counts = sk.multilabel_confusion_matrix(target, output > 0)
    right = counts.trace(axis1=1, axis2=2).sum() / 75
    title = ["valid confusion matrix, epoch 1", f"75 decisions, {right:.2%} right"]
    assert np.array_equal(picture_of(events), draw_label_matrix(counts, ["a", "b", "c"], title, normalize="none"))
    assert ": yes | " in text_of(events, "2_confusion_matrix/most_confused")


def test_ignored_samples_are_left_out(tmp_path, read_events):
    output, target = classification()
    target[::3] = -100
    folder = run_ours(tmp_path, ConfusionMatrix(num_classes=4, ignore_index=-100), {"valid": (output, target)})
    counts = sk.confusion_matrix(target, output.argmax(1), labels=range(4))
    right = np.trace(counts) / counts.sum()
    title = ["valid confusion matrix, epoch 1", f"{counts.sum()} samples, {right:.2%} right"]
    picture = picture_of(read_events(folder / "valid"))
    assert np.array_equal(picture, draw_confusion_matrix(counts, list("0123"), title))


@pytest.mark.parametrize(("shift", "text"), [(0, "Nothing was confused."), (None, "There was no sample.")])
def test_where_nothing_is_confused_the_text_says_so(shift, text, tmp_path, read_events):
    output, target = classification()
    target = output.argmax(1) if shift == 0 else np.full(25, -100)
    folder = run_ours(tmp_path, ConfusionMatrix(num_classes=4, ignore_index=-100), {"valid": (output, target)})
    events = read_events(folder / "valid")
    assert text_of(events, "2_confusion_matrix/most_confused") == text
    assert picture_of(events).ndim == 3


@pytest.mark.parametrize("build", BOTH)
def test_an_inference_loader_is_left_out(build, tmp_path, read_events):
    data = {"valid": classification(8), "infer": classification(8)}
    folder = run_ours(tmp_path, build(num_classes=4), data)
    assert read_events(folder / "valid").Tags()["tensors"]
    infer = read_events(folder / "infer").Tags() if (folder / "infer").is_dir() else {"tensors": [], "images": []}
    assert not infer["images"]
    assert not infer["tensors"]


class Collect:
    """Takes what a callback writes."""

    def __init__(self):
        self.written = {}

    def text(self, tag, markdown, step):
        self.written[tag] = markdown() if callable(markdown) else markdown

    def image(self, tag, draw, step):
        self.written[tag] = draw()


def loader_over_ranks(rank, build, output, target, size):
    """Feed this rank's share: of several ranks the last one has none."""
    engine = SimpleNamespace(device="cpu", is_main_process=rank == 0, num_processes=size)
    runner = StandIn(
        engine=engine, is_train_loader=False, is_infer_loader=False, loader_key="valid", epoch_step=1, loader_metrics={}
    )
    callback, writer = build(num_classes=4), Collect()
    callback.begin(runner)
    for batch in (slice(0, 9), slice(9, None)):
        if size == 1 or rank < size - 1:
            runner.batch = {"logits": output[batch], "target": target[batch]}
            callback.observe(runner)
    callback.report(runner, writer)
    return writer.written, runner.loader_metrics


@pytest.mark.parametrize("build", BOTH)
def test_what_is_written_is_that_of_all_ranks(build, ranks):
    output, target = (torch.as_tensor(part) for part in classification())
    size = ranks.size
    alone = loader_over_ranks(0, build, output, target, 1)
    for written, metrics in ranks.run(loader_over_ranks, build, output, target, size):
        assert metrics == alone[1]
        assert written.keys() == alone[0].keys()
        assert all(np.array_equal(written[tag], alone[0][tag]) for tag in written)


def test_nothing_is_kept_of_a_loader(tmp_path):
    callback = ConfusionMatrix(num_classes=4)
    run_ours(tmp_path, callback, {"valid": classification(8)})
    assert callback.measure_ is None


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "multi-class", "num_classes": 3}, "unknown task 'multi-class'; did you mean 'multiclass'"),
        ({}, "num_classes or class_names is needed for the task 'multiclass', got None"),
        ({"task": "multilabel"}, "num_classes or class_names is needed for the task 'multilabel'"),
        ({"num_classes": 3, "class_names": ["a", "b"]}, "num_classes must be that of class_names, 2, got 3"),
        ({"num_classes": 1}, "num_classes must be an integer of at least 2 for the task 'multiclass', got 1"),
        ({"num_classes": 0, "task": "multilabel"}, "of at least 1 for the task 'multilabel', got 0"),
        ({"num_classes": 2.5}, "num_classes must be an integer .*got 2.5"),
        ({"num_classes": 3, "task": "binary"}, "num_classes must be 2 for the task 'binary', got 3"),
        ({"num_classes": 3, "ignore_index": "x"}, "ignore_index must be an integer or None, got 'x'"),
        ({"num_classes": 3, "ignore_index": True}, "ignore_index must be an integer or None, got True"),
    ],
)
def test_a_wrong_argument_is_an_error(build, arguments, message):
    with pytest.raises(UsageError, match=message):
        build(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normalize": "truth", "num_classes": 3}, "unknown normalize 'truth' .*did you mean 'true'.*'none', 'pred'"),
        ({"normalize": "pred", "num_classes": 3, "task": "multilabel"}, "'pred' for the task 'multilabel'"),
    ],
)
def test_an_unknown_normalization_is_an_error(arguments, message):
    with pytest.raises(UsageError, match=message):
        ConfusionMatrix(**arguments)


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize(
    ("task", "output", "target", "message"),
    [
        ("multiclass", (5, 4), (5,), r"num_classes=3\) needs an output \[N, 3, ...\], got logits \(5, 4\)"),
        ("multiclass", (5,), (5,), r"needs an output \[N, 3, ...\], got logits \(5,\)"),
        ("multiclass", (5, 3, 4, 4), (5, 1, 4, 4), r"target of shape \(5, 4, 4\), .*got .*target \(5, 1, 4, 4\)"),
        ("multilabel", (5, 3), (5,), r"task='multilabel'\) needs a target of shape \(5, 3\), got .*target \(5,\)"),
        ("binary", (5, 2), (5,), r"task='binary'\) needs one logit per target, got logits \(5, 2\) and target \(5,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_an_error(build, task, output, target, message):
    callback = build(task=task, num_classes=2 if task == "binary" else 3)
    runner = StandIn(engine=SimpleNamespace(device="cpu"), is_infer_loader=False)
    runner.batch = {"logits": torch.zeros(output), "target": torch.zeros(target)}
    callback.begin(runner)
    with pytest.raises(UsageError, match=message):
        callback.observe(runner)


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize("key", ["output_key", "target_key"])
def test_a_missing_key_is_an_error_that_lists_the_keys_of_the_batch(build, key, tmp_path):
    with pytest.raises(
        UsageError, match=rf"{build.__name__} asks for key 'absent'.*it has 'image', 'logits', 'target'"
    ):
        run_ours(tmp_path, build(num_classes=4, **{key: "absent"}), {"valid": classification(4)})


@pytest.mark.parametrize("build", BOTH)
def test_a_target_that_is_no_class_is_an_error_at_the_end_of_the_loader(build, tmp_path):
    output, target = classification()
    target = target.astype(np.float32)
    target[:2] = 0.5  # no one can be named: that a value is no whole number is seen on the device alone
    message = f"loader 'valid': {build.__name__} takes class numbers from 0 to 3, got 2 others in 'target'"
    with pytest.raises(UsageError, match=message):
        run_ours(tmp_path, build(num_classes=4), {"valid": (output, target)})


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_a_step_reads_nothing_from_the_device(build, task):
    callback = build(task=task, num_classes=2, ignore_index=255)
    runner = StandIn(engine=SimpleNamespace(device="meta"), is_infer_loader=False)
    output = torch.zeros((8,) if task == "binary" else (8, 2), device="meta")
    target = torch.zeros((8, 2) if task == "multilabel" else (8,), dtype=torch.int64, device="meta")
    runner.batch = {"logits": output, "target": target}
    callback.begin(runner)
    callback.observe(runner)
    assert callback.measure_.state["counts"].device.type == "meta"


def test_more_classes_than_a_picture_has_rows_for_are_drawn_several_together(tmp_path, read_events, monkeypatch):
    monkeypatch.setattr(module, "_MOST_SIDE", 4)
    target = torch.tensor([0, 1, 2, 5, 6, 6])
    decided = torch.tensor([0, 1, 1, 5, 0, 6])
    callback = ConfusionMatrix(num_classes=7)
    data = {"valid": (torch.nn.functional.one_hot(decided, 7).float(), target)}
    events = read_events(run_ours(tmp_path, callback, data) / "valid")
    title = ["valid confusion matrix, epoch 1", "6 samples, 66.67% right"]
    blocks = np.array([[2, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]])
    expected = draw_confusion_matrix(blocks, ["0", "2", "4", "6"], title, every=2, hits=np.array([2, 0, 1, 1]))
    assert np.array_equal(picture_of(events), expected)
