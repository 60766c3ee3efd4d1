import math
import os
import re
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from catalyst import dl
from kit import OURS, SIDES, STOCK, Break, fit
from torch import nn
from torch.nn import functional as F

from assay.callbacks import BestWorstBatches, Metrics, UsageError
from assay.callbacks.base.diagnostic import Diagnostic
from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.samples import draw_samples
from assay.runner import DictRunner

CLASSES = 3


class Linear(nn.Module):
    """Logits of flattened pictures, as a tensor or as a dict."""

    def __init__(self, key=None, channels=1):
        super().__init__()
        self.key, self.layer = key, nn.Linear(channels * 16, CLASSES)

    def forward(self, image):
        logits = self.layer(image.float().flatten(1))
        return logits if self.key is None else {self.key: logits}


class Spied(BestWorstBatches):
    """Keeps what each picture is drawn from: {(epoch, tag): (samples, title)}."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seen = []
        draw = self.draw
        self.draw = lambda samples, title: (self.seen.append((samples, title)), draw(samples, title))[1]

    def drawn(self, kind, loader, metric="loss", epoch=1):
        """Return samples and title of the one picture of this tag and epoch."""
        start = re.compile(rf"{kind} {loader} batch by {re.escape(metric)}:")
        found = [(s, t) for s, t in self.seen if start.match(t[0]) and t[1].startswith(f"epoch {epoch},")]
        assert len(found) == 1, (kind, loader, metric, epoch, [t for _, t in self.seen])
        return found[0]


class BreakingModel(Linear):
    """Fails in its ``fail_at``-th forward pass."""

    fail_at, passes = 12, 0

    def forward(self, image):
        self.passes += 1
        if self.passes == self.fail_at:
            raise ZeroDivisionError("the run's own error")
        return super().forward(image)


def make_items(count, names=("image", "target", "sample_id"), channels=1, dtype=torch.float32):
    image_key, target_key, id_key = names
    items = []
    for index in range(count):
        image = torch.rand(channels, 4, 4)
        item = {image_key: (image * 255).to(dtype) if dtype == torch.uint8 else image.to(dtype)}
        item[target_key] = int(torch.randint(0, CLASSES, ()))
        if id_key:
            item[id_key] = f"sample-{count}-{index:03d}"
        items.append(item)
    return items


def run(side, folder, callbacks, items, *, model=None, batch_size=4, epochs=1, lr=0.0, **options):
    model = model or Linear(side.key)
    fit(
        side.runner(), model, items, callbacks, batch=batch_size, lr=lr, epochs=epochs,
        **{**side.logs(folder), **options},
    )  # fmt: skip
    return model


run_ours, run_stock = partial(run, OURS), partial(run, STOCK)


@pytest.fixture(params=SIDES)
def kit(request):
    side = SIDES[request.param]
    return partial(run, side), side.names, side.keys, partial(Linear, side.key)


def plain_loop(model, items, names, batch_size, k):
    """Return (loss, ids) of the best and of the worst batch, by a slow loop in float64."""
    layer, batches = model.layer.double(), []
    for start in range(0, len(items), batch_size):
        losses = {}
        for item in items[start : start + batch_size]:
            logits = layer(item[names[0]].double().reshape(-1))
            losses[item[names[2]]] = (logits.exp().sum().log() - logits[item[names[1]]]).item()
        batches.append((sum(losses.values()) / len(losses), losses))
    best, worst = min(batches, key=lambda b: b[0]), max(batches, key=lambda b: b[0])
    return {
        "best": (best[0], sorted(best[1], key=best[1].get)[:k]),
        "worst": (worst[0], sorted(worst[1], key=worst[1].get, reverse=True)[:k]),
    }


def picture_of(event):
    return cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


@pytest.mark.parametrize("k_images", [1, 3, 50])
def test_best_and_worst_of_both_loaders_in_every_epoch_are_those_of_a_plain_loop(kit, k_images, tmp_path, read_events):
    run, names, keys, make_model = kit
    items = {"train": make_items(18, names), "valid": make_items(11, names)}
    callback = Spied(k_images=k_images, **keys)
    model = run(tmp_path, [callback], items, model=make_model(), epochs=3)
    for loader, of in items.items():
        expected = plain_loop(model, of, names, batch_size=4, k=k_images)
        events = read_events(tmp_path / loader)
        for kind in ("best", "worst"):
            assert [event.step for event in events.Images(f"9_batches/{kind}/loss")] == [1, 2, 3]
            for epoch in (1, 2, 3):
                samples, title = callback.drawn(kind, loader, epoch=epoch)
                assert samples["sample_id"] == expected[kind][1]
                assert float(title[0].split(": ")[1]) == pytest.approx(expected[kind][0], rel=1e-3)
                assert samples["loss"].mean() > 0


def test_the_picture_in_the_event_file_is_the_one_that_is_drawn(kit, tmp_path, read_events):
    run, names, keys, make_model = kit
    callback = Spied(**keys)
    run(tmp_path, [callback], {"valid": make_items(8, names), "train": make_items(4, names)}, model=make_model())
    [event] = read_events(tmp_path / "valid").Images("9_batches/worst/loss")
    samples, title = callback.drawn("worst", "valid")
    assert np.array_equal(picture_of(event), BestWorstBatches().draw(samples, title))
    assert title[1].endswith("of 2")


def test_images_targets_outputs_and_losses_belong_to_their_ids(kit, tmp_path):
    run, names, keys, make_model = kit
    items, callback = make_items(9, names), Spied(**keys)
    model = run(tmp_path, [callback], {"train": make_items(4, names), "valid": items}, model=make_model())
    by_id = {item[names[2]]: item for item in items}
    for kind in ("best", "worst"):
        samples, _ = callback.drawn(kind, "valid")
        for row, name in enumerate(samples["sample_id"]):
            item = by_id[name]
            assert np.array_equal(samples["image"][row], item[names[0]].numpy())
            assert samples["target"][row] == item[names[1]]
            logits = model.layer(item[names[0]].reshape(1, -1))
            assert samples["output"][row] == pytest.approx(logits[0].detach().numpy(), rel=1e-4, abs=1e-5)
            loss = F.cross_entropy(logits, torch.tensor([item[names[1]]])).item()
            assert samples["loss"][row] == pytest.approx(loss, rel=1e-4)


def test_while_the_weights_change_the_losses_are_those_of_the_step_and_not_of_a_later_one(kit, tmp_path):
    run, names, keys, make_model = kit
    callback = Spied(**keys)
    run(tmp_path, [callback], {"train": make_items(16, names), "valid": make_items(4, names)}, model=make_model(), lr=5)
    for kind in ("best", "worst"):
        samples, title = callback.drawn(kind, "train")
        assert samples["loss"].mean() == pytest.approx(float(title[0].split(": ")[1]), rel=1e-3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_batch_that_is_not_finite_is_the_worst_and_marked_and_never_the_best(kit, value, tmp_path):
    run, names, keys, make_model = kit
    items = make_items(12, names)
    items[5][names[0]][:] = value
    callback = Spied(k_images=2, **keys)
    run(tmp_path, [callback], {"train": make_items(4, names), "valid": items}, model=make_model())
    samples, title = callback.drawn("worst", "valid")
    assert title[0] == "worst valid batch by loss: NaN  NOT FINITE"
    assert title[1] == "epoch 1, batch 2 of 3"
    assert samples["sample_id"][0] == items[5][names[2]]
    best, title = callback.drawn("best", "valid")
    assert "NOT FINITE" not in title[0]
    assert items[5][names[2]] not in best["sample_id"]


def test_where_no_batch_is_finite_only_the_worst_is_shown(tmp_path, read_events):
    items = make_items(8)
    for item in items:
        item["image"][:] = math.nan
    run_ours(tmp_path, [BestWorstBatches()], {"train": make_items(4), "valid": items})
    assert read_events(tmp_path / "valid").Tags()["images"] == ["9_batches/worst/loss"]


def test_of_equal_batches_the_first_one_is_shown(kit, tmp_path):
    run, names, keys, make_model = kit
    items = make_items(4, names)
    repeated = [{**item, names[2]: f"{item[names[2]]}-{turn}"} for turn in range(3) for item in items]
    callback = Spied(**keys)
    run(tmp_path, [callback], {"train": items, "valid": repeated}, model=make_model())
    for kind in ("best", "worst"):
        samples, title = callback.drawn(kind, "valid")
        assert title[1] == "epoch 1, batch 1 of 3"
        assert all(name.endswith("-0") for name in samples["sample_id"])


def test_the_only_batch_of_a_loader_is_both_best_and_worst(kit, tmp_path):
    run, names, keys, make_model = kit
    items, callback = make_items(3, names), Spied(**keys)
    run(tmp_path, [callback], {"train": make_items(4, names), "valid": items}, model=make_model())
    best, _ = callback.drawn("best", "valid")
    worst, _ = callback.drawn("worst", "valid")
    assert best["sample_id"] == worst["sample_id"][::-1]
    assert sorted(best["sample_id"]) == [item[names[2]] for item in items]


def test_several_metrics_each_follow_their_own_direction(tmp_path, read_events):
    items, callback = make_items(20), Spied(["loss", "accuracy"], [True, False])
    metrics = Metrics(["accuracy"], num_classes=CLASSES)
    model = run_ours(tmp_path, [metrics, callback], {"train": make_items(4), "valid": items})
    tags = {f"9_batches/{kind}/{metric}" for kind in ("best", "worst") for metric in ("loss", "accuracy")}
    assert set(read_events(tmp_path / "valid").Tags()["images"]) == tags
    rates = []
    for start in range(0, 20, 4):
        part = items[start : start + 4]
        decided = [model.layer(item["image"].reshape(1, -1)).argmax().item() for item in part]
        rates.append(sum(d == item["target"] for d, item in zip(decided, part, strict=True)) / 4)
    for kind, rate in (("best", max(rates)), ("worst", min(rates))):
        samples, _ = callback.drawn(kind, "valid", "accuracy")
        first = rates.index(rate) * 4
        assert sorted(samples["sample_id"]) == [item["sample_id"] for item in items[first : first + 4]]
    expected = plain_loop(model, items, ("image", "target", "sample_id"), 4, 16)
    assert callback.drawn("best", "valid")[0]["sample_id"] == expected["best"][1]


def test_one_direction_serves_several_metrics():
    assert BestWorstBatches(["f1", "accuracy"], minimize=False).minimize == {"f1": False, "accuracy": False}


def test_without_ids_the_position_in_the_loader_serves(kit, tmp_path):
    run, names, keys, make_model = kit
    names = (*names[:2], None)
    items, callback = make_items(10, names), Spied(**keys)
    run(tmp_path, [callback], {"train": make_items(4, names), "valid": items}, model=make_model())
    for kind in ("best", "worst"):
        samples, _ = callback.drawn(kind, "valid")
        for row, position in enumerate(samples["sample_id"]):
            assert np.array_equal(samples["image"][row], items[position][names[0]].numpy())


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.int64])
def test_images_of_every_kind_are_shown(channels, dtype, tmp_path, read_events):
    items = {"valid": make_items(4, channels=channels, dtype=dtype)}
    run_ours(tmp_path, [BestWorstBatches()], items, model=Linear("logits", channels))
    [event] = read_events(tmp_path / "valid").Images("9_batches/best/loss")
    assert picture_of(event).shape[2] == 3


def test_an_image_that_cannot_be_shown_is_an_error_at_the_first_batch(tmp_path):
    items = {"valid": make_items(4)}
    with pytest.raises(UsageError, match=r"image_key='target' must be \[N, C, H, W\] .*, got \(4,\); of volumes"):
        run_ours(tmp_path, [BestWorstBatches(image_key="target")], items)
    with pytest.raises(UsageError, match=r"std must be one number or one per channel, 1 here, got \[1, 2\]"):
        run_ours(tmp_path, [BestWorstBatches(std=[1, 2])], items)


class Detector(dl.Runner):
    """Finds in images of several sizes the boxes that are there, and reports their number."""

    def handle_batch(self, batch):
        found = [
            {"boxes": target["boxes"] + 0.1, "labels": target["labels"], "scores": torch.ones(len(target["boxes"]))}
            for target in batch["target"]
        ]
        self.batch_metrics["boxes"] = float(sum(len(target["boxes"]) for target in batch["target"]))
        self.batch = {**batch, "logits": found}


def test_a_detection_with_images_of_several_sizes_is_shown(tmp_path, read_events):
    items = []
    for index in range(6):
        boxes = torch.tensor([[1.0, 1.0, 5.0, 5.0]]).repeat(index, 1)
        target = {"boxes": boxes, "labels": torch.zeros(index, dtype=torch.int64)}
        items.append({"image": torch.rand(3, 8 + index, 12), "target": target, "sample_id": index})

    def collate(rows):
        return {key: [row[key] for row in rows] for key in rows[0]}

    callback = Spied("boxes", k_images=2, task="detection")
    fit(
        Detector(), Linear(), {"valid": items}, [callback], batch=3, collate=collate, optimizer=None, criterion=None,
        tensorboard=tmp_path,
    )  # fmt: skip
    samples, _ = callback.drawn("worst", "valid", "boxes")
    assert samples["sample_id"] == [3, 4]
    assert [image.shape for image in samples["image"]] == [(3, 11, 12), (3, 12, 12)]
    assert [len(part["boxes"]) for part in samples["output"]] == [3, 4]
    assert "loss" not in samples
    assert set(read_events(tmp_path / "valid").Tags()["images"]) == {"9_batches/best/boxes", "9_batches/worst/boxes"}


class Masks(nn.Module):
    def forward(self, image):
        return {"logits": torch.cat([image, 1 - image], dim=1) * self.weight}

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


def test_a_segmentation_is_shown_with_its_arguments(tmp_path, read_events):
    items = [{"image": torch.rand(1, 8, 8), "target": torch.randint(0, 2, (8, 8))} for _ in range(4)]
    for item in items:
        item["target"][0] = 255
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    callback = Spied(ignore_index=255, class_names=["road", "sky"])
    run_ours(tmp_path, [callback], {"valid": items}, model=Masks(), criterion=criterion)
    samples, title = callback.drawn("worst", "valid")
    [event] = read_events(tmp_path / "valid").Images("9_batches/worst/loss")
    expected = draw_samples(samples, title, style=PictureStyle(["road", "sky"], ignore_index=255))
    assert np.array_equal(picture_of(event), expected)
    assert not np.array_equal(expected, draw_samples(samples, title))


def test_a_criterion_that_has_no_loss_of_one_sample_is_an_error_that_names_it(tmp_path):
    class PairLoss(nn.Module):
        def forward(self, output, target):
            return output.sum() if len(output) > 1 else output

    with pytest.raises(UsageError, match="PairLoss must give one number for one sample"):
        run_ours(tmp_path, [BestWorstBatches()], {"valid": make_items(8)}, criterion=PairLoss())


def test_an_error_of_the_sample_losses_is_not_taken_for_samples_without_loss(tmp_path):
    class Wrong(DictRunner):
        def sample_losses(self, parts):
            raise UsageError("asks for key 'absent'")

    with pytest.raises(UsageError, match="asks for key 'absent'"):
        fit(
            Wrong(), Linear("logits"), {"valid": make_items(4)}, [BestWorstBatches()], batch=4, optimizer=None,
            logdir=str(tmp_path),
        )  # fmt: skip


def test_a_criterion_without_reduction_gives_the_losses_too(tmp_path):
    callback = Spied()
    criterion = lambda output, target: F.cross_entropy(output, target)  # noqa: E731
    run_ours(tmp_path, [callback], {"valid": make_items(8)}, criterion=criterion)
    samples, title = callback.drawn("worst", "valid")
    assert samples["loss"].mean() == pytest.approx(float(title[0].split(": ")[1]), rel=1e-3)
    assert samples["loss"].tolist() == sorted(samples["loss"].tolist(), reverse=True)


class ScoreOnly(dl.Runner):
    """A runner of the user's own, without criterion, whose metric is a plain number."""

    def handle_batch(self, batch):
        logits = self.model(batch["image"])
        self.batch_metrics["score"] = float(logits.sum())
        self.batch = {**batch, "logits": logits}


