"""What one server may be asked for at once: every limit has a clear refusal."""

from __future__ import annotations

from pydantic import Field

from polypath.core.config import Config


class Limits(Config):
    """Limits of a server; what goes past one is refused before work is done for it.

    Args:
        max_body_bytes: size of a request (413 past it).
        max_pixels: width x height of one image as its header says, read before a pixel is decoded (413).
        max_rows: inputs of one request (413).
        max_concurrency: prediction requests in progress, all callers together (503 with Retry-After).
        max_per_token: prediction requests in progress of one token (429 with Retry-After).
        max_batch: inputs computed at once, gathered from requests that ask the same.
        max_wait_ms: how long a request may wait for others to share its batch. It waits only where the batch before
            it was shared, and never longer than that batch took to compute; a single client never waits.
        body_s: seconds a client may take to send the headers of a request (it is cut off), and again its body (408).
        answer_s: seconds a request may wait for its answer (503).
        reload_s: seconds between two looks at whether the system or the tokens changed on disk.
        workers: batches computed at the same time; None takes cores / torch threads.
    """

    max_body_bytes: int = Field(16 * 2**20, gt=0)
    max_pixels: int = Field(25_000_000, gt=0)
    max_rows: int = Field(256, gt=0)
    max_concurrency: int = Field(256, gt=0)
    max_per_token: int = Field(64, gt=0)
    max_batch: int = Field(64, gt=0)
    max_wait_ms: float = Field(20.0, ge=0)
    body_s: float = Field(30.0, gt=0)
    answer_s: float = Field(60.0, gt=0)
    reload_s: float = Field(1.0, gt=0)
    workers: int | None = Field(None, gt=0)
