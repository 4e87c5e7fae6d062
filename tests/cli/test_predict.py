"""`polypath predict`: files in, labels and probabilities out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import polypath as pp
from polypath.cli.inputs import given, read
from polypath.core.task import Classification, Features, Task, Tokens

Invoke = Callable[..., Any]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)


def lines(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_images_and_arrays_get_the_answers_of_python(
    system: Path, invoke: Invoke, tmp_path: Path, pixels: np.ndarray
) -> None:
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    np.save(tmp_path / "all.npy", pixels)
    np.savez(tmp_path / "all.npz", images=pixels, other=np.zeros(3))
    expected = pp.load(system).predict("task2", pixels)
    assert expected.labels is not None and expected.probabilities is not None
    names = [str(tmp_path / f"{number}.png") for number in range(5)]
    rows = lines(invoke("predict", system, "task2", *names, "--json"))
    assert [row["input"] for row in rows] == names and {row["task"] for row in rows} == {"task2"}
    for found in (
        rows,
        *(lines(invoke("predict", system, "task2", tmp_path / f"all.{end}", "--json")) for end in ("npy", "npz")),
    ):
        assert [row["label"] for row in found] == expected.labels
        shares = torch.tensor([list(row["probabilities"].values()) for row in found])
        torch.testing.assert_close(shares, expected.probabilities, rtol=1e-5, atol=1e-6)
        assert [row["probability"] for row in found] == [max(row["probabilities"].values()) for row in found]
    table = invoke("predict", system, "task2", tmp_path / "all.npy").stdout
    assert "all.npy[4]" in table and f"{rows[0]['probability']:.3f}" in table


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("wide.npy", lambda path: np.save(path, np.zeros((2, 8, 9), np.uint8)), "(1, 8, 8) pixels required"),
        ("color.npy", lambda path: np.save(path, np.zeros((2, 3, 8, 8), np.uint8)), "(1, 8, 8) pixels required"),
        ("nan.npy", lambda path: np.save(path, np.full((1, 8, 8), np.nan, np.float32)), "finite pixels required"),
        ("list.npy", lambda path: np.save(path, np.array([{}], dtype=object)), "cannot be read as NumPy arrays"),
        ("broken.npz", lambda path: path.write_bytes(b"PK\3\4 nothing"), "cannot be read as NumPy arrays"),
        ("two.npz", lambda path: np.savez(path, a=np.zeros(3), b=np.zeros(3)), "found ['a', 'b']"),
        ("text.png", lambda path: path.write_text("no image"), "cannot be read"),
        ("none.png", lambda path: None, "does not exist"),
        ("folder.png", lambda path: path.mkdir(), "is a folder"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_answered(
    system: Path, invoke: Invoke, tmp_path: Path, pixels: np.ndarray, name: str, make: Callable[[Path], Any], said: str
) -> None:
    np.save(tmp_path / "good.npy", pixels)
    make(tmp_path / name)
    for as_json in ([], ["--json"]):
        result = invoke("predict", system, "task1", tmp_path / "good.npy", tmp_path / name, *as_json)
        assert result.exit_code == 2 and result.stdout == ""
        assert said in result.stderr and name in result.stderr


def test_an_image_of_another_size_is_refused(system: Path, invoke: Invoke, tmp_path: Path) -> None:
    from polypath.system import load

    image = tmp_path / "large.png"
    Image.new("L", (32, 16)).save(image)
    assert load(system).tasks["task1"].preprocess.kind == "image"
    fit = load(system).tasks["task1"].preprocess.fit
    result = invoke("predict", system, "task1", image)
    assert fit == "exact" and result.exit_code == 2
    assert str(image) in result.stderr and "(1, 8, 8) pixels required" in result.stderr and "16, 32" in result.stderr


def test_an_unknown_task_offers_the_nearest(system: Path, invoke: Invoke, tmp_path: Path, pixels: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", pixels)
    result = invoke("predict", system, "taks1", tmp_path / "x.npy")
    assert result.exit_code == 2 and "Did you mean 'task1'?" in result.stderr


def table_task() -> Task:
    preprocess = {"kind": "table", "columns": ("age", "weight"), "mean": (0.0, 0.0), "std": (1.0, 1.0)}
    return Task.of(
        {
            "name": "risk",
            "inputs": Features(size=2),
            "target": Classification(labels=("low", "high")),
            "preprocess": preprocess,
        }
    )


def test_rows_of_a_csv_file_follow_its_header(tmp_path: Path) -> None:
    file = tmp_path / "patients.csv"
    file.write_text("weight,name,age\n70.5,Ann,31\n82,Bob,45\n")
    found = list(read(file, table_task()))
    assert [name for name, _ in found] == [f"{file}[0]", f"{file}[1]"]
    assert [row.tolist() for _, row in found] == [[31.0, 70.5], [45.0, 82.0]]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "age\n3\n", "['weight'] missing"),
        ("a.csv", "age,weight\n", "at least one row"),
        ("a.csv", "age,weight\n1,2\n3\n", "line 3 has 1 cell(s), and the header has 2 columns"),
        ("a.csv", "age,weight\n1,heavy\n", "numbers required"),
        ("a.csv", "age,weight\n1,nan\n", "finite values required"),
        ("a.csv", "age,weight,age\n1,2,3\n", "the header names column 'age' twice"),
        ("a.csv", "age;weight\n1;2\n", "columns are separated by ';'"),
        ("a.csv", b"age,weight\n1,R\xf6m\n", "not UTF-8: save it as UTF-8"),
        ("a.txt", "1,2", "a .csv, .npy or .npz file is required"),
    ],
)
def test_rows_that_do_not_fit(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        list(read(tmp_path / name, table_task()))
    assert said in str(caught.value) and name in str(caught.value)


def test_a_table_in_another_encoding_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("größe,age,weight\n1,2,3\n".encode("latin-1"))
    with pytest.raises(ValueError, match="a.csv: not UTF-8: save it as UTF-8"):
        list(read(tmp_path / "a.csv", table_task()))


def test_a_text_file_is_one_text(tmp_path: Path) -> None:
    preprocess = {"kind": "text", "vocabulary": ("good",), "length": 3}
    task = Task.of(
        {
            "name": "review",
            "inputs": Tokens(vocabulary=3, length=3),
            "target": Classification(labels=("bad", "good")),
            "preprocess": preprocess,
        }
    )
    (tmp_path / "a.txt").write_text("Good,\nreally")
    assert list(read(tmp_path / "a.txt", task)) == [(str(tmp_path / "a.txt"), "Good,\nreally")]
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="b.txt: is no text in UTF-8"):
        list(read(tmp_path / "b.txt", task))


def test_parquet_rows_of_a_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"weight": [70.5, None, 60.0], "age": [31, 45, 20]}), tmp_path / "a.parquet")
    rows = list(given(tmp_path / "a.parquet", table_task()))
    assert [row.name for row in rows] == [f"{tmp_path / 'a.parquet'}[{n}]" for n in range(3)]
    assert rows[0].value.tolist() == [31.0, 70.5] and rows[2].value.tolist() == [20.0, 60.0]
    assert rows[1].value is None and "in column 'weight'" in str(rows[1].error)


def test_parquet_rows_that_are_images(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("L", (4, 2), 7).save(content, "PNG")
    held = {"id": [1, 2], "img": [{"bytes": content.getvalue(), "path": None}, {"bytes": b"no", "path": None}]}
    pq.write_table(pa.table(held), tmp_path / "a.parquet")
    shape = {"channels": 1, "height": 2, "width": 4}
    task = Task.of(
        {
            "name": "t",
            "inputs": {"kind": "image", **shape},
            "target": Classification(labels=("a", "b")),
            "preprocess": {"kind": "image", **shape, "mean": (0.0,), "std": (1.0,)},
        }
    )
    good, bad = given(tmp_path / "a.parquet", task, recorded=("img",))
    assert good.value.shape == (1, 2, 4) and good.value.unique().tolist() == [7]
    assert bad.error == f"{tmp_path / 'a.parquet'}[1]: image cannot be read: cannot identify image file"
    (asked,) = given(tmp_path / "a.parquet", task)
    assert "name the column of the inputs by --column; the file has ['id', 'img']" in str(asked.error)


def test_one_input_of_an_array_that_cannot_be_read_is_named_alone(
    system: Path, invoke: Invoke, tmp_path: Path, pixels: np.ndarray
) -> None:
    rows = np.array([[1.0, 2.0], [np.nan, 3.0], [4.0, 5.0]], dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    found = list(given(tmp_path / "rows.npy", table_task()))
    assert [one.value.tolist() for one in found if one.error is None] == [[1.0, 2.0], [4.0, 5.0]]
    assert found[1].name == f"{tmp_path / 'rows.npy'}[1]" and "in row" not in str(found[1].error)
    images = pixels.astype(np.float32) / 255
    images[3, 0, 0] = np.inf
    for name, held in (("grey.npy", images), ("channel.npy", images[:, None]), ("last.npy", images[..., None])):
        np.save(tmp_path / name, held)
        told = lines(invoke("predict", system, "task1", tmp_path / name, "--on-error", "skip", "--json"))
        assert [("error" in row) for row in told] == [False, False, False, True, False]
        assert told[3]["input"] == f"{tmp_path / name}[3]" and "image(s)" not in told[3]["error"]


def test_one_input_without_a_finite_answer_is_named_alone(
    system: Path, invoke: Invoke, tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polypath import prediction

    def diverging(task: Task, outputs: torch.Tensor) -> Any:
        seen.append(outputs)
        return answer(task, torch.where(torch.isclose(outputs, seen[0][2]).all(1, keepdim=True), torch.nan, outputs))

    seen: list[torch.Tensor] = []
    answer = prediction.answer
    np.save(tmp_path / "all.npy", pixels)
    expected = lines(invoke("predict", system, "task1", tmp_path / "all.npy", "--json"))
    monkeypatch.setattr("polypath.answering.answer", diverging)
    told = lines(invoke("predict", system, "task1", tmp_path / "all.npy", "--on-error", "skip", "--json"))
    assert [row for row in told if "error" not in row] == expected[:2] + expected[3:]
    assert "has no finite answer:" in told[2]["error"]
    result = invoke("predict", system, "task1", tmp_path / "all.npy")
    assert result.exit_code == 2 and f"{tmp_path / 'all.npy'}[2]: " in result.stderr and result.stdout == ""
