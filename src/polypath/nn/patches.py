"""Images that networks of timm cut into patches: sizes that do not fit are refused, or told."""

from __future__ import annotations

import functools
import logging
import math

import torch
from torch import nn

from polypath.core.errors import InvalidInput

log = logging.getLogger(__name__)


def check_patches(model: nn.Module, size: tuple[int, int], what: str) -> None:
    """Refuse images that a network cannot cut into patches, and warn of pixels that no patch sees.

    Args:
        model: of timm; one without patches takes images of any size.
        size: rows and columns of the images.
        what: which network of whose, for the message.

    Raises:
        InvalidInput: images smaller than a patch, of another size than the network was made for, or not of whole
            patches where it insists on that; says what to do.
    """
    from timm.layers.patch_embed import PatchEmbed

    found = next((module for module in model.modules() if type(module) is PatchEmbed), None)
    if found is None or found.dynamic_img_pad:
        return
    patch = tuple(found.patch_size)
    received = f"received images of {size[0]} x {size[1]}"
    if size[0] < patch[0] or size[1] < patch[1]:
        raise InvalidInput(
            f"{what} takes patches of {patch[0]} x {patch[1]} pixels and needs at least one, {received}; give larger "
            f'images (size={max(patch)} in the suite), smaller patches ("options": {{"patch_size": 4}}) or another '
            "kind of network (conv, mlp)"
        )
    fixed = found.img_size if found.strict_img_size else None
    if fixed is not None and tuple(fixed) != size:
        raise InvalidInput(
            f"{what} was made for images of {fixed[0]} x {fixed[1]}, {received}; give such images (size={fixed[0]} in "
            f'the suite) or make it for these ("options": {{"img_size": {list(size)}}})'
        )
    if size[0] % patch[0] or size[1] % patch[1]:
        whole = max(-(-side // step) * step for side, step in zip(size, patch, strict=True))
        fitting = max(step for step in range(1, min(patch) + 1) if math.gcd(*size) % step == 0)
        remedy = f"give larger images (size={whole} in the suite)" + (
            f' or smaller patches ("options": {{"patch_size": {fitting}}})' if fitting > 1 else ""
        )
        if not found.strict_img_size:
            raise InvalidInput(f"{what} takes whole patches of {patch[0]} x {patch[1]} pixels, {received}; {remedy}")
        if torch.get_default_device().type != "meta":  # where a network is made; not where one is read or only counted
            seen = " x ".join(str(side - side % step) for side, step in zip(size, patch, strict=True))
            _tell_unseen(f"{what} sees the upper left {seen} pixels only, {received}; {remedy}")


@functools.lru_cache(maxsize=64)
def _tell_unseen(text: str) -> None:
    """Log once: networks of one description are made for every task and every child of a search."""
    log.warning(text)
