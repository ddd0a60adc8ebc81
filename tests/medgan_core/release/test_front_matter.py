import re
from pathlib import Path

import pytest

from medgan_core.release.bundle import Release
from medgan_core.release.front_matter import front_matter
from tests.medgan_core.release.making import build

yaml = pytest.importorskip("yaml", reason="PyYAML, which MONAI may bring, is not installed")
# How huggingface_hub finds the block: repocard.py, REGEX_YAML_BLOCK.
BLOCK = re.compile(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))")


def read(text: str) -> dict[str, object]:
    found = BLOCK.search(text)
    assert found is not None
    body: dict[str, object] = yaml.safe_load(found.group(2))
    return body


def test_card_md_is_a_model_card(folder: Path) -> None:
    told = read((folder / "card.md").read_text(encoding="utf-8"))
    assert told["license"] == "unknown"
    assert told["library_name"] == "medgan-federated"
    assert told["pipeline_tag"] == "unconditional-image-generation"
    assert {"medical", "differential-privacy", "not-for-diagnosis", "modality:DX"} <= set(told["tags"])  # type: ignore[call-overload]


def test_without_privacy_it_has_another_tag(public_folder: Path) -> None:
    tags = read(front_matter(Release.open(public_folder).card))["tags"]
    assert "not-private" in tags  # type: ignore[operator]
    assert "differential-privacy" not in tags  # type: ignore[operator]


@pytest.mark.parametrize("name", ["yes", "1.0", "a.b-c"])
def test_names_that_yaml_would_take_for_something_else_stay_text(release: Release, name: str) -> None:
    card = release.card.model_copy(update={"study": name, "licence": name})
    told = read(front_matter(card))
    assert told["license"] == name
    assert f"study:{name}" in told["tags"]  # type: ignore[operator]


def test_the_licence_of_the_study(tmp_path: Path) -> None:
    card = build(tmp_path / "r", {"release.licence": "cc-by-nc-4.0"}).card
    assert read(front_matter(card))["license"] == "cc-by-nc-4.0"
