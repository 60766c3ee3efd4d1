"""Ten kinds of Catalyst projects as their owners write them: stock runners, keys of their own, a line per callback."""

from collections import defaultdict

import torch
import torch.nn.functional as F
from catalyst import dl, metrics
from catalyst.contrib.data import AllTripletsSampler
from catalyst.contrib.losses import TripletMarginLossWithSampler
from catalyst.data import BatchBalanceClassSampler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from assay.callbacks import (
    AugmentationPreview,
    BestWorstBatches,
    BestWorstSamples,
    ClassificationReport,
    ConfusionMatrix,
    Embeddings,
    GradCAM,
    GradientStats,
    HParams,
    Metrics,
    OptimizerMonitor,
    PRCurves,
    PredictionDistribution,
    RecallAtK,
    TimeMonitor,
    regression_diagnostics,
    segmentation_diagnostics,
)

EPOCHS = 2


class Recorder(dl.Callback):
    """Keeps what a runner's batches of the last epoch held, by loader and key."""

    def __init__(self, *keys):
        super().__init__(order=0)
        self.keys = keys
        self.kept = {}

    def on_loader_start(self, runner):
        self.kept[runner.loader_key] = defaultdict(list)

    def on_batch_end(self, runner):
        for key in self.keys:
            self.kept[runner.loader_key][key].append(runner.batch[key].detach().clone())

    def arrays(self):
        return {
            loader: {key: torch.cat(parts).numpy() for key, parts in of_loader.items()}
            for loader, of_loader in self.kept.items()
        }


class Rows(Dataset):
    """Samples as dicts."""

    def __init__(self, **columns):
        self.columns = columns

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index):
        return {name: column[index] for name, column in self.columns.items()}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def both(dataset, batch_size=8):
    return {name: DataLoader(dataset, batch_size=batch_size) for name in ("train", "valid")}


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def outcome(runner, recorder, folder):
    """Return the metrics of the last epoch, what the recorder kept, and the tags by event folder."""
    numbers = {
        loader: {name: float(value) for name, value in values.items()}
        for loader, values in runner.epoch_metrics.items()
    }
    tags = {}
    for path in sorted({file.parent for file in folder.rglob("events.out.tfevents.*")}):
        found = EventAccumulator(str(path)).Reload().Tags()
        tags[path.name] = {*found["images"], *found["tensors"], *found["scalars"], *found["histograms"]}
    return numbers, recorder.arrays(), tags


def linear(folder):
    inputs = noise(40, 4)
    targets = inputs @ torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    model, recorder = seeded(lambda: nn.Linear(4, 1)), Recorder("y_hat", "y")
    runner = dl.SupervisedRunner(input_key="x", output_key="y_hat", target_key="y", loss_key="mse_loss")
    runner.train(
        model=model,
        criterion=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.02),
        loaders=both(TensorDataset(inputs, targets)),
        num_epochs=EPOCHS,
        logdir=str(folder),
        valid_loader="valid",
        valid_metric="mse_loss",
        minimize_valid_metric=True,
        hparams={"lr": 0.02},
        callbacks=[
            recorder,
            HParams("valid/mse_loss"),
            *regression_diagnostics(image_key=None, output_key="y_hat", target_key="y", loss_key="mse_loss"),
        ],
    )
    return outcome(runner, recorder, folder)


def convolutional(channels=6, classes=3):
    body = [nn.Conv2d(1, channels, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(4 * channels, classes))


def classification(folder):
    model, recorder = seeded(convolutional), Recorder("scores_", "cls")
    keys = {"output_key": "scores_", "target_key": "cls"}
    runner = dl.SupervisedRunner(input_key="img", output_key="scores_", target_key="cls", loss_key="ce")
    runner.train(
        model=model,
        criterion=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        loaders=both(TensorDataset(noise(36, 1, 12, 12), torch.arange(36) % 3)),
        num_epochs=EPOCHS,
        logdir=str(folder),
        callbacks=[
            recorder,
            dl.AccuracyCallback(input_key="scores_", target_key="cls", topk=(1, 2), num_classes=3),
            dl.CheckpointCallback(str(folder), loader_key="valid", metric_key="accuracy01", minimize=False, topk=1),
            ConfusionMatrix(num_classes=3, **keys),
            ClassificationReport(num_classes=3, **keys),
            PRCurves(num_classes=3, **keys),
            PredictionDistribution(num_classes=3, **keys),
            BestWorstBatches("ce", image_key="img", **keys),
            BestWorstSamples(image_key="img", **keys),
            GradCAM(image_key="img", **keys),
            AugmentationPreview(image_key="img", target_key="cls"),
            Embeddings(image_key="img", **keys),
        ],
    )
    return outcome(runner, recorder, folder)


def multilabel(folder):
    model, recorder = seeded(lambda: nn.Linear(8, 5)), Recorder("logits", "labels")
    keys = {"task": "multilabel", "num_classes": 5, "output_key": "logits", "target_key": "labels"}
    runner = dl.SupervisedRunner(input_key="features", output_key="logits", target_key="labels", loss_key="bce")
    runner.train(
        model=model,
        criterion=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.05),
        loaders=both(TensorDataset(noise(40, 8), (noise(40, 5, seed=1) > 0).float())),
        num_epochs=EPOCHS,
        logdir=str(folder),
        callbacks=[
            recorder,
            dl.BatchTransformCallback(
                transform=torch.sigmoid, scope="on_batch_end", input_key="logits", output_key="chances"
            ),
            dl.AUCCallback(input_key="chances", target_key="labels"),
            dl.MultilabelAccuracyCallback(input_key="chances", target_key="labels", threshold=0.5),
            Metrics("f1", **keys),
            PRCurves(**keys),
            ConfusionMatrix(**keys),
            ClassificationReport(**keys),
            PredictionDistribution(**keys),
        ],
    )
    return outcome(runner, recorder, folder)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.colour, self.shape = nn.Linear(8, 16), nn.Linear(16, 3), nn.Linear(16, 2)

    def forward(self, inputs):
        hidden = self.body(inputs).relu()
        return self.colour(hidden), self.shape(hidden)


