"""A whole federation on one machine: the same functions as over a network. Loaded on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulations.course import resume_run, run_study
    from simulations.shipped import study_path

_HOMES = {"resume_run": "course", "run_study": "course", "study_path": "shipped"}

__all__ = ["resume_run", "run_study", "study_path"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
