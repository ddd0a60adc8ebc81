"""What a run is: one frozen, validated value, read from TOML and written back to it.

Every key is declared here once, with its range. `load_study` reads a file, applies `key=value` overrides
and refuses what it does not know; `medgan_core.codec` flattens it to Flower's dotted keys.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, Field, ValidationError, model_validator

from medgan_core.codec import flatten, parse_override, unflatten
from medgan_core.defaults import LARGE_IMAGES, LARGE_SIDE, WITHOUT_PRIVACY, with_defaults
from medgan_core.errors import ConfigError, InputError
from medgan_core.sections import AggregationConfig, Section

IMAGE_SIZES = (28, 32, 64, 128)
SCORE_BINS = 10
"""Of confidence, in the score histogram of the evaluation."""
GATE_SIZE = 64
"""Numbers in the gate's query: two that say something, and empty ones that show whether a sum is garbled."""

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Positively = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Precision = Literal["float32", "bfloat16", "auto"]
Positives = Annotated[tuple[Positively, ...], Field(strict=False)]


class DataConfig(Section):
    """Where the images are and how they are read.

    `path`, `patients` and `labels` are looked for beside the study's data root, or are absolute. `patients`
    and `labels` name a CSV, or `CSV:column`. `classes` are the names of the labels 0, 1, … in their order.
    `views`: in how many variants (`flip`, `rotate_degrees`, `crop_pixels`) a step sees an image; the
    patient's gradient is the mean over all of them, so that they cost no privacy.
    """

    kind: Literal["idx", "npz", "folder", "dicom"]
    path: str
    patients: str = ""
    labels: str = ""
    classes: Names = ()
    image_size: Literal[28, 32, 64, 128] = 28
    channels: Literal[1, 3] = 1
    modality: str = "OT"
    split: Literal["hash", "official"] = "hash"
    flip: bool = False
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    crop_pixels: Annotated[int, Field(ge=0, le=32)] = 0
    views: Annotated[int, Field(ge=1, le=64)] = 1

    @property
    def varied(self) -> bool:
        """Whether training images are varied at all."""
        return bool(self.flip or self.rotate_degrees or self.crop_pixels)


class SitesConfig(Section):
    """The hospitals of a simulation and the public facts they declare.

    `nominal_patients` is what a site declares as its size: a round public figure, never the private count.
    `weights` are the public weights of the average, equal when empty. `epsilon_cap` is the sites' own cap.

    `trust_secure_sum` and `local_epsilon` stand for the sites' own policy on secure sums: with trust the cap
    counts ε as it is when no more than `privacy.collude` sites help the coordinator, and `local_epsilon`
    bounds ε without any trust; otherwise the cap counts the latter, which is much larger.
    """

    count: Annotated[int, Field(ge=1, le=10_000)] = 3
    assign: Literal["dirichlet", "manifest"] = "dirichlet"
    alpha: Positively = 1.0
    size_skew: Annotated[float, Field(ge=0, le=5)] = 0.3
    nominal_patients: Positive = 500
    weights: Positives = ()
    quorum: Annotated[int, Field(ge=0)] = 0
    epsilon_cap: Annotated[float, Field(gt=0)] = 20.0
    trust_secure_sum: bool = True
    local_epsilon: Annotated[float, Field(gt=0)] = 100.0


class PrivacyConfig(Section):
    """What privacy is asked for. `noise_multiplier` for the steps, when given, replaces the search by ε.

    With `secure_sum` the one-shot query, the gate and the evaluation leave the sites as a sum alone, with
    shares of noise that make it as private as `epsilon` says if at most `collude` sites help the coordinator;
    the steps keep the full noise of each site. `drop` sites may fail in such a round, one in five when not
    given; a round that failed may be repeated `max_repeats` times, each time at the cost of another one.
    With `share = "gradient"` each step is such a round.
    """

    mode: Literal["dp", "off"] = "dp"
    epsilon: Positively = 10.0
    delta: Annotated[float, Field(gt=0, lt=0.1)] = 1e-5
    noise_multiplier: Annotated[float, Field(ge=0.1, le=10_000)] | None = None
    one_shot_noise_multiplier: Annotated[float, Field(ge=0.1, le=10_000)] | None = None
    one_shot_share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    sampling_rate: Fraction = 0.05
    nominal_batch: Positively | None = None
    clip_norm: Positively = 1.0
    max_images_per_patient: Positive = 4
    max_sites_per_patient: Positive = 1
    secure_sum: bool = False
    collude: Positive = 1
    drop: Annotated[int, Field(ge=0)] | None = None
    max_repeats: Annotated[int, Field(ge=0, le=10)] = 1


