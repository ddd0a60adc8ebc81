"""The sections of a check as Markdown, for card.md."""

from collections.abc import Iterator

from medgan_core.release.card import ReleaseCard
from medgan_core.release.check.content import Section, Table, check_sections


def check_words(card: ReleaseCard) -> list[str]:
    """A part for each section; none before a check."""
    return ["\n\n".join(_parts(section)) for section in check_sections(card)]


def _parts(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    yield from map(_plain, section.text)
    if section.table is not None:
        yield _table(section.table)
    yield from map(_plain, section.notes)


def _table(table: Table) -> str:
    lines = [table.head, tuple("---" for _ in table.head), *table.rows]
    return "\n".join("| " + " | ".join(map(_cell, cells)) + " |" for cells in lines)


def _cell(text: str) -> str:
    return _plain(text.replace("|", "/"))


def _plain(text: str) -> str:
    """One line without tags."""
    return " ".join(text.replace("<", "‹").replace(">", "›").split())
