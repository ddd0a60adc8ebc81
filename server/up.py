"""`medgan-server up`: Flower's processes kept alive, and the runs and nodes brought to what the files say.

A command such as `start`, `resume`, `stop` or `enroll` writes a file and is done. The steward sees it within
a second and does what Flower must be told, now or when SuperLink is back.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from medgan_core.errors import InputError, MedGANError
from medgan_core.flower_app import renew_app
from medgan_core.supervision import Backoff, Command, Supervisor, stopped_by_signals
from server import superlink
from server.enrolment import Registered, enrolled
from server.flower_state import prepare
from server.folder import CoordinatorFolder, held
from server.run_file import GOING, OVER, RunFiles, Submission
from server.settings import DEVICE, Settings
from server.superlink import Flower, FlowerError

Say = Callable[[str], None]
UP_LOCK = "up.lock"
_LOOK_SECONDS = 1.0
_BEGIN_SECONDS = 300.0  # a busy machine takes more than a minute to load torch
_COMPLAIN_SECONDS = 60.0
_FAREWELLS = Backoff(first=3600.0, most=86400.0)


def up(folder: CoordinatorFolder, say: Say) -> None:
    """Run until SIGTERM or Ctrl-C. InputError where another `up` has this folder, or its port is taken."""
    with held(folder.path / UP_LOCK, f"medgan-server up runs in {folder.path.name} already"):
        settings = folder.settings()
        _check_device(settings)
        if superlink.listens(folder):
            raise InputError(
                f"superlink_port = {settings.superlink_port}: something listens there already; end it, or "
                "choose another port in coordinator.toml"
            )
        prepare(folder.database)
        superlink.write_configuration(folder)
        if renew_app(folder.app):
            say("the app is written anew, for this version")
        environment = superlink.environment(folder)
        supervisor = Supervisor(
            [
                Command(name, argv, environment, folder.logs / f"{name}.log", folder.path)
                for name, argv in (
                    ("superlink", lambda: superlink.superlink_command(folder)),
                    ("superexec", lambda: superlink.superexec_command(folder)),
                )
            ],
            lambda name, code, seconds: say(
                f"{name} ended with {code} after {seconds:.0f} s: it is restarted"
            ),
        )
        steward = Steward(folder, Flower(folder), say)
        watcher = threading.Thread(target=steward.watch, name="steward", daemon=True)
        with stopped_by_signals(supervisor.stop):
            say(f"coordinator {settings.name}: SuperLink on 127.0.0.1:{settings.superlink_port}")
            watcher.start()
            try:
                supervisor.run()
            finally:
                steward.stop()
        say("stopped; runs go on with the next medgan-server up")


def _check_device(settings: Settings) -> None:
    """Refuse a GPU that is not there to the person who starts the coordinator, not only to its runs."""
    if settings.device.startswith("cuda"):  # else torch need not be loaded here
        from medgan_core.device import choose

        choose(settings.device, DEVICE)


class Steward:
    """Brings Flower to what the folder's files say, and says what it did."""

    def __init__(self, folder: CoordinatorFolder, flower: Flower, say: Say) -> None:
        self._folder, self._flower, self._say = folder, flower, say
        self._registered = Registered(folder)
        self._stop = threading.Event()
        self._farewells: dict[str, tuple[int, float]] = {}
        self._complaint: tuple[str, float] = ("", 0.0)

    def watch(self) -> None:
        """Look at the files again and again until `stop`."""
        while not self._stop.wait(_LOOK_SECONDS):
            if not superlink.listens(self._folder):
                continue
            try:
                self.look()
            except MedGANError as error:
                self._complain(str(error))

    def stop(self) -> None:
        """End `watch` after what it is doing."""
        self._stop.set()

    def look(self) -> None:
        """One look at nodes and runs. Raises FlowerError where Flower says no."""
        self._follow_enrolment()
        for run in self._folder.all_runs():
            files = RunFiles(run)
            self._follow(files)
            self._part_again(files)

    def _complain(self, text: str) -> None:
        """Say it, but the same not more than once a minute."""
        said, when = self._complaint
        if text != said or time.monotonic() > when + _COMPLAIN_SECONDS:
            self._complaint = text, time.monotonic()
            self._say(text)

    def _follow_enrolment(self) -> None:
        gone, new = self._registered.differences(enrolled(self._folder))
        for name, node in gone:
            with suppress(FlowerError):  # its database was made anew, and knows no such node
                self._flower.unregister(node)
            self._registered.drop(name)
            self._say(f"{name}: its node is let in no longer")
        for card in new:
            node = self._flower.register(self._registered.key_file(card), card.name)
            self._registered.add(card, node)
            self._say(f"{card.name}: its node may come in, {card.fingerprint()}")

    def _follow(self, files: RunFiles) -> None:
        """Have a run served that is to be served and is not."""
        standing = files.standing
        wanted = standing.state in GOING or (files.stop_wanted and standing.state not in OVER)
        if not wanted or files.served:
            return
        before = files.submitted
        if before is not None:
            begun = files.was_served_by(before.flower_run)
            if not begun and time.time() < before.when + _BEGIN_SECONDS:
                return  # its process is being started
            with suppress(FlowerError):  # it may be over already
                self._flower.stop_run(before.flower_run)
            self._say(f"run {files.run.name}: its process {'died' if begun else 'did not start'}")
        self._submit(files, before)

    def _part_again(self, files: RunFiles) -> None:
        """Have sites told that were away when their run ended: what they reserved for it is held until then.

        With each `up`, and then ever more seldom.
        """
        name = files.run.name
        if not files.untold or files.served or time.monotonic() < self._farewells.get(name, (0, 0.0))[1]:
            return
        if not set(files.untold) & enrolled(self._folder).keys():
            return
        tries = self._farewells.get(name, (0, 0.0))[0] + 1
        self._farewells[name] = tries, time.monotonic() + _FAREWELLS.delay(tries, chance=0.0)
        self._flower.start_run(name)
        self._say(f"run {name}: is over; told once more to {', '.join(files.untold)}")

    def _submit(self, files: RunFiles, before: Submission | None) -> None:
        done, most = files.rounds_done, self._folder.settings().restarts
        fruitless = 0 if before is None or done > before.round else before.fruitless + 1
        if fruitless > most:
            files.stand(
                "paused", f"its process died {fruitless} times in round {done}: see logs/superexec.log"
            )
            self._say(f"run {files.run.name}: paused, {files.standing.reason}")
            return
        number = self._flower.start_run(files.run.name)
        files.submit(Submission(number, done, fruitless, time.time()))
        self._say(f"run {files.run.name}: {'begun' if before is None else 'taken up again'} at round {done}")
