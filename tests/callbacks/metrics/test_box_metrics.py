import importlib.util
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn
from torchmetrics.detection import MeanAveragePrecision

from assay.callbacks import UsageError
from assay.callbacks.measures.box_precision import box_precision
from assay.callbacks.metrics import box_metrics
from assay.callbacks.metrics.box_metrics import BoxMetrics, BoxPrecision
from assay.callbacks.support.runner_view import BatchPlace
from assay.runner import DictRunner, LossTerm

# Of boxes up to 30 pixels wide, all of which are small.
OF_TWO_CLASSES = {"map", "ap50", "ap75", "map_small", "map/1", "map/2", "ap50/1", "ap50/2"}


def random_boxes(rng, count):
    corner = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + rng.integers(5, 30, (count, 2))], axis=1)


def image(rng, most=8):
    """Truth and predictions of an image, of two classes; either may be empty."""
    true = random_boxes(rng, rng.integers(0, most))
    near = true[rng.random(len(true)) < 0.8]
    found = np.concatenate([near + rng.normal(0, 2, near.shape), random_boxes(rng, rng.integers(0, 4))])
    labels = rng.integers(1, 3, len(true))
    kept = rng.integers(1, 3, len(found))
    return (
        {"boxes": torch.tensor(found).float(), "scores": torch.rand(len(found)), "labels": torch.tensor(kept)},
        {"boxes": torch.tensor(true).float(), "labels": torch.tensor(labels)},
    )


def images(count, seed=0):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    return [image(rng) for _ in range(count)]


