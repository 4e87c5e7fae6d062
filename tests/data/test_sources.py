"""Everything that examples can come from, and what is said when they cannot."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from polypath.core.errors import InvalidInput, UnknownName
from polypath.data import arrays, open_source, split, whole
from polypath.data.images import Shape, StreamSource


def picture(seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    draw = np.random.Generator(np.random.PCG64(seed))
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPATH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """Two classes of four training and two test images."""
    seed = 0
    for part, count in (("train", 4), ("test", 2)):
        for label in ("cat", "dog"):
            (tmp_path / "pets" / part / label).mkdir(parents=True)
            for number in range(count):
                picture(seed).save(tmp_path / "pets" / part / label / f"{number}.png")
                seed += 1
    return tmp_path / "pets"


def test_a_folder_is_one_class_a_sub_folder(folder):
    suite = whole(f"folder:{folder}")
    (data,) = suite
    assert data.task.target.labels == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (8, 4)
    pixels = {row.numpy().tobytes(): int(y) for row, y in zip(data.train.inputs(), data.train.targets, strict=True)}
    for seed in range(8):  # seeds 0..3 were cats
        raw = np.asarray(picture(seed)).transpose(2, 0, 1).tobytes()
        assert pixels[raw] == seed // 4


def test_a_folder_without_train_and_test_is_split_by_us(folder):
    (data,) = whole(f"folder:{folder / 'train'}")
    assert (len(data.train), len(data.test)) == (6, 2)


def test_pixels_are_decoded_once_and_again_when_a_file_changes(folder, tmp_path):
    first = open_source(f"folder:{folder}").source
    assert isinstance(first.values.numpy().base, np.memmap) or (tmp_path / "cache").exists()
    files = sorted(p.name for p in (tmp_path / "cache").iterdir())
    open_source(f"folder:{folder}")
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == files
    picture(99).save(folder / "train" / "cat" / "0.png")
    changed = open_source(f"folder:{folder}").source.take(torch.tensor([0]))
    assert (changed[0].numpy() == np.asarray(picture(99)).transpose(2, 0, 1)).all()


def test_large_images_are_decoded_when_they_are_taken(folder):
    small, large = open_source(f"folder:{folder}"), open_source(f"folder:{folder}", shape=Shape(size=128))
    assert not small.source.streams and isinstance(large.source, StreamSource) and large.source.streams
    rows = large.source.take(torch.tensor([3, 0, 3]))
    assert rows.shape == (3, 3, 128, 128) and rows.dtype == torch.uint8
    expected = np.asarray(picture(3).resize((128, 128), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert (rows[0].numpy() == expected).all() and torch.equal(rows[0], rows[2])
    (data,) = whole(f"folder:{folder}", size=128)
    assert data.task.inputs.shape == (3, 128, 128)
    assert data.facts["duplicates_train_test"] == 0


def test_an_unreadable_image_is_named(folder):
    (folder / "train" / "dog" / "1.png").write_bytes(b"no image at all")
    says = r"train/dog/1\.png' cannot be read: cannot identify image file; on_error='skip' .*leaves such images out"
    with pytest.raises(InvalidInput, match=says):
        open_source(f"folder:{folder}")


def test_a_truncated_image_is_named(folder):
    file = folder / "train" / "dog" / "1.png"
    file.write_bytes(file.read_bytes()[:90])
    with pytest.raises(InvalidInput, match=r"train/dog/1\.png' cannot be read"):
        open_source(f"folder:{folder}")


def test_images_of_several_sizes_need_a_size(folder):
    picture(1, (9, 7)).save(folder / "test" / "dog" / "1.png")
    with pytest.raises(InvalidInput, match=r"dog/1\.png' is 7 x 9 pixels, the first one 8 x 8; give size="):
        open_source(f"folder:{folder}")
    assert open_source(f"folder:{folder}", shape=Shape(size=8)).source.values.shape == (12, 3, 8, 8)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(InvalidInput, match="no images; one sub-folder with images is required for each class"):
        open_source(f"folder:{tmp_path / 'none'}")
    with pytest.raises(InvalidInput, match="is not a folder"):
        open_source(f"folder:{tmp_path / 'nowhere'}")


def test_an_empty_class_is_named(folder):
    (folder / "train" / "fox").mkdir()
    with pytest.raises(InvalidInput, match="class 'fox' has no image"):
        open_source(f"folder:{folder}")


def test_one_class_is_no_task(tmp_path):
    (tmp_path / "one" / "cat").mkdir(parents=True)
    for number in range(10):
        picture(number).save(tmp_path / "one" / "cat" / f"{number}.png")
    with pytest.raises(InvalidInput, match="at least two labels, got 1"):
        whole(f"folder:{tmp_path / 'one'}")


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "fruit.csv"
    lines = ["weight,length,kind,price"]
    lines += [f"{number},{number % 5},{('apple', 'pear')[number % 2]},{number * 0.5}" for number in range(40)]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_csv_columns_become_rows_classes_and_numbers(table):
    (kinds,) = whole(f"csv:{table}", column="kind", inputs=["weight", "length"])
    assert kinds.task.target.labels == ("apple", "pear")
    assert kinds.task.preprocess.columns == ("weight", "length")
    for x, y in zip(kinds.train.inputs(), kinds.train.targets, strict=True):
        assert int(x[0]) % 2 == int(y) and int(x[0]) % 5 == int(x[1])
    (price,) = whole(f"csv:{table}", column="price", inputs=["weight", "length"])
    assert price.task.target.kind == "regression"
    weights = price.train.inputs()[:, 0]
    assert torch.equal(price.train.targets[:, 0], weights * 0.5)
    assert price.task.target.mean[0] == pytest.approx(float(weights.mean()) * 0.5)
    assert price.task.preprocess.mean[0] == pytest.approx(float(weights.mean()))


def test_a_missing_column_is_named_with_the_nearest(table):
    with pytest.raises(UnknownName, match="'wieght'. Did you mean 'weight'"):
        whole(f"csv:{table}", column="price", inputs=["wieght"])
    with pytest.raises(UnknownName, match="'prise'. Did you mean 'price'"):
        whole(f"csv:{table}", column="prise", inputs=["weight"])


def test_words_among_the_numbers_are_categories(table):
    (price,) = whole(f"csv:{table}", column="price", inputs=["weight", "kind"])
    assert price.task.preprocess.categories == {"kind": ("apple", "pear")} and price.task.inputs.size == 3
    encoded = price.task.preprocess.encode(price.train.inputs())
    weights = price.train.inputs()[:, 0]
    assert torch.equal(encoded[:, 1], (weights % 2 == 0).float()) and torch.equal(encoded[:, 2], 1 - encoded[:, 1])


def test_numbers_that_are_categories_are_so_in_every_suite(table):
    (price,) = whole(f"csv:{table}", column="price", inputs=["weight", "length"], categorical=["length"])
    assert price.task.preprocess.categories == {"length": ("0", "1", "2", "3", "4")}


def test_too_many_different_words_are_no_categories(tmp_path):
    rows = "\n".join(f"{n},{n},word{n}" for n in range(300))
    (tmp_path / "t.csv").write_text(f"x,y,id\n{rows}\n")
    with pytest.raises(InvalidInput, match="'id' holds 300 different texts, categories need 1 to 256; leave it out"):
        whole(f"csv:{tmp_path / 't.csv'}", column="x", inputs=["y", "id"])


def test_missing_and_infinite_values_are_named(tmp_path):
    (tmp_path / "gap.csv").write_text("a,b\n1,2\n,3\n4,5\n")
    with pytest.raises(InvalidInput, match=r"column 'a' has 1 missing value\(s\), the first in line 3"):
        whole(f"csv:{tmp_path / 'gap.csv'}", column="b", inputs="a")
    (tmp_path / "inf.csv").write_text("a,b\n1,0.5\ninf,0.3\n4,0.1\n")
    with pytest.raises(InvalidInput, match="infinity in line 3, column 'a'"):
        whole(f"csv:{tmp_path / 'inf.csv'}", column="b", inputs="a")


def test_a_csv_may_name_image_files(folder, tmp_path):
    rows = [f"pets/train/{label}/{n}.png,{label}" for label in ("cat", "dog") for n in range(4)]
    (tmp_path / "list.csv").write_text("file,animal\n" + "\n".join(rows) + "\n")
    (data,) = whole(f"csv:{tmp_path / 'list.csv'}", column="animal")
    assert data.task.inputs.shape == (3, 8, 8) and data.task.target.labels == ("cat", "dog")
    (folder / "train" / "cat" / "2.png").unlink()
    with pytest.raises(InvalidInput, match=r"cat/2\.png' cannot be read"):
        whole(f"csv:{tmp_path / 'list.csv'}", column="animal")


def image_parquet(path, labels, seeds, names=("no", "yes"), size=(8, 8)):
    images = [{"bytes": png(picture(seed, size)), "path": None} for seed in seeds]
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
    schema = pa.schema(
        [("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    pq.write_table(pa.table({"img": images, "label": labels}, schema=schema), path, row_group_size=3)


def test_parquet_in_the_hubs_layout_carries_images_and_class_names(tmp_path):
    (tmp_path / "set").mkdir()
    image_parquet(tmp_path / "set" / "train-00000-of-00001.parquet", [0, 1] * 4, range(8))
    image_parquet(tmp_path / "set" / "test-00000-of-00001.parquet", [1, 0, 1], [100, 3, 101])
    (data,) = whole(f"parquet:{tmp_path / 'set'}", column="label")
    assert data.task.target.labels == ("no", "yes") and (len(data.train), len(data.test)) == (8, 3)
    known = {np.asarray(picture(seed)).transpose(2, 0, 1).tobytes(): seed for seed in range(8)}
    for x, y in zip(data.train.inputs(), data.train.targets, strict=True):
        assert known[x.numpy().tobytes()] % 2 == int(y)
    assert data.facts["duplicates_train_test"] == 1  # the test image made from seed 3


def test_a_class_index_outside_the_labels_is_named(tmp_path):
    image_parquet(tmp_path / "train.parquet", [0, 1, 2, 0], range(4))
    with pytest.raises(InvalidInput, match=r"column 'label': class index 2 is outside the 2 labels \(0..1\)"):
        whole(f"parquet:{tmp_path / 'train.parquet'}", column="label")


def test_large_parquet_images_stay_encoded(tmp_path):
    image_parquet(tmp_path / "train.parquet", [0, 1] * 4, range(8), size=(120, 100))
    for _ in range(2):  # the second time from the cached bytes
        source = open_source(f"parquet:{tmp_path / 'train.parquet'}", target="label").source
        assert source.streams
        expected = np.asarray(picture(5, (120, 100))).transpose(2, 0, 1)
        assert (source.take(torch.tensor([5]))[0].numpy() == expected).all()


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("hello")
    with pytest.raises(InvalidInput, match="parquet file cannot be read"):
        open_source(f"parquet:{tmp_path / 'a.parquet'}", target="x")
    with pytest.raises(InvalidInput, match="does not exist"):
        open_source(f"parquet:{tmp_path / 'b.parquet'}")


def test_text_is_read_with_the_training_vocabulary(tmp_path):
    rows = [("good good film", "pos"), ("bad film", "neg")] * 5
    test = [("good unseen", "pos"), ("bad", "neg")]
    for name, content in (("train", rows), ("test", test)):
        table = pa.table({"text": [t for t, _ in content], "mood": [m for _, m in content]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    (data,) = whole(f"parquet:{tmp_path}", column="mood", length=4)
    assert data.task.preprocess.vocabulary == ("film", "good", "bad")  # 10, 10 and 5 times; equal ones by letter
    assert data.task.inputs.vocabulary == 5
    found = {tuple(row.tolist()) for row in data.test.inputs()}
    assert found == {(3, 1, 0, 0), (4, 0, 0, 0)}
    raw = data.task.preprocess.decode(["good unseen", "bad"])
    assert {tuple(row.tolist()) for row in raw} == found  # what a served system does with the same texts
    (rare,) = whole(f"parquet:{tmp_path}", column="mood", length=4, min_count=6, words=1)
    assert rare.task.preprocess.vocabulary == ("film",)


def archive(path, **values):
    np.savez(path, **values)
    return path


def test_npz_needs_no_datasets_library(tmp_path):
    x, y = np.arange(4 * 6 * 6, dtype=np.uint8).reshape(4, 6, 6), np.array([[0], [1], [0], [1]])
    archive(tmp_path / "a.npz", train_images=x, train_labels=y, test_images=x[:2], test_labels=y[:2])
    (data,) = whole(f"npz:{tmp_path / 'a.npz'}")
    assert data.task.inputs.shape == (1, 6, 6) and data.facts["duplicates_train_test"] == 2
    assert torch.equal(data.train.inputs()[data.train.index.argsort()][:, 0], torch.from_numpy(x))


def test_npz_parts_are_joined(tmp_path):
    for part in range(2):
        x = np.full((3, 4, 4, 3), part, dtype=np.uint8)
        archive(tmp_path / f"part{part}.npz", x=x, y=np.array([0, 1, part]), label_names=np.array(["a", "b"]))
    for spec in ("part*.npz", "part0.npz,part1.npz"):
        dataset = open_source(f"npz:{spec}", root=tmp_path)
        assert len(dataset) == 6 and dataset.pixels.channels == 3
        assert dataset.column()[1].labels == ("a", "b")
        assert dataset.source.values[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_npz_without_the_expected_keys_says_what_it_found(tmp_path):
    archive(tmp_path / "a.npz", pictures=np.zeros(3), y=np.zeros(3))
    with pytest.raises(InvalidInput, match=r"x_train and y_train.*found \['pictures', 'y'\]"):
        open_source(f"npz:{tmp_path / 'a.npz'}")
    (tmp_path / "b.npz").write_bytes(b"PK broken")
    with pytest.raises(InvalidInput, match="cannot be read as an .npz archive"):
        open_source(f"npz:{tmp_path / 'b.npz'}")


def test_npz_parts_that_do_not_fit_together_are_refused(tmp_path):
    archive(tmp_path / "a.npz", x=np.zeros((2, 4, 4), np.uint8), y=np.array([0, 1]))
    archive(tmp_path / "b.npz", x=np.zeros((2, 5, 4), np.uint8), y=np.array([0, 1]))
    with pytest.raises(InvalidInput, match="parts do not fit together"):
        open_source("npz:a.npz,b.npz", root=tmp_path)


class Pictures(torch.utils.data.Dataset):
    """PIL images and class numbers, as torchvision's data sets give them."""

    classes = ["round", "square"]

    def __init__(self, count: int, size: tuple[int, int] = (8, 8)) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int):
        return picture(row, self.size), row % 2


