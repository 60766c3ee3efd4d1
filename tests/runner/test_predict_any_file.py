"""``assay predict`` finishes the others after any one file, and leaves none out in silence."""

import csv
import io
import os
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from image_files import exif
from PIL import Image
from predicted import read_table

from assay.callbacks.support.atomic_files import replacing
from assay.callbacks.support.printable import printable
from assay.runner import UsageError, read_image, read_mask
from assay.runner.commands.main import main
from assay.runner.prediction.batches import read_batches
from assay.runner.prediction.inputs import Input, LeftOut, find_inputs
from assay.runner.prediction.outcome import Outcome
from assay.runner.prediction.table import cell, write_table

LATIN = "caf\udce9"  # as Python has the bytes of a name in Latin-1


def encoded(kind, **options):
    data = io.BytesIO()
    Image.fromarray(np.full((9, 12, 3), (200, 30, 10), np.uint8)).save(data, kind, **options)
    return data.getvalue()


def bomb():
    """Return a PNG that says that it has 900 million pixels."""
    data = bytearray(encoded("PNG"))
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    return bytes(data)


def jpeg_bomb():
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = (60_000).to_bytes(2, "big") * 2
    return bytes(data)


BAD = {
    "bomb.png": bomb(),
    "bomb.jpg": jpeg_bomb(),
    "empty.png": b"",
    "cut.jpg": encoded("JPEG")[:-40],
    "cut.gif": encoded("GIF")[:30],
    "cut.tif": encoded("TIFF")[:200],
    "text.png": b"<html>404</html>",
    "phone.heic": b"\0\0\0\x18ftypheic" + b"\0" * 40,
    f"{LATIN}-cut.webp": encoded("WEBP")[:40],
}
GOOD = {
    "=1+1.png": encoded("PNG"),
    "a\nb,\"c.png": encoded("PNG"),
    "broken-exif.jpg": encoded("JPEG", exif=b"Exif\0\0MM\0*\xff\xff"),
    f"{LATIN}.jpg": encoded("JPEG"),
    f"{LATIN}.tif": encoded("TIFF"),
    f"{LATIN}/x.gif": encoded("GIF"),
    "dir.png/x.png": encoded("PNG"),
    "turned.png": encoded("PNG", exif=exif(6)),
    "x.jpg": encoded("JPEG"),
    "x.png": encoded("PNG"),
    "x.png.png": encoded("PNG"),
    "l" * 246 + ".png": encoded("PNG"),
}  # fmt: skip
NO_IMAGES = {"notes.txt": b"a", "table.CSV": b"a", ".DS_Store": b"a", ".git/x.png": encoded("PNG"), "README": b"a"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    for name, data in {**BAD, **GOOD, **NO_IMAGES}.items():
        path = Path("in") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    Path("in/nowhere.png").symlink_to("none")
    os.mkfifo("in/pipe.png")
    return Path("in")


def check_report(printed):
    """Check that each bad file is named when it is met and again at the end, and what was no image is counted."""
    bad = {*BAD, "nowhere.png"}
    assert (
        f"predicted {len(GOOD)} of {len(GOOD) + len(bad)} images; see out; {len(bad)} could not be read" in printed.out
    )
    for name in bad:
        for text in (printed.out, printed.err):
            assert sum(f"'in/{name}'".replace("\udce9", "\\udce9") in line for line in text.splitlines()) == 1
    left_out = "left out of --input, not images: 2 hidden, 1 .txt, 1 .csv, 1 without suffix, 1 special files"
    (line,) = [line for line in printed.err.splitlines() if "left out of" in line]
    assert sorted(line.partition("images: ")[2].split(", ")) == sorted(left_out.partition("images: ")[2].split(", "))


def test_classes_of_all_files_that_can_be_read_are_predicted(run_of, folder, capfd):
    assert main(["predict", str(run_of("labels")), "--input", "in", "--output", "out"]) == 1
    rows = read_table()
    assert {row["image"] for row in rows} == {cell(name) for name in GOOD}
    assert {"'=1+1.png", "caf\\xe9/x.gif", 'a\nb,"c.png'} <= {row["image"] for row in rows}
    assert {row["prediction"] for row in rows} == {"red"}
    check_report(capfd.readouterr())


def test_masks_of_all_files_that_can_be_read_are_written_each_to_a_file_of_its_own(run_of, folder, capfd):
    assert main(["predict", str(run_of("masks", "--classes", "3")), "--input", "in", "--output", "out"]) == 1
    check_report(capfd.readouterr())
    found = {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()}
    assert len(found) == len(GOOD)
    assert {
        f"{LATIN}.jpg.png",
        f"{LATIN}.tif.tif",
        f"{LATIN}/x.png",
        "x.jpg.png",
        "x.png.png",
        "x.png.png.png",
    } <= found
    for name in found:
        height, width = (12, 9) if name == "turned.png" else (9, 12)
        assert read_mask(Path("out") / name).shape == (height, width)
        assert read_mask(Path("out") / name).max() <= 2


def test_boxes_of_all_files_that_can_be_read_are_found(run_of, folder, capfd):
    assert main(["predict", str(run_of("boxes")), "--input", "in", "--output", "out"]) == 1
    check_report(capfd.readouterr())
    assert {row["image"] for row in read_table()} == {cell(name) for name in GOOD}
    assert len([path for path in Path("out/drawn").rglob("*") if path.is_file()]) == len(GOOD)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=1+1", "'=1+1"), ("+cmd", "'+cmd"), ("@x", "'@x"), ("-a.png", "'-a.png"), ("\tx", "'\tx"), ("\rx", "'\rx"),
        ("-1.5", "-1.5"), ("+3e8", "+3e8"), ("-inf", "-inf"), ("a=1", "a=1"), ("", ""), ("'=", "'="), ("-1\n", "'-1\n"),
    ],
)  # fmt: skip
def test_a_cell_that_begins_as_a_formula_is_escaped_and_a_number_stays(tmp_path, text, expected):
    assert cell(text) == expected
    with write_table(tmp_path / "t.csv", ["a", "b"]) as table:
        table.add([text, "b"])
    with open(tmp_path / "t.csv", newline="") as file:
        assert [*csv.reader(file)] == [["a", "b"], [expected, "b"]]


