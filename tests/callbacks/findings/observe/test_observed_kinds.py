"""Models of many kinds, all healthy: what is observed of them shows no fault."""

import math

import pytest
import timm
import torch
from made_runs import Named, batches_of, conv_net, dict_runner, image_items, look
from torch import nn

from assay.callbacks.findings.observe.passes.model import observe_model_and_trial
from assay.callbacks.findings.probe.settings_probe import SettingsProbe
from assay.experiments.detectors import loss_terms, make_detector


def observed(model, items, runner=None, batches=None, **options):
    see = lambda run: observe_model_and_trial(run, batches or batches_of(items), SettingsProbe())  # noqa: E731
    return look(runner or dict_runner(), model, items, see, **options)


def block(channels_in, channels_out, norm=nn.BatchNorm2d):
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), norm(channels_out), nn.ReLU(inplace=True))


class SmallUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.deep, self.up = block(3, 8), block(8, 16), nn.ConvTranspose2d(16, 8, 2, 2)
        self.last, self.head = block(16, 8), nn.Conv2d(8, 4, 1)

    def forward(self, image):
        fine = self.down(image)
        deep = self.up(self.deep(nn.functional.max_pool2d(fine, 2)))
        return self.head(self.last(torch.cat([fine, deep], 1)))


def make_vit():
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=4, depth=3, drop_rate=0.1)


def make_lstm():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(96, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, image):
            return self.head(self.lstm(image.movedim(2, 1).flatten(2))[0][:, -1])

    return Rows()


NETS = {
    "cnn": conv_net,
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 4)),
    "vit": make_vit,
    "group norm": lambda: nn.Sequential(
        block(3, 8, lambda channels: nn.GroupNorm(2, channels)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ),
    "resnet": lambda: timm.create_model("resnet10t", num_classes=4),
    "efficientnet": lambda: timm.create_model("efficientnet_b0", num_classes=4, drop_path_rate=0.2),
    "lstm": make_lstm,
}


@pytest.mark.parametrize("kind", NETS)
def test_a_healthy_classifier_shows_no_fault(kind):
    torch.manual_seed(0)
    model, trial = observed(Named(NETS[kind]()), image_items(side=32))
    assert (model.uncalled, model.plain_modules, model.late_parameters, model.detached) == ((), (), (), ())
    assert model.leaks == {"logits": 0.0} and model.constant == {"logits": False}
    assert all(one.grad_norm is not None and one.finite and one.optimized for one in model.parameters)
    assert model.layers and all(layer.training for layer in model.layers)
    assert all(layer.grad_std is not None for layer in model.layers[1:] if layer.out_shape)
    assert trial.terms["loss_logits"].right < trial.terms["loss_logits"].blank < trial.terms["loss_logits"].wrong


def test_a_network_of_masks_shows_no_fault():
    items = [{**item, "target": torch.arange(1024).reshape(32, 32) % 4} for item in image_items(side=32)]
    model, trial = observed(Named(SmallUNet()), items)
    assert (model.uncalled, model.detached, model.leaks) == ((), (), {"logits": 0.0})
    assert model.outputs["logits"].values.shape == (4096, 4) and model.outputs["logits"].shape == (8, 4, 32, 32)
    before = {one.name for one in model.parameters if one.before_norm}
    assert before == {f"net.{name}.0.bias" for name in ("down", "deep", "last")}
    assert trial.terms["loss_logits"].blank == pytest.approx(math.log(4))


def test_a_detector_gives_its_losses_in_training_alone():
    torch.manual_seed(0)
    detector = make_detector("fcos", "light", image_size=64, channels=32, num_classes=3)
    images = torch.rand(4, 3, 64, 64)
    box = {"boxes": torch.tensor([[10.0, 10.0, 40.0, 50.0]]), "labels": torch.tensor([1])}
    items = [{"image": image, "target": box} for image in images]
    batch = {"image": [*images], "target": [box] * 4}
    runner = dict_runner(*loss_terms("fcos"), input_key=["image", "target"])
    collate = lambda group: {key: [item[key] for item in group] for key in ("image", "target")}  # noqa: E731
    loaders = {"train": torch.utils.data.DataLoader(items, batch_size=4, collate_fn=collate)}
    given = {"train": [batch], "valid": [batch]}
    model, trial = observed(detector, items, runner, given, loaders=loaders, criterion=None)
    assert set(model.term_losses) == {"loss_classification", "loss_bbox_regression", "loss_bbox_ctrness"}
    assert model.loss == pytest.approx(sum(model.term_losses.values()), rel=1e-5)
    assert all(norm > 0 for norm in model.term_grads.values()) and len(model.term_grads) == 3
    assert (model.uncalled, model.detached, model.plain_modules) == ((), (), ())
    assert all(one.grad_norm is not None for one in model.parameters if one.trains)
    assert all(term.actual is not None and term.right is None for term in trial.terms.values())


def test_a_compiled_model_is_looked_at_as_it_is_written():
    model = Named(conv_net())
    probe, _ = observed(torch.compile(model), image_items())
    assert [one.name for one in probe.parameters] == [name for name, _ in model.named_parameters()] and probe.loss > 0


def test_parts_that_are_compiled_keep_their_names():
    model = Named(conv_net())
    names = [name for name, _ in model.named_parameters()]
    model.net[5] = torch.compile(model.net[5])
    probe, _ = observed(model, image_items())
    assert [one.name for one in probe.parameters] == names and probe.loss > 0


def test_samples_of_a_large_batch_are_cut_by_size():
    assert observed(Named(conv_net()), image_items(100), batches=batches_of(image_items(100), 100))[0].batch_size == 64
    large = image_items(12, side=224)
    model, _ = observed(Named(conv_net()), large, batches=batches_of(large, 12))
    assert model.batch_size == 8 and model.layers[1].values_per_channel == 12 * 222 * 222


def test_hooks_of_callbacks_are_left_out_of_the_copy():
    seen = []
    model = Named(conv_net())
    from catalyst import dl

    class Hooks(dl.Callback):
        def on_experiment_start(self, runner):
            runner.model.net.register_forward_hook(self.see)

        def see(self, *args):
            seen.append(args)

    probe, _ = observed(model, image_items(), callbacks=[Hooks(order=1)])
    assert probe.loss > 0 and not seen and len(model.net._forward_hooks) == 1


def test_a_model_that_waits_for_other_ranks_is_looked_at_alone():
    from assay.callbacks.findings.observe.passes.copies import alone

    before = torch.distributed.is_initialized
    with alone(2):
        assert not torch.distributed.is_initialized() and not torch.distributed.distributed_c10d.is_initialized()
        with pytest.raises(ValueError, match="group"):
            torch.distributed.all_reduce(torch.ones(1))
    assert torch.distributed.is_initialized is before


def test_synchronized_normalization_is_that_of_the_batch():
    net = conv_net()
    expected = observed(Named(net), image_items())[0]
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    probe, _ = observed(Named(synchronized), image_items())
    assert probe.loss == pytest.approx(expected.loss, rel=1e-6) and probe.layers[1].kind == "SyncBatchNorm"
