"""Flower's database, kept small: the payloads of a round are dropped when the round is over.

Flower 1.41 deletes a message when its reply has been fetched, but keeps what a dead or late node never
fetched until the run ends, and never gives space back: a database is as large as its largest round, and its
write-ahead log too. So the database is made for incremental vacuum, and space is given back after each round
in small steps that the running SuperLink does not notice.
"""

import sqlite3
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

_LOCK_SECONDS = 5.0
_STEP_PAGES = 1024
_INCREMENTAL = 2


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

    What a node has not fetched by now it will never get; a reply that comes later is refused.
    """
    if not messages:
        return
    from flwr.supercore.object_store.sql_object_store import SqlObjectStore
    from sqlalchemy import BindParameter, bindparam, text

    chosen: BindParameter[str] = bindparam("ids", expanding=True)
    ids = {"ids": sorted(messages)}
    store = SqlObjectStore(str(database))
    store.initialize()
    with store.session() as session:
        replies = session.scalars(
            text("DELETE FROM message_res WHERE reply_to_message_id IN :ids RETURNING message_id").bindparams(
                chosen
            ),
            ids,
        ).all()
        session.execute(text("DELETE FROM message_ins WHERE message_id IN :ids").bindparams(chosen), ids)
        for message in (*ids["ids"], *replies):
            store.delete(message)


def give_back(database: Path) -> None:
    """Return free pages and the write-ahead log to the file system, as far as nobody is in the way."""
    with (
        suppress(sqlite3.OperationalError),  # busy: after the next round then
        closing(sqlite3.connect(database, timeout=_LOCK_SECONDS, isolation_level=None)) as connection,
    ):
        while connection.execute("PRAGMA freelist_count").fetchone()[0]:
            before = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA incremental_vacuum({_STEP_PAGES})").fetchall()
            if connection.execute("PRAGMA page_count").fetchone()[0] >= before:
                break  # a database that was not made by `prepare`
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def size(database: Path) -> int:
    """Bytes of the database with its write-ahead log."""
    files = (database, database.with_name(f"{database.name}-wal"))
    return sum(path.stat().st_size for path in files if path.exists())
