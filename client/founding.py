"""A site's beginning and its end."""

import shutil
import tomllib
from contextlib import suppress
from datetime import UTC, datetime

from client.books import found_ledger, keep_heads, open_ledger
from client.diary import Diary
from client.folder import SECRET, SiteFolder, write_private
from client.keys import destroy_keys, make_keys, rotate_keys, write_card
from client.site_file import SiteFile, parse_site_file, template
from medgan_core.errors import InputError, RefusedError
from medgan_core.public_card import NAME, PublicCard
from medgan_core.record import write_json


def found_site(folder: SiteFolder, name: str) -> PublicCard:
    """A new site: its folders, keys, empty ledger, diary, site.toml and card.

    InputError where there is a site already. One that was cut short is gone on with: site.toml comes last.
    """
    if folder.site_file.exists() or folder.decommissioned.exists():
        raise InputError(
            f"{folder.path.resolve().name} is a site already, and nothing in it is overwritten: "
            "choose another folder"
        )
    config = _checked(name)
    folder.make()
    both = folder.node_key.exists() and folder.signing_key.exists()
    if not both:
        destroy_keys(folder)  # of a beginning that was cut short: nobody knows them yet
    card = write_card(folder, name) if both else make_keys(folder, name)
    diary = Diary(folder.log)
    diary.add("init", name=name, fingerprint=card.fingerprint())
    found_ledger(folder, config, diary)
    write_private(folder.site_file, template(name).encode())
    return card


def rotate(folder: SiteFolder, *, even_with_runs: bool) -> PublicCard:
    """New keys. RefusedError while runs are open, since they know the old ones, unless they are given up."""
    config, diary = folder.config(), Diary(folder.log)
    with open_ledger(folder, config) as ledger:
        if (runs := ledger.open_runs()) and not even_with_runs:
            raise RefusedError(
                f"open runs know this site by its old keys: {', '.join(runs)}; wait for their end, or give "
                "--even-with-runs and have the new card enrolled at once"
            )
        card = rotate_keys(folder, config.name)
        diary.add("rotate-key", fingerprint=card.fingerprint())
        keep_heads(folder, ledger, diary)
    return card


def decommission(folder: SiteFolder) -> None:
    """Close all holds, export the ledger, destroy private keys and cached images, and refuse further work.

    Killed in between it may be done again. The ledger and its key stay: what was spent on these patients has
    to be known wherever they take part again.
    """
    config, diary = folder.config(), Diary(folder.log)
    with open_ledger(folder, config) as ledger:
        for run in ledger.open_runs():
            with suppress(RefusedError):
                ledger.close_run(run)
        ledger.verify()
        archive = folder.path / "ledger-archive.json"
        write_json(archive, ledger.export())
        archive.chmod(SECRET)
        diary.add("decommission", ledger=ledger.witness().ledger, sequence=ledger.witness().sequence)
        keep_heads(folder, ledger, diary)
    destroy_keys(folder)
    for images in (folder.cache, folder.pulled):
        shutil.rmtree(images, ignore_errors=True)
    write_json(
        folder.decommissioned, {"name": config.name, "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    )


def _checked(name: str) -> SiteFile:
    if not NAME.fullmatch(name):
        raise InputError(f"--name {name[:80]!r}: expected letters, digits and ._- (64 at most), no dot first")
    return parse_site_file(tomllib.loads(template(name)))
