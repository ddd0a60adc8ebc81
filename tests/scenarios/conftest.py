"""What several scenarios begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.superlink import SuperLink


@pytest.fixture
def link(tmp_path: Path) -> Iterator[SuperLink]:
    link = SuperLink(tmp_path / "coordinator")
    link.start()
    yield link
    link.kill()
