"""Rules on models, of nets that are observed in a live run: healthy ones give no finding, planted faults are named."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from catalyst import dl
from made_runs import observe_model
from torch import nn

from assay.callbacks.findings.observe.settings.settings import observe_settings
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.probe.rule import examine
from assay.callbacks.findings.rules import all_rules

RULES = [rule for rule in all_rules() if ".rules.model." in rule.find.__module__]


class Observed(Exception):
    """Ends a run once it was observed."""


class Observer(dl.Callback):
    def __init__(self, batch):
        super().__init__(order=1000)
        self.batch = batch

    def on_experiment_start(self, runner):
        settings = observe_settings(runner)
        batches = {"train": [self.batch], "valid": [self.batch]}
        self.probe = Probe(settings=settings, model=observe_model(runner, batches, settings))
        raise Observed


def examined(model, batch=None, optimizer=None, criterion=None):
    """Return the findings on a model, as (severity, rule, sentence)."""
    batch = images() if batch is None else batch
    observer = Observer(batch)
    trained = [it for it in model.parameters() if it.requires_grad]
    runner = dl.SupervisedRunner(input_key="x", output_key="logits", target_key="y", loss_key="loss")
    with pytest.raises(Observed):
        runner.train(
            model=model,
            criterion=criterion or nn.CrossEntropyLoss(),
            optimizer=optimizer or torch.optim.Adam(trained),
            loaders={"train": [batch], "valid": [batch]},
            num_epochs=1,
            callbacks=[observer],
            engine=dl.CPUEngine(),
        )
    assert observer.probe.model is not None
    return [(it.severity, it.rule, it.sentence) for it in examine(RULES, observer.probe).findings]


def images(count=8, side=32):
    return {"x": torch.randn(count, 3, side, side), "y": torch.arange(count) % 10}


def mlp(activation=nn.ReLU, depth=3, width=64):
    hidden = [part for _ in range(depth - 2) for part in (nn.Linear(width, width), activation())]
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, width), activation(), *hidden, nn.Linear(width, 10))


def cnn(normalization=nn.BatchNorm2d):
    parts = []
    for given, channels in ((3, 16), (16, 32), (32, 64)):
        parts += [nn.Conv2d(given, channels, 3, padding=1), normalization(channels), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def resnet(**options):
    return torchvision.models.resnet18(num_classes=10, **options)


def zero_head():
    model = mlp()
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    return model


class Scaled(nn.Module):
    """Residual blocks whose branches begin next to 0, as LayerScale and ReZero do."""

    def __init__(self, scale, blocks=6):
        super().__init__()
        self.stem = nn.Linear(3072, 64)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64), nn.GELU()) for _ in range(blocks)
        )
        self.scales = nn.ParameterList(nn.Parameter(torch.full((64,), scale)) for _ in range(blocks))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = self.stem(x.flatten(1))
        for block, scale in zip(self.blocks, self.scales, strict=True):
            x = x + scale * block(x)
        return self.head(x)


class Tokens(nn.Module):
    """A small transformer over the rows of an image."""

    def __init__(self, batch_first=True):
        super().__init__()
        self.embed = nn.Linear(96, 32)
        self.position = nn.Parameter(torch.zeros(1, 32, 32))
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=batch_first)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.embed(x.transpose(1, 2).flatten(2)) + self.position
        return self.head(self.layer(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(96, 32, 2, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.cells(x.transpose(1, 2).flatten(2))[0][:, -1])


def weight_normed():
    normed = nn.utils.parametrizations.weight_norm
    return nn.Sequential(nn.Flatten(), normed(nn.Linear(3072, 64)), nn.ReLU(), normed(nn.Linear(64, 10)))


def spectral():
    normed = nn.utils.parametrizations.spectral_norm
    first, second = normed(nn.Conv2d(3, 32, 4, 2, 1)), normed(nn.Conv2d(32, 64, 4, 2, 1))
    return nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4096, 10))


HEALTHY = {
    "mlp": mlp,
    "mlp of tanh": lambda: mlp(nn.Tanh, 6),
    "mlp of sigmoid": lambda: mlp(nn.Sigmoid, 4),
    "mlp of eight layers": lambda: mlp(nn.ReLU, 8),
    "cnn": cnn,
    "cnn without normalization": lambda: cnn(nn.Identity),
    "cnn with groups": lambda: cnn(lambda channels: nn.GroupNorm(8, channels)),
    "cnn with instances": lambda: cnn(nn.InstanceNorm2d),
    "resnet": resnet,
    "resnet whose branches begin at 0": lambda: resnet(zero_init_residual=True),
    "mobilenet": lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
    "head at 0": zero_head,
    "layer scale": lambda: Scaled(1e-6),
    "rezero": lambda: Scaled(0.0),
    "transformer": Tokens,
    "lstm": Recurrent,
    "weight norm": weight_normed,
    "spectral norm": spectral,
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_healthy_net_as_it_is_initialized_gives_no_finding(name, seed):
    torch.manual_seed(seed)
    assert examined(HEALTHY[name]()) == []


def test_a_healthy_net_on_images_of_0_to_1_gives_no_finding():
    torch.manual_seed(0)
    batch = {"x": torch.rand(8, 3, 32, 32), "y": torch.arange(8)}
    assert examined(cnn(nn.Identity), batch) == []


def each_layer(change):
    """Return a change to each convolution and linear layer of a model."""

    def changed(model):
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    change(layer)
        return model

    return changed


class Broken(nn.Module):
    """A net of three linear layers with a fault in its forward pass."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.first, self.second, self.head = nn.Linear(3072, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.extra = nn.ModuleList() if fault != "plain" else [nn.Linear(64, 64)]

    def forward(self, x):
        x = F.relu(self.first(x.flatten(1)))
        if self.fault == "plain":
            x = self.extra[0](x)
        if self.fault == "detached":
            x = x.detach()
        if self.fault == "over the batch":
            x = x * x.softmax(0)
        if self.fault != "unused":
            x = F.relu(self.second(x))
        if self.fault == "late" and not hasattr(self, "late"):
            self.late = nn.Linear(64, 64)
        x = self.late(x) if self.fault == "late" else x
        return self.head(x * 0 if self.fault == "constant" else x)


