"""RSN2: several subnetworks in one network, each with weights of its own, chosen by the gradients of its task.

Paper: The multiple subnetwork hypothesis (2022), algorithm 1 and sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from polypath.core.config import Config
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage, paced_epochs
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.names import keys_of
from polypath.methods.owners import empty_network
from polypath.methods.training import BatchSize, Delta, TrainingConfig, optimizer_of, train
from polypath.nn.backbones import Described
from polypath.nn.own import Source, offer
from polypath.nn.subnet import Subnetworks
from polypath.nn.subnet_config import Share, share_of
from polypath.ops.ownership import choose, choose_global, share_count


class RSN2Config(TrainingConfig):
    """Settings of RSN2; the defaults are those of the paper's experiments. Those of plain training are inherited.

    Args:
        backbone: the network that the tasks share, see `polypath.nn.backbones`.
        share: part of every layer's weights that a task owns (1 - pruning rate), for all tasks or task by task.
        select: rank positions by the absolute gradient of the summed loss, or by the absolute weight.
        samples: training examples whose loss gives the gradient.
        dense_epochs: epochs in which every task trains all free weights before positions are chosen.
        scope: positions are chosen `layer` by layer (the share of each), or over all layers together (`global`), where
            a layer keeps what other tasks' shares claim of it, see `reserved`.
        order: all tasks up front and together (`joint`), or one after the other (`sequential`).
        groups: stages of tasks that learn together, one stage after the other; instead of `order`.
        slots: piece pattern -> task -> owner; tasks with one owner share its weights in these pieces.
        layers: patterns of the layers whose weights are owned in parts.
        heads, mask_bias, init: see `polypath.nn.subnet_config.SubnetConfig`.
        read_earlier: a later task uses earlier tasks' weights too, without changing them (the paper's future work);
            tasks learn one after the other then.
        rescale: scale the chosen weights of every layer to He's variance for the inputs that are left (heads keep
            theirs); not in the paper, whose N(0, 0.05) lets the signal die in sparse convolutions.
        loss_weights: task -> factor of its loss where tasks share an owner.
    """

    backbone: Described = Field("mlp", validate_default=True)
    share: Share = 0.2
    select: Literal["gradient", "magnitude"] = "gradient"
    samples: int = Field(1000, gt=0)
    dense_epochs: int = Field(0, ge=0)
    scope: Literal["layer", "global"] = "layer"
    order: Literal["joint", "sequential"] = "joint"
    groups: tuple[tuple[str, ...], ...] = ()
    slots: dict[str, dict[str, str]] = Field(default_factory=dict)
    layers: tuple[str, ...] = ("*",)
    heads: Literal["shared", "masked", "dense"] = "shared"
    mask_bias: bool = False
    init: Literal["normal", "backbone"] = "normal"
    read_earlier: bool = False
    rescale: bool = False
    loss_weights: dict[str, float] = Field(default_factory=dict)
    epochs: int = Field(100, gt=0)
    batch: BatchSize | dict[str, BatchSize] = 512
    patience: int = Field(3, ge=0)
    min_delta: Delta | dict[str, Delta] = 0.01

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.read_earlier and (self.order != "sequential" or any(len(group) > 1 for group in self.groups)):
            raise ValueError(
                "read_earlier needs order='sequential': a task can only read tasks that are learned already"
            )
        if self.rescale and self.dense_epochs:
            raise ValueError(
                "rescale needs dense_epochs=0: it would change the scale of weights that are trained already"
            )
        twice = sorted({t for g in self.groups for t in g if sum(t in other for other in self.groups) > 1})
        if twice or any(len(set(group)) != len(group) for group in self.groups):
            raise ValueError(f"groups: every task once; received {[list(group) for group in self.groups]}")
        return self

    def named_tasks(self) -> dict[str, Iterable[str]]:
        """As of all training, and those of shares, slots, groups and weights of losses."""
        return {
            **super().named_tasks(),
            "share": keys_of(self.share),
            "slots": [task for owners in self.slots.values() for task in owners],
            "groups": [task for group in self.groups for task in group],
            "loss_weights": self.loss_weights,
        }


class RSN2(Method[RSN2Config]):
    """Disjoint subnetworks: learning a task moves its own weights only, so all others stay bit-identical."""

    name: ClassVar[str] = "rsn2"
    config_class: ClassVar[type[Config]] = RSN2Config
    network_class: ClassVar[type[Network]] = Subnetworks
    fixed: ClassVar[frozenset[str]] = frozenset(
        {"backbone", "layers", "heads", "mask_bias", "init", "read_earlier", "slots"}
    )

    @property
    def isolation(self) -> Isolation:
        """Always exact."""
        return "exact"

    def build(self, tasks: Sequence[Task], run: Run) -> Subnetworks:
        """The network without an owner; refuses now what would not fit later.

        Raises:
            InvalidInput: shares that sum above 1 in a layer (names it), layers too small, patterns without a match.
            UnknownName: a name in `groups` or `loss_weights` is none of the tasks.
        """
        named, names = self.config.named_tasks(), [task.name for task in tasks]
        for setting in ("groups", "loss_weights"):
            for name in named[setting]:
                if name not in names:
                    raise UnknownName(f"task in {setting}", name, names)
        same = ("share", "layers", "slots", "heads", "mask_bias", "init")
        return empty_network(self, tasks, run.seed, same, reads="earlier" if self.config.read_earlier else "none")

    def admit(self, network: Network, task: Task) -> None:
        """Add a task with this configuration's share."""
        assert isinstance(network, Subnetworks)
        network.add_task(task, share_of(self.config.share, task.name))

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """Dense epochs come out of the same passes."""
        return paced_epochs(self.config, passes - self.config.dense_epochs)

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage of all new tasks, one each, or the configured groups (tasks in none come last, one each)."""
        config = self.config
        if not config.groups:
            return [Stage(tuple(new))] if config.order == "joint" else [Stage((name,)) for name in new]
        named = {name for group in config.groups for name in group}  # also of tasks that were removed since
        stages = [Stage(tuple(name for name in group if name in new)) for group in config.groups]
        return [s for s in stages if s.tasks] + [Stage((name,)) for name in new if name not in named]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Choose positions for the stage's tasks, then train the values at them."""
        assert isinstance(network, Subnetworks)
        config = self.config
        names = [item.name for item in data]
        outside = [task for task in network.tasks if task not in names]
        network.freeze({part for task in outside for part in network.path(task).components})
        mine = {name: [part for part in network.own(name) if part not in network.frozen] for name in names}
        groups = connected(mine)
        moving = list(dict.fromkeys(part for parts in mine.values() for part in parts))
        users = {part: network.tasks[next(n for n in names if part in mine[n])] for part in moving}
        counts = {part: network.part(part).counts() for part in moving}
        for part in moving:
            network.widen(part, users[part], besides=moving)
        if config.dense_epochs:
            self._train(network, data, run, mine, groups, "dense", config.dense_epochs)
        scores = self._scores(network, data, run, moving)
        kept = reserved(network, counts, config.share) if config.scope == "global" else None
        for part, chosen in chosen_positions(network, mine, counts, scores, config.scope, kept).items():
            for entry, positions in chosen.items():
                network.settle(part, entry, positions)
                if config.rescale:
                    rescale(network, part, entry)
        self._train(network, data, run, mine, groups, "train", None)

    def _train(
        self,
        network: Subnetworks,
        data: Sequence[TaskData],
        run: Run,
        mine: Mapping[str, Sequence[str]],
        groups: Sequence[Sequence[str]],
        key: str,
        epochs: int | None,
    ) -> None:
        moving = list(dict.fromkeys(part for parts in mine.values() for part in parts))
        optimizers = {
            group[0]: optimizer_of(
                self.config, network.trainable(dict.fromkeys(part for name in group for part in mine[name]))
            )
            for group in groups
        }
        config = self.config if epochs is None else self.config.changed(patience=0, evaluate_every=0)
        train(
            network,
            data,
            run,
            config,
            optimizers=optimizers,
            groups=groups,
            moving=moving,
            key=key,
            epochs=epochs,
            weights=self.config.loss_weights,
        )

    def _scores(
        self, network: Subnetworks, data: Sequence[TaskData], run: Run, moving: Sequence[str]
    ) -> dict[str, dict[str, torch.Tensor]]:
        """Component -> entry -> (n,) score of every position it holds: |gradient of the summed loss| or |weight|.

        Raises:
            InvalidInput: a gradient that is not finite; names task and layer.
        """
        if self.config.select == "magnitude":
            return {
                part: {entry: network.part(part).values(entry).detach().abs() for entry in network.space(part).masked}
                for part in moving
            }
        network.zero_grad(set_to_none=True)
        network.eval()  # no dropout, and statistics stay as they are
        for item in data:
            seen = 0
            for batch in run.batches(item, min(512, self.config.samples), item.name, "selection", augment=False):
                rows = min(len(batch), self.config.samples - seen)
                with run.autocast():
                    outputs = network(batch.inputs[:rows], item.name)
                (item.task.loss_of(outputs, batch.targets[:rows]) * rows).backward()
                seen += rows
                if seen >= self.config.samples:
                    break
        found: dict[str, dict[str, torch.Tensor]] = {}
        for part in moving:
            found[part] = {}
            for entry in network.space(part).masked:
                values = network.part(part).values(entry)
                gradient = torch.zeros_like(values) if values.grad is None else values.grad
                if not torch.isfinite(gradient).all():
                    raise InvalidInput(
                        f"choosing weights for {part}.{entry}: the gradient of the summed loss is NaN or infinite, so "
                        "weights cannot be ranked; check the inputs' scale, or use precision='32-true'"
                    )
                found[part][entry] = gradient.abs()
        network.zero_grad(set_to_none=True)
        return found


