"""What `polypath init` finds in a folder, what it writes, and the schema of the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from polypath.core.errors import InvalidInput
from polypath.data import own
from polypath.data.discover import discover
from polypath.data.first_file import chosen, first_file
from polypath.data.own import OwnTask
from polypath.data.schema import FILE, tasks_schema

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_CACHE", str(tmp_path / ".cache"))


def pictures(folder: Path, classes: tuple[str, ...], size: tuple[int, int], count: int = 5) -> None:
    for number, label in enumerate(classes):
        (folder / label).mkdir(parents=True)
        for n in range(count):
            Image.new("RGB", size, (40 * number, 20 * n, 9)).save(folder / label / f"{n}.png")


def written(folder: Path) -> str:
    text = first_file(discover(folder), "mine")
    (folder / "tasks.yaml").write_text(text)
    return text


def test_image_folders_of_several_sizes_become_tasks_that_load(tmp_path: Path) -> None:
    pictures(tmp_path / "xray", ("ill", "well"), (8, 8))
    pictures(tmp_path / "skin" / "train", ("mole", "scar", "spot"), (12, 10))
    pictures(tmp_path / "skin" / "test", ("mole", "scar", "spot"), (12, 10), 2)
    (tmp_path / "notes").mkdir()
    text = written(tmp_path)
    assert "3 classes: mole, scar, spot" in text and "pixels: 10 x 12" in text
    suite = own(tmp_path / "tasks.yaml")
    assert suite.names == ("skin", "xray") and {data.task.inputs.shape for data in suite} == {(3, 64, 64)}
    assert len(suite["skin"].test) == 6


def test_texts_that_stand_for_no_value_are_counted_as_missing(tmp_path: Path) -> None:
    rows = [f"{n},{('low', 'high', 'NA', '')[n % 4]}" for n in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["x,risk", *rows]) + "\n")
    assert "target risk: 2 classes; 20 rows have no value there and are left out" in written(tmp_path)


def test_gaps_among_the_inputs_are_told(tmp_path: Path) -> None:
    rows = [f"{n},{'' if n % 4 == 0 else n},{n % 2}" for n in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["x,age,y", *rows]) + "\n")
    assert "  # column age has gaps, which is refused: 10 of 40 rows have no number there" in written(tmp_path)
    with pytest.raises(InvalidInput, match="column 'age' has 10 missing value.*by missing_inputs: mean"):
        own(tmp_path / "tasks.yaml")
    text = (tmp_path / "tasks.yaml").read_text()
    (tmp_path / "tasks.yaml").write_text(text + "    missing_inputs: mean\n")  # as the file says
    assert own(tmp_path / "tasks.yaml")["t"].facts["noted"] == ["missing numbers that are read as the mean: age (10)"]


def test_broken_images_among_them_are_skipped(tmp_path: Path) -> None:
    pictures(tmp_path / "xray", ("ill", "well"), (8, 8))
    (tmp_path / "xray" / "ill" / "0.png").write_text("no image")
    assert "on_error: skip" in written(tmp_path)
    assert own(tmp_path / "tasks.yaml")["xray"].facts["unreadable_images"] == 1


def test_a_table_offers_targets_and_leaves_names_and_splits_out(tmp_path: Path) -> None:
    lines = ["id,patient,age,city,weight,diagnosis,split"]
    for n in range(40):
        row = (
            f"p{n}",
            n // 2,
            n,
            ("Rome", "Bari")[n % 2],
            n * 1.5,
            ("ill", "well")[n // 3 % 2],
            "test" if n > 29 else "train",
        )
        lines.append(",".join(map(str, row)))
    (tmp_path / "people.csv").write_text("\n".join(lines) + "\n")
    text = written(tmp_path)
    assert "could be targets too: age, city, weight" in text and "not used: id (name), patient (group)" in text
    (data,) = own(tmp_path / "tasks.yaml")
    assert data.name == "people" and data.task.target.labels == ("ill", "well")
    assert data.facts["input_columns"] == ["age", "city", "weight"] and len(data.test) == 10


def test_texts_are_told_from_categories(tmp_path: Path) -> None:
    rows = "\n".join(f"the {n}th film was fine,{('good', 'bad')[n % 2]}" for n in range(20))
    (tmp_path / "reviews.csv").write_text(f"review,sentiment\n{rows}\n")
    written(tmp_path)
    assert own(tmp_path / "tasks.yaml")["reviews"].task.inputs.kind == "tokens"


def test_what_cannot_share_a_network_is_written_as_comments(tmp_path: Path) -> None:
    pictures(tmp_path / "xray", ("ill", "well"), (8, 8))
    pictures(tmp_path / "skin", ("mole", "scar"), (8, 8))
    (tmp_path / "t.csv").write_text("x,y\n" + "\n".join(f"{n},{n % 2}" for n in range(20)) + "\n")
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 8, 8), np.uint8), y=np.array([0, 1, 0, 1]))
    found = discover(tmp_path)
    assert [one.kind for one in found] == ["images", "images", "rows", "archive"]
    used, others = chosen(found)
    assert [task["name"] for one in used for task in one.tasks] == ["skin", "xray"] and len(others) == 2
    text = written(tmp_path)
    assert "#   - name: t\n" in text and own(tmp_path / "tasks.yaml").names == ("skin", "xray")
    assert "name: t\n" in text.replace("#   - ", "- ")


def test_names_that_yaml_would_misread_are_quoted(tmp_path: Path) -> None:
    pictures(tmp_path / "1: yes", ("no", "yes"), (8, 8))
    written(tmp_path)
    assert own(tmp_path / "tasks.yaml").names == ("1: yes",)


def test_an_empty_folder_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no folder with one sub-folder of images a class"):
        discover(tmp_path)
    with pytest.raises(InvalidInput, match="is not a folder"):
        discover(tmp_path / "none")


def test_every_column_of_a_table_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {"area": [1.5, 2.5, 3.5] * 4, "city": ["Bari", "Rome", "Oslo"] * 4, "sold": [True, False] * 6}
    pq.write_table(pa.table(rows), tmp_path / "homes.parquet")
    plain, read = pq.read_table, []

    def counted(*given: object, **named: list[str]) -> object:
        read.extend(named["columns"])
        return plain(*given, **named)

    monkeypatch.setattr(pq, "read_table", counted)
    (found,) = discover(tmp_path)
    assert found.tasks[0]["target"] == "sold" and found.classes == 2
    assert sorted(read) == sorted(rows)


def test_the_committed_schema_is_the_one_that_the_program_prints() -> None:
    committed = (ROOT / "docs" / FILE).read_text()
    assert json.loads(committed) == tasks_schema(), "run: polypath schema --out docs/tasks.schema.json"


def test_the_schema_describes_every_setting_and_takes_what_is_right() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = tasks_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    properties = schema["$defs"]["OwnTask"]["properties"]
    assert set(properties) == set(OwnTask.model_fields)
    assert not [key for key, value in properties.items() if not value.get("description")]
    right = yaml.safe_load(
        "name: a\ndefaults: {dataset: 'csv:t.csv', validation: 0.1}\ntasks:\n- {name: a, target: y, loss: huber, "
        "class_weights: balanced, on_error: skip}\n- {name: b, target: [y, z], augment: part, size: [8, 9]}\n"
    )
    check = jsonschema.Draft202012Validator(schema)
    assert check.is_valid(right) and check.is_valid({"name": "a", "dataset": "digits"})
    for wrong in (
        {"tasks": []},
        {"name": "a"},
        {"tasks": [{"name": "a", "loss": "hinge"}]},
        {"tasks": [{"nmae": "a"}]},
    ):
        assert not check.is_valid(wrong)
