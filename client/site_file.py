"""site.toml: what a hospital's person decides, validated once. It is stronger than any coordinator.

`TEMPLATE` is the commented file that `init` writes; its values are the defaults of the models here.
"""

import re
import tomllib
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from client.source_section import SourceSection
from medgan_core.config import Names, Positively
from medgan_core.errors import ConfigError, InputError
from medgan_core.public_card import NAME
from medgan_core.study_sections import DeviceName, Fraction, Positive

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
Capped = Annotated[float, Field(gt=0)]
Sizes = Annotated[tuple[int, ...], Field(strict=False)]
TRAINER_DEVICE = "site.toml: trainer.device"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CoordinatorSection(_Section):
    """Where the coordinator is: `host:port`, its CA certificate, an outbound HTTP proxy if there is one."""

    address: str = ""
    root_certificates: str = "keys/ca.crt"
    proxy: str = ""


class NodeSection(_Section):
    """The node, which talks to the coordinator. `user`: the OS user that it runs as, "" for this one."""

    user: str = ""


class TrainerSection(_Section):
    """The trainer. `device`: where networks train; auto is a GPU where torch sees one, else the CPU."""

    device: DeviceName = "auto"


class DataSection(_Section):
    """Where this hospital's images are; paths are below the site's folder or absolute.

    `labels` and `patients` name a CSV, or `CSV:column`; `masks` says where a study's masks are, "" for the
    study's own name of them; `classes` names the labels 0, 1, … of the files;
    `site` picks the rows of one site from a manifest with such a column. With `modality` "" this site takes
    part in studies of any. `published`: a published set, whose split is the published one, and whose unit may
    be the image. `public`: the person responsible for these images declares them public.

    Of DICOM: `text_check` looks for text in the pixels, and refuses such images, unless they are public;
    `cache` keeps what was read in the site's folder; it and what is pulled are encrypted where `cache_key`
    names a file of 32 bytes or more.
    """

    kind: Literal["idx", "npz", "folder", "dicom", "nifti"] = "dicom"
    path: str = "data"
    patients: str = ""
    labels: str = ""
    masks: str = ""
    classes: Names = ()
    site: str = ""
    modality: str = ""
    published: bool = False
    public: bool = False
    text_check: bool = True
    cache: bool = True
    cache_key: str = ""


class PolicySection(_Section):
    """The limits within which studies may run here. Each is a rule of the same name."""

    epsilon: Capped = 20.0
    epsilon_per_study: Capped = 10.0
    delta: Annotated[float, Field(gt=0, lt=0.1)] = 1e-5
    least_noise_multiplier: Annotated[float, Field(ge=0)] = 0.3
    largest_clip_norm: Positively = 10.0
    images_per_patient: Positive = 16
    trust_secure_sum: bool = False
    local_epsilon: Capped = 100.0
    max_repeats: Annotated[int, Field(ge=0, le=10)] = 1
    tasks: Names = ("synthesis",)
    image_sizes: Sizes = (28, 32, 64, 128)
    largest_generator_width: Positive = 128
    largest_discriminator_width: Positive = 128
    largest_sampling_rate: Fraction = 0.5
    most_rounds: Annotated[int, Field(ge=0)] = 1000
    most_steps: Annotated[int, Field(ge=0)] = 100_000
    metrics: Names = ("generator_loss", "discriminator_accuracy_on_fakes", "discriminator_steps")
    discriminator_may_leave: bool = True
    privacy_off: bool = False
    least_patients: Positive = 50
    least_held_out: Positive = 5
    approval: bool = True


class ScheduleSection(_Section):
    """When rounds may run (local time, "" for always), and how many studies may be active at once."""

    hours: str = ""
    studies_at_once: Positive = 1

    @property
    def window(self) -> tuple[time, time] | None:
        """Begin and end of the working hours; the end may be on the next day."""
        found = _HOURS.fullmatch(self.hours)
        if found is None:
            return None
        begin_hour, begin_minute, end_hour, end_minute = map(int, found.groups())
        return time(begin_hour, begin_minute), time(end_hour, end_minute)

    def open_at(self, now: time) -> bool:
        """Whether rounds may begin at this time of the day."""
        if self.window is None:
            return True
        begin, end = self.window
        return begin <= now < end if begin < end else now >= begin or now < end


