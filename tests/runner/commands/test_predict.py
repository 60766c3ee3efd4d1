"""``assay predict``, from the command line to the files: toys that say what must come out."""

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from image_files import write_tiff
from PIL import Image
from predicted import read_table
from toys.masks import MEAN, STD, Convolutions

from assay.runner import UsageError, load_checkpoint
from assay.runner.commands.main import main
from assay.runner.commands.predict import PredictOptions, predict
from assay.runner.data.files import image_windows as windows
from assay.runner.prediction.models import average_weights

TOYS = Path(__file__).parents[1] / "toys"
BROKEN = b"\x89PNG\r\n\x1a\nbroken"


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Write images of three colours to in/, one of them broken; work in the folder above."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for index in range(7):
        picture = rng.integers(0, 120, (9 + index, 12, 3), dtype=np.uint8)
        picture[..., index % 3] += 120
        path = Path("in") / ("deep" if index % 2 else ".") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    Path("in/3.png").write_bytes(BROKEN)
    return Path("in")


def left_behind(folder="out"):
    return [path for path in Path(folder).rglob("*") if path.name.startswith(".")]


def whole_mask(run, pixels, **options):
    """Return the probabilities that the whole image gets, by plain PyTorch."""
    model = Convolutions(**{"size": 1, "classes": 1, **options})
    model.load_state_dict(load_checkpoint(run, "best")["model"][""])
    image = (torch.from_numpy(pixels.copy()).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        return model(image.permute(2, 0, 1)[None])["logits"][0]


def test_classes_are_written_to_a_table_in_the_order_of_the_images(run_of, images, capfd):
    assert main(["predict", str(run_of("labels")), "--input", "in", "--output", "out"]) == 1
    rows = read_table()
    assert [row["image"] for row in rows] == [
        "0.png",
        "2.png",
        "4.png",
        "6.png",
        "deep/1.png",
        "deep/3.png",
        "deep/5.png",
    ]
    assert [row["prediction"] for row in rows] == [
        ["red", "green", "blue"][int(Path(r["image"]).stem) % 3] for r in rows
    ]
    for row in rows:
        given = [float(row[f"probability/{name}"]) for name in ("red", "green", "blue")]
        assert sum(given) == pytest.approx(1, abs=3e-6)
    printed = capfd.readouterr()
    assert "predicted 7 of 8 images; see out; 1 could not be read" in printed.out
    assert [line for line in printed.err.splitlines() if "in/3.png" in line] == [
        "assay: image 'in/3.png' cannot be read: its 14 bytes are not a complete image of a format that OpenCV knows"
    ]
    assert not left_behind()


def test_probabilities_are_those_of_the_model_and_the_same_in_any_batch(run_of, images):
    tables = []
    for size in ("1", "3"):
        main(["predict", str(run_of("labels")), "--input", "in/deep", "--output", "out", "--batch-size", size])
        tables.append(read_table())
    assert tables[0] == tables[1]
    weights = load_checkpoint(run_of("labels"), "best")["model"][""]
    picture = cv2.resize(np.asarray(Image.open("in/deep/1.png")), (8, 8))
    mean = torch.from_numpy((picture / 255 - 0.5) / 0.25).float().mean(dim=(0, 1))
    expected = (weights["layer.weight"] @ mean + weights["layer.bias"]).softmax(dim=0)
    given = [float(tables[0][0][f"probability/{name}"]) for name in ("red", "green", "blue")]
    np.testing.assert_allclose(given, expected, atol=2e-6)


@pytest.mark.parametrize("tta", ["flips", "d4"])
def test_what_does_not_depend_on_the_view_is_the_same_in_all(run_of, images, tta):
    tables = []
    for kind in ("none", tta):
        main(["predict", str(run_of("labels")), "--input", "in/deep", "--output", "out", "--tta", kind])
        tables.append([[float(value) for name, value in row.items() if "/" in name] for row in read_table()])
    np.testing.assert_allclose(tables[0], tables[1], atol=2e-6)


def test_of_several_checkpoints_outputs_or_weights_are_averaged(run_of, images):
    run, tables = run_of("labels"), {}
    Image.fromarray(np.array([[[100, 104, 102]]], dtype=np.uint8)).save("in/grey.png")  # of which no model is sure
    ways = [["epoch-0002.pt"], ["epoch-0003.pt"], ["epoch-0002.pt", "epoch-0003.pt"]]
    ways.append([*ways[-1], "--ensemble", "weights"])
    for way in ways:
        assert main(["predict", str(run), "--input", "in/grey.png", "--output", "out", "--checkpoint", *way]) == 0
        tables[tuple(way)] = [float(value) for name, value in read_table()[0].items() if "/" in name]
    first, second, outputs, weights = tables.values()
    np.testing.assert_allclose(outputs, (np.array(first) + second) / 2, atol=2e-6)
    assert weights != outputs


def test_the_mean_of_weights_is_exact_and_counts_are_those_of_the_first():
    states = [{"": {"w": torch.tensor([value, 2 * value]), "n": torch.tensor(int(value))}} for value in (1.0, 2.0, 6.0)]
    mean = average_weights(states)[""]
    assert (mean["w"].tolist(), mean["n"].item()) == ([3.0, 6.0], 1)
    with pytest.raises(UsageError, match="--ensemble weights needs checkpoints of one architecture"):
        average_weights([states[0], {"": {"w": torch.zeros(3), "n": torch.tensor(0)}}])


@pytest.mark.parametrize("shape", [(150, 203), (64, 64), (20, 300), (7, 5), (1, 1)])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_mask_has_the_images_size_and_what_the_whole_image_gets(run_of, tmp_path, shape, kind):
    run, pixels = run_of("masks"), np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    write_tiff(tmp_path / "x.tif", pixels, compress="lzw")
    Image.fromarray(pixels).save(tmp_path / "x.png")
    predict(run, PredictOptions(input=[str(tmp_path / f"x.{kind}")], output=str(tmp_path / "out"), batch_size=3))
    mask = np.asarray(Image.open(tmp_path / "out" / f"x.{kind}"))
    assert (mask.shape, mask.dtype) == (shape, np.uint8)
    logits = whole_mask(run, pixels)[0].numpy()
    sure = np.abs(logits) > 1e-5
    np.testing.assert_array_equal(mask[sure], np.where(logits > 0, 255, 0)[sure])
    assert not left_behind(tmp_path / "out")


@pytest.mark.parametrize("tta", ["none", "d4"])
def test_a_convolutional_model_gives_one_mask_however_it_is_cut(run_of, tmp_path, tta):
    run = run_of("masks", "--size", "5", "--classes", "3")
    pixels = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (170, 190, 3), dtype=np.uint8), (0, 0), 2)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    masks = []
    for tile, overlap in [(256, 0), (64, 16), (96, 40)]:
        options = {"tile": tile, "overlap": overlap, "tta": tta}
        predict(run, PredictOptions(input=[str(tmp_path / "x.png")], output=str(tmp_path / "out"), **options))
        masks.append(np.asarray(Image.open(tmp_path / "out" / "x.png")))
    assert set(np.unique(masks[0])) <= {0, 1, 2}
    with Image.open(tmp_path / "out" / "x.png") as shown:
        assert shown.mode == "P"
    inside = (slice(4, -4), slice(4, -4))  # the single tile is filled up beyond the image
    assert (masks[1][inside] == masks[0][inside]).mean() > 0.9999
    assert (masks[2] == masks[1]).mean() > 0.9999
    if tta == "none":
        whole = whole_mask(run, pixels, size=5, classes=3).argmax(dim=0).numpy()
        assert (masks[1] == whole).mean() > 0.9999


