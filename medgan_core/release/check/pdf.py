"""report.pdf: the story of report.html on paper. The same release gives the same bytes."""

from collections.abc import Iterator, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
from PIL import Image as Pillow
from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import (
    CondPageBreak,
    Flowable,
    Image,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from medgan_core.release.card import ReleaseCard
from medgan_core.release.check import content
from medgan_core.release.check.report import Story, story_of

_INK, _MUTED, _LINE, _HEAD = (colors.HexColor(c) for c in ("#1b2430", "#566273", "#d9dfe6", "#f0f3f6"))
_SAID = {
    "pass": colors.HexColor("#1f7a4d"),
    "fail": colors.HexColor("#b3261e"),
    "inconclusive": colors.HexColor("#9a6700"),
    "not asked": _MUTED,
    "not assessed": _MUTED,
}
_MARGIN = 15 * mm
_WIDTH = A4[0] - 2 * _MARGIN - 12  # of a frame's own padding
_PLAIN, _BOLD = "MedGAN", "MedGAN-Bold"
_TALLEST = 165 * mm
_LETTER, _PADDING, _LONG_WORD, _LONG_CELL = 5.2, 9.0, 14, 60


def render_pdf(card: ReleaseCard, pictures: Mapping[str, bytes]) -> bytes:
    """The pages as PDF, A4, with these PNGs by name."""
    _fonts()
    story, stream = story_of(card), BytesIO()
    paper = SimpleDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=14 * mm,
        bottomMargin=16 * mm,
        title=f"{story.word}: release check of {story.title}",
        author="MedGAN",
        invariant=1,
    )
    foot = _Foot(f"{story.word} · {story.title}")
    paper.build([*_head(story), *_body(story, pictures)], onFirstPage=foot, onLaterPages=foot)
    return stream.getvalue()


class _Foot:
    """A line at the foot of every page."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self, canvas: Any, paper: Any) -> None:
        canvas.saveState()
        canvas.setFont(_PLAIN, 7.5)
        canvas.setFillColor(_MUTED)
        canvas.drawString(_MARGIN + 6, 9 * mm, self._text[:100])
        canvas.drawRightString(A4[0] - _MARGIN - 6, 9 * mm, f"page {paper.page}")
        canvas.restoreState()


@cache
def _fonts() -> None:
    """Fonts with Greek letters, which matplotlib brings."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name, file in ((_PLAIN, "DejaVuSans.ttf"), (_BOLD, "DejaVuSans-Bold.ttf")):
        pdfmetrics.registerFont(TTFont(name, str(folder / file)))


def _style(size: float, **how: Any) -> ParagraphStyle:
    told = {"fontName": _PLAIN, "textColor": _INK, "leading": size * 1.38, "splitLongWords": 1, **how}
    return ParagraphStyle("", fontSize=size, **told)


def _words(text: str, size: float = 9, **how: Any) -> Paragraph:
    return Paragraph(escape(text), _style(size, **how))


def _head(story: Story) -> Iterator[Flowable]:
    yield _words("Release check", 8.5, textColor=_MUTED)
    yield _words(story.title, 19, fontName=_BOLD, spaceAfter=3)
    yield _words(story.subtitle, 9.5, spaceAfter=7)
    white = {"textColor": colors.white}
    banner = [[_words(story.word, 15, fontName=_BOLD, **white), _words(story.line, 10, **white)]]
    yield _banner(banner, [52 * mm, _WIDTH - 52 * mm], _SAID[story.verdict])
    if not story.private:
        alarm = "NOT PRIVATE: trained without differential privacy. Fit for public data alone."
        yield Spacer(0, 5)
        yield _banner([[_words(alarm, 10, fontName=_BOLD, **white)]], [_WIDTH], _SAID["fail"])
    yield Spacer(0, 8)
    values = [_words(value, 12.5 if len(value) <= 14 else 9, fontName=_BOLD) for value, _ in story.facts]
    names = [_words(name, 7.5, textColor=_MUTED) for _, name in story.facts]
    facts = Table([values, names], colWidths=[_WIDTH / len(values)] * len(values))
    lines = [("LINEBEFORE", (0, 0), (0, -1), 1.5, _LINE)]
    lines += [("LINEBEFORE", (column, 0), (column, -1), 1.5, _LINE) for column in range(1, len(values))]
    facts.setStyle(TableStyle([*lines, *_padded(7, 1), ("VALIGN", (0, 0), (-1, -1), "TOP")]))
    yield facts
    yield Spacer(0, 4)


