"""The experiment as it is run: on a small set by the command line, against plain loops, and given what is wrong."""

import math

import cv2
import numpy as np
import pytest
import torch
from inria_set import HEIGHT, WIDTH

from assay.callbacks import UsageError
from assay.experiments.inria import Inria
from assay.experiments.inria.augmentation import make_transform
from assay.experiments.inria.generator import write_tiff
from assay.experiments.inria.tiles import IGNORED, find_tiles, read_window
from assay.experiments.inria.truth import TruthWindows
from assay.runner import ItemList, load_checkpoint
from assay.runner.commands.evaluate import evaluate
from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

SMALL = ["--encoder=squeezenet", "--width=4", "--crop=32", "--window=40", "--device=cpu", "--epochs=1"]


def run(root, folder, *flags):
    """Train by the command line; return its exit status."""
    return main(["train", "inria", "--data-dir", str(root), "--run-dir", str(folder), *SMALL, *flags])


def predictions(root, folder, margin):
    """Return logits and truth of each tile to validate on, [H, W], predicted window by window in a plain loop."""
    experiment = Inria(encoder="squeezenet", width=4)
    model = experiment.get_model()
    model.load_state_dict(load_checkpoint(folder, "last")["model"][""])
    model.eval()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for tile in find_tiles(root)[1]:
        logits = np.full((HEIGHT, WIDTH), np.nan)
        for top in range(0, HEIGHT, 40):
            for left in range(0, WIDTH, 40):
                side = 40 + 2 * margin
                part = read_window(tile, top - margin, left - margin, side, side)["image"]
                image = torch.from_numpy(((part / 255 - mean) / std).transpose(2, 0, 1)[None]).float()
                with torch.no_grad():
                    found = model(image)["logits"][0, 0, margin : margin + 40, margin : margin + 40].numpy()
                inside = logits[top : top + 40, left : left + 40]
                inside[:] = found[: inside.shape[0], : inside.shape[1]]
        yield tile, logits, read_window(tile, 0, 0, HEIGHT, WIDTH)["target"] == 1


@pytest.mark.parametrize("margin", [0, 8])
def test_the_metrics_are_those_of_whole_tiles_in_a_plain_loop(root, tmp_path, margin):
    assert run(root, tmp_path / "run", "--diagnostics", "off", "--margin", str(margin), "--loss", "lovasz") == 0
    table = {name: value for (_, loader, name), value in read_metrics(tmp_path / "run/metrics.csv").items()
             if loader == "valid"}  # fmt: skip
    both, either, by_tile, right = {"": 0}, {"": 0}, [], 0
    tiles = list(predictions(root, tmp_path / "run", margin))
    for tile, logits, truth in tiles:
        found = logits > 0
        by_tile.append((found & truth).sum() / (found | truth).sum())
        right += (found == truth).sum()
        for name in ("", tile.city):
            both[name] = both.get(name, 0) + (found & truth).sum()
            either[name] = either.get(name, 0) + (found | truth).sum()
    assert table["iou"] == pytest.approx(both[""] / either[""], abs=2e-4)
    assert table["accuracy"] == pytest.approx(right / (3 * HEIGHT * WIDTH), abs=2e-4)
    assert table["iou_per_image"] == pytest.approx(np.mean(by_tile), abs=2e-4)
    for city in ("aix", "bern"):
        assert table[f"iou/{city}"] == pytest.approx(both[city] / either[city], abs=2e-4)
    every = np.concatenate([logits.reshape(-1) for _, logits, _ in tiles])
    true = np.concatenate([truth.reshape(-1) for _, _, truth in tiles])
    cuts = np.quantile(every, np.linspace(0, 1, 300))
    best = max(((every >= cut) & true).sum() / ((every >= cut) | true).sum() for cut in cuts)
    assert table["best_iou"] == pytest.approx(best, abs=2e-3)
    logit = math.log(table["best_iou_threshold"] / (1 - table["best_iou_threshold"]))
    at_best = every >= logit
    assert (at_best & true).sum() / (at_best | true).sum() == pytest.approx(table["best_iou"], abs=2e-3)