def test_masks_keep_folders_names_and_places_and_bad_images_are_left_out(run_of, images, capfd):
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.3, 0, 500_000, 0, -0.3, 5_000_000)}
    write_tiff(images / "deep" / "1.tif", np.zeros((30, 20, 3), dtype=np.uint8), **place)
    (images / "cut.tif").write_bytes((images / "deep" / "1.tif").read_bytes()[:900])
    assert main(["predict", str(run_of("masks")), "--input", "in", "--output", "out"]) == 1
    found = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.*"))
    assert found == ["0.png", "2.png", "4.png", "6.png", "deep/1.png.png", "deep/1.tif.tif", "deep/3.png", "deep/5.png"]
    with rasterio.open("out/deep/1.tif.tif") as mask:
        assert mask.transform == place["transform"]
    assert "predicted 8 of 10 images; see out; 2 could not be read" in capfd.readouterr().out


def test_memory_is_bounded_for_a_large_tiff(run_of, tmp_path, monkeypatch):
    """In proportion to 4 GiB for 20,000 x 20,000 pixels."""
    size, peak, done = 4000, [0], threading.Event()
    monkeypatch.setitem(windows.GDAL_OPTIONS, "GDAL_CACHEMAX", 8 * 2**20)
    write_tiff(tmp_path / "x.tif", np.zeros((size, size, 3), dtype=np.uint8), compress="lzw")
    options = {"output": str(tmp_path / "out"), "tile": 256, "batch_size": 2}
    Image.fromarray(np.zeros((600, 600, 3), dtype=np.uint8)).save(tmp_path / "small.png")
    predict(run_of("masks"), PredictOptions(input=[str(tmp_path / "small.png")], **options))  # has all imported

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], _resident())
            time.sleep(0.005)

    before, watching = _resident(), threading.Thread(target=watch)
    watching.start()
    predict(run_of("masks"), PredictOptions(input=[str(tmp_path / "x.tif")], **options))
    done.set()
    watching.join()
    assert peak[0] - before < 4 * 2**30 * (size / 20_000) ** 2


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("tta", ["none", "flips", "d4"])
def test_boxes_are_written_to_a_table_and_drawn(run_of, tmp_path, monkeypatch, tta):
    monkeypatch.chdir(tmp_path)
    picture = np.zeros((80, 120, 3), dtype=np.uint8)
    picture[20:60, 30:90] = 255
    Image.fromarray(picture).save("a.png")
    Image.fromarray(np.zeros((50, 50, 3), dtype=np.uint8)).save("empty.png")
    Path("bad.png").write_bytes(BROKEN)
    arguments = ["--input", "empty.png", "bad.png", "a.png", "--output", "out", "--tta", tta]
    assert main(["predict", str(run_of("boxes")), *arguments]) == 1
    (row,) = read_table()  # the second box of the model is below min_score
    assert (row["image"], row["class"]) == ("a.png", "thing")
    assert float(row["score"]) == pytest.approx(0.9, abs=1e-4)
    assert [float(row[side]) for side in ("left", "top", "right", "bottom")] == [30, 20, 90, 60]
    drawn = np.asarray(Image.open("out/drawn/a.jpg")).astype(int)
    assert drawn.shape == (533, 800, 3)  # enlarged
    shown = cv2.resize(picture, (800, 533), interpolation=cv2.INTER_LINEAR).astype(int)
    assert np.abs(drawn - shown)[267, 190:210].max() > 50  # the left side, at 200
    assert np.abs(drawn - shown)[267, 300:500].max() < 20
    assert sorted(path.name for path in Path("out/drawn").iterdir()) == ["a.jpg", "empty.jpg"]
    assert not left_behind()


