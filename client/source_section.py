"""[source] of site.toml: where the images come from, which of them, and what they show."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medgan_core.data.pacs.cohort import Cohort
from medgan_core.errors import ConfigError
from medgan_core.sections import Section


class LabelSection(Section):
    """Where labels are written down.

    "one": all images have the label `label`; "table": a CSV, `file`; "tag": the attribute `tag`; "seg": DICOM
    SEG of the same study. `map` has patterns of the attribute, or of segments' labels, and the labels that
    they mean; `without` is that of images of a segmented series on which no segment lies.
    """

    kind: Literal["one", "table", "tag", "seg"] = "one"
    label: str = "image"
    file: str = ""
    tag: str = ""
    without: str = ""
    map: dict[str, str] = Field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether it says anything: files have the labels of their manifest otherwise."""
        return self != LabelSection()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        needed = {"one": "label", "table": "file", "tag": "tag", "seg": "map"}[self.kind]
        if not getattr(self, needed):
            raise ConfigError(f"source.label.{needed}", "", f"a value, for source.label.kind = {self.kind}")
        if self.kind == "tag" and not self.map:
            raise ConfigError("source.label.map", {}, "patterns of the attribute, and their labels")
        return self


class SourceSection(Section):
    """The archive that `medgan-client pull` asks; with "folder", files are read as [data] says.

    `cohort` and `label` decide about the images of an archive, and about DICOM files just the same.

    `url` is of a "dicomweb" server; `host`, `port`, `peer_title` (its AE title), `title` (ours) and `tls` are
    of a "pacs". `credentials` and `ca` are files below the site's folder, or absolute; `certificate` and
    `key` are our own for TLS, where the PACS wants one. `rate` is in bytes a second, 0 for no cap.
    """

    kind: Literal["folder", "dicomweb", "pacs"] = "folder"
    url: str = ""
    host: str = ""
    port: Annotated[int, Field(ge=1, lt=65536)] = 104
    peer_title: str = ""
    title: str = "MEDGAN"
    tls: bool = False
    credentials: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    rate: Annotated[int, Field(ge=0)] = 0
    transfers: Annotated[int, Field(ge=1, le=4)] = 4
    timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    cohort: Cohort = Cohort()
    label: LabelSection = LabelSection()

    @property
    def pulled(self) -> bool:
        """Whether images come from an archive."""
        return self.kind != "folder"

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        needed = {"folder": (), "dicomweb": ("url",), "pacs": ("host", "peer_title")}[self.kind]
        for name in needed:
            if not getattr(self, name):
                raise ConfigError(f"source.{name}", "", f"a value, for source.kind = {self.kind}")
        return self
