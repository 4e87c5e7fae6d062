"""CSV files as people save them: other encodings, gaps, words among the numbers."""

from __future__ import annotations

import pytest

from polypath.core.errors import InvalidInput
from polypath.data import whole


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
