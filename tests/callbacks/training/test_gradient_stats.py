import logging
import math
from contextlib import nullcontext

import cv2
import numpy as np
import pytest
import torch
from catalyst import dl
from host_reads import HostReads
from kit import Break, Named, fit, scalars_of
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks.errors import UsageError
from assay.callbacks.tensorboard.writer import Writer
from assay.callbacks.training.gradient_stats import GradientStats
from assay.callbacks.training.gradient_warnings import GradientWarnings
from assay.callbacks.training.gradient_watch import GradientWatch
from assay.runner import DictRunner

COUNT = 32


class Net(nn.Module):
    """Logits of flattened pictures, as a tensor or, with a key, as a dict; some parameters are out of the ordinary."""

    def __init__(self, key=None):
        super().__init__()
        self.key = key
        self.first = nn.Linear(16, 8)
        self.second = nn.Linear(8, 8)
        self.third = nn.Linear(8, 8)
        self.third.weight = self.second.weight  # shared
        self.last = nn.Linear(8, 3)
        self.unused = nn.Linear(2, 2)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.empty = nn.Parameter(torch.empty(0))

    def forward(self, image):
        hidden = torch.relu(self.first(image.flatten(1)))
        logits = self.last(torch.tanh(self.third(torch.tanh(self.second(hidden))))) * self.frozen + self.empty.sum()
        return logits if self.key is None else {self.key: logits}


SEEN = ["first.weight", "first.bias", "second.weight", "second.bias", "third.bias", "last.weight", "last.bias"]
UNUSED = ["unused.weight", "unused.bias"]


class Recording(torch.optim.SGD):
    """Keeps what it steps with: by parameter, one array (or None) a step."""

    def __init__(self, model, lr=0.05, tamper=None):
        super().__init__(model.parameters(), lr=lr)
        self.by_name = dict(model.named_parameters())
        self.seen = {name: [] for name in self.by_name}
        self.register_step_pre_hook(lambda *_: self.record(tamper))

    def record(self, tamper):
        if tamper is not None:
            tamper(len(self.seen["first.weight"]), self.by_name)
        for name, parameter in self.by_name.items():
            gradient = parameter.grad
            self.seen[name].append(None if gradient is None else gradient.double().numpy().copy())


class Still(Recording):
    """Leaves the weights as they are, so that a NaN stays where it was put."""

    def step(self, closure=None):
        return None


def loader(batch_size=4, order=("image", "target")):
    noise = torch.Generator().manual_seed(0)
    items = [{order[0]: torch.randn(1, 4, 4, generator=noise), order[1]: i % 3} for i in range(COUNT)]
    return DataLoader(items, batch_size=batch_size)


def run_ours(folder, callbacks, optimizer=Recording, *, batch_size=4, epochs=1, model=None, resume=None, **options):
    torch.manual_seed(0)
    model = model or Net("logits")
    optimizer = optimizer(model)
    runner = DictRunner(**options)
    fit(
        runner, model, {"train": loader(batch_size), "valid": loader(batch_size)}, callbacks, optimizer=optimizer,
        epochs=epochs, logdir=str(folder), resume=resume,
    )  # fmt: skip
    assert not runner.optimizer_step.hooks
    return optimizer


def run_stock(folder, callbacks, optimizer=Recording, *, epochs=1, loggers=None):
    torch.manual_seed(0)
    model = Net()
    optimizer = optimizer(model)
    runner = dl.SupervisedRunner(input_key="features", output_key="scores", target_key="targets", loss_key="loss")
    fit(
        runner, model, {key: loader(4, ("features", "targets")) for key in ("train", "valid")}, callbacks,
        optimizer=optimizer, epochs=epochs,
        loggers={"tensorboard": dl.TensorboardLogger(str(folder))} if loggers is None else loggers,
    )  # fmt: skip
    return optimizer


def gradients_of(events):
    return scalars_of(events, "9_gradients/")


