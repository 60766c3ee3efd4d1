from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchmetrics
from catalyst import dl
from kit import Given, fit
from sklearn import metrics as sk
from torch import nn

from assay.callbacks import Metrics, UsageError
from assay.callbacks.measures.class_metric import CLASS_METRICS
from assay.callbacks.metrics.batch_metrics import predicted_classes
from assay.runner import DictRunner, LossTerm

NAMES = ["accuracy", *CLASS_METRICS]


class Spy(dl.Callback):
    """Keeps the metrics of every batch and every loader."""

    def __init__(self):
        super().__init__(order=dl.CallbackOrder.External)
        self.batches, self.loaders = [], []

    def on_batch_end(self, runner):
        self.batches.append({name: value for name, value in runner.batch_metrics.items() if name != "loss"})

    def on_loader_end(self, runner):
        values = {name: value for name, value in runner.loader_metrics.items() if name != "loss"}
        self.loaders.append((runner.epoch_step, runner.loader_key, values))


def items(output, target):
    return [{"image": torch.as_tensor(o), "target": torch.as_tensor(t)} for o, t in zip(output, target, strict=True)]


def run(callback, data, criterion=None, batch_size=7, epochs=1):
    """Run the callback over loaders of ``data``, {loader: (output, target)}, and return what a spy behind it saw."""
    model, spy = Given(), Spy()
    runner = DictRunner(losses=[LossTerm()])
    fit(
        runner, model, {key: items(*of) for key, of in data.items()}, [callback, spy], batch=batch_size, lr=0.0,
        criterion=criterion or nn.CrossEntropyLoss(), epochs=epochs,
    )  # fmt: skip
    return spy


def classification(count=25, classes=4):
    return np.random.randn(count, classes).astype(np.float32), np.random.randint(0, classes, count)


def reference(name, task, decided, target):
    if name == "accuracy":
        return np.mean(decided == target)
    if name == "balanced_accuracy":
        return sk.balanced_accuracy_score(target, decided)
    function = {
        "dice": sk.f1_score,
        "f1": sk.f1_score,
        "iou": sk.jaccard_score,
        "precision": sk.precision_score,
        "recall": sk.recall_score,
    }
    average = "binary" if task == "binary" else "macro"
    return function[name](target, decided, average=average, zero_division=0)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
def test_epoch_and_batch_values_of_a_multiclass_task_equal_scikit_learn_over_uneven_batches():
    output, target = classification()
    spy = run(Metrics(NAMES, num_classes=4), {"valid": (output, target)})
    [(_, _, values)] = spy.loaders
    assert values == pytest.approx({n: reference(n, "multiclass", output.argmax(1), target) for n in NAMES}, rel=1e-6)
    assert len(spy.batches) == 4
    for index, batch in enumerate(spy.batches):
        part = slice(7 * index, 7 * index + 7)
        expected = {n: reference(n, "multiclass", output[part].argmax(1), target[part]) for n in NAMES}
        assert {name: value.item() for name, value in batch.items()} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(25,), (25, 1)])
def test_values_of_a_binary_task_equal_scikit_learn(shape):
    output = np.random.randn(*shape).astype(np.float32)
    target = np.random.randint(0, 2, shape).astype(np.float32)
    spy = run(Metrics(NAMES, task="binary"), {"valid": (output, target)}, nn.BCEWithLogitsLoss())
    decided, flat = (output > 0).astype(int).reshape(-1), target.astype(int).reshape(-1)
    assert spy.loaders[0][2] == pytest.approx({n: reference(n, "binary", decided, flat) for n in NAMES}, rel=1e-6)


def test_values_of_a_multilabel_task_equal_scikit_learn():
    output, target = np.random.randn(25, 3).astype(np.float32), np.random.randint(0, 2, (25, 3)).astype(np.float32)
    names = [name for name in NAMES if name != "balanced_accuracy"]
    callback = Metrics(names, task="multilabel", class_names=["a", "b", "c"])
    spy = run(callback, {"valid": (output, target)}, nn.BCEWithLogitsLoss())
    expected = {n: reference(n, "multilabel", (output > 0).astype(int), target.astype(int)) for n in names}
    assert spy.loaders[0][2] == pytest.approx(expected, rel=1e-6)


