import pytest

from medgan_core.evaluate import utility


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty steps are enough for ellipses, and ten times faster."""
    monkeypatch.setattr(utility, "MINIMUM_STEPS", 30)
