"""``PictureStyle``: what drawings know of a data set: class names, normalization, ignored target."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...support.class_names import name_of
from .images import Channels


@dataclass(frozen=True)
class PictureStyle:
    """What every drawing of samples knows of their data set.

    Attributes:
        class_names: one per class or label; None: they are shown by number.
        mean: of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: see ``mean``.
        ignore_index: target value that does not count.

    Example:
        >>> style = PictureStyle(class_names=["cat", "dog"], mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        >>> style.name_of(1)
        'dog'
    """

    class_names: Sequence[str] | None = None
    mean: Channels = 0.0
    std: Channels = 1.0
    ignore_index: int | None = None

    def name_of(self, index: int) -> str:
        """Return the name of a class, or its number where it has none."""
        return name_of(index, self.class_names)
