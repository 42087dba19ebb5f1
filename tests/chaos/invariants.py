"""What has to hold after every trial, whatever broke in it. Each function says what does not, in sentences."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos.lab import USER
from tests.chaos.leftovers import left, left_before_next
from tests.chaos.scene import Target
from tests.chaos.trial import Ran, Trial, build_next
from tests.services.descendants import descendants

Invariant = Callable[[Trial], Iterator[str]]
DOCUMENTED = {0, 2, 3, 4, 5, 6, 7, 130}
CTRL_C_S = 5.0
# What a busy machine takes longer to let a process end.
_SLACK_S = 2.0
SILENCE_S = 60.0
_DEFECTS = re.compile(
    r"Traceback \(most recent|\bbug:|exception was never retrieved|Exception ignored|DeprecationWarning"
)
_UNKNOWN = {f"registry-{name}" for name in ("answers-lost", "away", "reset", "silent", "slow", "stall", "tag-lost")}
_MOST_BYTES = 64 << 20
# No step of its own outlives these: where one struck, the engine may have left a container behind that runs on.
_ORPHANS = {"engine-killed", "engine-restarted", "engine-stopped", "containerd-killed", "client-killed", "job-killed"}


def tags_are_old_or_right(trial: Trial) -> Iterator[str]:
    """Every tag is old or right at each command's end, and every platform can be pulled with the right content."""
    for ran in trial.commands:
        if ran.tag not in (trial.old, trial.right):
            yield f"after {ran.verb} the tag is neither old nor right: {ran.tag}"
    if trial.commands[-1].tag != trial.right:
        yield f"in the end the tag is not right: {trial.commands[-1].tag}"


def exits_are_true(trial: Trial) -> Iterator[str]:
    """Exit code and words are true: a documented code, published only if it is, no traceback, no bug."""
    for ran in trial.commands:
        is_right = ran.tag == trial.right
        if ran.exit_code not in DOCUMENTED and not _was_killed(trial, ran):
            yield f"{ran.verb} ended with {ran.exit_code}"
        if ran.exit_code == 0 and not is_right:
            yield f"{ran.verb} ended with 0, and the tag is {ran.tag}"
        # Where an answer of the registry was lost, nobody can know.
        if ran.exit_code not in (0, 130) and is_right and not trial.kinds & _UNKNOWN and not _was_killed(trial, ran):
            yield f"{ran.verb} ended with {ran.exit_code}, and has published: {last_words(ran)}"
        if "not touched" in last_words(ran) and ran.tag != trial.old:
            yield f"{ran.verb} says that the tag was not touched, and it is {ran.tag}"
        yield from (
            f"{ran.verb} printed: {line.text[:300]}" for line in ran.command.lines if _DEFECTS.search(line.text)
        )
        ended = [event["exit_code"] for _, event in ran.command.events if event["event"] == "run_ended"]
        if ended and not _was_killed(trial, ran) and ended[-1] != ran.exit_code:
            yield f"{ran.verb} said that it ends with {ended[-1]}, and ended with {ran.exit_code}"


def one_fault_does_not_decide(trial: Trial) -> Iterator[str]:
    """A run fails for what cannot be helped only: it was stopped, or the registry stays away."""
    allowed = {0, *([130] if trial.first.gave_up else [])}
    for one in trial.struck:
        if one.at is not None:
            lasting = one.planned.lasts is None or one.planned.of.target is Target.COORDINATOR
            # Before it is known that the user may push, archloom does not wait.
            early = one.planned.stage == "start" and one.planned.of.target is Target.REGISTRY
            allowed |= set(one.planned.of.exits) if lasting or early else set()
    if trial.first.exit_code not in allowed and not _was_killed(trial, trial.first):
        yield f"build ended with {trial.first.exit_code}: {last_words(trial.first)}"
    if trial.first.gave_up and not any(130 in one.planned.of.exits or one.planned.of.exits for one in trial.struck):
        yield f"build had not ended after {trial.first.command.seconds:.0f} s"


def it_is_finished_without_rebuilding(trial: Trial) -> Iterator[str]:
    """Once all is well, resume or retry finishes the run, and runs no step of what was verified or is held."""
    if not trial.is_finished:
        yield f"{trial.commands[-1].verb} does not finish it: {last_words(trial.commands[-1])}"
    if len(trial.later) > 1:
        told = "; ".join(f"{ran.verb} {ran.exit_code}: {last_words(ran)}" for ran in trial.later)
        yield f"it takes {len(trial.later)} commands to finish it: {told}"
    if trial.later and trial.later[0].verb != "build":
        for platform in sorted(trial.held):
            if trial.observer.of(platform, trial.healed) or platform in _asked_to_build(trial.later[0]):
                yield f"{trial.later[0].verb} built {platform} again, which was built"


def _asked_to_build(ran: Ran) -> set[str]:
    """What it let an engine build, from its cache or not. A run that is resumed tells its past too."""
    events = [event for _, event in ran.command.events] if ran.verb == "retry" else []
    return {event["platform"] for event in events if event["event"] == "phase" and event["name"] == "build"}


def builds_are_few(trial: Trial) -> Iterator[str]:
    """At most two live builds of one job, never two on one host."""
    struck = {one.scene.host for one in trial.struck if one.at is not None and one.planned.kind in _ORPHANS}
    for platform in trial.plan.build.platforms:
        runs = trial.observer.of(platform)
        for number, one in enumerate(runs):
            at_once = [other for other in runs[:number] if one.overlaps(other)]
            if len(at_once) > 1:
                yield f"{platform} had {len(at_once) + 1} builds at once: {[run.host for run in (*at_once, one)]}"
            if any(other.host == one.host for other in at_once) and one.host not in struck:
                yield f"{platform} was built twice at once on {one.host}"


def nothing_is_left(trial: Trial) -> Iterator[str]:
    """No image, folder, process or lock of archloom is left on any host, after the finishing run or one more.

    What a run had on a host that was away is known by the store alone: where that broke as well, a host keeps it for
    `keep_built`, as it does for any coordinator that it hears no more of.
    """
    if trial.kinds & {"store-full", "store-read-only"} and any(one.scene.host for one in trial.struck):
        return
    if left_before_next(trial):
        ran = build_next(trial)
        if ran.exit_code:
            yield f"the next build ended with {ran.exit_code}: {last_words(ran)}"
        yield from (f"left after the next run: {what}" for what in sorted(left(trial)))


def secrets_stay_secret(trial: Trial) -> Iterator[str]:
    """No secret of the registry or the broker is in any file, log, argument or store."""
    words = {bytes.fromhex(line) for line in trial.desk.secrets.read_text().split()}
    password = trial.lab.password.encode()
    words |= {password, base64.b64encode(f"{USER}:".encode() + password)}
    words = {word for word in words if len(word) >= 8}
    for file in _files(trial):
        content = file.read_bytes()
        if any(word in content for word in words):
            yield f"a secret is in {file}"
    argued = [line for line in trial.observer.commands if any(word in line.encode() for word in words)]
    yield from (f"a secret is an argument of {line[:200]}" for line in argued)
    for ran in trial.commands:
        if any(word in (ran.command.stderr + ran.command.stdout).encode() for word in words):
            yield f"{ran.verb} printed a secret"


def nobody_waits_in_silence(trial: Trial) -> Iterator[str]:
    """No command is silent for a minute."""
    for ran in trial.commands:
        seconds, line = ran.command.longest_silence()
        if seconds >= SILENCE_S:
            yield f"{ran.verb} said nothing for {seconds:.0f} s after: {line[:200]}"


def ctrl_c_is_heard(trial: Trial) -> Iterator[str]:
    """Ctrl-C and SIGTERM end a command within 5 s."""
    for ran in trial.commands:
        asked = ran.asked_to_stop
        if ran is trial.first and asked is None:
            kinds = {"coordinator-interrupted", "coordinator-terminated"}
            asked = next((one.at for one in trial.struck if one.at and one.planned.kind in kinds), None)
        if asked is not None and ran.command.ended is not None:
            # Stopped by the trial itself, it hears nothing.
            thawed = [end for _, end in ran.command.frozen if end > asked]
            took = ran.command.ended - max([asked, *thawed])
            if took > CTRL_C_S + _SLACK_S:
                yield f"{ran.verb} ended {took:.0f} s after Ctrl-C: {last_words(ran)}"


def the_user_s_machine_is_clean(trial: Trial) -> Iterator[str]:
    """No process of a command outlives it, but for the jobs of the emulator."""
    for ran in trial.commands:
        pid = ran.command.process.pid
        yield from (f"{ran.verb} left {one}" for one in descendants(pid) if "archloom-agent" not in one.command)


INVARIANTS: tuple[Invariant, ...] = (
    tags_are_old_or_right,
    exits_are_true,
    one_fault_does_not_decide,
    it_is_finished_without_rebuilding,
    builds_are_few,
    nobody_waits_in_silence,
    ctrl_c_is_heard,
    the_user_s_machine_is_clean,
    nothing_is_left,
    secrets_stay_secret,
)


def last_words(ran: Ran) -> str:
    """What the command said in the end."""
    for _, event in reversed(ran.command.events):
        if event["event"] == "run_ended" and event.get("message"):
            return str(event["message"])
    plain = [line.text for line in ran.command.lines if line.text and not line.text.startswith('{"event"')]
    return " / ".join(plain[-3:])[:500]


def _was_killed(trial: Trial, ran: Ran) -> bool:
    """By SIGKILL, or by a signal that came before the command could listen: then it has done nothing."""
    was_early = ran.exit_code < 0 and not ran.command.events
    return ran.was_killed or was_early or (ran is trial.first and "coordinator-killed" in trial.kinds)


def _files(trial: Trial) -> Iterator[Path]:
    home = trial.desk.home.folder
    roots = [home, trial.desk.state, trial.desk.log]
    for board in trial.lab.boards.values():
        root = Path(f"/proc/{board.pid}/root")
        roots += [board.home, *(root / name for name in ("tmp", "var/tmp", "var/log", "run/lock", "dev/shm"))]
    for root in roots:
        for file in [root] if root.is_file() else root.rglob("*"):
            given = file.is_relative_to(home / ".docker") or file.name == "authorized_keys"
            if file.is_file() and not file.is_symlink() and not given and file.stat().st_size <= _MOST_BYTES:
                yield file
