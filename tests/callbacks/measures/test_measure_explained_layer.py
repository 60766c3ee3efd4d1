"""Which layer is taken, and how it is read: nets whose right answer is known, without training."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from assay.callbacks.measures.explained_layer import FOLLOWS, find_layer, read_module
from assay.callbacks.measures.grad_cam import undisturbed
from assay.callbacks.measures.image_layouts import Images, Planes, Tokens, Windows, fit_grid, layouts_of
from assay.callbacks.measures.locality import locality, stray

DIM, PATCH = 12, 8


class Attention(nn.Module):
    """Self-attention with a table of positions, whose scores go through a module of their own."""

    def __init__(self, count):
        super().__init__()
        self.qkv, self.scores, self.table = nn.Linear(DIM, 3 * DIM), nn.Identity(), nn.Linear(1, 2, bias=False)
        self.proj, self.count = nn.Linear(DIM, DIM), count

    def forward(self, tokens):
        q, k, v = self.qkv(tokens).unflatten(2, (3, 2, DIM // 2)).permute(2, 0, 3, 1, 4)
        bias = self.table(torch.arange(self.count**2, dtype=tokens.dtype).reshape(1, self.count, self.count, 1) / 99)
        scores = self.scores(q @ k.transpose(2, 3) / 3 + bias.permute(0, 3, 1, 2)).softmax(dim=3)
        return self.proj((scores @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(DIM), Attention(count)
        self.norm2, self.mlp = nn.LayerNorm(DIM), nn.Linear(DIM, DIM)

    def forward(self, tokens):
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Transformer(nn.Module):
    """A ViT: tokens of patches behind CLS and registers, of which CLS alone, or all of the image, goes to the head."""

    def __init__(self, shape, extra=1, pool="cls"):
        super().__init__()
        count = extra + (shape[0] // PATCH) * (shape[1] // PATCH)
        self.embed, self.extra = nn.Conv2d(3, DIM, PATCH, PATCH), nn.Parameter(torch.randn(1, extra, DIM))
        self.places, self.drop = nn.Parameter(torch.randn(1, count, DIM) * 0.3), nn.Dropout(0.1)
        self.blocks = nn.Sequential(Block(count), Block(count))
        self.norm, self.head, self.pool = nn.LayerNorm(DIM), nn.Linear(DIM, 3), pool

    def forward(self, image):
        tokens = self.embed(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.extra.expand(len(image), -1, -1), tokens], dim=1) + self.places
        tokens = self.norm(self.blocks(self.drop(tokens)))
        return self.head(tokens[:, 0] if self.pool == "cls" else tokens[:, self.extra.shape[1] :].mean(dim=1))


class ChannelsLast(nn.Module):
    """A Swin without windows: [N, h, w, C] from the first layer on; as many channels as places a side."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.norm, self.head = (
            nn.Conv2d(3, 4, 8, 8),
            nn.Linear(4, 4),
            nn.LayerNorm(4),
            nn.Linear(4, 3),
        )

    def forward(self, image):
        places = self.embed(image).permute(0, 2, 3, 1)
        return self.head(self.norm(places + self.mix(places)).mean(dim=(1, 2)))


class Windowed(nn.Module):
    """Windows of 2 x 2 places, rolled or not, which one layer sees as [N * windows, 4, C]."""

    def __init__(self, shifted):
        super().__init__()
        self.embed, self.inner, self.head, self.shift = (
            nn.Conv2d(3, 6, 8, 8),
            nn.Linear(6, 6),
            nn.Linear(6, 3),
            int(shifted),
        )

    def forward(self, image):
        x = self.embed(image).roll((-self.shift, -self.shift), dims=(2, 3))
        n, c, h, w = x.shape
        windows = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        return self.head(self.inner(windows).reshape(n, -1, c).mean(dim=1))


