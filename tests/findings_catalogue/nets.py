"""Small nets of the kinds that people train; each takes ``image`` and returns named outputs."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


def block(channels_in, channels_out, norm=nn.BatchNorm2d, stride=2):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False), norm(channels_out), nn.ReLU()
    )


class Cnn(nn.Module):
    """Three convolutions with a normalization, a mean over positions, and a linear head."""

    def __init__(self, outputs=6, *, channels=3, width=16, norm=nn.BatchNorm2d, key="logits", dropout=0.0):
        super().__init__()
        self.key = key
        self.body = nn.Sequential(
            block(channels, width, norm, stride=1), block(width, 2 * width, norm), block(2 * width, 2 * width, norm)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, outputs)

    def features(self, image):
        return self.dropout(self.body(image).mean((2, 3)))

    def forward(self, image):
        return {self.key: self.head(self.features(image))}


class Plain(nn.Module):
    """Convolutions without a normalization, of any depth."""

    def __init__(self, outputs=6, depth=3, width=16, act=nn.ReLU):
        super().__init__()
        layers = [nn.Conv2d(3, width, 3, stride=2, padding=1), act()]
        for _ in range(depth - 1):
            layers += [nn.Conv2d(width, width, 3, padding=1), act()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width * 16, outputs)

    def forward(self, image):
        return {"logits": self.head(F.adaptive_avg_pool2d(self.body(image), 4).flatten(1))}


class Mlp(nn.Module):
    def __init__(self, outputs=6, side=24, channels=3, width=64, act=nn.ReLU, depth=2):
        super().__init__()
        sizes = [side * side * channels, *[width] * depth]
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), act())]
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.head = nn.Linear(width, outputs)

    def forward(self, image):
        return {"logits": self.head(self.layers(image))}


class Vit(nn.Module):
    """A transformer over patches, with a class token and LayerNorm before each part."""

    def __init__(self, outputs=6, side=24, patch=6, width=48, depth=2, batch_first=True, scale=None):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList([VitBlock(width, batch_first, scale) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, image):
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(image), -1, -1), tokens], 1) + self.place
        for each in self.blocks:
            tokens = each(tokens)
        return {"logits": self.head(self.norm(tokens[:, 0]))}


class VitBlock(nn.Module):
    """Attention and two linear layers; ``scale`` is the start of a LayerScale."""

    def __init__(self, width, batch_first=True, scale=None):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=batch_first)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.scale = None if scale is None else nn.Parameter(torch.full((width,), scale))

    def forward(self, tokens):
        factor = 1 if self.scale is None else self.scale
        seen = self.norm1(tokens)
        tokens = tokens + factor * self.attention(seen, seen, seen, need_weights=False)[0]
        return tokens + factor * self.mlp(self.norm2(tokens))


class Rows(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self, outputs=6, side=24):
        super().__init__()
        self.lstm = nn.LSTM(side * 3, 48, batch_first=True)
        self.head = nn.Linear(48, outputs)

    def forward(self, image):
        _, (last, _) = self.lstm(image.permute(0, 2, 1, 3).flatten(2))
        return {"logits": self.head(last[0])}


class UNet(nn.Module):
    """An encoder and a decoder with a skip connection: images to class maps."""

    def __init__(self, outputs=3, width=12, norm=nn.BatchNorm2d):
        super().__init__()
        self.first = block(3, width, norm, stride=1)
        self.down = block(width, 2 * width, norm)
        self.middle = block(2 * width, 2 * width, norm, stride=1)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.join = block(2 * width, width, norm, stride=1)
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, image):
        first = self.first(image)
        up = self.up(self.middle(self.down(first)))
        return {"logits": self.head(self.join(torch.cat([first, up], 1)))}


class TwoHeads(nn.Module):
    """A body with a head for the class and one for the brightness of the object."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(block(3, 16, stride=1), block(16, 32), block(32, 32))
        self.kind = nn.Linear(32, 6)
        self.light = nn.Linear(32, 1)

    def forward(self, image):
        features = self.body(image).mean((2, 3))
        return {"logits": self.kind(features), "light": self.light(features)[:, 0]}


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(block(3, 16), block(16, 32), nn.Flatten(), nn.Linear(32 * 36, 48))
        self.decoder = nn.Sequential(
            nn.Linear(48, 32 * 36), nn.ReLU(), nn.Unflatten(1, (32, 6, 6)), nn.ConvTranspose2d(32, 16, 2, stride=2),
            nn.ReLU(), nn.ConvTranspose2d(16, 3, 2, stride=2),
        )  # fmt: skip

    def forward(self, image):
        return {"picture": self.decoder(self.encoder(image))}


class Embedding(nn.Module):
    """Unit vectors, for losses that compare the samples of a batch."""

    def __init__(self, width=16):
        super().__init__()
        self.net = Cnn(width, key="embedding")

    def forward(self, image):
        return {"embedding": F.normalize(self.net(image)["embedding"])}
