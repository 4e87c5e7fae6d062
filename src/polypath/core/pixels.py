"""Images of any Pillow mode as 8-bit grey or colour: scaled where the depth is known, refused where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np

from polypath.core.errors import InvalidInput

# Formats whose images of mode I hold 0..65535: older versions of Pillow open grey PNGs of 16 bits so, all open PPMs so.
SIXTEEN = ("PNG", "PPM")


def eight_bits(image: Any, channels: int | None = None) -> Any:
    """A PIL image with 8 bits a channel; Pillow's own `convert` clips larger values to white instead of scaling them.

    Args:
        image: of any mode. Grey of 16 bits becomes value / 257, rounded, so that 65535 is white.
        channels: 1 (grey) or 3 (colour) to convert to; None: as many as it has.

    Raises:
        InvalidInput: 32-bit integers or floats, whose values for black and white no file says.
    """
    from PIL import Image as pil

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in SIXTEEN):
        values = np.asarray(image).astype(np.uint32)
        image = pil.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floats"
        raise InvalidInput(
            f"image: 8 or 16 bits a channel are required, received {kind} (mode {image.mode!r}), which do not say what "
            "is black and what is white; scale them to 0..255 and save them as 8-bit images"
        )
    if image.mode == "LAB" and channels == 1:
        image = image.convert("RGB")  # Pillow makes grey of no LAB by itself
    mode = image.mode if channels is None else "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def is_grey(image: Any) -> bool:
    """Whether a PIL image has one channel beside a mask."""
    return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")