def events_of(read_events, folder, key="train"):
    return read_events(folder / key)


def expected_of(steps):
    steps = [step for step in steps if step is not None and np.isfinite(step).all()]
    return {
        "min": min(step.min() for step in steps),
        "mean": np.mean([step.mean() for step in steps]),
        "max": max(step.max() for step in steps),
        "norm": np.mean([np.linalg.norm(step.ravel()) for step in steps]),
        "std": np.mean([step.std() for step in steps]),
        "zeros": np.mean([(step == 0).mean() for step in steps]),
    }


def check(found, seen, epochs, pick=slice(None)):
    each = len(seen["first.weight"]) // epochs
    for name in SEEN:
        for epoch in range(epochs):
            expected = expected_of(seen[name][epoch * each : (epoch + 1) * each][pick])
            for kind, value in expected.items():
                number = found[f"9_gradients/{name}/{kind}"][epoch + 1]
                room = {"std": 1e-3, "zeros": 1e-6}.get(kind, 1e-6) * (expected["norm"] or 1.0)
                assert number == pytest.approx(value, rel=1e-6, abs=room), (name, kind, epoch)


@pytest.mark.parametrize("run", [run_ours, run_stock])
@pytest.mark.parametrize("every", [1, 3])
def test_numbers_equal_a_plain_loop_over_the_gradients_of_each_step(tmp_path, read_events, run, every):
    optimizer = run(tmp_path, [GradientStats(every, per_parameter=True)], epochs=2)
    found = gradients_of(events_of(read_events, tmp_path))
    check(found, optimizer.seen, 2, slice(None, None, every))
    assert {tag.split("/")[1] for tag in found} == set(SEEN)  # each once; none of frozen, empty or unused ones
    assert not events_of(read_events, tmp_path, "valid").Tags()["images"]


def total_norms(optimizer):
    """Return the total norm of each step's gradients, as the optimizer got them."""
    steps = zip(*(optimizer.seen[name] for name in SEEN), strict=True)
    return [np.sqrt(sum((gradient**2).sum() for gradient in step)) for step in steps]


def still(model):
    return Still(model)


def test_gradients_are_those_before_clipping_in_our_runner_and_both_total_norms_are_known(tmp_path, read_events):
    free = run_ours(tmp_path / "free", [GradientStats(per_parameter=True)], still)
    stats = Summarizing(per_parameter=True)
    clipped = run_ours(tmp_path / "clipped", [stats], still, clip_grad_norm=0.01)
    assert total_norms(clipped) == pytest.approx([0.01] * 8, rel=1e-3)
    check(gradients_of(events_of(read_events, tmp_path / "clipped")), free.seen, 1)
    assert stats.kept[2] == pytest.approx([np.mean(total_norms(free)), 0.01], rel=1e-5)


def test_clipping_by_value_comes_after_the_observation(tmp_path, read_events):
    free = run_ours(tmp_path / "free", [GradientStats()], still)
    stats = Summarizing(per_parameter=True)
    run_ours(tmp_path / "clipped", [stats], still, clip_grad_value=1e-4)
    check(gradients_of(events_of(read_events, tmp_path / "clipped")), free.seen, 1)
    assert stats.kept[2] == []


class Moving(Recording):
    """Keeps how far each step moved each parameter, relative to its norm."""

    def __init__(self, model):
        super().__init__(model)
        self.ratios = {name: [] for name in self.by_name}
        self.register_step_pre_hook(self.before_step)
        self.register_step_post_hook(self.after_step)

    def before_step(self, *_):
        self.before = {name: parameter.detach().double().clone() for name, parameter in self.by_name.items()}

    def after_step(self, *_):
        for name, parameter in self.by_name.items():
            moved = (parameter.detach().double() - self.before[name]).norm()
            self.ratios[name].append((moved / self.before[name].norm()).item())


