"""The guard in both runners, against runs in which the poisoned batch was never there."""

import copy
import logging
import math
import os

import cv2
import numpy as np
import pytest
import torch
from catalyst import dl
from kit import assert_equal, fit
from torch import nn

from assay.callbacks import OptimizerMonitor, UsageError
from assay.callbacks.non_finite.guard import NonFiniteGuard
from assay.callbacks.non_finite.record import FORMAT
from assay.callbacks.non_finite.report import NonFiniteError
from assay.runner import DictRunner, LossTerm, load_checkpoint


class Net(nn.Module):
    """Images [N, 3, 6, 6] to logits [N, 3], alone or by name; ``root`` gives a gradient of Inf at 0."""

    def __init__(self, key="logits", *, root=False, dropout=0.0):
        super().__init__()
        self.key, self.root = key, root
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(64, 3)
        )
        if root:
            self.scale = nn.Linear(1, 1, bias=False)

    def forward(self, image):
        logits = self.layers(image)
        if self.root:
            logits = logits + (self.scale(image[:, 0, :1, 0]) * 0).abs().sqrt()
        return logits if self.key is None else {self.key: logits}


def make_items(count=20, poisoned=(), value=math.nan, start=0):
    noise = torch.Generator().manual_seed(0)
    items = [
        {"image": torch.rand(3, 6, 6, generator=noise), "target": i % 3, "sample_id": f"s{start + i}"}
        for i in range(count)
    ]
    for index in poisoned:
        items[index]["image"][1, 2, 3] = value
    return items


