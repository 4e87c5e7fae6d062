"""The multi-path network: where it is cut, what a path costs, what lies beyond a cut (specification, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from polypath.core import accounting
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.preprocess import ImagePreprocess
from polypath.core.seeds import seeded
from polypath.core.task import Classification, Image, Task
from polypath.nn.backbones import backbone
from polypath.nn.mobilenet import MobileNetV2
from polypath.nn.multipath import MultiPathNet, MultiPathNetConfig
from polypath.nn.resnet import ResNet18

PAPER = {"kind": "resnet18", "stem": "paper"}
THIN = {**PAPER, "width": 1 / 16}


def task(name: str, labels: int, size: int = 32) -> Task:
    shape = {"channels": 3, "height": size, "width": size}
    return Task(
        name=name,
        inputs=Image(**shape),
        target=Classification(labels=tuple(f"c{i}" for i in range(labels))),
        preprocess=ImagePreprocess(**shape, mean=(0.5,) * 3, std=(0.25,) * 3),
    )


def net(config: dict[str, Any], cuts: Sequence[str], labels: int = 4, **options: Any) -> MultiPathNet:
    made = MultiPathNet(MultiPathNetConfig(backbone=config, inputs=task("x", 2).inputs, cuts=tuple(cuts), **options))
    for number in range(1, len(cuts) + 1):
        made.add_task(task(f"task{number}", labels), number)
    return made


def planned(config: dict[str, Any], cuts: Sequence[str], labels: int) -> tuple[list[int], list[int]]:
    """(multiply-accumulates without the head, parameters with the head) of every branch."""
    with torch.device("meta"):
        made = net(config, cuts, labels)
    costs = [accounting.cost(made, name) for name in made.tasks]
    heads = [made.heads[f"t{n}"].weight.numel() for n in range(len(cuts))]  # type: ignore[union-attr, operator]
    return [cost.flops // 2 - head for cost, head in zip(costs, heads, strict=True)], [c.parameters for c in costs]


def by_hand() -> list[int]:
    """Multiply-accumulates of the paper layout's convolutions up to each branch: kernel x in x out x positions."""
    total = 9 * 3 * 64 * 16**2  # 3x3, stride 2, on 32x32; pooled to 8x8
    total += 4 * 9 * 64 * 64 * 8**2
    for channels, side in ((128, 4), (256, 2)):
        half = channels // 2
        total += (9 * half * channels + 3 * 9 * channels**2 + half * channels) * side**2  # and a 1x1 shortcut
    found = [total]
    for products in (9 * 256 * 512, 9 * 512**2 + 256 * 512, 9 * 512**2, 9 * 512**2):  # on 1x1 maps
        found.append(found[-1] + products)
    return found


def test_the_paper_layout_has_the_papers_multiply_accumulates_and_parameter_ratios() -> None:
    macs, parameters = planned(PAPER, ResNet18.cuts, 20)
    assert macs == by_hand()
    assert [f"{count / 1e6:.2f}" for count in macs] == ["26.66", "27.84", "30.33", "32.69", "35.05"]
    assert [f"{100 * count / parameters[-1]:.1f}" for count in parameters] == ["24.9", "35.5", "57.8", "78.9", "100.0"]
    _, hundred = planned(PAPER, ResNet18.cuts, 100)
    assert f"{100 * hundred[1] / hundred[-1]:.1f}" == "35.7"


def test_the_cifar_stem_costs_sixteen_times_as_much_for_the_same_parameters() -> None:
    macs, parameters = planned({"kind": "resnet18"}, ResNet18.cuts, 20)
    assert f"{macs[-1] / 1e9:.3f}" == "0.555"
    assert parameters == planned(PAPER, ResNet18.cuts, 20)[1]
    # All maps have four times the sides of the paper layout's, and the stem's map twice: 16 and 4 times the work.
    stem = 9 * 3 * 64 * 16**2
    assert macs == [16 * (count - stem) + 4 * stem for count in by_hand()]


@pytest.mark.parametrize(
    ("last", "cuts", "total", "ratios"),
    [
        ("scaled", MobileNetV2.cuts, 648_100, ["29.6", "74.1", "100.0"]),
        ("fixed", ("block15", "block17", "last"), 815_780, ["33.8", "58.9", "100.0"]),
    ],
)
def test_both_mobilenet_layouts_have_the_papers_ratios(
    last: str, cuts: Sequence[str], total: int, ratios: list[str]
) -> None:
    _, parameters = planned({"kind": "mobilenetv2", "last": last}, cuts, 100)
    assert parameters[-1] == total
    # The paper's ratios leave the heads of the earlier branches out (80 and 160 channels).
    bare = [parameters[0] - 8_100, parameters[1] - 16_100, parameters[2]]
    assert [f"{100 * count / total:.1f}" for count in bare] == ratios


