"""deepgrow_2d in two parts: an encoder that looks at the picture once, and a small decoder that answers each click."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.encoder import FEATURES, Encoder, standard
from common.interactive import ClickFeatures, click_mean, grown, intensity_bins
from common.looks import closer_look, whole_look
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
            inputs = torch.cat([fold(torch.cat([shown, colour, previous], 1)), *self.likelihood(x, shown[:, -3:])], 1)
            seeds = [F.avg_pool2d(clicks, 4), F.avg_pool2d(clicks, 8)]
        fine = self.fine(inputs)
        y = torch.cat([F.max_pool2d(fine, 2), features, *self.resemblance(features, seeds)], 1)
        levels = [fine]
        for index, block in enumerate(self.down):
            y = block(self.enter(y) if index == 0 else F.max_pool2d(levels[-1], 2))
            levels.append(y)
        y = levels[-1]
        for index in range(len(self.up) - 1, -1, -1):
            y = self.merge[index](self.up[index](y) + levels[index])
        return unfold(self.head(y))

    def resemblance(self, features: Tensor, seeds: list[Tensor]) -> list[Tensor]:
        """How much each place resembles what is under the foreground and the background clicks, (N, 1, A / 4, B / 4) each: in the
        mean over the clicks, and to the one it resembles most (at half that resolution, softly)."""
        key = F.normalize(self.key(features), dim=1)
        mean = [(key * click_mean(key, seeds[0][:, i : i + 1])).sum(1, keepdim=True) for i in range(2)]
        coarse = F.normalize(F.avg_pool2d(key, 2), dim=1).flatten(2)
        alike = torch.exp(8 * (coarse.transpose(1, 2) @ coarse) - 8)
        weights = seeds[1].flatten(2)
        best = (weights @ alike + 1e-6).log() / 8 - (weights.sum(2, keepdim=True) + 1e-2).log() / 8
        best = best.clamp(min=-1).view(*seeds[1].shape)
        best = F.interpolate(best, scale_factor=2.0, mode="bilinear", align_corners=False)
        return [*mean, best]

    def likelihood(self, x: Tensor, near: Tensor) -> list[Tensor]:
        """As in ClickNet: the likelihood ratio of the intensities and a first guess, at half resolution."""
        mean = self.clicks.mean
        image, near = mean(x[:, :1], 2), mean(near, 2)
        towards, away, alike = near[:, :1], near[:, 1:2], near[:, 2:]
        bins = intensity_bins(image, click_mean(image, mean(x[:, 1:2], 2)))
        pull = torch.maximum(towards, alike) - away
        guess = torch.sigmoid(10 * (pull - 0.5))
        around = (1 - torch.maximum(guess, towards)).clamp(min=0) + 4 * away.square()
        return grown(bins, guess, around, lambda g: 1 - g + 4 * away.square(), 5 * (pull - 0.3))


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
        whole = whole_look(image, WHOLE)
        coarse, seen = standard(whole.image(image)), whole.clicks(clicks)
        first = self.decoder(coarse, self.encoder(coarse), seen, torch.zeros_like(seen[:, :1]))
        close = closer_look(whole, torch.maximum(first, seen.amax(1, keepdim=True) - 0.5), SIZE)
        fine = standard(close.image(image))
        previous = close.image(whole.put(torch.sigmoid(first), clicks[:, :1]))
        second = self.decoder(fine, self.encoder(fine), close.clicks(clicks), previous)
        return close.put(second, clicks[:, :1], whole.put(first, clicks[:, :1]))
