"""Five subnetworks of 20 % in one network: training step, memory, bytes on disk, and the time to choose positions.

Beside them in the same process: five dense networks of the same shape, and the representation of the RSN2 paper, a
kernel (t, out, in) for t tasks that is multiplied by a mask in every step. Same optimizer (Adam), same batches; the
copies and the subnetworks hold the same weights, and their losses are compared before anything is timed.

Targets: a step of five tasks takes at most 1.08x of five dense networks and at most 1.0x of the masked copies; weights
take at most 0.3x of the copies; a five-task system on disk takes at most 0.35x of five dense networks in float32
without optimizer state. Times are processor seconds of one thread: others use this machine too.

Run: python benchmarks/bench_subnet.py --part fc (or conv, disk, select)
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from side_by_side import counted, in_memory, interleaved, ratio, write_record
from torch import nn

from polypath.core.examples import Suite
from polypath.core.seeds import seeded
from polypath.core.task import Image
from polypath.data import arrays
from polypath.methods.rsn2 import RSN2, chosen_positions
from polypath.nn.backbones import backbone
from polypath.nn.subnet import SubnetConfig, Subnetworks
from polypath.system import System
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

TASKS, SHARE, OUTPUTS = 5, 0.2, 10
INPUTS = Image(channels=1, height=28, width=28)
NETWORKS: dict[str, dict[str, Any]] = {
    "fc": {"kind": "mlp", "hidden": [1000] * 6},
    "conv": {"kind": "conv", "pool_stride": 2},
}


def suite(images: int = 20) -> Suite:
    """Seeded random images: neither time nor bytes depend on what is on them."""
    stream = torch.Generator().manual_seed(0)
    items = []
    for number in range(TASKS):
        x = torch.randint(0, 256, (images, *INPUTS.shape), generator=stream).to(torch.uint8)
        labels = [str(i) for i in range(OUTPUTS)]
        items.append(arrays(f"task{number}", train=(x, torch.arange(images) % OUTPUTS), labels=labels))
    return Suite("random", tuple(items))


def subnetworks(kind: str) -> Subnetworks:
    config = {"backbone": NETWORKS[kind], "inputs": INPUTS.model_dump(), "share": SHARE}
    network = Subnetworks(SubnetConfig.of(config))
    for item in suite():
        network.add_task(item.task)
    return network.train()


def dense(kind: str, number: int) -> nn.Module:
    with seeded(number, "dense"):
        body = backbone(NETWORKS[kind], INPUTS)
        return nn.Sequential(*body.pieces.values(), nn.Linear(body.features, OUTPUTS))


class Copies(nn.Module):
    """The paper's layers: one kernel for all tasks, (t, out, in) or (t, out, in, k, k), times its mask, every step."""

    def __init__(self, network: Subnetworks) -> None:
        super().__init__()
        self.layers: list[nn.Module] = []
        self.kernels, self.biases = nn.ParameterList(), nn.ParameterList()
        for space in network.spaces.values():
            for name, layer in space.module.named_modules():
                if isinstance(layer, nn.Sequential):
                    continue
                self.layers.append(layer)
                if not isinstance(layer, (nn.Linear, nn.Conv2d)):
                    continue
                entry = f"{name}.weight".lstrip(".")
                kernel = network.stacked(space.name, entry).detach()
                owners = network.parts[space.name]
                biases = [part.dense_state(space)[f"{name}.bias".lstrip(".")] for part in owners.values()]  # type: ignore[operator]
                self.register_buffer(f"mask{len(self.kernels)}", (kernel != 0).float())
                self.kernels.append(nn.Parameter(kernel))
                self.biases.append(nn.Parameter(torch.stack(biases).detach()))

    def forward(self, batches: list[torch.Tensor]) -> list[torch.Tensor]:
        """One output a task; everything happens task by task but the masking, which happens once a layer."""
        number, values = 0, batches
        for layer in self.layers:
            if not isinstance(layer, (nn.Linear, nn.Conv2d)):
                values = [layer(value) for value in values]
                continue
            weights = (self.kernels[number] * self.get_buffer(f"mask{number}")).unbind()
            biases = self.biases[number].unbind()
            if isinstance(layer, nn.Linear):
                values = [F.linear(x, w, b) for x, w, b in zip(values, weights, biases, strict=True)]
            else:
                pad = layer.padding
                values = [F.conv2d(x, w, b, padding=pad) for x, w, b in zip(values, weights, biases, strict=True)]
            number += 1
        return values


