"""Manifests: CSV tables whose every complaint names the file and the row."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from medgan_core.data.places import Place, reading
from medgan_core.errors import DataError

PATIENT_COLUMNS = ("patient", "patient_key")
LABEL_COLUMNS = ("label",)


@dataclass(frozen=True)
class Table:
    """A CSV with a header. `lines` are the rows' line numbers in the file, the header's being 1."""

    name: str
    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, row: int) -> str:
        """How errors call a row."""
        return f"{self.name} row {self.lines[row]}"

    def column(self, *names: str) -> tuple[str, ...]:
        """The values of the first of these columns that the table has. Raises DataError if it has none."""
        for name in names:
            if name in self.columns:
                position = self.columns.index(name)
                return tuple(row[position] for row in self.rows)
        raise DataError(
            f"{self.name} has no column {' or '.join(names)}; its columns are {', '.join(self.columns)}"
        )

    def distinct(self, *names: str) -> tuple[str, ...]:
        """A column whose values are neither blank nor repeated, such as `file`."""
        values = self.column(*names)
        seen: dict[str, int] = {}
        for row, value in enumerate(values):
            if not value:
                raise DataError(f"{self.where(row)}: {names[0]} is blank")
            if value in seen:
                raise DataError(
                    f"{self.where(row)}: {names[0]} {value} is in {self.where(seen[value])} already"
                )
            seen[value] = row
        return values


def read_table(place: Place, path: Path) -> Table:
    """Read a CSV in UTF-8. Raises DataError for one that is empty, ragged or no text."""
    name = place.shown(path)
    with reading(name):
        text = path.read_text(encoding="utf-8-sig")
    return _parse(name, path, text)


def reference(text: str) -> tuple[str, str]:
    """Split `FILE[:COLUMN]` into file and column, "" where no column is named."""
    file, separator, column = text.rpartition(":")
    return (file, column.strip()) if separator and "/" not in column else (text, "")


def _parse(name: str, path: Path, text: str) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = tuple(cell.strip() for cell in next(reader, ()))
        read = [(reader.line_num, tuple(cell.strip() for cell in cells)) for cells in reader if cells]
    except csv.Error as error:
        raise DataError(f"{name} row {reader.line_num}: no CSV ({error})") from error
    if len(set(header)) != len(header):
        raise DataError(f"{name} row 1: a column is named twice")
    for line, cells in read:
        if len(cells) != len(header):
            raise DataError(f"{name} row {line}: {len(cells)} values for {len(header)} columns")
    if not read:
        raise DataError(f"{name} is empty; expected a header and at least one row")
    return Table(name, path, header, tuple(cells for _, cells in read), tuple(line for line, _ in read))