class Mask(nn.Module):
    """A U-Net of one step, which scales its classes up at the end."""

    def __init__(self):
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 8, 3, 4, 1)
        self.up, self.head = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        self.whole = nn.Upsample(scale_factor=4)

    def forward(self, image):
        skip = self.down(image)
        deep = nn.functional.interpolate(self.deep(skip).relu(), skip.shape[2:])
        return self.whole(self.head(self.up(torch.cat([skip, deep], dim=1))))


def found_layer(model, shape, kind=None, count=2):
    model.eval()
    image = torch.rand(count, 3, *shape, generator=torch.Generator().manual_seed(3))
    with undisturbed([model]):
        return find_layer([model], lambda: model(image), kind)


def found_in(model, shape, kind=None, count=2):
    """Return name and layout of the layer that is found."""
    layer = found_layer(model, shape, kind, count)
    names = {module: name for name, module in model.named_modules()}
    return None if layer is None else (names[layer.module], layer.layout)


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("shape", [(32, 32), (32, 64), (56, 24)], ids=["square", "wide", "high"])
@pytest.mark.parametrize("extra", [1, 2, 5], ids=["CLS", "CLS and another", "CLS and registers"])
def test_a_transformer_is_explained_by_its_tokens_before_they_attend_to_each_other(shape, extra, pool):
    model = Transformer(shape, extra, pool)
    assert found_in(model, shape) == ("drop", Tokens(prefix=extra))
    assert found_layer(model, shape).mixes


@pytest.mark.parametrize("extra", [0, 1, 4])
def test_tokens_within_a_block_are_read_with_those_before_them_left_out(extra):
    model = Transformer((32, 48), extra).eval()
    image = torch.rand(1, 3, 32, 48)
    with undisturbed([model]):
        reading = read_module([model], lambda: model(image), model.blocks[1].norm1)
    assert (reading.layer.layout, reading.follows, reading.layer.mixes) == (Tokens(prefix=extra), True, True)


class FromBytes(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Transformer((32, 32))

    def forward(self, image):
        return self.inner(image.float() / 255)


def test_the_main_stream_of_images_in_whole_numbers_is_found_too():
    model = FromBytes().eval()
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with undisturbed([model]):
        assert find_layer([model], lambda: model(image)).module is model.inner.drop


class Patches(nn.Module):
    """A ConvNeXt of one block: patches, and a wide convolution in a branch beside the main stream."""

    def __init__(self, kernel=8):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, kernel, 8, (kernel - 8) // 2), nn.BatchNorm2d(6))
        self.inner, self.wide = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 7, padding=3, groups=6)
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, 3)

    def forward(self, image):
        places = self.stem(image)
        return self.head(self.norm(places + self.wide(self.inner(places))).mean(dim=(2, 3)))


def test_a_network_of_patches_is_explained_before_they_are_mixed_and_on_its_main_stream():
    assert found_in(Patches(), (64, 64)) == ("stem", Planes())  # not ``inner``, which a path goes round
    assert found_layer(Patches(), (64, 64)).mixes
    assert found_in(Patches(kernel=10), (64, 64)) == ("norm", Planes())  # its patches overlap
    assert not found_layer(Patches(kernel=10), (64, 64)).mixes


def test_a_map_whose_channels_come_last_is_told_from_one_whose_come_first():
    assert found_in(ChannelsLast(), (32, 32)) == ("norm", Planes(channels_last=True))
    assert found_in(Mask(), (32, 32)) == ("up", Planes())


def test_a_layer_is_read_as_asked_for():
    model = Transformer((32, 32), pool="mean")
    assert found_in(model, (32, 32), kind="nchw") == ("embed", Planes())
    assert found_in(model, (32, 32), kind="nhwc") is None


@pytest.mark.parametrize("shifted", [False, True])
def test_windows_are_put_together(shifted):
    model = Windowed(shifted)
    image = torch.rand(1, 3, 32, 48)
    with undisturbed([model]):
        reading = read_module([model], lambda: model(image), model.inner)
    assert (reading.layer.layout, reading.share) == (Windows(shifted), 1.0)
    places = torch.arange(4 * 6.0).reshape(1, 1, 4, 6)
    rolled = places.roll((-int(shifted),) * 2, dims=(2, 3))
    cut = torch.stack([rolled[0, 0, i : i + 2, j : j + 2].reshape(4, 1) for i in (0, 2) for j in (0, 2, 4)])
    torch.testing.assert_close(Windows(shifted).read(cut, Images(1, 32, 48)), places)


