"""When the faults of a trial strike, and that they end."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from tests.chaos.desk import Event
from tests.chaos.lab import EMULATOR
from tests.chaos.plan import Plan, Planned
from tests.chaos.scene import Scene, Target, waited

_PATIENCE = 120.0


@dataclass(slots=True, kw_only=True, eq=False)
class Struck:
    """What became of a planned fault. `at` and `healed` are monotonic; `at` is None where its moment never came.

    `error` is what went wrong with the fault itself: then the trial proves nothing.
    """

    planned: Planned
    scene: Scene
    at: float | None = None
    healed: float | None = None
    error: str = ""

    def __str__(self) -> str:
        if self.at is None:
            return f"{self.planned}: its moment never came"
        where = f" on {self.scene.host}" if self.scene.host else ""
        began = self.scene.command.began if self.scene.command else self.at
        words = [f"struck at {max(0.0, self.at - began):.1f} s", str(self.scene.kept.get("met", "")), self.error]
        return f"{self.planned}{where}: {', '.join(filter(None, words))}"


class Moments:
    """The faults of one trial, each in a thread of its own: `before` the command, `watch` it, and at last `heal`."""

    def __init__(self, plan: Plan, scene: Scene) -> None:
        self.struck = [Struck(planned=one, scene=replace(scene, kept={})) for one in plan.faults]
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def before(self) -> None:
        """Those that are there before the command is."""
        for one in self.struck:
            if one.planned.stage == "before":
                if one.planned.of.target in {Target.BOARD, Target.HOST}:
                    one.scene.host = sorted(one.scene.lab.boards)[one.planned.board]
                _strike(one)

    def watch(self, scene: Scene) -> None:
        """Strikes as the stages come."""
        for one in self.struck:
            one.scene.command = scene.command
            if one.planned.stage != "before":
                self._threads.append(threading.Thread(target=self._wait, args=(one,), daemon=True))
        for thread in self._threads:
            thread.start()

    def heal(self) -> None:
        """Everything is well again, though nothing that was lost comes back."""
        self._over.set()
        for thread in self._threads:
            thread.join(_PATIENCE)
        for one in reversed(self.struck):
            _heal(one)

    def _wait(self, one: Struck) -> None:
        if not self._reached(one) or self._over.wait(one.planned.delay):
            return
        if one.scene.running.ended is not None:
            return
        _strike(one)
        if one.planned.lasts is not None:
            self._over.wait(one.planned.lasts)
            _heal(one)

    def _reached(self, one: Struck) -> bool:
        """Waits for the stage, and chooses the host by what reaches it first."""
        stage, target = one.planned.stage, one.planned.of.target
        hosts = {*one.scene.lab.boards} | ({EMULATOR} if target is not Target.BOARD else set())
        if stage == "start":
            if target in {Target.BOARD, Target.HOST}:
                one.scene.host = sorted(one.scene.lab.boards)[one.planned.board]
            return True
        phase = "build" if stage == "running" else stage

        def wanted(event: Event) -> bool:
            return event["event"] == "phase" and event["name"] == phase and event["host"] in hosts

        event = one.scene.running.event(wanted, self._over)
        if event is None:
            return False
        if target in {Target.BOARD, Target.HOST}:
            one.scene.host = event["host"]
        if stage == "running":
            return waited(lambda: self._runs(one, event["host"]) or one.scene.running.ended is not None, 30)
        return True

    def _runs(self, one: Struck, host: str) -> bool:
        return self._over.is_set() or any(run.host == host for run in one.scene.observer.living())


def _strike(one: Struck) -> None:
    one.at = time.monotonic()
    try:
        one.planned.of.strike(one.scene)
        if not one.planned.of.is_on(one.scene) and (one.scene.command is None or one.scene.command.ended is None):
            one.error = "it has no effect"
    except Exception as error:  # noqa: BLE001 - the trial says so, and goes on to its end
        one.error = f"{type(error).__name__}: {error} {' '.join(getattr(error, '__notes__', []))}"


def _heal(one: Struck) -> None:
    if one.at is None or one.healed is not None:
        return
    try:
        one.planned.of.heal(one.scene)
    except Exception as error:  # noqa: BLE001 - as above
        one.error += f" not healed: {type(error).__name__}: {error}"
    one.healed = time.monotonic()
