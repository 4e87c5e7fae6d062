"""Bad requests by the thousand: generated from the server's own OpenAPI, and images that no decoder likes."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings

LEAKS = ("Traceback", 'File "', "site-packages", "polypath/serve", "Error(")  # what a trace would bring along


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG of a few hundred bytes whose header promises width x height grey pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def bad_images(count: int, seed: int = 0) -> Iterator[bytes]:
    """Image files of every format and mode, of odd sizes, cut off, with bytes changed; bombs; files that are none."""
    from PIL import Image

    stream, pixels = random.Random(seed), np.random.default_rng(seed)
    modes = {
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "JPEG": ("L", "RGB", "CMYK"),
        "GIF": ("L", "P"),
        "BMP": ("1", "L", "P", "RGB"),
        "TIFF": ("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F"),
        "WEBP": ("RGB", "RGBA"),
        "PPM": ("L", "RGB"),
    }
    for number in range(count):
        if number % 10 == 0:
            yield bomb(stream.choice((1, 5_001, 30_000, 2**31 - 1)), stream.choice((5_001, 30_000, 2**31 - 1)))
            continue
        if number % 10 == 1:
            yield stream.randbytes(stream.randrange(300))
            continue
        format = stream.choice(sorted(modes))
        size = (stream.randrange(1, 40), stream.randrange(1, 40))
        array = pixels.integers(0, 256, (*size[::-1], 3)).astype(np.uint8)
        mode = stream.choice(modes[format])
        image = Image.fromarray(array).convert("L" if mode == "I;16" else mode)
        out = io.BytesIO()
        (image.convert("I;16") if mode == "I;16" else image).save(out, format)
        data = bytearray(out.getvalue())
        if number % 3 == 0:
            del data[stream.randrange(len(data)) :]
        elif number % 3 == 1:
            for _ in range(stream.randrange(1, 9)):
                data[stream.randrange(len(data))] = stream.randrange(256)
        yield bytes(data)


def send_images(client: Any, task: str, count: int, seed: int = 0) -> Counter[int]:
    """Statuses of `count` bad images, by upload and in base64 in turns."""
    statuses: Counter[int] = Counter()
    for number, data in enumerate(bad_images(count, seed)):
        fit = number % 3 == 2
        if number % 2:
            path, body = (
                f"/v1/tasks/{task}/predict/files",
                {"files": [("files", ("a", data))], "data": {"fit": str(fit)}},
            )
        else:
            encoded = base64.b64encode(data).decode()
            path, body = f"/v1/tasks/{task}/predict", {"json": {"inputs": [encoded], "fit": fit}}
        statuses[checked(client.post(path, **body))] += 1
    return statuses


def send_generated(client: Any, app: Any, count: int) -> Counter[int]:
    """Statuses of about `count` requests that schemathesis makes of the OpenAPI, most of them against its rules."""
    import schemathesis
    from schemathesis.generation import GenerationMode

    schema = schemathesis.openapi.from_dict(app.openapi())
    operations = [found.ok() for found in schema.get_all_operations()]
    plans = [
        (operation, mode, count * share // (4 * len(operations)))
        for operation in operations
        for mode, share in ((GenerationMode.NEGATIVE, 3), (GenerationMode.POSITIVE, 1))
    ]
    statuses: Counter[int] = Counter()
    for operation, mode, examples in plans:

        @settings(
            max_examples=max(1, examples),
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            deadline=None,
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            asked = case.as_transport_kwargs(base_url="http://127.0.0.1")
            known = {key: value for key, value in asked.items() if key in _KEYS and value is not None}
            if not isinstance(known.get("data"), (dict, type(None))):
                known["content"] = known.pop("data")
            try:
                request = client.build_request(**known)
                request.read()
            except (AttributeError, TypeError, ValueError):
                return  # no client can send this, so no server receives it
            statuses[checked(client.send(request))] += 1

        try:
            ask()
        except Exception as error:
            if type(error).__name__ not in (
                "Unsatisfiable",
                "Skip",
                "SkipTest",
            ):  # nothing can be wrong with a GET /health
                raise
    return statuses


_QUIET = list(HealthCheck)
_KEYS = ("method", "url", "params", "headers", "cookies", "json", "data", "files", "content")


def checked(response: Any) -> int:
    """The status, if the answer is no mistake of the server and tells nothing of its inside."""
    status: int = response.status_code
    assert status < 500, (status, response.request.url, response.text[:500])
    assert not any(leak in response.text for leak in LEAKS), response.text[:500]
    if status >= 400:
        assert set(response.json()) == {"error"} and response.json()["error"]["message"]
    return status
