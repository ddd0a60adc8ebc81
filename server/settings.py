"""coordinator.toml: what a person may change about a coordinator, with comments that say what it does."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgan_core.errors import ConfigError, InputError
from medgan_core.study_sections import DeviceName

Port = Annotated[int, Field(ge=1, le=65535)]
FILE = "coordinator.toml"
DEVICE = "coordinator.toml: device"

_TEMPLATE = """# A MedGAN coordinator. Changes are taken by the next `medgan-server up`.

name = "{name}"

# The names and addresses under which hospitals reach the proxy. They are in the server's certificate:
# after a change renew it with `medgan-server renew`.
hosts = [{hosts}]

# Flower's SuperLink listens here, on loopback alone: whoever reaches this port can start and stop runs.
superlink_port = {superlink_port}

# Where nginx listens for the hospitals (nginx.conf is written anew by `medgan-server renew`).
proxy_port = {proxy_port}

# Where the coordinator's own networks run: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
device = "{device}"

# How often a run is taken up again by itself after its process died without a finished round in between.
restarts = {restarts}
"""


class Settings(BaseModel):
    """What coordinator.toml says. `restarts`: of a run that makes no progress, before it is paused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "coordinator"
    hosts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    superlink_port: Port = 9091
    proxy_port: Port = 8443
    device: DeviceName = "auto"
    restarts: Annotated[int, Field(ge=0, le=100)] = 3

    def to_toml(self) -> str:
        """The commented file."""
        hosts = ", ".join(f'"{host}"' for host in self.hosts)
        return _TEMPLATE.format(**self.model_dump() | {"hosts": hosts})

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Read the file. Raises InputError where it is missing or no TOML, ConfigError for a value."""
        try:
            body = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path.name}: {error.strerror}; make it with medgan-server init DIR") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path.name} is not TOML: {error}") from error
        return cls.checked(body)

    @classmethod
    def checked(cls, body: object) -> "Settings":
        """Validate values. Raises ConfigError with name, value and what is expected."""
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"]) or FILE
            expected = first["msg"].removeprefix("Input should be ")
            if first["type"] == "extra_forbidden":
                expected = f"no such key; known are {', '.join(sorted(cls.model_fields))}"
            raise ConfigError(name, first["input"], expected) from None