def test_without_criterion_samples_are_shown_in_their_order_and_a_metric_may_be_a_number(tmp_path):
    items, callback, model = make_items(8), Spied("score", minimize=False, k_images=3), Linear()
    fit(ScoreOnly(), model, {"valid": items}, [callback], batch=4, optimizer=None, criterion=None, tensorboard=tmp_path)
    scores = [model(torch.stack([item["image"] for item in items[i : i + 4]])).sum().item() for i in (0, 4)]
    samples, _ = callback.drawn("best", "valid", "score")
    first = 4 * scores.index(max(scores))
    assert samples["sample_id"] == [item["sample_id"] for item in items[first : first + 3]]
    assert "loss" not in samples


def test_an_inference_loader_is_left_out(tmp_path, read_events):
    run_ours(tmp_path, [BestWorstBatches()], {"valid": make_items(4), "infer": make_items(4)})
    assert read_events(tmp_path / "valid").Tags()["images"]
    assert read_events(tmp_path / "infer").Tags()["images"] == []


@pytest.mark.parametrize("name", ["image_key", "target_key", "output_key"])
def test_a_missing_key_is_an_error_that_lists_the_keys_of_the_batch(name, tmp_path):
    with pytest.raises(UsageError, match=r"BestWorstBatches asks for key 'absent'.* it has 'image', 'logits'"):
        run_ours(tmp_path, [BestWorstBatches(**{name: "absent"})], {"valid": make_items(4)})