def test_a_torch_dataset_is_read_once_where_it_is_small():
    (data,) = whole({"train": Pictures(6), "test": Pictures(4)})
    assert data.task.target.labels == ("round", "square") and data.facts["duplicates_train_test"] == 4
    row = int(data.train.index[0])
    assert (data.train.inputs()[0].numpy() == np.asarray(picture(row)).transpose(2, 0, 1)).all()


def test_a_torch_dataset_of_large_images_streams():
    source = open_source(Pictures(4, (100, 110))).source
    assert source.streams and source.take(torch.tensor([2, 1])).shape == (2, 3, 110, 100)


def test_a_torch_dataset_item_that_does_not_fit_is_named():
    class Uneven(Pictures):
        def __getitem__(self, row: int):
            return picture(row, (8, 8 + row)), 0

    with pytest.raises(InvalidInput, match="torch Dataset, item 1"):
        open_source(Uneven(3))
    with pytest.raises(InvalidInput, match="a torch Dataset with a length is required"):
        open_source({"train": 5})


def test_arrays_are_told_apart_by_their_shape():
    y = np.array([0, 1] * 5)
    assert open_source((np.zeros((10, 3), np.float32), y)).kind == "table"
    assert open_source((["a b"] * 10, y)).kind == "text"
    for shape in ((10, 6, 5), (10, 1, 6, 5), (10, 6, 5, 1)):
        assert open_source((torch.zeros(shape, dtype=torch.uint8), y)).source.values.shape == (10, 1, 6, 5)
    with pytest.raises(InvalidInput, match="with 1 or 3 channels required"):
        open_source((np.zeros((10, 4, 6, 5), np.uint8), y))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((4, 3, 8, 8), np.uint8), [0, 1, 0], "4 inputs but 3 targets"),
        (np.zeros((0, 3)), [], "at least one example is required"),
        (np.full((4, 1, 8, 8), np.nan, np.float32), [0, 1, 0, 1], r"NaN or infinity in image\(s\) \[0, 1, 2, 3\]"),
        (np.full((4, 1, 8, 8), 7.0, np.float32), [0, 1, 0, 1], r"within \[0, 1\] required"),
        (np.zeros((4, 2)), [0.0, 1.0, np.inf, 1.0], r"NaN or infinity in row\(s\) \[2\]"),
        (np.array([[1.0], [np.nan], [0.0], [1.0]]), [0, 1, 0, 1], "NaN or infinity in row 1, column 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(x, y, message):
    with pytest.raises(InvalidInput, match=message):
        open_source((x, np.asarray(y)))


def test_a_task_from_tensors_names_what_is_wrong():
    x = torch.zeros(6, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(InvalidInput, match=r"class index 5 is outside the 2 labels"):
        arrays("t", (x, torch.tensor([0, 1, 5, 0, 1, 0])), labels=("a", "b"))
    with pytest.raises(InvalidInput, match=r"no example of class\(es\) \['b'\]"):
        arrays("t", (x, torch.zeros(6, dtype=torch.int64)), labels=("a", "b"))
    with pytest.raises(InvalidInput, match="do not fit together"):
        arrays("t", (x, torch.arange(6) % 2), test=(x[:, :, :4], torch.arange(6) % 2))
    many = arrays("t", (x, torch.eye(2).repeat(3, 1).long()), labels=("a", "b"), test=(x[:1], torch.ones(1, 2).long()))
    assert many.task.target.kind == "multilabel" and many.facts["duplicates_train_test"] == 1


@pytest.mark.parametrize("y", [["a", "b", None, "a"], ["a", "b", float("nan"), "a"], np.array(["a", "b", None, "a"])])
def test_what_is_no_label_is_no_class(y):
    with pytest.raises(InvalidInput, match=r"t, train: None or NaN in place of a label in row\(s\) \[2\]"):
        arrays("t", (np.zeros((4, 2)), y))
    with pytest.raises(InvalidInput, match="labels of one kind are required"):
        arrays("t", (np.zeros((4, 2)), np.array(["a", 1, "a", 1], dtype=object)))


def test_missing_numbers_of_arrays_are_refused_or_read_as_the_mean():
    x = np.array([[0.0], [np.nan], [4.0], [2.0]])
    with pytest.raises(InvalidInput, match="NaN or infinity in row 1"):
        arrays("t", (x, [0.5, 1.0, 2.0, 3.0]))
    data = arrays("t", (x, [0.5, 1.0, 2.0, 3.0]), missing_inputs="mean")
    preprocess = data.task.preprocess
    assert preprocess.missing == "mean" and preprocess.mean == (2.0,)
    assert preprocess.encode(preprocess.decode(x))[1].item() == 0.0


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownName, match="data set 'cifar101'. Did you mean 'cifar10"):
        split("cifar101", tasks=2)
    with pytest.raises(InvalidInput, match="did you mean 'folder:'"):
        open_source("fodler:x")


def test_a_set_that_is_nowhere_says_where_to_put_it(monkeypatch):
    monkeypatch.delenv("POLYPATH_DATA", raising=False)
    with pytest.raises(
        InvalidInput, match=r"not published on the hub: put its parquet files under \$POLYPATH_DATA/utkface/"
    ):
        open_source("utkface")


def test_the_hub_is_used_where_there_is_no_local_copy(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setenv("POLYPATH_DATA", str(tmp_path))
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"img": [{"bytes": png(picture(n)), "path": None} for n in range(6)], "label": [0, 1] * 3}
    made = datasets.Dataset.from_dict(rows, features=features)
    asked = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name: asked.append(name) or datasets.DatasetDict(train=made, test=made)
    )
    (data,) = split("cifar10", tasks=1)
    assert asked == ["uoft-cs/cifar10"]
    assert data.task.target.labels == ("a", "b") and data.facts["duplicates_train_test"] == 6
    row = int(data.train.index[0])
    assert (data.train.inputs()[0].numpy() == np.asarray(picture(row)).transpose(2, 0, 1)).all()


def test_a_hub_that_cannot_be_reached_says_what_else_works(monkeypatch, tmp_path):
    import datasets

    def unreachable(name):
        raise ConnectionError("no route to host")

    monkeypatch.setenv("POLYPATH_DATA", str(tmp_path))
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InvalidInput, match=r"cannot be loaded from the hub.*no route to host.*POLYPATH_DATA/mnist"):
        open_source("mnist")
