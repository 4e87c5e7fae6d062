"""Raw inputs to network inputs, in two steps that travel with the task.

`decode` turns what a user holds (files, PIL images, arrays, rows, strings) into the compact tensor a data set is kept
in (uint8 pixels, float columns, int64 tokens) and refuses what does not fit; `encode` turns that tensor into what
the network sees (normalised floats, tokens). Training data is decoded once, augmented and encoded batch by batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_serializer, model_validator

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.pixels import eight_bits


class ImagePreprocess(Config):
    """Pixels: decoded to uint8 (n, channels, height, width), encoded to (x / 255 - mean) / std.

    Args:
        channels, height, width: what the network sees.
        mean, std: one number a channel, in units of [0, 1].
        fit: what happens to an image of another size: `exact` refuses it, `stretch` resizes both sides,
            `crop` resizes the shorter side to `shorter_side` and cuts the centre.
        shorter_side: pixels, for `crop` (224-pixel networks usually use 256).
    """

    kind: Literal["image"] = "image"
    channels: int = Field(gt=0)
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Literal["exact", "stretch", "crop"] = "exact"
    shorter_side: int | None = None

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, ...]) -> tuple[float, ...]:
        if any(s <= 0 for s in std):
            raise ValueError("every std must be above 0")
        return std

    def decode(self, raw: Any) -> torch.Tensor:
        """uint8 (n, channels, height, width) from one image or many.

        Args:
            raw: a path, a PIL image, a list of either, or an array/tensor: uint8 0..255 or float 0..1,
                (n, c, h, w), (n, h, w, c), or one image without n. Grey images of 16 bits are scaled to 8.

        Raises:
            InvalidInput: another size (with fit="exact"), channel count or dtype, NaN or infinite pixels,
                an unreadable file (named), a PIL image of 32-bit integers or floats.
        """
        if isinstance(raw, (torch.Tensor, np.ndarray)):
            return self._from_array(raw)
        items = [raw] if _is_single_image(raw) else list(raw)
        if not items:
            raise InvalidInput("images: at least one is required, received an empty list")
        return torch.cat([self._from_one(item) for item in items])

    def encode(self, stored: torch.Tensor) -> torch.Tensor:
        """float32 (n, channels, height, width), normalised; floats in [0, 1] are taken as pixels too.

        A batch whose channels are one in memory (an expanded grey image) is normalised once where all channels have
        one mean and deviation, and stays expanded.
        """
        one = stored.ndim == 4 and stored.stride(1) == 0 and len({*self.mean}) == len({*self.std}) == 1
        pixels = stored[:, :1] if one else stored
        pixels = pixels.float() / 255 if stored.dtype == torch.uint8 else pixels
        count = 1 if one else None
        mean = torch.tensor(self.mean[:count], device=stored.device).view(-1, 1, 1)
        std = torch.tensor(self.std[:count], device=stored.device).view(-1, 1, 1)
        encoded = (pixels - mean) / std
        return encoded.expand(stored.shape) if one else encoded

    def _from_one(self, item: Any) -> torch.Tensor:
        from PIL import Image as pil

        if isinstance(item, (torch.Tensor, np.ndarray)):
            return self._from_array(item)
        if isinstance(item, (str, Path)):
            try:
                with pil.open(item) as opened:
                    item = eight_bits(opened, self.channels)
                    item.load()
            except InvalidInput as error:
                raise InvalidInput(f"image file {str(item)!r}: {error}") from error
            except FileNotFoundError:
                raise InvalidInput(f"image file {str(item)!r} does not exist") from None
            except (OSError, SyntaxError, pil.DecompressionBombError) as error:
                raise InvalidInput(f"image file {str(item)!r} cannot be read: {error}") from error
        if not isinstance(item, pil.Image):
            raise InvalidInput(f"image: a path, PIL image or array is required, received {type(item).__name__}")
        if len(item.getbands()) != self.channels and self.fit == "exact" and item.mode != "P":
            raise InvalidInput(
                f"image: {self.channels} channel(s) required, received mode {item.mode!r}; convert it first"
            )
        item = self._fitted(eight_bits(item, self.channels))
        pixels = torch.from_numpy(np.asarray(item).copy())
        pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
        return self._from_array(pixels)

    def _fitted(self, item: Any) -> Any:
        from PIL import Image as pil

        width, height = item.size
        if (height, width) == (self.height, self.width) or self.fit == "exact":
            return item
        if self.fit == "stretch":
            return item.resize((self.width, self.height), pil.Resampling.BILINEAR)
        short = self.shorter_side or min(self.height, self.width)
        scale = short / min(width, height)
        size = (max(self.width, round(width * scale)), max(self.height, round(height * scale)))
        item = item.resize(size, pil.Resampling.BILINEAR)
        left, top = (item.size[0] - self.width) // 2, (item.size[1] - self.height) // 2
        return item.crop((left, top, left + self.width, top + self.height))

    def _from_array(self, raw: torch.Tensor | np.ndarray) -> torch.Tensor:
        pixels = torch.as_tensor(raw)
        received = f"shape {tuple(pixels.shape)}, {pixels.dtype}"
        required = f"({self.channels}, {self.height}, {self.width})"
        if pixels.ndim == 2 and self.channels == 1:
            pixels = pixels[None]
        if pixels.ndim == 3:
            batch_of_grey = self.channels == 1 and pixels.shape[0] != 1 and pixels.shape[-1] != 1
            pixels = pixels[:, None] if batch_of_grey else pixels[None]
        size = (self.channels, self.height, self.width)
        if pixels.ndim == 4 and tuple(pixels.shape[1:]) != size and tuple(pixels.shape[1:]) == (*size[1:], size[0]):
            pixels = pixels.permute(0, 3, 1, 2)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != size:
            raise InvalidInput(f"images: {required} pixels required, received {received}; resize or convert them first")
        if len(pixels) == 0:
            raise InvalidInput(f"images: at least one is required, received {received}")
        if pixels.dtype == torch.uint8:
            return pixels.contiguous()
        if not pixels.is_floating_point():
            raise InvalidInput(f"images: uint8 0..255 or floats 0..1 required, received {received}")
        if not torch.isfinite(pixels).all():
            bad = (~torch.isfinite(pixels)).flatten(1).any(1).nonzero().flatten()[:5].tolist()
            raise InvalidInput(f"images: finite pixels required, received NaN or infinity in image(s) {bad}")
        if pixels.min() < 0 or pixels.max() > 1:
            low, high = float(pixels.min()), float(pixels.max())
            raise InvalidInput(f"images: float pixels within [0, 1] required, received [{low:g}, {high:g}]")
        return (pixels * 255).round().to(torch.uint8).contiguous()


class TablePreprocess(Config):
    """Rows: float32 (n, columns), encoded to (n, width): numbers to (x - mean) / std, categories to 0/1 columns.

    A category is kept as its number in `categories`, -1 for a missing value or one that training did not hold; both
    are encoded as zeros only. Values are compared as `category` writes them, so that 3, "3" and 3.0 are the same.

    Args:
        columns: names in the order the network expects.
        mean, std: one number a column, from the training split (0 and 1 for categories).
        categories: column -> its values; encoded as one 0/1 number a value, in this order.
        missing: whether a number that is missing (None, NaN, an empty text) is refused, or decoded as NaN and read as
            the `mean` of its column.
    """

    kind: Literal["table"] = "table"
    columns: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    categories: dict[str, tuple[str, ...]] = {}
    missing: Literal["refuse", "mean"] = "refuse"

    @model_serializer(mode="wrap")
    def _as_before(self, plain: Any) -> dict[str, Any]:
        """Without `missing` where it is refused, as systems were written before there was a choice."""
        found: dict[str, Any] = plain(self)
        return {key: value for key, value in found.items() if key != "missing" or value != "refuse"}

    @model_validator(mode="after")
    def _known_columns(self) -> TablePreprocess:
        strange = [name for name in self.categories if name not in self.columns]
        empty = [name for name, values in self.categories.items() if not values or len(set(values)) < len(values)]
        if strange or empty:
            raise ValueError(f"categories need different values, of columns in {list(self.columns)}: {strange + empty}")
        return self

    @property
    def width(self) -> int:
        """Numbers a row is encoded to."""
        return sum(len(self.categories.get(name, "1")) for name in self.columns)

    def decode(self, raw: Any) -> torch.Tensor:
        """float32 (n, columns) from an array, a mapping of columns, one row mapping or a list of row mappings.

        A tensor holds decoded rows already: categories as their numbers.

        Raises:
            InvalidInput: a missing column, another number of columns, infinite values, missing ones where they are
                refused, no such category number.
        """
        if hasattr(raw, "to_dict") and hasattr(raw, "columns"):  # a data frame of any library
            raw = {name: np.asarray(raw[name]) for name in raw.columns}
        if isinstance(raw, Mapping):
            rows = self._from_columns(raw)
        elif isinstance(raw, Sequence) and raw and isinstance(raw[0], Mapping):
            rows = torch.cat([self._from_columns(row) for row in raw])
        else:
            rows = self._from_array(raw)
        if rows.ndim != 2 or rows.shape[1] != len(self.columns) or len(rows) == 0:
            wanted = f"(n, {len(self.columns)}) with columns {list(self.columns)}"
            raise InvalidInput(f"rows: shape {wanted} required, received {tuple(rows.shape)}")
        encoded = self._scaled(rows)
        if not torch.isfinite(encoded).all():
            row, place = (~torch.isfinite(encoded)).nonzero()[0].tolist()
            value = float(rows[row, place])
            received = (
                f"{value:g}, which is too large once it is scaled," if math.isfinite(value) else "NaN or infinity"
            )
            raise InvalidInput(
                f"rows: finite values required, received {received} in row {row}, column {self.columns[place]!r}"
            )
        for name, values in self.categories.items():
            codes = rows[:, self.columns.index(name)]
            if ((codes != codes.round()) | (codes < -1) | (codes >= len(values))).any():
                raise InvalidInput(f"rows: column {name!r} holds the numbers of its {len(values)} categories, or -1")
        return rows

    def encode(self, stored: torch.Tensor) -> torch.Tensor:
        """float32 (n, width), scaled; categories as 0/1 columns in their column's place."""
        scaled = self._scaled(stored)
        if not self.categories:
            return scaled
        parts = []
        for place, name in enumerate(self.columns):
            column = scaled[:, place : place + 1]
            if name in self.categories:
                numbers = torch.arange(len(self.categories[name]), device=stored.device)
                column = (stored[:, place : place + 1] == numbers).float()
            parts.append(column)
        return torch.cat(parts, dim=1)

    def _scaled(self, stored: torch.Tensor) -> torch.Tensor:
        """float32 (n, columns): numbers to (x - mean) / std."""
        mean = torch.tensor(self.mean, device=stored.device)
        scaled = (stored.float() - mean) / torch.tensor(self.std, device=stored.device)
        return torch.where(scaled.isnan(), 0.0, scaled) if self.missing == "mean" else scaled

    def _from_array(self, raw: Any) -> torch.Tensor:
        """Rows without names; categories of anything but a tensor are read as values."""
        if not self.categories or isinstance(raw, torch.Tensor):
            try:
                rows = torch.as_tensor(np.asarray(raw, dtype=np.float32))
                return rows[None] if rows.ndim == 1 else rows
            except (TypeError, ValueError) as error:
                if self.missing == "refuse":
                    raise InvalidInput(f"rows: numbers in rows of {len(self.columns)} required: {error}") from error
        given = np.asarray(raw, dtype=object)
        given = given[None] if given.ndim == 1 else given
        if given.ndim != 2 or given.shape[1] != len(self.columns):
            return torch.zeros(given.shape)  # refused for its shape
        return self._from_columns({name: given[:, place] for place, name in enumerate(self.columns)})

    def _from_columns(self, raw: Mapping[str, Any]) -> torch.Tensor:
        missing = [name for name in self.columns if name not in raw]
        if missing:
            raise InvalidInput(f"rows: column(s) {missing} missing; received {list(raw)}")
        parts = [self._column(name, np.atleast_1d(np.asarray(raw[name]))) for name in self.columns]
        if len({len(part) for part in parts}) > 1:
            sizes = {name: len(part) for name, part in zip(self.columns, parts, strict=True)}
            raise InvalidInput(f"rows: as many values in every column required, received {sizes}")
        return torch.from_numpy(np.stack(parts, axis=1))

    def _column(self, name: str, values: np.ndarray) -> np.ndarray:
        """float32 (n,) of one column; NaN where a number is missing."""
        if name in self.categories:
            known = {value: number for number, value in enumerate(self.categories[name])}
            return np.array([known.get(category(value), -1) for value in values.tolist()], dtype=np.float32)
        try:
            return values.astype(np.float32)
        except (TypeError, ValueError):
            return np.array([_number(value, name, row) for row, value in enumerate(values.tolist())], dtype=np.float32)


