"""Networks that nobody foresaw, as backbones: tests put them into the table under a name."""

from __future__ import annotations

import torch
from torch import nn

from polypath.core.config import Config
from polypath.core.task import InputSpec
from polypath.nn.backbones import Backbone


class NoOptions(Config):
    """None."""


class Sentence(nn.Module):
    """Eight numbers as four tokens, through an encoder layer (attention, feed-forward, norms) and attention alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, kdim=8, vdim=4, batch_first=True)
        self.narrow = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.layer(self.embed(x.view(-1, 4, 2)))
        out: torch.Tensor = self.attention(tokens, tokens, self.narrow(tokens), need_weights=False)[0]
        return out.mean(1)


class Encoder(Backbone):
    Options = NoOptions

    def __init__(self, inputs: InputSpec, options: NoOptions) -> None:
        super().__init__({"body": Sentence()}, 8)


class Tied(nn.Module):
    """A weight used twice, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 6)
        self.again.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.again(self.first(x).relu()).relu())
        return out


class TiedInside(Backbone):
    Options = NoOptions

    def __init__(self, inputs: InputSpec, options: NoOptions) -> None:
        super().__init__({"body": Tied()}, 6)


class TiedAcross(Backbone):
    Options = NoOptions

    def __init__(self, inputs: InputSpec, options: NoOptions) -> None:
        first, second = nn.Linear(8, 8), nn.Linear(8, 8)
        second.weight = first.weight
        super().__init__({"one": first, "two": second}, 8)