def without(items, batches, size=4):
    return [item for index, item in enumerate(items) if index // size not in batches]


def make_model(**options):
    torch.manual_seed(3)
    return Net(**options)


def make_optimizer(model, name="SGD", *, fused=True, **options):
    return getattr(torch.optim, name)(model.parameters(), lr=0.05, fused=fused, **options)


def ours(folder, loaders, callbacks, model=None, optimizer=None, *, epochs=1, runner=None, criterion=None, **options):
    model = model or make_model()
    runner = runner or DictRunner()
    fit(
        runner, model, loaders, callbacks, batch=4, optimizer=optimizer or make_optimizer(model),
        criterion=criterion or nn.CrossEntropyLoss(), epochs=epochs, logdir=None if folder is None else str(folder),
        **options,
    )  # fmt: skip
    return model.state_dict(), runner


def stock(folder, loaders, callbacks, model=None, optimizer=None, *, epochs=1, **options):
    model = model or make_model(key=None)
    model.key = None
    runner = dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target", loss_key="loss")
    fit(
        runner, model, loaders, callbacks, batch=4, optimizer=optimizer or make_optimizer(model), epochs=epochs,
        tensorboard=folder, logdir=str(folder), **options,
    )  # fmt: skip
    return model.state_dict(), runner


@pytest.fixture(params=[ours, stock])
def run(request):
    return request.param


def tensors_of(optimizer):
    return {
        f"{number}.{name}": value
        for number, state in enumerate(optimizer.state.values())
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


KINDS = [
    ("SGD", True, {"momentum": 0.9}),
    ("SGD", False, {"momentum": 0.9}),
    ("Adam", True, {}),
    ("AdamW", True, {}),
    ("AdamW", False, {}),
]


def _pairs():
    """Yield each optimizer with each place of bad batches; quick are two places of each."""
    for number, kind in enumerate(KINDS):
        for place, poisoned in enumerate(({0}, {2, 3}, {4})):
            yield pytest.param(*kind, poisoned, marks=PAIR if (number + place) % 3 == 2 else ())


PAIR = pytest.mark.long("trains twice with an optimizer and bad batches that are each tried by quicker tests")


@pytest.mark.parametrize(("name", "fused", "options", "poisoned"), _pairs())
def test_skipping_gives_bit_by_bit_the_run_without_the_batch(run, tmp_path, name, fused, options, poisoned):
    items = make_items(poisoned=[4 * batch + 1 for batch in poisoned])
    results = []
    for number, chosen in enumerate((items, without(items, poisoned))):
        model = make_model()
        optimizer = make_optimizer(model, name, fused=fused, **options)
        guard = [NonFiniteGuard("skip")]
        states, _ = run(tmp_path / str(number), {"train": chosen}, guard, model, optimizer, epochs=2)
        results.append((states, tensors_of(optimizer)))
    assert_equal(results[0][0], results[1][0])
    assert_equal(results[0][1], results[1][1])
    assert all(torch.isfinite(value).all() for value in results[0][0].values())


def test_the_guard_changes_nothing_in_a_sound_run(run, tmp_path):
    items = make_items()
    guarded, _ = run(tmp_path / "a", {"train": items, "valid": items}, [NonFiniteGuard()], epochs=2)
    bare, _ = run(tmp_path / "b", {"train": items, "valid": items}, [], epochs=2)
    assert_equal(guarded, bare)
    assert not (tmp_path / "a" / "non_finite").exists()


def test_a_report_draws_nothing_from_the_generators_of_the_run(tmp_path):
    for number, poisoned in enumerate(([5], [])):
        guard = [NonFiniteGuard("skip")]
        ours(tmp_path / str(number), {"train": make_items(poisoned=poisoned)}, guard, make_model(dropout=0.5))
    first, second = (load_checkpoint(tmp_path / str(number))["rng"][0]["torch"] for number in (0, 1))
    assert torch.equal(first, second)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("batch", [0, 2, 4])
def test_stopping_names_everything_and_keeps_the_weights_before_the_step(run, tmp_path, read_events, batch, fused):
    items = make_items(poisoned=[4 * batch + 2])
    model = make_model()
    optimizer = make_optimizer(model, fused=fused)
    with pytest.raises(NonFiniteError) as caught:
        run(tmp_path, {"train": items, "valid": items}, [NonFiniteGuard()], model, optimizer)
    path = tmp_path / "non_finite" / f"epoch-0001-step-{batch + 1:06d}.pt"
    gradients = "'layers.5.bias', 'layers.5.weight', 'layers.1.bias', 'layers.1.weight' and 2 more"
    assert str(caught.value) == (
        f"epoch 1, step {batch + 1} of train: loss term 'loss' is NaN; output 'logits' holds NaN; "
        "input 'image' holds NaN; first non-finite output: module 'layers.0' (Conv2d); "
        f"gradients of {gradients} are not finite; sample s{4 * batch + 2}; saved to {path}"
    )
    reference = make_model().state_dict()
    if batch:
        reference, _ = run(tmp_path / "reference", {"train": items[: 4 * batch]}, [])
    assert_equal(model.state_dict(), reference)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert not list(tmp_path.glob("checkpoints/*.pt"))
    assert not optimizer._optimizer_step_pre_hooks
    events = read_events(tmp_path / "train")
    assert [event.step for event in events.Images("0_findings/non_finite_batch")] == [1]


def test_the_file_holds_the_batch_its_outputs_and_the_chance_to_run_it_again(tmp_path):
    items = make_items(poisoned=[6])
    model = make_model(dropout=0.5)
    with pytest.raises(NonFiniteError):
        ours(tmp_path, {"train": items}, [NonFiniteGuard()], model)
    content = torch.load(tmp_path / "non_finite" / "epoch-0001-step-000002.pt", weights_only=True)
    assert content["format"] == FORMAT
    assert (content["loader"], content["epoch"], content["step"], content["rank"]) == ("train", 1, 2, 0)
    assert content["sample_ids"] == ["s4", "s5", "s6", "s7"]
    wanted = torch.stack([item["image"] for item in items[4:8]])
    torch.testing.assert_close(content["batch"]["image"], wanted, rtol=0, atol=0, equal_nan=True)
    assert content["batch"]["target"].tolist() == [1, 2, 0, 1]
    assert math.isnan(content["losses"]["loss"])
    assert content["module"] == "module 'layers.0' (Conv2d)"
    assert content["parameters"][0] == "layers.0.weight"
    assert "sample s6" in content["message"]
    torch.set_rng_state(content["rng"]["torch"])
    again = model.train()(content["batch"]["image"])["logits"].detach()
    torch.testing.assert_close(again, content["outputs"]["logits"], rtol=0, atol=0, equal_nan=True)


def test_a_gradient_alone_is_found_before_clipping_hides_it(tmp_path):
    items = make_items()
    model = make_model(root=True)
    runner = DictRunner(clip_grad_value=0.5, clip_grad_norm=1.0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NonFiniteError) as caught:
        ours(tmp_path, {"train": items}, [NonFiniteGuard()], model, runner=runner)
    message = str(caught.value)
    assert "gradients of 'scale.weight' are not finite; samples s0, s1, s2, s3" in message
    assert "loss term" not in message
    assert "module" not in message
    assert_equal(model.state_dict(), before)


def test_a_loss_alone_is_named_among_several_and_infinite_is_told_from_nan(tmp_path):
    class Endless(nn.Module):
        def forward(self, output, target):
            return output.sum() * 0 + (torch.inf if bool((target == 5).any()) else 1.0)

    items = [{**item, "target": 0, "kind": 5 if index == 6 else 1} for index, item in enumerate(make_items())]
    losses = [
        LossTerm("logits", "target", criterion="class"),
        LossTerm("logits", "kind", criterion="kind", name="kind_loss", weight=0.5),
    ]
    criterion = {"class": nn.CrossEntropyLoss(), "kind": Endless()}
    with pytest.raises(NonFiniteError, match=r"step 2 of train: loss term 'kind_loss' is Inf; loss term 'loss' is Inf"):
        ours(tmp_path, {"train": items}, [NonFiniteGuard()], runner=DictRunner(losses=losses), criterion=criterion)


@pytest.mark.parametrize(("steps", "poisoned"), [(2, {1, 2}), (3, {5})])
def test_of_an_accumulation_the_whole_group_is_left_out(tmp_path, steps, poisoned):
    items = make_items(24, poisoned=[4 * batch for batch in poisoned])
    groups = {batch // steps for batch in poisoned}
    kept = without(items, {batch for batch in range(6) if batch // steps in groups})
    results = []
    for number, chosen in enumerate((items, kept)):
        model = make_model()
        runner = DictRunner(accumulate_steps=steps)
        optimizer = make_optimizer(model, "AdamW")
        ours(tmp_path / str(number), {"train": chosen}, [NonFiniteGuard("skip")], model, optimizer, runner=runner)
        results.append(model.state_dict())
    assert_equal(*results)
    files = [path.name for path in sorted((tmp_path / "0" / "non_finite").iterdir())]
    assert files == [f"epoch-0001-step-{min(poisoned) + 1:06d}.pt"]


def test_several_optimizers_skip_together(tmp_path):
    items = make_items(poisoned=[5])
    results = []
    for number, chosen in enumerate((items, without(items, {1}))):
        torch.manual_seed(0)
        models = {"a": Net("first"), "b": Net("logits")}
        optimizers = {name: make_optimizer(model, fused=name == "a") for name, model in models.items()}
        runner = DictRunner(input_key={"a": "image", "b": "image"})
        fit(
            runner, models, {"train": chosen}, [NonFiniteGuard("skip")], batch=4, optimizer=optimizers, epochs=2,
            logdir=str(tmp_path / str(number)),
        )  # fmt: skip
        results.append({f"{key}.{k}": v for key, model in models.items() for k, v in model.state_dict().items()})
    # Model a gets no gradient: it is there to be run and to keep its buffers.
    assert_equal(*results)


def test_skips_are_counted_logged_and_saved_once_an_epoch(run, tmp_path, read_events, caplog):
    items = make_items(poisoned=[5, 6, 13])
    with caplog.at_level(logging.WARNING, logger="assay"):
        run(tmp_path, {"train": items}, [NonFiniteGuard("skip"), OptimizerMonitor()], epochs=2)
    events = read_events(tmp_path / "train")
    counts = [(event.step, event.value) for event in events.Scalars("9_optimizer/non_finite_steps")]
    assert counts == [(1, 2.0), (2, 2.0)]
    assert [event.step for event in events.Images("0_findings/non_finite_batch")] == [1, 2]
    assert all(math.isfinite(event.value) for event in events.Scalars("9_optimizer/grad_norm"))
    files = sorted(path.name for path in (tmp_path / "non_finite").iterdir())
    assert files == ["epoch-0001-step-000002.pt", "epoch-0002-step-000002.pt"]
    messages = [record.getMessage() for record in caplog.records if record.name == "assay"]
    assert [message.split(":")[0] for message in messages] == [
        f"epoch {epoch}, step {step} of train" for epoch in (1, 2) for step in (2, 4)
    ]
    assert all(message.endswith("; the step was skipped") for message in messages)
    assert "samples s5, s6; saved to" in messages[0]
    assert "saved to" not in messages[1]


def test_too_many_skips_in_a_row_end_the_run(tmp_path):
    items = make_items(poisoned=[0, 8, 12, 16])
    message = r"step 5 of train: .*; the step was skipped, as were all of the last 3 \(max_skips\)"
    with pytest.raises(NonFiniteError, match=message):
        ours(tmp_path / "a", {"train": items}, [NonFiniteGuard("skip", max_skips=3)])
    assert not (tmp_path / "a" / "checkpoints").exists()
    ours(tmp_path / "b", {"train": items}, [NonFiniteGuard("skip", max_skips=4)])
    assert (tmp_path / "b" / "checkpoints" / "last.pt").exists()


@pytest.mark.parametrize("choice", ["stop", "skip"])
def test_validation_is_reported_when_its_loader_ends_before_a_checkpoint(run, tmp_path, read_events, caplog, choice):
    loaders = {"train": make_items(), "valid": make_items(poisoned=[9])}
    message = (
        "epoch 1, step 3 of valid: loss term 'loss' is NaN; output 'logits' holds NaN; input 'image' holds NaN; "
        "first non-finite output: module 'layers.0' (Conv2d); sample s9; saved to "
        f"{tmp_path / 'non_finite' / 'epoch-0001-valid-step-000003.pt'}"
    )
    if choice == "stop":
        with pytest.raises(NonFiniteError) as caught:
            run(tmp_path, loaders, [NonFiniteGuard()])
        assert str(caught.value) == message
        assert not list(tmp_path.glob("checkpoints/*.pt"))
    else:
        with caplog.at_level(logging.WARNING, logger="assay"):
            run(tmp_path, loaders, [NonFiniteGuard("skip")])
        assert message in [record.getMessage() for record in caplog.records]
    assert read_events(tmp_path / "valid").Images("0_findings/non_finite_batch")


def test_loaders_for_inference_are_left_out(tmp_path):
    ours(tmp_path, {"train": make_items(), "infer": make_items(poisoned=[1])}, [NonFiniteGuard()])


def test_batches_without_ids_or_pictures_are_reported_by_position(tmp_path, read_events):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, image):
            return {"logits": self.layer(image)}

    items = [{"image": torch.full((4,), math.nan if i == 5 else 1.0), "target": 0} for i in range(8)]
    with pytest.raises(NonFiniteError, match=r"module 'layer' \(Linear\); .*; sample 5; saved"):
        ours(tmp_path, {"train": items}, [NonFiniteGuard()], Flat())
    assert not read_events(tmp_path / "train").Tags()["images"]


def test_a_batch_that_is_no_dict_is_taken(tmp_path):
    pairs = [(item["image"], item["target"]) for item in make_items(poisoned=[5])]
    message = r"output 'logits' holds NaN; input 'image' holds NaN; first .* 'layers.0' \(Conv2d\); .*; sample 5; saved"
    with pytest.raises(NonFiniteError, match=message):
        stock(tmp_path, {"train": pairs}, [NonFiniteGuard()])


def test_the_stock_checkpoint_holds_finite_weights(tmp_path):
    checkpoint = dl.CheckpointCallback(str(tmp_path / "checkpoints"))
    stock(tmp_path, {"train": make_items(poisoned=[19])}, [NonFiniteGuard("skip"), checkpoint], epochs=2)
    files = list((tmp_path / "checkpoints").glob("*.pth"))
    assert files
    for file in files:
        content = torch.load(file, weights_only=False)
        states = content.get("model_state_dict", content)
        assert all(torch.isfinite(value).all() for value in states.values() if isinstance(value, torch.Tensor))


def test_without_a_folder_the_run_is_refused():
    with pytest.raises(UsageError, match="no TensorBoard logger"):
        ours(None, {"train": make_items()}, [NonFiniteGuard()])


def run_stock_with_a_poisoned_batch(logger, **options):
    runner = dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target", loss_key="loss")
    model = make_model(key=None)
    fit(
        runner, model, {"train": make_items(poisoned=[1])}, [NonFiniteGuard(**options)], batch=4,
        optimizer=make_optimizer(model), loggers={"tensorboard": logger},
    )  # fmt: skip


def test_the_batch_is_saved_in_the_folder_given_or_in_that_of_the_logger(tmp_path):
    for options, folder in (({}, tmp_path / "logs"), ({"folder": tmp_path / "given"}, tmp_path / "given")):
        with pytest.raises(NonFiniteError, match=f"saved to {folder}"):
            run_stock_with_a_poisoned_batch(dl.TensorboardLogger(str(tmp_path / "logs")), **options)
        assert list((folder / "non_finite").iterdir())


def test_a_run_without_a_folder_is_refused(tmp_path):
    class Elsewhere(dl.TensorboardLogger):
        """A logger that does not tell where it writes."""

        def _check_loader_key(self, loader_key):
            self.logdir = str(tmp_path)
            super()._check_loader_key(loader_key=loader_key)
            self.logdir = None

    logger = Elsewhere(str(tmp_path))
    logger.logdir = None
    with pytest.raises(UsageError, match=r"logdir=\.\.\., or folder=\.\.\."):
        run_stock_with_a_poisoned_batch(logger)


def test_the_constructor_refuses_what_is_out_of_range():
    with pytest.raises(UsageError, match=r"unknown on_non_finite 'stopp'; did you mean 'stop'\? There is: 'skip'"):
        NonFiniteGuard("stopp")
    with pytest.raises(UsageError, match="max_skips must be an integer of at least 1, got 0"):
        NonFiniteGuard(max_skips=0)


def test_an_error_of_the_run_leaves_no_hook_behind(tmp_path):
    class Breaks(dl.Callback):
        def __init__(self):
            super().__init__(order=500)

        def on_batch_end(self, runner):
            raise ZeroDivisionError("own error")

    model = make_model()
    optimizer = make_optimizer(model)
    with pytest.raises(ZeroDivisionError, match="own error"):
        ours(tmp_path, {"train": make_items()}, [NonFiniteGuard(), Breaks()], model, optimizer)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_the_picture_has_the_broken_sample_first(tmp_path, read_events):
    items = make_items(poisoned=[6])
    with pytest.raises(NonFiniteError):
        ours(tmp_path, {"train": items}, [NonFiniteGuard(class_names=["cat", "dog", "owl"])])
    events = read_events(tmp_path / "train").Images("0_findings/non_finite_batch")
    picture = cv2.imdecode(np.frombuffer(events[0].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert picture.std() > 10
    cv2.imwrite(os.environ.get("KEEP_PICTURE", str(tmp_path / "picture.png")), picture)


def skip_on_rank(rank, folder, items, fused, choice):
    """Train on one rank of a real distributed run; return its weights, or what stopped it."""
    model = make_model()
    optimizer = make_optimizer(model, "AdamW", fused=fused)
    try:
        ours(folder, {"train": items, "valid": items[:8]}, [NonFiniteGuard(choice)], model, optimizer, epochs=2)
    except NonFiniteError as error:
        return str(error)
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("fused", [True, False])
def test_all_ranks_skip_the_step_of_which_one_has_nan(ranks, tmp_path, fused):
    size = ranks.size
    items = make_items(32, poisoned=[13])  # batch 4 of 8; of two ranks the second has it, in its second step
    lost = {2, 3} if size == 2 else {3}
    results = []
    for number, chosen in enumerate((items, without(items, lost))):
        results.append(ranks.run(skip_on_rank, str(tmp_path / str(number)), chosen, fused, "skip"))
    for states, expected in zip(*results, strict=True):
        assert_equal(states, expected)
    if size == 2:
        files = sorted(path.name for path in (tmp_path / "0" / "non_finite").iterdir())
        assert files == ["epoch-0001-step-000002-rank-1.pt", "epoch-0002-step-000002-rank-1.pt"]


def test_all_ranks_stop_with_the_same_message(ranks, tmp_path):
    size = ranks.size
    items = make_items(32, poisoned=[13])
    messages = ranks.run(skip_on_rank, str(tmp_path), items, True, "stop")
    assert len(set(messages)) == 1
    where = "epoch 1, step 2 of train on rank 1" if size == 2 else "epoch 1, step 4 of train"
    assert messages[0].startswith(f"{where}: loss term 'loss' is NaN; output 'logits' holds NaN; input 'image'")
    assert "sample s13; saved to" in messages[0]
    assert list(tmp_path.glob("train/events*"))
    assert not list(tmp_path.glob("checkpoints/*.pt"))


def test_all_ranks_stop_for_a_validation_batch_of_one(ranks, tmp_path):
    size = ranks.size
    messages = ranks.run(validate_on_rank, str(tmp_path))
    assert len(set(messages)) == 1
    where = "epoch 1, step 1 of valid on rank 1" if size == 2 else "epoch 1, step 2 of valid"
    assert messages[0].startswith(f"{where}: loss term 'loss' is NaN")


def validate_on_rank(rank, folder):
    loaders = {"train": make_items(16), "valid": make_items(8, poisoned=[5])}
    try:
        ours(folder, loaders, [NonFiniteGuard()])
    except NonFiniteError as error:
        return str(error)
    return None


def test_a_loss_that_a_stock_runner_does_not_write_is_said_once(tmp_path, caplog):
    stock(tmp_path, {"train": make_items()}, [NonFiniteGuard(loss_key=["loss", "los"])])
    said = [message for message in caplog.messages if "watches no such loss" in message]
    assert len(said) == 1
    assert said[0].startswith(
        "NonFiniteGuard(loss_key='los') watches no such loss: the metrics of a train batch lack it; "
    )