class MetricsSection(_Section):
    """Prometheus' page on loopback: its port, 0 for none."""

    port: Annotated[int, Field(ge=0, lt=65536)] = 0


class SiteFile(_Section):
    """All of site.toml. `labels` maps this hospital's labels to a study's classes."""

    name: str
    coordinator: CoordinatorSection = CoordinatorSection()
    node: NodeSection = NodeSection()
    trainer: TrainerSection = TrainerSection()
    data: DataSection = DataSection()
    source: SourceSection = SourceSection()
    labels: dict[str, str] = Field(default_factory=dict)
    policy: PolicySection = PolicySection()
    schedule: ScheduleSection = ScheduleSection()
    metrics: MetricsSection = MetricsSection()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                "name", self.name, "letters, digits and ._- (64 at most), a letter or digit first"
            )
        if self.schedule.hours and self.schedule.window is None:
            raise ConfigError("schedule.hours", self.schedule.hours, 'hours such as "19:00-07:00", or ""')
        window = self.schedule.window
        if window is not None and window[0] == window[1]:
            raise ConfigError("schedule.hours", self.schedule.hours, 'two different times, or "" for always')
        self._check_rules()
        if self.policy.privacy_off and not self.data.public:
            raise ConfigError(
                "policy.privacy_off", True, "false, unless data.public declares the images public"
            )
        return self

    def _check_rules(self) -> None:
        """Rules of [source] need headers; labels come from one place."""
        source, data = self.source, self.data
        if source.pulled:
            return
        if data.kind != "dicom" and (source.cohort.rules or source.label.given):
            raise ConfigError(
                "source.cohort and source.label",
                "rules",
                f"none with data.kind = {data.kind}: only DICOM has headers",
            )
        if source.label.given and data.labels:
            raise ConfigError("data.labels", data.labels, '"", or no rules in source.label: one of the two')


def read_site_file(path: Path) -> SiteFile:
    """Read and validate. InputError for what is missing or no TOML, ConfigError for a wrong value."""
    try:
        return parse_site_file(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path.name}: {error.strerror}; run medgan-client init, or mend its mode") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not TOML: {error}") from None


def parse_site_file(body: dict[str, Any]) -> SiteFile:
    """Validate a nested mapping. ConfigError with name, value and what is expected."""
    try:
        return SiteFile.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        expected = first["msg"].removeprefix("Input should be ")
        if first["type"] == "extra_forbidden":
            expected = "no such key; the keys are those in the file that init writes"
        raise ConfigError(f"site.toml: {name}", first["input"], expected) from None


def template(name: str) -> str:
    """The commented file for a new site of this name."""
    return TEMPLATE.replace("@name@", name)