def test_two_epochs_and_two_loaders_do_not_leak_into_each_other():
    data = {"train": classification(20), "valid": classification(9)}
    spy = run(Metrics(["accuracy", "f1"], num_classes=4), data, epochs=2)
    assert [entry[:2] for entry in spy.loaders] == [(1, "train"), (1, "valid"), (2, "train"), (2, "valid")]
    for _, key, values in spy.loaders:
        output, target = data[key]
        expected = {name: reference(name, "multiclass", output.argmax(1), target) for name in ("accuracy", "f1")}
        assert values == pytest.approx(expected, rel=1e-6)


def test_a_metric_that_gives_one_value_a_class_is_logged_by_class_name_and_not_for_batches():
    output, target = classification(classes=3)
    by_class = torchmetrics.Recall(task="multiclass", num_classes=3, average=None)
    callback = Metrics({"recall": by_class, "acc": "accuracy"}, class_names=["cat", "dog", "owl"])
    spy = run(callback, {"valid": (output, target)})
    recalls = sk.recall_score(target, output.argmax(1), average=None)
    values = dict(zip(("recall/cat", "recall/dog", "recall/owl"), recalls, strict=True))
    values["acc"] = reference("accuracy", "multiclass", output.argmax(1), target)
    assert spy.loaders[0][2] == pytest.approx(values, rel=1e-6)
    assert all(batch.keys() == {"acc"} for batch in spy.batches)


def test_classes_without_names_are_logged_by_number():
    by_class = torchmetrics.Precision(task="multiclass", num_classes=4, average=None)
    spy = run(Metrics({"precision": by_class}), {"valid": classification()})
    assert list(spy.loaders[0][2]) == [f"precision/{number}" for number in range(4)]


def test_a_metric_of_the_user_sees_the_output_as_it_is():
    output, target = np.random.rand(25).astype(np.float32), np.random.randint(0, 2, 25).astype(np.float32)
    callback = Metrics({"auc": torchmetrics.AUROC(task="binary")}, task="binary")
    spy = run(callback, {"valid": (output, target.astype(np.int64))}, lambda output, target: output.mean())
    assert spy.loaders[0][2]["auc"] == pytest.approx(sk.roc_auc_score(target, output), rel=1e-5)


def test_an_inference_loader_is_left_out():
    data = {"valid": classification(8), "infer": classification(8)}
    spy = run(Metrics(num_classes=4), data)
    assert [sorted(values) for _, _, values in spy.loaders] == [["accuracy"], []]


def test_segmentation_masks_count_by_pixel():
    output, target = np.random.randn(6, 3, 4, 4).astype(np.float32), np.random.randint(0, 3, (6, 4, 4))
    spy = run(Metrics(["accuracy", "iou"], num_classes=3), {"valid": (output, target)}, batch_size=4)
    decided, flat = output.argmax(1).reshape(-1), target.reshape(-1)
    expected = {name: reference(name, "multiclass", decided, flat) for name in ("accuracy", "iou")}
    assert spy.loaders[0][2] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_a_step_reads_nothing_from_the_device(task):
    names = [name for name in NAMES if (name, task) != ("balanced_accuracy", "multilabel")]
    callback = Metrics(names, task=task, num_classes=3)
    output = torch.zeros((8,) if task == "binary" else (8, 3), device="meta")
    target = torch.zeros((8, 3) if task == "multilabel" else (8,), dtype=torch.int64, device="meta")
    runner = SimpleNamespace(
        engine=SimpleNamespace(device=torch.device("meta")), is_infer_loader=False,
        batch={"logits": output, "target": target}, batch_metrics={},
    )  # fmt: skip
    callback.on_loader_start(runner)
    callback.on_batch_end(runner)
    assert {name: value.device.type for name, value in runner.batch_metrics.items()} == dict.fromkeys(names, "meta")


