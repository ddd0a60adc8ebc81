"""Two trust levels: what the node's user, and any bundle that runs as it, can and cannot reach."""

import json
import os
import shutil
import socket as sockets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.object_ref import load_app
from flwr.supercore.task_identity import TaskIdentity

from client.apart import check_apart, reachable_by
from client.channel import serve
from client.daemon import private_paths
from client.folder import SiteFolder
from client.node_app import make_node_app
from client.node_folder import Account, Handover, hand_over
from medgan_core.envelope import Envelope
from medgan_core.errors import InputError, RefusedError
from medgan_core.flower_app import write_app
from medgan_core.wire import envelope_from_records, envelope_to_records
from tests.client.sites import make_site, trainer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
NOBODY = "nobody"


@pytest.fixture
def site() -> Iterator[SiteFolder]:
    """A site where any user may pass, so that its own modes are all that keeps others out."""
    top = Path(tempfile.mkdtemp(prefix="medgan-"))
    top.chmod(0o755)
    folder = make_site(top / "site", data__path='"data/images.npz"', data__patients='"data/patients.csv"')
    data = folder.path / "data"
    data.mkdir(mode=0o700)
    for name in ("images.npz", "patients.csv"):
        (folder.path / name).rename(data / name)
        (data / name).chmod(0o600)
    with trainer(folder):
        pass
    (top / "ca.crt").write_text("certificate")
    handover = Handover("site-1", "localhost:1", top / "ca.crt", folder.node_key, folder.socket)
    hand_over(folder.path / "node", handover, Account.named(NOBODY))
    yield folder
    shutil.rmtree(top)


def as_nobody(work: Callable[[], Any]) -> Any:
    """What `work` returns in a process of that user, with all that this process has imported."""
    account = Account.named(NOBODY)
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.setgroups(account.groups)
            os.setgid(account.groups[0])
            os.setuid(account.user)
            os.write(writer, json.dumps(work()).encode())
        except BaseException as error:
            os.write(writer, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        answer = told.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


def test_the_node_s_user_is_refused_data_ledger_and_keys(site: SiteFolder) -> None:
    paths = private_paths(site)
    assert {path.name for path in paths} >= {
        "site.toml",
        "signing.key",
        "node",
        "ledger.sqlite",
        "images.npz",
    }
    assert reachable_by(Account.named(NOBODY), paths) == []
    check_apart(Account.named(NOBODY), paths)


def test_it_is_given_what_it_needs(site: SiteFolder) -> None:
    node = site.path / "node"
    with serve(lambda e: e, site.socket, "site-1", Account.named(NOBODY).groups[0]):
        reached = [node / name for name in ("node.json", "key", "ca.crt")]
        assert reachable_by(Account.named(NOBODY), [*reached, site.socket]) == [*reached, site.socket]
        assert as_nobody(lambda: connects(site.socket)) is True
        assert [path.name for path in reachable_by(Account.named("daemon"), [*reached, site.socket])] == []


def connects(place: Path) -> bool:
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.connect(str(place))
    return True


def test_rights_that_were_given_by_mistake_are_named_before_the_node_starts(site: SiteFolder) -> None:
    (site.path / "data").chmod(0o755)
    (site.path / "data" / "images.npz").chmod(0o644)
    with pytest.raises(RefusedError, match=r"the node's user may read images\.npz: take its rights away"):
        check_apart(Account.named(NOBODY), private_paths(site))


HOSTILE = '''
"""What a hostile coordinator would like the node to run."""
import json, os
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def steal(message, context):
    site = os.path.dirname(os.path.dirname(context.node_config["socket"]))
    found, seen = [], []
    for name in [*json.loads(context.node_config["names"]), f"/proc/{os.getppid()}/mem"]:
        path = os.path.join(site, name)
        try:
            if os.path.isdir(path):
                os.listdir(path)
            else:
                open(path, "rb").read(1)
            found.append(name)
        except OSError:
            pass
        try:
            os.rename(path, path + ".gone")
            found.append(name + " moved")
        except OSError:
            pass
    for name in ("", "socket", "node"):
        try:
            open(os.path.join(site, name, "planted"), "w")
            found.append(name + " written")
        except OSError:
            pass
    return Message(RecordDict({"stolen": ConfigRecord({"names": found})}), reply_to=message)
'''


def test_a_hostile_bundle_gets_nothing_of_the_site(site: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    bundle = site.path.parent / "bundle"
    write_app(bundle)
    (bundle / "medgan_client_app.py").write_text(HOSTILE)
    private = [str(path.relative_to(site.path)) for path in private_paths(site)]
    names = [*private, "data", "", "keys/node.pub", "node/key"]
    facts = {"socket": str(site.socket), "names": json.dumps(names)}
    message = Message(RecordDict(), dst_node_id=5, message_type="train")

    def attack() -> list[str]:
        app = load_app("medgan_client_app:app", RuntimeError, bundle)
        reply = app(message, Context(1, 5, facts, RecordDict(), {}))
        return list(reply.content.config_records["stolen"]["names"])

    with serve(lambda e: e, site.socket, "site-1", Account.named(NOBODY).groups[0]):
        stolen = as_nobody(attack)
    assert stolen == ["keys/node.pub", "node/key"]  # public, and its own; nothing was moved or planted


def test_the_honest_app_answers_as_that_user(site: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    content = envelope_to_records(Envelope({"run": "r"}, {}))
    message = Message(content, dst_node_id=5, message_type="train")
    context = Context(1, 5, {"socket": str(site.socket), "site": "site-1"}, RecordDict(), {})
    group = Account.named(NOBODY).groups[0]

    def ask() -> object:
        return envelope_from_records(make_node_app(0)(message, context).content).head

    with serve(lambda e: Envelope({"seen": e.head["run"]}, {}), site.socket, "site-1", group):
        assert as_nobody(ask) == {"seen": "r"}


def test_users_that_cannot_be_the_node_s_are_refused() -> None:
    with pytest.raises(InputError, match="no such user"):
        Account.named("no-such-user")
    with pytest.raises(InputError, match="and not root"):
        Account.named("root")
