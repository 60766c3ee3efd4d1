"""What classify, segment and detect share: pictures of your own are found, split and loaded.

docs/own-pictures.md shows the layouts that are read and the rules of the split. A file of yours may derive from one of
the three, or from ``OwnPictures``.
"""

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import timm
from torch.utils.data import DataLoader

from assay.callbacks import UsageError
from assay.callbacks.errors import unknown_name
from assay.runner import (
    AtLeast,
    Augmented,
    BalancedSampler,
    DataSummary,
    Experiment,
    GreaterThan,
    ItemList,
    LessThan,
    RunData,
    class_weights,
    describe_weights,
    make_transform,
    parse_fold,
    read_data,
    weighed_names,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as most pretrained weights expect them
TEST = "valid_test"  # the loader of a test part; Catalyst takes a loader for validation by the begin of its name


# ABC: a base is no experiment by itself, and ``assay list`` leaves it out.
@dataclass(kw_only=True)
class OwnPictures(Experiment, ABC):
    """Base of experiments on a data set in any common layout; a subclass adds model, loss and diagnostics."""

    data_dir: str | None = None
    """Folder of the data set, or the one file that describes it; docs/own-pictures.md shows the layouts."""
    valid_share: Annotated[float, GreaterThan(0), LessThan(1)] = 0.2
    """Share of the images to validate on, where the data set has no split of its own."""
    group_by: str | None = None
    """What keeps images together in a split: a column, or a pattern of the file name such as '^(part[0-9]+)_'."""
    fold: str | None = None
    """Validate on one of several folds, such as 2/5, in place of a share."""
    split: str | None = None
    """CSV file with the columns image and split, such as the split.csv of another run, in place of all the above."""
    image_size: Annotated[int, AtLeast(8)] = 224
    """Side in pixels of the square that images are brought to."""
    resize: Literal["letterbox", "stretch", "crop"] = "letterbox"
    """How: with borders, by changing the ratio of the sides, or by cutting off what stands out."""
    augmentation: Literal["none", "light", "medium", "hard"] = "light"
    """Strength of the random augmentation of training images."""
    backbone: str = "resnet18"
    """A backbone of timm, such as resnet50, convnext_tiny or vit_small_patch16_224."""
    pretrained: bool = False  # of the backbone; declared again, as it has a use here
    symmetry: Literal["none", "horizontal", "square"] = "horizontal"
    """What the augmentation may turn an image to: its mirror image (horizontal), also quarter turns (square), as for
    a view from above or through a microscope, or nothing (none), as for text."""
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    """Weights of classes in the loss: balanced, or by name, such as '{scratch: 5}'; others have 1."""
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """How training images are drawn: each once per epoch, or so that all classes are equally often (balanced)."""

    kind: ClassVar[Literal["classify", "segment", "detect"]]
    """What the data set is read for; see ``read_data``."""
    part_keys: ClassVar[Mapping[str, str]] = {"image": "image"}
    """The parts of an item that are transformed; see ``Augmented``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fold is not None:
            parse_fold(self.fold)

    def ignored_fields(self) -> dict[str, str]:
        """Add what of the split has no use beside a given split or a fold."""
        reason = "has no use with {}: leave one of them out"
        of_split = dict.fromkeys(("fold", "group_by", "valid_share"), reason.format("--split"))
        of_fold = {"valid_share": reason.format("--fold")}
        return super().ignored_fields() | (of_split if self.split else of_fold if self.fold else {})

    @cached_property
    def data(self) -> RunData:
        """The data set and its split; those of the run, where it goes on or was reopened."""
        options = {name: getattr(self, name) for name in ("valid_share", "seed", "group_by", "fold", "split")}
        return RunData(self._read, self.run_folder, type(self).valid_share, **options)

    def _read(self) -> ItemList:
        if self.data_dir is None:
            raise UsageError("--data-dir is needed: the folder or file with your pictures, see docs/own-pictures.md.")
        return self.read_items(Path(self.data_dir))

    def read_items(self, path: Path) -> ItemList:
        """Return all items of the data set at a path; override it for a layout of your own."""
        return read_data(path, self.kind)

    def parts(self) -> dict[str, ItemList]:
        """Return the items to train and to validate on, by ``train`` and ``valid``; also ``test`` where it is given."""
        return self._marked_parts

    @cached_property
    def _marked_parts(self) -> dict[str, ItemList]:
        # Marked after the split, which is the same with marks and without.
        loader_of = {name: TEST if name == "test" else name for name in self.data.split.parts}
        marked = self.marked({loader_of[name]: items for name, items in self.data.split.parts.items()})
        return {name: marked[loader] for name, loader in loader_of.items()}

    @property
    def summary(self) -> DataSummary:
        """Task and class names: those of the run, where there is one, so that prediction needs no data set."""
        return self.data.summary

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; of a detection, the first is the background."""
        return self.summary.class_names

    @cached_property
    def weights_of_classes(self) -> list[float] | None:
        """Weights for ``make_loss`` by the field ``class_weights``, counted over the training part; None: none."""
        train = self.parts()["train"]
        return class_weights(train, self.class_weights, masks=self._masks(train) if self.kind == "segment" else ())

    def _masks(self, items: ItemList) -> Iterator[Any]:
        plain = self.transformed(items, "none")
        for index in range(len(plain)):
            yield plain[index]["target"]

    def describe_data(self) -> list[str]:
        """Return what was found, how it is split, what weighs how much, and what is wrong with the data."""
        lines, weights = self.data.describe(), self.weights_of_classes
        if "test" in self.parts():
            lines.append(f"test is held back: assay evaluate RUN --loader {TEST}")
        if weights is not None:
            lines.append(describe_weights(weighed_names(self.data.items), weights))
        return lines + self.data.describe_problems()

    def files_of_run(self) -> dict[str, str]:
        """Return the split, the class names, and what is wrong with the data."""
        return self.data.files()

    def get_loaders(self) -> dict[str, DataLoader[Any]]:
        parts = self.parts()
        order: dict[str, Any] = {"shuffle": True}
        if self.sampler == "balanced":
            order = {"sampler": BalancedSampler.of(parts["train"])}
        return {
            "train": self.make_loader(self.transformed(parts["train"], self.augmentation), **order, **self.batching()),
            "valid": self.make_loader(self.transformed(parts["valid"], "none")),
        }

    def batching(self) -> dict[str, Any]:
        """Return further arguments of ``make_loader`` for training: how items become batches."""
        return {}

    def get_held_back_loaders(self) -> dict[str, DataLoader[Any]]:
        """Return the loader of the test part, where there is one."""
        test = self.parts().get("test")
        return {} if test is None else {TEST: self.make_loader(self.transformed(test, "none"))}

    def get_truth_loader(self, items: ItemList) -> DataLoader[Any]:
        return self.make_loader(self.transformed(items, "none"))

    def transformed(self, items: ItemList, level: str) -> Augmented:
        """Return items with their images read, augmented at a level, and brought to tensors of the image size."""
        return Augmented(items, self.get_transform(level), seed=self.seed, keys=self.part_keys)

    def get_transform(self, level: str = "none") -> Any:
        """Return the transform of images, of masks and boxes too where the data set has them."""
        mean, std = normalization_of(self.backbone)
        return make_transform(
            level,
            self.image_size,
            resize=self.resize,
            symmetry=self.symmetry,
            mean=mean,
            std=std,
            boxes=self.kind == "detect",
            masks=self.kind == "segment",
        )


def normalization_of(backbone: str) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and std of the images that the weights of a backbone expect; of any but timm's, ImageNet's."""
    config = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    return (MEAN, STD) if config is None else (tuple(config.mean), tuple(config.std))


def check_backbone(name: str, *others: str) -> None:
    """Check the name of a backbone.

    Raises:
        UsageError: it is neither a model of timm nor one of ``others``.
    """
    if name not in others and not timm.is_model(name):
        close = str(unknown_name("backbone", name, [*others, *timm.list_models()])).partition(" There is: ")[0]
        raise UsageError(f"{close.removesuffix('.')}. timm.list_models() names them all.")
