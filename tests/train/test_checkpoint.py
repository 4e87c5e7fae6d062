"""Epoch checkpoints: everything comes back bit for bit and in its layout; a bad file is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from polypath.core.errors import CorruptError
from polypath.train.checkpoint import checkpoint_facts, restore_checkpoint, save_checkpoint


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    return found.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def adam(module: nn.Module, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=0.01, fused=fused, betas=(0.8, 0.95))


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, first: int, count: int) -> None:
    for number in range(first, first + count):
        stream = torch.Generator().manual_seed(number)
        inputs = torch.randn(8, 3, 8, 8, generator=stream).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(module(inputs), torch.arange(8) % 2).backward()
        optimizer.step()


@pytest.mark.parametrize("fused", [True, False])
def test_training_goes_on_bit_for_bit(tmp_path: Path, fused: bool) -> None:
    whole = network(0)
    optimizer = adam(whole, fused)
    steps(whole, optimizer, 0, 3)
    state = {"network": whole, "optimizers": {"a": optimizer}, "counters": {"seen": 24, "best": {"epoch": 2}}}
    save_checkpoint(tmp_path / "c", state, {"epoch": 7})
    steps(whole, optimizer, 3, 3)

    other = network(1)
    again = adam(other, fused)
    counters: dict[str, Any] = {"seen": 0, "best": {}}
    facts = restore_checkpoint(tmp_path / "c", {"network": other, "optimizers": {"a": again}, "counters": counters})
    assert facts == checkpoint_facts(tmp_path / "c") == {"epoch": 7}
    assert counters == {"seen": 24, "best": {"epoch": 2}}
    assert again.param_groups[0]["betas"] in ((0.8, 0.95), [0.8, 0.95]) and again.param_groups[0]["fused"] == fused
    for parameter, held in again.state.items():
        for moment in ("exp_avg", "exp_avg_sq"):
            assert held[moment].stride() == parameter.stride()
    assert other[0].weight.is_contiguous(memory_format=torch.channels_last)
    steps(other, again, 3, 3)
    for key, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    for mine, theirs in zip(optimizer.state.values(), again.state.values(), strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def written(path: Path) -> dict[str, Any]:
    module = network(0)
    save_checkpoint(path, {"network": module}, {"epoch": 0})
    return {"network": network(1)}


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flipped(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[-5] ^= 1
    path.write_bytes(held)


def foreign(path: Path) -> None:
    save_file({"x": torch.zeros(3)}, path)


@pytest.mark.parametrize("damage", [truncated, flipped, foreign, lambda p: p.write_text("?"), lambda p: p.unlink()])
def test_a_damaged_file_is_named_and_says_what_to_do(tmp_path: Path, damage: Any) -> None:
    state = written(tmp_path / "c.safetensors")
    damage(tmp_path / "c.safetensors")
    with pytest.raises(CorruptError, match=r"c\.safetensors.*delete it to train the stage again"):
        restore_checkpoint(tmp_path / "c.safetensors", state)


def test_a_checkpoint_of_something_else_is_named(tmp_path: Path) -> None:
    written(tmp_path / "c")
    with pytest.raises(CorruptError, match=r"holds \['network'\].*keeps \['model'\]"):
        restore_checkpoint(tmp_path / "c", {"model": network(0)})
    with pytest.raises(CorruptError, match="does not fit this run"):
        restore_checkpoint(tmp_path / "c", {"network": nn.BatchNorm2d(2)})


def test_the_old_checkpoint_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    written(tmp_path / "c")
    old = (tmp_path / "c").read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "c", {"network": network(2), "odd": {"a": object()}}, {})
    assert (tmp_path / "c").read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["c"]
