"""Images of more than 8 bits a channel: scaled, refused or left out, and never all white."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from polypath.core.errors import InvalidInput
from polypath.data import images, open_source


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPATH_CACHE", str(tmp_path / "cache"))


def deep_folder(path, dtype=np.uint16, suffix="png"):
    for label in ("high", "low"):
        (path / label).mkdir(parents=True)
        for number in range(3):
            grey = np.full((4, 4), 1000 * number + (40_000 if label == "high" else 0), dtype=dtype)
            Image.fromarray(grey).save(path / label / f"{number}.{suffix}")
    return path


def first_pixels(folder):
    return open_source(f"folder:{folder}").source.take(torch.arange(6))[:, 0, 0, 0].tolist()


def test_grey_images_of_16_bits_are_scaled_and_not_all_white(tmp_path):
    folder = deep_folder(tmp_path / "deep")
    assert first_pixels(folder) == [156, 160, 163, 0, 4, 8]  # 40000, 41000, 42000, 0, 1000, 2000 over 257, rounded
    assert len(set(open_source(f"folder:{folder}").hashes().tolist())) == 6


def test_images_of_32_bits_are_refused_or_left_out(tmp_path):
    folder = deep_folder(tmp_path / "deep", np.int32, "tif")
    with pytest.raises(InvalidInput, match="0.tif' cannot be read: image: 8 or 16 bits a channel are required"):
        open_source(f"folder:{folder}")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "high" / "8.png")
    found = open_source(f"folder:{folder}", shape=images.Shape(on_error="skip"))
    assert len(found.unreadable) == 6 and found.readable.sum() == 1


def test_pixels_that_an_earlier_decoder_kept_are_not_used(tmp_path, monkeypatch):
    folder = deep_folder(tmp_path / "deep")
    with monkeypatch.context() as earlier:
        earlier.setattr(images, "DECODER", images.DECODER - 1)
        earlier.setattr(images, "eight_bits", lambda image, channels=None: image.convert("L"))
        assert first_pixels(folder) == [255, 255, 255, 0, 255, 255]
    assert first_pixels(folder) == [156, 160, 163, 0, 4, 8]


def test_lab_images_become_the_grey_of_their_colours(tmp_path):
    colours = Image.merge("LAB", [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (120, 20, 200)])
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        colours.save(tmp_path / label / "0.tif")
    found = open_source(f"folder:{tmp_path}", shape=images.Shape(channels=1))
    expected = np.asarray(colours.convert("RGB").convert("L"))
    assert found.source.take(torch.arange(1))[0, 0].tolist() == expected.tolist()
