"""What `medgan-client run` puts together; the processes themselves are in tests/scenarios."""

import os
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from client import daemon
from client.channel import Channel
from client.metrics import TrainerMetrics
from client.node_folder import Account
from medgan_core.envelope import Answered, Asked, answer_from_envelope, asked_to_envelope
from medgan_core.errors import BudgetError, ConfigError, InputError
from medgan_core.memory import SETTINGS, keeping_freed_memory
from medgan_core.messages import Event, Phase, Receipt, Request, Update
from medgan_core.proposals import Farewell, Standing
from tests.client.sites import make_site

REQUEST = Request("run", 1, Phase.TRAIN, "plan")


class StandIn:
    """Answers like a trainer: an update for a request, a standing for a farewell, no budget for round 9."""

    site = "north"

    def handle(self, asked: Asked) -> Answered:
        if not isinstance(asked, Request):
            return Standing("north", "digest", "approved")
        if asked.round == 9:
            raise BudgetError("secret")
        event = Event(1, 1, 1)
        receipt = Receipt(
            "north", "l", asked.run, asked.round, asked.phase, "d", "training", event, 2.5, 1e-5, 1, "h"
        )
        return Update("north", asked.round, asked.phase, {}, {}, receipt)

    def close(self) -> None:
        pass


def test_questions_reach_the_trainer_and_are_counted_until_the_stop(tmp_path: Path) -> None:
    registry, stop, ended = CollectorRegistry(), threading.Event(), list[bool]()
    metrics = TrainerMetrics(registry, cap=10.0)
    place = tmp_path / "socket" / "s"
    thread = threading.Thread(
        target=lambda: ended.append(daemon.answer_until(stop, StandIn(), place, None, metrics))
    )
    thread.start()
    channel = Channel(place)
    update = answer_from_envelope(channel.ask(asked_to_envelope(REQUEST), 5, patience=5))
    assert isinstance(update, Update)
    assert isinstance(
        answer_from_envelope(channel.ask(asked_to_envelope(Farewell("run", "finished")), 5)), Standing
    )
    refused = channel.ask(asked_to_envelope(Request("run", 9, Phase.TRAIN, "plan")), 5)
    assert answer_from_envelope(refused) == ("north", "not approved")
    stop.set()
    thread.join()
    assert ended == [True]
    assert not place.exists()
    assert registry.get_sample_value("medgan_rounds_answered_total", {"phase": "train"}) == 1
    assert registry.get_sample_value("medgan_refusals_total") == 1
    assert registry.get_sample_value("medgan_epsilon_left", {"account": "training"}) == 7.5


def test_the_node_child_has_its_user_and_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACS_PASSWORD", "hush")
    account = Account(65534, (65534,))
    trainer, node = daemon.site_commands(tmp_path, tmp_path / "home", tmp_path / "logs", account, "nobody")
    assert (trainer.user, node.user, node.groups) == (None, 65534, (65534,))
    assert trainer.env["PACS_PASSWORD"] == "hush"
    assert dict(trainer.env) == keeping_freed_memory(os.environ) | {"PYTHONPATH": trainer.env["PYTHONPATH"]}
    assert not SETTINGS.keys() & node.env.keys()  # it trains nothing
    assert "hush" not in str(node.env)
    assert [*trainer.argv()][-4:] == ["--only", "trainer", "--node-user", "nobody"]
    assert [*node.argv()][-4:] == ["--only", "node", "--node-home", str(tmp_path / "home")]
    assert not str(node.log).startswith(
        str(tmp_path / "home")
    )  # root writes nothing where the node's user may


def test_a_part_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--only node-a: expected trainer or node"):
        daemon.run_command(tmp_path, "node-a")


def test_a_folder_that_is_no_site_is_refused(tmp_path: Path) -> None:
    for part in (None, "trainer"):
        with pytest.raises(InputError, match=r"no site\.toml"):
            daemon.run_command(tmp_path, part)


@pytest.mark.parametrize("part", [None, "trainer"])
def test_a_folder_that_lies_too_deep_for_a_socket_is_refused_at_once(
    tmp_path: Path, part: str | None
) -> None:
    folder = make_site(tmp_path / ("d" * 100) / "site")
    with pytest.raises(ConfigError, match="at most 107 bytes: move the site's folder"):
        daemon.run_command(folder.path, part)
    assert not (folder.path / "node").exists()


def test_a_node_before_its_trainer_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="start the trainer first"):
        daemon.run_command(tmp_path, "node")


def test_help_needs_no_heavy_import() -> None:
    import typer

    app = typer.Typer()
    app.command()(daemon.run_command)
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert "--node-user" in shown.stdout
