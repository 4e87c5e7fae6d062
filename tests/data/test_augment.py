"""Augmentation against torchvision on fixed parameters, and against pencil and paper where it is exact."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from polypath.core.errors import InvalidInput
from polypath.core.examples import Cutout, HorizontalFlip, PadCrop, Perspective, ResizedCrop
from polypath.core.preprocess import ImagePreprocess
from polypath.data.options import PART

module = importlib.import_module("polypath.data.augment")
augment = module.augment


def images(count: int = 6, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    shape = (count, 3, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(monkeypatch, ends: list, flips: list | None = None, crops: list | None = None) -> None:
    """Fix what would be drawn."""
    corners = np.asarray(ends, dtype=np.float64)
    monkeypatch.setattr(module, "draw_perspective", lambda op, count, *rest: (np.ones(count, bool), corners))

    def move(op, count, generator):
        return op, np.array(flips) if isinstance(op, HorizontalFlip) else np.array(crops)

    monkeypatch.setattr(module, "_draw_move", move)


ENDS = [[2, 1], [36, 3], [37, 29], [0, 28]]  # top left, top right, bottom right, bottom left of 40 x 30 pixels
STARTS = [[0, 0], [39, 0], [39, 29], [0, 29]]


def test_perspective_equals_torchvisions(monkeypatch):
    batch = images(2, 30, 40)
    drawn(monkeypatch, [ENDS, ENDS])
    expected = tv.perspective(batch.float() / 255, STARTS, ENDS, InterpolationMode.BILINEAR)
    # 1e-4 of the pixel range: torchvision solves for the same eight numbers in float32 least squares; a difference of
    # 1e-6 in them moves a sample by 1e-4 pixels between neighbours that differ by up to the whole range.
    torch.testing.assert_close(augment(batch, [Perspective()], stream()), expected, rtol=0, atol=1e-4)


def test_one_warp_equals_perspective_flip_and_crop_one_after_the_other(monkeypatch):
    batch = images(2, 30, 40)
    drawn(monkeypatch, [ENDS, ENDS], flips=[True, False], crops=[[0, 7], [8, 3]])
    warped = tv.perspective(batch.float() / 255, STARTS, ENDS, InterpolationMode.BILINEAR)
    padded = torch.nn.functional.pad(torch.stack([warped[0].flip(-1), warped[1]]), (4, 4, 4, 4))
    expected = torch.stack([padded[0, :, 0:30, 8:48], padded[1, :, 7:37, 3:43]])
    found = augment(batch, [Perspective(), HorizontalFlip(), PadCrop(padding=4)], stream())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)  # as above


def test_corners_that_do_not_move_change_nothing(monkeypatch):
    batch = images(1)
    drawn(monkeypatch, [[[0, 0], [31, 0], [31, 31], [0, 31]]])
    # float32 sample places are exact to about 1e-6 of a pixel
    torch.testing.assert_close(augment(batch, [Perspective()], stream()), batch / 255, rtol=0, atol=1e-5)


def test_flip_and_crop_move_pixels_exactly(monkeypatch):
    batch = images(3)
    drawn(monkeypatch, [], flips=[True, False, True], crops=[[0, 4, 8], [8, 4, 1]])
    padded = torch.nn.functional.pad(batch, (4, 4, 4, 4))
    mirrored = padded.flip(-1)
    expected = torch.stack([mirrored[0, :, 0:32, 8:40], padded[1, :, 4:36, 4:36], mirrored[2, :, 8:40, 1:33]])
    assert torch.equal(augment(batch, [HorizontalFlip(), PadCrop(padding=4)], stream()), expected / 255)


def test_order_matters_and_is_kept(monkeypatch):
    batch = images(1)
    drawn(monkeypatch, [], flips=[True], crops=[[4], [8]])
    padded = torch.nn.functional.pad(batch, (4, 4, 4, 4))
    found = augment(batch, [PadCrop(padding=4), HorizontalFlip()], stream())
    assert torch.equal(found, padded[:, :, 4:36, 8:40].flip(-1) / 255)


def test_two_crops_keep_what_the_first_cut_off_black(monkeypatch):
    batch = torch.full((1, 1, 4, 4), 255, dtype=torch.uint8)
    shifts = iter([np.array([[2], [1]]), np.array([[0], [1]])])  # down by one, then back up by one
    monkeypatch.setattr(module, "_draw_move", lambda op, count, generator: (op, next(shifts)))
    found = augment(batch, [PadCrop(padding=1), PadCrop(padding=1)], stream())
    assert found[0, 0].sum(dim=1).tolist() == [0.0, 4.0, 4.0, 4.0]  # the top row left the image and came back black


def test_black_padding_is_raw_black_and_not_the_mean_colour(monkeypatch):
    drawn(monkeypatch, [], crops=[[0], [0]])
    decoder = ImagePreprocess(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    found = decoder.encode(augment(images(1), [PadCrop(padding=4)], stream()))
    assert found[0, :, 0, 0].tolist() == [-2.0, -2.0, -2.0]  # (0 - 0.5) / 0.25


def test_corner_offsets_are_torchvisions_distribution():
    op = Perspective(p=1.0, scale=0.2)
    _, ends = module.draw_perspective(op, 4000, 32, 64, stream())
    inwards = np.abs(ends - np.array([[0, 0], [63, 0], [63, 31], [0, 31]]))
    assert set(np.unique(inwards[..., 0])) == set(range(7))  # 0 .. int(0.2 * 32)
    assert set(np.unique(inwards[..., 1])) == set(range(4))  # 0 .. int(0.2 * 16)
    share = np.bincount(inwards[..., 1].astype(int).ravel()) / inwards[..., 1].size
    # 16,000 draws: a share of 1/4 has a deviation of 0.0034; five of them
    assert np.abs(share - 0.25).max() < 0.018


@pytest.mark.parametrize(("op", "p"), [(Perspective(p=0.75), 0.75), (HorizontalFlip(p=0.3), 0.3)])
def test_operations_happen_with_their_probability(op, p):
    batch = images(1)[:, :1].expand(4000, 1, 32, 32)
    changed = (augment(batch, [op], stream()) - batch / 255).abs().flatten(1).amax(1) > 1e-3
    # five deviations of sqrt(p (1 - p) / 4000); that all eight offsets are 0 has a chance of 4^-8
    assert abs(changed.float().mean().item() - p) < 0.036


def test_corners_that_cross_leave_the_image_as_it_is():
    batch = images(500, 8, 8)
    found = augment(batch, [Perspective(p=1, scale=0.99)], stream())
    same = ((found - batch / 255).abs().flatten(1).amax(1) < 1e-6).float().mean()
    assert torch.isfinite(found).all() and 0 < same < 0.5


def test_cutout_fills_a_clipped_square_with_the_mean_colour():
    batch = torch.zeros(500, 3, 20, 20, dtype=torch.uint8)
    found = augment(batch, [Cutout(size=6)], stream(), mean=(0.1, 0.2, 0.3))
    filled = found[:, 0] > 0
    assert torch.equal(found[:, 2] > 0, filled) and found.amax(dim=(0, 2, 3)).tolist() == pytest.approx([0.1, 0.2, 0.3])
    sides = torch.stack([filled.any(2).sum(1), filled.any(1).sum(1)])
    assert sides.min() == 3 and sides.max() == 6  # clipped to half at a border, whole inside
    assert torch.equal(filled.sum(dim=(1, 2)), sides[0] * sides[1])


def test_resized_crop_equals_cutting_and_resizing(monkeypatch):
    batch = images(2, 24, 20)
    areas = torch.tensor([[3, 0], [2, 5], [10, 24], [8, 9]])  # top, left, height, width of each image
    monkeypatch.setattr(module, "draw_crop", lambda *arguments: areas)
    found = augment(batch, [ResizedCrop()], stream())
    for number in range(2):
        top, left, height, width = areas[:, number].tolist()
        expected = tv.resized_crop(batch[number].float() / 255, top, left, height, width, [24, 20], antialias=False)
        # sample places in float32 units of the whole image: 1e-6 of 24 pixels between neighbours a range apart
        torch.testing.assert_close(found[number], expected, rtol=0, atol=1e-4)


def test_areas_lie_inside_and_have_the_size_and_ratio_asked_for():
    op = ResizedCrop(scale=(0.3, 0.6), ratio=(0.75, 4 / 3))
    top, left, height, width = module.draw_crop(op, 2000, 40, 40, stream())
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 40).all() and (left + width <= 40).all()
    share = height * width / 1600
    # sides are rounded to whole pixels: half a pixel of at least 18 on each side is 6 %
    assert 0.3 * 0.94 < share.min() and share.max() < 0.6 * 1.06
    assert (width / height).min() > 0.75 * 0.94 and (width / height).max() < 4 / 3 * 1.06


def test_where_no_area_fits_the_centre_is_taken():
    op = ResizedCrop(scale=(1.0, 1.0), ratio=(2.0, 3.0))  # twice as wide as high, of a square: nothing fits
    assert module.draw_crop(op, 1, 30, 30, stream())[:, 0].tolist() == [7, 0, 15, 30]


def test_the_same_generator_gives_the_same_images_and_the_global_one_is_not_used():
    state = torch.get_rng_state()
    ops = [*PART, ResizedCrop(), Cutout()]
    first, again, other = (augment(images(), ops, stream(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_batch_itself_is_left_alone_and_values_stay_in_range():
    batch = images()
    before = batch.clone()
    found = augment(batch, PART, stream())
    assert torch.equal(batch, before) and found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1 + 1e-6  # bilinear weights add up to 1 within float32 rounding


def test_no_operation_is_only_a_change_of_units():
    batch = images()
    assert torch.equal(augment(batch, [], stream()), batch.float() / 255)
    assert torch.equal(augment(batch / 255, [HorizontalFlip(p=1)], stream()), (batch / 255).flip(-1))


@pytest.mark.parametrize("batch", [torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(1, 3, 4, 4, dtype=torch.int64)])
def test_something_else_than_a_batch_of_images_is_refused(batch):
    with pytest.raises(InvalidInput, match=r"\(n, channels, height, width\), uint8 or float, required"):
        augment(batch, PART, stream())


@pytest.mark.gpu
def test_on_another_device_the_same_parameters_are_drawn():
    found = augment(images().cuda(), PART, stream())
    # bilinear sampling in another order of operations, float32
    torch.testing.assert_close(found.cpu(), augment(images(), PART, stream()), rtol=0, atol=1e-4)
