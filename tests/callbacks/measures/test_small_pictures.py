"""Small pictures are made without reading the device, and equal plain loops over the pixels."""

import numpy as np
import pytest
import torch

from assay.callbacks.measures.small_pictures import small_pictures, small_shape

TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.uint16, torch.int16, torch.bool)


@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (4, 1, 400, 300), (4, 5, 600, 1300), (4, 64, 200)])
@pytest.mark.parametrize("dtype", TYPES)
def test_nothing_is_read_from_the_device(dtype, shape):
    images = torch.empty(shape, dtype=dtype, device="meta")
    found = small_pictures(images, 128, mean=[0.5] * shape[1] if len(shape) == 4 else 0.5, std=0.2)
    channels = min(3, shape[1]) if len(shape) == 4 else 1
    assert (found.shape, found.dtype) == ((4, channels, *small_shape(shape[-2:], 128)), torch.uint8)


def test_values_are_averages_of_areas_without_the_normalization():
    images = torch.rand(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    mean, std = [0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]
    found = small_pictures(
        (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None], 4, mean, std
    )
    assert found.shape == (2, 3, 3, 4)
    for sample, channel, row, column in np.ndindex(2, 3, 3, 4):
        top, bottom = row * 8 // 3, -(-(row + 1) * 8 // 3)
        area = images[sample, channel, top:bottom, 3 * column : 3 * column + 3]
        assert abs(int(found[sample, channel, row, column]) - 255 * float(area.mean())) <= 0.51


def test_what_is_no_number_is_black_and_what_is_too_large_is_cut():
    images = torch.tensor([[[float("nan"), 5.0, -3.0, 0.5]]])
    assert small_pictures(images, 128).flatten().tolist() == [0, 255, 0, 128]