def test_a_missing_metric_is_an_error_that_lists_the_metrics(kit, tmp_path):
    run, names, keys, make_model = kit
    pattern = r"BestWorstBatches\(metric='f1'\) asks for key 'f1', which the metrics of a train batch lacks; .*'loss'"
    with pytest.raises(UsageError, match=pattern):
        run(tmp_path, [BestWorstBatches("f1", **keys)], {"train": make_items(4, names)}, model=make_model())


class VectorMetric(dl.Callback):
    def on_batch_end(self, runner):
        runner.batch_metrics["by_class"] = torch.zeros(3)


def test_a_metric_of_several_numbers_is_an_error_that_names_its_shape(tmp_path):
    class Quiet(DictRunner):
        def log_metrics(self, *args, **kwargs):
            pass

    runner, model = Quiet(), Linear("logits")
    with pytest.raises(UsageError, match=r"needs one number per batch, got a tensor of shape \(3,\)"):
        fit(
            runner, model, {"valid": make_items(4)}, [VectorMetric(order=0), BestWorstBatches("by_class")], batch=4,
            optimizer=None, logdir=str(tmp_path),
        )  # fmt: skip


def test_a_runner_without_tensorboard_is_an_error_at_the_start_of_the_run():
    callback = BestWorstBatches(**STOCK.keys)
    items = {"train": make_items(4, STOCK.names)}
    with pytest.raises(UsageError, match=r"BestWorstBatches writes to TensorBoard.* it has 'console'"):
        run_stock(None, [callback], items, loggers={"console": dl.ConsoleLogger()})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": []}, "metric must name one or several different metrics, got \\[\\]"),
        ({"metric": ["loss", "loss"]}, "metric must name one or several different metrics"),
        ({"metric": ["a", "b"], "minimize": [True]}, "minimize must be one value, or one for each of"),
        ({"k_images": 0}, "k_images must be an integer of at least 1, got 0"),
        ({"task": "segmentation"}, "unknown task 'segmentation'"),
        ({"min_score": 2}, "min_score must be between 0 and 1, got 2"),
        ({"min_iou": -1}, "min_iou must be between 0 and 1, got -1"),
        ({"k_images": 2.5}, "k_images must be an integer of at least 1, got 2.5"),
    ],
)
def test_an_argument_out_of_range_is_an_error_at_construction(arguments, message):
    with pytest.raises(UsageError, match=message):
        BestWorstBatches(**arguments)


