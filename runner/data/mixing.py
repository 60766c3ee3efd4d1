"""Mix the images of a training batch and their targets: Mixup and CutMix, by torchvision."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, default_collate
from torchvision.transforms import v2

from assay.callbacks.errors import UsageError, described
from assay.callbacks.keys import IMAGE_KEY, TARGET_KEY, pick
from assay.callbacks.support.host_targets import sample_of

from .bad_images import Collate

Join = Callable[[Any], Any]


class Mixed:
    """Collates items to a batch whose images are mixed in pairs, and their targets in the same shares.

    A function for ``collate_fn`` of a loader for training. Within a run it draws from (seed, epoch, samples of the
    batch) alone: the same with any number of workers and ranks, and after an interruption.

    In each pair an image has at least half of the mix that stands in its place, so that its id, its group and the class
    of the largest share belong together: what counts classes or names samples counts and names those of the data.
    torchvision's own order, in which an image may have the smaller share, has the same pairs in another order.

    Args:
        num_classes: C, where targets are class numbers; None: they are labels, of yes and no.
        mixup: alpha of Mixup, H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018: an image is laid over
            another, in shares drawn from Beta(alpha, alpha). 0: no Mixup.
        cutmix: alpha of CutMix, S. Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with
            Localizable Features", 2019: a rectangle is cut out of another image. 0: no CutMix. With both, each batch
            has one of them, drawn with equal chance.
        join: makes a batch of items, with images [N, ...] of floats.
        image_key: key of the images in the batch.
        target_key: key of the targets: class numbers [N], which become shares [N, C]; or labels, [N] or [N, L], and
            shares of classes, [N, C] floats, which keep their shape. All become float32.

    Raises:
        UsageError: an argument is out of range; of a batch, the images are no floats of one size, or a target has no
            class.

    Example:
        >>> items = [{"image": torch.full((1, 4, 4), float(i)), "target": i} for i in range(2)]
        >>> batch = Mixed(2, mixup=1.0)(items)
        >>> batch["target"].shape, bool(torch.allclose(batch["image"].mean(dim=(1, 2, 3)), batch["target"][:, 1]))
        (torch.Size([2, 2]), True)
    """

    def __init__(
        self,
        num_classes: int | None,
        *,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        join: Join = default_collate,
        image_key: str = IMAGE_KEY,
        target_key: str = TARGET_KEY,
    ):
        for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
            if not 0 <= alpha < float("inf"):
                raise UsageError(f"{name} must be a finite number of at least 0, got {alpha}.")
        if not mixup and not cutmix:
            raise UsageError("Mixed needs mixup or cutmix above 0, got neither.")
        self.num_classes = num_classes
        self.join = join
        self.image_key = image_key
        self.target_key = target_key
        kinds = [v2.MixUp(alpha=mixup)] if mixup else []
        kinds += [v2.CutMix(alpha=cutmix)] if cutmix else []
        self.mix = v2.RandomChoice(kinds) if len(kinds) > 1 else kinds[0]

    def __call__(self, items: Any) -> Any:
        """Return the batch of some items, mixed."""
        batch = self.join(items)
        images = self._images(batch)
        shares = self._shares(batch)
        # Not the targets themselves, which may be of several kinds: row i says what is made of the samples for place i.
        images, rows = self.mix(images, torch.eye(len(images)))
        if rows[0, 0] < 0.5:
            images, rows = images.roll(-1, 0), rows.roll(-1, 0)
        mixed = rows @ shares.reshape(len(shares), -1)
        return {**batch, self.image_key: images, self.target_key: mixed.reshape(shares.shape)}

    def _images(self, batch: Mapping[str, Any]) -> Tensor:
        images = pick(batch, self.image_key, "Mixed")
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
            raise UsageError(
                f"mixup and cutmix take images of one size as floats [N, C, H, W], got {described(images)} in "
                f"{self.image_key!r}."
            )
        return images

    def _shares(self, batch: Mapping[str, Any]) -> Tensor:
        """Return targets as float32: [N, C] of class numbers, floats in their own shape."""
        target = pick(batch, self.target_key, "Mixed")
        if not isinstance(target, Tensor) or target.ndim not in (1, 2) or target.is_complex():
            raise self._not_of_images(target)
        if target.is_floating_point() or self.num_classes is None:
            return target.float()
        if target.ndim != 1:
            raise self._not_of_images(target)
        outside = (target < 0) | (target >= self.num_classes)
        if outside.any():
            place = int(outside.nonzero()[0, 0])
            raise UsageError(
                f"{sample_of(batch, place)}: {self.target_key!r} holds {int(target[place])}, and mixup and cutmix take "
                f"class numbers from 0 to {self.num_classes - 1}: leave out samples without a class."
            )
        return one_hot(target.long(), self.num_classes).float()

    def _not_of_images(self, target: Any) -> UsageError:
        takes = "labels [N] or [N, L]" if self.num_classes is None else "class numbers [N], or shares [N, C] as floats"
        return UsageError(
            f"mixup and cutmix mix the {takes} of whole images, got {described(target)} in {self.target_key!r}."
        )


def unmixed(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return a loader for training as it would be without ``Mixed``: for what is to be measured on the data itself."""
    collate: Any = loader.collate_fn
    if isinstance(collate, Mixed):
        plain: Any = collate.join
    elif isinstance(collate, Collate) and isinstance(collate.join, Mixed):
        plain = Collate(collate.join.join)
    else:
        return loader
    other = copy.copy(loader)
    # DataLoader forbids setting some of these, and a new one would lose what a subclass does.
    other.__dict__.update(collate_fn=plain, _iterator=None)
    return other
