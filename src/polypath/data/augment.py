"""Random changes to whole batches of images, on their device, with every number drawn from an explicit generator.

Operations act on raw pixels before normalisation: what lies outside an image is black in raw pixels, as with
torchvision's RandomPerspective and RandomCrop when they stand before ToTensor and Normalize. (Padding after
normalisation would be the mean colour instead.) Flips and integer crops move pixels exactly; a perspective directly
before them is composed with them into one bilinear warp, and images that drew no perspective are not warped at all.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from polypath.core.errors import InvalidInput
from polypath.core.examples import Augment, Cutout, HorizontalFlip, PadCrop, Perspective, ResizedCrop

Move = tuple[HorizontalFlip, torch.Tensor] | tuple[PadCrop, torch.Tensor]


def augment(
    batch: torch.Tensor, ops: Sequence[Augment], generator: torch.Generator, mean: Sequence[float] | None = None
) -> torch.Tensor:
    """Float images in [0, 1] of the same shape, changed at random; `encode` of the preprocess normalises them.

    Args:
        batch: (B, C, H, W) uint8, or floats in [0, 1].
        ops: applied in this order.
        generator: the only source of randomness, on any device. Its draws depend on B, H, W and `ops` alone.
        mean: colour that Cutout fills with, one number a channel in [0, 1] (it becomes 0 when normalised); None: black.

    Raises:
        InvalidInput: a batch of another rank or dtype.
    """
    if batch.ndim != 4 or not (batch.dtype == torch.uint8 or batch.is_floating_point()):
        raise InvalidInput(
            f"batch: (n, channels, height, width), uint8 or float, required, received {tuple(batch.shape)} {batch.dtype}"
        )
    for group in _groups(ops):
        if isinstance(group[0], Cutout):
            batch = _cutout(_unit(batch), group[0], generator, mean)
        elif isinstance(group[0], ResizedCrop):
            batch = _resized_crop(_unit(batch), group[0], generator)
        else:
            batch = _geometry(batch, group, generator)
    return _unit(batch)


def _groups(ops: Sequence[Augment]) -> list[list[Augment]]:
    """Operations that are done together: an optional perspective followed by flips and integer crops."""
    groups: list[list[Augment]] = []
    for op in ops:
        joins = isinstance(op, (HorizontalFlip, PadCrop))
        if groups and joins and isinstance(groups[-1][-1], (Perspective, HorizontalFlip, PadCrop)):
            groups[-1].append(op)
        else:
            groups.append([op])
    return groups


def _unit(batch: torch.Tensor) -> torch.Tensor:
    return batch.float() / 255 if batch.dtype == torch.uint8 else batch.float()


def _geometry(batch: torch.Tensor, ops: list[Augment], generator: torch.Generator) -> torch.Tensor:
    count, _, height, width = batch.shape
    device = batch.device
    moves: list[Move] = []
    chosen, ends = torch.arange(0), torch.empty(0)
    for op in ops:
        if isinstance(op, Perspective):
            chosen, ends = draw_perspective(op, count, height, width, generator)
        elif isinstance(op, (HorizontalFlip, PadCrop)):
            moves.append(_draw_move(op, count, generator))
    rows, columns, weight = _origins(moves, count, height, width, generator.device)
    out = torch.empty(batch.shape, device=device)
    if len(chosen):
        to = chosen.to(device)
        places = homographies(ends, height, width), rows[chosen], columns[chosen]
        out[to] = _warped(batch[to], *(place.to(device) for place in places))
    if len(chosen) < count:
        rest = torch.ones(count, dtype=torch.bool, device=generator.device).index_fill_(0, chosen.to(generator.device), 0)
        at = rest.nonzero().flatten()
        to = at.to(device)
        out[to] = _moved(batch[to], rows[at].to(device), columns[at].to(device)).float()
    scale = 255.0 if batch.dtype == torch.uint8 else 1.0
    return out.div_(scale) if weight is None else out.mul_(weight.to(device).div_(scale))


def draw_perspective(
    op: Perspective, count: int, height: int, width: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which images are warped, and where their corners go.

    Each corner moves inwards by whole pixels, uniform in 0..floor(scale * side / 2) for each side (as torchvision's
    RandomPerspective draws them).

    Returns:
        (n,) image numbers and (n, 4, 2) float64 corners (x, y): top left, top right, bottom right, bottom left.
    """
    device = generator.device
    chosen = (torch.rand(count, generator=generator, device=device) < op.p).nonzero().flatten()
    reach = torch.tensor([int(op.scale * (width // 2)), int(op.scale * (height // 2))], device=device)
    offset = (torch.rand(count, 4, 2, generator=generator, device=device) * (reach + 1)).floor().minimum(reach)
    corner = torch.tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], device=device)
    inwards = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]], device=device)
    return chosen, (corner + inwards * offset).double()[chosen]


