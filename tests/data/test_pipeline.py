"""Training images as evolution varies them."""

from __future__ import annotations

import colorsys

import pytest
import torch

from polypath.core.errors import InvalidInput
from polypath.core.preprocess import ImagePreprocess
from polypath.data.augment import augment
from polypath.data.pipeline import Pipeline, jitter, once, turned, varied


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 4, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, 6, 6), dtype=torch.uint8, generator=stream(1))


def test_with_everything_off_images_are_untouched_and_nothing_is_drawn() -> None:
    pipeline, generator, batch = Pipeline(), stream(), images()
    assert pipeline.deterministic
    assert varied(batch, pipeline, generator) is batch
    assert torch.equal(generator.get_state(), stream().get_state())


def test_values_stay_in_range_and_the_same_stream_gives_the_same() -> None:
    pipeline = Pipeline(crop=True, flip=True, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.2)
    first, again = (varied(images(), pipeline, stream()) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, varied(images(), pipeline, stream(1)))
    assert float(first.min()) >= 0 and float(first.max()) <= 1 and first.shape == (4, 3, 6, 6)


def test_brightness_and_contrast_follow_their_formulas() -> None:
    """The draws of a stream of its own, in order: shift, gain, colour, turn, each uniform in -1..1 an image."""
    values = 2 * torch.rand(3, 3, 4, 4, generator=stream(2)) - 1
    drawn = 2 * torch.rand(4, 3, generator=stream(5)) - 1
    for kind, strength in (("brightness", 0.1), ("contrast", 0.2)):
        found = jitter(values, Pipeline(**{kind: strength}), stream(5))
        for n in range(3):
            mean = values[n].mean((1, 2), keepdim=True)
            bright, contrast = values[n] + 0.1 * drawn[0, n], mean + (1 + 0.2 * drawn[1, n]) * (values[n] - mean)
            expected = bright if kind == "brightness" else contrast
            torch.testing.assert_close(found[n], expected.clamp(-1, 1))


def test_hue_and_saturation_are_those_of_colorsys() -> None:
    values = torch.rand(2, 3, 3, 3, generator=stream(3))
    turn = torch.tensor([0.13, -0.4])
    found = turned(values, turn.view(2, 1, 1, 1))
    for n in range(2):
        for x in range(3):
            hue, saturation, value = colorsys.rgb_to_hsv(*values[n, :, x, 1].tolist())
            expected = colorsys.hsv_to_rgb((hue + float(turn[n])) % 1, saturation, value)
            assert found[n, :, x, 1].tolist() == pytest.approx(expected, abs=1e-5)
    # More saturation of values in [0, 1], seen as colorsys does; small enough that nothing is clipped at 0.
    pale = 0.5 + 0.1 * values
    changed = jitter(pale, Pipeline(saturation=0.5), stream(4))
    gain = 1 + 0.5 * (2 * torch.rand(4, 2, generator=stream(4)) - 1)[2, 0]
    hue, saturation, value = colorsys.rgb_to_hsv(*pale[0, :, 0, 0].tolist())
    expected = colorsys.hsv_to_rgb(hue, saturation * float(gain), value)
    assert changed[0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_grey_images_in_three_channels_move_as_in_one() -> None:
    grey, pipeline = images(channels=1), Pipeline(crop=True, flip=True)
    three = varied(grey.expand(-1, 3, -1, -1), pipeline, stream())
    assert torch.equal(three, varied(grey, pipeline, stream()).expand(-1, 3, -1, -1))


def test_colours_need_three_channels() -> None:
    with pytest.raises(InvalidInput, match="three channels"):
        varied(images(channels=1), Pipeline(hue=0.1), stream())


SOME = [
    {"crop": True, "flip": True},
    {"flip": True},
    {"brightness": 0.2, "contrast": 0.2},
    {"crop": True, "saturation": 0.2, "hue": 0.2},
    {},
]


@pytest.mark.parametrize("settings", SOME)
def test_grey_images_in_three_channels_are_worked_on_once_with_the_same_bits(settings: dict[str, float]) -> None:
    """Written out: every channel moved by itself with the same draws, then colours of all three, then normalised."""
    pipeline, normalise = (
        Pipeline(**settings),
        ImagePreprocess(channels=3, height=8, width=8, mean=[0.5] * 3, std=[0.3] * 3),
    )
    grey = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=stream(7)).repeat(1, 3, 1, 1)
    used = stream(8)
    moved = torch.cat(
        [augment(grey[:, n : n + 1], pipeline.moves, used.set_state(stream(8).get_state())) for n in range(3)], 1
    )
    expected = (jitter(2 * moved - 1, pipeline, used) + 1) / 2 if pipeline.jitters else moved
    found = normalise.encode(once(varied(grey, pipeline, stream(8))))
    assert torch.equal(found, (expected - 0.5) / torch.tensor(0.3)) and found.stride(1) == 0


def test_images_with_colour_keep_their_channels() -> None:
    batch = images()
    batch[:, 1:] = batch[:, :1]
    assert once(batch).stride(1) == 0 and torch.equal(once(batch), batch)
    batch[3, 2, 5, 5] += 1
    assert once(batch) is batch
    means = ImagePreprocess(channels=3, height=6, width=6, mean=[0.1, 0.2, 0.3], std=[1.0] * 3)
    grey = batch[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(means.encode(grey), means.encode(grey.contiguous()))
