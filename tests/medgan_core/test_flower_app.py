"""The app that a coordinator starts: small, without code of its own, and taken by Flower."""

import subprocess
import sys
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.common.config import get_fab_config, get_metadata_from_config

from medgan_core.flower_app import APP_NAME, renew_app, write_app

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # of Flower's build


def test_flower_makes_a_bundle_of_a_few_kilobytes(tmp_path: Path) -> None:
    write_app(tmp_path / "app")
    bundle = build_fab_from_disk(tmp_path / "app")
    assert len(bundle) < 4096
    config = get_fab_config(bundle)
    assert get_metadata_from_config(config) == (f"medgan/{APP_NAME}", "1.0.0")
    app = config["tool"]["flwr"]["app"]
    assert app["config"] == {"run": ""}
    assert app["components"] == {
        "serverapp": "medgan_server_app:app",
        "clientapp": "medgan_client_app:app",
    }


def test_the_command_of_flower_takes_it(tmp_path: Path) -> None:
    write_app(tmp_path / "app")
    code = "from flwr.cli.app import app; app(['build', '--app', 'app'])"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    [bundle] = tmp_path.glob("*.fab")
    assert bundle.stat().st_size < 4096


def test_written_again_it_is_the_same(tmp_path: Path) -> None:
    write_app(tmp_path / "app")
    before = build_fab_from_disk(tmp_path / "app")
    write_app(tmp_path / "app")
    assert build_fab_from_disk(tmp_path / "app") == before


def test_an_app_of_another_version_is_written_anew_and_this_one_s_is_left(tmp_path: Path) -> None:
    assert renew_app(tmp_path)
    assert not renew_app(tmp_path)
    component = tmp_path / "medgan_client_app.py"
    component.write_text("old")
    assert not renew_app(tmp_path)
    project = tmp_path / "pyproject.toml"
    fresh = project.read_text()
    for old in (fresh.replace('made = "', 'made = "0'), "[tool", "", 'tool = "none"'):
        component.write_text("old")
        project.write_text(old)
        assert renew_app(tmp_path)
        assert "client.node_app" in component.read_text()
        assert project.read_text() == fresh


def test_the_site_s_side_is_what_the_site_has_installed(tmp_path: Path) -> None:
    write_app(tmp_path)
    code = "import sys; sys.path.append(sys.argv[1]); from medgan_client_app import app; print(type(app))"
    argv = [sys.executable, "-c", code, str(tmp_path)]
    assert "ClientApp" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout
