from pathlib import Path

import pytest

from medgan_core.data.places import Place, inside, locate, reading
from medgan_core.data.tables import Table, read_table, reference
from medgan_core.errors import DataError


def _table(tmp_path: Path, text: bytes) -> Table:
    path = tmp_path / "set" / "manifest.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    return read_table(Place(tmp_path, path.parent), path)


def test_values_are_trimmed_and_rows_keep_their_line_numbers(tmp_path: Path) -> None:
    table = _table(tmp_path, b"\xef\xbb\xbffile, patient\na.png,p1\n\n b.png , p2 \n")
    assert table.column("patient") == ("p1", "p2")
    assert table.distinct("file") == ("a.png", "b.png")
    assert table.where(1) == "set/manifest.csv row 4"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "is empty"),
        (b"file,label\n", "is empty"),
        (b"file,file\na,b\n", "row 1: a column is named twice"),
        (b"file,label\na.png,0\nb.png\n", "row 3: 1 values for 2 columns"),
        (b'file,label\na.png,"0\n', "no CSV"),
        (b"file,label\n\xff\xfe,0\n", "cannot be read"),
    ],
)
def test_a_damaged_table_is_named_with_its_row(tmp_path: Path, text: bytes, expected: str) -> None:
    with pytest.raises(DataError, match=expected) as caught:
        _table(tmp_path, text)
    assert str(caught.value).startswith("set/manifest.csv")


def test_columns_are_asked_for_by_name(tmp_path: Path) -> None:
    table = _table(tmp_path, b"file,label\na,0\na,1\n")
    with pytest.raises(DataError, match="no column patient or patient_key; its columns are file, label"):
        table.column("patient", "patient_key")
    with pytest.raises(DataError, match=r"row 3: file a is in set/manifest.csv row 2 already"):
        table.distinct("file")
    with pytest.raises(DataError, match="row 2: file is blank"):
        _table(tmp_path, b"file,label\n,0\n").distinct("file")


def test_a_reference_may_name_a_column() -> None:
    assert reference("a/b.csv:key") == ("a/b.csv", "key")
    assert reference("a/b.csv") == ("a/b.csv", "")
    assert reference("c:/b.csv") == ("c:/b.csv", "")
    assert reference("") == ("", "")


def test_a_place_stays_below_the_data_root(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert locate(tmp_path, "set").shown() == "set"
    assert locate(tmp_path, str(tmp_path / "set")).shown() == "set"
    with pytest.raises(DataError, match="leaves the data root"):
        locate(tmp_path / "set", "../set")
    with pytest.raises(DataError, match="is missing"):
        locate(tmp_path, "other")
    with pytest.raises(DataError, match="cannot be read"):
        locate(tmp_path, "x" * 5000)
    assert [inside(n) for n in ("a/b", "", "../a", "a/../../b", "/a", "c:/a", "\\a", "..\\a")] == [True] + [
        False
    ] * 7


def test_files_beside_a_set_are_found_in_its_folder_then_below_the_root(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path / "set" / "a.npz")
    place.folder.mkdir()
    (tmp_path / "far.csv").touch()
    assert place.beside("far.csv") == tmp_path / "far.csv"
    (tmp_path / "set" / "far.csv").touch()
    assert place.beside("far.csv") == tmp_path / "set" / "far.csv"
    assert place.beside(str(tmp_path / "far.csv")) == tmp_path / "far.csv"
    assert place.shown(Path("/elsewhere/x.csv")) == "x.csv"
    with pytest.raises(DataError, match=r"^set/none.csv is missing"):
        place.beside("none.csv")
    with pytest.raises(DataError, match="is missing"):
        place.beside("../far.csv")


def test_only_damage_becomes_a_data_error() -> None:
    with pytest.raises(DataError, match=r"^x cannot be read \(ValueError: odd\)"), reading("x"):
        raise ValueError("odd")
    with pytest.raises(DataError, match=r"^x cannot be read \(EOFError\)"), reading("x"):
        raise EOFError
    with pytest.raises(KeyboardInterrupt), reading("x"):
        raise KeyboardInterrupt
