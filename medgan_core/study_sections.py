"""The sections of a study beside [data]: sites, privacy, one-shot query, training, judging, patience."""

from typing import Annotated, Literal

from pydantic import Field

from medgan_core.sections import Section

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Positively = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Precision = Literal["float32", "bfloat16", "auto"]
DEVICES = r"^(auto|cpu|cuda(:[0-9]{1,3})?)$"
DeviceName = Annotated[str, Field(pattern=DEVICES)]
Positives = Annotated[tuple[Positively, ...], Field(strict=False)]


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
    clip_norm: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0  # far inside of float32's range
    max_images_per_patient: Positive = 4
    max_sites_per_patient: Positive = 1
    secure_sum: bool = False
    collude: Positive = 1
    drop: Annotated[int, Field(ge=0)] | None = None
    max_repeats: Annotated[int, Field(ge=0, le=10)] = 1


class OneShotConfig(Section):
    """The one private query before the first round, and how the generator is trained to match it.

    `compile`: by torch.compile, which takes up to a minute first and gained nothing on a CPU. A private step
    is never compiled: its checks read the graph of every layer.
    """

    frequencies: Annotated[int, Field(ge=8, le=100_000)] = 1000
    bandwidths: Annotated[Positives, Field(min_length=1)] = (0.03,)
    gabor_bandwidths: Positives = (0.5,)
    count_weight: Positively = 0.2
    iterations: Annotated[int, Field(ge=0)] = 1500
    batch: Annotated[int, Field(ge=2)] = 128
    learning_rate: Positively = 5e-3
    compile: bool = False


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

    loss: Literal["non_saturating", "hinge", "least_squares", "wasserstein"] = "non_saturating"
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
    anchor_weight: Weight = 5.0
    proximal: Weight = 0.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9


class MappingConfig(Section):
    """The tasks that make an output of an image: what weighs how much, and the size of their networks.

    `pixel_weight` counts the distance to the reference (L1; Dice and cross-entropy for masks),
    `adversarial_weight` the discriminator, `cycle_weight` the way back where `paired` is false.
    `corruption` is what restoration undoes. `normal` is the class that anomaly detection trains on (the
    first unless given). `width` is that of the first level of the U-Net.
    """

    corruption: Literal["noise", "blur", "inpaint", "superres2", "superres4", "mixed"] = "noise"
    paired: bool = True
    normal: str = ""
    width: Annotated[int, Field(ge=4, le=256)] = 16
    pixel_weight: Weight = 1.0
    adversarial_weight: Weight = 0.01
    cycle_weight: Weight = 10.0


class EvaluationConfig(Section):
    """The judging of generators at the sites, on patients held out of training, who have `epsilon`.

    With `gate`, and where there are rounds, one query decides whether the refined generator replaces that of
    the one-shot start. Alone it is given `gate_share` of ε: a share s widens the noise of the evaluation by
    about 1/√(1 - s²), 9 % as it is, since noise composes by its squares.

    With `attack` the sites try attacks on the generator that is to be released, and tell in two queries how
    training patients ("attack") and held-out ones ("control") score: some `attack_patients` of each at a
    site of nominal size, drawn by their own coins. Alone the queries are given `attack_share` of the training
    patients' ε, which widens the noise of the one-shot query by some 3 %, and `control_share` of the held-out
    patients'.
    """

    epsilon: Positively | None = None
    gate: bool = True
    gate_share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    attack: bool = True
    attack_patients: Positive = 500
    attack_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    control_share: Annotated[float, Field(gt=0, lt=1)] = 0.4
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