@pytest.mark.parametrize("run", [run_ours, run_stock])
@pytest.mark.parametrize("every", [1, 3])
def test_update_ratios_equal_a_plain_loop_over_the_weights(tmp_path, read_events, run, every):
    optimizer = run(tmp_path, [GradientStats(every, per_parameter=True, update_ratio=True)], Moving, epochs=2)
    found = gradients_of(events_of(read_events, tmp_path))
    for name in SEEN:
        for epoch in range(2):
            expected = np.mean(optimizer.ratios[name][epoch * 8 : epoch * 8 + 8][::every])
            assert found[f"9_gradients/{name}/update_ratio"][epoch + 1] == pytest.approx(expected, rel=1e-3), name


def test_weights_of_norm_zero_have_no_update_ratio(tmp_path, read_events):
    model = Net("logits")
    nn.init.zeros_(model.last.bias)
    stats = GradientStats(100, per_parameter=True, update_ratio=True)  # the first step alone
    run_ours(tmp_path, [stats], model=model)
    found = gradients_of(events_of(read_events, tmp_path))
    assert "9_gradients/last.bias/update_ratio" not in found and "9_gradients/last.bias/norm" in found
    assert found["9_gradients/last.weight/update_ratio"][1] > 0


def test_without_being_asked_for_there_are_no_update_ratios(tmp_path, read_events):
    run_ours(tmp_path, [GradientStats(per_parameter=True)])
    assert not [tag for tag in gradients_of(events_of(read_events, tmp_path)) if tag.endswith("update_ratio")]


def test_a_resumed_run_shows_the_map_of_a_straight_one_and_repeats_no_warning(tmp_path, read_events, caplog):
    straight, resumed = GradientStats(), GradientStats()
    run_ours(tmp_path / "straight", [straight], epochs=4)
    run_ours(tmp_path / "halves", [GradientStats()], epochs=2)
    caplog.clear()
    run_ours(tmp_path / "halves", [resumed], epochs=4, resume=str(tmp_path / "halves"))
    assert [epoch for epoch, _ in resumed.history_["train"]] == [1, 2, 3, 4]
    # As text, in which NaN equals NaN.
    assert repr(resumed.state_dict()) == repr(straight.state_dict())
    assert "got no gradient" not in caplog.text
    pictures = [
        events_of(read_events, tmp_path / name).Images("9_gradients/map")[-1].encoded_image_string
        for name in ("straight", "halves")
    ]
    assert pictures[0] == pictures[1]


def test_accumulation_of_4_times_4_equals_1_times_16(tmp_path, read_events):
    run_ours(tmp_path / "a", [GradientStats(per_parameter=True)], batch_size=4, accumulate_steps=4)
    run_ours(tmp_path / "b", [GradientStats(per_parameter=True)], batch_size=16)
    found, whole = (gradients_of(events_of(read_events, tmp_path / name)) for name in "ab")
    assert found.keys() == whole.keys()
    for tag, values in whole.items():
        norm = whole[tag.rsplit("/", 1)[0] + "/norm"][1]
        assert found[tag][1] == pytest.approx(values[1], abs=1e-5 * norm), tag


def test_pictures_are_written_every_epoch_and_scalars_only_when_asked_for(tmp_path, read_events):
    run_ours(tmp_path, [GradientStats()], epochs=3)
    events = events_of(read_events, tmp_path)
    for tag in ("9_gradients/map", "9_gradients/flow"):
        assert [event.step for event in events.Images(tag)] == [1, 2, 3]
        picture = cv2.imdecode(np.frombuffer(events.Images(tag)[-1].encoded_image_string, np.uint8), 1)
        assert picture.ndim == 3 and picture.std() > 5
    assert gradients_of(events) == {}


def test_the_history_is_bounded(tmp_path):
    stats = GradientStats(history_epochs=2)
    run_ours(tmp_path, [stats], epochs=4)
    assert [epoch for epoch, _ in stats.history_["train"]] == [3, 4]


