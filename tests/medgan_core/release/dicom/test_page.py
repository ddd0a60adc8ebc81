"""The page on synthetic DICOM shows the marks that files really have."""

import re
from pathlib import Path

from pydicom import Dataset

from medgan_core.release.dicom.delivery import ATTEMPTS
from medgan_core.release.dicom.drawing import FIELD
from medgan_core.release.dicom.volumes import COLUMNS, MOST
from tests.medgan_core.release.dicom.making import read

PAGE = Path(__file__).resolve().parents[4] / "docs" / "dicom_out.md"


def rows() -> list[tuple[list[int], str, str]]:
    """Tags from the outermost to the innermost, the keyword and the value of each row."""
    text = PAGE.read_text(encoding="utf-8")
    table = re.search(r"<!-- marks -->\n(.*?)\n<!-- /marks -->", text, flags=re.DOTALL)
    assert table is not None
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.group(1).splitlines()[2:]
    ]
    return [(_tags(tags), keyword, value) for tags, keyword, value in cells]


def _tags(text: str) -> list[int]:
    return [int(group + element, 16) for group, element in re.findall(r"\((\w{4}),(\w{4})\)", text)]


def test_the_table_is_what_a_file_says(cohort: Path) -> None:
    dataset: Dataset = next(d for d in read(cohort) if d.Modality == "DX")
    assert len(rows()) == 15
    for tags, keyword, value in rows():
        place = dataset
        for tag in tags[:-1]:
            place = place[tag].value[0]
        found = place[tags[-1]]
        many = found.value if found.VM > 1 else [found.value]
        assert (found.keyword, "\\".join(map(str, many))) == (keyword, value)


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"Above {MOST} files" in text
    assert f"`labels.csv` ({', '.join(COLUMNS)})" in text
    for modality in ("CT", "MR", "DX"):
        assert re.search(rf"{FIELD[modality]:.0f} mm[\w ]* for {modality}", text)
    assert (ATTEMPTS, "tried three times" in text) == (3, True)
