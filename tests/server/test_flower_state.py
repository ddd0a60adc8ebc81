"""Flower's database with Flower's own tables: what is dropped goes, what is shared stays."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore import sql_mixin
from flwr.supercore.object_store.sql_object_store import SqlObjectStore

from server.flower_state import drop_messages, give_back, lost_messages, prepare, settle, size

pytestmark = pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")
MEGABYTE = 1_000_000


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    prepare(path)
    return path


@pytest.fixture
def store(database: Path) -> Iterator[SqlObjectStore]:
    """Flower's object store on this database, as SuperLink has it open."""
    made = SqlObjectStore(str(database), verify=False)
    made.initialize()
    yield made
    made._engine.dispose()


def named(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def put(store: SqlObjectStore, root: str, children: list[str], megabytes: int = 2) -> None:
    """A message with these payloads."""
    tree = ObjectTree(object_id=named(root), children=[ObjectTree(object_id=named(c)) for c in children])
    for name in store.preregister(7, tree):
        store.put(name, os.urandom(megabytes * MEGABYTE))


def message(database: Path, table: str, name: str, reply_to: str = "") -> None:
    """A row of a message, with whatever its other columns want."""
    with closing(sqlite3.connect(database)) as connection, connection:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        values = {column[1]: "" if "CHAR" in column[2] or "TEXT" in column[2] else 0 for column in columns}
        values |= {"message_id": named(name), "reply_to_message_id": named(reply_to) if reply_to else ""}
        places = ", ".join(f":{name}" for name in values)
        connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", values)


def count(database: Path, table: str) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_dropped_message_goes_with_its_reply_and_shared_payloads_stay_for_the_others(
    database: Path, store: SqlObjectStore
) -> None:
    for name in ("to north", "to south"):
        put(store, name, ["weights"])
        message(database, "message_ins", name)
    put(store, "from north", ["update"])
    message(database, "message_res", "from north", reply_to="to north")

    drop_messages(database, {named("to north")})
    assert store.get(named("weights"))
    assert not any(named(name) in store for name in ("to north", "from north", "update"))
    assert (count(database, "message_ins"), count(database, "message_res")) == (1, 0)

    drop_messages(database, {named("to south"), named("never sent")})
    assert [count(database, table) for table in ("objects", "object_children", "run_objects")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("delivered", "activated", "lost"),
    [
        ("", "2026-01-01T10:00:00.5+00:00", False),  # it waits for whoever comes
        ("2026-01-01T10:00:01.5+00:00", "2026-01-01T10:00:00.5+00:00", False),  # in work
        ("2026-01-01T10:00:01.5+00:00", "2026-01-01T10:00:02+00:00", True),
        ("2026-01-01T10:00:01+00:00", "2026-01-01T10:00:01.000001+00:00", True),
    ],
)
def test_a_message_that_a_node_had_when_it_was_started_anew_is_lost(
    database: Path, store: SqlObjectStore, delivered: str, activated: str, lost: bool
) -> None:
    for name in ("to north", "of another run"):
        message(database, "message_ins", name)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO node (node_id, last_activated_at) VALUES (5, ?)", (activated,))
        connection.execute("UPDATE message_ins SET dst_node_id = 5, delivered_at = ?", (delivered,))
    asked = {named("to north"), named("never sent")}
    assert lost_messages(database, asked) == ({named("to north")} if lost else set())
    assert count(database, "message_ins") == 2


def test_nothing_counts_as_lost_where_flower_has_no_tables(tmp_path: Path) -> None:
    assert lost_messages(tmp_path / "other.db", {"x"}) == frozenset()


def test_space_is_given_back_while_flower_has_the_database_open(
    database: Path, store: SqlObjectStore
) -> None:
    empty = size(database)
    for number in range(4):
        put(store, f"message {number}", [f"payload {number}"], megabytes=10)
    assert size(database) > 80 * MEGABYTE
    drop_messages(database, {named(f"message {number}") for number in range(4)})
    give_back(database)
    assert size(database) < empty + MEGABYTE
    put(store, "next", ["more"])
    assert store.get(named("more"))


def test_what_is_not_there_or_not_ours_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    drop_messages(other, {"x"})
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (x)")
    before = other.read_bytes()
    prepare(other)
    assert other.read_bytes() == before
    give_back(other)


def test_superlink_waits_for_locks_longer_than_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sql_mixin, "SQLITE_PRAGMAS", sql_mixin.SQLITE_PRAGMAS)
    settle()
    state = SqlObjectStore(str(tmp_path / "x.db"))
    state.initialize()
    assert state.query("PRAGMA busy_timeout") == [{"timeout": 60_000}]
    assert state.query("PRAGMA journal_mode") == [{"journal_mode": "wal"}]
    assert issubclass(SqlLinkState, sql_mixin.SqlMixin)
    state._engine.dispose()