def poison(step, parameters):
    """Steps 1 and 2 (from 0) hold NaN and infinity."""
    if step == 1:
        parameters["first.weight"].grad[0, 0] = math.nan
    if step == 2:
        parameters["first.weight"].grad[0] = math.inf


def test_nan_and_infinity_are_counted_from_the_second_time_on_and_named(tmp_path, read_events, caplog):
    stats = Summarizing(per_parameter=True)
    optimizer = run_stock(tmp_path, [stats], lambda model: Still(model, tamper=poison))
    found = gradients_of(events_of(read_events, tmp_path))
    check(found, optimizer.seen, 1)
    assert found["9_gradients/first.weight/non_finite"][1] == pytest.approx(16 / 128)
    assert found["9_gradients/first.bias/non_finite"][1] == 0
    names, summary, _ = stats.kept
    first = names.index("first.weight")
    assert summary["broken_steps"][first] == 2
    assert summary["non_finite"][first] == pytest.approx(16 / 128)  # of step 2: of step 1 it is known too late
    assert "1 parameter got NaN or infinite gradients (a smaller --lr often helps): first.weight" in caplog.text


class Summarizing(GradientStats):
    def _write_pictures(self, runner, writer, *kept):
        self.kept = kept
        super()._write_pictures(runner, writer, *kept)


def test_what_goes_wrong_is_logged_once_for_each_set_of_names(tmp_path, caplog, recwarn):
    def die(step, parameters):
        if step >= COUNT // 4 * 2:  # from epoch 3 on
            parameters["last.bias"].grad.zero_()

    with caplog.at_level(logging.WARNING, logger="assay"):
        run_stock(tmp_path, [GradientStats()], lambda model: Recording(model, tamper=die), epochs=4)
    said = [record.getMessage() for record in caplog.records if record.name == "assay"]
    assert said == [
        "gradients, train epoch 1: 2 parameters got no gradient (the loss does not depend on them, so they do not "
        "learn): unused.weight, unused.bias",
        "gradients, train epoch 3: 1 parameter died (all gradients are zero, so they do not learn): last.bias",
    ]
    assert not [warning for warning in recwarn if "gradient" in str(warning.message)]


@pytest.mark.parametrize("every, said", [(100, "had gradients of zero in the first step"), (1, "died (all")])
def test_zero_gradients_of_the_first_step_alone_are_no_proof_that_parameters_died(tmp_path, caplog, every, said):
    def begin_at_zero(step, parameters):
        if step == 0 or every == 1:
            parameters["last.bias"].grad.zero_()

    with caplog.at_level(logging.WARNING, logger="assay"):
        run_stock(tmp_path, [GradientStats(every)], lambda model: Recording(model, tamper=begin_at_zero), epochs=2)
    zero = [record.getMessage() for record in caplog.records if "last.bias" in record.getMessage()]
    assert len(zero) == 1 and zero[0].startswith(f"gradients, train epoch 1: 1 parameter {said}")


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda channels: nn.GroupNorm(channels, channels)])
def test_biases_before_a_normalization_have_no_gradient_by_construction_and_are_not_told(tmp_path, caplog, norm):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    items = [{"image": torch.randn(3, 8, 8), "target": index % 4} for index in range(32)]
    nn.functional.cross_entropy(layers(items[0]["image"][None]), torch.tensor([0])).backward()
    assert float(layers[0].bias.grad.norm()) < 1e-4 * float(layers[0].weight.grad.norm())
    layers.zero_grad()
    fit(DictRunner(), Named(layers), items, [GradientStats()], batch=8, logdir=str(tmp_path))
    assert "vanished" not in caplog.text