TEMPLATE = """\
# What this hospital decides. No coordinator can change it, and every study has to keep within it.
# After a change: medgan-client check --site DIR, then restart the daemon.

name = "@name@"                      # under which the coordinator enrols this site; letters, digits, . _ -

[coordinator]
address = ""                         # host:port of the coordinator, such as "medgan.example.org:443"
root_certificates = "keys/ca.crt"    # the coordinator's CA certificate, which it hands out with its address
proxy = ""                           # an outbound HTTP proxy, such as "http://proxy.hospital.org:3128"

[node]
user = ""                            # the OS user that the node runs as: one that cannot read the data

[trainer]
device = "auto"                      # where networks train: "auto" (a GPU if there is one), "cpu", "cuda:1"

[data]
kind = "dicom"                       # dicom, nifti, folder (PNG, JPEG, TIFF), npz or idx
path = "data"                        # the images; below this folder, or absolute
patients = ""                        # a table, FILE.csv or FILE.csv:COLUMN; "" for the manifest or DICOM
labels = ""                          # a table of labels, likewise; "" for the manifest's column "label"
classes = []                         # names of the labels 0, 1, ... where the files hold numbers
masks = ""                           # where a study's masks are here: a zip, a folder or FILE.csv:COLUMN
site = ""                            # only the rows of this site, where the manifest has a column "site"
modality = ""                        # take part in studies of this modality alone, such as "DX"; "" for any
published = false                    # true for a published data set, whose split is public
public = false                       # true where you, who are responsible, declare these images public
text_check = true                    # DICOM: refuse images with text in their pixels (needs tesseract)
cache = true                         # DICOM: keep prepared pixels here for the next start
cache_key = ""                       # a file of 32 random bytes or more that encrypts them; "" for none

[source]                             # an archive that "medgan-client pull" takes the images from
kind = "folder"                      # "folder": none, [data] has files; "dicomweb"; "pacs": C-FIND and C-GET
url = ""                             # of DICOMweb, such as "https://pacs.hospital.org/dicom-web"
host = ""                            # of a PACS
port = 104                           # of a PACS
peer_title = ""                      # the PACS's AE title
title = "MEDGAN"                     # ours: have it entered at the PACS, with this machine's address
tls = false                          # true: a PACS over TLS; DICOMweb says it in its url
credentials = ""                     # of DICOMweb: a file of mode 0600 with user:password or Bearer TOKEN
ca = ""                              # a file with the CA of the server's certificate; "" for the system's
certificate = ""                     # our own certificate for a PACS that wants one, as PEM
key = ""                             # and its private key
rate = 0                             # bytes a second at most, all transfers together; 0 for no cap
transfers = 4                        # at once, 4 at most
timeout = 60.0                       # seconds that the archive may stay silent

[source.cohort]                      # which images, of an archive or of DICOM files; [] and "" admit all
modalities = []                      # such as ["CT", "MR"]
body_parts = []                      # such as ["CHEST"]
begin = ""                           # the first study date, such as "2023-01-01"
end = ""                             # the last one
study_descriptions = []              # patterns with * and ?, of which one has to fit
series_descriptions = []             # likewise
sop_classes = []                     # UIDs or keywords, such as "CTImageStorage"

[source.label]                       # what they show; files left as here have the labels of their manifest
kind = "one"                         # one label for all, a "table", a "tag" or a "seg" (DICOM SEG)
label = "image"                      # with "one"
file = ""                            # with "table": a CSV with label and patient, study, series or object
tag = ""                             # with "tag": an attribute, such as "StudyDescription" or "0008,1030"
without = ""                         # with "seg": the label of images on which no segment lies

[source.label.map]                   # patterns of the tag, or of segments' labels, and what they mean
# "*pneumonia*" = "pneumonia"
# "*normal*" = "normal"

[labels]                             # this hospital's labels and the study's classes; others are left out
# "kein Befund" = "normal"
# "Infiltrat" = "pneumonia"

[policy]
epsilon = 20.0                       # the most any patient may spend in all studies together
epsilon_per_study = 10.0             # the most that one study may cost
delta = 1e-5                         # the delta at which epsilon is stated; studies may ask for this or less
least_noise_multiplier = 0.3         # noise below this, in units of the sensitivity, is refused
largest_clip_norm = 10.0             # gradients of a patient are clipped to this norm or less
images_per_patient = 16              # the most images of one patient that a study may use
trust_secure_sum = false             # true: epsilon of secure sums trusts that the others do not all collude
local_epsilon = 100.0                # then the most without that trust
max_repeats = 1                      # how often a secure sum that failed may be charged again
tasks = ["synthesis"]                # the kinds of study that may run
image_sizes = [28, 32, 64, 128]      # the sides of images, in pixels
largest_generator_width = 128        # the size of networks
largest_discriminator_width = 128
largest_sampling_rate = 0.5          # the share of patients in a step
most_rounds = 1000
most_steps = 100000                  # discriminator steps in all rounds together
metrics = ["generator_loss", "discriminator_accuracy_on_fakes", "discriminator_steps"]   # that may leave
discriminator_may_leave = true       # false: only studies that keep the discriminator here
privacy_off = false                  # true: studies without privacy may run; only with data.public = true
least_patients = 50                  # with fewer patients to train on this site takes no part
least_held_out = 5                   # with fewer patients to judge by this site takes no part
approval = true                      # a person approves each study; false: whatever keeps to this policy runs

[schedule]
hours = ""                           # when rounds may begin, such as "19:00-07:00"; "" for always
studies_at_once = 1                  # how many approved studies may be active; others wait for their turn

[metrics]
port = 0                             # Prometheus' page on this machine alone, such as 9464; 0 for none
"""
