"""The page of the attacks: what each attacker has, what it got, what that proves and what not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_ATTACKS = {
    "features": "the image whose features the last layer's gradient shows",
    "latents": "the generator's image whose gradient points the same way (GIAS)",
    "samples": "posterior mean over 1,000 images of the generator",
}
_BEGINNING = """\
# Attacks on a federation

What a curious coordinator, another site, or whoever gets a release can learn, tried with the functions
that run in hospitals: `client.round.local_round`, the private engine, the ledger, the secure sum. All
attacks have a positive control, the same attack without privacy: an attack that never works shows
nothing.

![What the attacks got]({picture})

Chest X-rays of children at 28 × 28 pixels (PneumoniaMNIST, public: that is why patients may be shown).
Small networks, made in {minutes} of one core by

```bash
{command}
```

Real noise is drawn from a secret source, so that figures change a little from run to run.
"""
_INVERSION = """\
## Gradient inversion of a shared update

**The attacker** is the coordinator. It knows the study, the weights that it sent, the public seed of the
fakes and so their part of the update, the patient's label, and the released generator. The site's step
has a single patient, of one image, who is in it for certain, and the update rule is plain SGD: nothing
is easier. In a real round 45 patients are expected in each of 100 steps, and only the sum of all steps
leaves.

{table}

Mean PSNR in dB. The mean image is that of 1,000 images of the same class from the released generator:
whoever knows nothing of the patient has it too. Without privacy the last layer gives the image away: the
ratio of its two gradients is what it saw. With the study's clip norm and noise the same update gives no
more than the mean image.

**What it proves**: for one step of this network, these three attacks learn nothing with privacy on that
the release does not tell anyway. **What not**: that no better attack exists; the guarantee is ε, not
this table. PSNR is of pixels: an attack that learns one bit, such as who was there, does not show (the
figures on membership are made for that). Without privacy a batch of many patients would be harder to
invert than one patient; it is not tried.
"""
_CANARY = """\
## A site found by what it trains on

**The attacker** is the coordinator. It knows a pattern that one of {sites} sites has in its images,
plants it in images of the released generator, and so learns where the pattern moves the weights. The
site whose update, less the mean of the others, has the largest cosine with that direction is its guess.
One step a trial; each site is the canary in turn.

{table}

**What it proves**: privacy of patients does *not* hide a site. Where all of its patients carry the
pattern it is found at ε = 10 as well, since noise is made for one patient. One patient's pattern is
found no more often than by chance, here even without privacy, where about 30 other patients are in the
step. Under a secure sum the coordinator gets masked vectors, which say nothing of any site; what the sum
says of all of them together it still says: its cosine with the direction is {with_canary} with the
canary among them and {without} without.

**What not**: the trials are few, a share of 10 is known to ± .3; and one step is little, a whole round
shows a site more clearly. Whoever must hide what a whole hospital does needs `privacy.secure_sum`, with
`share = "gradient"` for the steps: without that the weights leave each site on their own.
"""
_PLANTED = """\
## Burned-in strings and unique patches

**The attacker** has the released generator, and knows the pattern and its place. 2,000 samples are
compared by normalised cross-correlation (± 2 pixels) with the planted pattern, and with 199 of its kind
that nobody planted. A sample counts where it is more like the pattern than 99 in 100 pairs of a sample
and a pattern never planted. Some patterns look like a body, so the same share is taken of a second
generator that never saw this pattern.

{table}

"share" is that of samples that count, and in brackets that of the generator which never saw the pattern.
"found" says of how many patterns the share gained as much as 1 in 20 patterns that nobody planted did:
of 8 patterns 0 or 1 by chance, 2 or more in 1 of 17 such rows, 3 or more in 1 of 170. The rows of
patients: 8 patients of a site, each with a patch and a text of its own in all of its images.

**What it proves**: the search works where something is there to be found (a whole site, no privacy), and
no patient's pattern comes out above chance with privacy on. **What not**: one patient's pattern does not
come out of this small generator *without* privacy either, so these rows show no effect of ε by
themselves; the guarantee is ε. And a pattern in every image of a site is no patient's: its ε does not
hide it: at ε = 10 the patch still shows, faintly. Text that a device burns into every image has to be
found before training: reading DICOM looks for it (docs/dicom.md).
"""
_WORDS = """\
## No plain update at the coordinator

**The attacker** has the coordinator's machine: messages, Flower's database with its journal, the run
folder, logs. `tests/scenarios/test_no_plain_update.py` plays the one-shot round of three hospitals over
a real SuperLink, reads all files of the coordinator ten times a second, and looks for the numbers of
each site's vector: as whole numbers of the grid and as reals, in double and single precision, little
and big endian, raw, in hexadecimal, in base64, and as text. Without secure sums they are found, in the
database's journal and among the received updates; with them nowhere.
`tests/simulations/attacks/test_no_plain_words.py` does the same with every message of a sum. **What it
does not show**: memory, what a file held for less than a tenth of a second, and what is compressed or
encrypted.
"""


def page(body: Mapping[str, Any], picture: str) -> str:
    """The whole page of these figures."""
    minutes = f"{body['processor_seconds'] / 60:.0f} minutes"
    summed = next(row for row in body["canary"] if "cosine_of_sum" in row)
    sites = round(1 / body["canary"][0]["chance"])
    return "\n".join(
        [
            _BEGINNING.format(picture=picture, minutes=minutes, command=body["command"]),
            _INVERSION.format(table=inversion_table(body["inversion"])),
            _CANARY.format(
                table=canary_table(body["canary"]),
                sites=sites,
                with_canary=f"{summed['cosine_of_sum']:.2f}",
                without=f"{summed['cosine_without_canary']:.2f}",
            ),
            _PLANTED.format(table=planted_table(body["planted"])),
            _WORDS,
        ]
    )


def inversion_table(rows: Sequence[Row]) -> str:
    """PSNR of each attack by privacy, and that of the mean image, as Markdown."""
    levels = list(dict.fromkeys(row["privacy"] for row in rows))
    by = {(row["attack"], row["privacy"]): row["psnr"] for row in rows}
    attacks = dict.fromkeys(row["attack"] for row in rows)
    lines = [[_ATTACKS[name], *(f"{by[name, level]:.1f}" for level in levels)] for name in attacks]
    beside = [next(row["mean_image"] for row in rows if row["privacy"] == level) for level in levels]
    return _table(["attack", *levels], [*lines, ["the mean image", *(f"{psnr:.1f}" for psnr in beside)]])


def canary_table(rows: Sequence[Row]) -> str:
    """How often the canary was found, as Markdown."""
    heads = ["who has the pattern", "privacy", "what is seen", "found", "by chance", "cosine", "trials"]
    names = ("canary", "privacy", "seen", "found", "chance", "cosine", "trials")
    return _table(heads, [[str(row[name]) for name in names] for row in rows])


def planted_table(rows: Sequence[Row]) -> str:
    """How often planted patterns came out, as Markdown."""
    heads = ["planted in", "privacy", "patch: share", "found", "text: share", "found"]
    return _table(heads, [[row["planted"], row["privacy"], *_cells(row)] for row in rows])


def _cells(row: Row) -> Iterator[str]:
    for kind in ("patch", "text"):
        one = row[kind]
        yield f"{one['rate']:.3f} ({one['reference']:.3f})"
        yield f"{one['found']} of {one['of']}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
