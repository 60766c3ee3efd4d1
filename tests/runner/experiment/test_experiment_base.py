"""An experiment's fields are checked when it is made, and its parts are built from them."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
import torch
from torch import nn
from torch.utils.data import RandomSampler, SequentialSampler

from assay.runner import Experiment, UsageError
from assay.runner.data.augmented import one_thread
from assay.runner.experiment.ranges import AtLeast, OneOf, check_range


@dataclass(kw_only=True)
class Toy(Experiment):
    """A toy."""


def test_the_defaults_are_valid_and_describe_adamw_with_a_cosine_by_batch():
    toy = Toy()
    model = nn.Linear(2, 2)
    optimizer = toy.get_optimizer(model)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["lr"] == toy.lr
    assert toy.scheduler_step == "batch"
    assert isinstance(toy.get_criterion(), nn.CrossEntropyLoss)
    assert toy.get_callbacks() == []


@pytest.mark.parametrize(
    ("field", "value", "bound"),
    [
        ("epochs", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("accumulate_steps", 0, "at least 1"),
        ("clip_grad_norm", 0.0, "greater than 0"),
        ("clip_grad_value", -1.0, "greater than 0"),
        ("seed", -1, "at least 0"),
        ("patience", 0, "at least 1"),
        ("lr", 0.0, "greater than 0"),
        ("weight_decay", -0.1, "at least 0"),
        ("momentum", -0.1, "at least 0"),
        ("warmup_epochs", -1.0, "at least 0"),
        ("lr_min", -1e-3, "at least 0"),
        ("gamma", 0.0, "greater than 0"),
        ("cycle_epochs", 0.0, "greater than 0"),
        ("plateau_patience", -1, "at least 0"),
        ("workers", -1, "at least 0"),
        ("threads", 0, "at least 1"),
        ("top_k", 0, "at least 1"),
        ("log_every_steps", -1, "at least 0"),
        ("lr", float("nan"), "greater than 0"),
        ("max_overhead", 0.0, "greater than 0"),
        ("max_overhead", float("nan"), "greater than 0"),
        ("max_overhead", 5.0, r"at most 1 \(0.05 is 5%\)"),
    ],
)
def test_a_number_out_of_range_is_refused_when_the_experiment_is_made(field, value, bound):
    with pytest.raises(UsageError, match=rf"{field} must be {bound}, got {value}"):
        Toy(**{field: value})


@pytest.mark.parametrize(
    "fields",
    [
        {"epochs": 1, "batch_size": 1, "patience": 1, "top_k": 1, "threads": 1},
        {"seed": 0, "weight_decay": 0.0, "momentum": 0.0, "workers": 0, "log_every_steps": 0, "lr_min": 0.0},
        {"max_overhead": 1.0},
        {"clip_grad_norm": None, "clip_grad_value": None, "patience": None, "threads": None, "momentum": None},
    ],
)
def test_numbers_at_the_edge_of_their_range_and_none_are_allowed(fields):
    toy = Toy(**fields)
    assert {name: getattr(toy, name) for name in fields} == fields


@pytest.mark.parametrize(("included", "value"), [(True, 0.9), (False, 1), (False, 0.5)])
def test_a_range_may_include_its_smallest_value(included, value):
    check_range("size", 1.1, 1, included=included)
    with pytest.raises(UsageError, match="size must be"):
        check_range("size", value, 1, included=included)


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [("device", "gpu", "cpu"), ("precision", "bf61", "bf16"), ("scheduler", "cosin", "cosine")],
)
def test_an_unknown_choice_is_refused_with_the_closest(field, value, nearest):
    with pytest.raises(UsageError, match=rf"unknown {field} '{value}'; did you mean '{nearest}'"):
        Toy(**{field: value})


@dataclass(kw_only=True)
class Anew(Toy):
    epochs: int = 5
    side: Annotated[int | None, AtLeast(2)] = None
    shape: Literal["round", "square"] = "round"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),  # declared anew for its default alone
        ({"side": 1}, "side must be at least 2, got 1"),
        ({"shape": "squar"}, "unknown shape 'squar'; did you mean 'square'"),
    ],
)
def test_the_rules_of_a_field_stand_in_its_type_and_hold_in_subclasses(fields, message):
    assert Anew().side is None
    with pytest.raises(UsageError, match=message):
        Anew(**fields)


def test_a_scheduler_may_be_written_with_underscores():
    assert Toy(scheduler="multi_step").scheduler_step == "epoch"


@pytest.mark.parametrize("monitor", [["loss"], [], ["valid/loss:min", "valid/loss:max"]])
def test_a_monitor_that_cannot_be_read_is_refused(monitor):
    with pytest.raises(UsageError, match="monitor must "):
        Toy(monitor=monitor)


def test_what_an_experiment_must_say_itself_is_not_there():
    for get in (Toy().get_loaders, Toy().get_model):
        with pytest.raises(NotImplementedError):
            get()


def test_the_optimizer_takes_the_fields_and_all_parameters_as_frozen_ones_may_be_trained_later():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    toy = Toy(optimizer="sgd", lr=0.5, momentum=0.8, weight_decay=0.01, optimizer_options={"nesterov": True})
    optimizer = toy.get_optimizer(model)
    (group,) = optimizer.param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in model.parameters()]
    assert {name: group[name] for name in ("lr", "momentum", "weight_decay", "nesterov")} == {
        "lr": 0.5,
        "momentum": 0.8,
        "weight_decay": 0.01,
        "nesterov": True,
    }


def test_the_optimizer_takes_the_parameters_of_several_models():
    models = {"first": nn.Linear(2, 3), "second": nn.Linear(3, 1)}
    (group,) = Toy().get_optimizer(models).param_groups
    assert len(group["params"]) == 4


def test_the_scheduler_takes_the_fields():
    toy = Toy(optimizer="SGD", lr=0.4, scheduler="multi-step", milestones=[1], gamma=0.5, warmup_epochs=0.5, epochs=3)
    optimizer = toy.get_optimizer(nn.Linear(2, 2))
    scheduler = toy.get_scheduler(optimizer, steps_per_epoch=6)
    assert scheduler.get_last_lr() == pytest.approx([0.1])  # the first of 3 warm-up steps
    for _ in range(6):
        optimizer.step()
        scheduler.batch_step()
    assert scheduler.get_last_lr() == pytest.approx([0.4])
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.2])


@pytest.mark.parametrize(("monitor", "halved"), [("valid/loss:min", True), ("valid/accuracy:max", False)])
def test_plateau_takes_its_direction_from_the_first_monitor(monitor, halved):
    toy = Toy(scheduler="plateau", monitor=[monitor], plateau_patience=0, gamma=0.5, lr=0.4)
    optimizer = toy.get_optimizer(nn.Linear(2, 2))
    scheduler = toy.get_scheduler(optimizer, steps_per_epoch=6)
    for value in (1.0, 2.0):
        scheduler.step(value)
    assert optimizer.param_groups[0]["lr"] == (0.2 if halved else 0.4)


def test_options_of_the_scheduler_are_handed_on():
    options = {"cycle_momentum": True, "max_momentum": 0.7}
    toy = Toy(optimizer="SGD", momentum=0.9, scheduler="one-cycle", scheduler_options=options)
    optimizer = toy.get_optimizer(nn.Linear(2, 2))
    toy.get_scheduler(optimizer, steps_per_epoch=6)
    assert optimizer.param_groups[0]["momentum"] == 0.7


def test_no_scheduler_is_none():
    toy = Toy(scheduler="none")
    assert toy.get_scheduler(toy.get_optimizer(nn.Linear(2, 2)), steps_per_epoch=6) is None


def test_a_loader_has_the_experiments_batch_size_and_workers(make_items):
    loader = Toy(batch_size=5, workers=1, device="cpu").make_loader(make_items(), shuffle=True)
    assert (loader.batch_size, loader.num_workers, loader.persistent_workers, loader.pin_memory) == (5, 1, True, False)
    assert isinstance(loader.sampler, RandomSampler)
    assert loader.worker_init_fn is one_thread
    alone = Toy().make_loader(make_items())
    assert (alone.num_workers, alone.persistent_workers) == (0, False)
    assert isinstance(alone.sampler, SequentialSampler)


def test_a_loader_takes_a_batch_sampler_in_place_of_a_batch_size(make_items):
    batches = [[3, 0], [1], [2, 4, 5]]
    loader = Toy(batch_size=5, workers=0, device="cpu").make_loader(make_items(), batch_sampler=batches)
    assert (loader.batch_sampler, loader.batch_size, loader.worker_init_fn) == (batches, None, one_thread)
    assert [len(batch["image"]) for batch in loader] == [2, 1, 3]


@pytest.mark.parametrize("on_bad_image", ["raise", "skip"])
def test_a_loader_takes_a_sampler_a_collate_function_and_drop_last(make_items, on_bad_image):
    def join(items):
        return {"ids": [item["sample_id"] for item in items]}

    toy = Toy(batch_size=4, device="cpu", on_bad_image=on_bad_image)
    loader = toy.make_loader(make_items(), sampler=[5, 3, 8, 0, 2, 1], collate_fn=join, drop_last=True)
    assert [batch["ids"] for batch in loader] == [[f"sample-{i}" for i in (5, 3, 8, 0)]]
    assert loader.drop_last
    assert len(toy.make_loader(make_items(), drop_last=True)) == 5  # of 21


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sampler": [[0]], "shuffle": True}, "batch_sampler decides on the batches alone; leave out 'shuffle'"),
        (
            {"batch_sampler": [[0]], "sampler": [0], "drop_last": True},
            "batch_sampler decides on the batches alone; leave out 'drop_last', 'sampler'",
        ),
        ({"sampler": [0], "shuffle": True}, "sampler decides on the batches alone; leave out 'shuffle'"),
        ({"sampler": RandomSampler}, "sampler must be a sampler or a list, got <class"),
        ({"batch_sampler": 4}, "batch_sampler must be a sampler or a list, got 4"),
        ({"collate_fn": "pad"}, "collate_fn must be a function of a list of items, got 'pad'"),
        ({"dataset": iter([1])}, "dataset must have a length and items by number, got one of list_iterator"),
    ],
)
def test_arguments_of_a_loader_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(UsageError, match=f"^make_loader: {message}"):
        Toy().make_loader(**{"dataset": [1, 2], **options})


@pytest.mark.parametrize("field", ["optimizer_options", "scheduler_options"])
def test_options_that_have_a_field_of_their_own_are_refused(field):
    with pytest.raises(UsageError, match=f"{field} must not hold 'lr': that is a field of its own"):
        Toy(**{field: {"lr": 3.0}})


def test_a_seed_that_numpy_cannot_take_is_refused():
    with pytest.raises(UsageError, match="seed must be at most 2147483647, got 4294967296"):
        Toy(seed=2**32)


def test_an_infinite_number_is_refused():
    with pytest.raises(UsageError, match="lr must be greater than 0, got inf"):
        Toy(lr=float("inf"))


def test_a_choice_that_has_underscores_is_taken_as_it_is():
    OneOf(("faster_rcnn", "one-cycle")).check("detector", "faster_rcnn")
    OneOf(("faster_rcnn", "one-cycle")).check("scheduler", "one_cycle")
    with pytest.raises(UsageError, match="unknown detector 'faster-rcnn'"):
        OneOf(("faster_rcnn",)).check("detector", "faster-rcnn")
