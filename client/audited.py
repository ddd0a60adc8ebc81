"""What an audit looks at: the functions by which a site works, with a study's plan and made-up patients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor, nn

from client.asked import Asked, patient_sampler
from client.round import local_round, noisy_words
from medgan_core.config import ATTACK_BINS, Study
from medgan_core.data.source import Card, Site, SiteData, is_held_out
from medgan_core.device import CPU
from medgan_core.errors import RefusedError
from medgan_core.evaluate.attacks.bins import attack_sum
from medgan_core.evaluate.gate import advantage_sum
from medgan_core.evaluate.histogram import score_histogram
from medgan_core.evaluate.utility import make_classifier
from medgan_core.gan.task import GanTask, PatientTask, synthesis_of
from medgan_core.gan.tasks import make_task
from medgan_core.messages import Event, Groups, Phase, Request, digest_groups
from medgan_core.privacy.audit.mechanism import Answer, Fakes, Mechanism, Query, Sample, Trial
from medgan_core.privacy.embedding import Features, patient_sum
from medgan_core.privacy.ledger import LedgerPolicy, PrivacyLedger
from medgan_core.privacy.noise import Keystream, SecretRandom
from medgan_core.privacy.noise_watch import NoiseWatch
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.seeds import Seeds
from medgan_core.tensors import initial_discriminator, seeded, weights_of

_PATIENTS = 30
_SUM = Event(2.0, 1.0, 1, 2, 10, 1000.0)


def mechanism_of(
    study: Study,
    *,
    unit: Literal["patient", "image"] = "patient",
    held_out: Callable[[str], bool] = is_held_out,
    random: Callable[[], SecretRandom] | None = None,
) -> Mechanism:
    """A site's mechanism in a study; `held_out` is its split. ConfigError for a study without a plan."""
    shape, classes = study.data.image_shape, study.data.classes or ("normal", "other")
    task, plan = make_task(study, shape, classes), PrivacyPlan.of(study, unit)
    if random is None:
        keystream = Keystream()
        random = lambda: keystream  # noqa: E731
    made_up = _MadeUp(study, task)
    return Mechanism(
        plan=plan,
        runs=plan,
        random=random,
        sample=made_up.sampler,
        step=lambda optimizer: optimizer.step,
        free=lambda sample: None,
        charged=lambda plan, phase: plan.event(phase),
        queries=_queries(study, len(classes)),
        held_out=lambda keys: [held_out(key) for key in keys],
        answers=answers,
        round=made_up.round,
        leaves=made_up.leaves,
        leaves_with=made_up.leaves_with,
        trial=made_up.trial,
    )