def images_on_disk(read_events, folder, tag="9_batches/worst/loss"):
    return [event.step for event in read_events(folder).Images(tag)]


def test_when_a_callback_fails_the_run_raises_its_error_and_keeps_what_was_drawn(kit, tmp_path, read_events):
    run, names, keys, make_model = kit
    items = {"train": make_items(12, names), "valid": make_items(12, names)}
    with pytest.raises(ZeroDivisionError, match="the run's own error"):
        stop = Break(epoch=3, batch=2, hook="on_batch_start")
        run(tmp_path, [BestWorstBatches(**keys), stop], items, model=make_model(), epochs=4)
    for loader in items:
        for kind in ("best", "worst"):
            folder = tmp_path / loader
            assert images_on_disk(read_events, folder, f"9_batches/{kind}/loss") == [1, 2]


def test_when_the_model_fails_the_run_raises_its_error_and_keeps_what_was_drawn(kit, tmp_path, read_events):
    run, names, keys, make_model = kit
    items = {"train": make_items(12, names), "valid": make_items(12, names)}
    model = BreakingModel(make_model().key)
    with pytest.raises(ZeroDivisionError, match="the run's own error"):
        run(tmp_path, [BestWorstBatches(**keys)], items, model=model, epochs=4)
    assert images_on_disk(read_events, tmp_path / "train") == [1, 2]
    assert images_on_disk(read_events, tmp_path / "valid") == [1]