class Given(nn.Module):
    """Gives the detections of the batch as its own, and while it trains none, as torchvision's detectors do."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, image, found):
        outputs = {"logits": self.shift + image}
        return outputs if self.training else {**outputs, "detections": found}


class Spy(dl.Callback):
    def __init__(self):
        super().__init__(order=dl.CallbackOrder.External)
        self.batches, self.loaders = [], {}

    def on_batch_end(self, runner):
        self.batches.append({name: value for name, value in runner.batch_metrics.items() if name != "loss"})

    def on_loader_end(self, runner):
        values = {name: value for name, value in runner.loader_metrics.items() if name != "loss"}
        self.loaders[runner.loader_key] = values


def collate(items):
    return {
        "image": torch.zeros(len(items)),
        "found": [found for found, _ in items],
        "target": [true for _, true in items],
    }


def run(callback, data, batch_size=4):
    model, spy = Given(), Spy()
    runner = DictRunner(input_key=["image", "found"], losses=[LossTerm()])
    fit(
        runner, model, data, [callback, spy], batch=batch_size, collate=collate, lr=0.0,
        criterion=lambda output, target: output.mean(),
    )  # fmt: skip
    return spy


def reference(data):
    """What torchmetrics has, for all classes and for the boxes of each class alone."""
    values = by_torchmetrics(data)
    sizes = {f"map_{size}": values[f"map_{size}"].item() for size in ("small", "medium", "large")}
    found = {
        "map": values["map"].item(), "ap50": values["map_50"].item(), "ap75": values["map_75"].item(),
        **{name: value for name, value in sizes.items() if value >= 0},
    }  # fmt: skip
    for label in sorted({label for _, true in data for label in true["labels"].tolist()}):
        alone = [tuple({n: part[of["labels"] == label] for n, part in of.items()} for of in pair) for pair in data]
        values = by_torchmetrics(alone)
        found |= {f"map/{label}": values["map"].item(), f"ap50/{label}": values["map_50"].item()}
    return found


def by_torchmetrics(data):
    metric = MeanAveragePrecision()
    metric.update([found for found, _ in data], [true for _, true in data])
    return metric.compute()


def test_epoch_values_are_those_of_torchmetrics_and_of_the_rule_over_uneven_batches():
    data = images(14)
    spy = run(BoxMetrics(output_key="detections", min_score=0.3), {"valid": data})
    precision = box_precision(*zip(*data, strict=True), min_score=0.3)
    expected = {**reference(data), "competition_map": precision.nanmean().item()}
    assert spy.loaders["valid"] == pytest.approx(expected, abs=1e-6)
    assert [batch["competition_map"].item() for batch in spy.batches] == pytest.approx(
        [part.nanmean().item() for part in precision.split(4)]
    )


def test_a_training_loader_without_detections_and_an_inference_loader_are_left_out():
    spy = run(BoxMetrics(output_key="detections"), {"train": images(6), "valid": images(6), "infer": images(6)})
    assert spy.loaders["train"] == spy.loaders["infer"] == {}
    assert spy.loaders["valid"].keys() == OF_TWO_CLASSES | {"competition_map"}


def test_cocos_metrics_are_nan_where_there_is_no_true_box():
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    spy = run(BoxMetrics(output_key="detections", min_score=0.0), {"valid": [(found, empty) for found, _ in images(5)]})
    assert math.isnan(spy.loaders["valid"]["ap50"])
    assert math.isnan(spy.loaders["valid"]["map"])
    assert spy.loaders["valid"].keys() == {"map", "ap50", "ap75", "competition_map"}


def test_classes_have_their_names_and_one_without_truth_is_left_out():
    data = images(14)
    spy = run(BoxMetrics(output_key="detections", class_names=["ground", "cat", "dog", "owl"]), {"valid": data})
    expected, found = reference(data), spy.loaders["valid"]
    assert [found["map/cat"], found["map/dog"]] == pytest.approx([expected["map/1"], expected["map/2"]])
    assert "map/owl" not in found


def empty_image():
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return {**none, "scores": torch.zeros(0)}, none


def test_an_image_without_boxes_true_or_found_does_not_count():
    data = images(6)
    alone = run(BoxMetrics(output_key="detections"), {"valid": data}).loaders["valid"]
    spy = run(BoxMetrics(output_key="detections"), {"valid": [*data, *[empty_image() for _ in range(6)]]})
    assert spy.loaders["valid"] == pytest.approx(alone)
    assert spy.batches[-1]["competition_map"].item() == 1.0  # a batch in which nothing is wrong
    nothing = run(BoxMetrics(output_key="detections"), {"valid": [empty_image()] * 4}).loaders["valid"]
    assert all(math.isnan(value) for value in nothing.values())


def test_predictions_that_are_not_finite_are_left_out_and_said(caplog):
    data = images(8)
    clean = run(BoxMetrics(output_key="detections"), {"valid": data}).loaders["valid"]
    broken = [({name: torch.cat([part, part[:1]]) for name, part in found.items()}, true) for found, true in data]
    count = 0
    for found, _ in broken[::2]:
        if len(found["scores"]):
            found["scores"][-1], count = torch.nan, count + 1
    for found, _ in broken[1::2]:
        if len(found["boxes"]):
            found["boxes"][-1, 2], count = torch.inf, count + 1
    spy = run(BoxMetrics(output_key="detections"), {"valid": broken})
    assert {name: spy.loaders["valid"][name] for name in ("map", "ap50")} == {n: clean[n] for n in ("map", "ap50")}
    assert f"BoxMetrics, valid epoch 1: {count} predictions are not finite and left out" in caplog.text


@pytest.mark.parametrize(
    "box", [[9.0, 2.0, 3.0, 8.0], [2.0, 2.0, 2.0, 9.0], [1.0, float("nan"), 5.0, 6.0]], ids=["swapped", "flat", "nan"]
)
def test_a_true_box_without_an_area_is_named(box):
    data = images(6)
    found, true = data[4]
    data[4] = (
        found,
        {"boxes": torch.cat([true["boxes"], torch.tensor([box])]), "labels": torch.ones(len(true["boxes"]) + 1).long()},
    )
    with pytest.raises(
        UsageError, match=r"right > left and bottom > top, got .* in 'target' of sample 4 of loader 'valid'"
    ):
        run(BoxMetrics(output_key="detections"), {"valid": data})


def history_of_before(runner):
    runner.history = {1: {"train": {"loss": 1.0}, "valid": {"map": 0.4, "ap50": 0.5, "coco_map": 0.3}}}


def test_a_run_that_began_with_the_names_of_before_keeps_them_and_says_so(caplog):
    data = images(10)
    new = run(BoxMetrics(output_key="detections"), {"valid": data}).loaders["valid"]
    runner = SimpleNamespace(engine=SimpleNamespace(is_main_process=True))
    history_of_before(runner)
    callback = BoxMetrics(output_key="detections")
    callback.on_experiment_start(runner)
    old = run(callback, {"valid": data}).loaders["valid"]
    assert (old["map"], old["coco_map"], old["ap50"]) == (new["competition_map"], new["map"], new["ap50"])
    assert "map is the competition's figure in this one, and coco_map is COCO's" in caplog.text


def test_a_run_that_was_saved_within_its_first_epoch_keeps_the_names_of_before():
    runner = SimpleNamespace(engine=SimpleNamespace(device="cpu"))
    callback = BoxMetrics()
    callback.on_loader_start(runner)
    mean, batches = callback.loader_state(runner)
    mean["state"]["names"] = ["map"]
    callback.load_loader_state(runner, [mean, batches])
    assert callback.map_is == "competition"


def test_an_unknown_rule_is_named():
    with pytest.raises(UsageError, match="unknown map_is 'coko'; did you mean 'coco'"):
        BoxMetrics(map_is="coko")


def loader_over_ranks(rank, data, size, idle):
    """Feed the batches to the ranks in turn, or all of them to the first; return what the loader's metrics are."""
    engine = SimpleNamespace(device="cpu", num_processes=size)
    runner = SimpleNamespace(engine=engine, is_infer_loader=False, is_train_loader=False, loader_metrics={})
    callback = BoxMetrics(output_key="found")
    callback.on_loader_start(runner)
    for number, first in enumerate(range(0, len(data), 4)):
        if rank == (0 if idle else number % size):
            part = data[first : first + 4]
            runner.batch, runner.batch_metrics, runner.batch_size = collate(part), {}, len(part)
            runner.place = BatchPlace(number + 1, first)
            callback.on_batch_end(runner)
    callback.on_loader_end(runner)
    return runner.loader_metrics


