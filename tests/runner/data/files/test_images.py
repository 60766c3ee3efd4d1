"""Image files are read as they are, or an error names the file and the reason."""

import io
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from assay.runner import UsageError
from assay.runner.data.augmented import Items
from assay.runner.data.files.image_errors import BadImageError
from assay.runner.data.files.images import images_in, read_image


@pytest.fixture
def picture():
    rows, columns = np.mgrid[:40, :60]
    return np.stack([4 * columns, 6 * rows, 3 * (rows + columns) % 256], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("kind", [".png", ".tif", ".bmp"])
def test_a_picture_is_read_as_rgb_and_as_grey(tmp_path, picture, kind):
    path = tmp_path / f"a{kind}"
    Image.fromarray(picture).save(path)
    np.testing.assert_array_equal(read_image(path), picture)
    grey = read_image(str(path), grey=True)
    assert (grey.shape, grey.dtype) == ((40, 60, 1), np.uint8)
    luma = picture @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - luma).max() < 1.01


def test_a_jpeg_is_read_as_pillow_reads_it(tmp_path, picture):
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path, quality=95)
    assert np.abs(read_image(path).astype(int) - np.asarray(Image.open(path))).max() <= 3


def test_a_grey_file_is_read_as_rgb_and_back(tmp_path, picture):
    path = tmp_path / "a.png"
    Image.fromarray(picture[..., 1]).save(path)
    np.testing.assert_array_equal(read_image(path), np.repeat(picture[..., 1:2], 3, axis=2))
    np.testing.assert_array_equal(read_image(path, grey=True), picture[..., 1:2])


@pytest.mark.parametrize("kind", [".png", ".tif"])
def test_of_16_bits_the_upper_8_are_kept(tmp_path, kind):
    deep = (np.arange(1024, dtype=np.uint16) * 64).reshape(32, 32)
    path = tmp_path / f"a{kind}"
    path.write_bytes(cv2.imencode(kind, deep)[1].tobytes())
    np.testing.assert_array_equal(read_image(path, grey=True)[..., 0], deep // 256)


def test_a_photograph_stands_as_its_exif_orientation_says(tmp_path, picture):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    Image.fromarray(picture).save(path, exif=exif, quality=95)
    image = read_image(path)
    assert image.shape == (60, 40, 3)
    assert np.abs(image.astype(int) - np.rot90(picture, -1)).mean() < 5


def whole_file(picture, kind):
    data = io.BytesIO()
    Image.fromarray(picture).save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_a_file_that_is_cut_short_is_named_with_the_reason(tmp_path, picture, kind, part):
    data = whole_file(picture, kind)
    path = tmp_path / "cut.img"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(BadImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"image '{path}' cannot be read: ")
    assert "bytes" in message
    assert "\n" not in message


def test_a_jpeg_that_lacks_its_end_alone_is_cut_short(tmp_path, picture):
    path = tmp_path / "a.jpg"
    path.write_bytes(whole_file(picture, "JPEG")[:-30])
    with pytest.raises(BadImageError, match="image file is truncated"):
        read_image(path)


def test_bytes_behind_the_end_of_a_jpeg_are_no_fault(tmp_path, picture):
    path = tmp_path / "a.jpg"
    path.write_bytes(whole_file(picture, "JPEG") + b"\0" * 100)
    assert read_image(path).shape == picture.shape


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "it is empty"),
        (b"<html>404</html>", "its 16 bytes are not a complete image of a format that OpenCV knows"),
    ],
)
def test_what_is_no_image_is_named_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadImageError) as caught:
        read_image(path)
    assert str(caught.value) == f"image '{path}' cannot be read: {reason}"


def test_an_image_that_opencv_refuses_is_named(tmp_path, picture, monkeypatch):
    path = tmp_path / "a.png"
    size = (2**20).to_bytes(4, "big")
    data = bytearray(whole_file(picture, "PNG"))
    data[16:24] = size + size  # a million pixels a side: more than OpenCV reads
    path.write_bytes(data)
    with pytest.raises(BadImageError, match="cannot be read: "):
        read_image(path)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_error_of_a_worker_is_the_line_alone_and_keeps_its_traceback_as_a_note(tmp_path, workers):
    path = tmp_path / "none.png"
    dataset = Items(2, lambda index: {"image": read_image(path)})
    with pytest.raises(BadImageError) as caught:
        next(iter(DataLoader(dataset, num_workers=workers)))
    assert str(caught.value) == f"image '{path}' cannot be read: No such file or directory"
    assert ["read_image" in note for note in getattr(caught.value, "__notes__", [])] == [True] * workers


def test_the_error_can_be_sent_to_another_process():
    assert str(pickle.loads(pickle.dumps(BadImageError("image 'a' cannot be read: b")))) == (
        "image 'a' cannot be read: b"
    )


def test_an_image_of_another_kind_is_not_left_out_of_a_folder_in_silence(tmp_path):
    assert images_in(tmp_path / "none", ".jpg") == []
    for name in ("b.jpg", "a.jpg", "notes.txt", ".c.png"):
        (tmp_path / name).touch()
    assert [path.name for path in images_in(tmp_path, ".jpg")] == ["a.jpg", "b.jpg"]
    for name in ("c.JPG", "d.heic"):
        (tmp_path / name).touch()
        with pytest.raises(UsageError, match=f"{name} would be left out: the images of .* must end in .jpg"):
            images_in(tmp_path, ".jpg")
        (tmp_path / name).unlink()
