"""MedGAN: hospitals that may not share images train one private generator together.

Everything below is loaded on first use, so that a thin client loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgan_core.config import Study, load_study, parse_study
    from medgan_core.errors import MedGANError
    from medgan_core.messages import Event, Phase, Receipt, Request, Update
    from medgan_core.privacy.accounting import epsilon
    from medgan_core.privacy.ledger import LedgerPolicy, PrivacyLedger
    from medgan_core.privacy.plan import PrivacyPlan
    from medgan_core.release.bundle import Release
    from medgan_core.release.verify import verify_release

_HOMES = {
    "Event": "messages",
    "LedgerPolicy": "privacy.ledger",
    "MedGANError": "errors",
    "Phase": "messages",
    "PrivacyLedger": "privacy.ledger",
    "PrivacyPlan": "privacy.plan",
    "Receipt": "messages",
    "Release": "release.bundle",
    "Request": "messages",
    "Study": "config",
    "Update": "messages",
    "epsilon": "privacy.accounting",
    "load_study": "config",
    "parse_study": "config",
    "verify_release": "release.verify",
}

__all__ = [
    "Event",
    "LedgerPolicy",
    "MedGANError",
    "Phase",
    "PrivacyLedger",
    "PrivacyPlan",
    "Receipt",
    "Release",
    "Request",
    "Study",
    "Update",
    "epsilon",
    "load_study",
    "parse_study",
    "verify_release",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
