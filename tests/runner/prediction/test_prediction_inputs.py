"""Files, folders and patterns become a list of images with names that do not clash."""

import pytest

from assay.runner import UsageError
from assay.runner.prediction.inputs import find_inputs

FILES = ["a/x.jpg", "a/y.PNG", "a/deep/z.tif", "b/x.jpg", "b/x.png", "b/notes.txt", "a/.hidden.png", "a/.git/i.png"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in FILES:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*patterns, output="out"):
    from pathlib import Path

    return [(one.name, one.stem) for one in find_inputs(patterns, Path(output))]


def test_of_a_folder_all_images_below_it_are_taken_in_order(folder):
    assert names("data/a") == [("deep/z.tif", "deep/z"), ("x.jpg", "x"), ("y.PNG", "y")]


def test_a_file_is_called_by_its_name_whatever_its_suffix(folder):
    assert names("data/b/notes.txt") == [("notes.txt", "notes")]


def test_files_keep_the_order_in_which_they_are_given(folder):
    assert [name for name, _ in names("data/a/y.PNG", "data/a/x.jpg")] == ["y.PNG", "x.jpg"]


def test_images_of_one_name_in_several_folders_keep_their_folders(folder):
    expected = [("a/x.jpg", "a/x"), ("b/x.jpg", "b/x")]
    assert names("data/*/x.jpg") == expected
    assert names("data/a/x.jpg", "data/b/x.jpg") == expected


def test_images_that_differ_in_their_suffix_alone_keep_it(folder):
    assert names("data/b") == [("x.jpg", "x.jpg"), ("x.png", "x.png")]


def test_a_pattern_may_go_through_all_folders(folder):
    assert [name for name, _ in names("data/**/*.tif")] == ["a/deep/z.tif"]


def test_an_image_is_taken_once(folder):
    assert [name for name, _ in names("data/a", "data/a/x.jpg", "data/./a/*.jpg")] == ["deep/z.tif", "x.jpg", "y.PNG"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(folder):
    (folder / "data" / "x[1].jpg").touch()
    assert names("data/x[1].jpg") == [("x[1].jpg", "x[1]")]


def test_what_was_predicted_before_is_no_input(folder):
    (folder / "data" / "out").mkdir()
    (folder / "data" / "out" / "x.png").touch()
    assert len(names("data", output="data/out")) == len(names("data")) - 1


@pytest.mark.parametrize(
    ("pattern", "output", "message"),
    [
        ("data/none.jpg", "out", "--input data/none.jpg does not exist"),
        ("data/*.gif", "out", r"--input data/\*.gif holds no image: none ends in .jpg, "),
        ("data/a/.git", "data/a/.git", "--output data/a/.git must be another folder than that of the images"),
    ],
)
def test_wrong_inputs_are_named(folder, pattern, output, message):
    with pytest.raises(UsageError, match=message):
        names(pattern, output=output)
