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

import numpy as np
import torch
from torch.nn import functional

from polypath.core.errors import InvalidInput
from polypath.core.examples import Augment, Cutout, HorizontalFlip, PadCrop, Perspective, ResizedCrop

Move = tuple[HorizontalFlip, np.ndarray] | tuple[PadCrop, np.ndarray]


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
            f"batch: (n, channels, height, width), uint8 or float, required, "
            f"received {tuple(batch.shape)} {batch.dtype}"
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
    """Perspective, flips and crops.

    What is known of each image is worked out in NumPy: it is little data in many steps, and a step costs a fraction
    of what it does in torch. Pixels are touched by torch, on their device.
    """
    count, _, height, width = batch.shape
    moves: list[Move] = []
    warped, ends = np.zeros(count, dtype=bool), np.zeros((0, 4, 2))
    for op in ops:
        if isinstance(op, Perspective):
            warped, ends = draw_perspective(op, count, height, width, generator)
        elif isinstance(op, (HorizontalFlip, PadCrop)):
            moves.append(_draw_move(op, count, generator))
    if all(isinstance(op, HorizontalFlip) for op in ops):
        return _mirrored(batch, np.logical_xor.reduce([drawn for _, drawn in moves]))
    rows, columns, weight = _origins(moves, count, height, width)
    chosen, rest = np.flatnonzero(warped), np.flatnonzero(~warped)

    def there(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(batch.device)

    out = torch.empty(batch.shape, device=batch.device)
    if len(chosen):
        to = there(chosen)
        matrices = there(_sampling(homographies(ends, height, width), height, width))
        out.index_copy_(
            0, to, _warped(batch.index_select(0, to), matrices, there(rows[chosen]), there(columns[chosen]))
        )
    if len(rest):
        to = there(rest)
        flat = rows[rest, :, None] * width + columns[rest, None, :]
        out.index_copy_(0, to, _moved(batch.index_select(0, to), there(flat)).float())
    scale = 255.0 if batch.dtype == torch.uint8 else 1.0
    if weight is not None:
        out.mul_(there(weight[0])).mul_(there(weight[1]))
    return out.div_(scale)  # divided last, as `encode` does: a pixel that only moved keeps its exact value


def _mirrored(batch: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
    """Floats in [0, 1], the chosen images (B,) mirrored."""
    flips = torch.from_numpy(chosen).to(batch.device)[:, None, None, None]
    return _unit(torch.where(flips, batch.flip(-1), batch))


def draw_perspective(
    op: Perspective, count: int, height: int, width: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which images are warped, and where their corners go.

    Each corner moves inwards by whole pixels, uniform in 0..floor(scale * half a side) for each side (as torchvision's
    RandomPerspective draws them). Corners that form no convex quadrilateral, possible for a scale above 2/3 only,
    leave their image as it is.

    Returns:
        (B,) booleans, and for each of the n chosen images (n, 4, 2) corners (x, y): top left, top right, bottom
        right, bottom left.
    """
    chosen = _uniform((count,), generator) < op.p
    reach = np.array([int(op.scale * (width // 2)), int(op.scale * (height // 2))])
    offset = np.minimum(np.floor(_uniform((count, 4, 2), generator) * (reach + 1)), reach)
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    ends = _corners(height, width) + inwards * offset
    if 3 * reach[0] >= width - 1 or 3 * reach[1] >= height - 1:  # with less, every draw is convex
        chosen &= _convex(ends)
    return chosen, ends[chosen]


def _convex(ends: np.ndarray) -> np.ndarray:
    """Which corners (n, 4, 2) form a convex quadrilateral; others have no perspective that shows the whole image."""
    side = np.roll(ends, -1, axis=1) - ends
    following = np.roll(side, -1, axis=1)
    turns = side[..., 0] * following[..., 1] - side[..., 1] * following[..., 0]
    convex: np.ndarray = turns.min(axis=1) > 0
    return convex


def homographies(ends: np.ndarray, height: int, width: int) -> np.ndarray:
    """(n, 3, 3) matrices that map a point of the result to a point of the image.

    u = (a x + b y + c) / (g x + h y + i), v = (d x + e y + f) / (g x + h y + i), such that `ends` map to the corners.
    Scaled so that the divisor is 1 at the centre, which lies inside every convex quadrilateral of
    `draw_perspective`; where the top left pixel is, it may be 0.

    Args:
        ends: (n, 4, 2) where the corners go, in the order of `draw_perspective`.
        height: of the image, pixels.
        width: of the image, pixels.
    """
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    start = _corners(height, width).astype(np.float64)
    system = np.zeros((len(ends), 8, 8))
    for axis in (0, 1):  # four equations for u, four for v
        part = system[:, 4 * axis : 4 * axis + 4]
        part[:, :, 3 * axis : 3 * axis + 2] = ends - centre
        part[:, :, 3 * axis + 2] = 1
        part[:, :, 6:] = -start[:, axis, None] * (ends - centre)
    solved = np.linalg.solve(system, np.tile(start.T.reshape(1, 8, 1), (len(ends), 1, 1)))[..., 0]
    matrices = np.concatenate([solved, np.ones((len(ends), 1))], axis=1).reshape(-1, 3, 3)
    matrices[:, :, 2] -= matrices[:, :, :2] @ centre
    return matrices


def _corners(height: int, width: int) -> np.ndarray:
    return np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])


def _sampling(matrices: np.ndarray, height: int, width: int) -> np.ndarray:
    """The homographies between pixel numbers of the result and grid_sample's -1..1 of the image, float32.

    Pixel centres lie at +0.5 when they are mapped although the corners are pixel numbers: torchvision does the same.
    """
    below = matrices[:, 2]
    scaled = np.stack([matrices[:, 0] * (2 / width) - below, matrices[:, 1] * (2 / height) - below, below], axis=1)
    scaled[:, :, 2] += 0.5 * (scaled[:, :, 0] + scaled[:, :, 1])
    return scaled.astype(np.float32)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> np.ndarray:
    drawn: np.ndarray = torch.rand(shape, generator=generator, device=generator.device).cpu().numpy()
    return drawn


def _draw_move(op: HorizontalFlip | PadCrop, count: int, generator: torch.Generator) -> Move:
    if isinstance(op, HorizontalFlip):
        return op, _uniform((count,), generator) < op.p
    drawn = torch.randint(2 * op.padding + 1, (2, count), generator=generator, device=generator.device)
    return op, drawn.cpu().numpy()


def _origins(
    moves: list[Move], count: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Where each row and column of the result comes from, (B, H) and (B, W), and which of them there are.

    The third holds float32 (B, 1, H, 1) and (B, 1, 1, W): 1, or 0 where a crop looked beyond the border at any stage;
    None where none can.
    """
    rows = np.tile(np.arange(height), (count, 1))
    columns = np.tile(np.arange(width), (count, 1))
    inside: tuple[np.ndarray, np.ndarray] | None = None
    for op, drawn in reversed(moves):
        if isinstance(op, HorizontalFlip):
            columns = np.where(drawn[:, None], width - 1 - columns, columns)
            continue
        rows = rows + (drawn[0, :, None] - op.padding)
        columns = columns + (drawn[1, :, None] - op.padding)
        fits = ((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
        inside = fits if inside is None else (inside[0] & fits[0], inside[1] & fits[1])
    if inside is None:
        return rows, columns, None
    weight = inside[0][:, None, :, None].astype(np.float32), inside[1][:, None, None, :].astype(np.float32)
    return rows.clip(0, height - 1), columns.clip(0, width - 1), weight


def _moved(batch: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
    """The pixels at the given flat positions (n, H, W) of each image, exactly."""
    count, channels = batch.shape[:2]
    index = flat.reshape(count, 1, -1).expand(-1, channels, -1)
    return batch.reshape(count, channels, -1).gather(2, index).reshape(batch.shape)


def _warped(batch: torch.Tensor, matrices: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Bilinear samples at the homographies of the given rows and columns, float in the batch's units; black outside."""
    along = matrices[:, :, 0, None] * columns[:, None]
    down = torch.addcmul(matrices[:, :, 2, None], matrices[:, :, 1, None], rows[:, None])
    points = along[:, :, None, :] + down[:, :, :, None]
    # Beyond the horizon of a strong perspective the divisor falls to 0 and below; nothing of the image is there.
    grid = (points[:, :2] / points[:, 2:].clamp(min=1e-4)).permute(0, 2, 3, 1)
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


def _cutout(batch: torch.Tensor, op: Cutout, generator: torch.Generator, mean: Sequence[float] | None) -> torch.Tensor:
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
