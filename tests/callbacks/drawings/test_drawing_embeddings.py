import numpy as np
import pytest

from assay.callbacks.drawings.embeddings import draw_sheet


def grey(value, size=(8, 8)):
    return np.full((1, *size), value, dtype=np.uint8)


def test_thumbnails_stand_row_by_row_on_a_square():
    sheet, side = draw_sheet([grey(value) for value in (10, 20, 30, 40, 50)])
    assert (side, sheet.shape, sheet.dtype) == (64, (192, 192, 3), np.uint8)
    centres = sheet[32::64, 32::64, 0]
    assert centres.tolist() == [[10, 20, 30], [40, 50, 255], [255, 255, 255]]


def test_images_of_other_sizes_keep_their_shape():
    sheet, _ = draw_sheet([grey(0, (100, 50)), grey(0, (2, 8))])
    assert (sheet[:64, :64, 0] == 0).sum() == 64 * 32
    assert (sheet[:64, 64:128, 0] == 0).sum() == 16 * 64


def test_normalization_is_undone():
    sheet, _ = draw_sheet([np.full((3, 4, 4), 1.0, dtype=np.float32)], mean=[0.2, 0.3, 0.4], std=0.1)
    assert sheet[30, 30].tolist() == [77, 102, 128]


@pytest.mark.parametrize(("count", "side"), [(1, 64), (128 * 128, 64), (128 * 128 + 1, 63), (300 * 300, 27)])
def test_the_sheet_is_never_larger_than_a_browser_takes(count, side):
    sheet, found = draw_sheet([grey(1, (2, 2))] * count)
    assert found == side
    assert sheet.shape[0] <= 8192