class Evaluated(nn.Sequential):
    """Layers that stay in evaluation mode."""

    def train(self, mode=True):
        return super().train(False)


FAULTS = {
    "weights of 3": (lambda: each_layer(lambda it: nn.init.normal_(it.weight, std=3))(cnn()), "large-weights", "'8'"),
    "tiny weights": (
        lambda: each_layer(lambda it: nn.init.normal_(it.weight, std=1e-4))(cnn(nn.Identity)), "small-weights", "'4'"),
    "zeros": (lambda: each_layer(lambda it: nn.init.zeros_(it.weight))(cnn()), "zero-weights", "4 layers"),
    "constant": (
        lambda: each_layer(lambda it: nn.init.constant_(it.weight, 0.1))(cnn()), "symmetric-weights", "0.1 everywhere"),
    "dead": (
        lambda: each_layer(lambda it: nn.init.constant_(it.bias, -10))(cnn(nn.Identity)), "dead-units", "'2'"),
    "deep sigmoids": (lambda: mlp(nn.Sigmoid, 10), "vanishing-signal", "the gradient vanishes"),
    "momentum": (lambda: cnn(lambda it: nn.BatchNorm2d(it, momentum=0.99)), "norm-momentum", "momentum 0.99"),
    "no statistics": (
        lambda: cnn(lambda it: nn.BatchNorm2d(it, track_running_stats=False)), "no-running-stats", "'1', '5' and '9'"),
    "dropout": (lambda: mlp().insert(3, nn.Dropout(0.95)), "heavy-dropout", "p=0.95"),
    "evaluation": (lambda: Evaluated(*cnn()), "evaluation-mode", "whole model"),
    "plain list": (lambda: Broken("plain"), "unregistered-modules", "'extra[0]'"),
    "detached": (lambda: Broken("detached"), "detached-branch", "'first'"),
    "softmax over the batch": (lambda: Broken("over the batch"), "leaking-samples", "'logits'"),
    "unused": (lambda: Broken("unused"), "unused-modules", "'second'"),
    "late": (lambda: Broken("late"), "late-parameters", "'late'"),
    "constant output": (lambda: Broken("constant"), "constant-output", "'logits'"),
    "batch over axis 1": (lambda: Tokens(batch_first=False), "leaking-samples", "batch_first"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_by_its_rule_alone(name):
    torch.manual_seed(0)
    make, rule, place = FAULTS[name]
    (finding,) = examined(make())
    assert finding[1] == rule
    assert place in finding[2]


def test_what_is_frozen_at_random_is_named_and_what_was_trained_is_not():
    torch.manual_seed(0)
    model = resnet()
    model.requires_grad_(False)
    model.fc = nn.Linear(512, 10)
    ((severity, rule, sentence),) = examined(model)
    assert (severity, rule) == ("warning", "frozen-at-random")
    assert "'conv1', 'layer1', 'layer2'" in sentence
    for _ in range(2):
        model.train()(torch.randn(8, 3, 32, 32))  # statistics as those of a net that was trained
    assert examined(model) == []


def plain_net():
    """Return a net without normalization, whose statistics would tell that it was trained."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)
    )


def test_weights_without_a_normalization_tell_by_themselves_that_they_were_trained():
    torch.manual_seed(0)
    model = plain_net()
    model.requires_grad_(False)
    model[5] = nn.Linear(784, 10)
    ((_, rule, sentence),) = examined(model)
    assert (rule, "'0' and '2'" in sentence) == ("frozen-at-random", True)
    model.requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(16, 3, 32, 32)), torch.arange(16) % 10).backward()
        optimizer.step()
    model.requires_grad_(False)
    model[5] = nn.Linear(784, 10)
    assert examined(model) == []


def test_an_optimizer_without_the_new_head_is_named():
    torch.manual_seed(0)
    model = resnet()
    optimizer = torch.optim.Adam(model.parameters())
    model.fc = nn.Linear(512, 10)
    ((severity, rule, sentence),) = examined(model, optimizer=optimizer)
    assert (severity, rule) == ("warning", "no-optimizer-for")
    assert "module 'fc' (5,130 numbers)" in sentence


class Tempered(nn.Module):
    """Cross entropy with a learned temperature, beside a network that it compares by."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))
        self.network = nn.Linear(10, 10)

    def forward(self, logits, target):
        with torch.no_grad():
            other = self.network(logits)
        return F.cross_entropy(logits / self.temperature, target) + F.mse_loss(logits, other)


def test_a_criterion_of_its_own_parameters_is_named_where_no_optimizer_has_them():
    torch.manual_seed(0)
    model, criterion = mlp(), Tempered()
    ((severity, rule, sentence),) = examined(model, criterion=criterion)
    assert (severity, rule) == ("warning", "no-optimizer-for")
    assert "parameter 'temperature' of the criterion" in sentence
    optimizer = torch.optim.Adam([*model.parameters(), criterion.temperature])
    assert examined(model, criterion=criterion, optimizer=optimizer) == []
