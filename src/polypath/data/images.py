"""Pixels from files and encoded bytes: small images once into a cached array, large ones when asked for."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache as memo
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.examples import Source, TensorSource
from polypath.core.pixels import eight_bits, is_grey
from polypath.core.preprocess import ImagePreprocess
from polypath.data import cache

SMALL = 96  # pixels a side: up to here a whole set fits as decoded pixels, beyond it stays encoded
DECODER = 2  # in the keys of decoded images, raised where the same file gives other pixels (2: 16 bits are scaled)
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

Fit = Literal["exact", "stretch", "crop"]


class Shape(Config):
    """How images are brought to one shape; None keeps what the first image has.

    Args:
        size, fit, shorter_side, channels: see `polypath.core.preprocess.ImagePreprocess`.
        on_error: an image that cannot be read stops everything, or is left out and named.
    """

    size: int | tuple[int, int] | None = None
    fit: Fit | None = None
    shorter_side: int | None = None
    channels: Literal[1, 3] | None = None
    on_error: Literal["stop", "skip"] = "stop"

    def preprocess(self, native: tuple[int, int, int]) -> ImagePreprocess:
        """The decoding step for images whose first one is `native` (channels, height, width)."""
        height, width = native[1:]
        if self.size is not None:
            height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        channels = self.channels or native[0]
        fit = self.fit or ("exact" if self.size is None else "stretch")
        ones = (1.0,) * channels
        return ImagePreprocess.of(
            {
                "channels": channels,
                "height": height,
                "width": width,
                "mean": ones,
                "std": ones,
                "fit": fit,
                "shorter_side": self.shorter_side,
            }
        )


class Encoded(ABC):
    """Images that still have to be decoded. Plain data, so that worker processes can be given one."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, row: int) -> Any:
        """Image `row` as a PIL image, perhaps not loaded yet."""

    @abstractmethod
    def name(self, row: int) -> str:
        """How to call image `row` in a message."""

    def open(self, row: int) -> Any:
        """Image `row`, loaded, with 8 bits a channel.

        Raises:
            InvalidInput: it cannot be read, or holds 32-bit integers or floats; named.
        """
        try:
            with self.read(row) as image:  # closes the file; the loaded pixels stay
                image.load()
                return eight_bits(image)
        except unreadable() as error:
            raise InvalidInput(
                f"image {self.name(row)} cannot be read: {str(error).removesuffix(self.name(row)).rstrip(': ')}; "
                "on_error='skip' (in a task file: `on_error: skip`) leaves such images out and names them"
            ) from error

    def native(self, row: int = 0) -> tuple[int, int, int]:
        """Channels, height and width of image `row`, the first one by default."""
        image = self.open(row)
        return (1 if is_grey(image) else 3, image.size[1], image.size[0])


@dataclass(frozen=True)
class Files(Encoded):
    """Images that are files."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def stamp(self, absent: bool = False) -> object:
        """Path, size and time of every file.

        Args:
            absent: files may be missing.

        Raises:
            InvalidInput: a file is not there; named.
        """
        try:
            return cache.stamp(self.files, absent)
        except OSError as error:
            raise InvalidInput(f"image {error.filename!r} cannot be read: {error.strerror}") from error

    def read(self, row: int) -> Any:
        """The opened file."""
        from PIL import Image

        return Image.open(self.files[row])

    def name(self, row: int) -> str:
        """Its path."""
        return repr(str(self.files[row]))


@dataclass(frozen=True)
class Blob(Encoded):
    """Images one after the other in one array of bytes; image i is content[offsets[i]:offsets[i + 1]]."""

    content: np.ndarray
    offsets: np.ndarray
    where: str

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def read(self, row: int) -> Any:
        """The bytes as an image."""
        from PIL import Image

        return Image.open(io.BytesIO(self.content[self.offsets[row] : self.offsets[row + 1]].tobytes()))

    def name(self, row: int) -> str:
        """Data set and row."""
        return f"{self.where} row {row}"


@dataclass(frozen=True)
class Pixels(Encoded):
    """Images that are already pixels, uint8 (n, channels, height, width), but not yet of the wanted size."""

    values: np.ndarray
    where: str

    def __len__(self) -> int:
        return len(self.values)

    def read(self, row: int) -> Any:
        """The pixels as a PIL image."""
        from PIL import Image

        pixels = self.values[row]
        return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))

    def name(self, row: int) -> str:
        """Data set and row."""
        return f"{self.where} row {row}"


@dataclass(frozen=True)
class StreamSource:
    """Examples decoded whenever they are taken; batches are best fetched ahead by worker processes."""

    encoded: Encoded
    preprocess: ImagePreprocess
    streams: bool = True

    def __len__(self) -> int:
        return len(self.encoded)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Rows `index`, decoded and stacked."""
        return torch.from_numpy(decode(self.encoded, self.preprocess, index.tolist()))


def unreadable() -> tuple[type[Exception], ...]:
    """What Pillow raises for files that are no image, cut off or damaged."""
    from PIL import Image

    kinds = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
    return (*kinds, Image.DecompressionBombError)


