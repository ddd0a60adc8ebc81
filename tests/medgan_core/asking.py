"""Requests as they come out of Flower's records."""

from flwr.app import RecordDict

from medgan_core.messages import Request
from medgan_core.wire import asked_from_records


def request_from_records(records: RecordDict) -> Request:
    """A request to take part in a round; an assertion fails for anything else that a coordinator may ask."""
    asked = asked_from_records(records)
    assert isinstance(asked, Request)
    return asked
