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
