from tests.server.conftest import _little_work

__all__ = ["_little_work"]