@pytest.mark.parametrize("idle", [False, True], ids=["all have batches", "one has batches"])
def test_the_metrics_are_the_same_on_any_number_of_ranks(ranks, idle):
    data = images(14, seed=3)
    alone = loader_over_ranks(0, data, 1, False)
    precision = alone.pop("competition_map")
    assert alone.keys() == OF_TWO_CLASSES
    for metrics in ranks.run(loader_over_ranks, data, ranks.size, idle):
        assert metrics.pop("competition_map") == pytest.approx(precision, rel=1e-12)
        assert metrics == alone


def test_what_was_seen_of_a_loader_goes_into_a_checkpoint_and_back(tmp_path):
    class Halfway(dl.Callback):
        """Takes the state of the other callback before a batch, and gives it back to a fresh one."""

        def __init__(self, other):
            super().__init__(order=dl.CallbackOrder.Metric - 1)
            self.other = other

        def on_batch_start(self, runner):
            torch.save(self.other.loader_state(runner), tmp_path / "state.pt")
            self.other.on_loader_start(runner)
            self.other.load_loader_state(runner, torch.load(tmp_path / "state.pt", weights_only=True))

    data = images(10)
    plain = run(BoxMetrics(output_key="detections"), {"valid": data}).loaders
    metrics = BoxMetrics(output_key="detections")
    model, spy = Given(), Spy()
    fit(
        DictRunner(input_key=["image", "found"]), model, {"valid": data}, [Halfway(metrics), metrics, spy], batch=4,
        collate=collate, lr=0.0, criterion=lambda output, target: output.mean(),
    )  # fmt: skip
    assert spy.loaders == plain


def test_the_score_of_each_sample_is_its_precision():
    data = images(5)
    found, true = zip(*data, strict=True)
    score = BoxPrecision("detections", "target", min_score=0.4)
    assert score.__name__ == "competition_map"
    expected = box_precision(found, true, min_score=0.4).nan_to_num(1.0)
    assert torch.equal(score({"detections": found, "target": true}), expected)


def test_a_missing_key_is_named():
    with pytest.raises(UsageError, match="competition_map asks for key 'boxes'"):
        run(BoxMetrics(output_key="boxes"), {"valid": images(4)})


def test_without_pycocotools_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(box_metrics, "find_spec", lambda name: importlib.util.find_spec(f"{name}_that_is_not_there"))
    with pytest.raises(UsageError, match="pycocotools: pip install"):
        BoxMetrics()
