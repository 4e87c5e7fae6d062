"""One network whose weights several tasks own in parts (RSN2, PackNet, NestedNet, CPG).

Components: `fc1.t0` is what the owner t0 holds in piece fc1: values at positions, biases and norms of its own. A piece
that only one task can use (inputs of another shape) is `fc1@t3.t3`; heads are `head10.t0` (one layer for all tasks with
ten outputs, positions disjoint) or `head@t0.t0` (the task's own). One step of a path is one piece; a step that names
several owners reads the weights of all of them and the biases and norms of the last that has some.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn

from polypath.core.component import Component, Path
from polypath.core.errors import InvalidInput
from polypath.core.network import Network
from polypath.core.seeds import generator
from polypath.core.task import Task
from polypath.nn.nested import NARROWED, Nested
from polypath.nn.ownership import Part
from polypath.nn.spaces import Space, Template, head_space, renamed, same_shape, spaces_of
from polypath.nn.subnet_config import SubnetConfig, share_of
from polypath.nn.subnet_values import Values, composed, fused
from polypath.ops.ownership import share_count

Rule = Callable[[Space, str, int], int]
"""(space, masked entry, free positions) -> how many of them a new owner gets."""


class Subnetworks(Network):
    """See the module docstring."""

    def __init__(self, config: SubnetConfig) -> None:
        super().__init__()
        self.config = config
        self.parts = nn.ModuleDict()  # space -> ModuleDict of owner -> Part
        self._template = spaces_of(config.backbone, config.inputs, config.layers, config.mask_bias)
        for pattern in config.slots:
            if not fnmatch.filter(self._template.spaces, pattern):
                raise InvalidInput(f"slots: {pattern!r} matches no piece; there are {list(self._template.spaces)}")
        self._variants: dict[str, Template] = {str(config.inputs): self._template}
        self._spaces: dict[str, Space] = dict(self._template.spaces)
        self._ids: dict[str, str] = {}
        self._steps: dict[str, list[list[str]]] = {}
        self._picked: dict[str, dict[str, int]] = {}
        self._widths: dict[str, float] = {}  # task -> part of every layer's units, where it is not the whole
        self._added = 0
        self._values = Values()
        self._components: dict[str, Component] | None = None

    # ---- plan -------------------------------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """Configuration, tasks with their steps, what every owner holds, number of tasks ever added."""
        widths = {name: {"width": width} for name, width in self._widths.items()}
        tasks = [
            {"id": self._ids[name], "task": task.to_json(), "steps": self._steps[name], **widths.get(name, {})}
            for name, task in self._tasks.items()
        ]
        parts = {
            f"{space}.{owner}": {"counts": part.counts(), "dense": part.dense, "picks": bool(part.pick._buffers)}
            for space, owners in self.parts.items()
            for owner, part in owners.items()  # type: ignore[operator]
        }
        config = self.config.model_dump(mode="json")
        return {"config": config, "tasks": tasks, "parts": parts, "picked": self._picked, "added": self._added}

    @classmethod
    def restore(cls, plan: Mapping[str, Any], keep: Collection[str] | None = None) -> Self:
        """The network of a plan, on the meta device."""
        with torch.device("meta"):
            network = cls(SubnetConfig.of(plan["config"]))
            for entry in plan["tasks"]:
                task = Task.of(entry["task"])
                network._tasks[task.name], network._ids[task.name] = task, entry["id"]
                network._steps[task.name] = [list(step) for step in entry["steps"]]
                network._widths |= {task.name: entry["width"]} if "width" in entry else {}
                network._spaces_of(task, entry["id"])
            for name, held in plan["parts"].items():
                if keep is None or name in keep:
                    space, _, owner = name.rpartition(".")
                    part = Part(network._spaces[space], held["counts"], dense=held["dense"], picks=held["picks"])
                    network._put(space, owner, part)
        network._picked = {name: dict(counts) for name, counts in plan["picked"].items()}
        network._added = plan["added"]
        return network

    # ---- tasks ------------------------------------------------------------------------------------------------

    def add_task(self, task: Task, share: float | Rule | None = None) -> None:
        """Give the task its share of every layer: any free positions for now, with initial values.

        Args:
            task: a new one.
            share: instead of the configuration's; or a rule that says how many, layer by layer.

        Raises:
            InvalidInput: the name is taken; a layer has too few free weights (names it, what is free and who holds
                how much) or is too small for the share.
        """
        self.require_free(task.name)
        share = share_of(self.config.share, task.name) if share is None else share
        task_id = f"t{self._added}"
        wanted: list[tuple[str, str]] = []
        steps: list[list[str]] = []
        spaces = self._spaces_of(task, task_id)
        for number, (piece, space) in enumerate(spaces):
            is_head = number == len(spaces) - 1
            owner = task_id if is_head else self._owner(piece, task.name, task_id)
            owners = self.owners(space)
            if owner not in owners:
                wanted.append((space, owner))
            read = [] if is_head or self.config.reads == "none" else [other for other in owners if other != owner]
            steps.append([f"{space}.{other}" for other in (*read, owner)])
        counts = {space: self._counts(space, share, task.name) for space, _ in wanted}
        self._tasks[task.name], self._ids[task.name], self._steps[task.name] = task, task_id, steps
        for space, owner in wanted:
            self._make(space, owner, counts[space], task)
        self._added += 1

    def release(self, task: str) -> tuple[list[str], list[str]]:
        """Delete what only this task uses; its positions are free again."""
        self.task_named(task)
        mine = self.path(task).components
        del self._tasks[task], self._ids[task], self._steps[task]
        self._widths.pop(task, None)
        still = {name for path in self.paths().values() for name in path.components}
        freed = [name for name in mine if name not in still]
        for name in freed:
            space, _, owner = name.rpartition(".")
            del self.parts[space][owner]  # type: ignore[operator]
            if not self.owners(space):
                del self.parts[space]
            self._picked.pop(name, None)
        self._components = None
        self._values.forget()
        return freed, []

    def _owner(self, piece: str, task: str, task_id: str) -> str:
        for pattern, owners in self.config.slots.items():
            if fnmatch.fnmatchcase(piece, pattern) and task in owners:
                return owners[task]
        return task_id

    def owners(self, space: str) -> list[str]:
        """Owners of a space, in the order they came."""
        return list(self.parts[space].keys()) if space in self.parts else []  # type: ignore[operator]

    def _spaces_of(self, task: Task, task_id: str) -> list[tuple[str, str]]:
        """(piece, space) of every step, the head last; makes the spaces that are not there yet."""
        variant = self._variants.get(str(task.inputs))
        if variant is None:
            config = self.config
            variant = spaces_of(config.backbone, task.inputs, config.layers, config.mask_bias, strict=False)
            self._variants[str(task.inputs)] = variant
        steps = []
        for piece, space in variant.spaces.items():
            base = self._template.spaces.get(piece)
            if base is not None and same_shape(base, space):
                steps.append((piece, piece))
                continue
            own = f"{piece}@{task_id}"
            self._spaces[own] = renamed(space, own)  # also over that of a task that was refused under this id
            steps.append((piece, own))
        outputs = task.target.outputs
        head = f"head{outputs}" if self.config.heads == "shared" else f"head@{task_id}"
        if self.config.heads == "shared" and variant.features != self._template.features:
            head = f"head{outputs}x{variant.features}"  # inputs of another shape can give features of another length
        if "@" in head or head not in self._spaces:
            self._spaces[head] = head_space(head, variant.features, outputs, self.config.mask_bias)
        return [*steps, ("head", head)]

    def _counts(self, space: str, share: float | Rule, task: str) -> dict[str, int]:
        """Entry -> positions for a new owner.

        Raises:
            InvalidInput: none, or more than are free.
        """
        found = self._spaces[space]
        counts, problems = {}, []
        for entry in found.masked:
            size = found.size(entry)
            whole = space.startswith("head@") and self.config.heads == "dense"
            held = {owner: self.part(f"{space}.{owner}").counts()[entry] for owner in self.owners(space)}
            free = size - sum(held.values())
            ruled = share(found, entry, free) if callable(share) else share_count(share, size)
            counts[entry] = size if whole else ruled
            users = ", ".join(f"{n} of {self._users(f'{space}.{owner}')}" for owner, n in held.items()) or "none"
            if counts[entry] == 0 and callable(share):
                problems.append(
                    f"layer {space}.{entry}: of its {size} weights {free} are free, which leaves none for the task; "
                    f"held: {users}; use a wider layer or remove a task"
                )
            elif counts[entry] == 0:
                problems.append(
                    f"layer {space}.{entry} has {size} weights, of which a share of {share:g} is none; use a larger "
                    "share, a wider layer, or leave it out with `layers`"
                )
            elif counts[entry] > free:
                given = "" if callable(share) else f" (share {share:g})"
                problems.append(
                    f"layer {space}.{entry}: {counts[entry]} of {size} weights wanted{given}, {free} are free "
                    f"({free / size:.1%}); held: {users}; use a smaller share or remove a task"
                )
        if problems:
            raise InvalidInput(f"task {task!r}: " + "; ".join(problems))
        return counts

    def _users(self, component: str) -> str:
        return "/".join(name for name, steps in self._steps.items() if any(component in step for step in steps))

    def _make(self, space: str, owner: str, counts: Mapping[str, int], task: Task) -> None:
        found = self._spaces[space]
        shared = self.config.dense == "first" and not space.startswith("head") and self.owners(space)
        part = Part(
            found, counts, dense=not shared, picks=self.config.reads == "chosen" and space in self._template.spaces
        )
        self._put(space, owner, part)
        if torch.get_default_device().type == "meta":  # planned, not learned: no values
            return
        values, dense = self.initial(f"{space}.{owner}", task)
        part.fill(found, dense)
        for entry in found.masked:
            free = self.free(space, entry, besides=(owner,))
            order = torch.randperm(len(free), generator=generator(self.config.seed, "positions", space, owner, entry))
            chosen = free[order[: counts[entry]]].sort().values
            part.put(entry, chosen, values[entry].view(-1)[chosen], found.size(entry))

    def _put(self, space: str, owner: str, part: Part) -> None:
        if space not in self.parts:
            self.parts[space] = nn.ModuleDict()
        self.parts[space][owner] = part  # type: ignore[operator]
        self._components = None

    # ---- owners -----------------------------------------------------------------------------------------------

    def part(self, component: str) -> Part:
        """What an owner holds."""
        space, _, owner = component.rpartition(".")
        found: Part = self.parts[space][owner]  # type: ignore[index]
        return found

    def space(self, component: str) -> Space:
        """The piece of a component."""
        return self._spaces[component.rpartition(".")[0]]

    def own(self, task: str) -> list[str]:
        """Components that a task's learning may move: the last owner of every step."""
        self.task_named(task)
        return [step[-1] for step in self._steps[task]]

    def free(self, space: str, entry: str, besides: Collection[str] = ()) -> torch.Tensor:
        """Ascending positions of a masked entry that no owner holds, those `besides` left out of account."""
        held = torch.zeros(self._spaces[space].size(entry), dtype=torch.bool)
        for owner in self.owners(space):
            if owner not in besides:
                held[self.part(f"{space}.{owner}").positions(entry).cpu()] = True
        return (~held).nonzero().view(-1)

    def initial(self, component: str, task: Task) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """(masked entry -> whole tensor, dense entry -> tensor): what a component's layer starts from."""
        space, _, owner = component.rpartition(".")
        return self._values.initial(self._spaces[space], owner, self.config, task.inputs)

    def widen(self, component: str, task: Task, besides: Collection[str] = (), *, zero: bool = False) -> None:
        """Let a component hold every free position of its layers, with initial values; for training before a choice.

        Args:
            component: whose own positions count as free.
            task: one that uses it.
            besides: components of the same space whose positions count as free too (chosen later, disjointly).
            zero: start from zero instead, as pruned weights are.
        """
        space, _, owner = component.rpartition(".")
        values, _ = self.initial(component, task)
        values = {entry: torch.zeros_like(value) for entry, value in values.items()} if zero else values
        skipped = {owner, *(name.rpartition(".")[2] for name in besides if name.rpartition(".")[0] == space)}
        for entry in self._spaces[space].masked:
            free = self.free(space, entry, besides=skipped)
            self.part(component).put(entry, free, values[entry].view(-1)[free], self._spaces[space].size(entry))

    def hold(self, component: str, entry: str, positions: torch.Tensor, values: torch.Tensor) -> None:
        """Let a component hold these ascending positions of a layer, with these values, and no others."""
        self.part(component).put(entry, positions, values, self.space(component).size(entry))

    def settle(self, component: str, entry: str, positions: torch.Tensor) -> None:
        """Let a component keep these of the positions it holds, with their values."""
        part = self.part(component)
        before = part.positions(entry)
        at = torch.searchsorted(before, positions.to(before))  # of its device and type
        part.put(entry, positions, part.values(entry)[at], self.space(component).size(entry))

    def choose_older(self, component: str, entry: str, positions: torch.Tensor) -> None:
        """Let a component use these positions of older owners' weights."""
        part, size = self.part(component), self.space(component).size(entry)
        part.put_picks(entry, positions, size)

    def count_picks(self, task: str) -> None:
        """Write down how many of each older component's weights a task uses; those of which none leave its path."""
        for step in self._steps[task]:
            mine = self.part(step[-1])
            counts: dict[str, int] = {}
            for other in step[:-1]:
                used = sum(int(torch.isin(self.part(other).positions(e), mine.picked(e)).sum()) for e in mine.entries)
                counts |= {other: used} if used else {}
            step[:-1] = counts
            if counts:
                self._picked[step[-1]] = counts

    def keep_width(self, task: str, part: float) -> None:
        """Write down that a task uses the first units of every layer only, this part: extracted, it has no others."""
        self._widths[task] = part

    def older(self, task: str) -> dict[str, list[str]]:
        """Component that the task's learning moves -> components of earlier owners that the same step reads."""
        self.task_named(task)
        return {step[-1]: step[:-1] for step in self._steps[task] if len(step) > 1}

    def stacked(self, space: str, entry: str) -> torch.Tensor:
        """The paper's (t, m, n) representation: one dense weight for each owner, in the order they came.

        Equation 3: at every position at most one of them is not zero.
        """
        found = self._spaces[space]
        return torch.stack([composed(found, [self.part(f"{space}.{o}")], entry) for o in self.owners(space)])

    @property
    def template(self) -> Template:
        """The spaces of the backbone, in order, whether or not anybody owns a part of them."""
        return self._template

    @property
    def spaces(self) -> dict[str, Space]:
        """Spaces in use, by name."""
        return {name: self._spaces[name] for name in self.parts}

    # ---- components and paths ---------------------------------------------------------------------------------

    def components(self) -> dict[str, Component]:
        """What every owner holds in every space."""
        if self._components is None:
            found = {}
            named = {owner for owners in self.config.slots.values() for owner in owners.values()}
            for space, owners in self.parts.items():
                for owner, part in owners.items():  # type: ignore[operator]
                    name = f"{space}.{owner}"
                    tensors = {local: f"parts.{name}.{local}" for local in part.state_dict()}
                    found[name] = Component(name, "module" if owner in named else "own", tensors)
            self._components = found
        return self._components

    def path(self, task: str, exit: str | None = None) -> Path:
        """One step a piece: the owners it reads, its own last; then the head."""
        self.require_only_exit(task, exit)
        steps = tuple(tuple(step) for step in self._steps[task])
        selected = [pair for step in steps for pair in self._picked.get(step[-1], {}).items()]
        return Path(task, steps, selected=tuple(selected))

    # ---- computation ------------------------------------------------------------------------------------------

    def start(self, inputs: torch.Tensor) -> torch.Tensor:
        """The encoded inputs themselves."""
        return inputs

    def step(self, value: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """One piece with the weights of the named owners, or the head."""
        space = self.space(names[0])
        parts = [self.part(name) for name in names]
        state, hold = self._values.state(space, parts)
        first = value[0] if isinstance(value, tuple) else value  # inside a residual block two values travel
        module = space.prepared(self.training, hold, first.device)
        out: torch.Tensor = torch.func.functional_call(module, state, (value,))
        return out

    def soften(self, component: str, entry: str, real: nn.Parameter | None, threshold: float = 0.0) -> None:
        """While learning: a real mask, a number for each of `older` positions, chooses among them (None: end)."""
        self._values.soften(self.part(component), entry, real, threshold)

    def limit(self, component: str, entry: str, keep: torch.Tensor | None) -> None:
        """While learning: the weight composed for a path that ends in this component is zero outside `keep`.

        Gradients pass straight through, to weights inside and outside alike. `keep` is bool (size,); changing it in
        place changes what the next step reads; None ends it.
        """
        self._values.limit(self.part(component), entry, keep)

    def fuse(self, path: Path) -> nn.Module:
        """A plain network with the composed weights, BatchNorm folded, dead units left out."""
        steps = [(self.space(step[0]), [self.part(name) for name in step]) for step in path.steps]
        own = self._widths.get(path.task)
        levels, level = (self.config.levels, len(path.steps[0]) - 1) if own is None else ((own,), 0)
        if levels and self.config.backbone["kind"] in NARROWED:
            nested = Nested(self._template, levels)
            return fused(steps, lambda space, module: nested.narrow(space, module, level))
        return fused(steps)
