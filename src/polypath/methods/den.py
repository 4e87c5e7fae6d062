"""Dynamically expandable networks: retrain what a task needs, grow where that is not enough, split what moved too far.

Paper: Yoon et al., Lifelong Learning with Dynamically Expandable Networks (ICLR 2018), algorithms 1 to 4; of a
convolution a unit is a filter.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from polypath.core.config import Config
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task
from polypath.methods.training import TrainingConfig, optimizer_of, train
from polypath.nn.backbones import Described, common_inputs
from polypath.nn.expanding import Expanding, ExpandingConfig

log = logging.getLogger(__name__)

Blocks = dict[str, torch.Tensor]
Share = Annotated[float, Field(ge=0, le=1)]


class DENConfig(TrainingConfig):
    """Settings of DEN; those of training are `polypath.methods.training.TrainingConfig`'s.

    Args:
        backbone: the trunk of the first task: pieces of one convolution or dense layer (`mlp`, `dfcnn`, `conv`).
        l1: of every weight that is trained, as a soft threshold after each step.
        group_lasso: of the incoming weights of each added unit, likewise.
        scaled_thresholds: times the learning rate, as a proximal step takes them; False: as the released code, whose
            constants (the defaults) they are.
        zero_below: weights up to here count as zero where units are selected.
        pull: l2 towards the weights before the task, when split units are trained.
        loss_above: mean training loss above which the trunk grows.
        units: added to every layer; those that the group lasso empties are deleted again.
        drift_above: l2 distance of a unit's incoming weights from before the task above which it is split.
        split_most: units of a layer that are split for a task, those that moved furthest; None: all above, as printed.
            The released code takes as many as `units`, of those above the ones that moved least.
        shares: of the epochs for the head alone, the selected units, the added units, the split network.
    """

    backbone: Described = Field("mlp", validate_default=True)
    l1: float = Field(1e-5, ge=0)
    group_lasso: float = Field(1e-3, ge=0)
    scaled_thresholds: bool = False
    zero_below: float = Field(0.0, ge=0)
    pull: float = Field(0.5, ge=0)
    loss_above: float = Field(0.01, ge=0)
    units: int = Field(10, gt=0)
    drift_above: float = Field(0.05, ge=0)
    split_most: int | None = Field(None, gt=0)
    shares: tuple[Share, Share, Share, Share] = (0.1, 0.5, 0.2, 0.2)

    def part(self, phase: int) -> int:
        """Epochs of a phase."""
        return max(1, round(self.epochs * self.shares[phase]))


class DEN(Method[DENConfig]):
    """One trunk that grows; a head a task, which sees the units that were there when it was learned."""

    name: ClassVar[str] = "den"
    config_class: ClassVar[type[Config]] = DENConfig
    network_class: ClassVar[type[Network]] = Expanding
    fixed: ClassVar[frozenset[str]] = frozenset({"backbone"})

    @property
    def isolation(self) -> Isolation:
        """Known tasks drift with the units they share with later ones."""
        return "drifts"

    def build(self, tasks: Sequence[Task], run: Run) -> Expanding:
        """The first group of units, for inputs of the tasks' common shape."""
        values = {"backbone": self.config.backbone, "inputs": common_inputs(tasks, self.name), "seed": run.seed}
        return Expanding(ExpandingConfig.of(values))

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """One stage a task."""
        return [Stage((name,)) for name in new]

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """The first task trains everything; later ones go through selection, growth and splitting."""
        assert isinstance(network, Expanding)
        for item in data:
            if network.epochs == 0:
                self._phase(network, item, run, network.path(item.name).components, self.config.epochs, "first")
            else:
                self._later(network, item, run)

    def _later(self, network: Expanding, item: TaskData, run: Run) -> None:
        config, name = self.config, item.name
        before = {key: block.detach().clone() for key, block in network.blocks.items()}
        head = [network.path(name).steps[-1][0]]
        self._phase(network, item, run, head, config.part(0), "head")
        masks = selection(network, name, self.config.zero_below)
        self._phase(network, item, run, network.path(name).components, config.part(1), "selected", masks=masks)
        if training_loss(network, item, run) > config.loss_above:
            group = network.grow([config.units] * len(network.layers))
            network.stamp(name)
            run.place(network)
            new = [part for part in network.components() if part in added(network, group)] + head
            self._phase(network, item, run, new, config.part(2), "added", lasso=group)
            network.shrink(group, alive(network, group))
        if split(network, name, before, config.drift_above, config.split_most):
            run.place(network)
            names = network.path(name).components
            self._phase(network, item, run, names, config.part(3), "split", pull=before)

    def _phase(
        self,
        network: Expanding,
        item: TaskData,
        run: Run,
        names: Sequence[str],
        epochs: int,
        key: str,
        *,
        masks: Blocks | None = None,
        lasso: int | None = None,
        pull: Blocks | None = None,
    ) -> None:
        """Train the named components; everything else on the path is held still."""
        network.freeze(set(network.components()) - set(names))
        config = self.config
        parameters = network.trainable(names)
        optimizer = optimizer_of(config, parameters)
        still = {k: (mask, network.blocks[k].detach().clone()) for k, mask in (masks or {}).items()}
        scale = config.batch_of(item.name) if config.over_batch == "sum" else 1

        def pulled(_: str) -> torch.Tensor | None:
            if pull is None:
                return None
            gaps = [(network.blocks[k] - old).square().sum() for k, old in pull.items() if k in network.blocks]
            return self.config.pull * scale * torch.stack(gaps).sum()

        def sparser() -> None:
            rate = optimizer.param_groups[0]["lr"] if config.scaled_thresholds else 1.0
            self._proximal(network, parameters, rate, lasso)
            with torch.no_grad():
                for k, (mask, value) in still.items():
                    network.blocks[k].copy_(torch.where(mask, network.blocks[k], value))

        groups, optimizers = [[item.name]], {item.name: optimizer}
        train(
            network,
            [item],
            run,
            config,
            optimizers=optimizers,
            groups=groups,
            moving=names,
            key=key,
            epochs=epochs,
            penalty=pulled,
            after_step=sparser,
        )
        network.thaw()

    @torch.no_grad()
    def _proximal(self, network: Expanding, parameters: Sequence[torch.Tensor], rate: float, lasso: int | None) -> None:
        """Soft thresholds by rate * l1 and, for added units, by rate * group lasso of their incoming norm."""
        threshold = rate * self.config.l1
        for parameter in parameters if threshold else ():
            parameter.copy_(parameter.sign() * (parameter.abs() - threshold).clamp_min(0))
        if lasso is None:
            return
        for layer in network.layers:
            keys = [k for k in network.blocks if k.startswith(f"{layer.name}-g{lasso}-from")]
            norms = incoming_norm([network.blocks[k] for k in keys])
            for key in keys:
                block = network.blocks[key]
                factor = (1 - rate * self.config.group_lasso / norms.clamp_min(1e-12)).clamp_min(0)
                block.mul_(factor.view(-1, *[1] * (block.ndim - 1)))


