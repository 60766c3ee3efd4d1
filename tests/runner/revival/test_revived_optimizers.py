"""Catalyst's own optimizers in a stock run."""

import pytest
import torch
from catalyst.contrib.optimizers import Lookahead
from stock_projects import make_loader, make_model, train_stock, weights_of
from torch import nn


def train_ahead():
    model = make_model()
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1), k=3, alpha=0.4)
    train_stock(model, {"train": make_loader()}, epochs=2, optimizer=optimizer)
    return weights_of(model)


def test_lookahead_trains(revived):
    model, slow = make_model(), None
    for step, (inputs, targets) in enumerate(2 * list(make_loader())):
        model.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
            if step % 3 == 0:
                fast = nn.utils.parameters_to_vector(model.parameters())
                slow = fast.clone() if slow is None else slow + 0.4 * (fast - slow)
                nn.utils.vector_to_parameters(slow.clone(), model.parameters())
    (weights,) = revived(1, train_ahead)
    assert weights == pytest.approx(weights_of(model), abs=1e-12)
