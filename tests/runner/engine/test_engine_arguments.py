"""The engine by the arguments of Catalyst and of accelerate: the same engine, or one line where they contradict."""

import pytest
import torch
from accelerate.utils import PrecisionType

from assay.runner import Engine, UsageError
from assay.runner.engine.engine_arguments import chosen_device, chosen_precision


@pytest.mark.parametrize(
    ("arguments", "precision"),
    [
        ({"cpu": True}, "no"),
        ({"cpu": True, "fp16": False}, "no"),
        ({"cpu": True, "mixed_precision": "no"}, "no"),
        ({"cpu": True, "mixed_precision": "bf16"}, "bf16"),
        ({"cpu": True, "mixed_precision": PrecisionType.BF16}, "bf16"),
        ({"cpu": True, "device": "cpu", "precision": "bf16"}, "bf16"),
        ({"cpu": True, "precision": "bf16", "mixed_precision": "bf16", "fp16": False}, "bf16"),
        ({"cpu": True, "device_placement": True, "split_batches": False, "log_with": None}, "no"),
        ({"cpu": True, "step_scheduler_with_optimizer": False, "rng_types": ["torch"]}, "no"),
    ],
)
def test_an_engine_is_made_by_catalysts_arguments(arguments, precision):
    engine = Engine(**arguments)
    assert engine.device == torch.device("cpu")
    assert engine.mixed_precision == precision


def test_options_of_loaders_reach_accelerate():
    engine = Engine(cpu=True, split_batches=True, even_batches=False, dispatch_batches=False)
    assert engine.dataloader_config.split_batches
    assert not engine.dataloader_config.even_batches
    assert engine.dataloader_config.non_blocking


def test_the_folder_of_trackers_has_its_new_name(tmp_path):
    assert Engine(cpu=True, logging_dir=str(tmp_path)).project_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("given", "precision"),
    [
        ((None, None, None), "fp32"),
        ((None, None, False), "fp32"),
        ((None, None, True), "fp16"),
        ((None, "fp16", True), "fp16"),
        (("fp16", "fp16", True), "fp16"),
        (("tf32", "no", None), "tf32"),
        (("fp32", "no", False), "fp32"),
    ],
)
def test_a_precision_has_three_names(given, precision):
    assert chosen_precision(*given) == precision


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("bf16", None, True), "fp16=True and precision='bf16' contradict each other"),
        ((None, "bf16", True), "fp16=True and mixed_precision='bf16' contradict each other"),
        ((None, "no", True), "fp16=True and mixed_precision='no' contradict each other"),
        (("fp32", "fp16", None), "mixed_precision='fp16' and precision='fp32' contradict each other"),
        (("tf32", "bf16", None), "mixed_precision='bf16' and precision='tf32' contradict each other"),
        ((None, "fp8", None), "unknown mixed_precision 'fp8'. There is: 'bf16', 'fp16', 'no'"),
    ],
)
def test_precisions_that_contradict_each_other_are_refused(given, line):
    with pytest.raises(UsageError, match=line):
        chosen_precision(*given)


def test_a_cpu_and_a_gpu_at_once_are_refused():
    with pytest.raises(UsageError, match="cpu=True and device='cuda' contradict each other"):
        Engine("cuda", cpu=True)


def test_fp16_by_catalysts_name_is_refused_on_a_cpu_too():
    with pytest.raises(UsageError, match="precision 'fp16' needs a GPU; on a CPU choose 'bf16' or 'fp32'"):
        Engine(cpu=True, fp16=True)


def test_what_accelerate_launch_was_told_holds_where_the_engine_is_not_told_otherwise(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert chosen_precision(None, None, None) == "bf16"
    assert chosen_precision("fp32", None, None) == "fp32"
    assert chosen_device("auto", cpu=False) == "cpu"
    assert Engine().mixed_precision == "bf16"


def test_an_unknown_argument_is_refused_by_name():
    with pytest.raises(UsageError, match=r"unknown argument of an engine 'mixed_precison'; did you mean 'mixed_prec"):
        Engine(cpu=True, mixed_precison="bf16")


def test_an_option_of_loaders_in_two_places_is_refused():
    from accelerate import DataLoaderConfiguration

    with pytest.raises(UsageError, match="dataloader_config holds 'split_batches' too"):
        Engine(cpu=True, split_batches=True, dataloader_config=DataLoaderConfiguration())
