import pickle

import pytest
import torch

from assay.callbacks.support.host_copy import HostCopy, copy_tree, read_tree


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_a_copy_equals_the_tensor(dtype, shape):
    tensor = (torch.rand(shape) * 5).to(dtype)
    copy = HostCopy(tensor)
    assert copy.ready()
    assert copy.read().dtype == dtype
    assert torch.equal(copy.read(), tensor)


def test_a_change_in_place_after_the_copy_does_not_show():
    tensor = torch.ones(3)
    copy = HostCopy(tensor)
    tensor.mul_(7)
    assert copy.read().tolist() == [1.0, 1.0, 1.0]


def test_a_copy_carries_no_graph():
    weight = torch.ones(2, requires_grad=True)
    copy = HostCopy((weight * 3).sum())
    assert not copy.read().requires_grad
    assert copy.read().tolist() == 6.0


def test_a_view_that_is_not_contiguous_is_copied_right():
    tensor = torch.arange(6).reshape(2, 3).t()
    assert torch.equal(HostCopy(tensor).read(), tensor)


def test_a_copy_travels_to_another_process():
    copy = pickle.loads(pickle.dumps(HostCopy(torch.arange(3))))
    assert copy.ready()
    assert copy.read().tolist() == [0, 1, 2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_copy_from_a_gpu_is_pinned_waits_when_read_and_travels():
    tensor = torch.arange(1000, device="cuda")
    copy = HostCopy(tensor)
    assert copy.read().is_pinned()
    assert torch.equal(copy.read(), torch.arange(1000))
    assert torch.equal(pickle.loads(pickle.dumps(HostCopy(tensor))).read(), torch.arange(1000))


def test_a_tensor_of_ones_own_is_not_copied_on_a_cpu():
    tensor = torch.rand(3)
    assert HostCopy(tensor, own=True).read().data_ptr() == tensor.data_ptr()
    assert HostCopy(tensor).read().data_ptr() != tensor.data_ptr()
    kept = copy_tree({"image": tensor, "ids": ["a", "b"], "none": None}, own=True)
    assert read_tree(kept)["image"].tolist() == tensor.tolist()
    assert read_tree(kept)["ids"] == ["a", "b"]
