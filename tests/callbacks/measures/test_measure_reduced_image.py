import numpy as np
import pytest
import torch

from assay.callbacks.drawings.canvas import theme
from assay.callbacks.drawings.canvas.images import thumbnail
from assay.callbacks.measures.reduced_image import is_reduced, reduced, sizes


def values(kind, *shape):
    """Smooth enough for its means to differ from place to place."""
    image = torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.2, 1, shape[-1])
    if kind == torch.bool:
        return image > 0.4
    if kind == torch.uint16:
        return torch.from_numpy((image * 65535).numpy().astype(np.uint16))
    return image.to(kind) if kind.is_floating_point else (image * 255).to(kind)


@pytest.mark.parametrize("size", [157, theme.TILE_SIZE, theme.LARGEST_TILE_SIZE])
@pytest.mark.parametrize(
    "kind", [torch.float32, torch.float64, torch.uint8, torch.int16, torch.int64, torch.uint16, torch.bool]
)
@pytest.mark.parametrize("shape", [(3, 1151, 999), (1, 4001, 1100), (1930, 1931)], ids=str)
def test_a_picture_of_a_reduced_image_is_that_of_the_image(kind, shape, size):
    image = values(kind, *shape)
    small = reduced(image)
    assert is_reduced(image)
    assert max(small.shape[-2:]) <= 3.1 * theme.LARGEST_TILE_SIZE * max(shape[-2:]) / min(shape[-2:])
    expected = thumbnail(image.numpy(), size).astype(int)
    found = thumbnail(small.numpy(), size, shape=shape[-2:]).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("shape", [(2, 3, 960, 960), (4, 900, 200), (3, 960, 8000)], ids=str)
def test_an_image_that_is_not_larger_than_what_is_drawn_stays_itself(shape):
    image = values(torch.float32, *shape)
    assert is_reduced(image) == (shape[-1] == 8000 and reduced(image) is not image)
    if not is_reduced(image):
        assert reduced(image) is image


def test_images_of_several_sizes_are_reduced_one_by_one():
    images = [values(torch.float32, 3, 2000, 2000), values(torch.float32, 3, 40, 50)]
    assert [tuple(image.shape) for image in reduced(images)] == [(3, 500, 500), (3, 40, 50)]
    assert sizes(images) == [(2000, 2000), (40, 50)]


def test_each_value_is_the_mean_of_its_part():
    image = values(torch.float32, 2, 3, 2000, 2000)
    expected = image.double().reshape(2, 3, 500, 4, 500, 4).mean(dim=(3, 5))
    assert torch.allclose(reduced(image).double(), expected, atol=1e-6)
