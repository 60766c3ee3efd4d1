"""Healthy trainings of many kinds, in which nothing is to be warned of."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, WeightedRandomSampler

from assay.callbacks import Metrics
from assay.experiments.digits import Digits
from assay.runner import Experiment, LossTerm
from assay.runner.commands.train import train

from . import bases, pictures, stock
from .case import Case, accuracy, adam, flip, normalize, sgd
from .nets import Autoencoder, Cnn, Embedding, Plain, Rows, UNet, Vit

HEALTHY = {}


def healthy(name, *, quick=False):
    """Register a function that makes a healthy training."""

    def register(make):
        HEALTHY[name] = (make, quick)
        return make

    return register


for _name, _base in {
    "CNN": bases.cnn, "CNN without normalization": bases.plain, "MLP": bases.mlp, "ViT": bases.vit,
    "binary with one output": bases.binary, "several labels": bases.tags, "regression": bases.regression,
    "two heads": bases.two_heads, "segmentation": bases.segmentation, "binary segmentation": bases.discs,
    "detection": bases.detection, "stock SupervisedRunner": stock.supervised, "stock handle_batch": stock.own_runner,
    "stock GAN": stock.gan, "stock IterableDataset": stock.stream, "stock autoencoder": stock.autoencoder,
}.items():  # fmt: skip
    healthy(_name, quick=_name in ("CNN", "ViT", "several labels", "segmentation", "detection", "stock GAN"))(_base)


def group_norm(channels):
    return nn.GroupNorm(4, channels)


@healthy("GroupNorm", quick=True)
def _():
    case = bases.cnn()
    case.model = lambda: Cnn(norm=group_norm)
    return case


@healthy("batches of one sample with GroupNorm")
def _():
    case = bases.cnn()
    case.model, case.batch_size, case.train = lambda: Cnn(norm=group_norm), 1, case.train[:120]
    case.optimizer = lambda model: adam(model, lr=5e-4)
    return case


def trained():
    """Return a net that has learned to tell the classes."""
    torch.manual_seed(0)
    model = Cnn()
    optimizer = adam(model, 1e-2)
    images = torch.stack([normalize(item)["image"] for item in pictures.classes(240, seed=40)])
    targets = torch.tensor([item["target"] for item in pictures.classes(240, seed=40)])
    for _ in range(6):
        for part in torch.randperm(240).split(24):
            optimizer.zero_grad()
            F.cross_entropy(model(images[part])["logits"], targets[part]).backward()
            optimizer.step()
    return model


@healthy("fine-tuning with a backbone that is frozen on purpose", quick=True)
def _():
    def tuned():
        model = trained()
        model.body.requires_grad_(False)
        model.head = nn.Linear(32, 6)
        return model

    case = bases.cnn()
    case.model = tuned
    case.optimizer = lambda model: adam(model.head, 1e-2)
    return case


@healthy("fine-tuning with a backbone in evaluation mode")
def _():
    class Tuned(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = trained().body.requires_grad_(False)
            self.head = nn.Linear(32, 6)

        def train(self, mode=True):
            super().train(mode)
            self.backbone.eval()
            return self

        def forward(self, image):
            return {"logits": self.head(self.backbone(image).mean((2, 3)))}

    case = bases.cnn()
    case.model, case.optimizer = Tuned, lambda model: adam(model.head, 1e-2)
    return case


@healthy("a class that is five times rarer")
def _():
    shares = (0.2, 0.2, 0.2, 0.18, 0.18, 0.04)
    case = bases.cnn()
    case.train, case.valid = pictures.classes(300, seed=3, shares=shares), pictures.classes(120, seed=4, shares=shares)
    return case


@healthy("rare classes are drawn more often")
def _():
    case = bases.cnn()
    case.train = pictures.classes(300, seed=3, shares=(0.3, 0.25, 0.2, 0.1, 0.1, 0.05))
    counts = np.bincount([item["target"] for item in case.train])
    weights = [1 / counts[item["target"]] for item in case.train]
    case.loader_options = {"sampler": WeightedRandomSampler(weights, len(weights))}
    return case


@healthy("class weights for rare classes")
def _():
    case = bases.cnn()
    case.train = pictures.classes(300, seed=3, shares=(0.3, 0.25, 0.2, 0.1, 0.1, 0.05))
    counts = np.bincount([item["target"] for item in case.train])
    case.criterion = nn.CrossEntropyLoss(torch.tensor(counts.mean() / counts, dtype=torch.float32))
    return case


@healthy("label smoothing")
def _():
    case = bases.mlp()
    case.criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    return case


class BatchWise(nn.Module):
    """Pulls samples of one class together and others apart, within a batch."""

    def forward(self, embedding, target):
        alike = embedding @ embedding.T / 0.2
        alike = alike - 1e4 * torch.eye(len(target))
        same = (target[:, None] == target) & ~torch.eye(len(target), dtype=torch.bool)
        log = alike.log_softmax(1)
        return -(log * same).sum() / same.sum().clamp(min=1)


@healthy("a loss that compares the samples of a batch", quick=True)
def _():
    case = bases.cnn()
    case.model, case.criterion = Embedding, BatchWise()
    case.losses, case.callbacks = [LossTerm("embedding")], list
    case.batch_size = 24
    return case


class Pairs(nn.Module):
    """Contrasts two views of each image with those of the others in the batch."""

    def __init__(self):
        super().__init__()
        self.net = Embedding()

    def forward(self, image, other):
        one, two = self.net(image)["embedding"], self.net(other)["embedding"]
        return {"alike": one @ two.T / 0.1}


@healthy("contrastive learning of two views")
def _():
    def two_views(item):
        noisy = np.clip(item["image"] + np.random.normal(0, 10, item["image"].shape), 0, 255)
        other = {"image": np.ascontiguousarray(noisy[:, ::-1])}
        return {**normalize(item), "other": normalize(other)["image"]}

    def contrast(alike, target):
        return F.cross_entropy(alike, torch.arange(len(alike)))

    case = bases.cnn()
    case.prepare = [two_views]
    case.model, case.criterion = Pairs, contrast
    case.losses, case.callbacks = [LossTerm("alike")], list
    case.options = {"input_key": ("image", "other")}
    return case


class Triplets(nn.Module):
    """Triplet loss with the hardest samples of a batch."""

    def forward(self, embedding, target):
        far = torch.cdist(embedding, embedding)
        same = target[:, None] == target
        hardest = (far * same).amax(1)
        nearest = (far + 10 * same).amin(1)
        return F.relu(hardest - nearest + 0.3).mean()


@healthy("metric learning by triplets")
def _():
    case = bases.cnn()
    case.model, case.criterion, case.losses = Embedding, Triplets(), [LossTerm("embedding")]
    case.callbacks, case.batch_size = list, 24
    return case


@healthy("autoencoder", quick=True)
def _():
    case = bases.cnn()
    case.prepare = [normalize, lambda item: {**item, "target": item["image"]}]
    case.model, case.criterion = Autoencoder, nn.MSELoss()
    case.losses, case.callbacks, case.augment = [LossTerm("picture")], list, []
    return case


@healthy("warm-up and cosine")
def _():
    case = bases.vit()

    def schedule(optimizer, steps):
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, steps)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3 * steps)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], [steps])

    case.scheduler, case.options, case.epochs = schedule, {"scheduler_step": "batch"}, 4
    return case


@healthy("accumulation of gradients")
def _():
    case = bases.cnn()
    case.options, case.batch_size = {"accumulate_steps": 4}, 8
    return case


@healthy("moving average of weights")
def _():
    case = bases.cnn()
    case.options = {"ema_decay": 0.9}
    return case


@healthy("moving average with a high decay that rises from 0")
def _():
    case = bases.cnn()
    case.options, case.epochs = {"ema_decay": 0.9999}, 3
    return case


@healthy("a head that learns a hundred times faster than a trained backbone")
def _():
    def tuned():
        model = trained()
        model.head = nn.Linear(32, 6)
        return model

    case = bases.cnn()
    case.model = tuned
    case.optimizer = lambda model: torch.optim.AdamW(
        [{"params": model.body.parameters(), "lr": 1e-4}, {"params": model.head.parameters()}], 1e-2
    )
    return case


@healthy("a trial of a schedule for many epochs")
def _():
    case = bases.cnn()
    case.scheduler = lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    return case


def heavy(item):
    """Mirror, shift, darken, recolour and cover parts of an image."""
    image = flip(item)["image"].astype(np.float32) * np.random.uniform(0.6, 1.3)
    image = np.roll(image, np.random.randint(-4, 5, 2), (0, 1)) * np.random.uniform(0.8, 1.2, 3)
    top, left = np.random.randint(0, 16, 2)
    image[top : top + 8, left : left + 8] = 110
    return {**item, "image": np.clip(image, 0, 255).astype(np.uint8)}


@healthy("heavy augmentation", quick=True)
def _():
    case = bases.cnn()
    case.augment, case.epochs = [heavy], 3
    return case


def mixup(items):
    """Mix each image of a batch with another, and their labels."""
    batch = torch.utils.data.default_collate(items)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    order = torch.randperm(len(items))
    soft = F.one_hot(batch["target"], 6).float()
    return {
        **batch, "image": share * batch["image"] + (1 - share) * batch["image"][order],
        "target": share * soft + (1 - share) * soft[order],
    }  # fmt: skip


@healthy("MixUp")
def _():
    case = bases.cnn()
    make = case.loaders

    def loaders():
        both = make()
        return {**both, "train": DataLoader(both["train"].dataset, 16, shuffle=True, collate_fn=mixup)}

    case.loaders, case.callbacks = loaders, list
    return case


@healthy("forty samples of two classes")
def _():
    return Case(
        pictures.classes(40, kinds=2), pictures.classes(24, seed=1, kinds=2), lambda: Cnn(2), batch_size=8, epochs=3,
        callbacks=accuracy(2),
    )  # fmt: skip


class Ordinal(nn.Module):
    """Asks of each class but the last whether the target is beyond it."""

    def forward(self, output, target):
        beyond = (target[:, None] > torch.arange(output.shape[1])).float()
        return F.binary_cross_entropy_with_logits(output, beyond)


@healthy("ordinal classes")
def _():
    def graded(items):
        return [{**item, "target": int(item["target"] * 3.999)} for item in items]

    return Case(
        graded(pictures.ages(200)), graded(pictures.ages(64, seed=1)), lambda: Cnn(3), Ordinal(), callbacks=list,
        augment=[flip],
    )  # fmt: skip


class Student(nn.Module):
    """Learns from a teacher that does not train."""

    def __init__(self):
        super().__init__()
        self.student = Cnn(width=8)
        self.teacher = trained().requires_grad_(False).eval()

    def train(self, mode=True):
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, image):
        with torch.no_grad():
            taught = self.teacher(image)["logits"].softmax(1)
        return {"logits": self.student(image)["logits"], "taught": taught}


def distil(output, target):
    return F.kl_div(output.log_softmax(1), target, reduction="batchmean")


@healthy("distillation from a frozen teacher", quick=True)
def _():
    case = bases.cnn()
    case.model = Student
    case.criterion = {"labels": nn.CrossEntropyLoss(), "teacher": distil}
    case.losses = [LossTerm("logits", "target", "labels"), LossTerm("logits", "taught", "teacher", weight=2.0)]
    case.optimizer = lambda model: adam(model.student)
    return case


@healthy("LSTM over the rows of images")
def _():
    case = bases.mlp()
    case.model, case.optimizer = Rows, lambda model: adam(model, 5e-3)
    return case


@healthy("a transformer with LayerScale")
def _():
    case = bases.vit()
    case.model = lambda: Vit(scale=1e-4)
    case.optimizer = lambda model: torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
    return case


@healthy("SGD with a high rate that suits")
def _():
    case = bases.cnn()
    case.optimizer = lambda model: sgd(model, lr=0.2, weight_decay=5e-4)
    return case


@healthy("images from 0 to 1 without a normalization")
def _():
    def unit(item):
        return {**item, "image": torch.from_numpy(item["image"].astype(np.float32) / 255).permute(2, 0, 1)}

    case = bases.cnn()
    case.prepare = [unit]
    return case


@healthy("real digits, in grey", quick=True)
def _():
    data = load_digits()
    images = torch.from_numpy((data.images[:500, None] - 4.9) / 6).float()
    items = [
        {"image": image, "target": int(target), "sample_id": f"digit-{index}"}
        for index, (image, target) in enumerate(zip(images, data.target, strict=False))
    ]
    chosen = [index % 5 == 0 for index in range(500)]
    train = [item for item, out in zip(items, chosen, strict=True) if not out]
    valid = [item for item, out in zip(items, chosen, strict=True) if out]
    return Case(train, valid, lambda: Cnn(10, channels=1), prepare=[], callbacks=accuracy(10))


@healthy("images of five channels")
def _():
    def more(item):
        image = normalize(item)["image"]
        return {**item, "image": torch.cat([image, image[:2].mean(0, keepdim=True), image[1:2] - image[2:]])}

    case = bases.cnn()
    case.prepare, case.model, case.augment = [more], lambda: Cnn(channels=5), []
    return case


@healthy("masks with void that the loss ignores")
def _():
    def void(item):
        mask = item["mask"].astype(np.int64)
        mask[:2] = 255
        return {**item, "mask": torch.from_numpy(mask)}

    case = bases.segmentation()
    case.prepare, case.criterion = [normalize, void], nn.CrossEntropyLoss(ignore_index=255)
    case.losses = [LossTerm("logits", "mask", count=lambda mask: (mask != 255).sum())]
    case.callbacks = lambda: [Metrics(["iou"], num_classes=3, target_key="mask", ignore_index=255)]
    return case


def dice(output, target):
    """Return one minus the overlap of classes."""
    probability = output.softmax(1)
    truth = F.one_hot(target, 3).permute(0, 3, 1, 2)
    shared, both = (probability * truth).sum((0, 2, 3)), (probability + truth).sum((0, 2, 3))
    return 1 - ((2 * shared + 1) / (both + 1)).mean()


@healthy("Dice beside cross entropy")
def _():
    case = bases.segmentation()
    case.criterion = {"entropy": nn.CrossEntropyLoss(), "dice": dice}
    case.losses = [LossTerm("logits", "mask", "entropy"), LossTerm("logits", "mask", "dice", weight=0.5)]
    return case


@healthy("segmentation with GroupNorm and rare objects")
def _():
    case = bases.segmentation()
    case.model = lambda: UNet(norm=group_norm)
    return case


@healthy("dropout of a half and weight decay")
def _():
    case = bases.cnn()
    case.model = lambda: Cnn(dropout=0.5)
    case.optimizer = lambda model: torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    return case


@healthy("clipped gradients")
def _():
    case = bases.vit()
    case.options = {"clip_grad_norm": 1.0}
    return case


@healthy("one cycle")
def _():
    case = bases.plain()
    case.scheduler = lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 5e-3, total_steps=3 * steps
    )
    case.options, case.epochs = {"scheduler_step": "batch"}, 3
    return case


@healthy("regression of numbers in the thousands that are scaled")
def _():
    def scaled(items):
        return [{**item, "target": np.float32((item["target"] - 0.5) / 0.29)} for item in items]

    case = bases.regression()
    case.train, case.valid = scaled(case.train), scaled(case.valid)
    case.criterion = nn.SmoothL1Loss()
    return case


@healthy("a deep net without normalization that is scaled well")
def _():
    def deep():
        model = Plain(depth=6)
        for layer in model.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        return model

    case = bases.plain()
    case.model, case.optimizer = deep, lambda model: adam(model, 1e-3)
    return case


@healthy("two batches of an epoch are small, and the last is left out")
def _():
    case = bases.cnn()
    case.loader_options, case.batch_size = {"drop_last": True}, 32
    return case


@healthy("workers that draw each for itself")
def _():
    case = bases.cnn()
    case.augment, case.loader_options = [heavy], {"num_workers": 2}
    return case


@healthy("digits in red")
def _():
    def red(item):
        grey = normalize(item, np.float32(0), np.float32(1))["image"].mean(0)
        image = torch.zeros(3, *grey.shape)
        image[0] = (grey - grey.quantile(0.6)).clamp(min=0)
        return {**item, "image": image}

    case = bases.cnn()
    case.prepare = [red]
    return case


@healthy("validation at night")
def _():
    def night(item):
        return {**item, "image": (item["image"] * np.array([0.4, 0.35, 0.3])).astype(np.uint8)}

    case = bases.cnn()
    case.prepare_valid = [night, *case.prepare]
    return case


@healthy("each image is standardized by itself")
def _():
    def standardize(item):
        image = normalize(item)["image"]
        return {**item, "image": (image - image.mean()) / image.std()}

    case = bases.vit()
    case.prepare = [standardize]
    return case


@healthy("a margin within a model that is given the target")
def _():
    class ArcFace(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Cnn(32, key="embedding")
            self.weight = nn.Parameter(torch.randn(6, 32))

        def forward(self, image, target):
            cosine = F.linear(F.normalize(self.body(image)["embedding"]), F.normalize(self.weight)).clamp(-0.999, 0.999)
            own = F.one_hot(target, 6).bool()
            return {"logits": 30 * torch.where(own, (cosine.acos() + 0.3).cos(), cosine)}

    case = bases.cnn()
    case.model, case.options, case.callbacks = ArcFace, {"input_key": ("image", "target")}, list
    return case


def counts(count, seed=0):
    """Return pictures of one to six dots, whose target is how many."""
    chance, items = np.random.default_rng(seed), []
    for index in range(count):
        image, number = 20 * chance.random((24, 24, 3)), int(chance.integers(1, 7))
        for row, column in chance.integers(0, 21, (number, 2)):
            image[row : row + 3, column : column + 3] += 110
        items.append({"image": image.clip(0, 255).astype(np.uint8), "target": np.float32(number), "sample_id": index})
    return items


@healthy("counts by a Poisson loss")
def _():
    case = bases.regression()
    case.train, case.valid, case.criterion = counts(200), counts(64, seed=1), nn.PoissonNLLLoss()
    return case


@healthy("a sigmoid before a loss of probabilities")
def _():
    class Sure(bases.SingleLogit):
        def forward(self, image):
            return {"logits": super().forward(image)["logits"].sigmoid()}

    case = bases.binary()
    case.model, case.criterion, case.callbacks = Sure, nn.BCELoss(), list
    return case


def contrast(distance, target):
    """Draw alike pictures together, and others apart up to a distance of 1."""
    return (target * distance**2 + (1 - target) * F.relu(1 - distance) ** 2).mean()


@healthy("distances of pairs", quick=True)
def _():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Cnn(16, key="embedding")

        def forward(self, image, other):
            return {"distance": (self.net(image)["embedding"] - self.net(other)["embedding"]).norm(dim=1)}

    def paired(items):
        pairs = [(one, items[(7 * index) % len(items)]) for index, one in enumerate(items)]
        return [
            {**one, "other": other["image"], "target": np.float32(one["target"] == other["target"])}
            for one, other in pairs
        ]

    def both(item):
        return {**normalize(item), "other": normalize({"image": item["other"]})["image"]}

    return Case(
        paired(pictures.classes(200, kinds=2)), paired(pictures.classes(64, seed=1, kinds=2)), Siamese, contrast,
        prepare=[both], losses=[LossTerm("distance")], options={"input_key": ("image", "other")},
    )  # fmt: skip


@healthy("frozen layers without a normalization that were trained before", quick=True)
def _():
    def tuned():
        model = Plain()
        optimizer = adam(model, 2e-3)
        images = torch.stack([normalize(item)["image"] for item in pictures.classes(120, seed=40)])
        targets = torch.tensor([item["target"] for item in pictures.classes(120, seed=40)])
        for part in torch.arange(120).split(12):
            optimizer.zero_grad()
            F.cross_entropy(model(images[part])["logits"], targets[part]).backward()
            optimizer.step()
        model.body.requires_grad_(False)
        model.head = nn.Linear(256, 6)
        return model

    case = bases.plain()
    case.model, case.optimizer = tuned, lambda model: adam(model.head, 5e-3)
    return case


def drawings(count, seed=0):
    """Return drawings in grey of a bar at one of some places, upright or flat, or of nothing."""
    chance, items = np.random.default_rng(seed), []
    for index in range(count):
        kind = int(chance.integers(3))
        image, (row, column) = np.zeros((1, 24, 24), np.float32), chance.integers(0, 15, 2)
        if kind:
            high, wide = ((8, 3), (3, 8))[kind - 1]
            image[0, row : row + high, column : column + wide] = chance.uniform(0.4, 1)
        items.append({"image": torch.from_numpy(image), "target": kind, "sample_id": f"{seed}-{index}"})
    return items


@healthy("drawings that come again by chance, and a class that shows nothing", quick=True)
def _():
    return Case(drawings(240), drawings(80, seed=1), lambda: Cnn(3, channels=1), prepare=[], callbacks=accuracy(3))


@healthy("noise that goes below black")
def _():
    def unit(item):
        return {**item, "image": torch.from_numpy(item["image"].astype(np.float32) / 255).permute(2, 0, 1)}

    def noisy(item):
        return {**item, "image": item["image"] + 0.12 * torch.randn(3, 24, 24)}

    case = bases.cnn()
    case.prepare, case.prepare_valid = [unit, noisy], [unit]
    return case


def experiment(make):
    """Return a case that ``assay train`` runs, with the findings in the place of its own."""

    def start(case, findings):
        described = make()
        brought = described.get_callbacks
        described.get_callbacks = lambda: [findings, *brought()]
        with tempfile.TemporaryDirectory() as folder:
            train(described, name="healthy", run_dir=Path(folder) / "run")

    return Case([], [], Cnn, start=start)


@healthy("the experiment digits")
def _():
    return experiment(lambda: Digits(epochs=1, device="cpu", diagnostics="off"))


@dataclass(kw_only=True)
class Blobs(Experiment):
    """Tells noise by its brightness."""

    epochs: int = 2
    samples: int = 256
    """How many images to make."""

    def get_loaders(self):
        targets = torch.arange(self.samples) % 2
        images = torch.rand(self.samples, 1, 16, 16) * 0.5 + 0.4 * targets[:, None, None, None]
        items = [
            {"image": image, "target": target, "sample_id": f"blob-{index}"}
            for index, (image, target) in enumerate(zip(images, targets, strict=True))
        ]
        half = self.samples // 2
        return {"train": self.make_loader(items[:half], shuffle=True), "valid": self.make_loader(items[half:])}

    def get_model(self):
        return Blob()

    def get_callbacks(self):
        return [Metrics(["accuracy"], num_classes=2)]


class Blob(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 2))

    def forward(self, image):
        return {"logits": self.layers(image)}


@healthy("an experiment of one's own", quick=True)
def _():
    return experiment(lambda: Blobs(batch_size=16, device="cpu"))
