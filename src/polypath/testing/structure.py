"""Laws of a learned network: what its components hold, what its paths can see, what it costs."""

from __future__ import annotations

import copy
import json

import torch

from polypath.core import accounting
from polypath.core.network import Network
from polypath.core.seeds import seeded
from polypath.testing.exam import Candidate, require, require_equal_digests

# Folding BatchNorm rounds every weight once and sums in another order: a few float32 roundings (6e-8) a layer.
FUSED = 1e-5


def law_components_partition_the_state(candidate: Candidate) -> None:
    """Tensors and auxiliary entries of all components are exactly the keys of the state, each once."""
    law = "components partition the state"
    network = candidate.network
    problems = accounting.check_partition(network)
    require(not problems, law, "; ".join(problems[:5]))
    for name, part in network.components().items():
        require(name == part.name, law, f"component {part.name!r} is listed as {name!r}")
    for task, path in network.paths().items():
        unknown = [name for name in path.components if name not in network.components()]
        require(not unknown, law, f"the path of {task!r} names {unknown[:5]}, which are no components")


def law_plan_is_json(candidate: Candidate) -> None:
    """The plan is plain JSON, and a network restored from its JSON has the same plan, components and paths."""
    law = "plan is JSON"
    network = candidate.network
    plan = network.plan()
    try:
        text = json.dumps(plan, allow_nan=False)
    except (TypeError, ValueError) as error:
        require(False, law, f"it cannot be written as JSON: {error}")
    require(json.loads(text) == plan, law, "it changes when it is written and read (tuples, or keys that are no text)")
    again = type(network).restore(json.loads(text))
    require(again.plan() == plan, law, "the restored network has another plan")
    require(again.components() == network.components(), law, "the restored network has other components")
    require(again.paths() == network.paths(), law, "the restored network has other paths")
    require(list(again.tasks.items()) == list(network.tasks.items()), law, "the restored network has other tasks")


def law_restore_and_assign_reproduce(candidate: Candidate) -> None:
    """`restore(plan)` on the meta device plus `assign(tensors)` has every digest and every output, bit for bit."""
    law = "restore and assign reproduce"
    network = candidate.network
    again = type(network).restore(network.plan())
    values = [key for key, tensor in again.state_dict().items() if not tensor.is_meta]
    require(not values, law, f"restore() made values for {values[:5]}; it must build on the meta device")
    again.assign(network.tensors(network.components()))
    require_equal_digests(law, network.digests(), again.digests(), "after assign")
    again.eval()
    for task in network.tasks:
        inputs = candidate.inputs(task)
        with torch.no_grad():
            require(torch.equal(again(inputs, task), network(inputs, task)), law, f"outputs of {task!r} differ")


def law_extract_is_bit_identical(candidate: Candidate) -> None:
    """`extract(task, fused=False)` equals forward bit for bit, and holds nothing but copies of the path's tensors."""
    law = "unfused extract is bit-identical"
    network = candidate.network
    for task in network.tasks:
        inputs = candidate.inputs(task)
        module = network.extract(task, fused=False)
        with torch.no_grad():
            require(torch.equal(module(inputs), network(inputs, task)), law, f"outputs of {task!r} differ")
        entries = sum(len(network.components()[name].tensors) for name in network.path(task).components)
        held = len(module.state_dict())
        require(held == entries, law, f"extract of {task!r} holds {held} state entries, its path {entries}")
        here = {tensor.data_ptr() for tensor in network.state_dict().values() if tensor.numel()}
        lent = [key for key, tensor in module.state_dict().items() if tensor.numel() and tensor.data_ptr() in here]
        require(not lent, law, f"extract of {task!r} shares memory with the network: {lent[:5]}")


def law_fused_is_close(candidate: Candidate) -> None:
    """`extract(task)` is within 1e-5 of forward, relative to the largest output, in float32, and shares no memory."""
    law = "fused extract is close"
    network = candidate.network
    for task in network.tasks:
        inputs = candidate.inputs(task)
        module = network.extract(task, fused=True)
        with torch.no_grad():
            expected, found = network(inputs, task), module(inputs)
        gap, size = float((found - expected).abs().max()), float(expected.abs().max())
        require(gap <= FUSED * size, law, f"outputs of {task!r} differ by {gap:.2g} at {size:.2g}")
        here = {tensor.data_ptr() for tensor in network.state_dict().values() if tensor.numel()}
        lent = [key for key, tensor in module.state_dict().items() if tensor.numel() and tensor.data_ptr() in here]
        require(not lent, law, f"extract of {task!r} shares memory with the network: {lent[:5]}")


def law_forward_many_equals_forward(candidate: Candidate) -> None:
    """`forward_many` gives every task the outputs of its own forward, bit for bit, in whatever order they are asked."""
    law = "forward_many equals forward"
    network = candidate.network
    names = list(network.tasks)
    inputs = candidate.inputs(names[0])
    with torch.no_grad():
        expected = {task: network(inputs, task) for task in names}
        for order in (names, names[::-1]):
            found = network.forward_many(inputs, order)
            require(list(found) == order, law, f"asked for {order}, answered {list(found)}")
            for task in order:
                require(torch.equal(found[task], expected[task]), law, f"outputs of {task!r} differ")


