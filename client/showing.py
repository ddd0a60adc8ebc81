"""What a site's person reads: a study before a decision, the ledger by runs, studies by their state."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from client.approvals import Entry
from client.diary import Note
from client.judging import Judged, judge
from client.site_file import SiteFile
from client.version import trainer_version
from medgan_core.errors import PolicyError
from medgan_core.messages import Event, Receipt
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.chain import Entry as Line
from medgan_core.privacy.ledger import PrivacyLedger
from medgan_core.public_card import fingerprint_of


def study_lines(entry: Entry, judged: Judged) -> Iterator[str]:
    """The resolved study, for someone who has to answer for these patients."""
    study, plan, data = judged.study, judged.plan, judged.study.data
    yield f"study      {study.name} ({study.task}), run {entry.proposal.run}"
    yield f"digest     {entry.digest}"
    yield f"came       {entry.came}"
    names = f" ({', '.join(data.channel_names)})" if data.channel_names and not data.depth else ""
    yield f"images     {data.modality}, {data.image_size}×{data.image_size}×{data.image_channels}{names}"
    yield f"classes    {', '.join(data.classes)}"
    yield (
        f"work       one query, {study.rounds} rounds of {study.training.discriminator_steps} steps, "
        f"{'a gate, ' if plan.gate else ''}an evaluation"
    )
    yield f"leaves     {_leaving(judged)}"
    if plan.private:
        yield (
            f"privacy    noise of queries {plan.one_shot_noise_multiplier:.4g} and "
            f"{plan.evaluation_noise_multiplier:.4g}, of steps {plan.noise_multiplier:.4g}; clip norm "
            f"{plan.clip_norm:g}; {plan.max_images_per_patient} images of a patient at most"
        )
    else:
        yield "privacy    NONE: this study protects nobody"
    for name, key in sorted(entry.proposal.sites.items()):
        yield f"site       {name}  {fingerprint_of(key)}"
    if plan.rules is not None:
        yield (
            f"           secure sums: compare these with the other sites; {plan.rules.collude} of them may "
            f"collude, {plan.rules.drop} may fail"
        )


def cost_lines(config: SiteFile, ledger: PrivacyLedger, judged: Judged) -> Iterator[str]:
    """What a study costs, and what would be left: ε composes to less than its sum, hence "at least"."""
    policy, cost = config.policy, judged.cost
    counted = cost.counted(policy)
    yield f"costs      epsilon {counted:.4g} at delta {judged.plan.delta:g} for each patient"
    if judged.plan.rules is not None:
        yield f"           {cost.trusted:.4g} with trust in secure sums, {cost.local:.4g} without"
    committed = max((ledger.committed(account) for account in ledger.accounts()), default=0.0)
    spent = max((ledger.spent(account) for account in ledger.accounts()), default=0.0)
    cap = ledger.policy.epsilon_cap
    yield f"before     epsilon {spent:.4g} spent, {committed:.4g} with what open runs hold, {cap:.4g} at most"
    yield f"after      at least {max(0.0, cap - committed - counted):.4g} left for other studies"


def _leaving(judged: Judged) -> str:
    study = judged.study
    if not study.rounds:
        return "noisy sums and a noisy histogram of scores"
    what = {
        "both": "the weights of generator and discriminator",
        "generator": "the weights of the generator",
        "gradient": "each step's noisy gradient, in a secure sum",
    }[study.share]
    return f"noisy sums, a noisy histogram of scores, and {what}"


def state_of(entry: Entry, config: SiteFile, own_key: str, active: Sequence[str]) -> str:
    """Where a study stands at this site; where the policy says no, by which rules."""
    decision = entry.decided(trainer_version())
    if entry.closed:
        return f"ended ({entry.closed})"
    if decision is None:
        try:
            judge(config, entry.proposal, own_key)
        except PolicyError as error:
            return f"refused by site.toml: {error}"
        again = entry.decision is not None and entry.decision.answer == "approved"
        return "waits for you: the trainer is another version now" if again else "waits for you"
    if decision.answer != "approved":
        return (
            f"{decision.answer} by {decision.by}{': ' if decision.rules else ''}{'; '.join(decision.rules)}"
        )
    return f"{'active' if entry.digest in active else 'queued'}, approved by {decision.by}"


def studies_table(entries: Sequence[Entry], config: SiteFile, own_key: str, active: Sequence[str]) -> Table:
    """All studies, the oldest first."""
    table = Table("study", "run", "digest", "came", "state", title="studies")
    for entry in entries:
        name = str(entry.proposal.study.get("name", ""))
        table.add_row(
            name, entry.proposal.run, entry.digest[:16], entry.came, state_of(entry, config, own_key, active)
        )
    return table


@dataclass
class Spending:
    """What a run charged at this site."""

    first: str = ""
    last: str = ""
    rounds: int = 0
    events: dict[str, list[Event]] = field(default_factory=dict)
    state: str = "open"

    def epsilon(self, delta: float) -> float:
        """ε of this run alone: the larger of its accounts."""
        return max((epsilon(events, delta) for events in self.events.values()), default=0.0)


def spending(lines: Sequence[Line]) -> dict[str, Spending]:
    """By run, from the entries of the ledger."""
    runs: dict[str, Spending] = {}
    for line in lines:
        body = line.body
        when = str(body.get("time", ""))
        if line.kind == "hold":
            runs[body["run"]] = Spending(first=when)
        elif line.kind == "close":
            runs[body["run"]].state = "closed"
        elif line.kind == "charge":
            run = runs[body["receipt"]["run"]]
            run.rounds, run.last = run.rounds + 1, when
            run.events.setdefault(body["account"], []).append(Event(**body["receipt"]["event"]))
    return runs


def ledger_table(lines: Sequence[Line], studies: Mapping[str, Entry], delta: float) -> Table:
    """Who spent what, when, for which run."""
    table = Table("run", "study", "approved by", "approved", "last round", "rounds", "epsilon", "hold")
    for run, spent in spending(lines).items():
        entry = studies.get(run)
        by = entry.decision.by if entry and entry.decision else ""
        name = str(entry.proposal.study.get("name", "")) if entry else ""
        figure = f"{spent.epsilon(delta):.4g}"
        table.add_row(run, name, by, spent.first, spent.last, str(spent.rounds), figure, spent.state)
    return table


def charges_table(lines: Sequence[Line]) -> Table:
    """Every charge, with ε of its account afterwards."""
    table = Table("entry", "time", "run", "round", "phase", "account", "steps", "noise", "epsilon after")
    for line in lines:
        if line.kind == "charge":
            body: dict[str, Any] = line.body
            receipt = Receipt.from_json(
                body["receipt"] | {"site": "", "ledger": "", "sequence": 0, "head": ""}
            )
            table.add_row(
                str(line.sequence),
                str(body.get("time", "")),
                receipt.run,
                str(receipt.round),
                str(receipt.phase),
                f"{receipt.account} {body['account'][:8]}",
                str(receipt.event.steps),
                f"{receipt.event.noise_multiplier:.4g}",
                f"{receipt.spent:.4g}",
            )
    return table


def note_line(note: Note) -> str:
    """A line of the log."""
    facts = ", ".join(f"{name} {value}" for name, value in note.facts.items() if value != "")
    return f"{note.sequence:6d}  {note.time}  {note.kind:<12} {facts}"
