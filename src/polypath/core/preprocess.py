"""Raw inputs to network inputs, in two steps that travel with the task.

`decode` turns what a user holds (files, PIL images, arrays, rows, strings) into the compact tensor a data set is kept
in (uint8 pixels, float columns, int64 tokens) and refuses what does not fit; `encode` turns that tensor into what
the network sees (normalised floats, tokens). Training data is decoded once, augmented and encoded batch by batch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from polypath.core.config import Config
from polypath.core.errors import InvalidInput


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
                (n, c, h, w), (n, h, w, c), or one image without n.

        Raises:
            InvalidInput: another size (with fit="exact"), channel count or dtype, NaN or infinite pixels,
                an unreadable file (named).
        """
        if isinstance(raw, (torch.Tensor, np.ndarray)):
            return self._from_array(raw)
        items = [raw] if _is_single_image(raw) else list(raw)
        if not items:
            raise InvalidInput("images: at least one is required, received an empty list")
        return torch.cat([self._from_one(item) for item in items])

    def encode(self, stored: torch.Tensor) -> torch.Tensor:
        """float32 (n, channels, height, width), normalised; floats in [0, 1] are taken as pixels too."""
        pixels = stored.float() / 255 if stored.dtype == torch.uint8 else stored
        mean = torch.tensor(self.mean, device=stored.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=stored.device).view(-1, 1, 1)
        return (pixels - mean) / std

    def _from_one(self, item: Any) -> torch.Tensor:
        from PIL import Image as pil

        if isinstance(item, (torch.Tensor, np.ndarray)):
            return self._from_array(item)
        if isinstance(item, (str, Path)):
            try:
                with pil.open(item) as opened:
                    item = opened.convert("L" if self.channels == 1 else "RGB")
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
        item = self._fitted(item.convert("L" if self.channels == 1 else "RGB"))
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
    """Rows: float32 (n, columns), encoded to (x - mean) / std.

    Args:
        columns: names in the order the network expects.
        mean, std: one number a column, from the training split.
    """

    kind: Literal["table"] = "table"
    columns: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def decode(self, raw: Any) -> torch.Tensor:
        """float32 (n, columns) from an array, a mapping of columns, one row mapping or a list of row mappings.

        Raises:
            InvalidInput: a missing column, another number of columns, NaN or infinite values.
        """
        if hasattr(raw, "to_dict") and hasattr(raw, "columns"):  # a data frame of any library
            raw = {name: np.asarray(raw[name]) for name in raw.columns}
        if isinstance(raw, Mapping):
            rows = self._from_columns(raw)
        elif isinstance(raw, Sequence) and raw and isinstance(raw[0], Mapping):
            rows = torch.cat([self._from_columns(row) for row in raw])
        else:
            try:
                rows = torch.as_tensor(np.asarray(raw, dtype=np.float32))
            except (TypeError, ValueError) as error:
                raise InvalidInput(f"rows: numbers in rows of {len(self.columns)} required: {error}") from error
            rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != len(self.columns) or len(rows) == 0:
            wanted = f"(n, {len(self.columns)}) with columns {list(self.columns)}"
            raise InvalidInput(f"rows: shape {wanted} required, received {tuple(rows.shape)}")
        if not torch.isfinite(rows).all():
            where = (~torch.isfinite(rows)).nonzero()[0].tolist()
            raise InvalidInput(
                f"rows: finite values required, received NaN or infinity in row {where[0]}, "
                f"column {self.columns[where[1]]!r}"
            )
        return rows

    def encode(self, stored: torch.Tensor) -> torch.Tensor:
        """float32 (n, columns), scaled."""
        mean = torch.tensor(self.mean, device=stored.device)
        return (stored.float() - mean) / torch.tensor(self.std, device=stored.device)

    def _from_columns(self, raw: Mapping[str, Any]) -> torch.Tensor:
        missing = [name for name in self.columns if name not in raw]
        if missing:
            raise InvalidInput(f"rows: column(s) {missing} missing; received {list(raw)}")
        try:
            parts = [np.atleast_1d(np.asarray(raw[name], dtype=np.float32)) for name in self.columns]
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"rows: numbers required in columns {list(self.columns)}: {error}") from error
        return torch.from_numpy(np.stack(parts, axis=1))


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
        ids = {word: number for number, word in enumerate(self.vocabulary, start=2)}
        out = torch.zeros(len(texts), self.length, dtype=torch.int64)
        for row, text in enumerate(texts):
            found = [ids.get(word, 1) for word in words(text)[: self.length]]
            out[row, : len(found)] = torch.tensor(found, dtype=torch.int64)
        return out

    def encode(self, stored: torch.Tensor) -> torch.Tensor:
        """int64 (n, length), unchanged."""
        return stored.long()


_WORD = re.compile(r"[\w']+")


def words(text: str) -> list[str]:
    """Lower-case words of a text: runs of letters, digits, underscores and apostrophes."""
    return _WORD.findall(text.lower())


def _is_single_image(raw: Any) -> bool:
    return isinstance(raw, (str, Path)) or hasattr(raw, "getbands")


AnyPreprocess = Annotated[ImagePreprocess | TablePreprocess | TextPreprocess, Field(discriminator="kind")]