class TwoHeadsRunner(dl.Runner):
    def handle_batch(self, batch):
        colour, shape = self.model(batch["features"])
        self.batch = {**batch, "colour_logits": colour, "shape_logits": shape}


def multihead(folder):
    model = seeded(TwoHeads)
    recorder = Recorder("colour_logits", "colour", "shape_logits", "shape")
    colour = {"num_classes": 3, "output_key": "colour_logits", "target_key": "colour", "prefix": "colour"}
    shape = {"num_classes": 2, "output_key": "shape_logits", "target_key": "shape", "prefix": "shape"}
    runner = TwoHeadsRunner()
    runner.train(
        model=model,
        criterion={"colour": nn.CrossEntropyLoss(), "shape": nn.CrossEntropyLoss()},
        optimizer=torch.optim.Adam(model.parameters(), lr=0.02),
        loaders=both(Rows(features=noise(40, 8), colour=torch.arange(40) % 3, shape=torch.arange(40) % 2)),
        num_epochs=EPOCHS,
        logdir=str(folder),
        callbacks=[
            recorder,
            dl.CriterionCallback("colour_logits", "colour", metric_key="colour_loss", criterion_key="colour"),
            dl.CriterionCallback("shape_logits", "shape", metric_key="shape_loss", criterion_key="shape"),
            dl.MetricAggregationCallback("loss", metrics=["colour_loss", "shape_loss"], mode="mean"),
            dl.BackwardCallback("loss"),
            dl.OptimizerCallback("loss"),
            dl.AccuracyCallback(input_key="colour_logits", target_key="colour", num_classes=3, prefix="stock_"),
            Metrics("accuracy", **colour),
            Metrics("accuracy", **shape),
            ConfusionMatrix(**colour),
            ConfusionMatrix(**shape),
            GradientStats(),
        ],
    )
    return outcome(runner, recorder, folder)


class Autoencoder(nn.Module):
    def __init__(self, code=8):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(64, code), nn.Linear(code, 64)

    def forward(self, images):
        return self.decoder(self.encoder(images.flatten(1)).relu()).view_as(images)


class AutoencoderRunner(dl.Runner):
    def handle_batch(self, batch):
        images, _ = batch
        again = self.model(images)
        self.batch = {"photo": images, "again": again}
        self.batch_metrics.update({"loss": F.mse_loss(again, images)})


def autoencoder(folder):
    model, recorder = seeded(Autoencoder), Recorder("photo", "again")
    keys = {"task": "regression", "output_key": "again", "target_key": "photo"}
    runner = AutoencoderRunner()
    runner.train(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        loaders=both(TensorDataset(noise(30, 1, 8, 8).sigmoid(), torch.zeros(30))),
        num_epochs=EPOCHS,
        logdir=str(folder),
        callbacks=[
            recorder,
            dl.BackwardCallback("loss"),
            dl.OptimizerCallback("loss"),
            Metrics(["mae", "mse"], **keys),
            BestWorstBatches("loss", image_key="photo", output_key="again", target_key="photo", task="regression"),
            BestWorstSamples(reconstruction_error, image_key="photo", output_key="again", target_key="photo"),
            OptimizerMonitor(),
            GradientStats(),
            TimeMonitor(),
        ],
    )
    return outcome(runner, recorder, folder)


def reconstruction_error(batch):
    return (batch["again"] - batch["photo"]).square().mean((1, 2, 3))


class VariationalAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(64, 16), nn.Linear(8, 64)

    def forward(self, images, deterministic=False):
        mean, log_deviation = self.encoder(images.flatten(1)).chunk(2, dim=1)
        code = mean if deterministic else mean + torch.randn_like(mean) * log_deviation.exp()
        return self.decoder(code).sigmoid().view_as(images), mean, log_deviation


class VaeRunner(dl.IRunner):
    """A runner whose project overrides all its getters, as in Catalyst's own example."""

    def __init__(self, folder, recorder):
        super().__init__()
        self.folder, self.recorder = str(folder), recorder

    @property
    def num_epochs(self):
        return EPOCHS

    def get_engine(self):
        return dl.CPUEngine()

    def get_loggers(self):
        return {"console": dl.ConsoleLogger(), "tensorboard": dl.TensorboardLogger(logdir=self.folder)}

    def get_loaders(self):
        return both(TensorDataset(noise(30, 1, 8, 8).sigmoid(), torch.zeros(30)))

    def get_model(self):
        return seeded(VariationalAutoencoder)

    def get_optimizer(self, model):
        return torch.optim.Adam(model.parameters(), lr=0.01)

    def get_callbacks(self):
        return {
            "recorder": self.recorder,
            "backward": dl.BackwardCallback("loss"),
            "optimizer": dl.OptimizerCallback("loss"),
            "checkpoint": dl.CheckpointCallback(
                self.folder, loader_key="valid", metric_key="loss", minimize=True, topk=1
            ),
            "batches": BestWorstBatches("loss_ae", image_key="image", output_key="recon", target_key="image"),
            "samples": BestWorstSamples("error", image_key="image", output_key="recon", target_key="image"),
            "gradients": GradientStats(),
            "rates": OptimizerMonitor(),
        }

    def on_loader_start(self, runner):
        super().on_loader_start(runner)
        self.meters = {name: metrics.AdditiveMetric(compute_on_call=False) for name in ("loss_ae", "loss_kld", "loss")}

    def handle_batch(self, batch):
        images, _ = batch
        recon, mean, log_deviation = self.model(images, deterministic=not self.is_train_loader)
        error = (recon - images).square().mean((1, 2, 3))
        divergence = -0.5 * (1 + 2 * log_deviation - mean**2 - (2 * log_deviation).exp()).mean()
        self.batch = {"image": images, "recon": recon, "error": error}
        self.batch_metrics = {"loss_ae": error.mean(), "loss_kld": divergence, "loss": error.mean() + 0.01 * divergence}
        for name, meter in self.meters.items():
            meter.update(self.batch_metrics[name].item(), self.batch_size)

    def on_loader_end(self, runner):
        for name, meter in self.meters.items():
            self.loader_metrics[name] = meter.compute()[0]
        super().on_loader_end(runner)


def vae(folder):
    recorder = Recorder("image", "recon")
    runner = VaeRunner(folder, recorder)
    runner.run()
    return outcome(runner, recorder, folder)


class GanRunner(dl.Runner):
    def handle_batch(self, batch):
        true, _ = batch
        count = len(true)
        made = self.model["generator"](noise(count, 8, seed=self.batch_step)).detach()
        images = torch.cat([made, true])
        again = self.model["generator"](noise(count, 8, seed=1000 + self.batch_step))
        self.batch = {
            "combined_images": images,
            "labels": torch.cat([torch.ones(count, 1), torch.zeros(count, 1)]),
            "combined_logits": self.model["discriminator"](images),
            "generated_logits": self.model["discriminator"](again),
            "misleading_labels": torch.zeros(count, 1),
        }


def gan(folder):
    def make():
        maker = nn.Sequential(nn.Linear(8, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))
        return {"generator": maker, "discriminator": nn.Sequential(nn.Flatten(), nn.Linear(64, 1))}

    models, recorder = seeded(make), Recorder("combined_logits", "labels")
    keys = {"task": "binary", "output_key": "combined_logits", "target_key": "labels"}
    runner = GanRunner()
    runner.train(
        model=models,
        criterion={name: nn.BCEWithLogitsLoss() for name in models},
        optimizer={name: torch.optim.Adam(model.parameters(), lr=0.01) for name, model in models.items()},
        loaders={"train": DataLoader(TensorDataset(noise(30, 1, 8, 8).sigmoid(), torch.zeros(30)), batch_size=8)},
        num_epochs=EPOCHS,
        logdir=str(folder),
        callbacks=[
            recorder,
            dl.CriterionCallback(
                "combined_logits", "labels", metric_key="loss_discriminator", criterion_key="discriminator"
            ),
            dl.BackwardCallback("loss_discriminator"),
            dl.OptimizerCallback("loss_discriminator", optimizer_key="discriminator"),
            dl.CriterionCallback(
                "generated_logits", "misleading_labels", metric_key="loss_generator", criterion_key="generator"
            ),
            dl.BackwardCallback("loss_generator"),
            dl.OptimizerCallback("loss_generator", optimizer_key="generator"),
            BestWorstBatches("loss_discriminator", image_key="combined_images", criterion_key="discriminator", **keys),
            Metrics(["accuracy", "f1"], **keys),
            PredictionDistribution(**keys),
            ConfusionMatrix(**keys),
            GradientStats(),
            OptimizerMonitor(),
        ],
    )
    return outcome(runner, recorder, folder)


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 6)

    def forward(self, images):
        return F.normalize(self.layer(images.flatten(1)), dim=1)


