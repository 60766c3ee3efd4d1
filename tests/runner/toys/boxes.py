"""One bright box on black; a model without weights to speak of that finds its sides."""

from dataclasses import dataclass

import albumentations as A
import torch
from torch import nn

from assay.runner import Experiment, LossTerm
from assay.runner.prediction import BoxPrediction


class Finder(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Parameter(torch.tensor(0.9))

    def forward(self, image):
        return {"score": self.score.expand(len(image)), "found": [self.find(one) for one in image]}

    def find(self, image):
        bright = image.amax(dim=0) > 0.5
        rows, columns = bright.any(dim=1).nonzero()[:, 0], bright.any(dim=0).nonzero()[:, 0]
        sides = [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]] if len(rows) else []
        boxes = torch.tensor([*sides, *([[0, 0, 2, 2]] if len(rows) else [])], dtype=torch.float32).reshape(-1, 4)
        scores = torch.stack([self.score, self.score / 9])[: len(boxes)]
        return {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "scores": scores}


@dataclass(kw_only=True)
class Boxes(Experiment):
    epochs: int = 1
    check: str = "off"
    lr: float = 1e-6
    device: str = "cpu"
    losses = (LossTerm("score"),)

    def get_loaders(self):
        items = [{"image": torch.rand(3, 8, 8), "target": torch.tensor(0.9)} for _ in range(4)]
        return {"train": self.make_loader(items), "valid": self.make_loader(items)}

    def get_criterion(self):
        return nn.MSELoss()

    def get_model(self):
        return Finder()

    def get_prediction(self):
        transform = A.Compose([A.Resize(40, 40, interpolation=0), A.Normalize(0.0, 1.0), A.ToTensorV2()])
        return BoxPrediction(class_names=["nothing", "thing"], transform=transform, output_key="found")
