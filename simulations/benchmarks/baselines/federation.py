"""One federation from approval to its last round, in this process: all private methods go through it.

Sites, ledgers, charges and noise are those of a real run (`simulations.course`); what is left out is what a
run leaves on disk. So every method has the same accountant, and its ε is read off its receipts.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from client.site import RandomFor
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.gan.task import GanTask, synthesis_of
from medgan_core.record import RunFolder
from medgan_core.release.spending import release_epsilon
from medgan_core.tensors import load
from server.exchange import Exchange
from server.planning import decided
from server.rounds import federate
from server.state import FederationState, draw, initial_state
from simulations.benchmarks.baselines.method import Sampler, changed
from simulations.hospitals import Launch, make_worker, open_ledger, pin, pinned, pooled
from simulations.loop import loop_engine

# The federation judges its generator too, at a charge to held-out patients alone. The benchmark judges all
# methods by itself, so without a gate, which chooses by them, few images are enough there.
_OWN_JUDGEMENT = {"evaluation.synthetic_images": 16}


@dataclass(frozen=True, eq=False)
class Federation:
    """How a federation ended, and ε of what its sites charged."""

    task: GanTask
    state: FederationState
    epsilon: float

    def sampler(self) -> Sampler:
        """Of the generator that would be released."""
        generator = self.task.make_generator()
        load(generator, self.state.groups["release"])
        return Sampler(partial(draw, synthesis_of(self.task), generator.eval()), self.epsilon)


def federation(study: Study, sites: Sequence[Site], random: RandomFor) -> Federation:
    """Run all rounds of the study, by the planner where its strategy is "auto".

    Raises BudgetError above the sites' cap, before anything is trained.
    """
    study = decided(study)
    study = study if study.gated else changed(study, _OWN_JUDGEMENT)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        run, launch = RunFolder.create(Path(folder), study), Launch()
        pin(study, run, sites)
        ledgers = [stack.enter_context(open_ledger(study, run, launch, site.name)) for site in sites]
        workers = [
            make_worker(study, run, site, ledger, random) for site, ledger in zip(sites, ledgers, strict=True)
        ]
        for worker in workers:
            worker.approve()
        task, plan = workers[0].task, workers[0].plan
        first = initial_state(study, task, run.name, [site.name for site in sites])

        def course(exchange: Exchange) -> FederationState:
            return federate(
                study, task, plan, first, exchange, keep=lambda state: None, cohort=pinned(study, run)
            )

        last = loop_engine(workers, course)
    return Federation(task, last, release_epsilon(last.receipts, plan))


def at_one_site(study: Study, sites: Sequence[Site]) -> tuple[Study, tuple[Site, ...]]:
    """The same patients in one place, and a study that says so: no other site, all the nominal patients."""
    training, held_out = pooled(sites, sites[0].training.card)
    told = {
        "sites.count": 1,
        "sites.nominal_patients": study.sites.nominal_patients * study.sites.count,
        "sites.weights": [],
        "sites.quorum": 0,
        "privacy.secure_sum": False,
    }
    return changed(study, told), (Site("pooled", training, held_out),)