def metric_learning(folder):
    classes = torch.arange(40) % 4
    rows = Rows(features=noise(40, 1, 8, 8) + classes[:, None, None, None], targets=classes)
    sampler = BatchBalanceClassSampler(labels=classes.tolist(), num_classes=4, num_samples=3, num_batches=3)
    model, recorder = seeded(Embedder), Recorder("embeddings", "targets")
    runner = dl.SupervisedRunner(input_key="features", output_key="embeddings", target_key="targets")
    runner.train(
        model=model,
        criterion=TripletMarginLossWithSampler(margin=0.5, sampler_inbatch=AllTripletsSampler()),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        loaders={"train": DataLoader(rows, batch_sampler=sampler), "valid": DataLoader(rows, batch_size=10)},
        num_epochs=EPOCHS,
        logdir=str(folder),
        callbacks=[
            recorder,
            RecallAtK([1, 5], embedding_key="embeddings", target_key="targets"),
            BestWorstBatches("loss", image_key="features", output_key="embeddings", target_key="targets"),
            Embeddings(embedding_key="embeddings", image_key="features", output_key="embeddings", target_key="targets"),
            GradientStats(),
        ],
    )
    return outcome(runner, recorder, folder)


class DistillRunner(dl.Runner):
    def handle_batch(self, batch):
        images, classes = batch
        with torch.no_grad():
            taught = self.model["teacher"](images)
        logits = self.model["student"](images)
        self.batch = {
            "images": images,
            "classes": classes,
            "s_logits": logits,
            "s_logprobs": F.log_softmax(logits, dim=-1),
            "t_probs": taught.softmax(dim=-1),
        }


def distillation(folder):
    models = seeded(lambda: {"teacher": convolutional(8), "student": convolutional(2)})
    recorder = Recorder("s_logits", "classes")
    keys = {"output_key": "s_logits", "target_key": "classes"}
    runner = DistillRunner()
    runner.train(
        model=models,
        criterion={"cls": nn.CrossEntropyLoss(), "kl": nn.KLDivLoss(reduction="batchmean")},
        optimizer=torch.optim.Adam(models["student"].parameters(), lr=0.01),
        loaders=both(TensorDataset(noise(36, 1, 12, 12), torch.arange(36) % 3)),
        num_epochs=EPOCHS,
        logdir=str(folder),
        callbacks=[
            recorder,
            dl.CriterionCallback("s_logits", "classes", metric_key="cls_loss", criterion_key="cls"),
            dl.CriterionCallback("s_logprobs", "t_probs", metric_key="kl_loss", criterion_key="kl"),
            dl.MetricAggregationCallback("loss", metrics=["kl_loss", "cls_loss"], mode="mean"),
            dl.BackwardCallback("loss"),
            dl.OptimizerCallback("loss"),
            Metrics("accuracy", num_classes=3, **keys),
            GradCAM(model="student", criterion_key="cls", image_key="images", **keys),
            BestWorstSamples(criterion_key="cls", image_key="images", **keys),
            ConfusionMatrix(num_classes=3, **keys),
            GradientStats(),
            OptimizerMonitor(),
        ],
    )
    return outcome(runner, recorder, folder)


def segmentation(folder):
    images = noise(14, 3, 16, 16)
    rows = Rows(photo=images, area=(images[:, :1] > 0).float())
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1)))
    recorder = Recorder("area_logits", "area")
    runner = dl.SupervisedRunner(input_key="photo", output_key="area_logits", target_key="area", loss_key="bce")
    runner.train(
        model=model,
        criterion=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.05),
        loaders=both(rows, batch_size=4),
        num_epochs=EPOCHS,
        logdir=str(folder),
        callbacks=[
            recorder,
            dl.IOUCallback(input_key="area_logits", target_key="area", prefix="stock_"),
            *segmentation_diagnostics(
                task="binary", image_key="photo", target_key="area", output_key="area_logits", loss_key="bce"
            ),
        ],
    )
    return outcome(runner, recorder, folder)
