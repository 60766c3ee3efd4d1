"""The nets, and the score that images are ranked by."""

import numpy as np
import pytest
import torch
from scipy import fft

from assay.callbacks import UsageError
from assay.experiments.alaska2.models import CoefficientNet, Steganalyzer, make_net


def test_the_score_is_the_logit_of_not_being_a_cover():
    model = Steganalyzer(CoefficientNet(4, width=8)).eval()
    output = model(torch.rand(5, 3, 32, 24))
    assert output["logits"].shape == (5, 4)
    cover = output["logits"].double().softmax(dim=1)[:, 0]
    assert torch.allclose(output["stego"].double(), (1 - cover).logit(), atol=1e-4)


def test_coefficients_are_scipys_on_both_grids():
    net = CoefficientNet(4, width=8)
    image = torch.rand(1, 3, 16, 24)
    seen = []
    net.stem.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    net(image.repeat(2, 1, 1, 1))
    red, green, blue = image[0].double().numpy() * 255
    planes = [
        0.299 * red + 0.587 * green + 0.114 * blue,
        -0.168736 * red - 0.331264 * green + 0.5 * blue,
        0.5 * red - 0.418688 * green - 0.081312 * blue,
    ]
    for grid, shift in enumerate((0, 4)):
        for number, plane in enumerate(planes):
            moved = np.roll(plane, (-shift, -shift), (0, 1))
            for row, column in ((0, 0), (1, 2)):
                block = moved[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                expected = np.log1p(np.abs(fft.dctn(block, norm="ortho"))).reshape(-1)
                first = 192 * grid + 64 * number
                assert np.allclose(seen[0][0, first : first + 64, row, column].numpy(), expected, atol=2e-3)


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained' is deprecated:UserWarning")
@pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning")
@pytest.mark.filterwarnings("ignore:Overwriting:UserWarning")
@pytest.mark.parametrize("name", ["coefficients", "Resnet18Encoder", "mobilenetv3_small_050"])
def test_nets_are_made_by_name(name):
    net = make_net(name, 4, width=8, pretrained=False).eval()
    assert net(torch.rand(2, 3, 64, 64)).shape == (2, 4)


def test_an_unknown_encoder_is_named_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown encoder 'resnet81'; did you mean 'resnet\w*'\?") as caught:
        make_net("resnet81", 4, width=8, pretrained=False)
    assert len(str(caught.value)) < 250


def test_a_width_that_has_no_equal_groups_is_refused():
    with pytest.raises(UsageError, match="width must be a multiple of 4, got 30"):
        make_net("coefficients", 4, width=30, pretrained=False)