@contextmanager
def answers() -> Iterator[Answer]:
    """A fresh ledger with one secure sum and one repeat held, and its answer to the sum of a cohort."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        with PrivacyLedger.open(path, "audit", LedgerPolicy(max_repeats=1, epsilon_cap=1e6)) as ledger:
            account = ledger.enrol(["a patient"])
            ledger.hold("audit", "plan", {account: (_SUM, _SUM)})

            def answer(cohort: str) -> str:
                where = ("audit", 0, Phase.ONE_SHOT, cohort, account)
                try:
                    charge = ledger.charge(*where, "training", _SUM, query="the same")
                except RefusedError:
                    return "refused"
                if charge.state == "open":
                    ledger.seal(charge.receipt, "update")
                return "fresh" if charge.state == "open" else "replayed"

            yield answer


def _queries(study: Study, classes: int) -> tuple[Query, ...]:
    """Those of a site, with inputs that are as extreme as any."""
    weight = study.one_shot.count_weight

    def features(count: int, random: torch.Generator) -> tuple[Tensor, ...]:
        loud = torch.randn(count, 16, generator=random) * 10.0 ** torch.randint(-3, 4, (1,), generator=random)
        return loud, _labels(count, classes, random)

    def scores(count: int, random: torch.Generator) -> tuple[Tensor, ...]:
        pairs = torch.randn(2, count, max(classes, 2), generator=random).mul(9).softmax(2)
        return pairs[0], pairs[1], _labels(count, max(classes, 2), random)

    def embedded(rows: Tensor, labels: Tensor, owner: Tensor) -> Tensor:
        return patient_sum(rows, labels, owner, classes, weight)

    def cells(count: int, random: torch.Generator) -> tuple[Tensor, ...]:
        return (torch.randint(-1, ATTACK_BINS + 1, (count, 4), generator=random),)

    def tried(rows: Tensor, owner: Tensor) -> Tensor:
        halves = torch.zeros(int(owner.max()) + 1 if len(owner) else 0, dtype=torch.int64)
        return attack_sum(rows, owner, halves)

    def judged(rows: Tensor, _: Tensor, labels: Tensor, owner: Tensor) -> Tensor:
        return score_histogram(rows, labels, owner)

    return (
        Query("one-shot query", features, embedded),
        Query("gate", scores, advantage_sum),
        Query("evaluation", scores, judged),
        Query("attack", cells, tried),
    )


def _labels(count: int, classes: int, random: torch.Generator) -> Tensor:
    return torch.randint(classes, (count,), generator=random)


class _MadeUp:
    """Patients of noise, with an image or two each, for one study."""

    def __init__(self, study: Study, task: GanTask) -> None:
        plain = {"flip": False, "rotate_degrees": 0.0, "crop_pixels": 0, "views": 1}
        self.study, self.task = study, task
        self._plain = study.model_copy(update={"data": study.data.model_copy(update=plain)})
        self._bare = GanTask(
            task.name,
            task.image_shape,
            task.classes,
            task.private_networks,
            task.make_generator,
            task.make_discriminator,
        )

    def sampler(self, plan: PrivacyPlan, random: SecretRandom, images: Tensor) -> Callable[[], Sample]:
        """The sampler of a site's steps over patients with one of these images each, as they are."""
        data = self._data(images, torch.arange(len(images)))
        watch = plan.watch(Phase.TRAIN)
        asked = Asked(
            self._plain, self._bare, plan, Site("audit", data, data), self._request(plan, Phase.TRAIN, {}),
            Seeds(0), random, CPU, watch,
        )  # fmt: skip
        return patient_sampler(asked)

    def round(self, plan: PrivacyPlan, phase: Phase, random: SecretRandom, watch: NoiseWatch) -> None:
        """A whole round of a site."""
        owner = torch.arange(_PATIENTS).repeat_interleave(torch.arange(_PATIENTS) % 2 + 1)
        data = self._data(self._images(len(owner), 0), owner)
        site, request = Site("audit", data, data), self._request(plan, phase, self._groups())
        if plan.summed(phase):
            noisy_words(self.study, self.task, plan, site, request, Seeds(0), random, CPU, watch)
        else:
            local_round(self.study, self.task, plan, site, request, {}, Seeds(0), random, CPU, watch)

    def leaves(self, plan: PrivacyPlan, random: SecretRandom, seed: int) -> str:
        """The digest of what leaves in a round of training: weights and metrics."""
        return self._leaving(self.task, plan, random, seed)

    def leaves_with(self, fakes: Fakes) -> Callable[[PrivacyPlan, SecretRandom, int], str]:
        """The same with other fakes, made of the site's images: where a study's fakes are free."""

        def leaves(plan: PrivacyPlan, random: SecretRandom, seed: int) -> str:
            images = self._images(_PATIENTS, seed)

            if isinstance(self.task, PatientTask):  # its fakes are made of patients, under the clip
                return self._leaving(self.task, plan, random, seed)
            task = synthesis_of(self.task)

            def sample(generator: nn.Module, labels: Tensor, public: torch.Generator) -> Tensor:
                copies = fakes(images).repeat_interleave(len(labels), 0)[: len(labels)]
                return copies + 0 * task.sample(generator, labels, public)

            return self._leaving(replace(task, sample=sample), plan, random, seed)

        return leaves

    def _leaving(self, task: GanTask, plan: PrivacyPlan, random: SecretRandom, seed: int) -> str:
        count = _PATIENTS + seed
        data = self._data(self._images(count, seed), torch.arange(count))
        site, request = Site("audit", data, data), self._request(plan, Phase.TRAIN, self._groups())
        result = local_round(self.study, task, plan, site, request, {}, Seeds(0), random)
        metrics = sorted(result.metrics.items())
        return f"{digest_groups(result.groups)} {metrics}"

    def trial(self) -> Trial:
        """The private networks of the study with the loss of its patients."""
        images = self._images(3, 0)
        labels = torch.arange(3) % len(self.task.classes)
        if isinstance(self.task, PatientTask):
            return self._trial_of_all(self.task, images, labels)
        discriminator = initial_discriminator(self.task, Seeds(0)).double()
        return Trial(discriminator, synthesis_of(self.task).real_loss, images.double(), labels)

    def _trial_of_all(self, task: PatientTask, images: Tensor, labels: Tensor) -> Trial:
        discriminator = initial_discriminator(task, Seeds(0))
        networks = nn.ModuleDict(
            {"generator": seeded(task.make_generator, 1), "discriminator": discriminator}
        )
        frozen = deepcopy(networks).requires_grad_(False)

        def loss(network: nn.Module, rows: Tensor, labels: Tensor) -> Tensor:
            return task.patient_loss(networks, frozen, rows, labels)

        return Trial(networks, loss, task.prepare(images, torch.Generator().manual_seed(0)), labels)

    def _images(self, count: int, seed: int) -> Tensor:
        random = torch.Generator().manual_seed(seed)
        images = torch.rand(count, *self.task.image_shape, generator=random) * 2 - 1
        if self.study.data.masks:
            images[:, -1] = images[:, -1].sign()
        return images

    def _data(self, images: Tensor, owner: Tensor) -> SiteData:
        shape = (images.shape[1], images.shape[2], images.shape[3])
        card = Card("audit", self.task.classes, shape, "OT", "patient", public=True)
        names = tuple(f"audit-{number}" for number in range(int(owner.max()) + 1 if len(owner) else 0))
        return SiteData(card, names, owner, images, torch.arange(len(images)) % len(self.task.classes))

    def _request(self, plan: PrivacyPlan, phase: Phase, groups: Groups) -> Request:
        return Request("audit", 1, phase, plan.digest(), groups)

    def _groups(self) -> Groups:
        """What a coordinator sends, made up."""
        task, channels = self.task, self.task.image_shape[0]
        classifier = weights_of(seeded(lambda: make_classifier(channels, len(task.classes)), 3))
        generator = weights_of(seeded(task.make_generator, 1))
        size = Features.of(self.study.one_shot, task.image_shape, Seeds(0)).size
        embedding = torch.full((len(task.classes), size + 1), 5.0, dtype=torch.float64).numpy()
        return {
            "generator": generator,
            "release": generator,
            "discriminator": weights_of(initial_discriminator(task, Seeds(0))),
            "classifier": classifier,
            "classifier_one_shot": classifier,
            "classifier_refined": classifier,
            "statistics": {"embedding": embedding},
        }
