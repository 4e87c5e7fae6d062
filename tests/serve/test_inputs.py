"""Which inputs are decoded on the event loop: those that take less time than waking a thread, and no others."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image as pil

from polypath.core.preprocess import ImagePreprocess, TablePreprocess
from polypath.core.task import Classification, Features, Image, Task
from polypath.serve.inputs import FEW, FORMATS, decoded, quick
from polypath.serve.settings import Limits

SHAPE = {"channels": 3, "height": 8, "width": 8}
TARGET = Classification(labels=("a", "b"))
IMAGES = Task(
    name="images",
    inputs=Image(**SHAPE),
    target=TARGET,
    preprocess=ImagePreprocess(**SHAPE, mean=(0.5,) * 3, std=(0.25,) * 3),
)


def packed(size: tuple[int, int], form: str = "PNG") -> bytes:
    out = io.BytesIO()
    pil.new("RGB", size, (10, 20, 30)).save(out, form)
    return out.getvalue()


@pytest.mark.parametrize("size", [(8, 8), (64, 64)])
def test_a_small_png_is_decoded_at_once(size: tuple[int, int]) -> None:
    data = packed(size)
    assert quick(IMAGES, [data]) and quick(IMAGES, [base64.b64encode(data).decode()])


def test_a_small_file_of_many_pixels_is_not() -> None:
    data = packed((1000, 1000))
    assert len(data) < 16_384
    assert not quick(IMAGES, [data]) and not quick(IMAGES, [base64.b64encode(data).decode()])


def test_other_formats_many_images_and_what_is_no_image_are_not() -> None:
    small = packed((8, 8))
    assert not quick(IMAGES, [packed((8, 8), "JPEG")])
    assert not quick(IMAGES, [small] * (FEW + 1))
    for broken in (small[:20], b"", "iVBORw0KGgo", "iVBORw0KGgo!!!!" * 4, "no image", [1.0], {"x": 1.0}):
        assert not quick(IMAGES, [broken])


def test_both_ways_decode_to_the_same_pixels() -> None:
    data = packed((8, 8))
    (one,) = decoded(IMAGES, [data], Limits())
    (other,) = decoded(IMAGES, [base64.b64encode(data).decode()], Limits())
    assert one.equal(other) and one.shape == (3, 8, 8)


@pytest.mark.parametrize("form", [*FORMATS, "MPO"])
def test_every_format_is_decoded(form: str) -> None:
    (found,) = decoded(IMAGES, [packed((8, 8), form)], Limits(), fit=True)
    assert found.shape == (3, 8, 8)
    assert (found.int() - torch.tensor([10, 20, 30]).view(3, 1, 1)).abs().max() <= 6  # JPEG and WebP lose a little


def test_grey_of_16_bits_is_scaled_here_too() -> None:
    out = io.BytesIO()
    pil.fromarray(np.full((8, 8), 30_000, np.uint16)).save(out, "PNG")
    (found,) = decoded(IMAGES, [out.getvalue()], Limits(), fit=True)
    assert found.unique().tolist() == [117]  # 30000 / 257 = 116.7


def test_rows_are_quick_up_to_a_number_of_values() -> None:
    names = tuple(f"x{number}" for number in range(64))
    rows = TablePreprocess(columns=names, mean=(0.0,) * 64, std=(1.0,) * 64)
    task = Task(name="rows", inputs=Features(size=64), target=TARGET, preprocess=rows)
    assert quick(task, [[0.0] * 64] * 64) and not quick(task, [[0.0] * 64] * 65)
