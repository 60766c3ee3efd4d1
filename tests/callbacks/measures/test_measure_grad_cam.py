import pytest
import torch
from torch import nn

from assay.callbacks import UsageError
from assay.callbacks.measures.explained_layer import Layer, find_layer
from assay.callbacks.measures.explained_score import explained_score, repeated_score
from assay.callbacks.measures.grad_cam import REASONS, grad_cam, heat_maps, undisturbed
from assay.callbacks.measures.image_layouts import Tokens


class Net(nn.Module):
    """Two convolutions with all that could leave a trace: batch normalization, dropout, work in place."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.second = nn.Conv2d(4, 6, 3)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, image):
        return self.tail(self.second(self.first(image)))

    def tail(self, activations):
        return self.head(self.drop(self.act(activations).mean(dim=(2, 3))))


@pytest.fixture
def net():
    torch.manual_seed(1)
    return Net().double().eval()


def images(count=3, size=9):
    return torch.randn(count, 2, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_map_is_that_of_finite_differences(net):
    """The weight of a channel is the mean derivative of the score by its activations: by shifting each of them."""
    data, step = images(2, 7), 1e-6
    with torch.no_grad():
        activations = net.second(net.first(data.clone()))
        slopes = torch.zeros_like(activations)
        for place in torch.cartesian_prod(*(torch.arange(size) for size in activations.shape)):
            shift = torch.zeros_like(activations)
            shift[tuple(place)] = step
            up, down = net.tail(activations + shift), net.tail(activations - shift)
            slopes[tuple(place)] = (up[place[0], 1] - down[place[0], 1]) / (2 * step)
        expected = (slopes.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1).clamp(min=0)
        expected = expected / expected.amax(dim=(1, 2), keepdim=True)
    found = grad_cam(lambda: net(data.clone())[:, 1], net.second)
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-5)


def test_a_layer_that_works_in_place_is_explained_by_its_own_output(net):
    data = images()
    with torch.enable_grad():
        kept = net.second(net.first(data.clone()))
        activations = kept.relu()
        score = net.head(activations.mean(dim=(2, 3)))[:, 0].sum()
        (gradient,) = torch.autograd.grad(score, activations)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1).clamp(min=0).detach()
    largest = expected.amax(dim=(1, 2), keepdim=True)
    expected = torch.where(largest > 0, expected / largest, 0)
    torch.testing.assert_close(grad_cam(lambda: net(data.clone())[:, 0], net.act), expected.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("factor", "reason"),
    [(-1.0, "speaks for it"), (0.0, "no gradient"), (float("nan"), "NaN or infinite"), (1.0, "")],
)
def test_a_map_without_support_is_zero_and_says_why(factor, reason):
    layer = nn.Conv2d(1, 2, 1)
    heat = heat_maps(lambda: layer(torch.rand(2, 1, 3, 3)).square().sum(dim=(1, 2, 3)) * factor, layer)
    assert bool(heat.maps.any()) == bool(heat.scales.all()) == bool(heat.scales.any()) == (not reason)
    assert all(reason in REASONS[number] and bool(number) == bool(reason) for number in heat.reasons.tolist())


@pytest.mark.parametrize("mixes", [False, True])
def test_a_map_times_its_scale_is_what_each_place_adds_to_the_score(net, mixes):
    """The reference goes through the places of one sample at a time; after the layer all is linear."""
    data, layer = images() * torch.tensor([1.0, 0.1, 5.0])[:, None, None, None], nn.Conv2d(2, 4, 3).double()
    heat = heat_maps(lambda: net.head.weight[0, :4] @ layer(data).mean(dim=(2, 3)).T, Layer(layer, mixes=mixes))
    assert heat.scales.dtype == torch.float32 and len(heat.scales.unique()) == 3
    for image, found, scale in zip(data, heat.maps, heat.scales, strict=True):
        activations = layer(image[None])[0].detach().requires_grad_()
        (slope,) = torch.autograd.grad((net.head.weight[0, :4] @ activations.mean(dim=(1, 2))), activations)
        added, middle = torch.zeros(found.shape), activations.detach().mean(dim=(1, 2)) * mixes
        for i, j in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
            added[i, j] = max(0.0, float(slope[:, i, j] @ (activations[:, i, j].detach() - middle)))
        torch.testing.assert_close(found * scale, added, rtol=1e-5, atol=1e-7)


def relative(maps):
    maps = maps.clamp(min=0)
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)


def test_of_tokens_that_only_add_up_the_map_is_what_each_adds_more_than_the_mean():
    torch.manual_seed(0)
    body, values = nn.Linear(2, 5), torch.randn(5)
    tokens = torch.randn(2, 1 + 6, 2)
    attention = torch.randn(2, 7, 1).softmax(dim=1)

    def forward():
        return (attention * body(tokens)).sum(dim=1) @ values

    found = grad_cam(forward, Layer(body, Tokens(prefix=1), image_shape=(20, 30), mixes=True))
    places = body(tokens)[:, 1:].detach()
    more = places - places.mean(dim=1, keepdim=True)
    by_hand = [[float(attention[n, 1 + p] * (more[n, p] @ values)) for p in range(6)] for n in range(2)]
    torch.testing.assert_close(found, relative(torch.tensor(by_hand).reshape(2, 2, 3)), rtol=0, atol=1e-5)


def test_of_a_layer_that_mixes_the_map_is_the_integral_from_the_mean_of_the_places():
    """The reference is a path of 400 steps in float64, and the parts add up to the difference of the scores."""
    torch.manual_seed(0)
    body, mix = nn.Conv2d(2, 3, 1).double(), nn.Linear(12, 12).double()
    data = torch.rand(2, 2, 2, 2, dtype=torch.float64)

    def tail(places):
        return mix(places.flatten(1)).tanh().sum(dim=1)

    whole = body(data).detach()
    mean = whole.mean(dim=(2, 3), keepdim=True).expand_as(whole)
    gradient = torch.zeros_like(whole)
    for step in range(400):
        point = (mean + (whole - mean) * (step + 0.5) / 400).requires_grad_()
        gradient += torch.autograd.grad(tail(point).sum(), point)[0] / 400
    parts = ((whole - mean) * gradient).sum(dim=1)
    torch.testing.assert_close(parts.sum(dim=(1, 2)), tail(whole) - tail(mean), rtol=1e-6, atol=1e-6)
    found = grad_cam(lambda: tail(body(data)), Layer(body, mixes=True))
    torch.testing.assert_close(found, relative(parts).float(), rtol=0, atol=5e-3)


def test_of_other_activations_that_is_explained_which_was_predicted_first():
    outputs = iter([torch.tensor([[1.0, 3.0], [2.0, 0.0]]), torch.tensor([[5.0, 4.0], [1.0, 6.0]])])
    run = repeated_score(lambda: next(outputs), lambda output: explained_score(output, None, "predicted"))
    assert run().tolist() == [3.0, 2.0]
    assert run().tolist() == [4.0, 1.0]  # the classes 1 and 0, though 0 and 1 are ahead by now
    outputs = iter([torch.tensor([1.5, -2.0]), torch.tensor([-1.0, 3.0])])  # one logit: yes, and no
    run = repeated_score(lambda: next(outputs), lambda output: explained_score(output, None, "predicted"))
    assert [run().tolist(), run().tolist()] == [[1.5, 2.0], [-1.0, -3.0]]


def test_the_layer_found_is_the_last_map(net):
    assert find_layer([net], lambda: net(images())).module is net.act
    pooled = nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(1))
    assert find_layer([pooled], lambda: pooled(images().float())).module is pooled[2]


class SideBranch(nn.Module):
    """A body that runs twice, the second time for a branch that the logits do not depend on."""

    def __init__(self):
        super().__init__()
        self.body, self.side, self.head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 3), nn.Linear(4, 3)

    def forward(self, image):
        logits = self.head(self.body(image).mean(dim=(2, 3)))
        self.aside = self.side(self.body(image.flip(dims=(3,))))
        return logits


def test_a_branch_that_the_output_does_not_depend_on_explains_nothing():
    net, plain, data = SideBranch(), SideBranch(), images().float()
    plain.load_state_dict(net.state_dict())
    plain.side = nn.Identity()
    layer = find_layer([net], lambda: net(data))
    assert (layer.module, layer.call) == (net.body, 0)
    found = grad_cam(lambda: net(data)[:, 0], layer)
    once = grad_cam(lambda: plain.head(plain.body(data).mean(dim=(2, 3)))[:, 0], plain.body)
    torch.testing.assert_close(found, once, rtol=0, atol=0)


def test_a_model_without_maps_has_no_layer_to_explain_it_by():
    net = nn.Linear(4, 2)
    assert find_layer([net], lambda: net(torch.zeros(1, 4, requires_grad=True))) is None


def test_layers_that_cannot_be_explained_are_refused(net):
    with pytest.raises(UsageError, match=r"output is \[N, C, h, w\]: Linear gives none"):
        grad_cam(lambda: net(images())[:, 0], net.head)
    aside = nn.Conv2d(2, 2, 1).double()

    def forward():
        aside(images())
        return net(images())[:, 0]

    with pytest.raises(UsageError, match="Conv2d is not"):
        grad_cam(forward, aside)
    with pytest.raises(UsageError, match="detached"):
        grad_cam(lambda: net(images()).detach()[:, 0], net.second)


def state_of(net):
    return {
        "weights": {name: tensor.clone() for name, tensor in net.state_dict().items()},
        "gradients": {name: p.grad if p.grad is None else p.grad.clone() for name, p in net.named_parameters()},
        "modes": [module.training for module in net.modules()],
        "hooks": [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in net.modules()],
        "needs": [p.requires_grad for p in net.parameters()],
        "random": torch.get_rng_state(),
    }


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_bit_by_bit_what_it_was(fails):
    class Counts(Net):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, image):
            self.calls = self.calls + 1
            return super().forward(image) * torch.rand(())

    net = Counts()
    net.head.eval()
    net(images(4).float()).sum().backward()
    net.first[0].weight.requires_grad_(False)
    before = state_of(net)
    try:
        with undisturbed([net]):
            assert not any(module.training for module in net.modules())
            grad_cam(lambda: net(images(4).float())[:, 5 if fails else 0], net.second)
    except IndexError:
        assert fails
    torch.testing.assert_close(state_of(net), before, rtol=0, atol=0)


# -- what is explained ------------------------------------------------------------------------------------------------


def test_the_logit_that_wins_is_explained():
    output = torch.tensor([[1.0, 3.0, -2.0], [0.5, -1.0, 0.0]])
    assert explained_score(output, None, "predicted", None).tolist() == [3.0, 0.5]
    assert explained_score(output, torch.tensor([2, 1]), "true", None).tolist() == [-2.0, -1.0]
    assert explained_score(output, None, 0, None).tolist() == [1.0, 0.5]


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_of_one_class_the_decision_is_explained(shape):
    output = torch.tensor([1.5, -2.5]).reshape(shape)
    assert explained_score(output, None, "predicted", None).tolist() == [1.5, 2.5]
    assert explained_score(output, torch.tensor([0, 1]), "true", None).tolist() == [-1.5, -2.5]
    assert explained_score(output, None, 1, None).tolist() == [1.5, -2.5]


def test_of_labels_the_true_ones_are_explained():
    output, target = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[1, 0, 1]])
    assert explained_score(output, target, "true", None).tolist() == [5.0]


@pytest.mark.parametrize("shape", [(2, 1, 2, 2), (2, 2, 2)])
def test_of_a_binary_mask_the_predicted_pixels_are_explained(shape):
    output = torch.tensor([[1.0, 2.0, -4.0, -1.0], [-1.0, -2.0, -3.0, -4.0]]).reshape(shape)
    assert explained_score(output, None, "predicted", None).tolist() == [3.0, -10.0]
    target = torch.tensor([[1, 0, 1, 255], [0, 0, 0, 0]]).reshape(2, 2, 2)
    assert explained_score(output, target, "true", 255).tolist() == [-3.0, -10.0]


def scores_by_hand(output, classes, ignored=()):
    """Sum the logits of the class of most pixels, class 0 only where it is alone, pixel by pixel."""
    found = []
    for logits, numbers in zip(output.double(), classes, strict=True):
        counts = {c: int((numbers == c).sum()) for c in range(len(logits)) if (numbers == c).any()}
        chosen = max((c for c in counts if c or len(counts) == 1), key=lambda c: (counts[c], -c))
        places = [(i, j) for i, row in enumerate(numbers.tolist()) for j, c in enumerate(row) if c == chosen]
        found.append(sum(float(logits[chosen, i, j]) for i, j in places))
    return found


def test_of_a_mask_of_classes_the_pixels_of_one_are_explained():
    torch.manual_seed(0)
    output, target = torch.randn(3, 3, 4, 5), torch.randint(0, 3, (3, 4, 5))
    target[0, 0], target[2] = -1, 0
    predicted = explained_score(output, None, "predicted", None)
    assert predicted.tolist() == pytest.approx(scores_by_hand(output, output.argmax(dim=1)), rel=1e-5)
    assert explained_score(output, target, "true", -1).tolist() == pytest.approx(
        scores_by_hand(output, target), rel=1e-5
    )
    output[1, 2] = -9.0  # predicted nowhere: all pixels of the class
    by_hand = [float(output[n, 2][output[n].argmax(dim=0) == 2].sum()) for n in range(3)]
    by_hand[1] = -9.0 * 20
    assert explained_score(output, None, 2, None).tolist() == pytest.approx(by_hand, rel=1e-5)


def test_of_overlapping_masks_those_are_explained_that_are_predicted():
    output = torch.tensor([[[[-1.0, -2.0]], [[3.0, 2.0]], [[4.0, -1.0]]]])
    assert explained_score(output, None, "predicted", multilabel=True).tolist() == [5.0]  # two pixels of label 1


def test_soft_targets_are_decided_at_a_half_and_distributions_by_their_largest():
    output = torch.tensor([[1.0, 2.0, 4.0]])
    assert explained_score(output, torch.tensor([[0.3, 0.4, 0.3]]), "true").tolist() == [2.0]
    assert explained_score(output, torch.tensor([[0.95, 0.05, 0.95]]), "true").tolist() == [5.0]
    assert explained_score(torch.tensor([[1.5], [-2.5]]), torch.tensor([[0.05], [0.95]]), "true").tolist() == [
        -1.5,
        -2.5,
    ]


def test_a_class_or_target_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="explain must be a class from 0 to 2, got 3"):
        explained_score(torch.zeros(2, 3), None, 3, None)
    with pytest.raises(UsageError, match="needs a target for each of 4 places of a sample, got none"):
        explained_score(torch.zeros(2, 3, 2, 2), None, "true", None)
    with pytest.raises(UsageError, match=r"got \(2, 3\)"):
        explained_score(torch.zeros(2, 3, 2, 2), torch.zeros(2, 3), "true", None)