def homographies(ends: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(n, 8) float64 coefficients that map a point of the result to a point of the image.

    u = (a x + b y + c) / (g x + h y + 1), v = (d x + e y + f) / (g x + h y + 1), such that `ends` map to the corners.

    Args:
        ends: (n, 4, 2) where the corners go, in the order of `draw_perspective`.
        height, width: of the image, pixels.
    """
    start = ends.new_tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])
    system = ends.new_zeros(len(ends), 8, 8)
    for axis in (0, 1):  # four equations for u, four for v
        part = system[:, 4 * axis : 4 * axis + 4]
        part[:, :, 3 * axis : 3 * axis + 2] = ends
        part[:, :, 3 * axis + 2] = 1
        part[:, :, 6:] = -start[:, axis, None] * ends
    return torch.linalg.solve(system, start.T.reshape(8).expand(len(ends), 8))


def _draw_move(op: HorizontalFlip | PadCrop, count: int, generator: torch.Generator) -> Move:
    device = generator.device
    if isinstance(op, HorizontalFlip):
        return op, torch.rand(count, generator=generator, device=device) < op.p
    return op, torch.randint(2 * op.padding + 1, (2, count), generator=generator, device=device)


def _origins(
    moves: list[Move], count: int, height: int, width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Where each row and column of the result comes from, (B, H) and (B, W), and which pixels there are.

    The third is (B, 1, H, W), 1.0 or, where a crop looked beyond the border at any stage, 0.0; None where none can.
    """
    rows = torch.arange(height, device=device).expand(count, height)
    columns = torch.arange(width, device=device).expand(count, width)
    inside: tuple[torch.Tensor, torch.Tensor] | None = None
    for op, drawn in reversed(moves):
        if isinstance(op, HorizontalFlip):
            columns = torch.where(drawn[:, None], width - 1 - columns, columns)
            continue
        rows = rows + (drawn[0, :, None] - op.padding)
        columns = columns + (drawn[1, :, None] - op.padding)
        fits = ((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
        inside = fits if inside is None else (inside[0] & fits[0], inside[1] & fits[1])
    if inside is None:
        return rows, columns, None
    weight = inside[0][:, None, :, None].float() * inside[1][:, None, None, :]
    return rows.clamp(0, height - 1), columns.clamp(0, width - 1), weight


def _moved(batch: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The pixels at the given rows and columns of each image, exactly."""
    count, channels, _, width = batch.shape
    flat = (rows[:, :, None] * width + columns[:, None, :]).reshape(count, 1, -1)
    return batch.reshape(count, channels, -1).gather(2, flat.expand(-1, channels, -1)).reshape(batch.shape)


def _warped(
    batch: torch.Tensor, coefficients: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Bilinear samples at the homographies of the given rows and columns, float in the batch's units; black outside.

    Pixel centres lie at +0.5 when they are mapped although the corners are pixel numbers: torchvision does the same.
    """
    height, width = batch.shape[-2:]
    full = functional.pad(coefficients, (0, 1), value=1.0).reshape(-1, 3, 3)
    below = full[:, 2]
    # u and v in grid_sample's units, -1..1: 2 u / width - 1, folded into the coefficients
    matrix = torch.stack([full[:, 0] * (2 / width) - below, full[:, 1] * (2 / height) - below, below], dim=1).float()
    along = matrix[:, :, 0, None] * (columns[:, None] + 0.5)
    down = matrix[:, :, 1, None] * (rows[:, None] + 0.5) + matrix[:, :, 2, None]
    points = along[:, :, None, :] + down[:, :, :, None]
    grid = (points[:, :2] / points[:, 2:]).permute(0, 2, 3, 1)
    return functional.grid_sample(batch.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _resized_crop(batch: torch.Tensor, op: ResizedCrop, generator: torch.Generator) -> torch.Tensor:
    count, _, height, width = batch.shape
    top, left, high, wide = draw_crop(op, count, height, width, generator).float()[:, :, None].unbind(0)
    x = left + ((torch.arange(width, device=top.device) + 0.5) * (wide / width)).clamp(min=0.5).minimum(wide - 0.5)
    y = top + ((torch.arange(height, device=top.device) + 0.5) * (high / height)).clamp(min=0.5).minimum(high - 0.5)
    u, v = x * (2 / width) - 1, y * (2 / height) - 1
    grid = torch.stack([u[:, None, :].expand(-1, height, -1), v[:, :, None].expand(-1, -1, width)], dim=-1)
    return functional.grid_sample(
        batch, grid.to(batch.device), mode="bilinear", padding_mode="border", align_corners=False
    )


def draw_crop(op: ResizedCrop, count: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """(4, B) int64 top, left, height, width of the areas to cut.

    As torchvision's RandomResizedCrop: ten attempts with uniform area and log-uniform ratio (width / height), the
    first that fits counts; then the centre, as large as the ratio allows.
    """
    device, tries = generator.device, (count, 10)
    draws = [torch.rand(tries, generator=generator, device=device) for _ in range(2)]
    place = torch.rand(2, count, generator=generator, device=device)
    area = height * width * (op.scale[0] + draws[0] * (op.scale[1] - op.scale[0]))
    low, high = (math.log(value) for value in op.ratio)
    ratio = (low + draws[1] * (high - low)).exp()
    wide, tall = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first = fits.long().argmax(dim=1, keepdim=True)
    own = width / height
    fallback_w = width if own <= op.ratio[1] else round(height * op.ratio[1])
    fallback_h = height if own >= op.ratio[0] else round(width / op.ratio[0])
    any_fits = fits.any(dim=1)
    wide = torch.where(any_fits, wide.gather(1, first).flatten(), fallback_w)
    tall = torch.where(any_fits, tall.gather(1, first).flatten(), fallback_h)
    top = torch.where(any_fits, (place[0] * (height - tall + 1)).floor().long(), (height - tall) // 2)
    left = torch.where(any_fits, (place[1] * (width - wide + 1)).floor().long(), (width - wide) // 2)
    return torch.stack([top.minimum(height - tall), left.minimum(width - wide), tall, wide])


def _cutout(
    batch: torch.Tensor, op: Cutout, generator: torch.Generator, mean: Sequence[float] | None
) -> torch.Tensor:
    """A square whose centre is uniform over all pixels, so that it may reach over the border (DeVries, Taylor 2017)."""
    count, channels, height, width = batch.shape
    device = generator.device
    centre = torch.rand(2, count, generator=generator, device=device)
    top = (centre[0] * height).floor().long()[:, None] - op.size // 2
    left = (centre[1] * width).floor().long()[:, None] - op.size // 2
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    rows, columns = (y >= top) & (y < top + op.size), (x >= left) & (x < left + op.size)
    mask = (rows[:, None, :, None] & columns[:, None, None, :]).to(batch.device)
    colour = torch.tensor(mean if mean is not None else [0.0] * channels, device=batch.device).view(1, -1, 1, 1)
    return torch.where(mask, colour, batch)
