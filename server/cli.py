"""`medgan-server`: the coordinator of a federation of hospitals."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan_core.errors import InputError
from medgan_core.release.check.options import Accept, PolicyFile, ShowPolicy
from medgan_core.terminal import run as run_app

# Flower and torch take seconds to import: what needs them is imported in its command.
if TYPE_CHECKING:
    from server.folder import CoordinatorFolder

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
_VARIABLE = "MEDGAN_COORDINATOR"
Dir = Annotated[
    Path, typer.Option("--dir", envvar=_VARIABLE, help="The coordinator's folder.", show_envvar=True)
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The name of a run, as `runs` lists it.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. privacy.epsilon=4.")]
Certificate = Annotated[Path | None, typer.Option(help="A server certificate of yours, PEM, with its chain.")]
Key = Annotated[Path | None, typer.Option(help="The private key of that certificate, PEM.")]
Authority = Annotated[Path | None, typer.Option("--ca", help="The authority that signed it, PEM.")]
_DEFAULT = Path()


def main() -> None:
    """The entry point of `medgan-server`."""
    run_app(app)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    host: Annotated[
        list[str] | None, typer.Option(help="A name or address under which hospitals reach you.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the coordinator is called.")] = "coordinator",
    port: Annotated[int, typer.Option(help="Where SuperLink listens, on loopback.")] = 9091,
    proxy_port: Annotated[int, typer.Option(help="Where nginx listens for hospitals.")] = 8443,
    certificate: Certificate = None,
    key: Key = None,
    ca: Authority = None,
) -> None:
    """Make a coordinator's folder: certificates, secret, settings, nginx.conf."""
    from medgan_core.flower_app import write_app
    from server import superlink
    from server.folder import CoordinatorFolder
    from server.pki import make_authority
    from server.settings import Settings

    given = (certificate, key, ca)
    if any(given) and not all(given):
        raise InputError("--certificate, --key and --ca: give all three, or none and they are made")
    settings = Settings.checked(
        {"name": name, "hosts": host or [], "superlink_port": port, "proxy_port": proxy_port}
    )
    made = CoordinatorFolder.create(folder, settings)
    try:
        if not all(given):
            make_authority(made.tls, settings.name)
        _certify(made.path, settings.hosts, given)
    except BaseException:
        shutil.rmtree(made.path)  # nobody has anything of it yet
        raise
    superlink.write_configuration(made)
    write_app(made.app)
    typer.echo(f"made: {made.path}")
    typer.echo(f"key of releases, {made.trusted_key().told()}")
    _tell_certificate(made.path)
    typer.echo("next: hand tls/ca.crt to the hospitals, enroll their cards, then medgan-server up")


@app.command()
def renew(
    folder: Dir = _DEFAULT, certificate: Certificate = None, key: Key = None, ca: Authority = None
) -> None:
    """Make a new server certificate for the hosts in coordinator.toml, or take yours; and nginx.conf anew."""
    from server.folder import CoordinatorFolder

    opened = CoordinatorFolder.open(folder)
    given = (certificate, key, ca)
    if any(given) and not all(given):
        raise InputError("--certificate, --key and --ca: give all three, or none and one is made")
    _certify(opened.path, opened.settings().hosts, given)
    _tell_certificate(opened.path)
    typer.echo("next: restart medgan-server up and nginx")


@app.command()
def enroll(
    card: Annotated[Path, typer.Argument(metavar="CARD", help="A hospital's public-card.json.")],
    name: Annotated[str, typer.Option(help="The site's name, as the hospital told you.")] = "",
    folder: Dir = _DEFAULT,
) -> None:
    """Let a hospital in, after you have compared the fingerprint with it by telephone."""
    from server.enrolment import enrol

    opened = _open(folder)
    told = enrol(opened, card, name)
    typer.echo(f"{told.name}: {told.fingerprint()}")
    typer.echo("compare this fingerprint with the hospital: medgan-client status shows it there")
    _tell_waiting(opened.path, "its node is let in")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An enrolled site.")], folder: Dir = _DEFAULT
) -> None:
    """Let a hospital in no longer."""
    from server.enrolment import revoke as revoked

    opened = _open(folder)
    typer.echo(f"revoked: {name}, {revoked(opened, name).fingerprint()}")
    _tell_waiting(opened.path, "its node is shut out")


@app.command()
def sites(folder: Dir = _DEFAULT) -> None:
    """List the enrolled hospitals with their fingerprints."""
    from server.enrolment import enrolled

    for name, card in enrolled(_open(folder)).items():
        typer.echo(f"{name}  {card.fingerprint()}")


@app.command()
def keys(folder: Dir = _DEFAULT) -> None:
    """Print the public keys of this coordinator and its hospitals: what `medgan verify --trust` reads.

    Whoever gets them compares the fingerprints with you and with the hospitals by telephone.
    """
    from medgan_core.release.trust import keys_text
    from server.enrolment import enrolled

    opened = _open(folder)
    own = opened.trusted_key()
    typer.echo(keys_text({name: card.verify_key for name, card in enrolled(opened).items()}, own), nl=False)
    typer.echo(own.told(), err=True)