class FailsToDraw(Diagnostic):
    """Its second picture cannot be drawn."""

    def begin(self, runner):
        pass

    def observe(self, runner):
        pass

    def report(self, runner, writer):
        def draw():
            return np.zeros((2, 2, 3), dtype=np.uint8) if runner.epoch_step == 1 else 1 / 0

        writer.image("picture", draw, runner.epoch_step)


def test_an_error_while_drawing_stops_the_run_and_keeps_the_pictures_before_it(kit, tmp_path, read_events):
    run, names, _, make_model = kit
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        run(tmp_path, [FailsToDraw()], {"valid": make_items(4, names)}, model=make_model(), epochs=2)
    assert images_on_disk(read_events, tmp_path / "valid", "picture") == [1]


class BreaksWhileDrawing(FailsToDraw):
    """A picture cannot be drawn, and in the same moment the run fails."""

    def report(self, runner, writer):
        writer.image("picture", lambda: 1 / 0, runner.epoch_step)
        raise KeyError("the run's own error")


def test_an_error_while_drawing_is_only_a_note_on_the_error_of_the_run(kit, tmp_path):
    run, names, _, make_model = kit
    with pytest.raises(KeyError, match="the run's own error") as caught:
        run(tmp_path, [BreaksWhileDrawing()], {"valid": make_items(4, names)}, model=make_model())
    notes = "".join(caught.value.__notes__)
    assert "BreaksWhileDrawing could not write its last pictures: ZeroDivisionError" in notes


