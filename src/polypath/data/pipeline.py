"""Training images as evolution varies them: crop, flip and colour jitter, every strength a number that can mutate.

Source: mu2Net, table 1, and the authors' notebook: a random box with area in [a, 1] and aspect in [r, 1/r], resized
bilinearly; a mirror image with probability 1/2; brightness, contrast, saturation and hue on values in [-1, 1], clipped
to them. Not as there: aspects are drawn log-uniformly (as `ResizedCrop` does: r and 1/r are equally likely), and
saturation and hue follow their definition on whatever range the values have (TensorFlow's are defined on [0, 1]).
"""

from __future__ import annotations

import torch
from pydantic import Field

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.examples import Augment, HorizontalFlip, ResizedCrop
from polypath.data.augment import augment


class Pipeline(Config):
    """How training images are varied.

    Args:
        crop: cut a random box and resize it to the whole.
        area_min: smallest share of the image's area.
        aspect_min: smallest width / height; the largest is its inverse.
        flip: mirror half of the images.
        brightness: largest number added to all values, of a range of 2.
        contrast: largest relative change of the distances from the mean of each channel.
        saturation: largest relative change of the distances from the brightest channel.
        hue: largest turn of the colour circle, of a whole turn.
    """

    crop: bool = False
    area_min: float = Field(0.05, gt=0, le=1)
    aspect_min: float = Field(0.75, gt=0, le=1)
    flip: bool = False
    brightness: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    saturation: float = Field(0.0, ge=0, le=1)
    hue: float = Field(0.0, ge=0, le=0.5)

    @property
    def deterministic(self) -> bool:
        """Whether every image comes out as it is, each time."""
        return not (self.crop or self.flip or self.jitters)

    @property
    def jitters(self) -> bool:
        """Whether colours change."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    @property
    def moves(self) -> tuple[Augment, ...]:
        """Crop and flip as operations of `polypath.data.augment`."""
        area, aspect = (self.area_min, 1.0), (self.aspect_min, 1 / self.aspect_min)
        crop: tuple[Augment, ...] = (ResizedCrop(scale=area, ratio=aspect),) if self.crop else ()
        flip: tuple[Augment, ...] = (HorizontalFlip(p=0.5),) if self.flip else ()
        return crop + flip


def varied(batch: torch.Tensor, pipeline: Pipeline, generator: torch.Generator) -> torch.Tensor:
    """Images as a child sees them in training, before `encode`.

    Args:
        batch: (n, channels, height, width) uint8, or floats in [0, 1].
        pipeline: what is done.
        generator: the only source of randomness.

    Returns:
        Floats in [0, 1]; the very batch where the pipeline is deterministic.
    """
    if pipeline.deterministic:
        return batch
    folded = once(batch)
    grey = folded is not batch
    moved = augment(folded[:, :1] if grey else batch, pipeline.moves, generator)
    if pipeline.jitters:
        # The brightest channel of a grey pixel is every channel: saturation and hue leave it as it is, bit for bit.
        colours = pipeline.changed(saturation=0.0, hue=0.0) if grey else pipeline
        moved = (jitter(2 * moved - 1, colours, generator) + 1) / 2
    return moved.expand(-1, 3, -1, -1) if grey else moved


def once(batch: torch.Tensor) -> torch.Tensor:
    """Grey images carried in three equal channels as one channel that is seen three times; others as they are.

    What changes every channel alike need be done to the first only, and `encode` of such a batch does so.

    Args:
        batch: (n, channels, height, width), decoded.
    """
    if batch.ndim != 4 or batch.shape[1] != 3 or batch.dtype != torch.uint8 or not batch.is_contiguous():
        return batch
    planes = batch.flatten(2)
    if planes.shape[2] % 8 == 0:
        planes = planes.view(torch.int64)  # eight pixels compared at once
    grey = torch.equal(planes[:, 0], planes[:, 1]) and torch.equal(planes[:, 0], planes[:, 2])
    return batch[:, :1].expand(-1, 3, -1, -1) if grey else batch


def jitter(values: torch.Tensor, pipeline: Pipeline, generator: torch.Generator) -> torch.Tensor:
    """Colours changed at random, image by image; values (n, channels, height, width) in [-1, 1] stay in them.

    Every kind draws its numbers whether or not it is on, so that turning one on does not move the others'.

    Raises:
        InvalidInput: saturation or hue for images that have not three channels.
    """
    if (pipeline.saturation or pipeline.hue) and values.shape[1] != 3:
        raise InvalidInput(f"saturation and hue need three channels, received {values.shape[1]}")
    drawn = 2 * torch.rand(4, len(values), generator=generator, device=generator.device).to(values.device) - 1
    shift, gain, colour, turn = drawn[:, :, None, None, None]
    if pipeline.brightness:
        values = values + pipeline.brightness * shift
    if pipeline.contrast:
        mean = values.mean((2, 3), keepdim=True)
        values = mean + (1 + pipeline.contrast * gain) * (values - mean)
    if pipeline.saturation:
        brightest = values.amax(1, keepdim=True)
        values = brightest - (1 + pipeline.saturation * colour) * (brightest - values)
    if pipeline.hue:
        values = turned(values, pipeline.hue * turn)
    return values.clamp(-1, 1)


def turned(values: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Hues moved along the colour circle; brightest and darkest channel of every pixel keep their values.

    Args:
        values: (n, 3, height, width) in any range.
        turn: of each image, in whole turns, broadcast against (n, 1, height, width).
    """
    high, low = values.amax(1, keepdim=True), values.amin(1, keepdim=True)
    span = high - low
    red, green, blue = values.split(1, dim=1)
    safe = torch.where(span > 0, span, torch.ones_like(span))
    sector = torch.where(
        high == red,
        ((green - blue) / safe) % 6,
        torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sector = sector + 6 * turn
    steps = [(offset + sector) % 6 for offset in (5.0, 3.0, 1.0)]
    return torch.cat([high - span * torch.minimum(k, 4 - k).clamp(0, 1) for k in steps], dim=1)
