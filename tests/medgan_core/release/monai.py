"""MONAI's runner of bundles, as `python -m monai.bundle run` calls it."""

from pathlib import Path

import pytest
from monai.bundle import run


def run_bundle(folder: Path, **settings: object) -> None:
    """Run the inference of a bundle with these settings."""
    with pytest.warns(UserWarning, match="Only proceed if this config is from a source you trust"):
        run(
            config_file=str(folder / "configs" / "inference.json"),
            bundle_root=str(folder),
            workflow_type=None,
            **settings,
        )
