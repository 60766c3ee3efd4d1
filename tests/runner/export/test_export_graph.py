"""The models of a run as one module of tensors."""

import pytest
import torch
from torch import nn

from assay.runner import UsageError
from assay.runner.export.graph import Graph, capture, find_inputs, flattened


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, image):
        return {"features": self.layer(image)}


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, features, extra, target=None, hint=None):
        margin = 0 if target is None else 1
        return {"logits": self.layer(torch.cat([features, extra], dim=1)) - margin}


KEYS = {"encoder": "image", "head": ["features", "extra", "target", "hint"]}


@pytest.fixture
def models():
    torch.manual_seed(0)
    return {"encoder": Encoder(), "head": Head()}


def test_inputs_are_what_the_models_need_of_a_batch(models):
    batch = {"image": torch.zeros(2, 4), "extra": torch.zeros(2, 2), "target": torch.zeros(2), "sample_id": ["a", "b"]}
    assert find_inputs(models, KEYS, batch, {"target"}) == ["image", "extra"]
    assert find_inputs(models, KEYS, batch, set()) == ["image", "extra", "target"]
    assert find_inputs(models["encoder"], "image", batch, {"target"}) == ["image"]


def test_an_input_that_is_no_tensor_needs_a_default(models):
    batch = {"image": torch.zeros(2, 4), "extra": ["a", "b"]}
    with pytest.raises(UsageError, match=r"the model's input 'extra' is list of 2 .* has no default"):
        find_inputs(models, KEYS, batch, set())


def test_several_models_are_one_graph_for_any_number_of_samples(models):
    graph = Graph(models, KEYS, ["image", "extra"]).eval()
    program = capture(graph, [torch.randn(1, 4), torch.randn(1, 2)], dynamic=True).module()
    for count in (1, 2, 5):
        image, extra = torch.randn(count, 4), torch.randn(count, 2)
        features = models["encoder"].layer(image)
        expected = models["head"].layer(torch.cat([features, extra], dim=1))
        found = program(image, extra)
        assert list(found) == ["features", "logits"]
        torch.testing.assert_close(found["logits"], expected)
        torch.testing.assert_close(found["features"], features)


def test_outputs_within_lists_and_dicts_get_names():
    one, two = torch.zeros(1), torch.ones(1)
    assert flattened({"a": one, "maps": [one, two], "more": {"x": two}}) == {
        "a": one, "maps_0": one, "maps_1": two, "more_x": two,
    }  # fmt: skip
    found = [{"boxes": torch.zeros(2, 4), "scores": one, "labels": two}]
    assert list(flattened({"scores": two, "found": found})) == ["scores", "boxes", "found_scores", "labels"]
    with pytest.raises(UsageError, match="the model's output 'loss' is float"):
        flattened({"loss": 0.5})


def test_a_transformer_layer_is_captured_as_plain_operators():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, image):
            return {"logits": self.layer(image)}

    program = capture(Graph(Net(), "image", ["image"]).eval(), [torch.randn(1, 5, 8)], dynamic=True)
    assert "fast" not in str(program.graph) and "_transformer_encoder" not in str(program.graph)
    image = torch.randn(3, 5, 8)
    torch.testing.assert_close(program.module()(image)["logits"], layer(image))


def test_sides_may_be_any_multiples_of_a_step():
    net = nn.Conv2d(3, 2, 3, padding=1).eval()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, image):
            coarse = nn.functional.max_pool2d(self.net(image), 32)
            return {"logits": nn.functional.interpolate(coarse, image.shape[-2:], mode="bilinear")}

    graph = Graph(Net(), "image", ["image"]).eval()
    program = capture(graph, [torch.randn(1, 3, 96, 96)], dynamic=True, step=32).module()
    for size in ((1, 3, 64, 64), (3, 3, 64, 160), (2, 3, 128, 96)):
        image = torch.randn(size)
        torch.testing.assert_close(program(image), graph.run([image]))
