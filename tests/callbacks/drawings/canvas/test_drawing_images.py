import matplotlib
import numpy as np
import pytest

from assay.callbacks.drawings.canvas.images import fit, heat_over, thumbnail, to_rgb


def test_normalized_floats_come_back_as_the_pixels_they_were_made_from():
    pixels = np.random.randint(0, 256, (7, 5, 3), dtype=np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalized = ((pixels / 255.0 - mean) / std).transpose(2, 0, 1)
    for dtype in (np.float32, np.float64):
        assert np.array_equal(to_rgb(normalized.astype(dtype), mean.tolist(), std.tolist()), pixels)


def test_every_level_of_a_half_precision_picture_is_within_one_of_the_pixel():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = to_rgb((pixels / 255.0).astype(np.float16))
    assert np.abs(picture[:, :, 0].astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("mean", [0.5, [0.5]])
def test_grey_becomes_three_equal_channels(mean):
    picture = to_rgb(np.array([[[-1.0, 0.0, 1.0]]], dtype=np.float32), mean, 0.5)
    assert picture.tolist() == [[[0, 0, 0], [128, 128, 128], [255, 255, 255]]]


def test_a_picture_without_channel_axis_is_grey():
    assert to_rgb(np.array([[0, 7], [255, 1]], dtype=np.uint8))[:, :, 2].tolist() == [[0, 7], [255, 1]]


def test_the_fourth_channel_is_not_shown():
    image = np.random.randint(0, 256, (4, 3, 2), dtype=np.uint8)
    assert np.array_equal(to_rgb(image), image[:3].transpose(1, 2, 0))


def test_uint8_is_taken_as_it_is_whatever_the_normalization():
    image = np.random.randint(0, 256, (3, 4, 4), dtype=np.uint8)
    assert np.array_equal(to_rgb(image, mean=0.5, std=0.1), image.transpose(1, 2, 0))


def test_bool_is_black_and_white():
    assert to_rgb(np.array([[True, False]])).tolist() == [[[255] * 3, [0] * 3]]


def test_what_lies_outside_of_the_range_is_clipped_and_nan_is_black():
    image = np.array([[[-3.0, 2.0, np.nan, np.inf, -np.inf]]], dtype=np.float32)
    assert to_rgb(image)[0, :, 0].tolist() == [0, 255, 0, 255, 0]


@pytest.mark.parametrize("shape", [(4,), (1, 3, 4, 4), (0, 4, 4), (3, 0, 4)])
def test_another_shape_is_an_error_that_names_it(shape):
    with pytest.raises(ValueError, match=r"must be \[H, W\] or \[C, H, W\] and not empty, got shape \(") as caught:
        to_rgb(np.zeros(shape, dtype=np.uint8))
    assert str(shape) in str(caught.value)
    assert ("of a volume hand in one slice" in str(caught.value)) == (len(shape) == 4)


@pytest.mark.parametrize("dtype", [np.complex64, object])
def test_another_type_is_an_error_that_names_it(dtype):
    with pytest.raises(ValueError, match=f"floating point, integer or bool, got {np.dtype(dtype)}"):
        to_rgb(np.zeros((3, 4, 4), dtype=dtype))


@pytest.mark.parametrize("channels", [3, 4, 6, 13])
def test_of_many_channels_the_first_three_are_shown(channels):
    image = np.random.rand(channels, 3, 2).astype(np.float32)
    mean, std = list(np.random.rand(channels)), list(np.random.rand(channels))
    assert np.array_equal(to_rgb(image, mean, std), to_rgb(image[:3], mean[:3], std[:3]))
    large = image.repeat(300, axis=1).repeat(300, axis=2)
    assert np.abs(thumbnail(large, 9, mean, std) - thumbnail(large[:3], 9, mean[:3], std[:3]).astype(int)).max() == 0


def test_two_channels_are_red_and_green():
    image = np.array([[[7, 8]], [[9, 10]]], dtype=np.uint8)
    assert to_rgb(image).tolist() == [[[7, 9, 0], [8, 10, 0]]]


def test_uint16_has_its_own_range_and_other_integers_that_of_uint8():
    assert to_rgb(np.array([[0, 257, 65535, 128, 129]], dtype=np.uint16))[0, :, 0].tolist() == [0, 1, 255, 0, 1]
    for dtype in (np.int8, np.int16, np.int32, np.int64, np.uint32):
        values = [0, 7, 127, -5 if np.issubdtype(dtype, np.signedinteger) else 0]
        assert to_rgb(np.array([values], dtype=dtype))[0, :, 0].tolist() == [0, 7, 127, 0]
    assert to_rgb(np.array([[300]]))[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_normalization_of_another_length_is_an_error(name):
    with pytest.raises(ValueError, match=f"{name} must be one number or one for each of 1 channels"):
        to_rgb(np.zeros((1, 4, 4), dtype=np.float32), **{name: [0.5, 0.5, 0.5]})


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_thumbnail_refuses_a_normalization_of_other_channels(name):
    with pytest.raises(ValueError, match=f"{name} must be one number or one for each of 5 channels"):
        thumbnail(np.ones((5, 40, 40), np.float32), 10, **{name: [0.5, 0.5, 0.5]})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float16, np.bool_, np.int64])
def test_a_thumbnail_is_the_average_of_the_converted_picture(dtype):
    image = np.random.rand(3, 1000, 700) * (
        65535 if dtype == np.uint16 else 1 if dtype in (np.float32, np.float16) else 255
    )
    image = (image > 100).astype(dtype) if dtype == np.bool_ else image.astype(dtype)
    small = thumbnail(image, 10)
    assert small.shape == (10, 7, 3)
    means = to_rgb(image).reshape(10, 100, 7, 100, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() <= 3


@pytest.mark.parametrize("shape", [(28, 28), (100, 9), (1001, 1700)])
def test_a_thumbnail_has_the_size_that_fit_gives_it(shape):
    image = np.random.rand(1, *shape).astype(np.float32)
    small = thumbnail(image, 144)
    assert max(small.shape) == 144
    assert fit(small, 144, (1, 2, 3)).shape == fit(to_rgb(image), 144, (1, 2, 3)).shape == (144, 144, 3)


def test_heat_covers_the_grey_picture_the_more_the_higher_it_is():
    picture = np.full((101, 101, 3), 100, dtype=np.uint8)
    drawn = heat_over(picture, np.array([[0.0, 1.0], [0.0, np.nan]])).astype(int)
    for column, level in ((10, 0.0), (50, 0.5), (90, 1.0)):
        inferno = 255 * np.array(matplotlib.colormaps["inferno"](level)[:3])
        assert drawn[10, column] == pytest.approx(100 * (1 - 0.75 * level) + 0.75 * level * inferno, abs=3)
    assert np.abs(np.diff(drawn[10], axis=0)).max() < 20  # smooth
    assert drawn[100, 100].tolist() == [100] * 3  # NaN


def test_the_picture_is_contiguous():
    assert to_rgb(np.zeros((3, 4, 5), dtype=np.uint8)).flags["C_CONTIGUOUS"]


def test_enlarging_repeats_pixels():
    picture = np.random.randint(0, 256, (4, 4, 3), dtype=np.uint8)
    assert np.array_equal(fit(picture, 12, (0, 0, 0)), picture.repeat(3, axis=0).repeat(3, axis=1))


def test_a_picture_of_the_right_size_stays_as_it_is():
    picture = np.random.randint(0, 256, (9, 9, 3), dtype=np.uint8)
    assert np.array_equal(fit(picture, 9, (0, 0, 0)), picture)


def test_shrinking_averages_pixels():
    picture = np.random.randint(0, 256, (12, 12, 3), dtype=np.uint8)
    means = picture.astype(np.float64).reshape(4, 3, 4, 3, 3).mean(axis=(1, 3))
    assert np.abs(fit(picture, 4, (0, 0, 0)) - means).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(("shape", "content"), [((10, 30), (10, 30)), ((30, 10), (30, 10)), ((5, 15), (10, 30))])
def test_the_aspect_is_kept_and_the_picture_centred_on_the_background(shape, content):
    square = fit(np.full((*shape, 3), 200, dtype=np.uint8), 30, (1, 2, 3))
    rows, columns = np.nonzero((square == 200).all(axis=2))
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == content
    assert rows.min() == (30 - content[0]) // 2
    assert columns.min() == (30 - content[1]) // 2
    assert (square == 200).all(axis=2).sum() == content[0] * content[1]
    assert square[(square != 200).any(axis=2)].tolist() == [[1, 2, 3]] * (900 - content[0] * content[1])


def test_a_line_of_pixels_stays_visible():
    square = fit(np.full((1, 500, 3), 9, dtype=np.uint8), 20, (0, 0, 0))
    assert (square == 9).all(axis=2).sum() == 20
