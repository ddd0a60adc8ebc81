"""Flower's database, kept small: the payloads of a round are dropped when the round is over.

Flower 1.41 deletes a message when its reply has been fetched, but keeps what a dead or late node never
fetched until the run ends, and never gives space back: a database is as large as its largest round, and its
write-ahead log too. So the database is made for incremental vacuum, and space is given back after each round
in small steps: SuperLink writes beside us, and whoever waits too long for a lock there gets an error.
"""

import sqlite3
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

_LOCK_SECONDS = 60.0
_STEP_PAGES = 256
_INCREMENTAL = 2
_PRAGMAS = (("busy_timeout", str(int(1000 * _LOCK_SECONDS))), ("journal_size_limit", "1000000"))


def settle() -> None:
    """In SuperLink's own process, before it starts: wait 60 s for a lock and not 5, keep the log short.

    On a busy machine five seconds pass, and SuperExec gives up at the first error that comes of it.
    """
    from flwr.supercore import sql_mixin

    sql_mixin.SQLITE_PRAGMAS = (*sql_mixin.SQLITE_PRAGMAS, *_PRAGMAS)


def prepare(database: Path) -> None:
    """Make the database before Flower does, with room for giving space back; an old one stays as it is."""
    if database.exists():
        return
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")
    database.chmod(0o600)


def drop_messages(database: Path, messages: Collection[str]) -> None:
    """Delete these messages that the coordinator sent, their replies, and the payloads of both.

    What a node has not fetched by now it will never get; a reply that comes later is refused. Each message is
    a short transaction of its own. One that cannot be deleted stays until the run ends.
    """
    with suppress(sqlite3.OperationalError), closing(_connected(database)) as connection:
        for message in sorted(messages):
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                replies = connection.execute(
                    "DELETE FROM message_res WHERE reply_to_message_id = ? RETURNING message_id", (message,)
                ).fetchall()
                connection.execute("DELETE FROM message_ins WHERE message_id = ?", (message,))
                for root in (message, *(reply for (reply,) in replies)):
                    _delete_object(connection, root)


def _delete_object(connection: sqlite3.Connection, name: str) -> None:
    """Delete an object that nothing refers to, and what only it referred to, as Flower does."""
    found = connection.execute("SELECT child_id FROM object_children WHERE parent_id = ?", (name,)).fetchall()
    deleted = connection.execute(
        "DELETE FROM objects WHERE object_id = ? AND ref_count = 0 RETURNING object_id", (name,)
    ).fetchall()
    if not deleted:
        return
    for (child,) in found:
        connection.execute(
            "UPDATE objects SET ref_count = ref_count - 1 WHERE object_id = ? AND ref_count > 0", (child,)
        )
        _delete_object(connection, child)


def lost_messages(database: Path, messages: Collection[str]) -> frozenset[str]:
    """Those of these messages that a node had fetched before it was started anew: it will not answer them.

    Flower 1.41 answers in the place of a node that stays away. Of one that is back within its lease it
    believes that it still works on what its dead process had fetched. None where the database is in use.
    """
    names = sorted(messages)
    query = (
        "SELECT message_id FROM message_ins JOIN node ON node_id = dst_node_id "
        "WHERE delivered_at <> '' AND last_activated_at > delivered_at "
        f"AND message_id IN ({', '.join('?' * len(names))})"
    )
    with suppress(sqlite3.OperationalError), closing(_connected(database)) as connection:
        return frozenset(name for (name,) in connection.execute(query, names))
    return frozenset()


def give_back(database: Path) -> None:
    """Return free pages and the write-ahead log to the file system, as far as nobody is in the way."""
    with suppress(sqlite3.OperationalError), closing(_connected(database)) as connection:
        while connection.execute("PRAGMA freelist_count").fetchone()[0]:
            before = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA incremental_vacuum({_STEP_PAGES})").fetchall()
            if connection.execute("PRAGMA page_count").fetchone()[0] >= before:
                break  # a database that was not made by `prepare`
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # holds up nobody
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # has little left to do


def size(database: Path) -> int:
    """Bytes of the database with its write-ahead log."""
    files = (database, database.with_name(f"{database.name}-wal"))
    return sum(path.stat().st_size for path in files if path.exists())


def _connected(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=_LOCK_SECONDS, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
