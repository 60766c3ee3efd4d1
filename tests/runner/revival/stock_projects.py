"""What stock projects are made of, and plain loops that say what is right."""

import torch
from catalyst import dl
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES, FEATURES = 3, 5


def make_data(count=26, seed=0):
    """Return inputs [N, 5] in float64 and classes [N]."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, FEATURES, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, CLASSES, (count,), generator=generator)


def make_model(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(FEATURES, CLASSES).double()


def make_loader(count=26, batch_size=4, **options):
    return DataLoader(TensorDataset(*make_data(count)), batch_size=batch_size, **options)


def train_stock(model, loaders, *, callbacks=(), epochs=1, lr=0.1, runner=None, optimizer=None, **options):
    """Train as a project's owner would: a stock runner, no engine."""
    runner = runner or dl.SupervisedRunner()
    runner.train(
        model=model,
        criterion=nn.CrossEntropyLoss(),
        optimizer=optimizer or torch.optim.SGD(model.parameters(), lr=lr),
        loaders=loaders,
        num_epochs=epochs,
        callbacks=list(callbacks),
        **options,
    )
    return runner


def plain_training(model, batches, *, steps=1, lr=0.1, clip=None, epochs=1):
    """Train by a plain loop that averages over the batches of a step; return the norms before clipping."""
    optimizer, norms = torch.optim.SGD(model.parameters(), lr=lr), []
    for _ in range(epochs):
        for first in range(0, len(batches), steps):
            group = batches[first : first + steps]
            for inputs, targets in group:
                (nn.functional.cross_entropy(model(inputs), targets) / len(group)).backward()
            norms.append(sum(p.grad.square().sum() for p in model.parameters()).sqrt().item())
            if clip is not None:
                for parameter in model.parameters():
                    parameter.grad *= min(1.0, clip / (norms[-1] + 1e-6))
            optimizer.step()
            optimizer.zero_grad()
    return norms


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist()


def revive_and_call(function, arguments):
    from assay.runner import revive

    revive()
    return function(*arguments)
