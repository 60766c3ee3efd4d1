"""What is embedded, and how little simple statistics tell of it."""

import jpeglib
import numpy as np
import pytest
import torch
from PIL import Image

from assay.callbacks.measures.weighted_auc import WeightedAUC
from assay.experiments.alaska2.data import CLASS_NAMES, find_covers
from assay.experiments.alaska2.generator import LIKELIHOODS, RATES, _crop, embed, make_data
from assay.experiments.alaska2.jpeg import QUALITIES, coefficients, read_header, read_rgb


def read(path):
    return [part for part, _ in coefficients(jpeglib.read_dct(str(path)))]


def test_qualities_and_rates_take_turns(made):
    names = find_covers(made)
    for index, name in enumerate(names):
        rate = RATES[index // 3 % 3]
        cover = read(made / "Cover" / name)
        for kind in CLASS_NAMES:
            assert read_header(made / kind / name).quality == QUALITIES[index % 3]
            for plain, own in zip(cover, read(made / kind / name), strict=True):
                present = np.count_nonzero(plain) - np.count_nonzero(plain[..., 0, 0])
                changed = np.count_nonzero(plain != own)
                assert changed == (round(rate * present) if kind != "Cover" else 0)


def test_changes_are_of_one_in_coefficients_that_are_not_zero_and_not_means(made):
    for name in find_covers(made):
        for kind in CLASS_NAMES[1:]:
            for plain, own in zip(read(made / "Cover" / name), read(made / kind / name), strict=True):
                difference = own.astype(int) - plain
                assert set(np.unique(difference)) <= {-1, 0, 1}
                assert not difference[plain == 0].any()
                assert not difference[..., 0, 0].any()


def test_nothing_else_of_a_file_changes(made):
    for name in find_covers(made)[:3]:
        headers = set()
        for kind in CLASS_NAMES:
            data = (made / kind / name).read_bytes()
            headers.add(data[: data.index(b"\xff\xda")])  # all that is before the coefficients
        assert len(headers) == 1


def test_the_data_is_the_same_each_time(made, data_dir):
    for path in made.glob("*/*.jpg"):
        assert path.read_bytes() == (data_dir / path.parent.name / path.name).read_bytes()


def test_training_and_validation_show_different_parts_of_a_photograph():
    halves = np.zeros((427, 640, 3), dtype=np.uint8)
    halves[:, 416:] = 255
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert np.asarray(_crop(Image.fromarray(halves), 64, rng, valid=True)).min() == 255
        assert np.asarray(_crop(Image.fromarray(halves), 64, rng, valid=False)).max() == 0


@pytest.mark.parametrize("kind", ["JUNIWARD", "UERD"])
def test_texture_and_energy_draw_changes_to_them(kind):
    rng = np.random.default_rng(0)
    quantized = np.zeros((8, 8, 8, 8), dtype=np.int16)
    quantized[..., 0, 1] = 1
    quantized[:, 4:, :4, :4] = rng.choice([-6, 5], (8, 4, 4, 4))
    changed = quantized.copy()
    embed(changed, LIKELIHOODS[kind](quantized, np.full((8, 8), 4)), 0.1, rng)
    difference = changed != quantized
    present = quantized != 0
    present[..., 0, 0] = False
    rough, flat = difference[:, 4:].sum() / present[:, 4:].sum(), difference[:, :4].sum() / present[:, :4].sum()
    assert rough > 3 * flat


def test_uniform_changes_are_spread_over_all():
    rng = np.random.default_rng(0)
    quantized = rng.choice(np.array([-2, 0, 3], dtype=np.int16), (30, 30, 8, 8))
    changed = quantized.copy()
    embed(changed, LIKELIHOODS["JMiPOD"](quantized, np.ones((8, 8))), 0.2, rng)
    by_frequency = (changed != quantized).sum(axis=(0, 1)) / (quantized != 0).sum(axis=(0, 1))
    assert by_frequency[0, 0] == 0
    assert np.allclose(by_frequency.reshape(-1)[1:], 0.2, atol=0.08)


STATISTICS = {
    "constant": lambda path, rng: 0.0,
    "random": lambda path, rng: rng.normal(),
    "brightness": lambda path, rng: read_rgb(path).mean(),
    "contrast": lambda path, rng: read_rgb(path).std(),
    "saturation": lambda path, rng: np.ptp(read_rgb(path), axis=2).mean(),
    "red": lambda path, rng: read_rgb(path)[..., 0].mean(),
    "file size": lambda path, rng: path.stat().st_size,
}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    make_data(folder, covers=60, side=64)
    return [(path, CLASS_NAMES.index(path.parent.name) > 0) for path in sorted(folder.glob("*/*.jpg"))]


@pytest.mark.parametrize("name", STATISTICS)
def test_simple_statistics_hardly_tell_covers_from_stegos(many, name):
    rng = np.random.default_rng(0)
    score = np.array([STATISTICS[name](path, rng) for path, _ in many], dtype=np.float64)
    score = (score - score.mean()) / (score.std() + 1e-12)
    found = []
    for sign in (1, -1):
        metric = WeightedAUC()
        metric.update(torch.as_tensor(sign * score), torch.as_tensor([stego for _, stego in many]))
        found.append(float(metric.compute()))
    assert max(found) < 0.66  # 0.586 is chance