_WORDS = {"true": 1.0, "false": 0.0, **dict.fromkeys(("", "none", "na", "n/a", "#n/a", "<na>", "null"), math.nan)}


def _number(value: Any, column: str, row: int) -> float:
    """A number from what a file may hold in its place; NaN for nothing."""
    text = str(value).strip().lower()
    if text in _WORDS:
        return _WORDS[text]
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInput(f"rows: numbers required in column {column!r}, row {row} holds {value!r}") from error


_WHOLE = re.compile(r"[+-]?[0-9]+")  # read as such: a float would change identifiers of many digits


def category(value: Any) -> str:
    """How a category is written: truth values as "true" and "false", numbers without trailing zeros, "" for nothing.

    Files differ in how they hold the same value ("3", 3, 3.0); this makes them one.

    Examples:
        >>> [category(value) for value in (3, "3.0", " red ", True, None, float("nan"))]
        ['3', '3', 'red', 'true', '', '']
    """
    if value is None or isinstance(value, (bool, np.bool_)):
        return "" if value is None else str(bool(value)).lower()
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    if _WHOLE.fullmatch(text):
        return str(int(text))
    try:
        number = float(text) if "_" not in text else math.inf  # Python reads "1_000" as a number, files mean a name
    except ValueError:
        return text
    if not math.isfinite(number):
        return "" if isinstance(value, (float, np.floating)) and math.isnan(number) else text
    return str(int(number)) if number == int(number) else repr(number)