@app.command()
def up(folder: Dir = _DEFAULT) -> None:
    """Run the coordinator in the foreground, until Ctrl-C or SIGTERM."""
    from server.up import up as run_up

    run_up(_open(folder), typer.echo)


@app.command()
def start(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="A study file.")],
    sites: Annotated[str, typer.Option(help="Which sites, a,b,c in the order of the study's weights.")] = "",
    set_: Set = None,
    folder: Dir = _DEFAULT,
) -> None:
    """Propose a study to hospitals and run it; prints the run's name."""
    from server.start import start as started

    opened = _open(folder)
    names = [name.strip() for name in sites.split(",") if name.strip()]
    run = started(opened, study, names, set_ or ())
    _tell_waiting(opened.path, "the run is proposed to the sites", err=True)
    typer.echo(run.name)


@app.command()
def runs(folder: Dir = _DEFAULT) -> None:
    """List all runs."""
    from rich.console import Console

    from server.watch import table_of_runs

    Console().print(table_of_runs(_open(folder).all_runs()))


@app.command()
def watch(
    name: Run,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and do not wait.")] = False,
    folder: Dir = _DEFAULT,
) -> None:
    """Watch a run: its sites, rounds, ε and the generator's loss."""
    from rich.console import Console

    from server.watch import watch as watched

    watched(_open(folder).run(name), Console(), once=once)


@app.command()
def stop(name: Run, folder: Dir = _DEFAULT) -> None:
    """End a run for good; what its sites hold for it is free again, what was charged stays charged."""
    from server.start import stop as stopped

    opened = _open(folder)
    stopped(opened, name)
    _tell_waiting(opened.path, f"run {name} ends")


@app.command()
def resume(name: Run, folder: Dir = _DEFAULT) -> None:
    """Go on with a run that is paused; no round is lost, and nothing is charged twice."""
    from server.start import resume as resumed

    opened = _open(folder)
    resumed(opened, name)
    _tell_waiting(opened.path, f"run {name} goes on")


@app.command("release-check")
def release_check(
    name: Annotated[str, typer.Argument(metavar="RUN", help="The name of a run, as `runs` lists it.")] = "",
    policy: PolicyFile = None,
    show_policy: ShowPolicy = False,
    folder: Dir = _DEFAULT,
) -> None:
    """May the release of RUN go out? Exits with 0 pass, 1 fail, 3 inconclusive.

    The release is written anew with what was found: card.json, card.md, report.html and report.pdf.
    """
    from medgan_core.release.check.options import asked_policy, check_and_show
    from server.releasing import finished

    asked = asked_policy(policy, show_policy)
    opened = _open(folder)
    run = finished(opened, name)
    check_and_show(run.release, asked, opened.signing_key())


@app.command()
def release(
    name: Run,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for the release.")],
    policy: PolicyFile = None,
    accept: Accept = "",
    folder: Dir = _DEFAULT,
) -> None:
    """Copy the release of a finished run, if the release check lets it out.

    One that fails is refused; one that is inconclusive too, unless a person answers for it.
    """
    from rich.console import Console

    from medgan_core.release.check.options import asked_policy
    from medgan_core.release.check.shown import show
    from server.releasing import release as released

    found = released(
        _open(folder), name, out, asked_policy(policy), accept, lambda told: show(told, Console())
    )
    typer.echo(f"{out}: {found}")


def _open(path: Path) -> "CoordinatorFolder":
    """The folder, after a look at its certificates."""
    from server.folder import CoordinatorFolder
    from server.pki import expiry_warnings

    folder = CoordinatorFolder.open(path)
    for line in expiry_warnings(folder.tls):
        typer.echo(f"warning: {line}", err=True)
    return folder


def _certify(path: Path, hosts: Sequence[str], given: tuple[Path | None, Path | None, Path | None]) -> None:
    """Make or take the server's certificate, and write nginx.conf for it."""
    from medgan_core.record import write_atomically
    from server.folder import CoordinatorFolder
    from server.pki import make_server_certificate, take_certificate
    from server.proxy import nginx_conf

    folder = CoordinatorFolder.open(path)
    certificate, key, authority = given
    if certificate and key and authority:
        take_certificate(folder.tls, certificate, key, authority)
    else:
        make_server_certificate(folder.tls, hosts)
    write_atomically(folder.nginx, nginx_conf(folder, folder.settings()).encode())


def _tell_certificate(path: Path) -> None:
    from server.folder import CoordinatorFolder
    from server.pki import days_left, fingerprint

    tls = CoordinatorFolder.open(path).tls
    typer.echo(f"authority, SHA-256: {fingerprint(tls / 'ca.crt')}")
    typer.echo(f"server certificate: valid for {days_left(tls / 'server.pem'):.0f} days")


def _tell_waiting(path: Path, what: str, *, err: bool = False) -> None:
    from server.folder import is_held
    from server.up import UP_LOCK

    if is_held(path / UP_LOCK):
        typer.echo(f"{what} within seconds", err=err)
    else:
        typer.echo(f"{what} as soon as medgan-server up runs", err=err)