def test_the_fixed_mobilenet_is_torchvisions() -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        theirs = torchvision.models.mobilenet_v2(width_mult=0.5, num_classes=100)
        ours = net({"kind": "mobilenetv2", "last": "fixed"}, ("last",), 100)
    assert [tuple(p.shape) for p in theirs.parameters()] == [tuple(p.shape) for p in ours.parameters()]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050", "mobilenetv3_small_050", "convnext_atto"])
def test_timm_networks_are_cut_at_their_feature_stages(name: str) -> None:
    import timm

    inputs = task("x", 2).inputs
    with seeded(0, "timm"):  # draws initial values from the global generator
        made = backbone({"kind": "timm_stages", "name": name}, inputs).eval()
        theirs = timm.create_model(name, features_only=True).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), made.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = theirs(x)
        assert torch.allclose(made(x), maps[-1].mean((2, 3)), rtol=1e-5, atol=1e-6)  # sums in another order
        value, found = x, []
        for piece in list(made.pieces.values())[:-1]:
            value = piece(value)
            found.append(value)
    for ours, one in zip(found[: len(maps) - 2], maps, strict=False):
        assert torch.equal(ours, one)


def test_timm_networks_whose_stages_do_not_follow_one_another_are_refused() -> None:
    with torch.device("meta"), pytest.raises(InvalidInput, match="do not follow one another"):
        backbone({"kind": "timm_stages", "name": "vit_tiny_patch16_224"}, task("x", 2, 224).inputs)
    with torch.device("meta"), pytest.raises(InvalidInput, match="cannot be made"):
        backbone({"kind": "timm_stages", "name": "resnet1"}, task("x", 2).inputs)


def test_branches_two_and_four_lie_inside_residual_blocks() -> None:
    made = net(THIN, ResNet18.cuts).eval()
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pieces = [piece for segment in made.segments.values() for piece in segment.children()]  # type: ignore[union-attr]
    with torch.no_grad():
        value: Any = x
        for piece in pieces[:9]:  # stem and the four blocks of stages 1 and 2, two halves each
            value = piece(value)
        for piece in pieces[9:13]:
            value = piece(value)
        half = torch.relu(pieces[13].norm(pieces[13].conv(value)))  # type: ignore[union-attr, operator]
        expected = made.heads["t1"](half.mean((2, 3)))
        assert torch.equal(made(x, "task2"), expected)


def test_nothing_beyond_a_tasks_cut_can_influence_it() -> None:
    made = net(THIN, ResNet18.cuts).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for position, name in enumerate(made.tasks, start=1):
        with torch.no_grad():
            before = made(x, name)
            kept = {key: value.clone() for key, value in made.state_dict().items()}
            for number in range(position + 1, len(ResNet18.cuts) + 1):
                for value in made.segments[f"segment{number}"].parameters():
                    value.fill_(float("nan"))
            assert torch.equal(made(x, name), before)
            made.load_state_dict(kept)


def test_the_shared_prefixs_gradient_is_the_sum_of_the_tasks_gradients() -> None:
    made = net(THIN, ResNet18.cuts[:3]).double().eval()  # statistics stay, so that the losses do not see each other
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2])
    shared = list(made.segments["segment1"].parameters())

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        made.zero_grad(set_to_none=True)
        loss.backward()
        return [p.grad.clone() for p in shared if p.grad is not None]

    alone = [gradients(torch.nn.functional.cross_entropy(made(x, name), labels)) for name in made.tasks]
    outputs = made.forward_many(x, made.tasks)
    together = gradients(sum(torch.nn.functional.cross_entropy(out, labels) for out in outputs.values()))  # type: ignore[arg-type]
    assert len(together) == len(shared) > 0
    for place, total in enumerate(together):
        assert torch.allclose(total, sum(part[place] for part in alone), rtol=1e-9, atol=1e-12)  # type: ignore[arg-type]


