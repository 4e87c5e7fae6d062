"""Requests generated from the OpenAPI, and broken images: no 5xx, no trace. benchmarks/bench_serve.py sends 5,000."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_requests import send_generated, send_images
from serving import Client


def test_broken_images_are_answered_or_refused(images: Path, client: Client) -> None:
    statuses = send_images(client(images), "digits", 120)
    assert sum(statuses.values()) == 120 and set(statuses) <= {200, 413, 422}
    assert statuses[413] > 5 and statuses[422] > 40 and statuses[200] > 5


def test_generated_requests_are_answered_or_refused(tables: Path, client: Client) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed (pip install -e '.[dev]')")
    server = client(tables)
    statuses = send_generated(server, server.app, 60)
    assert sum(statuses.values()) > 25 and max(statuses) < 500
