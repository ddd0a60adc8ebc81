"""An outbound HTTP proxy as hospitals have one: it tunnels (CONNECT) to the hosts that it knows alone."""

import select
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress


class Proxy(socketserver.ThreadingTCPServer):
    """`hosts` maps "name:port" to a port of this machine; `asked` is every target that was asked for."""

    daemon_threads = True

    def __init__(self, hosts: Mapping[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.hosts = hosts
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        method, target, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(target)
        port = self.server.hosts.get(target)
        if method != "CONNECT" or port is None:
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", port)) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _both_ways(self.connection, there)


def _both_ways(here: socket.socket, there: socket.socket) -> None:
    other = {here: there, there: here}
    with suppress(ConnectionError):
        while True:
            for ready in select.select([here, there], [], [])[0]:
                if not (part := ready.recv(65536)):
                    return
                other[ready].sendall(part)


@contextmanager
def proxy(hosts: Mapping[str, int]) -> Iterator[Proxy]:
    with Proxy(hosts) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()