@pytest.mark.parametrize(
    ("toy", "arguments", "message"),
    [
        ("labels", ["--tile", "64"], "--tile is for segmentation; the task of this run is classification"),
        ("masks", ["--tile", "0"], "--tile must be at least 1, got 0"),
        ("masks", ["--tile", "32", "--overlap", "32"], "--overlap must be less than --tile, 32, got 32"),
        ("masks", ["--overlap", "-1"], "--overlap must be at least 0, got -1"),
        ("masks", ["--tile", "x"], "argument --tile: invalid int value: 'x'"),
        ("labels", ["--tta", "flip"], "unknown --tta 'flip'; did you mean 'flips'? There is: 'd4', 'flips', 'none'."),
        ("labels", ["--ensemble", "mean"], "unknown --ensemble 'mean'"),
        ("labels", ["--batch_size", "0"], "--batch-size must be at least 1, got 0"),
        ("labels", ["--checkpoint", "none.pt"], "holds no checkpoint 'none.pt'; there is "),
        ("labels", ["--input", "nowhere.png"], "--input nowhere.png does not exist"),
        ("labels", ["--output", "in/0.png"], "--output in/0.png must be a folder, and is a file"),
        ("labels", ["--device", "cpu", "--precision", "fp16"], "precision 'fp16' needs a GPU"),
    ],
)
def test_wrong_arguments_get_one_line_before_a_model_is_loaded(
    run_of, images, capfd, monkeypatch, toy, arguments, message
):
    run = run_of(toy)
    monkeypatch.setattr("assay.runner.commands.predict.load_checkpoint", None)
    capfd.readouterr()
    assert main(["predict", str(run), "--input", "in", "--output", "out", *arguments]) == 2
    printed = capfd.readouterr()
    assert printed.err.startswith("assay: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not Path("out").exists()


def test_an_image_is_never_replaced_by_its_mask(run_of, images):
    with pytest.raises(UsageError, match=r"--output in would replace the image in/0.png: choose another folder"):
        predict(run_of("masks"), PredictOptions(input=["in/0.png"], output="in"))


def test_predict_refuses_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="assay predict runs on one process"):
        PredictOptions(input=["a"], output="b")


def test_a_folder_that_is_no_run_is_named(tmp_path, capfd):
    for run in (tmp_path, tmp_path / "none"):
        assert main(["predict", str(run), "--input", "a", "--output", "b"]) == 2
        assert f"{run} is not a run folder" in capfd.readouterr().err


def test_the_mean_of_weights_checks_shapes_before_it_makes_any():
    small, huge = torch.zeros(2), torch.zeros(1).expand(10**12)
    with pytest.raises(UsageError, match=r"differ in shape, w is \(2,\) and \(3,\)"):
        average_weights([{"": {"w": small}}, {"": {"w": torch.zeros(3)}}])
    with pytest.raises(UsageError, match=r"differ in shape, w is \(2,\) and None"):
        average_weights([{"": {"w": small}}, {"": {"w": {"no": "tensor"}}}])
    with pytest.raises(UsageError, match=r"the weights w of a checkpoint have the shape \(1000000000000,\)"):
        average_weights([{"": {"w": huge}}, {"": {"w": huge}}])


def test_what_is_no_tensor_among_weights_is_that_of_the_first():
    states = [{"": {"w": torch.tensor([value]), "_extra_state": {"scale": value}}} for value in (1.0, 4.0)]
    mean = average_weights(states)[""]
    assert mean["w"].item() == 2.5
    assert mean["_extra_state"] == {"scale": 1.0}