def readable(encoded: Encoded, name: str, key: object | None) -> np.ndarray:
    """Which images can be read, bool (n,): every one is decoded once, and the answer kept on disk where there is a key.

    Raises:
        InvalidInput: none can.
    """

    def build() -> np.ndarray:
        found = np.ones(len(encoded), dtype=bool)
        for row in range(len(encoded)):
            try:
                encoded.open(row)
            except InvalidInput:
                found[row] = False
        return found

    good = build() if key is None else cache.cached(f"{name}-readable", ["readable", DECODER, key], build)
    if len(good) and not good.any():
        raise InvalidInput(f"{name}: none of the {len(good)} images can be read, the first is {encoded.name(0)}")
    return good


def decode(
    encoded: Encoded, preprocess: ImagePreprocess, rows: Iterable[int], good: np.ndarray | None = None
) -> np.ndarray:
    """uint8 (n, channels, height, width) of the given images; black where `good` says that one cannot be read.

    Raises:
        InvalidInput: an image of another size (where fit is exact) or one that cannot be read; named.
    """
    rows = list(rows)
    channels, height, width = preprocess.channels, preprocess.height, preprocess.width
    out = np.empty((len(rows), channels, height, width), dtype=np.uint8)
    for place, row in enumerate(rows):
        if good is not None and not good[row]:
            out[place] = 0
            continue
        image = encoded.open(row)
        image = eight_bits(image, channels)
        if image.size != (width, height):
            if preprocess.fit == "exact":
                raise InvalidInput(
                    f"image {encoded.name(row)} is {image.size[1]} x {image.size[0]} pixels, the first one "
                    f"{height} x {width}; give size=... to bring all to one size"
                )
            out[place] = preprocess.decode(image)[0].numpy()
            continue
        pixels = np.asarray(image)
        out[place] = pixels if channels == 1 else pixels.transpose(2, 0, 1)
    return out


def source(
    native: tuple[int, int, int],
    load: Callable[[], Encoded],
    shape: Shape,
    name: str,
    key: object | None,
    keep: Callable[[], Encoded] | None = None,
    good: np.ndarray | None = None,
) -> tuple[Source, ImagePreprocess]:
    """A source of decoded images, and the decoding step (its mean and std still to be set).

    Args:
        native: channels, height and width of the first image.
        load: gives the encoded images; called when they are needed only.
        shape: what they are brought to.
        name: of the cache file.
        key: what the pixels depend on; None where there is no file to remember them by (kept in memory).
        keep: as `load`, for images that will be decoded again and again.
        good: which images can be read; None: all.
    """
    preprocess = shape.preprocess(native)
    if max(preprocess.height, preprocess.width) > SMALL:
        return StreamSource((keep or load)(), preprocess), preprocess

    def build() -> np.ndarray:
        encoded = load()
        return decode(encoded, preprocess, range(len(encoded)), good)

    if key is None:
        return TensorSource(torch.from_numpy(build())), preprocess
    settings: list[object] = [preprocess.model_dump(mode="json", exclude={"mean", "std"})]
    settings += [] if good is None or good.all() else [np.flatnonzero(~good).tolist()]
    return TensorSource(torch.from_numpy(cache.cached(name, ["pixels", DECODER, key, *settings], build))), preprocess


def hashes(rows: Iterable[bytes], count: int) -> np.ndarray:
    """64-bit content hashes, uint64 (count,): equal rows hash equally; two of 10^5 different ones clash with 3e-10."""
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype=np.uint64, count=count).copy()


def source_hashes(source: Source) -> np.ndarray:
    """Content hash of every example: of the decoded values, or of the encoded bytes where the source streams."""
    if isinstance(source, TensorSource):
        values = source.values.numpy().reshape(len(source), -1)
        return hashes((row.tobytes() for row in values), len(values))
    if isinstance(source, StreamSource):
        encoded = source.encoded
        if isinstance(encoded, Blob):
            ends = zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)
            return hashes((encoded.content[low:high].tobytes() for low, high in ends), len(encoded))
        if isinstance(encoded, Files):
            return hashes((_content(file) for file in encoded.files), len(encoded))
    taken = (source.take(torch.tensor([row]))[0].contiguous().numpy().tobytes() for row in range(len(source)))
    return hashes(taken, len(source))


def _content(file: Path) -> bytes:
    """Bytes of a file; its name where it cannot be read, so that two of those do not count as the same image."""
    try:
        return file.read_bytes()
    except OSError:
        return str(file).encode()


def remembered_hashes(
    source: Source, preprocess: ImagePreprocess, name: str, key: object | None
) -> Callable[[], np.ndarray]:
    """`source_hashes`, computed when first asked for and kept on disk where the images have a key."""

    @memo
    def compute() -> np.ndarray:
        if key is None:
            return source_hashes(source)
        settings = preprocess.model_dump(mode="json", exclude={"mean", "std"})
        return cache.cached(f"{name}-hashes", ["hashes", DECODER, key, settings], lambda: source_hashes(source))

    return compute
