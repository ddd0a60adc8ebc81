"""What `medgan-client run` does: a trainer with the data and a node with the network, as two processes.

Alone it keeps both alive, the node as another OS user where one is named. The systemd units run each part by
itself, with `--only`, and systemd keeps them alive.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import typer

from client.apart import check_apart
from client.node import node_commands
from client.node_folder import Account, Handover, hand_over, make_home, read_handover
from client.reception import check_place
from medgan_core.envelope import Answered, Asked, Envelope, answer_to_envelope, asked_from_envelope
from medgan_core.errors import InputError
from medgan_core.memory import keeping_freed_memory
from medgan_core.supervision import Backoff, Command, Supervisor, stopped_by_signals
from medgan_core.terminal import run as run_terminal

if TYPE_CHECKING:
    from client.folder import SiteFolder
    from client.metrics import TrainerMetrics

Part = Literal["trainer", "node"]

_GRACE = 20.0
_HERE = Path()
_log = logging.getLogger("medgan.daemon")


class Handling(Protocol):
    """What answers a site's questions: `client.trainer.Trainer`."""

    site: str

    def handle(self, asked: Asked) -> Answered:
        """The answer, or a MedGANError."""

    def close(self) -> None:
        """Free what is held."""


def run(
    site_dir: Path, only: Part | None = None, node_user: str | None = None, node_home: Path | None = None
) -> None:
    """Run a site, or one part of it, until SIGTERM or Ctrl-C.

    `node_user` names the OS user of the node, over site.toml's own; `node_home` is the folder that the node
    writes to, node-home in the site's folder unless told otherwise. Raises InputError for what a person can
    mend, and RefusedError where the node's user could read what it must not.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    home = (node_home or site_dir / "node-home").absolute()
    if only == "node":
        run_node(site_dir, home)
    elif only == "trainer":
        _run_trainer(site_dir, node_user)
    else:
        _run_both(site_dir, node_user, home)


def run_node(site_dir: Path, home: Path) -> None:
    """The node alone, as the user of this process; it reads nothing of the site but its folder node/."""
    from client.metrics import NodeMetrics, Page

    settings, port = read_handover(site_dir.absolute() / "node", home)
    make_home(home, None)
    with Page(port) as page:
        supervisor = Supervisor(node_commands(settings), NodeMetrics(page.registry).ended)
        with stopped_by_signals(supervisor.stop):
            supervisor.run()


def answer_until(
    stop: threading.Event,
    trainer: Handling,
    socket: Path,
    group: int | None = None,
    metrics: "TrainerMetrics | None" = None,
) -> bool:
    """Serve a trainer's answers at the socket until `stop` is set; whether all work had ended by then."""
    from client.channel import serve

    handler = answering(trainer, metrics.answered if metrics else None)
    server = serve(handler, socket, trainer.site, group, heard=metrics.heard if metrics else None)
    _log.info("%s: the trainer is listening", trainer.site)
    stop.wait()
    return server.stop(_GRACE)


def answering(
    trainer: Handling, told: Callable[[Answered], None] | None = None
) -> Callable[[Envelope], Envelope]:
    """A trainer's `handle` for envelopes; `told` hears of every answer that is no refusal."""

    def handler(envelope: Envelope) -> Envelope:
        answer = trainer.handle(asked_from_envelope(envelope))
        if told is not None:
            told(answer)
        return answer_to_envelope(answer)

    return handler


def _run_trainer(site_dir: Path, node_user: str | None) -> None:
    from client.folder import SiteFolder
    from client.metrics import Page, TrainerMetrics
    from client.trainer import Trainer

    folder = SiteFolder.open(site_dir)
    check_place(folder.socket.absolute())
    config = folder.config()
    account = _account(folder, node_user)
    _hand_over(folder, account)
    stop = threading.Event()
    with stopped_by_signals(stop.set), Page(config.metrics.port) as page:
        trainer = Trainer.open(folder)
        try:
            metrics = TrainerMetrics(page.registry, trainer.ledger.policy.epsilon_cap)
            spent = (trainer.ledger.spent(account) for account in trainer.ledger.accounts())
            metrics.spent("largest", max(spent, default=0.0))
            group = account.groups[0] if account else None
            done = answer_until(stop, trainer, folder.socket.absolute(), group, metrics)
        finally:
            trainer.close()
    if not done:  # a round in work: it is charged and not sealed, and done again at the next start
        logging.shutdown()
        os._exit(0)