def subnetworks(module: Source, *, name: str | None = None, **settings: Any) -> RSN2:
    """RSN2 on a network of your own: `pp.learn(pp.subnetworks(MyNet(), share=0.1), suite)`.

    Every task gets its share of the weights of the module's linear and convolutional layers, its own copy of the rest
    (biases, normalisation, embeddings) and a linear head on what the module returns.

    Args:
        module: encoded inputs (n, ...) in, features (n, f) out; a module, whose values every task starts from (also
            pretrained ones), or a function that makes one, called again for every task under a seed of its own.
        name: how a saved system asks for it again, `pp.load(folder, modules={name: ...})`; None takes the class's.
        settings: of `RSN2Config`; `init` is "backbone" unless set.

    Raises:
        InvalidInput: the module does not return features (n, f), or another module already has this name.
    """
    name = name or str(getattr(module, "__name__", type(module).__name__))
    offer(name, module)
    return RSN2(RSN2Config.of({"init": "backbone", **settings, "backbone": {"kind": "own", "name": name}}, "method"))


def connected(mine: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Tasks that share a component, directly or through others, in one group each; in the given order."""
    groups: list[list[str]] = []
    for task, parts in mine.items():
        near = [group for group in groups if any(not set(parts).isdisjoint(mine[other]) for other in group)]
        groups = [group for group in groups if group not in near] + [[*(t for group in near for t in group), task]]
    return groups


def rescale(network: Subnetworks, component: str, entry: str) -> None:
    """Scale what a component holds of a layer's weight to He's variance: 2 / (weights held for each output unit).

    Biases, heads and layers that hold nothing but zeros stay as they are.

    Args:
        network: positions are chosen.
        component: which owner of which piece.
        entry: name of the weight within the piece.
    """
    space, held = network.space(component), network.part(component).values(entry).detach()
    shape = space.masked[entry]
    mean_square = float(held.square().mean()) if len(held) else 0.0
    if space.name.startswith("head") or len(shape) < 2 or not mean_square:
        return
    factor = (2 * shape[0] / len(held) / mean_square) ** 0.5
    network.hold(component, entry, network.part(component).positions(entry), held * factor)


def reserved(network: Subnetworks, counts: Mapping[str, Mapping[str, int]], share: Share) -> dict[tuple[str, str], int]:
    """(space, entry) -> weights that a stage leaves to tasks that come after it, under `scope="global"`.

    Where one share counts for all tasks: those of as many more as fit. Where shares are named: those of the named tasks
    that are not there yet, and with a `default` beside them all there are, for any of them may come. So a layer lends
    no more than nobody's share, and whatever a task takes, the next finds its share of every layer.

    Args:
        network: with the stage's tasks added, whose components may hold more by now.
        counts: component of the stage -> entry -> how many weights it will hold.
        share: of all tasks, or task by task.
    """
    named = share if isinstance(share, dict) else {"default": share}
    coming = [value for name, value in named.items() if name != "default" and name not in network.tasks]
    found: dict[tuple[str, str], int] = {}
    for space in dict.fromkeys(network.space(part).name for part in counts):
        if "@" in space:  # one task's own
            continue
        stage = {part: held for part, held in counts.items() if network.space(part).name == space}
        owners = [part.rpartition(".")[2] for part in stage]
        for entry in network.spaces[space].masked:
            size = network.spaces[space].size(entry)
            rest = len(network.free(space, entry, besides=owners)) - sum(held[entry] for held in stage.values())
            claimed = sum(share_count(one, size) for one in coming)
            each = share_count(named.get("default", 0.0), size)
            lent = 0 if coming and each else rest % each if each else max(rest - claimed, 0)
            found[space, entry] = rest - lent
    return found


def chosen_positions(
    network: Subnetworks,
    mine: Mapping[str, Sequence[str]],
    counts: Mapping[str, Mapping[str, int]],
    scores: Mapping[str, Mapping[str, torch.Tensor]],
    scope: Literal["layer", "global"],
    kept: Mapping[tuple[str, str], int] | None = None,
) -> dict[str, dict[str, torch.Tensor]]:
    """Component -> entry -> positions: each task in turn takes its best among those that are still free.

    Args:
        network: whose components hold every free position.
        mine: task -> components that choose.
        counts: component -> entry -> how many.
        scores: component -> entry -> one a position held.
        scope: layer by layer, or all layers of a task together; then a task gets at least half its share of every
            layer, and leaves as much to each task that chooses after it. Otherwise the layers with the largest
            gradients (the head) would be taken before the last task chooses, and it would answer with a constant.
            Where others of its stage took more of a layer than it finds again elsewhere, it gets fewer in all.
        kept: (space, entry) -> how many weights `global` leaves to nobody, see `reserved`.
    """
    least = {(p, e): (n + 1) // 2 for p, held in counts.items() for e, n in held.items()}
    taken: dict[tuple[str, str], torch.Tensor] = {}
    found: dict[str, dict[str, torch.Tensor]] = {}
    for parts in mine.values():
        wanted = [(part, entry) for part in parts if part not in found for entry in network.space(part).masked]
        held, rank = [], []
        for part, entry in wanted:
            positions = network.part(part).positions(entry).cpu()
            space = network.space(part)
            used = taken.setdefault((space.name, entry), torch.zeros(space.size(entry), dtype=torch.bool))
            free = ~used[positions]
            held.append(positions[free])
            rank.append(scores[part][entry].cpu()[free])
        if scope == "global" and wanted:
            total = sum(counts[part][entry] for part, entry in wanted)
            for number, (part, entry) in enumerate(wanted):
                space = network.space(part)
                waiting = (p for p in counts if p not in found and p != part and network.space(p) is space)
                later = 0 if kept is None else kept.get((space.name, entry), 0)
                most = len(held[number]) - sum(least[p, entry] for p in waiting) - later
                best = choose(rank[number], torch.arange(len(held[number])), most)
                held[number], rank[number] = held[number][best], rank[number][best]
            total = min(total, sum(map(len, held)))
            chosen = choose_global(rank, held, total, [least[pair] for pair in wanted])
        else:
            each = [counts[part][entry] for part, entry in wanted]
            chosen = [choose(*arguments) for arguments in zip(rank, held, each, strict=True)]
        for (part, entry), positions in zip(wanted, chosen, strict=True):
            taken[network.space(part).name, entry][positions] = True
            found.setdefault(part, {})[entry] = positions
    return found
