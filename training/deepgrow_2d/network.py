"""deepgrow_2d in two parts: an encoder that looks at the picture once, and a small decoder that answers each click."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.encoder import FEATURES, Encoder
from common.interactive import ClickFeatures, resemblance
from common.looks import two_looks
from common.nets import Residual, conv, fold, unfold

WIDTHS = (24, 64, 96, 128)
"""Of the decoder, at strides 2, 4, 8 and 16."""
KEYS = 32
SIZE = 256
"""Edge of the closer look in pixels."""
WHOLE = 160
"""Edge of the first look, that of most training pictures: it finds the place, the closer look the border."""


class Decoder(nn.Module):
    """(N, 3, A, B) picture, (N, FEATURES, A / 4, B / 4) of the encoder, (N, 2, A, B) foreground and background clicks,
    (N, 1, A, B) previous mask in 0..1, zero where there is none -> (N, 1, A, B) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clicks = ClickFeatures(2, 4, 40)
        w = WIDTHS
        self.fine = Residual(2, 4 * (ClickFeatures.CHANNELS + 3) + 2, w[0])
        self.key = nn.Conv2d(FEATURES, KEYS, 1)
        self.enter = conv(2, w[0] + FEATURES + 4, w[1], kernel=1)
        self.down = nn.ModuleList([Residual(2, w[1], w[1]), Residual(2, w[1], w[2]), Residual(2, w[2], w[3])])
        self.up = nn.ModuleList([nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(w)])
        self.merge = nn.ModuleList(Residual(2, a, a) for a in w[:-1])
        self.head = nn.Conv2d(w[0], 4, 1)

    def forward(self, image: Tensor, features: Tensor, clicks: Tensor, previous: Tensor) -> Tensor:
        with torch.no_grad():
            grey = image.mean(1, keepdim=True)
            x = torch.cat([grey, clicks], 1)
            shown = self.clicks(x)
            colour = image[:, [0, 2]] - grey
            inputs = torch.cat([fold(torch.cat([shown, colour, previous], 1)), *self.clicks.likelihood(x, shown[:, -3:])], 1)
            seeds = F.avg_pool2d(clicks, 4).split(1, 1)
        fine = self.fine(inputs)
        key = F.normalize(self.key(features), dim=1)
        y = torch.cat([F.max_pool2d(fine, 2), features, *resemblance(key, *seeds)], 1)
        levels = [fine]
        for index, block in enumerate(self.down):
            y = block(self.enter(y) if index == 0 else F.max_pool2d(levels[-1], 2))
            levels.append(y)
        y = levels[-1]
        for index in range(len(self.up) - 1, -1, -1):
            y = self.merge[index](self.up[index](y) + levels[index])
        return unfold(self.head(y))


class TwoPart(nn.Module):
    """Encoder and decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 5, A, B) picture, foreground, background -> (N, 1, A, B) logits: the answer to all clicks without a previous mask."""
        return self.decoder(x[:, :3], self.encoder(x[:, :3]), x[:, 3:], torch.zeros_like(x[:, :1]))


class Served(TwoPart):
    """Both parts in one graph, (N, C + 2, A, B) grey (C = 1) or coloured (C = 3) slice of any size with its foreground and
    background clicks -> (N, 1, A, B) logits.

    Two looks: at the whole, coarsely, and at the part around what was found and clicked, zoomed, with what was found as the
    previous mask. The part follows the clicks, so all that could be kept between them is the first look's features.
    """

    def forward(self, x: Tensor) -> Tensor:
        image, clicks = x[:, :-2], x[:, -2:]
        image = torch.cat([image, image, image], 1)[:, :3]

        def answer(image: Tensor, clicks: Tensor, previous: Tensor) -> Tensor:
            return self.decoder(image, self.encoder(image), clicks, previous)

        return two_looks(image, clicks, (WHOLE, SIZE), answer)
