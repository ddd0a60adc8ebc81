"""The one flat codec: nested tables to dotted keys and back, and `key=value` as a person types it."""

import tomllib
from collections.abc import Mapping
from typing import Any

from medgan_core.errors import ConfigError


def flatten(body: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in body.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys to nested tables; the inverse of `flatten`."""
    body: dict[str, Any] = {}
    for name, value in flat.items():
        *tables, key = name.split(".")
        table = body
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(name, value, f"no value and table at once: {part} has a value already")
        if key in table:
            raise ConfigError(name, value, f"no value and table at once: {key} is a table already")
        table[key] = value
    return body


def parse_override(override: str) -> tuple[str, Any]:
    """`key=value` as key and TOML value, else string. Raises ConfigError where there is no key."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError("--set", override, "key=value, such as privacy.epsilon=4")
    try:
        body = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return key.strip(), text
    return key.strip(), body["value"] if len(body) == 1 else text