def _banner(rows: list[list[Flowable]], widths: list[float], colour: colors.Color) -> Table:
    made = Table(rows, colWidths=widths)
    made.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), colour),
                ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                ("ROUNDEDCORNERS", [5, 5, 5, 5]),
                *_padded(10, 8),
            ]
        )
    )
    return made


def _padded(across: float, along: float) -> list[tuple[Any, ...]]:
    whole = ((0, 0), (-1, -1))
    sides = {"LEFTPADDING": across, "RIGHTPADDING": across, "TOPPADDING": along, "BOTTOMPADDING": along}
    return [(name, *whole, value) for name, value in sides.items()]


def _body(story: Story, pictures: Mapping[str, bytes]) -> Iterator[Flowable]:
    for section in story.sections:
        yield Spacer(0, 9)
        title = _words(section.title, 12.5, fontName=_BOLD, spaceAfter=3)
        text = [_words(line, spaceAfter=3) for line in section.text]
        shown = [_picture(pictures[picture.name], picture.width) for picture in section.pictures]
        notes = [_words(note, 8, textColor=_MUTED, spaceBefore=3) for note in section.notes]
        if section.table is None:
            yield KeepTogether([title, *text, *shown, *notes])
            continue
        yield CondPageBreak(38 * mm)
        yield KeepTogether([title, *text])
        yield _table(section.table)
        yield KeepTogether([Spacer(0, 4), *shown, *notes])
    yield Spacer(0, 10)
    yield _words(story.foot, 7.5, textColor=_MUTED)


def _picture(body: bytes, width: float) -> Image:
    """A PNG at a share of the width, but no taller than most of a page."""
    wide, tall = Pillow.open(BytesIO(body)).size
    across = min(width * _WIDTH, _TALLEST * wide / tall)
    return Image(BytesIO(body), width=across, height=across * tall / wide)


def _table(table: content.Table) -> Table:
    head = [[_cell(cell, number, table, True) for number, cell in enumerate(table.head)]]
    rows = [[_cell(cell, number, table, False) for number, cell in enumerate(row)] for row in table.rows]
    named = any(table.head)
    made = Table((head if named else []) + rows, colWidths=_widths(table), repeatRows=int(named))
    style = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, _LINE),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        *_padded(4, 2.5),
    ]
    if named:
        style.append(("BACKGROUND", (0, 0), (-1, 0), _HEAD))
    made.setStyle(TableStyle(style))
    return made


def _cell(text: str, number: int, table: content.Table, head: bool) -> Paragraph:
    how: dict[str, Any] = {"alignment": TA_RIGHT} if number >= table.right else {}
    if head:
        return _words(text, 7.8, fontName=_BOLD, **how)
    if number == len(table.head) - 1 and text in _SAID:
        bold = _PLAIN if text.startswith("not") else _BOLD
        return _words(text, 8, textColor=_SAID[text], fontName=bold, **how)
    return _words(text, 8, **how)


def _widths(table: content.Table) -> list[float]:
    """Columns by their longest cell, each as wide as its longest word where that is not too long."""
    columns = [list(column) for column in zip(table.head, *table.rows, strict=True)]
    words = [max(len(word) for cell in column for word in [*cell.split(), ""]) for column in columns]
    least = [_PADDING + _LETTER * min(word, _LONG_WORD) for word in words]
    wanted = [min(max(map(len, column)), _LONG_CELL) for column in columns]
    left = _WIDTH - sum(least)
    return [low + left * part / sum(wanted) for low, part in zip(least, wanted, strict=True)]
