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
from medgan_core.data_config import DataConfig as DataConfig
from medgan_core.data_config import Names as Names
from medgan_core.defaults import defaults_of
from medgan_core.errors import ConfigError, InputError
from medgan_core.needs import needs
from medgan_core.sections import AggregationConfig, ReleaseConfig, Section
from medgan_core.study_sections import DeploymentConfig as DeploymentConfig
from medgan_core.study_sections import EvaluationConfig as EvaluationConfig
from medgan_core.study_sections import MappingConfig as MappingConfig
from medgan_core.study_sections import OneShotConfig as OneShotConfig
from medgan_core.study_sections import PhantomsConfig as PhantomsConfig
from medgan_core.study_sections import Positively as Positively
from medgan_core.study_sections import Precision as Precision
from medgan_core.study_sections import PrivacyConfig as PrivacyConfig
from medgan_core.study_sections import SitesConfig as SitesConfig
from medgan_core.study_sections import TrainingConfig as TrainingConfig

IMAGE_SIZES = (28, 32, 64, 128)
SCORE_BINS = 10
"""Of confidence, in the score histogram of the evaluation."""
Task = Literal[
    "synthesis",
    "augmentation",
    "multimodal",
    "volume",
    "segmentation",
    "restoration",
    "translation",
    "anomaly",
]
MEAN_SCORES: Mapping[str, tuple[str, ...]] = {
    "segmentation": ("dice", "iou", "hausdorff"),
    "restoration": ("psnr", "ssim", "mse"),
    "translation": ("psnr", "ssim", "mae"),
}
"""What an evaluation tells of the tasks whose outputs have a reference: one mean over patients each."""
PATIENT_TASKS = frozenset({*MEAN_SCORES, "anomaly"})
"""The tasks whose fakes depend on patients: their networks are clipped together, and no query begins them."""
SMALL_TASKS = PATIENT_TASKS | {"multimodal", "volume"}
"""The tasks that are tried on sets of a few patients, of which a private run would show nothing."""
LEAST_PATIENTS = 100
"""Of all sites together, below which a private run of a task other than plain synthesis says nothing."""
GATE_SIZE = 64
"""Numbers in the gate's query: two that say something, and empty ones that show whether a sum is garbled."""
HELD_OUT_PERCENT = 15
"""Of a site's patients, who are never trained on."""
Attack = Literal["discriminator", "nearest", "density", "inversion", "loss"]
ATTACK_BINS = 12
"""Of each attack's scores, from least to most like a member."""


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
    task: Task = "synthesis"
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
    mapping: MappingConfig = MappingConfig()
    aggregation: AggregationConfig = AggregationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    deployment: DeploymentConfig = DeploymentConfig()
    release: ReleaseConfig = ReleaseConfig()
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
        return defaults_of(body)

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
        if self.data.stack > 1 and self.data.channels != self.data.stack:
            raise ConfigError("data.stack", self.data.stack, f"data.channels, which is {self.data.channels}")
        if self.training.adaptive and self.training.loss == "wasserstein":
            raise ConfigError("training.adaptive", True, "false for wasserstein, whose scores reject no fake")
        self.aggregation.check(sites.count, self.quorum, bool(sites.weights))
        self._agrees_to_task()
        if not self.free_fakes:
            self._agrees_to_patient_task()
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

    def _agrees_to_task(self) -> None:
        for name, value, wrong, expected in needs(self.task, self.data, self.mapping.normal):
            if wrong:
                raise ConfigError(name, value, f"{expected} for task = {self.task}")
        if self.task == "volume" and self.joint:
            raise ConfigError("share", self.share, "both or generator for task = volume")
        patients = self.sites.count * self.sites.nominal_patients
        if self.private and self.task in SMALL_TASKS and patients < LEAST_PATIENTS:
            raise ConfigError(
                "sites.nominal_patients",
                self.sites.nominal_patients,
                f"{LEAST_PATIENTS} patients or more at {self.sites.count} sites together for a private run "
                f'of task = {self.task}; privacy.mode = "off" where the images are public',
            )

    def _agrees_to_patient_task(self) -> None:
        for name, value, wrong in (
            ("strategy", self.strategy, "one_shot"),
            ("share", self.share, "gradient"),
        ):
            if value == wrong:
                raise ConfigError(
                    name, value, f"another for task = {self.task}, whose fakes depend on patients"
                )
        if not self.rounds:
            raise ConfigError("rounds", 0, f"1 or more for task = {self.task}, which has no one-shot query")

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
    def free_fakes(self) -> bool:
        """Whether fakes are drawn from noise and public labels alone, so that they cost no privacy."""
        return self.task not in PATIENT_TASKS

    @property
    def first_round(self) -> int:
        """0 where a one-shot query begins the run, else 1."""
        return 0 if self.free_fakes else 1

    @property
    def last_round(self) -> int:
        """The number of the last round, be it the evaluation or an attack's control."""
        return self.training_rounds + self.gated + 1 + 2 * bool(self.attacks)

    @property
    def round_count(self) -> int:
        """How many rounds a run has, from its first to its last."""
        return self.last_round - self.first_round + 1

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
    def channels_apart(self) -> bool:
        """Whether channels are modalities: no colours of one picture."""
        return self.task == "multimodal"

    @property
    def one_class(self) -> bool:
        """Whether all images are known to be of one class: no classifier tells them apart."""
        return self.data.kind == "nifti" or len(self.data.classes) == 1

    @property
    def gated(self) -> bool:
        """Whether a query decides between the one-shot and the refined generator."""
        return self.evaluation.gate and self.rounds > 0 and self.free_fakes and not self.one_class

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The attacks that are tried on the generator before its release; none where they are not asked for.

        A discriminator that stays at its site, or that no round trained, tells nobody anything.
        """
        if not self.evaluation.attack:
            return ()
        if not self.free_fakes:
            return ("loss",)
        shared: tuple[Attack, ...] = ("discriminator",) if self.rounds and self.share != "generator" else ()
        return (*shared, "nearest", "density", "inversion")

    @property
    def attack_size(self) -> int:
        """How many numbers a site answers an attack's query with: attacks, halves of patients, bins."""
        return len(self.attacks) * 2 * ATTACK_BINS

    @property
    def attack_rate(self) -> float:
        """The probability at which a training patient joins the query of attacks, by public facts alone."""
        return min(1.0, self.evaluation.attack_patients / self.sites.nominal_patients)

    @property
    def control_rate(self) -> float:
        """The same of held-out patients, of whom there are fewer."""
        held_out = self.sites.nominal_patients * HELD_OUT_PERCENT / 100
        return min(1.0, self.evaluation.attack_patients / held_out)

    @property
    def feature_count(self) -> int:
        """How many numbers the embedding of an image has."""
        asked = self.one_shot
        return 2 * asked.frequencies * (len(asked.bandwidths) + len(asked.gabor_bandwidths))

    @property
    def sizes_of_sums(self) -> tuple[int, int]:
        """How many numbers a site adds to the sums of the one-shot query and of the evaluation."""
        classes = len(self.data.classes)
        first = classes * (self.feature_count + 1) if self.free_fakes else 0
        return first, self.judged_size

    @property
    def judged_size(self) -> int:
        """How many numbers a site answers the evaluation with."""
        if means := MEAN_SCORES.get(self.task):
            return len(means) + 1
        classes = len(self.data.classes) if self.free_fakes else 2
        return classes**2 * SCORE_BINS

    @property
    def discriminator_size(self) -> int:
        """How many weights the discriminator has: the numbers in the sum of a joint step."""
        before, size = self.data.image_channels + len(self.data.classes), int(self.data.image_size)
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