def test_names_are_listed_up_to_eight(tmp_path, caplog):
    def vanish(step, parameters):
        for name in SEEN[:3]:
            parameters[name].grad *= 1e-9

    run_stock(tmp_path, [GradientStats()], lambda model: Recording(model, tamper=vanish))
    assert (
        "3 parameters vanished (the norm is below 0.001 of the median, so they hardly learn): first.weight, "
        "first.bias, second.weight"
    ) in caplog.text
    summary = {name: torch.zeros(11) for name in ("norm", "missing_steps", "broken_steps")}
    summary |= {name: torch.ones(11) for name in ("finite_steps", "zeros")}
    writer = Writer(type("Folder", (), {"flush": lambda self: None, "close": lambda self: None})())
    caplog.clear()
    names = [f"p{i}" for i in range(11)]
    GradientWarnings(1e-3, 1e3).warn(writer, names, summary, "train epoch 1", first_epoch=False)
    writer.close()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].endswith("p6, p7 and 3 more")


@pytest.mark.parametrize("run", [run_ours, run_stock])
def test_hooks_are_gone_after_the_run(tmp_path, run):
    stats = GradientStats(update_ratio=True)
    optimizer = run(tmp_path, [stats])
    assert len(optimizer._optimizer_step_pre_hooks) == 1  # the test's own
    assert not optimizer._optimizer_step_post_hooks
    assert stats.watches_ is None


@pytest.mark.parametrize("run", [run_ours, run_stock])
def test_hooks_are_gone_after_an_exception(tmp_path, run):
    kept = []

    def make(model):
        kept.append(Recording(model))
        return kept[0]

    with pytest.raises(ZeroDivisionError, match="own error"):
        run(tmp_path, [GradientStats(), Break(batch=3, hook="on_batch_start")], make)
    assert len(kept[0].seen["first.weight"]) == 2
    assert len(kept[0]._optimizer_step_pre_hooks) == 1


def test_it_runs_twice(tmp_path):
    stats = GradientStats()
    run_ours(tmp_path / "a", [stats], epochs=2)
    run_ours(tmp_path / "b", [stats])
    assert [epoch for epoch, _ in stats.history_["train"]] == [1]


class TwoModels(DictRunner):
    """Steps the first optimizer in every batch, the second in every other; lets nobody see gradients before that."""

    register_gradient_hook = None

    def _take_step(self):
        for index, optimizer in enumerate(self.optimizer.values()):
            if index == 0 or self.loader_batch_step % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()


def test_several_models_and_optimizers_are_told_apart(tmp_path, read_events):
    class Part(nn.Module):
        def __init__(self, inputs, outputs, key, source):
            super().__init__()
            self.key, self.source, self.layer = key, source, nn.Linear(inputs, outputs)

        def forward(self, **batch):
            return {self.key: self.layer(batch[self.source].flatten(1))}

    models = {"body": Part(16, 8, "hidden", "image"), "head": Part(8, 3, "logits", "hidden")}
    optimizers = {name: torch.optim.SGD(models[name].parameters(), lr=0.1) for name in ("head", "body")}
    stats = Summarizing(per_parameter=True)
    fit(
        TwoModels(input_key={"body": ["image"], "head": ["hidden"]}), models, {"train": loader()}, [stats],
        optimizer=optimizers, logdir=str(tmp_path),
    )  # fmt: skip
    names, summary, _ = stats.kept
    assert names == ["body.layer.weight", "body.layer.bias", "head.layer.weight", "head.layer.bias"]
    assert summary["finite_steps"].tolist() == [4, 4, 8, 8]
    assert "9_gradients/head.layer.bias/norm" in gradients_of(events_of(read_events, tmp_path))


def test_a_sparse_embedding_is_observed(tmp_path):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.layer = nn.Embedding(20, 4, sparse=True), nn.Linear(4, 3)

        def forward(self, image):
            return {"logits": self.layer(self.words((image.flatten(1)[:, 0] > 0).long()))}

    stats = Summarizing()
    run_ours(tmp_path, [stats], lambda model: torch.optim.SGD(model.parameters(), lr=0.1), model=Words())
    assert stats.kept[1]["zeros"][0] >= 18 / 20