def test_decisions_are_those_of_a_plain_loop():
    output = torch.randn(5, 3, 2)
    expected = [[max(range(3), key=lambda c: output[n, c, p].item()) for p in range(2)] for n in range(5)]
    assert predicted_classes(output, "multiclass").tolist() == expected
    assert predicted_classes(torch.tensor([-1.0, 0.0, 0.1]), "binary").tolist() == [0, 0, 1]
    assert predicted_classes(torch.tensor([[-1.0, 2.0]]), "multilabel").tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), None),
        ((["acuracy"],), "unknown metric 'acuracy' .*did you mean 'accuracy'"),
        (({"mine": "zzz"},), "unknown metric 'zzz' .a torchmetrics.Metric may be given instead.*'iou'"),
    ],
)
def test_an_unknown_metric_is_an_error_that_lists_what_there_is(arguments, message):
    if message is None:
        assert Metrics(*arguments, num_classes=2).by_name == {}
        return
    with pytest.raises(UsageError, match=message):
        Metrics(*arguments, num_classes=2)


def test_an_unknown_task_is_an_error_that_lists_the_tasks():
    with pytest.raises(UsageError, match=r"unknown task 'multi-class'; did you mean 'multiclass'.*'multilabel'"):
        Metrics(task="multi-class", num_classes=3)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_missing_number_of_classes_is_an_error(task):
    with pytest.raises(UsageError, match=f"needs num_classes or class_names for the task '{task}'"):
        Metrics(["f1"], task=task)


def test_balanced_accuracy_of_labels_is_an_error():
    with pytest.raises(UsageError, match="balanced_accuracy is for the tasks 'binary' and 'multiclass'"):
        Metrics(["balanced_accuracy"], task="multilabel", num_classes=3)


@pytest.mark.parametrize("key", ["output_key", "target_key"])
def test_a_missing_key_is_an_error_that_lists_the_keys_of_the_batch(key):
    with pytest.raises(UsageError, match=r"Metrics asks for key 'absent'.*it has 'image', 'logits', 'target'"):
        run(Metrics(num_classes=4, **{key: "absent"}), {"valid": classification(4)})


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_perfect_and_a_hopeless_prediction_get_one_and_zero(task):
    target = np.array([0, 1, 0, 1])
    for right in (True, False):
        positive = np.where((target == 1) == right, 1.0, -1.0).astype(np.float32)
        output = positive if task == "binary" else np.stack([-positive, positive], axis=1)
        spy = run(Metrics(NAMES, task=task, num_classes=2), {"valid": (output, target)}, lambda o, t: o.mean())
        assert set(spy.loaders[0][2].values()) == {float(right)}


def epoch_over_ranks(rank, output, target, size):
    """Feed this rank's share, uneven on purpose, and compute over all ranks."""
    callback = Metrics(NAMES, num_classes=4)
    cut = [0, 9, len(output)] if size == 2 else [0, len(output)]
    mine = slice(cut[rank], cut[rank + 1])
    runner = SimpleNamespace(
        engine=SimpleNamespace(device=torch.device("cpu")), is_infer_loader=False,
        batch={"logits": output[mine], "target": target[mine]}, batch_metrics={}, loader_metrics={},
    )  # fmt: skip
    for event in (callback.on_loader_start, callback.on_batch_end, callback.on_loader_end):
        event(runner)
    return runner.loader_metrics


def test_the_value_over_ranks_is_that_of_all_samples_together(ranks):
    output, target = classification()
    size = ranks.size
    answers = ranks.run(epoch_over_ranks, torch.as_tensor(output), torch.as_tensor(target), size)
    expected = {name: reference(name, "multiclass", output.argmax(1), target) for name in NAMES}
    assert answers == [pytest.approx(expected, rel=1e-6)] * size


def test_one_metric_may_be_given_as_its_name_alone():
    assert Metrics("accuracy", num_classes=3).by_name == {"accuracy": "accuracy"}


def test_a_number_of_classes_that_is_not_that_of_the_names_is_refused():
    with pytest.raises(UsageError, match="num_classes must be that of class_names, 2, got 3"):
        Metrics("accuracy", num_classes=3, class_names=["cat", "dog"])


@pytest.mark.parametrize("shape", [(3, 5, 7, 9), (2, 300, 4, 4), (2, 255, 3, 3), (4, 2, 3), (0, 3, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_are_decided_as_argmax_does(shape, dtype):
    output = torch.randint(-3, 4, shape).to(dtype)  # with many equal ones
    output[torch.rand(shape) < 0.05], output[torch.rand(shape) < 0.05] = float("nan"), float("inf")
    assert torch.equal(predicted_classes(output, "multiclass"), output.argmax(dim=1))