def _run_both(site_dir: Path, node_user: str | None, home: Path) -> None:
    from client.folder import SiteFolder

    folder = SiteFolder.open(site_dir)
    check_place(folder.socket.absolute())
    _check_device(folder)
    account = _account(folder, node_user)
    if account is None:
        _log.warning("the node runs as the trainer's own user, and could read its data: give --node-user")
    elif os.geteuid() != 0:
        raise InputError("--node-user needs root to become that user: run as root, or use the systemd units")
    else:
        check_apart(account, private_paths(folder))
    _hand_over(folder, account)
    make_home(home, account)
    logs = site_dir.absolute() / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    supervisor = Supervisor(site_commands(site_dir.absolute(), home, logs, account, node_user))
    with stopped_by_signals(supervisor.stop):
        supervisor.run()


def _check_device(folder: "SiteFolder") -> None:
    """Refuse a GPU that is not there to the person who starts the site, not only in the trainer's log."""
    asked = folder.config().trainer.device
    if asked.startswith("cuda"):  # else torch need not be loaded here
        from client.site_file import TRAINER_DEVICE
        from medgan_core.device import choose

        choose(asked, TRAINER_DEVICE)


def site_commands(
    site_dir: Path, home: Path, logs: Path, account: Account | None, node_user: str | None
) -> tuple[Command, Command]:
    """Trainer and node as children: the one with this process's environment, the other with a clean one."""
    import client

    code = str(Path(client.__file__).resolve().parents[1])
    start = [sys.executable, "-P", "-m", "client.daemon", "--site", str(site_dir), "--only"]
    named = ["--node-user", node_user] if node_user else []
    clean = {"PYTHONPATH": code, "PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(home)}
    clean |= {"PYTHONDONTWRITEBYTECODE": "1"}
    trainer = Command(
        "trainer",
        lambda: [*start, "trainer", *named],
        keeping_freed_memory(os.environ) | {"PYTHONPATH": code},
        logs / "trainer.log",
        grace=_GRACE + 10,
        backoff=Backoff(first=1.0, most=30.0),
    )
    node = Command(
        "node",
        lambda: [*start, "node", "--node-home", str(home)],
        clean,
        logs / "node.log",
        folder=home,
        user=account.user if account else None,
        groups=account.groups if account else (),
        grace=_GRACE,
        backoff=Backoff(first=1.0, most=15.0),
    )
    return trainer, node


def private_paths(folder: "SiteFolder") -> list[Path]:
    """What a node's user must be able neither to read nor to write, as far as it is there."""
    data, source = folder.config().data, folder.config().source
    tables = [table.partition(":")[0] for table in (data.patients, data.labels) if table]
    tables += [name for name in (source.credentials, source.key, source.label.file) if name]
    wanted = [folder.site_file, folder.signing_key, folder.node_key, folder.ledger, folder.ledger_key]
    wanted += [folder.ledger.parent, folder.studies, folder.runs, folder.log, folder.pulled]
    wanted += [folder.path / name for name in (data.path, *tables)]
    return [path for path in wanted if path.exists()]


def _account(folder: "SiteFolder", node_user: str | None) -> Account | None:
    name = node_user or folder.config().node.user
    return Account.named(name) if name else None


def _hand_over(folder: "SiteFolder", account: Account | None) -> None:
    config = folder.config()
    handover = Handover(
        config.name,
        config.coordinator.address,
        folder.path / config.coordinator.root_certificates,
        folder.node_key,
        folder.socket,
        config.coordinator.proxy,
        config.metrics.port + 1 if config.metrics.port else 0,
    )
    hand_over(folder.path.absolute() / "node", handover, account)


def run_command(
    site: Annotated[  # the node's user may pass through the folder, and not list it
        Path, typer.Option(envvar="MEDGAN_SITE", help="The folder that init made.", readable=False)
    ] = _HERE,
    only: Annotated[
        str | None, typer.Option(metavar="trainer|node", help="One part alone, as the systemd units do.")
    ] = None,
    node_user: Annotated[
        str | None, typer.Option(help="The OS user of the node; needs root, or systemd's units.")
    ] = None,
    node_home: Annotated[
        Path | None,
        typer.Option(
            help="The folder that the node writes to.", show_default="node-home in the site's folder"
        ),
    ] = None,
) -> None:
    """Run the site: the trainer, and the node that speaks with the coordinator."""
    if only not in (None, "trainer", "node"):
        raise InputError(f"--only {only}: expected trainer or node")
    run(site, only, node_user, node_home)  # type: ignore[arg-type]


def main() -> None:
    """The entry of the parts, as the daemon starts them."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(run_command)
    run_terminal(app)


if __name__ == "__main__":
    main()