@pytest.mark.parametrize("value", [1.0, math.nan])
def test_a_step_reads_nothing_from_the_device(value):
    model = Net()
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.numel()}
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1)
    watch = GradientWatch(parameters, 1, set())
    optimizer.register_step_pre_hook(watch)
    for name in SEEN:
        parameters[name].grad = torch.full_like(parameters[name], value)
    with HostReads() as off:
        torch.optim.SGD(parameters.values(), lr=0.1).step()
    with HostReads() as on:
        for _ in range(3):
            optimizer.step()
    assert on.seen == off.seen
    assert watch.step == 3


@pytest.mark.parametrize(("every", "steps"), [(1, 5), (4, 10), (7, 20), (30, 20)])
def test_what_is_done_in_an_observed_step_stands_for_all_steps_up_to_the_next(every, steps):
    parameters = {"weight": nn.Parameter(torch.ones(4))}
    optimizer, stands_for = torch.optim.SGD(parameters.values(), lr=0.1), []
    parameters["weight"].grad = torch.ones(4)

    def timed(number):
        stands_for.append(number)
        return nullcontext()

    watch = GradientWatch(parameters, every, set(), update_ratio=True, steps=steps, timed=timed)
    optimizer.register_step_pre_hook(watch)
    optimizer.register_step_post_hook(watch.compare)
    for _ in range(steps):
        optimizer.step()
    assert stands_for[::2] == stands_for[1::2]  # the gradient's and the weights'
    assert sum(stands_for[::2]) == steps


def test_how_often_steps_are_observed_may_change_within_a_loader(tmp_path):
    class Thins(dl.Callback):
        def on_batch_end(self, runner):
            if runner.loader_batch_step == 3:
                stats.observe_every(2)

    stats = Summarizing()
    run_ours(tmp_path, [stats, Thins(order=1000)])
    assert stats.kept[1]["finite_steps"][0] == 3 + 2  # of 8: 1, 2 and 3, then 5 and 7
    assert stats.every_n_steps_ == 2


def test_gradients_that_a_fused_optimizer_unscales_itself_are_unscaled():
    parameters = {"weight": nn.Parameter(torch.ones(4))}
    parameters["weight"].grad = torch.full((4,), 512.0)
    optimizer, watch = torch.optim.SGD(parameters.values(), lr=0.1), GradientWatch(parameters, 1, set())
    optimizer.grad_scale = torch.tensor(256.0)  # as a GradScaler sets it for the time of the step
    watch(optimizer)
    assert watch.measure.summarize(watch.over_ranks())["norm"].tolist() == [4.0]


@pytest.mark.parametrize("every", [0, -1, 1.5, "2"])
def test_every_n_steps_must_be_a_positive_integer(every):
    with pytest.raises(UsageError, match="every_n_steps must be an integer of at least 1, got"):
        GradientStats(every)


def test_history_epochs_must_be_a_positive_integer():
    with pytest.raises(UsageError, match="history_epochs must be an integer of at least 1, got 0"):
        GradientStats(history_epochs=0)


@pytest.mark.parametrize("share", [-0.1, 1, math.nan])
def test_vanished_below_must_be_a_share(share):
    with pytest.raises(UsageError, match=f"vanished_below must be at least 0 and less than 1, got {share}"):
        GradientStats(vanished_below=share)


@pytest.mark.parametrize("multiple", [1, -3, math.nan])
def test_exploded_above_must_be_a_multiple(multiple):
    with pytest.raises(UsageError, match=f"exploded_above must be greater than 1, got {multiple}"):
        GradientStats(exploded_above=multiple)


def test_a_run_without_an_optimizer_is_refused(tmp_path):
    with pytest.raises(UsageError, match="GradientStats needs a runner with an optimizer, got optimizer=None"):
        run_ours(tmp_path, [GradientStats()], lambda model: None)


def test_it_needs_a_tensorboard_logger(tmp_path):
    with pytest.raises(UsageError, match="GradientStats writes to TensorBoard"):
        run_stock(tmp_path, [GradientStats()], loggers={})
