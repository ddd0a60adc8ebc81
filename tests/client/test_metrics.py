"""The local page: what it counts, that only this machine sees it, and that it is off without a port."""

import socket
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from client.channel import Heard
from client.metrics import NodeMetrics, Page, TrainerMetrics
from client.node import free_port
from medgan_core.errors import InputError


def read(port: int, host: str = "127.0.0.1") -> str:
    with urlopen(f"http://{host}:{port}/metrics", timeout=5) as page:
        return str(page.read().decode())


def test_rounds_refusals_bytes_and_epsilon_are_on_the_page() -> None:
    port = free_port()
    with Page(port) as page:
        metrics = TrainerMetrics(page.registry, cap=10.0)
        metrics.heard(Heard("r", "train", 100, 2000, 3.5, False))
        metrics.heard(Heard("r", "train", 100, 50, 0.0, True))
        metrics.heard(Heard("r", "proposal", 10, 20, 0.1, False))
        metrics.spent("training", 2.5)
        NodeMetrics(page.registry).ended("node", 1, 2.0)
        text = read(port)
    for line in (
        'medgan_rounds_answered_total{phase="train"} 1.0',
        "medgan_refusals_total 1.0",
        "medgan_bytes_came_total 210.0",
        "medgan_bytes_left_total 2070.0",
        'medgan_round_seconds_sum{phase="train"} 3.5',
        'medgan_epsilon_spent{account="training"} 2.5',
        'medgan_epsilon_left{account="training"} 7.5',
        'medgan_node_restarts_total{process="node"} 1.0',
    ):
        assert line in text.splitlines()


def test_the_page_is_on_loopback_alone_and_goes_with_the_trainer() -> None:
    port = free_port()
    with Page(port), socket.socket() as other:
        other.bind(("127.0.0.2", port))  # free: the page is not on all addresses
    with pytest.raises(URLError):
        read(port)


def test_without_a_port_nothing_is_served() -> None:
    with Page(0) as page:
        TrainerMetrics(page.registry, 1.0)


def test_a_port_in_use_is_named() -> None:
    port = free_port()
    with (
        Page(port),
        pytest.raises(InputError, match=f"metrics.port = {port}: Address already in use"),
        Page(port),
    ):
        pass
