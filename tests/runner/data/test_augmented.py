"""Data sets of dicts, whose augmentation follows from seed, epoch and index alone."""

import albumentations as A
import cv2
import numpy as np
import pytest
from catalyst import dl
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from assay.runner import Augmented
from assay.runner.data.augmented import Items, one_thread
from assay.runner.data.files.image_errors import BadImageError
from assay.runner.data.files.images import read_image


@pytest.fixture
def items():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    return [
        {"image": image, "seg": image[..., 0] // 128, "target": i % 3, "sample_id": f"sample-{i}"}
        for i, image in enumerate(images)
    ]


@pytest.fixture
def chance():
    """A transform that draws much: hardly two draws agree."""
    return A.Compose([A.RandomBrightnessContrast(p=1.0), A.Affine(rotate=(-90, 90), p=1.0)])


def epochs_of(dataset, workers, persistent, epochs=(1, 2)):
    """Go through the data set with workers, and return each epoch's images and ids."""
    loader = DataLoader(dataset, batch_size=2, num_workers=workers, persistent_workers=persistent)
    seen = []
    for epoch in epochs:
        dataset.set_epoch(epoch)
        batches = list(loader)
        images = np.concatenate([batch["image"].numpy() for batch in batches])
        seen.append((images, [name for batch in batches for name in batch["sample_id"]]))
    return seen


@pytest.mark.parametrize(("workers", "persistent"), [(1, False), (1, True), (2, False), (2, True)])
def test_items_are_the_same_with_any_number_of_workers_persistent_or_not(items, chance, workers, persistent):
    alone = epochs_of(Augmented(items, chance, seed=3), 0, False)
    together = epochs_of(Augmented(items, chance, seed=3), workers, persistent)
    for (one, ids), (other, other_ids) in zip(alone, together, strict=True):
        assert ids == other_ids
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(alone[0][0], alone[1][0])


def test_an_item_follows_from_seed_epoch_and_index_and_not_from_what_was_drawn_before(items, chance):
    dataset = Augmented([items[0]] * 3, chance, seed=3)  # one image three times
    first = [dataset[i]["image"] for i in (0, 1, 2)]
    again = [dataset[i]["image"] for i in (2, 0, 1)]
    np.testing.assert_array_equal(first, [again[1], again[2], again[0]])
    dataset.set_epoch(1)
    next_epoch = dataset[0]["image"]
    other_seed = Augmented([items[0]], chance, seed=4)[0]["image"]
    drawn = [*first, next_epoch, other_seed]
    assert len({image.tobytes() for image in drawn}) == len(drawn)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_the_images_of_one_that_ran_straight(items, chance, train, tmp_path, workers):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(192, 3)

        def forward(self, image):
            return {"logits": self.linear(image.flatten(1) / 255)}

    class Keep(dl.Callback):
        def __init__(self):
            super().__init__(order=0)
            self.images = {}

        def on_batch_end(self, runner):
            self.images.setdefault(runner.epoch_step, []).append(runner.batch["image"].numpy().copy())

    def run(epochs, workers=0, **options):
        dataset = Augmented(items, chance, seed=3)
        loader = DataLoader(dataset, 2, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        keep = Keep()
        train(Flat(), {"train": loader}, epochs=epochs, lr=0.01, callbacks=[keep], **options)
        return keep.images

    straight = run(3)
    run(1, logdir=str(tmp_path))
    resumed = run(3, workers, resume=str(tmp_path))
    assert list(resumed) == [2, 3]
    for epoch in (2, 3):
        np.testing.assert_array_equal(np.concatenate(resumed[epoch]), np.concatenate(straight[epoch]))


def test_other_parts_of_an_item_stay_as_they_are_and_the_source_is_untouched(items, chance):
    before = items[1]["image"].copy()
    item = Augmented(items, chance)[1]
    assert set(item) == {"image", "seg", "target", "sample_id"}
    assert (item["target"], item["sample_id"]) == (1, "sample-1")
    np.testing.assert_array_equal(item["seg"], items[1]["seg"])
    np.testing.assert_array_equal(items[1]["image"], before)
    assert not np.array_equal(item["image"], before)


def test_several_parts_are_augmented_alike_under_the_names_of_albumentations(items):
    flip = A.Compose([A.HorizontalFlip(p=0.5)])
    dataset = Augmented(items, flip, keys={"image": "image", "mask": "seg"})
    flipped = []
    for item, augmented in zip(items, dataset, strict=True):
        flipped.append(not np.array_equal(item["image"], augmented["image"]))
        for name in ("image", "seg"):
            expected = item[name][:, ::-1] if flipped[-1] else item[name]
            np.testing.assert_array_equal(augmented[name], expected)
    assert set(flipped) == {True, False}


def test_its_length_is_that_of_its_items(items, chance):
    assert len(Augmented(items, chance)) == 6


def test_items_are_made_by_a_function_of_the_index():
    items = Items(3, lambda index: {"image": index * 10})
    assert len(items) == 3
    assert [item["image"] for item in items] == [0, 10, 20]


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_out_of_range_is_an_index_error(index):
    with pytest.raises(IndexError, match=str(index)):
        Items(3, lambda index: {"image": index})[index]


@pytest.mark.parametrize("key", ["image", "seg"])
def test_a_part_that_is_a_path_is_read_and_its_error_names_the_sample(tmp_path, key):
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    for name in ("image", "seg"):
        Image.fromarray(picture if name == "image" else picture[..., 0]).save(tmp_path / f"{name}.png")
    item = {"image": tmp_path / "image.png", "seg": str(tmp_path / "seg.png"), "sample_id": "a-1"}
    dataset = Augmented([item], A.Compose([]), keys={"image": "image", "mask": "seg"})
    np.testing.assert_array_equal(dataset[0]["image"], picture)
    np.testing.assert_array_equal(dataset[0]["seg"], picture[..., 0])
    (tmp_path / f"{key}.png").write_bytes(b"")
    with pytest.raises(BadImageError) as caught:
        dataset[0]
    assert str(caught.value) == f"sample_id 'a-1': image '{tmp_path}/{key}.png' cannot be read: it is empty"


def test_an_image_that_the_data_set_itself_reads_is_named_with_its_index():
    dataset = Augmented(Items(3, lambda index: {"image": read_image("none.png")}), A.Compose([]))
    with pytest.raises(BadImageError, match=r"^item 2: image 'none.png' cannot be read: No such file or directory$"):
        dataset[2]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_transform_names_the_sample(items, workers):
    items[3]["boxes"] = [[0.2, 0.2, 0.1, 0.9]]  # its left edge is right of its right one
    for item in items:
        item.setdefault("boxes", [[0.1, 0.1, 0.5, 0.5]])
    transform = A.Compose([A.HorizontalFlip()], bbox_params=A.BboxParams("albumentations", label_fields=[]))
    dataset = Augmented(items, transform, keys={"image": "image", "bboxes": "boxes"})
    with pytest.raises(BadImageError) as caught:
        for _ in DataLoader(dataset, num_workers=workers):
            pass
    message = str(caught.value)
    assert message.startswith("sample_id 'sample-3': the transform cannot take it: ValueError: ")
    assert "x_max" in message
    assert "\n" not in message
    del items[3]["sample_id"]
    with pytest.raises(BadImageError, match=r"^item 3: the transform"):
        dataset[3]


def test_a_key_that_no_item_has_is_no_bad_image(items, chance):
    with pytest.raises(KeyError, match="picture"):
        Augmented(items, chance, keys={"image": "picture"})[0]


@pytest.mark.parametrize(("init", "threads"), [(one_thread, 1), (None, 2)])
def test_opencv_takes_one_thread_in_a_worker_and_as_many_as_before_elsewhere(init, threads):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        loader = DataLoader(
            Items(1, lambda index: {"threads": cv2.getNumThreads()}), num_workers=1, worker_init_fn=init
        )
        assert [batch["threads"].item() for batch in loader] == [threads]
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
