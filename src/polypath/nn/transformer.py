"""A transformer encoder for texts: the network of RSN2's Reuters experiment, 34,627,822 parameters with 46 outputs.

Sums of its layers, by hand, with 30,000 token ids, 512 positions, width 512, 8 heads and 46 outputs:

    embedding      30,000 x 512 + 512 x 512                                 15,622,144
    attention      q, k, v: 3 x (512 x 4,096 + 4,096); norm 2 x 4,096         6,311,936
    feed-forward   4,096 x 1,028 + 1,028; 1,028 x 4,096 + 4,096; norm         8,434,692
    dense          4,096 x 1,028 + 1,028                                     4,211,716
    head           1,028 x 46 + 46                                              47,334

Every head has the full width of the embedding, their concatenation is not projected back, and there is no residual
around the attention (its output is eight times as wide as its input): so the authors build it, and only so the count
comes out. All projections are ordinary linear layers.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.task import InputSpec, Tokens
from polypath.nn.backbones import Backbone

EPSILON = 1e-6  # of the layer norms, as the authors set it


class TransformerOptions(Config):
    """Size of a transformer encoder; the defaults are those of RSN2's experiment 6.

    Args:
        vocabulary: rows of the token embedding, at least as many as a task has token ids; None: as many. A number
            keeps the network's size independent of how many words a data set has.
        width: of the embedding.
        heads: attention heads.
        head_width: of queries, keys and values of each head; None: the width.
        blocks: of attention and feed-forward; the authors have one.
        feed_forward: hidden width between the two layers of a block.
        dense: widths of the layers after the average over positions.
        dropout: after attention, feed-forward, average and dense layers.
        scaled: divide the products of queries and keys by sqrt(head width), as usual; the authors do not.
    """

    vocabulary: int | None = Field(None, gt=0)
    width: int = Field(512, gt=0)
    heads: int = Field(8, gt=0)
    head_width: int | None = Field(None, gt=0)
    blocks: int = Field(1, gt=0)
    feed_forward: int = Field(1028, gt=0)
    dense: tuple[int, ...] = (1028,)
    dropout: float = Field(0.1, ge=0, lt=1)
    scaled: bool = True


class Transformer(Backbone):
    """Token ids (n, length) through `embedding`, `attention1`, `feed_forward1`, ..., `fc1`, ...

    Args:
        inputs: tokens; padding is a token like any other, as in the paper.
        options: sizes.

    Raises:
        InvalidInput: inputs that are no tokens, or more token ids than `vocabulary`.
    """

    Options: ClassVar[type[Config]] = TransformerOptions

    def __init__(self, inputs: InputSpec, options: TransformerOptions) -> None:
        if not isinstance(inputs, Tokens):
            raise InvalidInput(f"backbone 'transformer' takes tokens, received {inputs!r}; use 'mlp' or another kind")
        rows = options.vocabulary or inputs.vocabulary
        if rows < inputs.vocabulary:
            raise InvalidInput(
                f"backbone 'transformer': vocabulary={rows}, but the task has {inputs.vocabulary} token ids (words and "
                "two for padding and unknown words); raise it, or keep fewer words"
            )
        width, wide = options.width, options.heads * (options.head_width or options.width)
        pieces: dict[str, nn.Module] = {"embedding": Embedding(rows, inputs.length, width)}
        for number in range(1, options.blocks + 1):
            pieces[f"attention{number}"] = Attention(width, options)
            pieces[f"feed_forward{number}"] = FeedForward(wide, options)
            width = wide
        before: list[nn.Module] = [Average(), nn.Dropout(options.dropout)]
        for number, size in enumerate(options.dense, start=1):
            pieces[f"fc{number}"] = nn.Sequential(
                *before, nn.Linear(width, size), nn.ReLU(), nn.Dropout(options.dropout)
            )
            width, before = size, []
        if before:
            last = pieces[f"feed_forward{options.blocks}"]
            pieces[f"feed_forward{options.blocks}"] = nn.Sequential(last, *before)
        super().__init__(pieces, width)


class Embedding(nn.Module):
    """Sum of a learned vector for each token and one for each position, (n, length) int64 to (n, length, width)."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        # The authors' framework draws from U(-0.05, 0.05). With torch's N(0, 1) unscaled products of queries and keys
        # begin in the hundreds, and softmax with one position each.
        for table in (self.tokens, self.positions):
            nn.init.uniform_(table.weight, -0.05, 0.05)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, length, width) of token ids (n, length)."""
        out: torch.Tensor = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return out


class Attention(nn.Module):
    """Self-attention whose heads are laid side by side, dropout and layer norm: (n, length, width) to (.., heads x)."""

    def __init__(self, width: int, options: TransformerOptions) -> None:
        super().__init__()
        self.heads = options.heads
        head_width = options.head_width or options.width
        wide = self.heads * head_width
        self.query, self.key, self.value = (nn.Linear(width, wide) for _ in range(3))
        self.scale = head_width**-0.5 if options.scaled else 1.0
        self.dropout, self.norm = nn.Dropout(options.dropout), nn.LayerNorm(wide, EPSILON)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Heads attend to all positions, padding included."""
        n, length, _ = value.shape
        query, key, held = (
            part(value).view(n, length, self.heads, -1).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        found = F.scaled_dot_product_attention(query, key, held, scale=self.scale)
        out: torch.Tensor = self.norm(self.dropout(found.transpose(1, 2).reshape(n, length, -1)))
        return out


class FeedForward(nn.Module):
    """Two linear layers with ReLU between, added to their input, then layer norm."""

    def __init__(self, width: int, options: TransformerOptions) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, options.feed_forward), nn.Linear(options.feed_forward, width)
        self.dropout, self.norm = nn.Dropout(options.dropout), nn.LayerNorm(width, EPSILON)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """(n, length, width), position by position."""
        out: torch.Tensor = self.norm(value + self.dropout(self.down(F.relu(self.up(value)))))
        return out


class Average(nn.Module):
    """Mean over positions, (n, length, width) to (n, width)."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """All positions count alike."""
        return value.mean(dim=1)
