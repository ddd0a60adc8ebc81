"""Flower's SuperNode as a process that ends when it cannot go on, and takes the place of one that was killed.

Flower 1.41's own command stays up, deaf, when its main loop or its heartbeat fails: its HTTP server runs in a
thread that outlives them. Here any of these ends the process, so that the supervisor starts a new one. And
after a kill the coordinator counts the dead process for up to a minute more, in which a new one is refused:
so a new one first takes its predecessor off the coordinator's list, with the node's own key.
"""

import argparse
import logging
import os
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

_THREAD_FAILED = 71
_SAID = "SuperNode ID: %s"


def main() -> None:
    """`flower-supernode` with this process's arguments; does not return. Writes to the folder it runs in."""
    from flwr.supernode.cli.flower_supernode import flower_supernode

    remembered = Path("node-id")
    threading.excepthook = _end
    code = 1
    try:
        _forget_predecessor(remembered)
        logging.getLogger("flwr").addHandler(_Remember(remembered))
        flower_supernode()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code == 0:
            remembered.unlink(missing_ok=True)  # it has taken its leave itself
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Remember(logging.Handler):
    """Writes down the number that the coordinator gave this node, which Flower only logs."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == _SAID and isinstance(record.args, tuple):
            self._path.write_text(str(record.args[0]))


def _forget_predecessor(remembered: Path) -> None:
    """Tell the coordinator that the last process is gone. If that fails, the wait is longer: that is all."""
    if not remembered.exists():
        return
    with suppress(Exception):
        _deactivate(int(remembered.read_text()))
    remembered.unlink()


def _deactivate(node_id: int) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest
    from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    parser = argparse.ArgumentParser()
    for name in ("--superlink", "--root-certificates", "--auth-supernode-private-key"):
        parser.add_argument(name)
    known = parser.parse_known_args()[0]
    key = load_ssh_private_key(Path(known.auth_supernode_private_key).read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return
    interceptors = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(key, key.public_key()),
    ]
    with FleetHttpClient.from_server_address(
        known.superlink, False, known.root_certificates, interceptors=interceptors
    ) as client:
        client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))


def _end(failed: threading.ExceptHookArgs) -> None:
    threading.__excepthook__(failed)
    sys.stderr.flush()
    os._exit(_THREAD_FAILED)


if __name__ == "__main__":
    main()