@pytest.mark.parametrize("hook", ["begin", "observe"])
def test_a_diagnostic_without_its_hooks_says_so(hook):
    with pytest.raises(NotImplementedError):
        getattr(Diagnostic(), hook)(None)
    with pytest.raises(NotImplementedError):
        Diagnostic().report(None, None)


def test_a_second_run_with_the_same_stock_logger_writes_too(tmp_path, read_events):
    logger = dl.TensorboardLogger(str(tmp_path))
    for loader in ("train", "valid"):
        items = {loader: make_items(8, STOCK.names)}
        run_stock(None, [BestWorstBatches(**STOCK.keys)], items, loggers={"tensorboard": logger})
        assert images_on_disk(read_events, tmp_path / loader) == [1]


def test_several_callbacks_share_the_writer_of_a_loader(tmp_path, read_events):
    callbacks = [BestWorstBatches(**STOCK.keys), FailsToDraw()]
    run_stock(tmp_path, callbacks, {"valid": make_items(4, STOCK.names)})
    assert callbacks[0].writers_["valid"] is callbacks[1].writers_["valid"]
    tags = set(read_events(tmp_path / "valid").Tags()["images"])
    assert tags == {"9_batches/best/loss", "9_batches/worst/loss", "picture"}


def test_nothing_of_a_batch_is_kept_when_its_loader_has_ended(tmp_path):
    callback = BestWorstBatches()
    run_ours(tmp_path, [callback], {"valid": make_items(8)})
    assert callback.measures_ == {}
    assert callback.pending_ is None


def run_on_rank(rank, size, port, folder, items):
    """Run the callback on one rank of a real distributed run; return what the main process drew."""
    settings = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in settings.items() if size > 1})
    callback = Spied(k_images=4)
    torch.manual_seed(0)
    model = Linear("logits")
    run_ours(folder, [callback], {"valid": items}, model=model)
    return [(title, [int(i) for i in samples["sample_id"]]) for samples, title in callback.seen]


def test_over_ranks_the_pictures_and_positions_are_those_of_the_whole_loader(ranks, tmp_path):
    items, size = make_items(24, ("image", "target", None)), ranks.size
    torch.manual_seed(0)
    model = Linear("logits")
    numbered = [{**item, "sample_id": index} for index, item in enumerate(items)]
    expected = plain_loop(model, numbered, ("image", "target", "sample_id"), batch_size=4, k=4)
    drawn, *others = ranks.run(run_on_rank, size, 29533, str(tmp_path), items)
    assert others == [[]] * (size - 1)
    assert len(drawn) == 2
    for kind, (title, ids) in zip(("best", "worst"), drawn, strict=True):
        assert title[0].startswith(f"{kind} valid batch by loss")
        assert title[1] == f"epoch 1, batch {min(ids) // 4 + 1} of 6"
        assert ids == expected[kind][1]
