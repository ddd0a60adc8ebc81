"""The node's command lines, environment and files."""

import os
from pathlib import Path

import pytest
import tomli_w
from flwr.common.config import parse_config_args

from client.node import NodeSettings, node_commands, node_environment
from client.node_folder import Account, Handover, hand_over, make_home, read_handover
from medgan_core.errors import InputError


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    (tmp_path / "ca.crt").write_text("certificate")
    (tmp_path / "key").write_text("key")
    folder = tmp_path / 'a "strange" name'
    return NodeSettings(
        "north",
        "medgan.example.org:443",
        tmp_path / "ca.crt",
        tmp_path / "key",
        folder / "s",
        tmp_path / "home",
    )


def changed(settings: NodeSettings, **changes: object) -> NodeSettings:
    return NodeSettings(**(settings.__dict__ | changes))


def test_the_two_share_a_port_on_loopback_and_a_secret_that_is_new_each_time(settings: NodeSettings) -> None:
    node, superexec = ([*command.argv()] for command in node_commands(settings))
    port = node[node.index("--port") + 1]
    assert node[node.index("--host") + 1] == "127.0.0.1"
    assert f"127.0.0.1:{port}" in superexec
    secret = Path(node[node.index("--superexec-auth-secret-file") + 1])
    assert str(secret) in superexec
    before = secret.read_bytes()
    assert secret.stat().st_mode & 0o777 == 0o600
    node_commands(settings)
    assert secret.read_bytes() != before


def test_it_always_speaks_tls_with_the_site_s_own_key(settings: NodeSettings) -> None:
    argv = [*node_commands(settings)[0].argv()]
    assert "--insecure" not in argv
    assert argv[argv.index("--root-certificates") + 1] == str(settings.root_certificates)
    assert argv[argv.index("--auth-supernode-private-key") + 1] == str(settings.key)
    assert argv[argv.index("--superlink") + 1] == "medgan.example.org:443"


def test_flower_reads_the_node_s_facts_whatever_the_path_looks_like(settings: NodeSettings) -> None:
    argv = [*node_commands(settings)[0].argv()]
    facts = parse_config_args([argv[argv.index("--node-config") + 1]])
    assert facts == {"site": "north", "socket": str(settings.socket), "deadline": 24 * 3600.0}
    assert tomli_w.dumps(facts)


def test_the_environment_is_made_from_nothing(
    settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    environment = node_environment(settings)
    assert "hush" not in str(environment)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["FLWR_HOME"].startswith(str(settings.home))
    assert "HTTPS_PROXY" not in environment


def test_a_proxy_is_for_the_coordinator_alone(settings: NodeSettings) -> None:
    environment = node_environment(changed(settings, proxy="http://proxy:3128"))
    assert environment["HTTPS_PROXY"] == "http://proxy:3128"
    assert "HTTP_PROXY" not in environment
    assert environment["NO_PROXY"] == "127.0.0.1,localhost"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"superlink": ""}, "coordinator address = '': expected host:port"),
        ({"superlink": "https://x"}, "expected host:port"),
        ({"key": Path("/nowhere/key")}, "the node's key key is missing"),
        ({"root_certificates": Path("/nowhere/ca")}, "the node's CA certificate ca is missing"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    settings: NodeSettings, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        node_commands(changed(settings, **changes))


def handover(settings: NodeSettings) -> Handover:
    return Handover(
        settings.site, settings.superlink, settings.root_certificates, settings.key, settings.socket, "", 9465
    )


def test_what_is_handed_over_is_what_the_node_reads(settings: NodeSettings, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    hand_over(folder, handover(settings), None)
    hand_over(folder, handover(settings), None)  # again, at the next start
    read, port = read_handover(folder, settings.home)
    assert port == 9465
    assert (read.site, read.superlink, read.socket) == ("north", settings.superlink, settings.socket)
    assert read.key.read_text() == "key"
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_group_may_read_what_is_handed_over_and_no_more(settings: NodeSettings, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    hand_over(folder, handover(settings), Account(os.getuid(), (os.getgid(),)))
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}
    assert folder.stat().st_mode & 0o777 == 0o750


def test_a_node_without_a_handover_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="start the trainer first"):
        read_handover(tmp_path / "node", tmp_path)


def test_what_cannot_be_copied_is_named(settings: NodeSettings, tmp_path: Path) -> None:
    settings.root_certificates.unlink()
    with pytest.raises(InputError, match=r"the coordinator's CA certificate ca\.crt: No such file"):
        hand_over(tmp_path / "node", handover(settings), None)


def test_a_home_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "target")
    with pytest.raises(InputError, match="home is no folder"):
        make_home(tmp_path / "home", Account(12345, (12345,)))
    assert (tmp_path / "target").stat().st_uid == os.getuid()