class Side:
    """One of the alternatives: a training step of five tasks, and what it holds."""

    def __init__(self, name: str, kind: str, batch: int) -> None:
        stream = torch.Generator().manual_seed(1)
        self.inputs = [torch.randn(batch, *INPUTS.shape, generator=stream) for _ in range(TASKS)]
        self.targets = [torch.randint(0, OUTPUTS, (batch,), generator=stream) for _ in range(TASKS)]
        self.modules: list[nn.Module] = []
        if name == "dense":
            self.modules = [dense(kind, number) for number in range(TASKS)]
            self.optimizers = [adam(module.parameters()) for module in self.modules]
            self.forwards: list[Callable[[torch.Tensor], torch.Tensor]] = list(self.modules)
        else:
            network = subnetworks(kind)
            self.modules = [network if name == "subnetworks" else Copies(network)]
            tasks = list(network.tasks)
            self.optimizers = [adam(network.trainable(network.own(task))) for task in tasks]
            self.forwards = [lambda x, task=task: network(x, task) for task in tasks]  # type: ignore[misc]
        self.step = self._each
        if name == "copies":
            self.optimizers = [adam(self.modules[0].parameters())]
            self.step = self._together

    def _each(self) -> float:
        total = 0.0
        for forward, optimizer, x, y in zip(self.forwards, self.optimizers, self.inputs, self.targets, strict=True):
            loss = F.cross_entropy(forward(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
        return total

    def _together(self) -> float:
        outputs = self.modules[0](self.inputs)
        loss = torch.stack([F.cross_entropy(x, y) for x, y in zip(outputs, self.targets, strict=True)]).sum()
        self.optimizers[0].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[0].step()
        return float(loss.detach())

    def holds(self) -> dict[str, int]:
        """Bytes between two steps, by what they are."""
        states = [tensor for module in self.modules for tensor in module.state_dict().values()]
        gradients = [p.grad for module in self.modules for p in module.parameters() if p.grad is not None]
        moments = [v for o in self.optimizers for held in o.state.values() for v in held.values()]
        composed = [
            buffer
            for module in self.modules
            if isinstance(module, Subnetworks)
            for free in module._values._buffers._free.values()
            for buffer in free
        ]
        unpacked = [
            found[2]
            for module in self.modules
            for part in module.modules()
            for found in getattr(part, "_positions", {}).values()
        ]
        groups = {
            "state": states,
            "unpacked_positions": unpacked,
            "composed weights kept for the next step": composed,
            "gradients": gradients,
            "optimizer": moments,
        }
        return {key: sum(t.numel() * t.element_size() for t in tensors) for key, tensors in groups.items()}


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def training(kind: str, batch: int, rounds: int) -> dict[str, Any]:
    """Steps in turns, wall and processor seconds; bytes held; peak of a process that does nothing else."""
    names = ("subnetworks", "dense", "copies")
    sides = {name: Side(name, kind, batch) for name in names}
    first = {name: side.step() for name, side in sides.items()}
    assert abs(first["subnetworks"] - first["copies"]) < 1e-3, f"not the same networks: {first}"
    processor: dict[str, list[float]] = {name: [] for name in names}
    wall = interleaved({name: counted(side.step, processor[name]) for name, side in sides.items()}, rounds, warmup=0)
    holds = {name: side.holds() for name, side in sides.items()}
    mine, copies = holds["subnetworks"], holds["copies"]
    kernels = sum(p.numel() * p.element_size() for p in sides["copies"].modules[0].parameters())
    peaks = {name: peak(name, kind, batch) for name in names}
    return {
        "network": NETWORKS[kind],
        "tasks": TASKS,
        "share": SHARE,
        "batch": batch,
        "rounds": rounds,
        "targets": {"step over dense": 1.08, "step over copies": 1.0, "weights over copies": 0.3},
        "processor time": {f"over {other}": ratio(processor, "subnetworks", other) for other in ("dense", "copies")},
        "wall time": {f"over {other}": ratio(wall, "subnetworks", other) for other in ("dense", "copies")},
        "step_s": {name: statistics.median(seconds) for name, seconds in processor.items()},
        "weights (values and bits) over copies": {
            "kernels and masks": mine["state"] / copies["state"],
            "kernels alone": mine["state"] / kernels,
            "with unpacked positions, over kernels and masks": (mine["state"] + mine["unpacked_positions"])
            / copies["state"],
        },
        "bytes between steps": holds,
        "peak of training beyond imports": peaks,
        "seconds": {"processor": processor, "wall": wall},
    }


def peak(name: str, kind: str, batch: int) -> int:
    """Bytes that two steps of one alternative add to a fresh process, activations included."""
    command = [sys.executable, __file__, "--part", kind, "--batch", str(batch), "--peak", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def print_peak(name: str, kind: str, batch: int) -> None:
    suite()  # brings the last imports
    before = in_memory("VmRSS")
    side = Side(name, kind, batch)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here: making networks is no step
    side.step()
    side.step()
    print(in_memory("VmHWM") - before)


def disk() -> dict[str, Any]:
    """A saved system of five tasks against five dense networks in safetensors files."""
    from safetensors.torch import save_file

    figures: dict[str, Any] = {"tasks": TASKS, "share": SHARE, "target": 0.35}
    for kind in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            network = subnetworks(kind)
            system = System(network.eval(), method="rsn2", config={}, seed=0)
            system.save(Path(folder) / "system")
            files = [p for p in (Path(folder) / "system").rglob("*") if p.is_file()]
            whole = sum(p.stat().st_size for p in files)
            separate = 0
            for number in range(TASKS):
                path = Path(folder) / f"dense{number}.safetensors"
                save_file({key: value.contiguous() for key, value in dense(kind, number).state_dict().items()}, path)
                separate += path.stat().st_size
        weights = network.state_dict().items()
        bits = sum(t.numel() for key, t in weights if ".at." in key)
        figures[kind] = {
            "system_bytes": whole,
            "of_these_bits": bits,
            "of_these_manifest_and_headers": whole - sum(t.numel() * t.element_size() for _, t in weights),
            "dense_bytes": separate,
            "ratio": whole / separate,
        }
    return figures


def select(rounds: int) -> dict[str, Any]:
    """Seconds to choose positions for five tasks in the fully connected network, 1,000 examples each."""
    data = suite(1000)
    engine = Engine(config=RunConfig(checkpoint_every=0), progress=False)
    torch.set_num_threads(1)
    method = RSN2(backbone=NETWORKS["fc"], share=SHARE)
    network = method.build([item.task for item in data], engine)
    for item in data:
        network.add_task(item.task)
    mine = {item.name: network.own(item.name) for item in data}
    moving = [part for parts in mine.values() for part in parts]
    users = {part: item.task for item in data for part in mine[item.name]}
    counts = {part: network.part(part).counts() for part in moving}
    now: dict[str, Any] = {}

    def widen() -> None:
        for part in moving:
            network.widen(part, users[part], besides=moving)

    def rank() -> None:
        now["scores"] = method._scores(network, list(data), engine, moving)

    def choose(scope: Any) -> None:
        now["chosen"] = chosen_positions(network, mine, counts, now["scores"], scope)

    def settle() -> None:
        for part, found in now["chosen"].items():
            for entry, positions in found.items():
                network.settle(part, entry, positions)

    actions: dict[str, Callable[[], None]] = {
        "widen": widen,
        "rank by gradient": rank,
        "global": lambda: choose("global"),
        "layer": lambda: choose("layer"),
        "settle": settle,
    }
    seconds: dict[str, list[float]] = {key: [] for key in actions}
    for _ in range(rounds):
        for key, action in actions.items():
            counted(action, seconds[key])()
    middle = {key: statistics.median(values) for key, values in seconds.items()}
    extra = middle["widen"] + middle["settle"] + middle["rank by gradient"]
    return {
        "tasks": TASKS,
        "positions": sum(s.size(e) for s in network.spaces.values() for e in s.masked),
        "examples a task": 1000,
        "processor_s": middle,
        "in all, layer by layer": extra + middle["layer"],
        "in all, global": extra + middle["global"],
        "seconds": seconds,
    }


def main() -> None:
    """Measure one part and write its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=[*NETWORKS, "disk", "select"], required=True)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak:
        print_peak(args.peak, args.part, args.batch)
        return
    figures = (
        disk()
        if args.part == "disk"
        else select(args.rounds)
        if args.part == "select"
        else training(args.part, args.batch, args.rounds)
    )
    write_record(f"subnet_{args.part}", figures, f"python benchmarks/bench_subnet.py --part {args.part}", args.out)


if __name__ == "__main__":
    main()