def incoming_norm(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    """l2 norm of the incoming weights of every unit over all its blocks."""
    return torch.stack([block.flatten(1).square().sum(1) for block in blocks]).sum(0).sqrt()


@torch.no_grad()
def selection(network: Expanding, task: str, zero: float = 0.0) -> Blocks:
    """Masks of the weights between units from which the task's head is reached over weights above `zero`."""
    groups = range(network._stamps[task] + 1)
    head = network.head_of(task)
    used = (head.weight.abs() > zero).any(0).view(-1, network._spread).any(1)
    masks: Blocks = {}
    for place in range(len(network.layers) - 1, -1, -1):
        layer = network.layers[place]
        rows = dict(zip(groups, used.split([network.groups[g][place] for g in groups]), strict=True))
        widths = [network.groups[g][place - 1] for g in groups] if place else []
        below = [torch.zeros(width, dtype=torch.bool, device=used.device) for width in widths]
        for key in [k for k in network.blocks if k.startswith(f"{layer.name}-g") and not k.endswith("bias")]:
            group, source = (int(part.lstrip("gfrom")) for part in key.rsplit("-", 2)[1:])
            block = network.blocks[key]
            if place:
                flat = block.flatten(2).abs().amax(2) if block.ndim > 2 else block.abs()
                linked = (flat.view(len(block), -1, layer.positions).amax(2) > zero) & rows[group][:, None]
                below[source] |= linked.any(0)
        for key in [k for k in network.blocks if k.startswith(f"{layer.name}-g")]:
            group = int(key.rsplit("-", 2)[1][1:])
            block, mine = network.blocks[key], rows[group]
            if key.endswith("bias"):
                masks[key] = mine.clone()
                continue
            mask = mine.view(-1, *[1] * (block.ndim - 1)).expand_as(block)
            if place:
                source = int(key.rpartition("from")[2])
                columns = below[source].repeat_interleave(layer.positions)
                mask = mask & columns.view(1, -1, *[1] * (block.ndim - 2))
            masks[key] = mask.clone()
        used = torch.cat(below) if place else used
    return masks


@torch.no_grad()
def training_loss(network: Expanding, item: TaskData, run: Run) -> float:
    """Mean loss over the training examples, in evaluation mode."""
    network.eval()
    total, count = 0.0, 0
    for batch in run.batches(item, 256, item.name, "loss", augment=False):
        total += float(item.task.loss_of(network(batch.inputs, item.name), batch.targets)) * len(batch)
        count += len(batch)
    return total / count


def added(network: Expanding, group: int) -> set[str]:
    """Components of a group: its units, and older units' weights from them."""
    return {n for n in network.components() if n.endswith((f".g{group}", f".from{group}"))}


def alive(network: Expanding, group: int) -> list[torch.Tensor]:
    """Which units of a group still have incoming weights, a row a layer."""
    rows = []
    for layer in network.layers:
        keys = [k for k in network.blocks if k.startswith(f"{layer.name}-g{group}-from")]
        rows.append((incoming_norm([network.blocks[k].detach() for k in keys]) > 0).cpu())
    return rows


@torch.no_grad()
def split(network: Expanding, task: str, before: Blocks, above: float, most: int | None = None) -> bool:
    """Duplicate units that moved further than `above`: the originals go back, copies in a new group stay moved.

    Args:
        network: after the other phases.
        task: that is being learned.
        before: its weights before them.
        above: l2 distance of a unit's incoming weights.
        most: units of a layer, those that moved furthest; None: all of them.

    Returns:
        Whether any unit was split.
    """
    moved: dict[tuple[int, int], torch.Tensor] = {}
    old = sorted({int(key.rsplit("-", 2)[1][1:]) for key in before})
    units = 0
    for place, layer in enumerate(network.layers):
        drifts = _drifts(network, layer.name, old, before)
        units += sum(map(len, drifts.values()))
        far = above
        if most is not None:
            # The furthest `most` lie above the next one; of equal ones there may be fewer.
            ranked = sorted((norm for norms in drifts.values() for norm in norms.tolist()), reverse=True)
            far = max([above, *ranked[most : most + 1]])
        found = {(place, group): (norms > far).nonzero().flatten() for group, norms in drifts.items()}
        moved |= {key: rows for key, rows in found.items() if len(rows)}
    if not moved:
        return False
    widths = [sum(len(r) for (p, _), r in moved.items() if p == place) for place in range(len(network.layers))]
    if sum(widths) == units:
        log.warning(
            "%s: all %d units moved further than drift_above=%g and are split, so that the network's weights grow "
            "fourfold; set split_most, or a larger drift_above",
            task,
            units,
            above,
        )
    now = {key: block.detach().clone() for key, block in network.blocks.items()}
    head = network.head_of(task)
    columns = head.weight.detach().clone()
    group = network.grow(widths)
    network.stamp(task)
    _copies(network, group, moved, now)
    _copied_features(network, task, group, moved, columns)
    for (place, source), rows in moved.items():
        for key in [k for k in before if k.startswith(f"{network.layers[place].name}-g{source}-")]:
            network.blocks[key][rows] = before[key][rows]
    return True


def _drifts(network: Expanding, layer: str, groups: Sequence[int], before: Blocks) -> dict[int, torch.Tensor]:
    """Group -> how far the incoming weights of its units in a layer are from before."""
    found = {}
    for group in groups:
        keys = [k for k in before if k.startswith(f"{layer}-g{group}-") and k in network.blocks]
        if keys:
            found[group] = incoming_norm([(network.blocks[k] - before[k]).reshape(len(before[k]), -1) for k in keys])
    return found


def _copies(network: Expanding, group: int, moved: dict[tuple[int, int], torch.Tensor], now: Blocks) -> None:
    """The new group's weights: incoming and outgoing ones of the units it copies, none among the copies."""
    for place, layer in enumerate(network.layers):
        mine = [(source, rows) for (p, source), rows in sorted(moved.items()) if p == place]
        start = 0
        for source, rows in mine:
            stop = start + len(rows)
            for key in [k for k in network.blocks if k.startswith(f"{layer.name}-g{group}-")]:
                what = key.rpartition("-")[2]
                theirs = now.get(f"{layer.name}-g{source}-{what}")
                network.blocks[key][start:stop] = 0 if theirs is None else theirs[rows].to(network.blocks[key].dtype)
            if place + 1 < len(network.layers):
                above = network.layers[place + 1]
                into, out = network._columns(place + 1, torch.arange(start, stop)), network._columns(place + 1, rows)
                for key in [
                    k for k in network.blocks if k.startswith(f"{above.name}-g") and k.endswith(f"from{group}")
                ]:
                    reader = key.rsplit("-", 2)[1]
                    theirs = now.get(f"{above.name}-{reader}-from{source}")
                    network.blocks[key][:, into] = 0 if theirs is None else theirs[:, out]
            start = stop


def _copied_features(
    network: Expanding, task: str, group: int, moved: dict[tuple[int, int], torch.Tensor], columns: torch.Tensor
) -> None:
    """The head reads a copy as it read the original."""
    last, spread = len(network.layers) - 1, network._spread
    head = network.head_of(task)
    start = columns.shape[1]
    for (place, source), rows in sorted(moved.items()):
        if place == last:
            offset = sum(widths[-1] for widths in network.groups[:source])
            read = ((offset + rows)[:, None] * spread + torch.arange(spread)).flatten()
            head.weight[:, start : start + len(read)] = columns[:, read]
            start += len(read)
