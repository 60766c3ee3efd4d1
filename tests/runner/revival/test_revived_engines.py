"""Stock engines in a script that Catalyst itself starts on several processes."""

import os
import subprocess
import sys

import pytest
import torch
from catalyst import dl
from stock_projects import make_loader, make_model, plain_training, train_stock, weights_of
from torch import nn

SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from catalyst import dl
from stock_projects import make_loader, make_model, train_stock
from assay.runner import revive

revive()

class Tells(dl.Callback):
    def on_loader_end(self, runner):
        told = runner.engine.process_index, runner.engine.num_processes, round(float(runner.loader_metrics["loss"]), 6)
        sys.stdout.write("%d %d %s\\n" % told)

if __name__ == "__main__":
    engine = dl.DistributedDataParallelEngine(cpu=True, {options})
    train_stock(make_model(), {{"valid": make_loader(21)}}, engine=engine, callbacks=[Tells(order=99)])
"""


@pytest.mark.long("starts processes anew; the tests below check the engines in processes that are there")
@pytest.mark.parametrize("launcher", ["catalyst", "torchrun"])
def test_processes_are_started_once(tmp_path, launcher):
    options = "world_size=2, num_node_workers=2, port=29557" if launcher == "catalyst" else ""
    (tmp_path / "train.py").write_text(SCRIPT.format(folder=os.path.dirname(__file__), options=options))
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if launcher == "torchrun" else []
    command = [sys.executable, *start, "train.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    inputs, targets = make_loader(21).dataset.tensors
    loss = round(nn.functional.cross_entropy(make_model()(inputs), targets).item(), 6)
    lines = [line for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert sorted(lines) == [f"{rank} 2 {loss}" for rank in range(2)]


def kinds():
    engines = [dl.CPUEngine(fp16=False), dl.GPUEngine(), dl.Engine(cpu=True)]
    return [(engine.device.type, engine.use_fp16, isinstance(engine, dl.Engine)) for engine in engines]


def test_engines_take_the_arguments_of_catalysts_time(revived):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert revived(1, kinds) == [[("cpu", False, True), (device, False, True), ("cpu", False, True)]]


def read_process_kinds():
    from accelerate.state import DistributedType
    from catalyst.core import engine

    return DistributedType.TPU is engine.DistributedType.XLA, {kind.name for kind in DistributedType} >= {"NO", "XLA"}


def test_the_kind_of_process_that_was_renamed_has_both_names(revived):
    assert revived(1, read_process_kinds) == [(True, True)]


def train_data_parallel():
    runner = train_stock(make_model(), {"train": make_loader(24)}, engine=dl.DataParallelEngine())
    kinds = [type(runner.model)]
    while hasattr(runner.model, "module"):
        runner.model = runner.model.module
        kinds.append(type(runner.model))
    return weights_of(runner.model), [kind.__name__ for kind in kinds]


def test_a_process_of_its_own_is_data_parallel():
    from assay.runner import Engine
    from assay.runner.revival.engines import _prepare_parallel

    model = make_model()
    prepared = _prepare_parallel(Engine("cpu"), model, device_placement=True)
    assert isinstance(prepared, nn.DataParallel)
    assert prepared.module is model


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_process_of_a_group_has_no_second_wrapper(revived, ranks):
    expected = make_model()
    batches = [
        [torch.cat(parts) for parts in zip(*group, strict=True)] for group in grouped(list(make_loader(24)), ranks)
    ]
    plain_training(expected, batches)
    for weights, kinds in revived(ranks, train_data_parallel):
        assert kinds == ["DistributedDataParallel", "Linear"]
        assert weights == pytest.approx(weights_of(expected))


def grouped(batches, ranks):
    return [batches[first : first + ranks] for first in range(0, len(batches), ranks)]
