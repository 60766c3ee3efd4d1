import torch
from torch import nn

from assay.callbacks.measures.bottlenecks import bottlenecks


def marked(*tensors):
    return {tensor.grad_fn: number for number, tensor in enumerate(tensors)}


def test_what_a_path_goes_round_is_no_bottleneck():
    image = torch.rand(3, requires_grad=True)
    stem = image * 2
    branch = (stem + 1).exp()
    block = stem + branch
    side = stem.sum()
    last = block.relu() * side
    assert bottlenecks(last.grad_fn, marked(stem, branch, block, side, last)) == [0, 4]
    assert bottlenecks(block.relu().grad_fn, marked(stem, branch, block)) == [0, 2]


def test_what_begins_in_two_places_meets_in_one():
    first, second = (torch.rand(3, requires_grad=True) * 2 for _ in range(2))
    both = torch.cat([first, second])
    assert bottlenecks((both * both).sum().grad_fn, marked(first, second, both)) == [2]


def test_a_stack_of_layers_is_all_bottlenecks_and_a_u_net_only_where_it_meets_again():
    image = torch.rand(1, 2, 8, 8)
    deep, up = (nn.Conv2d(width, 2, 1).requires_grad_(False) for width in (2, 4))
    fine = image.requires_grad_() * 1
    coarse = deep(fine).clone()
    assert bottlenecks(coarse.sum().grad_fn, marked(fine, coarse)) == [0, 1]
    merged = up(torch.cat([fine, coarse], dim=1)).clone()
    assert bottlenecks(merged.sum().grad_fn, marked(fine, coarse, merged)) == [0, 2]
