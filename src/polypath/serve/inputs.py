"""What a request holds, as decoded tensors: base64 and uploads, rows, texts; limits are checked before work is done."""

from __future__ import annotations

import base64
import binascii
import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from polypath.core.errors import InvalidInput
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Task
from polypath.serve.errors import Refused
from polypath.serve.settings import Limits

# Decoders that only decode: PostScript, for one, would start another program. MPO is read by JPEG's, and Pillow has
# no decoder of that name: it would refuse every file that comes to it.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SMALL = 4096  # values or pixels that are decoded faster than another thread is woken
FEW, FILE = 4, 16_384  # images of a request, and characters of each, that may be so
PNG, PNG_BASE64 = b"\x89PNG\r\n\x1a\n", "iVBORw0KGgo"

Raw = str | bytes | Sequence[Any] | Mapping[str, Any]


def decoded(task: Task, inputs: Sequence[Raw], limits: Limits, fit: bool = False) -> torch.Tensor:
    """What the task's preprocessing makes of the inputs of a request, (n, ...).

    Args:
        task: whose preprocessing.
        inputs: images as base64 or bytes; rows as lists or {column: value}; texts.
        limits: of pixels.
        fit: convert images of another mode and stretch those of another size; otherwise a task that wants its own
            size refuses them.

    Raises:
        InvalidInput: inputs of another kind, size or column, an image that cannot be read; says which input.
        Refused: 413, an image with too many pixels.
    """
    preprocess = task.preprocess
    wanted = {"image": (str, bytes), "table": (Mapping, list, tuple), "text": (str,)}[preprocess.kind]
    for place, one in enumerate(inputs):
        if not isinstance(one, wanted):
            required = {"image": "an image as base64", "table": "a row of numbers", "text": "a text"}[preprocess.kind]
            raise InvalidInput(f"inputs[{place}]: task {task.name!r} takes {required}, received {_kind(one)}")
    if isinstance(preprocess, ImagePreprocess):
        if fit and preprocess.fit == "exact":
            preprocess = preprocess.changed(fit="stretch")
        return torch.cat([_image(preprocess, one, f"inputs[{place}]", limits) for place, one in enumerate(inputs)])
    if preprocess.kind == "table" and len({isinstance(one, Mapping) for one in inputs}) > 1:
        raise InvalidInput("inputs: rows are either all lists or all objects, received both")
    return preprocess.decode(list(inputs))


def quick(task: Task, inputs: Sequence[Raw]) -> bool:
    """Whether decoding takes less time than waking a thread for it.

    Of images only a few PNGs are: how many pixels they unpack to stands in their first bytes.
    """
    if task.preprocess.kind == "image":
        return len(inputs) <= FEW and all(_is_small(one) for one in inputs)
    return sum(len(one) for one in inputs) <= SMALL


def _is_small(one: Raw) -> bool:
    """Whether an image is a PNG of at most `SMALL` pixels in a small file."""
    if not isinstance(one, str | bytes) or len(one) > FILE:
        return False
    if isinstance(one, str):
        if not one.startswith(PNG_BASE64):
            return False
        try:
            one = base64.b64decode(one[:32], validate=True)
        except (binascii.Error, ValueError):
            return False
    if not one.startswith(PNG) or len(one) < 24:
        return False
    width, height = struct.unpack(">II", one[16:24])
    return bool(width * height <= SMALL)


def _kind(one: Any) -> str:
    return "a text" if isinstance(one, str) else "a file" if isinstance(one, bytes) else "a row"


def _image(preprocess: ImagePreprocess, one: Any, where: str, limits: Limits) -> torch.Tensor:
    data = one if isinstance(one, bytes) else _from_base64(one, where)
    opened = _opened(data, where, limits)
    try:
        return preprocess.decode(opened)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from error


def _from_base64(text: str, where: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{where}: an image in base64 is required, and this is no base64") from None


def _opened(data: bytes, where: str, limits: Limits) -> Any:
    """A PIL image with its pixels decoded; the size in the header is checked before that."""
    from PIL import Image as pil

    try:
        image = pil.open(io.BytesIO(data), formats=FORMATS)
    except (pil.DecompressionBombError, pil.DecompressionBombWarning):
        raise _too_many_pixels(where, "far more", limits) from None
    except MemoryError:
        raise  # says nothing about the image
    except Exception:  # decoders raise what they like on damaged headers
        raise InvalidInput(f"{where}: cannot be read as an image; one of {', '.join(FORMATS)} is required") from None
    width, height = image.size
    if width * height > limits.max_pixels:
        raise _too_many_pixels(where, f"{width} x {height}", limits)
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise InvalidInput(f"{where}: the image is damaged or truncated ({type(error).__name__})") from None
    return image


def _too_many_pixels(where: str, received: str, limits: Limits) -> Refused:
    return Refused(
        413, "too_many_pixels", f"{where}: at most {limits.max_pixels:,} pixels an image, received {received}"
    )
