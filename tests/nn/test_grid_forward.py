"""What the grids compute, against references written here with plain torch operations, and against timm's ResNet-50."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import polypath.nn.pretrained
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification, Image, Task
from polypath.nn.fold import folded, plain_conv
from polypath.nn.grid import Grid, GridConfig


def task(name: str, size: int, labels: int = 3) -> Task:
    shape = {"channels": 3, "height": size, "width": size}
    preprocess = ImagePreprocess(**shape, mean=(0.5,) * 3, std=(0.25,) * 3)
    target = Classification(labels=tuple(map(str, range(labels))))
    return Task(name=name, inputs=Image(**shape), target=target, preprocess=preprocess)


def shaken(grid: Grid) -> Grid:
    """The grid with every BatchNorm moved away from the identity: eval mode then depends on all of its values."""
    stream = torch.Generator().manual_seed(1)
    for module in grid.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
            ):
                assert tensor is not None
                tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=stream))
    return grid.eval()


def cifar(norm: str = "shared") -> Grid:
    grid = Grid(GridConfig(modules=3, selected=2, width=4, norm=norm))
    grid.add_task(task("a", 16))
    grid.add_task(task("b", 16))
    return shaken(grid)


def images(size: int, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def norm_of(state: Mapping[str, torch.Tensor], prefix: str, x: torch.Tensor) -> torch.Tensor:
    mean, var, weight, bias = (state[f"{prefix}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, var, weight, bias, training=False, eps=1e-5)


def reference(grid: Grid, name: str, x: torch.Tensor, head: str) -> torch.Tensor:
    """The CIFAR grid as the specification's table says it, layer by layer."""
    state = grid.state_dict()
    for layer, row in enumerate(grid.rows(name), start=1):
        total = torch.zeros(())
        for number in row:
            key = f"pool.layer{layer}-module{number:02d}"
            norms = f"{key}.norms" if grid.config.norm == "shared" else f"norms{key[4:]}-norm-{head}"
            y = F.conv2d(x, state[f"{key}.conv1.weight"], state[f"{key}.conv1.bias"], padding=1)
            y = F.relu(norm_of(state, f"{norms}.norm1", y))
            if layer > 1:
                y = F.conv2d(y, state[f"{key}.conv2.weight"], state[f"{key}.conv2.bias"], padding=1)
                y = norm_of(state, f"{norms}.norm2", y)
            total = total + y
        x = F.relu(total + x) if layer in (2, 3, 5, 7, 9) else F.relu(total)  # no skip at 1, 4, 6, 8
        x = F.max_pool2d(x, 2, 2) if layer in (5, 7) else x
    x = F.avg_pool2d(x, x.shape[-1]).flatten(1)
    return F.linear(x, state[f"heads.{head}.weight"], state[f"heads.{head}.bias"])


@pytest.mark.parametrize("norm", ["shared", "task"])
def test_the_cifar_grid_computes_the_table_of_the_specification(norm: str) -> None:
    grid, x = cifar(norm), images(16)
    with torch.no_grad():
        for name, head in (("a", "t0"), ("b", "t1")):
            # Same operations; sums start from zero here, which is exact. The average is summed in another order.
            torch.testing.assert_close(grid(x, name), reference(grid, name, x, head), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["shared", "task"])