class TextPreprocess(Config):
    """Texts: int64 (n, length) token ids; 0 pads, 1 is an unknown word, vocabulary[i] is i + 2.

    Words are runs of letters, digits and apostrophes, in lower case; a text longer than `length` words keeps its
    first ones, a shorter one is padded at the end.
    """

    kind: Literal["text"] = "text"
    vocabulary: tuple[str, ...]
    length: int = Field(gt=0)

    def decode(self, raw: Any) -> torch.Tensor:
        """int64 (n, length) from one string or several.

        Raises:
            InvalidInput: something that is not a string, an empty list.
        """
        texts = [raw] if isinstance(raw, str) else list(raw)
        if not texts or not all(isinstance(text, str) for text in texts):
            kinds = sorted({type(text).__name__ for text in texts})
            raise InvalidInput(f"texts: one or more strings required, received {kinds or 'an empty list'}")
        ids = _numbers(self.vocabulary)
        out = torch.zeros(len(texts), self.length, dtype=torch.int64)
        for row, text in enumerate(texts):
            found = [ids.get(word, 1) for word in words(text)[: self.length]]
            out[row, : len(found)] = torch.tensor(found, dtype=torch.int64)
        return out

    def encode(self, stored: torch.Tensor) -> torch.Tensor:
        """int64 (n, length), unchanged."""
        return stored.long()


_WORD = re.compile(r"[\w']+")


@lru_cache(maxsize=16)
def _numbers(vocabulary: tuple[str, ...]) -> dict[str, int]:
    """Word -> its number; made once for every vocabulary in use, and not for every request."""
    return {word: number for number, word in enumerate(vocabulary, start=2)}


def words(text: str) -> list[str]:
    """Lower-case words of a text: runs of letters, digits, underscores and apostrophes."""
    return _WORD.findall(text.lower())


def _is_single_image(raw: Any) -> bool:
    return isinstance(raw, (str, Path)) or hasattr(raw, "getbands")


AnyPreprocess = Annotated[ImagePreprocess | TablePreprocess | TextPreprocess, Field(discriminator="kind")]
