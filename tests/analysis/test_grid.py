"""The analyses on PaRT's own network."""

import pytest
import torch

from polypath.analysis import CKAConfig, compare_paths, sharing_profile
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification, Image, Task
from polypath.nn.grid import Grid, GridConfig
from polypath.ops.cka import rbf_cka

DEPTH = 9
ROWS = {"a": [[0, 1]] * DEPTH, "b": [[0, 1], [0, 2]] + [[2, 3]] * (DEPTH - 2)}


def grid(**config):
    network = Grid(GridConfig(layout="cifar", modules=4, selected=2, width=2, paths=ROWS, **config))
    for name in ROWS:
        pre = ImagePreprocess(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3)
        labels = Classification(labels=("x", "y", "z"))
        network.add_task(Task(name=name, inputs=Image(channels=3, height=32, width=32), target=labels, preprocess=pre))
    return network


@pytest.fixture(scope="module")
def pixels():
    stream = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (12, 3, 4, 4), generator=stream).float()
    return torch.nn.functional.interpolate(coarse, size=32).to(torch.uint8)


@pytest.mark.parametrize("norm", ["shared", "task"])
def test_the_paths_meet_in_the_layer_they_share(pixels, norm):
    network = grid(norm=norm)
    statistics = {key: value.clone() for key, value in network.state_dict().items()}
    found = compare_paths(network, ("a", "b"), pixels, CKAConfig(pool=8, batch_size=5))
    assert len(found["layers"]) == DEPTH + 1  # and the heads
    assert found["layers"][0]["cka"] == pytest.approx(1)  # same modules, same inputs, fresh BatchNorms are equal
    assert all(0 < entry["cka"] < 1 - 1e-6 for entry in found["layers"][1:])
    assert found["shared"] == ["layer1.module00", "layer1.module01", "layer2.module00"]
    assert [entry["layer"] for entry in found["modules"]] == list(range(1, DEPTH + 1))  # heads make no map
    assert found["modules"][1]["rows"] == ["layer2.module00", "layer2.module01"]
    assert found["modules"][1]["columns"] == ["layer2.module00", "layer2.module02"]
    assert found["modules"][1]["values"][0][0] == pytest.approx(1)
    assert all(torch.equal(value, statistics[key]) for key, value in network.state_dict().items())


def test_maps_are_averaged_down_to_pool(pixels):
    network = grid().eval()
    found = compare_paths(network, ("a", "b"), pixels, CKAConfig(pool=1, layers=(2,)))
    with torch.no_grad():
        value = network.step(network.tasks["a"].preprocess.encode(pixels), network.path("a").steps[0])
        a, b = (network.step(value, network.path(name).steps[1]).mean((2, 3)) for name in ("a", "b"))
    assert found["layers"] == [{"layer": 2, "cka": pytest.approx(rbf_cka(a, b), abs=1e-5)}]


def test_sharing_profile_by_hand(pixels):
    # layer 1: two modules used by both, two by none; layer 2: one by both, two by one, one by none;
    # each of the other seven layers: four by one
    found = sharing_profile(grid())
    assert found["observed"] == [3, 2 + 7 * 4, 3]
    assert found["expected"] == pytest.approx([9, 18, 9])  # 36 modules, p = 1/2, two tasks
    assert sharing_profile(grid(private=True)) == {}