def test_the_merged_cifar_path_is_the_same_function(norm: str) -> None:
    grid, x = cifar(norm), images(16)
    with torch.no_grad():
        for name in ("a", "b"):
            expected, found = grid(x, name), grid.extract(name)(x)
            assert float((expected - found).abs().max()) <= 1e-5 * float(expected.abs().max())
    merged = [module for module in grid.extract("a").modules() if isinstance(module, nn.Conv2d)]
    assert len(merged) == 1 + 8 * 2  # one wide convolution in layer 1, one pair in every other
    assert not [module for module in grid.extract("a").modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.fixture(scope="module")
def timm_resnet() -> nn.Module:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model: nn.Module = timm.create_model("resnet50", pretrained=False)
    stream = torch.Generator().manual_seed(4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = 0.5 + torch.rand(module.weight.shape, generator=stream)
            module.running_mean = 0.1 * torch.randn(module.weight.shape, generator=stream)
            module.running_var = 0.5 + torch.rand(module.weight.shape, generator=stream)
    return model.eval()


@pytest.mark.parametrize("norm", ["shared", "task"])
def test_one_module_a_layer_with_timm_s_values_is_timm_s_resnet50(
    norm: str, timm_resnet: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polypath.nn.pretrained, "imagenet_state", lambda name: timm_resnet.state_dict())
    grid = Grid(GridConfig(layout="resnet50", modules=1, selected=1, norm=norm, pretrained="resnet50"))
    grid.add_task(task("a", 64))
    grid.eval()
    x = images(64, 2)
    value = grid.start(x)
    with torch.no_grad():
        for names in grid.path("a").steps[:-1]:
            value = grid.step(value, names)
        expected = timm_resnet.forward_features(x).mean((2, 3))  # type: ignore[operator]
        assert value.shape == (2, 2048)
        assert float((value - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
        merged, logits = grid.extract("a")(x), grid(x, "a")
    assert float((merged - logits).abs().max()) <= 1e-5 * float(logits.abs().max())


def test_every_copy_of_a_pretrained_module_starts_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        state = timm.create_model("resnet50", pretrained=False).state_dict()
    monkeypatch.setattr(polypath.nn.pretrained, "imagenet_state", lambda name: state)
    grid = Grid(GridConfig(layout="resnet50", modules=2, selected=1, pretrained="resnet50"))
    digests = grid.digests()
    for layer in range(1, 6):
        assert digests[f"layer{layer}.module00"] == digests[f"layer{layer}.module01"]
    assert torch.equal(grid.state_dict()["pool.layer1-module01.conv1.weight"], state["conv1.weight"])


def test_modules_drawn_at_random_differ_and_private_ones_start_from_the_same_values() -> None:
    shared = Grid(GridConfig(modules=3, selected=2, width=2))
    alone = Grid(GridConfig(modules=3, selected=2, width=2, private=True))
    for grid in (shared, alone):
        grid.add_task(task("a", 8))
        grid.add_task(task("b", 8))
    digests, own = shared.digests(), alone.digests()
    assert len({digests[f"layer4.module{number:02d}"] for number in range(3)}) == 3
    for name, task_id in (("a", "t0"), ("b", "t1")):
        assert shared.rows(name) == alone.rows(name)
        for layer, row in enumerate(shared.rows(name), start=1):
            for number in row:
                module = f"layer{layer}.module{number:02d}"
                assert digests[module] == own[f"{module}.{task_id}"]
        assert digests[f"head.{task_id}"] == own[f"head.{task_id}"]


def test_resnet_convolutions_start_from_a_normal_of_deviation_a_thousandth() -> None:
    grid = Grid(GridConfig(layout="resnet50", modules=1, selected=1, width=16))
    values = torch.cat([m.weight.detach().flatten() for m in grid.modules() if isinstance(m, nn.Conv2d)])
    spread = 0.001 / (2 * len(values)) ** 0.5  # standard error of a standard deviation
    assert abs(float(values.std()) - 0.001) < 4 * spread
    assert all(m.bias is None for m in grid.modules() if isinstance(m, nn.Conv2d))


def test_a_folded_convolution_is_the_convolution_and_its_norm() -> None:
    stream = torch.Generator().manual_seed(5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        conv, norm = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
    norm.weight.data = torch.rand(4, generator=stream) + 0.5
    norm.bias.data = torch.randn(4, generator=stream)
    norm.running_mean = torch.randn(4, generator=stream)
    norm.running_var = torch.rand(4, generator=stream) + 0.1
    x = torch.randn(2, 3, 9, 9, generator=stream)
    norm.eval()
    with torch.no_grad():
        torch.testing.assert_close(plain_conv(*folded(conv, norm), conv)(x), norm(conv(x)), rtol=1e-5, atol=1e-5)


def test_a_folded_scalar_by_hand() -> None:
    # y = (3 x + 1 - 2) / sqrt(4) * 5 + 7 = 7.5 x + 4.5, with eps = 0.
    conv, norm = nn.Conv2d(1, 1, 1, device="meta"), nn.BatchNorm2d(1, eps=0.0)
    conv.weight, conv.bias = nn.Parameter(torch.tensor([[[[3.0]]]])), nn.Parameter(torch.tensor([1.0]))
    norm.weight.data, norm.bias.data = torch.tensor([5.0]), torch.tensor([7.0])
    norm.running_mean, norm.running_var = torch.tensor([2.0]), torch.tensor([4.0])
    weight, bias = folded(conv, norm)
    assert weight.item() == 7.5 and bias.item() == 4.5


def test_a_norm_without_statistics_is_not_folded() -> None:
    with pytest.raises(ValueError, match="running statistics"):
        folded(nn.Conv2d(1, 1, 1, device="meta"), nn.BatchNorm2d(1, track_running_stats=False))
