"""An ONNX file gives what the model gives, for a backbone of each family."""

import numpy as np
import pytest
import timm
import torch
from sure_detectors import sure_detector
from torch import nn

from assay.experiments.segmentation_nets import SegmentationNet, make_encoder
from assay.runner.export.comparison import compare_boxes, compare_outputs
from assay.runner.export.formats import onnx_bytes, open_onnx, open_program, program_bytes
from assay.runner.export.graph import Graph, capture

pytest.importorskip("onnxruntime", reason="needs the extra export")
onnx = pytest.importorskip("onnx", reason="needs the extra export")

SMALL = {
    "resnet": ("resnet10t", {}),
    "convnext": ("convnext_atto", {"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128)}),
    "vit": ("vit_tiny_patch16_224", {"img_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 3}),
}


class Classifier(nn.Module):
    def __init__(self, name, options):
        super().__init__()
        self.net = timm.create_model(name, num_classes=5, **options)

    def forward(self, image):
        return {"logits": self.net(image)}


def model_of(family):
    torch.manual_seed(0)
    if family == "unet":
        model = SegmentationNet(make_encoder("resnet18", pretrained=False), "unet", 8, strides={4: 0.4})
    else:
        model = Classifier(*SMALL[family])
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after training
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
    return model.eval().requires_grad_(False)


def files_of(model, folder, *, dynamic, step=0):
    """Write both formats; return the graph and what runs each."""
    graph = Graph(model, "image", ["image"]).eval()
    example = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    names = list(graph.run([example]))
    program = capture(graph, [example], dynamic=dynamic, step=step)
    (folder / "model.onnx").write_bytes(onnx_bytes(program, ["image"], names, {"task": "test"}, 18))
    (folder / "model.pt2").write_bytes(program_bytes(program, {"task": "test"}))
    return graph, [open_onnx(folder / "model.onnx", names), open_program(folder / "model.pt2")]


@pytest.mark.long("captures and translates a net of each family, 10 to 30 seconds each")
@pytest.mark.parametrize("family", [*SMALL, "unet"])
def test_outputs_are_those_of_the_model_for_any_number_of_images(family, tmp_path):
    graph, runs = files_of(model_of(family), tmp_path, dynamic=True)
    for count in (1, 2, 5):
        images = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(count))
        expected = {name: value.numpy() for name, value in graph.run([images]).items()}
        assert all(len(value) == count and np.ptp(value) > 1e-3 for value in expected.values())
        for run in runs:
            assert compare_outputs(expected, run([images])).value < 1e-4


@pytest.mark.long("captures and translates a net, 20 to 60 seconds")
def test_masks_are_those_of_the_model_for_images_of_any_size(tmp_path):
    graph, runs = files_of(model_of("unet"), tmp_path, dynamic=True, step=32)
    for size in ((1, 3, 64, 64), (3, 3, 96, 160), (2, 3, 224, 64)):
        images = torch.rand(size, generator=torch.Generator().manual_seed(size[2]))
        expected = {name: value.numpy() for name, value in graph.run([images]).items()}
        for run in runs:
            assert compare_outputs(expected, run([images])).value < 1e-4
    held = onnx.load(tmp_path / "model.onnx").graph
    for value in (held.input[0], held.output[0]):
        names = [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        assert names[0] == "batch" and names[2:] == ["height", "width"]


@pytest.mark.long("captures and translates a detector, 20 to 60 seconds each")
@pytest.mark.parametrize("family", ["fcos", "retinanet", "faster_rcnn"])
def test_boxes_are_those_of_the_model(family, tmp_path):
    size = (1, 3, 64, 64)
    model = sure_detector(family, torch.rand(size, generator=torch.Generator().manual_seed(9)))
    graph, runs = files_of(model, tmp_path, dynamic=False)
    found = []
    for seed in range(4):
        images = torch.rand(size, generator=torch.Generator().manual_seed(seed)) * (1 + seed / 4)
        expected = {name: value.numpy() for name, value in graph.run([images]).items()}
        found.append(len(expected["boxes"]))
        for run in runs:
            assert compare_boxes(expected, run([images]), 64).value < 1e-4
    assert min(found) > 0 and sum(found) > 20


@pytest.mark.long("translates a net to ONNX")
def test_a_squeeze_of_a_longer_dimension_does_nothing_as_in_torch(tmp_path):
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(3, 1), nn.Linear(3, 2)

        def forward(self, image):
            features = image.mean(dim=(2, 3))
            return {"one": self.one(features).squeeze(1), "two": self.two(features).squeeze(1)}

    graph, (run, _) = files_of(Heads().eval(), tmp_path, dynamic=True)
    images = torch.rand(3, 3, 64, 64)
    expected = {name: value.numpy() for name, value in graph.run([images]).items()}
    assert (expected["one"].shape, expected["two"].shape) == ((3,), (3, 2))
    assert compare_outputs(expected, run([images])).value < 1e-4
