"""CSV files as people save them: other encodings, gaps, words among the numbers."""

from __future__ import annotations

import pytest

from polypath.core.errors import InvalidInput
from polypath.data import own, split, whole


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("größe,b\n1,2\n".encode("latin-1"), "the header is not UTF-8"),
        ("a,town\n1,Röme\n2,Bari\n".encode("latin-1"), "column 'town' is not UTF-8"),
        ("a,town\n1,Röme\n2,Bari\n".encode("utf-16"), "not UTF-8"),
    ],
)
@pytest.mark.parametrize("inputs", ["a", "town"])
def test_other_encodings_are_refused_with_what_to_do(tmp_path, content, what, inputs):
    (tmp_path / "towns.csv").write_bytes(content)
    with pytest.raises(InvalidInput, match=rf"towns.csv: {what}: save it as UTF-8 \(in Excel: CSV UTF-8\)"):
        whole(f"csv:{tmp_path / 'towns.csv'}", column="town", inputs=[inputs])


def test_every_column_with_gaps_is_named_with_its_count_and_the_line_of_its_first(tmp_path):
    (tmp_path / "gaps.csv").write_text("a,b,c,y\n1,2,3,x\n\n,2,3,z\n1,,3,x\nNA,5,6,z\n")  # an empty line is no row
    said = (
        r"gaps: column 'a' has 2 missing value\(s\), the first in line 4; "
        r"column 'b' has 1 missing value\(s\), the first in line 5; fill them"
    )
    with pytest.raises(InvalidInput, match=said):
        whole(f"csv:{tmp_path / 'gaps.csv'}", column="y", inputs=["a", "b", "c"])
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "train.csv").write_text("a,y\n1,x\n2,z\n")
    (tmp_path / "parts" / "test.csv").write_text("a,y\n1,x\n,z\n")
    with pytest.raises(InvalidInput, match="the first in line 3 of test.csv"):
        whole(f"csv:{tmp_path / 'parts'}", column="y", inputs=["a"])


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_an_editor_counts_them(tmp_path, ends):
    lines = ["note,a,y", '"first', 'second",1,x', "", "short,2,z", '"two', "", 'more",,x']
    (tmp_path / "notes.csv").write_bytes(ends.join(lines).encode())
    with pytest.raises(InvalidInput, match="the first in line 6; fill"):
        whole(f"csv:{tmp_path / 'notes.csv'}", column="y", inputs=["a"])


def test_a_row_that_only_arrow_can_read_is_told_by_its_number(tmp_path):
    (tmp_path / "long.csv").write_text(f"note,a,y\n{'w' * 200_000},1,x\nshort,,z\n")
    with pytest.raises(InvalidInput, match="the first in row 1; fill"):
        whole(f"csv:{tmp_path / 'long.csv'}", column="y", inputs=["a"])


def test_no_more_columns_with_gaps_are_told_than_can_be_read(tmp_path):
    names = [f"a{number}" for number in range(50)]
    (tmp_path / "wide.csv").write_text(f"{','.join(names)},y\n{'1,' * 50}x\n{',' * 50}z\n")
    with pytest.raises(InvalidInput, match="the first in line 3; and 10 more columns; fill") as error:
        whole(f"csv:{tmp_path / 'wide.csv'}", column="y", inputs=names)
    assert str(error.value).count("the first in") == 40


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("a,b,a,b,y", "the header names column 'a', 'b' twice"),
        ("a;b;y", "separated by ';'"),
        ("a\tb\ty", "separated by"),
    ],
)
def test_a_header_says_which_column_is_which(tmp_path, header, said):
    (tmp_path / "odd.csv").write_text(f"{header}\n{header.replace('y', 'x')}\n")
    with pytest.raises(InvalidInput, match=said):
        whole(f"csv:{tmp_path / 'odd.csv'}", column="y", inputs=["a"])


@pytest.mark.parametrize("word", ["<NA>", "Null", "None", "#NA", "NaN"])
def test_a_word_for_nothing_makes_no_categories_of_a_column_of_numbers(tmp_path, word):
    sizes = [word if number % 10 == 0 else number + 0.5 for number in range(40)]
    rows = [f"{size},{word if number == 1 else 'red'},{number % 2}" for number, size in enumerate(sizes)]
    (tmp_path / "gaps.csv").write_text("\n".join(["size,colour,y", *rows]) + "\n")
    given = {"column": "y", "inputs": ["size", "colour"]}
    with pytest.raises(InvalidInput, match=r"column 'size' has 4 missing value\(s\), the first in line 2; fill"):
        whole(f"csv:{tmp_path / 'gaps.csv'}", **given)
    (task,) = whole(f"csv:{tmp_path / 'gaps.csv'}", **given, missing_inputs="mean")
    assert list(task.task.preprocess.categories) == ["colour"]  # texts stay texts
    assert word in task.task.preprocess.categories["colour"]


@pytest.mark.parametrize(("cell", "written"), [("", ""), ("  ", r", written \['  '\]"), ("NA", r", written \['NA'\]")])
def test_a_label_that_is_missing_is_no_class(tmp_path, cell, written):
    (tmp_path / "kinds.csv").write_text(f"a,y\n1,x\n2,{cell}\n3,z\n4,{cell}\n" + "5,x\n6,z\n" * 6)
    said = rf"column 'y' has 2 missing value\(s\){written}, the first in line 3; fill them or leave these rows out"
    for make in (lambda **given: whole(**given), lambda **given: split(tasks=1, **given)):
        with pytest.raises(InvalidInput, match=said):
            make(dataset=f"csv:{tmp_path / 'kinds.csv'}", column="y", inputs=["a"])
    task = {"name": "t", "dataset": f"csv:{tmp_path / 'kinds.csv'}", "target": "y", "missing": "refuse"}
    with pytest.raises(InvalidInput, match=said):
        own({"tasks": [task]})
    if cell == "NA":
        (made,) = own({"tasks": [{**task, "classes": ["x", "z", "NA"]}]})
        assert made.task.target.labels == ("x", "z", "NA")
