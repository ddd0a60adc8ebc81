"""A real SuperLink with TLS and node authentication, and what a node needs to reach it."""

import datetime
import ipaddress
import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client.node import free_port
from tests.scenarios.federating import ROOT

FAR_NAME = "coordinator.test"
"""A name of the coordinator that no resolver knows: only a proxy may."""


def wait_for(condition: Callable[[], object], seconds: float = 120.0, pause: float = 0.1) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(pause)


class SuperLink:
    """Started, killed and started again on the same port and state."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        make_certificates(folder)
        home = folder / "flwr"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{self.address}"\n'
            f'root-certificates = "{folder / "ca.crt"}"\n'
        )
        self.environment = {
            "PATH": f"{sysconfig.get_path('scripts')}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "FLWR_HOME": str(home),
            "HOME": str(folder),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [
            *("flower-superlink", "--ssl-ca-certfile", "ca.crt"),
            *("--ssl-certfile", "server.pem", "--ssl-keyfile", "server.key", "--enable-supernode-auth"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--database", "state.db"),
            "--disable-runtime-dependency-installation",
        ]
        with (self.folder / "superlink.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(lambda: b"Uvicorn running" in (self.folder / "superlink.log").read_bytes().split(b"\0")[-1])

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            with (self.folder / "superlink.log").open("ab") as log:
                log.write(b"\0")
            self.process = None

    def flwr(self, *arguments: str) -> str:
        code = "from flwr.cli.app import app; app()"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode()

    def register(self, public_key: Path, name: str) -> None:
        self.flwr("supernode", "register", str(public_key), "here", "--name", name)

    def online(self) -> int:
        nodes = json.loads(self.flwr("supernode", "list", "here", "--format", "json"))["nodes"]
        return sum(node["status"] == "online" for node in nodes)


def make_node_key(path: Path) -> Path:
    """A node's key pair; returns the public key's file."""
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    public = path.with_suffix(".pub")
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return public


def make_certificates(folder: Path) -> None:
    """ca.crt, server.pem and server.key for localhost, good for a day."""
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _name("test CA")
    ca = _builder(root, root, authority).add_extension(x509.BasicConstraints(True, None), critical=True)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.DNSName(FAR_NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    mine = _builder(_name("localhost"), root, server).add_extension(names, critical=False)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    mine = mine.add_extension(usage, critical=False)
    (folder / "ca.crt").write_bytes(ca.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "server.pem").write_bytes(mine.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    private = server.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "server.key").write_bytes(private)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    return builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