class OneShotConfig(Section):
    """The one private query before the first round, and how the generator is trained to match it."""

    frequencies: Annotated[int, Field(ge=8, le=100_000)] = 1000
    bandwidths: Annotated[Positives, Field(min_length=1)] = (0.03,)
    gabor_bandwidths: Positives = (0.06,)
    count_weight: Positively = 0.2
    iterations: Annotated[int, Field(ge=0)] = 1500
    batch: Annotated[int, Field(ge=2)] = 128
    learning_rate: Positively = 5e-3


class TrainingConfig(Section):
    """The adversarial rounds. `discriminator_steps` are those of one round, at one site or of all together.

    `generator_every` discriminator steps make one generator step; `adaptive` lets the ratio climb a ladder
    by the discriminator's accuracy on fakes alone. `anchor_weight` is how much the released embedding counts
    beside the discriminator. Both learning rates fall linearly over the rounds to the share
    `final_learning_rate` of what they were. The defaults are those of a private run: a small discriminator
    under SGD with momentum, held close to the embedding; `WITHOUT_PRIVACY` replaces some of them.

    `precision` is that of the passes through both networks while they are trained: "auto" is bfloat16 where
    the device is made for it, so that figures differ a little between machines. `physical_batch`: how many
    of a private step's images pass through the discriminator at once, for devices with little memory.
    `spatial_noise`: the strength at which the generator's noise in each grid begins, 0 for none.
    `proximal` μ adds μ/2·‖w - w₀‖² to the losses of a network that came as w₀ from the coordinator (FedProx).
    """

    loss: Literal["non_saturating", "hinge", "least_squares"] = "non_saturating"
    latent_size: Annotated[int, Field(ge=1, le=1024)] = 64
    spatial_noise: Annotated[float, Field(ge=0, le=10)] = 0.1
    generator_width: Annotated[int, Field(ge=4, le=512)] = 48
    generator_learning_rate: Positively = 2e-4
    generator_every: Positive = 1
    adaptive: bool = False
    discriminator_width: Annotated[int, Field(ge=4, le=512)] = 16
    discriminator_steps: Positive = 100
    discriminator_optimizer: Literal["sgd", "adam"] = "sgd"
    discriminator_learning_rate: Positively = 0.01
    precision: Precision = "auto"
    physical_batch: Positive | None = None
    final_learning_rate: Fraction = 0.2
    batch: Annotated[int, Field(ge=2)] = 64
    anchor_weight: Annotated[float, Field(ge=0)] = 5.0
    proximal: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9


class EvaluationConfig(Section):
    """The judging of generators at the sites, on patients held out of training, who have `epsilon`.

    With `gate`, and where there are rounds, one query decides whether the refined generator replaces that of
    the one-shot start. Alone it is given `gate_share` of ε: a share s widens the noise of the evaluation by
    about 1/√(1 - s²), 9 % as it is, since noise composes by its squares.
    """

    epsilon: Positively | None = None
    gate: bool = True
    gate_share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    synthetic_images: Annotated[int, Field(ge=16)] = 2000
    reports: bool = True


class DeploymentConfig(Section):
    """Patience with hospitals over a network; a simulation has no use for it.

    A round waits `round_timeout` seconds for its sites. One with fewer answers than the quorum is asked
    again, `attempts` times in all; then the run pauses, and can be resumed. People at the sites have
    `approval_timeout` seconds to approve the study.
    """

    round_timeout: Positively = 3600.0
    attempts: Positive = 3
    approval_timeout: Positively = 604_800.0


