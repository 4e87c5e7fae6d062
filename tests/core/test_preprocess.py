"""Raw inputs to network inputs: values by hand, and every bad input named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polypath.core.errors import InvalidInput
from polypath.core.preprocess import ImagePreprocess, TablePreprocess, TextPreprocess

RGB = ImagePreprocess(channels=3, height=2, width=4, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
GREY = ImagePreprocess(channels=1, height=2, width=4, mean=(0.5,), std=(0.5,))
TABLE = TablePreprocess(columns=("a", "b"), mean=(1.0, 10.0), std=(2.0, 5.0))
TEXT = TextPreprocess(vocabulary=("the", "cat"), length=4)


def pixels(*shape: int) -> torch.Tensor:
    return torch.arange(int(np.prod(shape))).reshape(shape).to(torch.uint8)


def test_pixels_are_scaled_and_normalised_by_hand() -> None:
    stored = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 2, 4)
    found = RGB.encode(stored)[0, :, 0, 0]
    # 0 / 255 = 0; (1 - 0.5) / 0.5 = 1; (0.2 - 1) / 0.25 = -3.2
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, -3.2]))


def test_every_layout_of_the_same_pixels_is_decoded_alike() -> None:
    many = pixels(2, 3, 2, 4)
    last = many.permute(0, 2, 3, 1)
    floats = many.float() / 255
    for raw in (many, many.numpy(), last, last.numpy(), floats, floats.double().numpy(), list(many)):
        assert torch.equal(RGB.decode(raw), many)
    assert torch.equal(RGB.decode(many[0]), many[:1]) and torch.equal(RGB.decode(last[0]), many[:1])
    grey = pixels(3, 1, 2, 4)
    for raw in (grey, grey[:, 0], grey[..., None].squeeze(1)):
        assert torch.equal(GREY.decode(raw), grey)
    assert torch.equal(GREY.decode(grey[0, 0]), grey[:1])


def test_picture_files_and_pil_images(tmp_path: Path) -> None:
    from PIL import Image

    colour = pixels(2, 4, 3).numpy()
    picture = Image.fromarray(colour)
    picture.save(tmp_path / "a.png")
    expected = torch.from_numpy(colour).permute(2, 0, 1)[None]
    for raw in (picture, tmp_path / "a.png", str(tmp_path / "a.png"), [picture]):
        assert torch.equal(RGB.decode(raw), expected)
    wide = Image.fromarray(np.zeros((6, 6, 3), dtype=np.uint8))
    assert RGB.changed(fit="stretch").decode(wide).shape == (1, 3, 2, 4)
    assert RGB.changed(fit="crop").decode(wide).shape == (1, 3, 2, 4)
    with pytest.raises(InvalidInput, match=r"\(3, 2, 4\) pixels required, received shape \(3, 6, 6\)"):
        RGB.decode(wide)
    with pytest.raises(InvalidInput, match="3 channel.* required, received mode 'L'"):
        RGB.decode(picture.convert("L"))


def test_grey_of_16_bits_is_scaled(tmp_path: Path) -> None:
    from PIL import Image

    deep = np.array([[0, 128, 129, 257, 1000, 30000, 65406, 65535]], dtype=np.uint16).reshape(2, 4)
    by_hand = torch.tensor([0, 0, 1, 1, 4, 117, 254, 255], dtype=torch.uint8).reshape(1, 1, 2, 4)  # value / 257
    for suffix in ("png", "tif", "pgm"):
        Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
        assert torch.equal(GREY.decode(tmp_path / f"deep.{suffix}"), by_hand)
        assert torch.equal(RGB.decode(tmp_path / f"deep.{suffix}"), by_hand.expand(1, 3, 2, 4))
    assert torch.equal(GREY.decode(Image.fromarray(deep)), by_hand)
    assert torch.equal(GREY.decode(Image.fromarray(deep.astype(">u2"))), by_hand)
    as_older_pillow_opens_it = Image.fromarray(deep.astype(np.int32))
    as_older_pillow_opens_it.format = "PNG"
    assert torch.equal(GREY.decode(as_older_pillow_opens_it), by_hand)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_images_that_do_not_say_what_is_white_are_refused(tmp_path: Path, dtype: Any) -> None:
    from PIL import Image

    picture = Image.fromarray(np.ones((2, 4), dtype=dtype))
    picture.save(tmp_path / "deep.tif")
    wrong = "8 or 16 bits a channel are required, received .* save them as 8-bit images"
    with pytest.raises(InvalidInput, match=f"deep.tif': image: {wrong}"):
        GREY.decode(tmp_path / "deep.tif")
    with pytest.raises(InvalidInput, match=wrong):
        RGB.changed(fit="stretch").decode(picture)


def test_numbers_that_overflow_once_they_are_scaled_are_named() -> None:
    small = TABLE.changed(std=(2.0, 0.01))
    with pytest.raises(InvalidInput, match="3e[+]38, which is too large once it is scaled, in row 1, column 'b'"):
        small.decode([[1.0, 2.0], [1.0, 3e38]])


def test_missing_numbers_are_read_as_the_mean_where_that_is_asked_for() -> None:
    table = TABLE.changed(missing="mean")
    encoded = torch.tensor([[0.0, -2.0], [1.0, 0.0]])  # ((., 0) - (1, 10)) / (2, 5), ((3, .) - (1, 10)) / (2, 5)
    nan = float("nan")
    forms: list[Any] = [
        [[None, 0], [3, None]],
        [["", "0"], ["3", "NA"]],
        np.array([[nan, 0], [3, nan]]),
        torch.tensor([[nan, 0], [3, nan]]),
        [{"a": None, "b": 0}, {"a": "3", "b": ""}],
        {"a": [None, 3], "b": ["0", "n/a"]},
    ]
    for raw in forms:
        assert torch.equal(table.encode(table.decode(raw)), encoded)
        with pytest.raises(InvalidInput):
            TABLE.decode(raw)
    with pytest.raises(InvalidInput, match="received NaN or infinity in row 0, column 'b'"):
        table.decode([[None, float("inf")]])
    assert "missing" not in TABLE.model_dump() and TablePreprocess.of(table.model_dump()) == table
    words = TablePreprocess(columns=("a", "c"), mean=(1, 0), std=(2, 1), categories={"c": ("x",)}, missing="mean")
    assert words.encode(words.decode([[None, "x"], [3, None]])).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_crop_takes_the_centre() -> None:
    from PIL import Image

    square = ImagePreprocess(channels=1, height=2, width=2, mean=(0.5,), std=(0.5,), fit="crop", shorter_side=2)
    row = np.array([[0, 0, 10, 20, 0, 0]] * 2, dtype=np.uint8)  # 2 x 6: the shorter side is 2 already
    assert square.decode(Image.fromarray(row)).tolist() == [[[[10, 20], [10, 20]]]]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (torch.zeros(1, 3, 4, 4), r"images: \(3, 2, 4\) pixels required, received shape \(1, 3, 4, 4\), torch.float32"),
        (torch.zeros(1, 1, 2, 4), r"\(3, 2, 4\) pixels required"),
        (torch.zeros(4), r"received shape \(4,\)"),
        (torch.zeros(0, 3, 2, 4), "at least one is required"),
        ([], "received an empty list"),
        (torch.zeros(1, 3, 2, 4, dtype=torch.int64), "uint8 0..255 or floats 0..1 required, received .* torch.int64"),
        (torch.zeros(1, 3, 2, 4, dtype=torch.bool), "uint8 0..255 or floats"),
        (torch.full((2, 3, 2, 4), float("nan")), r"NaN or infinity in image\(s\) \[0, 1\]"),
        (torch.full((1, 3, 2, 4), float("inf")), r"NaN or infinity"),
        (torch.full((1, 3, 2, 4), 200.0), r"within \[0, 1\] required, received \[200, 200\]"),
        (torch.full((1, 3, 2, 4), -0.1), r"received \[-0.1, -0.1\]"),
        ("nowhere.png", "'nowhere.png' does not exist"),
        ([3], "a path, PIL image or array is required, received int"),
    ],
)
def test_bad_images_are_refused(raw: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        RGB.decode(raw)


def test_a_broken_picture_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInput, match="bad.png' cannot be read"):
        RGB.decode(tmp_path / "bad.png")


def test_a_spread_of_zero_is_refused() -> None:
    with pytest.raises(InvalidInput, match="every std must be above 0"):
        ImagePreprocess.of({**GREY.model_dump(), "std": (0.0,)})


def test_rows_are_scaled_by_hand_in_every_form() -> None:
    for raw in (
        [[3.0, 5.0]],
        np.array([3.0, 5.0]),
        torch.tensor([[3.0, 5.0]]),
        {"b": [5], "a": [3]},
        {"a": 3, "b": 5, "unused": 1},
        [{"b": 5.0, "a": 3.0}],
    ):
        stored = TABLE.decode(raw)
        assert stored.dtype == torch.float32 and stored.tolist() == [[3.0, 5.0]]
    assert TABLE.encode(torch.tensor([[3.0, 5.0]])).tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([[1.0]], r"shape \(n, 2\) with columns \['a', 'b'\] required, received \(1, 1\)"),
        (np.zeros((0, 2)), r"received \(0, 2\)"),
        (np.zeros((1, 2, 2)), r"received \(1, 2, 2\)"),
        ({"a": [1]}, r"column\(s\) \['b'\] missing; received \['a'\]"),
        ([{"a": 1, "b": "x"}], "numbers required in column 'b', row 0 holds 'x'"),
        ([[0.0, 1.0], [float("nan"), 0.0]], "NaN or infinity in row 1, column 'a'"),
        ([[0.0, float("inf")]], "row 0, column 'b'"),
    ],
)
def test_bad_rows_are_refused(raw: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        TABLE.decode(raw)


@pytest.mark.parametrize("raw", [[["x", "y"]], [[1.0, 2.0], [3.0]], object(), []])
def test_what_is_no_table_at_all_is_refused(raw: Any) -> None:
    with pytest.raises(InvalidInput, match="rows: "):
        TABLE.decode(raw)


def test_texts_become_ids_by_hand() -> None:
    # 0 pads, 1 is unknown, then the vocabulary from 2; four words are kept.
    assert TEXT.decode(["The CAT, the dog!", "cat", "the the the the cat"]).tolist() == [
        [2, 3, 2, 1],
        [3, 0, 0, 0],
        [2, 2, 2, 2],
    ]
    assert TEXT.decode("").tolist() == [[0, 0, 0, 0]]
    assert TEXT.encode(torch.tensor([[1, 2]])).dtype == torch.int64


@pytest.mark.parametrize(("raw", "message"), [([], "an empty list"), ([1, "a"], r"\['int', 'str'\]")])
def test_bad_texts_are_refused(raw: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        TEXT.decode(raw)
