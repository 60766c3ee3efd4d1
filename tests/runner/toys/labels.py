"""Pictures that are red, green or blue; a linear model of their mean colour."""

from dataclasses import dataclass

import albumentations as A
import torch
from torch import nn

from assay.callbacks import Metrics
from assay.runner import Augmented, Experiment
from assay.runner.prediction import ClassPrediction

NAMES = ["red", "green", "blue"]


class MeanColour(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        nn.init.eye_(self.layer.weight).data.mul_(8)

    def forward(self, image):
        return {"logits": self.layer(image.mean(dim=(2, 3)))}


def transform(*augmentations):
    return A.Compose([A.Resize(8, 8), *augmentations, A.Normalize(0.5, 0.25), A.ToTensorV2()])


@dataclass(kw_only=True)
class Labels(Experiment):
    epochs: int = 3
    check: str = "off"
    lr: float = 0.3
    device: str = "cpu"
    chance: bool = False
    """Whether validation draws by chance too."""

    def get_loaders(self):
        noise = torch.Generator().manual_seed(0)
        items = []
        for index in range(22):
            image = torch.randint(0, 160, (8, 8, 3), generator=noise, dtype=torch.uint8).numpy()
            image[..., index % 3] //= 2
            image[..., index % 3] += 60
            items.append({"image": image, "target": index % 3, "sample_id": index})
        drawn = [A.RandomBrightnessContrast(p=1.0)]
        return {
            "train": self.make_loader(Augmented(items[:12], transform(*drawn)), shuffle=True),
            "valid": self.make_loader(Augmented(items[12:], transform(*(drawn if self.chance else [])))),
        }

    def get_model(self):
        return MeanColour()

    def get_callbacks(self):
        return [Metrics(["accuracy", "f1"], class_names=NAMES)]

    def get_prediction(self):
        return ClassPrediction(class_names=NAMES, transform=transform())
