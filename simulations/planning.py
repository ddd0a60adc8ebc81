"""What the planner says of a study, as the table of `medgan-sim plan`."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from medgan_core.config import Study
from medgan_core.privacy.planner import Advice, Outlook

_STRATEGIES = {"one_shot": "one-shot", "refine": "rounds"}
_ROWS = (
    ("σ one-shot", "multiplier of the one-shot query's noise"),
    ("σ steps", "multiplier of a discriminator step's noise"),
    ("embedding", "noise in each coordinate of a class's mean embedding"),
    ("of its length", "length of that noise, of an embedding of length 1 at most"),
    ("D step", "noise in each weight of one discriminator step, averaged over sites"),
    ("of the clip", "length of that noise, in clip norms"),
    ("in a round", "the same, averaged over the steps of a round: what the planner goes by"),
    ("ε", "of the run, the larger of its accounts"),
    ("local ε", "where more sites than assumed help the coordinator"),
)
_COLUMNS = (
    ("one-shot, rounds", "the one-shot query alone; with adversarial rounds after it"),
    ("local", "each site adds its own full noise"),
    ("secure", "each site adds a share of the noise to a secure sum"),
    ("pooled", "all patients at one site: the ceiling"),
)


def show(study: Study, told: Advice, console: Console) -> None:
    """Print a table of a column for each strategy and noise, what its words mean, and the recommendation."""
    sites = f"{study.sites.count} sites of nominally {study.sites.nominal_patients} patients"
    rounds = f"{study.rounds} rounds of {study.training.discriminator_steps} steps"
    budget = f"ε = {study.privacy.epsilon:g}, δ = {study.privacy.delta:g}" if study.private else "NOT PRIVATE"
    console.print(f"{study.name}: {sites}, {rounds}, {budget}", highlight=False, markup=False, soft_wrap=True)
    table = Table("", box=SIMPLE_HEAD, padding=0)
    for outlook in told.outlooks:
        table.add_column(f"{_STRATEGIES[outlook.strategy]}\n{outlook.noise}", justify="right", min_width=9)
    for (name, _), figures in zip(_ROWS, zip(*map(_cells, told.outlooks), strict=True), strict=True):
        table.add_row(name, *figures)
    console.print(table)
    for name, meaning in (*_COLUMNS, *_ROWS):
        console.print(f"{name}: {meaning}", style="dim", highlight=False, soft_wrap=True)
    for line in (f"recommended: {told.strategy}", *told.reasons):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _cells(outlook: Outlook) -> list[str]:
    figures = (
        outlook.plan.one_shot_noise_multiplier,
        outlook.plan.noise_multiplier if outlook.strategy == "refine" else None,
        outlook.embedding_noise,
        outlook.embedding_ratio,
        outlook.step_noise,
        outlook.step_ratio,
        outlook.round_ratio,
        outlook.epsilon,
        outlook.local_epsilon,
    )
    return ["–" if value is None else f"{value:.3g}" for value in figures]
