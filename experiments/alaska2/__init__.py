"""ALASKA2: whether a JPEG photograph hides a message, and by which of three algorithms it was embedded.

Source: the Kaggle competition "ALASKA2 Image Steganalysis", 2020, https://www.kaggle.com/c/alaska2-image-steganalysis,
by R. Cogranne, Q. Giboulot and P. Bas ("ALASKA#2: Challenging Academic Research on Steganalysis with Realistic Images",
WIFS 2020). Licence: the rules of the competition, which are accepted on its page before the download.

Download (32 GB), then unpack and pass the folder as ``--data-dir``::

    kaggle competitions download -c alaska2-image-steganalysis

The folders ``Cover``, ``JMiPOD``, ``JUNIWARD`` and ``UERD`` hold 75,000 colour JPEG files each, 512 x 512, of quality
75, 90 or 95. Files of the same name show the same photograph: unchanged, and with a message by each algorithm. ``Test``
is not used.

Without ``--data-dir`` a small data set is generated (see ``generator``). One in five covers, chosen by name, is held
out for validation together with its stego versions, so that no photograph is in both parts.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import albumentations as A
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import Metrics, PRCurves, PredictionDistribution, UsageError, classification_diagnostics
from assay.callbacks.toolkit import ConfusionByGroup, WeightedAUC
from assay.runner import Augmented, Experiment
from assay.runner.prediction import ClassPrediction, Prediction

from .changed_samples import ChangedSamples
from .data import CLASS_NAMES, Versions, WholeCovers, find_covers, is_valid
from .generator import make_data
from .jpeg import QUALITIES, read_rgb
from .models import Steganalyzer, make_net


@dataclass(kw_only=True)
class Alaska2(Experiment):
    """A classifier of covers and three kinds of stegos, ranked by the competition's weighted AUC."""

    epochs: int = 12
    batch_size: int = 32
    lr: float = 3e-3
    scheduler: str = "one-cycle"
    monitor: list[str] = field(default_factory=lambda: ["valid/weighted_auc:max", "valid/loss:min"])
    encoder: str = "coefficients"
    """The net: coefficients (a small one over DCT coefficients), an encoder of pytorch-toolbelt, or a model of timm."""
    width: int = 32
    """Channels of the layers of the net over coefficients, a multiple of 4."""
    pretrained: bool = False  # by ImageNet

    def ignored_fields(self) -> dict[str, str]:
        if self.encoder == "coefficients":
            own = {"pretrained": "has no use with --encoder coefficients, which has no such weights: leave one out"}
        else:
            own = {"width": f"has no use with --encoder {self.encoder}, only with coefficients: leave one out"}
        return super().ignored_fields() | own

    def make_data(self, folder: Path) -> None:
        make_data(folder)

    def get_loaders(self) -> dict[str, DataLoader[Any]]:
        root = self.data_folder()
        names = find_covers(root)
        valid = [name for name in names if is_valid(name)]
        train = [name for name in names if not is_valid(name)]
        if not train or not valid:
            raise UsageError(f"{root} has {len(train)} covers for training and {len(valid)} for validation: add some.")
        return {
            "train": self._loader(Versions(root, train), [A.D4()], shuffle=True),
            "valid": self._loader(Versions(root, valid), [], shuffle=False),
        }

    def _loader(self, items: Versions, transforms: list[Any], *, shuffle: bool) -> DataLoader[Any]:
        augmented = Augmented(items, A.Compose([*transforms, A.ToTensorV2()]), seed=self.seed)
        return self.make_loader(
            augmented, batch_sampler=WholeCovers(len(items.names), self.batch_size, shuffle=shuffle)
        )

    def get_model(self) -> nn.Module:
        return Steganalyzer(make_net(self.encoder, len(CLASS_NAMES), width=self.width, pretrained=self.pretrained))

    def get_prediction(self) -> Prediction:
        return ClassPrediction(class_names=CLASS_NAMES, transform=A.ToTensorV2(), read=read_rgb)

    def get_callbacks(self) -> list[Any]:
        score: dict[str, Any] = {"task": "binary", "output_key": "stego", "target_key": "is_stego"}
        by_class = classification_diagnostics(self.diagnostics, metrics=["accuracy"], class_names=CLASS_NAMES)
        # Diagnostics of scores show the score that counts, cover against stego, instead of one per class.
        callbacks = [one for one in by_class if not isinstance(one, PredictionDistribution | PRCurves)]
        callbacks.append(Metrics({"weighted_auc": WeightedAUC()}, **score))
        if self.diagnostics != "off":
            callbacks.append(ConfusionByGroup("quality", [str(one) for one in QUALITIES], class_names=CLASS_NAMES))
        if self.diagnostics == "full":
            names = ["Cover", "Stego"]
            callbacks += [PredictionDistribution(class_names=names, **score), PRCurves(class_names=names, **score)]
            callbacks.append(ChangedSamples(self.data_folder()))
        return callbacks
