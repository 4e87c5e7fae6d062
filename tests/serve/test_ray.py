"""The Ray Serve deployment: made without a cluster, and named honestly where Ray Serve is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from polypath.core.errors import InvalidInput
from polypath.serve import Limits
from polypath.serve.ray_serve import deployment


def test_without_ray_serve_it_says_what_to_install(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        InvalidInput, match=r"Ray Serve is not installed: pip install 'polypath\[serve\]' 'ray\[serve\]'"
    ):
        deployment(images)


def test_the_deployment_is_made_with_its_options(images: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed (pip install 'ray[serve]')")
    # In a process of its own: importing Ray leaves threads and warnings behind.
    code = (
        "from polypath.serve.ray_serve import deployment\n"
        f"made = deployment({str(images)!r}, num_replicas=3)\n"
        "found = made._bound_deployment\n"
        "print(found.name, found.num_replicas)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    if "ModuleNotFoundError" in done.stderr or "Ray Serve is not installed" in done.stderr:
        pytest.skip("ray is installed without its serve extra")
    assert done.stdout.split() == ["polypath", "3"], done.stderr


def test_limits_survive_the_way_to_a_replica() -> None:
    assert Limits.of(Limits(max_rows=3).model_dump()) == Limits(max_rows=3)
