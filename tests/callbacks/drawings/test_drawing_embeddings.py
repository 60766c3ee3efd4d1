import numpy as np
import pytest

from assay.callbacks.drawings.canvas.palette import class_colours
from assay.callbacks.drawings.canvas.theme import GREY, INK
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


LONG = pytest.mark.long("draws 90,000 thumbnails")


@pytest.mark.parametrize(
    ("count", "side"), [(1, 64), (128 * 128, 64), (128 * 128 + 1, 63), pytest.param(300 * 300, 27, marks=LONG)]
)
def test_the_sheet_is_never_larger_than_a_browser_takes(count, side):
    sheet, found = draw_sheet([grey(1, (2, 2))] * count, classes=[0] * count)
    assert found == side
    assert sheet.shape[0] <= 8192


def test_a_thumbnail_has_a_frame_in_the_colour_of_its_class_and_a_dark_one_within_it_where_it_is_wrong():
    sheet, _ = draw_sheet([grey(200)] * 4, classes=[0, 1, 1, -1], wrong=[False, True, False, False])
    frames = [tuple(colour) for colour in class_colours(2).tolist()]
    for index, colour in enumerate((frames[0], frames[1], frames[1], GREY)):
        place = sheet[index // 2 * 64 :, index % 2 * 64 :][:64, :64]
        border = np.concatenate([place[:5].reshape(-1, 3), place[-5:].reshape(-1, 3), place[:, 0], place[:, -5]])
        assert (border == colour).all()
        assert tuple(place[7, 32]) == (INK if index == 1 else (200, 200, 200))
        assert tuple(place[32, 32]) == (200, 200, 200)