def law_off_path_cannot_influence(candidate: Candidate) -> None:
    """With NaN in every component off a task's path its outputs, gradients and statistics are what they were.

    In evaluation the outputs are equal bit for bit; in training outputs, gradients and BatchNorm statistics are, and
    no component off the path receives a gradient.
    """
    law = "off-path components cannot influence a task"
    for task in candidate.network.tasks:
        inputs = candidate.inputs(task)
        clean, poisoned = copy.deepcopy(candidate.network), copy.deepcopy(candidate.network)
        _poison(poisoned, set(clean.path(task).components))
        with torch.no_grad():
            require(torch.equal(poisoned(inputs, task), clean(inputs, task)), law, f"outputs of {task!r} in evaluation")
        before, after = _trained_once(clean, inputs, task), _trained_once(poisoned, inputs, task)
        require(torch.equal(before, after), law, f"outputs of {task!r} in training")
        _compare_gradients(law, task, clean, poisoned)
        on_path = clean.path(task).components
        require_equal_digests(law, clean.digests(on_path), poisoned.digests(on_path), f"statistics of {task!r}")


def _poison(network: Network, spared: set[str]) -> None:
    state = network.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, part in network.components().items():
            for key in (*part.tensors.values(), *part.auxiliary.values()) if name not in spared else ():
                if state[key].is_floating_point():
                    state[key].fill_(float("nan"))


def _trained_once(network: Network, inputs: torch.Tensor, task: str) -> torch.Tensor:
    network.train()
    with seeded(0, "dropout"):
        outputs: torch.Tensor = network(inputs, task)
    outputs.square().mean().backward()
    network.eval()
    return outputs.detach()


def _compare_gradients(law: str, task: str, clean: Network, poisoned: Network) -> None:
    parts = clean.components()
    mine = {key for name in clean.path(task).components for key in parts[name].tensors.values()}
    expected = dict(clean.named_parameters())
    found_one = False
    for key, parameter in poisoned.named_parameters():
        if key not in mine:
            require(parameter.grad is None, law, f"{key!r} is off the path of {task!r} and received a gradient")
        elif parameter.grad is not None:
            found_one = True
            other = expected[key].grad
            require(other is not None and torch.equal(parameter.grad, other), law, f"gradient of {key!r} for {task!r}")
    require(found_one, law, f"nothing on the path of {task!r} received a gradient")


def law_trainable_stays_on_the_path(candidate: Candidate) -> None:
    """`trainable(path of a task)` returns parameters of that path alone, each once, and none that is frozen."""
    law = "trainable stays on the path"
    network = copy.deepcopy(candidate.network)
    for task in network.tasks:
        names = network.path(task).components
        mine = {id(tensor) for part in network.tensors(names).values() for tensor in part.values()}
        keys = {id(parameter): key for key, parameter in network.named_parameters()}
        found = network.trainable(names)
        outside = [keys.get(id(parameter), "?") for parameter in found if id(parameter) not in mine]
        require(not outside, law, f"asked for the path of {task!r}, received {outside[:5]} too")
        require(len({id(p) for p in found}) == len(found), law, f"a parameter of {task!r} was returned twice")
        expected = {id(p) for p in network.parameters() if id(p) in mine}
        require(expected == {id(p) for p in found}, law, f"parameters on the path of {task!r} are missing")
        network.freeze(names)
        require(not network.trainable(names), law, f"frozen parameters of {task!r} were returned")
        network.thaw()


def law_costs_are_counted(candidate: Candidate) -> None:
    """What `cost` says of a task is what counting the extracted module gives; added parameters add up to the total.

    Of components that a path uses in part (`Path.selected`), the parameters it uses are counted.
    """
    law = "costs are counted"
    system = candidate.learned
    network = system.network
    unused = set(network.components())
    added = 0
    for task in network.tasks:
        cost, module = system.cost(task), network.extract(task, fused=False)
        counted = sum(parameter.numel() for parameter in module.parameters())
        counts, selected = network.parameter_counts(), dict(network.path(task).selected)
        counted -= sum(counts[name] - used for name, used in selected.items())  # read in part, copied whole
        require(cost.parameters == counted, law, f"{task!r}: {cost.parameters} parameters said, {counted} counted")
        size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
        require(cost.size_bytes == size, law, f"{task!r}: {cost.size_bytes} bytes said, {size} counted")
        require(cost.flops > 0, law, f"{task!r}: no operations counted")
        added += cost.added_parameters
        unused -= set(network.path(task).components)
    counts = network.parameter_counts()
    total = accounting.total_parameters(network)
    free = sum(counts[name] for name in unused)
    require(added + free == total, law, f"{added} added and {free} unused parameters, but {total} in all")