@pytest.mark.long("trains a net with all that there is, and goes on with it")
def test_deep_supervision_pseudo_labels_and_every_loss_train_together_and_resume(root, tmp_path):
    flags = ["--loss", "bce+soft_bce+edge_bce+focal+dice+jaccard+0.1*lovasz", "--deep-supervision", "{8: 0.4, 16: 0.2}",
             "--pseudo-labels", "1", "--augmentation", "hard", "--diagnostics", "light"]  # fmt: skip
    assert run(root, tmp_path / "run", *flags, "--scheduler", "none") == 0
    assert main(["train", "inria", "--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0
    table = read_metrics(tmp_path / "run/metrics.csv")
    assert {(2, "train", "loss_lovasz_8"), (2, "valid", "loss_dice_16"), (2, "valid", "iou")} <= table.keys()
    assert all(math.isfinite(value) for (_, _, name), value in table.items() if name.startswith("loss"))


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("crop", 8, "crop must be at least 32, got 8"),
        ("window", 8, "window must be at least 32, got 8"),
        ("margin", -1, "margin must be at least 0, got -1"),
        ("width", 0, "width must be at least 1, got 0"),
        ("crops_repeat", 0, "crops_repeat must be at least 1, got 0"),
        ("boundary", 0, "boundary must be at least 1, got 0"),
        ("pseudo_labels", 0, "pseudo_labels must be at least 1, got 0"),
        ("pseudo_confidence", 0.5, "pseudo_confidence must be between 0.5 and 1, got 0.5"),
        ("deep_supervision", {8: 0}, "deep_supervision at stride 8 must be greater than 0, got 0"),
        ("loss", "iou", "unknown loss 'iou'"),
    ],
)
def test_a_field_out_of_range_is_named(field, value, line):
    with pytest.raises(UsageError, match=line):
        Inria(**{field: value})


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--loss", "bce + dise"], "unknown loss 'dise'; did you mean 'dice'"),
        (["--encoder", "resnet19"], "unknown encoder 'resnet19'; did you mean 'resnet18'"),
        (["--decoder", "unett"], "unknown decoder 'unett'; did you mean 'unet'"),
        (["--augmentation", "heavy"], "unknown augmentation 'heavy'"),
        (["--deep-supervision", "{64: 1}"], "'unet' has no map of stride 64"),
        (["--deep-supervision", "8"], "--deep-supervision must be"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(root, tmp_path, capsys, flags, line):
    assert run(root, tmp_path / "run", *flags) == 2
    error = capsys.readouterr().err
    assert line in error and len(error.strip().splitlines()) == 1


def test_a_missing_mask_ends_it_before_training(root, tmp_path, capsys):
    (root / "train/gt/aix6.tif").unlink()
    assert run(root, tmp_path / "run") == 2
    assert "aix6.tif has no mask" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_wrong_mask_values_end_the_run_in_one_line(root, tmp_path, capsys):
    write_tiff(root / "train/gt/aix6.tif", np.full((HEIGHT, WIDTH), 7, np.uint8))
    assert run(root, tmp_path / "found", "--diagnostics", "off") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert "aix6.tif' must hold 0 and 255 alone, got 7" in error[-1]
    assert run(root, tmp_path / "run", "--diagnostics", "off", "--check", "off") == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert "aix6.tif' must hold 0 and 255 alone, got 7" in error[-1]


def test_a_tile_is_predicted_in_its_own_size(root, tmp_path):
    assert run(root, tmp_path / "run", "--diagnostics", "off") == 0
    tile = root / "test/images/chur1.tif"
    assert main(["predict", str(tmp_path / "run"), "--input", str(tile), "--output", str(tmp_path / "masks")]) == 0
    (mask,) = (path for path in (tmp_path / "masks").rglob("chur1*") if path.suffix in (".tif", ".png"))
    found = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    assert found.shape == (HEIGHT, WIDTH) and set(np.unique(found)) <= {0, 255}


@pytest.mark.long("trains a net, and scores it twice: 10 seconds")
def test_a_truth_is_scored_as_validation_is(root, tmp_path):
    assert run(root, tmp_path / "run", "--diagnostics", "light") == 0
    expected = evaluate(tmp_path / "run")
    tiles = [str(root / f"train/images/{name}.tif") for name in ("aix1", "aix2", "bern3")]
    told = ["--output", str(tmp_path / "out"), "--truth", str(root / "train/gt")]
    assert main(["predict", str(tmp_path / "run"), "--input", *tiles, *told]) == 0
    found = read_metrics(tmp_path / "out/scores/metrics.csv")
    assert {name: value for (_, _, name), value in found.items()} == pytest.approx(expected.metrics, abs=1e-6)


@pytest.mark.parametrize("margin", [0, 5])
def test_of_a_truth_each_pixel_counts_once_and_void_does_not(root, tmp_path, margin):
    rng = np.random.default_rng(1)
    masks = [rng.choice([0, 1, IGNORED], (HEIGHT, WIDTH)).astype(np.uint8) for _ in range(2)]
    paths = [str(root / f"train/images/{name}.tif") for name in ("aix1", "bern3")]
    columns = {"image": paths, "sample_id": ["aix1.tif", "a house.tif"], "target": masks}
    items = ItemList(root, columns, task="segmentation", layout="", class_names=["ground", "house"])
    windows = TruthWindows(items, 40, margin, make_transform())
    found = [np.full((HEIGHT + 40, WIDTH + 40), 7, np.uint8) for _ in masks]
    for index, (number, top, left) in enumerate(windows.places):
        item = windows[index]
        inner = slice(margin, margin + 40)
        found[number][top : top + 40, left : left + 40] = item["target"][inner, inner]
        assert (item["target"] != IGNORED).sum() == (item["target"][inner, inner] != IGNORED).sum()
        assert item["image"].shape[1:] == item["target"].shape == (40 + 2 * margin,) * 2
    for mask, pixels in zip(masks, found, strict=True):
        assert (pixels[:HEIGHT, :WIDTH] == mask).all()
    assert [(tile.name, tile.city) for tile in windows.tiles] == [("aix1", "aix"), ("bern3", "")]
