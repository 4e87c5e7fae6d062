"""The first entry of a manifest file: the sha256 of everything after it, so that no change goes unnoticed.

Components and pages are named by their hashes, and the manifest names them; nothing names the manifest.
"""

from __future__ import annotations

import hashlib
import re

_SEAL = re.compile(rb'\s*\{\s*"sha256": "([0-9a-f]{64})",')


def sealed(text: bytes) -> bytes:
    """A JSON object that has entries, with the sha256 of what follows as the first of them."""
    rest = text.lstrip()[1:]
    return b'{\n"sha256": "%s",' % hashlib.sha256(rest).hexdigest().encode() + rest


def intact(text: bytes) -> bool:
    """Whether a text is what `sealed` returned."""
    seal = _SEAL.match(text)
    return seal is not None and hashlib.sha256(text[seal.end() :]).hexdigest().encode() == seal[1]
