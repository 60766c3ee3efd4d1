"""The layout, the split and the batches, and what is wrong with a folder or a file."""

import shutil
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from assay.callbacks import UsageError
from assay.experiments.alaska2 import Alaska2
from assay.experiments.alaska2.data import CLASS_NAMES, Versions, WholeCovers, find_covers, is_valid
from assay.experiments.alaska2.jpeg import read_rgb
from assay.runner import BadImageError


def test_an_item_holds_image_class_quality_and_path(made):
    items = Versions(made, find_covers(made))
    assert len(items) == 48
    item = items[4 * 5 + 2]
    assert item["sample_id"] == "JUNIWARD/00006.jpg"
    assert (item["target"], item["is_stego"], item["quality"]) == (2, 1, 2)
    assert np.array_equal(item["image"], read_rgb(made / "JUNIWARD" / "00006.jpg"))
    assert (items[20]["sample_id"], items[20]["is_stego"]) == ("Cover/00006.jpg", 0)


def test_about_one_in_five_covers_is_for_validation_by_its_name_alone():
    names = [f"{number:05d}.jpg" for number in range(1, 75001)]
    assert np.mean([is_valid(name) for name in names]) == pytest.approx(0.2, abs=0.005)
    assert is_valid("00001.jpg") == (zlib.crc32(b"00001.jpg") % 5 == 0)


def test_versions_of_a_cover_are_on_one_side_and_in_one_batch(made):
    loaders = Alaska2(data_dir=str(made), batch_size=8).get_loaders()
    sides = {key: [sorted(batch["sample_id"]) for batch in loader] for key, loader in loaders.items()}
    names = {key: {place.split("/")[1] for batch in of for place in batch} for key, of in sides.items()}
    assert not names["train"] & names["valid"]
    assert len(names["train"] | names["valid"]) == 12
    for batch in [batch for of in sides.values() for batch in of]:
        covers = {place.split("/")[1] for place in batch}
        assert batch == sorted(f"{kind}/{name}" for kind in CLASS_NAMES for name in covers)


def test_training_images_are_turned_and_mirrored_and_nothing_else(made):
    loaders = Alaska2(data_dir=str(made)).get_loaders()
    seen = set()
    for batch in loaders["train"]:
        for image, place in zip(batch["image"], batch["sample_id"], strict=True):
            plain = torch.from_numpy(read_rgb(made / place)).permute(2, 0, 1)
            turned = [side.rot90(k, (1, 2)) for side in (plain, plain.flip(2)) for k in range(4)]
            found = [number for number, version in enumerate(turned) if torch.equal(version, image)]
            assert found
            seen.add(found[0])
    assert len(seen) == 8
    for batch in loaders["valid"]:
        for image, place in zip(batch["image"], batch["sample_id"], strict=True):
            assert torch.equal(image, torch.from_numpy(read_rgb(made / place)).permute(2, 0, 1))


def test_batches_hold_all_and_change_from_epoch_to_epoch():
    sampler = WholeCovers(5, 8, shuffle=True)
    torch.manual_seed(1)
    first, second = list(sampler), list(sampler)
    assert len(sampler) == 3 == len(first)
    assert first != second
    for order in (first, second):
        assert sorted(index for batch in order for index in batch) == list(range(20))
    torch.manual_seed(1)
    assert list(sampler) == first
    assert list(WholeCovers(3, 8, shuffle=False)) == [list(range(8)), [8, 9, 10, 11]]


def test_a_batch_of_broken_covers_is_refused():
    with pytest.raises(UsageError, match="batch_size must be a multiple of 4, whole covers, got 10"):
        WholeCovers(5, 10, shuffle=True)


def test_a_missing_folder_is_named(data_dir):
    shutil.rmtree(data_dir / "UERD")
    with pytest.raises(UsageError, match="UERD is missing: data_dir must hold the folders Cover, JMiPOD"):
        find_covers(data_dir)


@pytest.mark.parametrize("kind", CLASS_NAMES)
def test_a_missing_partner_is_named(data_dir, kind):
    (data_dir / kind / "00004.jpg").unlink()
    with pytest.raises(UsageError, match=f"{kind}/00004.jpg is missing: each image must be in all of"):
        find_covers(data_dir)
    (data_dir / kind / "00007.jpg").unlink()
    with pytest.raises(UsageError, match=f"{kind}/00004.jpg is missing, and 1 more"):
        find_covers(data_dir)


def test_folders_without_images_are_refused(tmp_path):
    for kind in CLASS_NAMES:
        (tmp_path / kind).mkdir()
    with pytest.raises(UsageError, match=r"has no \.jpg file in its folders"):
        find_covers(tmp_path)


def test_too_few_covers_for_both_sides_are_refused(data_dir):
    for path in data_dir.glob("*/*.jpg"):
        if is_valid(path.name):
            path.unlink()
    with pytest.raises(UsageError, match="covers for training and 0 for validation"):
        Alaska2(data_dir=str(data_dir)).get_loaders()


def test_a_file_of_another_size_is_named(data_dir):
    Image.new("RGB", (72, 64)).save(data_dir / "JMiPOD" / "00002.jpg", quality=90)
    items = Versions(data_dir, find_covers(data_dir))
    with pytest.raises(BadImageError, match=r"JMiPOD/00002.jpg.* it is 72 x 64 pixels, .*00001.jpg is 64 x 64"):
        items[5]


def test_a_quality_that_is_not_the_covers_is_named(data_dir):
    Image.new("RGB", (64, 64)).save(data_dir / "UERD" / "00002.jpg", quality=95)
    items = Versions(data_dir, find_covers(data_dir))
    with pytest.raises(BadImageError, match=r"UERD/00002.jpg.* its quality is 95, that of its cover .* is 90"):
        items[7]
