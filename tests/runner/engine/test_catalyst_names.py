"""Catalyst's kinds of engines by their names: in Python, in a config, and refused where they need processes."""

import socket
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from catalyst import dl
from catalyst.registry import REGISTRY
from torch import nn

from assay.runner import (
    CPUEngine,
    DataParallelEngine,
    DictRunner,
    DistributedDataParallelEngine,
    Engine,
    GPUEngine,
    UsageError,
)

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")


@without_gpu
@pytest.mark.parametrize("kind", [CPUEngine, GPUEngine, DataParallelEngine, DistributedDataParallelEngine])
def test_every_kind_of_catalysts_trains_on_a_machine_without_gpu(kind, make_net, make_loader, caplog):
    model, runner = make_net(), DictRunner()
    runner.train(
        engine=kind(),
        model=model,
        criterion=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        loaders={"train": make_loader()},
        num_epochs=2,
    )
    assert runner.history[2]["train"]["loss"] < runner.history[1]["train"]["loss"]
    assert runner.engine.device == torch.device("cpu")
    warned = [record.getMessage() for record in caplog.records]
    silent = kind in (CPUEngine, DistributedDataParallelEngine)
    assert warned == ([] if silent else [f"{kind.__name__} runs on the CPU: there is no GPU that torch can use."])


def test_a_config_makes_an_engine_by_catalysts_arguments():
    engine = REGISTRY.get_from_params(_target_="assay.runner.Engine", cpu=True, fp16=False)
    assert type(engine) is Engine
    assert type(REGISTRY.get_from_params(_target_="assay.runner.CPUEngine")) is CPUEngine


def test_several_gpus_in_one_process_are_refused_with_what_starts_a_process_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for kind in (DataParallelEngine, DistributedDataParallelEngine):
        with pytest.raises(UsageError, match=f"{kind.__name__} needs 4 processes.*torchrun --standalone --nproc-per-"):
            kind()


def test_ddp_in_one_process_is_refused_where_it_needs_several(monkeypatch, make_net, make_loader):
    model = make_net()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UsageError, match="DistributedDataParallelEngine needs 2 processes"):
        DictRunner(model).train(loaders={"train": make_loader()}, ddp=True)


def test_another_number_of_processes_than_were_started_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="world_size must be the 2 of the processes that were started, got 8"):
        DistributedDataParallelEngine(world_size=8)


def test_options_of_the_group_that_are_torchruns_are_refused():
    with pytest.raises(UsageError, match=r"unknown process_group_kwargs 'rank' \(torchrun knows rank"):
        DistributedDataParallelEngine(process_group_kwargs={"rank": 0})


def test_options_of_the_group_are_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = {
        "RANK": 0,
        "LOCAL_RANK": 0,
        "WORLD_SIZE": 1,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": 1,
    }
    for name, value in started.items():
        monkeypatch.setenv(name, str(value))
    options = {"backend": "gloo", "timeout": timedelta(seconds=77)}
    engine = DistributedDataParallelEngine(process_group_kwargs=options, world_size=1, cpu=True)
    assert dist.get_backend() == "gloo"
    assert engine.init_handler.timeout == timedelta(seconds=77)
    dist.destroy_process_group()


def test_catalysts_own_engine_is_refused_with_the_import_that_will_do(make_net, make_loader):
    engine = dl.CPUEngine()
    with pytest.raises(UsageError, match=r"engine must be one of assay's, got a catalyst\.engines\.torch\.CPUEngine"):
        DictRunner(make_net()).train(engine=engine, loaders={"train": make_loader()})
    with pytest.raises(UsageError, match=r"from assay\.runner import CPUEngine"):
        next(DictRunner(make_net()).predict_loader(engine=engine, loader=make_loader()))


def test_an_engine_that_divides_the_loss_is_refused(make_net, make_loader):
    with pytest.raises(UsageError, match=r"gradient_accumulation_steps .* must be 1, got 4.*accumulate_steps"):
        DictRunner(make_net()).train(
            engine=Engine(cpu=True, gradient_accumulation_steps=4), loaders={"train": make_loader()}
        )


def test_batches_to_be_split_over_several_processes_are_refused(monkeypatch, make_net, make_loader):
    monkeypatch.setattr(Engine, "num_processes", 2)
    with pytest.raises(UsageError, match=r"split_batches=True is not supported .* batch_size by the 2 processes"):
        DictRunner(make_net()).train(engine=Engine(cpu=True, split_batches=True), loaders={"train": make_loader()})