class PhantomsConfig(Section):
    """Chest-like phantoms written as DICOM before the run. `patients` is the mean number of a site."""

    patients: Positive = 160
    max_images: Annotated[int, Field(ge=1, le=16)] = 3
    pixels: Annotated[int, Field(ge=32, le=1024)] = 64


class Study(Section):
    """A study: all that a run is, its data root and its secrets excepted.

    `strategy`: "refine" does the rounds, "one_shot" sets them to 0, and "auto" leaves it to the planner,
    which knows public facts alone; what it decides is written into the run's study.

    `share` is what a site sends in the rounds: the weights of "both" networks or of the "generator", trained
    with its own full noise; or the "gradient" of every discriminator step, clipped by patient, in a secure
    sum to which each site adds a share of the noise. The last is refused where the rounds would take more
    than `rounds_time_limit` seconds, as predicted from public facts.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    task: Literal["synthesis"] = "synthesis"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    strategy: Literal["auto", "refine", "one_shot"] = "auto"
    rounds: Annotated[int, Field(ge=0, le=100_000)] = 3
    share: Literal["both", "generator", "gradient"] = "both"
    rounds_time_limit: Positively = 1500.0
    data: DataConfig
    sites: SitesConfig = SitesConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    one_shot: OneShotConfig = OneShotConfig()
    training: TrainingConfig = TrainingConfig()
    aggregation: AggregationConfig = AggregationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    deployment: DeploymentConfig = DeploymentConfig()
    phantoms: PhantomsConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_facts(cls, body: Any) -> Any:
        if not isinstance(body, Mapping):
            return body
        if body.get("share") == "gradient":
            body = {"strategy": "refine", **body}
        if body.get("strategy") == "one_shot":
            body = {**body, "rounds": 0}
        privacy, data = body.get("privacy"), body.get("data")
        if isinstance(privacy, Mapping) and privacy.get("mode") == "off":
            body = with_defaults(body, WITHOUT_PRIVACY)
        side = data.get("image_size") if isinstance(data, Mapping) else None
        return with_defaults(body, LARGE_IMAGES) if isinstance(side, int) and side > LARGE_SIDE else body

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        sites, classes = self.sites, self.data.classes
        if sites.weights and len(sites.weights) != sites.count:
            raise ConfigError("sites.weights", sites.weights, f"{sites.count} values, one for each site")
        if sites.quorum > sites.count:
            raise ConfigError("sites.quorum", sites.quorum, f"at most sites.count, which is {sites.count}")
        if len(set(classes)) != len(classes):
            raise ConfigError("data.classes", classes, "every class once")
        if self.data.views > 1 and not self.data.varied:
            raise ConfigError("data.views", self.data.views, "1, or data.flip, rotate_degrees or crop_pixels")
        self.aggregation.check(sites.count, self.quorum, bool(sites.weights))
        if self.privacy.secure_sum:
            self._agrees_to_sums()
        if self.joint:
            self._agrees_to_joint_steps()
        return self

    def _agrees_to_sums(self) -> None:
        self.aggregation.check_apart("privacy.secure_sum")
        if self.sites.count < 3:
            raise ConfigError(
                "privacy.secure_sum", True, f"sites.count of 3 or more, which is {self.sites.count}"
            )
        if not self.data.classes:
            raise ConfigError("data.classes", (), "the classes by name: a secure sum must know its size")

    def _agrees_to_joint_steps(self) -> None:
        where = f"{{}} for share = {self.share}"
        self.aggregation.check_still("share = gradient")
        for name, value, needed in (
            ("privacy.secure_sum", self.privacy.secure_sum, True),
            ("privacy.mode", self.privacy.mode, "dp"),
            ("strategy", self.strategy, "refine"),
            ("sites.weights", self.sites.weights, ()),
            ("training.adaptive", self.training.adaptive, False),
            ("training.proximal", self.training.proximal, 0.0),
        ):
            if value != needed:
                raise ConfigError(name, value, where.format(needed))

    @property
    def joint(self) -> bool:
        """Whether each discriminator step is one of all sites together, by a secure sum of gradients."""
        return self.share == "gradient"

    @property
    def training_rounds(self) -> int:
        """How often every site is asked in the adversarial rounds: once in each, or in each joint step."""
        return self.rounds * (self.training.discriminator_steps if self.joint else 1)

    @property
    def private(self) -> bool:
        """Whether the run protects its patients at all."""
        return self.privacy.mode == "dp"

    @property
    def gated(self) -> bool:
        """Whether a query decides between the one-shot and the refined generator."""
        return self.evaluation.gate and self.rounds > 0

    @property
    def feature_count(self) -> int:
        """How many numbers the embedding of an image has."""
        asked = self.one_shot
        return 2 * asked.frequencies * (len(asked.bandwidths) + len(asked.gabor_bandwidths))

    @property
    def sizes_of_sums(self) -> tuple[int, int]:
        """How many numbers a site adds to the sums of the one-shot query and of the evaluation."""
        classes = len(self.data.classes)
        return classes * (self.feature_count + 1), classes**2 * SCORE_BINS

    @property
    def discriminator_size(self) -> int:
        """How many weights the discriminator has: the numbers in the sum of a joint step."""
        before, size = self.data.channels + len(self.data.classes), int(self.data.image_size)
        weights, after = 0, self.training.discriminator_width
        while size > 8:
            weights += after * (16 * before + 1)
            before, after, size = after, min(2 * after, 8 * self.training.discriminator_width), size // 2
        return weights + before * size**2 + 1

    @property
    def nominal_batch(self) -> float:
        """The public divisor of every noisy gradient sum: declared, or q times the nominal size."""
        return self.privacy.nominal_batch or self.privacy.sampling_rate * self.sites.nominal_patients

    @property
    def quorum(self) -> int:
        """How many sites must answer acceptably in each round: all unless the study says otherwise."""
        return self.sites.quorum or self.sites.count

    @property
    def weights(self) -> tuple[float, ...]:
        """The public weight of each site in the average; they sum to 1."""
        raw = self.sites.weights or (1.0,) * self.sites.count
        return tuple(weight / sum(raw) for weight in raw)

    def to_toml(self) -> str:
        """The resolved study, every default written out; `parse_study` reads it back."""
        return tomli_w.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """A plain nested dict without the keys that are unset."""
        return self.model_dump(mode="json", exclude_none=True)


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study file and apply `key=value` overrides (dotted keys; a TOML value, else a string).

    Raises InputError for a file that is missing or no TOML, ConfigError for a value that a study may not
    have.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"study {path.name}: {error.strerror}; give a path or the name of a study"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"study {path.name} is not TOML: {error}") from error
    flat = flatten(body)
    for override in overrides:
        key, value = parse_override(override)
        flat = {k: v for k, v in flat.items() if not k.startswith(f"{key}.")} | {key: value}
    return parse_study(unflatten(flat))


def parse_study(body: Mapping[str, Any]) -> Study:
    """Validate a nested mapping. Raises ConfigError with name, value and what is expected."""
    try:
        return Study.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "study"
        if first["type"] == "extra_forbidden":
            raise ConfigError(name, first["input"], f"no such key; {_known_keys(first['loc'])}") from None
        if first["type"] == "missing":
            raise ConfigError(name, None, "a value; the study does not set it") from None
        if first["type"] == "model_type":
            raise ConfigError(name, first["input"], f"a table; {_known_keys((*first['loc'], ''))}") from None
        raise ConfigError(name, first["input"], first["msg"].removeprefix("Input should be ")) from None


def _known_keys(place: tuple[int | str, ...]) -> str:
    model: type[BaseModel] = Study
    for table in place[:-1]:
        annotation = model.model_fields[str(table)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return "known are " + ", ".join(sorted(model.model_fields))