def test_one_forward_serves_all_heads_and_stops_at_the_deepest_one_asked() -> None:
    made = net(THIN, ResNet18.cuts).eval()
    runs: list[str] = []
    for name, segment in made.segments.items():
        segment.register_forward_hook(lambda *_, name=name: runs.append(name))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made.forward_many(x, ["task3", "task1"])
    assert runs == ["segment1", "segment2", "segment3"]
    runs.clear()
    made.forward_many(x, made.tasks)
    assert runs == [f"segment{n}" for n in range(1, 6)]


def test_the_merged_module_of_several_paths_answers_like_each_and_runs_no_deeper() -> None:
    made = net(THIN, ResNet18.cuts, exits="all")
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name in made.tasks:
        made.train()(x, name)  # statistics that no fresh network has
    made.eval()
    paths = [made.path("task3"), made.path("task1"), made.path("task3", "branch2")]
    with torch.no_grad():
        merged = made.fuse_many(paths)
        found = merged(x)
        for out, path in zip(found, paths, strict=True):
            expected = made.walk(x, path)
            assert float((out - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    assert len(merged.segments) == 3  # type: ignore[arg-type]
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in merged.modules())


def test_with_all_exits_a_task_has_a_head_at_every_branch_up_to_its_own() -> None:
    made = net(THIN, ResNet18.cuts[:3], exits="all")
    assert {name: made.exits(name) for name in made.tasks} == {
        "task1": ("branch1",),
        "task2": ("branch1", "branch2"),
        "task3": ("branch1", "branch2", "branch3"),
    }
    assert made.path("task3", "branch1").steps == (("segment1",), ("head.t2.branch1",))
    assert made.path("task3").steps == (("segment1",), ("segment2",), ("segment3",), ("head.t2",))
    assert set(made.reach("task3").components) == {
        "segment1", "segment2", "segment3", "head.t2", "head.t2.branch1", "head.t2.branch2"
    }  # fmt: skip
    with pytest.raises(UnknownName, match="exit of task 'task2'.*branch1, branch2"):
        made.path("task2", "branch3")


def test_several_tasks_may_share_a_branch() -> None:
    made = net(THIN, ResNet18.cuts[:2])
    made.add_task(task("more", 3), 1)
    made.add_task(task("late", 3))
    assert made.branch("more") == 1 and made.branch("late") == 2
    assert made.path("more").steps[:-1] == made.path("task1").steps[:-1]


def test_initial_values_do_not_depend_on_cuts_exits_or_branches() -> None:
    plain, cut = net(THIN, ("layer4_1",)), net(THIN, ("layer1_0", "layer3_1", "layer4_1"), exits="all")
    whole = [value for value in plain.segments.state_dict().values()]
    parts = [value for value in cut.segments.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_releasing_the_deepest_task_resets_the_segments_that_nobody_else_uses() -> None:
    made = net(THIN, ResNet18.cuts[:3], exits="all")
    fresh = made.digests()
    with torch.no_grad():
        for value in made.parameters():
            value.add_(1.0)
    freed, reset = made.release("task3")
    assert (set(freed), reset) == ({"head.t2", "head.t2.branch1", "head.t2.branch2"}, ["segment3"])
    after = made.digests()
    assert after["segment3"] == fresh["segment3"] and after["segment2"] != fresh["segment2"]


def test_a_cut_that_does_not_exist_lists_the_valid_ones() -> None:
    with pytest.raises(InvalidInput, match=r"no place 'layer5'.*stem, layer1_0_conv1, .*layer4_1_conv1, layer4_1"):
        net(THIN, ("layer3_1", "layer5"))


def test_cuts_out_of_order_are_refused_with_the_right_order() -> None:
    with pytest.raises(InvalidInput, match=r"deeper and deeper.*in order: \['layer3_1', 'layer4_0'\]"):
        net(THIN, ("layer4_0", "layer3_1"))
    with pytest.raises(InvalidInput, match="each once"):
        net(THIN, ("layer3_1", "layer3_1"))


def test_branches_and_inputs_that_do_not_fit_are_refused() -> None:
    made = net(THIN, ResNet18.cuts[:2])
    with pytest.raises(InvalidInput, match="a branch from 1 to 2"):
        made.add_task(task("new", 2), 3)
    with pytest.raises(InvalidInput, match="bring its inputs"):
        made.add_task(task("new", 2, size=64))
    with pytest.raises(InvalidInput, match="already in the system"):
        made.add_task(task("task1", 2))
    with pytest.raises(InvalidInput, match="'a': a branch from 1 to 2"):
        net(THIN, ResNet18.cuts[:2], branches={"a": 0})