@pytest.mark.parametrize("name", ["blocks.1.attn.scores", "blocks.1.attn.table"])
def test_scores_of_attention_and_tables_of_positions_do_not_follow_the_image(name):
    model = Transformer((32, 32), extra=0).eval()
    image = torch.rand(1, 3, 32, 32)
    with undisturbed([model]):
        reading = read_module([model], lambda: model(image), model.get_submodule(name))
    assert not reading.follows
    assert reading.share < FOLLOWS


def test_swin_of_torchvision_is_explained_before_what_it_finds_is_carried_on():
    model = torchvision.models.SwinTransformer([4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=2)
    assert found_in(model, (64, 64)) == ("features.3.0", Planes(channels_last=True))
    assert found_layer(model, (64, 64)).mixes


def test_a_model_that_is_given_its_image_by_name_or_in_grey_is_found_out_too():
    model = nn.Sequential(nn.Unflatten(1, (1, 32)), nn.Conv2d(1, 4, 3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    image = torch.rand(2, 32, 32)
    with undisturbed([model]):
        assert find_layer([model], lambda: model(image).flatten(1)).module is model[2]
        assert find_layer([model], lambda: model(input=image).flatten(1)).module is model[2]


def test_locality_is_one_of_a_map_and_about_a_half_of_places_in_any_order():
    rows, columns = np.arange(8)[:, None] // 4, np.arange(8)[None] // 4
    own = np.stack([((rows == i) & (columns == j)) + 0.1 for i in (0, 1) for j in (0, 1)])
    assert locality(own) == 1.0
    assert locality(own.transpose(0, 2, 1)) < 0.6
    mixed = own.reshape(4, 64)[:, np.random.default_rng(0).permutation(64)].reshape(4, 8, 8)
    assert 0.3 < locality(mixed) < 0.7
    assert locality(np.zeros((4, 8, 8))) == 0.0
    assert locality(np.full((4, 8, 8), np.nan)) == 0.0


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (4, 6)])
def test_what_is_stray_of_a_place_is_its_change_with_the_other_quarters(shape):
    rows, columns = (np.arange(side) >= side / 2 for side in shape)
    own = np.stack([(rows[:, None] == bool(i)) & (columns == bool(j)) for i in (0, 1) for j in (0, 1)])
    assert stray(own.astype(float)) == 0.0
    assert stray(own + 0.25 * own[::-1]) == pytest.approx(0.25)
    assert stray(own + 0.25 * own[[1, 0, 3, 2]] + 0.125 * own[[2, 3, 0, 1]]) == pytest.approx(0.375)
    assert stray(own[:, ::4, ::4].astype(float)) == float("inf")  # two places a side, or fewer: none is away from all


@pytest.mark.parametrize(
    ("count", "image", "grid"),
    [
        (196, (224, 224), (14, 14)),
        (32, (64, 128), (4, 8)),
        (32, (128, 64), (8, 4)),
        (12, (50, 64), (3, 4)),
        (7, (224, 224), None),
        (197, (224, 224), None),
        (2, (64, 128), (1, 2)),
        (0, (8, 8), None),
    ],
)
def test_a_grid_is_as_the_image_is(count, image, grid):
    assert fit_grid(count, *image) == grid


def test_one_place_is_no_map_and_a_batch_of_another_size_is_none():
    images = Images(2, 32, 32)
    assert layouts_of(torch.zeros(2, 9, 1, 1), images, "nchw") == []
    assert layouts_of(torch.zeros(3, 9, 4, 4), images) == []
    assert Planes() in layouts_of(torch.zeros(2, 9, 4, 4), images)
