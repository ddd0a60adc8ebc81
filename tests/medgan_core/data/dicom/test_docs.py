"""docs/dicom.md says what the code does: reasons, windows and settings."""

import re

from client.site_file import DataSection
from medgan_core.data.dicom.reasons import REFUSED, REPAIRED
from medgan_core.data.dicom.windows import CT_WINDOWS
from medgan_core.sections import ReadingConfig
from tests.medgan_core.data.making import REPOSITORY

PAGE = (REPOSITORY / "docs" / "dicom.md").read_text(encoding="utf-8")


def test_every_reason_is_in_its_table() -> None:
    listed = {
        (code, words, rows.strip())
        for code, words, rows in re.findall(r"\| `(\w+)` \| (.*?) \|(.*?)\|\n", PAGE)
    }
    for reasons in (REFUSED, REPAIRED):
        for code, (words, rows) in reasons.items():
            assert (str(code), words, ", ".join(map(str, rows))) in listed


def test_every_window_and_setting_is_named_with_its_default() -> None:
    assert all(f"`{name}`" in PAGE for name in CT_WINDOWS)
    own = {name: DataSection.model_fields[name] for name in ("text_check", "cache", "cache_key")}
    for name, field in (ReadingConfig.model_fields | own).items():
        default = str(field.default).lower() if not isinstance(field.default, str) else f'"{field.default}"'
        assert f"| `{name}` | `{default}` |" in PAGE, name