@pytest.mark.parametrize(("text", "shown"), [("ä", "ä"), (LATIN, "caf\\xe9"), ("\ud800", "\\ud800")])
def test_a_name_that_is_not_utf_8_can_be_printed(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("name", ["n" * 255, f"{LATIN}.csv", "plain.csv"])
def test_a_file_of_any_name_is_replaced(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("new")
        str(temporary).encode()
        assert temporary.match(".*.tmp")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_outputs_never_share_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["x.png", "x.jpg", "x.jpg.png", "y.jpg", "y.png/z.tif", "a/x.png", "b/x.png", "z.tif", "z.tif.tiff"]
    for name in names:
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Path("in", name).touch()
    stems = {one.name: one.stem for one in find_inputs(["in"], Path("out"))}
    assert len(set(stems.values())) == len(names)
    assert stems == {
        "x.png": "x.png", "x.jpg": "x.jpg", "x.jpg.png": "x.jpg.png", "y.jpg": "y.jpg", "y.png/z.tif": "y.png/z",
        "a/x.png": "a/x", "b/x.png": "b/x", "z.tif": "z", "z.tif.tiff": "z.tif",
    }  # fmt: skip


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/deep/b.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()

    def refuse(path, scan=os.scandir):
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    left_out = LeftOut(Path("out"))
    assert [one.name for one in find_inputs(["in"], Path("out"), left_out)] == ["a.png"]
    assert left_out.errors == ["folder 'in/deep' cannot be read: Permission denied"]
    with pytest.raises(UsageError, match="--input in/deep holds no image: folder 'in/deep' cannot be read: Permission"):
        find_inputs(["in/deep"], Path("out"))


def test_links_to_folders_and_folders_of_a_pattern_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/x.png/b.png", "out/c.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("in/link").symlink_to(tmp_path / "in/x.png")
    left_out = LeftOut(Path("out"))
    assert len(find_inputs(["in"], Path("out"), left_out)) == 2
    assert left_out.line() == "left out of --input, not images: 1 links to folders"
    left_out = LeftOut(Path("out"))
    assert len(find_inputs(["in/*.png", "*/*.png"], Path("out"), left_out)) == 1
    assert left_out.line() == "left out of --input, not images: 2 folders"
    assert len(find_inputs(["**/*.png"], Path("out"), left_out := LeftOut(Path("out")))) == 3
    assert left_out.line() == ""


def test_an_image_that_does_not_go_through_the_transform_is_named(tmp_path):
    for name, side in (("a.png", 20), ("small.png", 5), ("b.png", 20)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    inputs = [Input(tmp_path / name, name, name) for name in ("a.png", "small.png", "b.png")]
    transform = A.Compose([A.RandomCrop(8, 8), A.ToTensorV2()])
    with Outcome(3) as outcome:
        batches = [*read_batches(inputs, read_image, transform, batch_size=4, outcome=outcome)]
    assert [ready.input.name for batch, _ in batches for ready in batch] == ["a.png", "b.png"]
    (line,) = outcome.unreadable
    assert "small.png' cannot be read: its 5 x 5 pixels do not go through the transform: " in line


def test_a_transform_that_leaves_the_process_ends_the_prediction(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def leave(**parts):
        raise SystemExit(3)

    inputs = [Input(tmp_path / "a.png", "a.png", "a.png")]
    with Outcome(1) as outcome, pytest.raises(SystemExit) as left:
        next(read_batches(inputs, read_image, leave, batch_size=4, outcome=outcome))
    assert left.value.code == 3
    assert outcome.unreadable == []


def test_what_is_the_fault_of_one_image_is_told_from_what_ends_the_run(tmp_path):
    one, two = [tmp_path / "a.png"], [tmp_path / "a.png", tmp_path / "b.png"]
    named = [
        (RuntimeError("Kernel size\ncan't be greater"), two),
        (torch.OutOfMemoryError("too large"), one),
        (OSError(36, "File name too long"), one),
    ]
    for error, paths in named:
        with Outcome(2) as outcome, outcome.naming(paths):
            raise error
        assert len(outcome.unreadable) == len(paths)
    assert "a.png' cannot be predicted: [Errno 36] File name too long" in outcome.unreadable[0]
    for error, paths in [
        (torch.OutOfMemoryError("too large"), two),
        (OSError(28, "No space left"), one),
        (UsageError("a"), one),
    ]:
        with Outcome(2) as outcome, pytest.raises(type(error)), outcome.naming(paths):
            raise error


def test_of_many_files_that_cannot_be_read_the_first_are_named_at_the_end(tmp_path):
    with Outcome(30) as outcome:
        for index in range(25):
            with outcome.naming([tmp_path / f"{index}.png"]):
                raise RuntimeError("why")
    lines = outcome.summary(f"out-{LATIN}").splitlines()
    assert lines[0] == "predicted 0 of 30 images; see out-caf\\xe9; 25 could not be read"
    assert (len(lines), lines[-1]) == (22, "  ... and 5 more")
