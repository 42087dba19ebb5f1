"""Job folders are whole or absent, and nothing that is not a job is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agents.base import process, state
from agents.base.errors import AgentError
from agents.job import results
from agents.job.cancel import cancel
from agents.job.engine_facts import EngineFacts
from agents.job.spec import Spec
from agents.job.store import Jobs
from agents.server import control
from agents.wire import frames
from tests.services.commands import Child
from tests.services.paths import CASES

WIRE = CASES / "wire"
SPEC = json.loads((WIRE / "requests.jsonl").read_text().splitlines()[1])["spec"]
BUILT = {"state": "BUILT", "seconds": 1.0, "log_size": 0}
PATIENCE = 60.0


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(state.open_state({"XDG_STATE_HOME": str(tmp_path)}))


def test_the_same_spec_again_is_fine_and_another_is_not(jobs: Jobs):
    """`create` may be repeated; a job never changes its spec."""
    jobs.create("a-1", SPEC)
    jobs.create("a-1", dict(reversed(SPEC.items())))

    with pytest.raises(AgentError) as refused:
        jobs.create("a-1", {**SPEC, "no_cache": True})
    assert refused.value.code == "spec_differs"
    assert [entry["state"] for entry in jobs.entries()] == ["SENDING"]


@pytest.mark.parametrize("job", ["", "..", "a/b", "../a", "A", "-a", ".new.a", "a" * 81, "a\n", "ä", "a\0"])
@pytest.mark.parametrize("call", ["create", "folder", "forget"])
def test_what_is_no_job_id_never_reaches_the_file_system(jobs: Jobs, tmp_path: Path, job: str, call: str):
    """Names that lead elsewhere are refused before anything is looked at."""
    arguments = {"create": (SPEC,), "folder": (), "forget": (lambda _: None,)}[call]

    with pytest.raises(AgentError) as refused:
        getattr(jobs, call)(job, *arguments)

    assert refused.value.code == "bad_request"
    assert [path.name for path in next(tmp_path.glob("*/*")).iterdir() if path.name == "jobs"] == ["jobs"]
    assert jobs.entries() == []


def test_many_may_create_the_same_job_at_once(jobs: Jobs):
    """Of many that come at the same time every one finds the job whole."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: jobs.create("a-1", SPEC), range(8)))

    assert [path.name for path in jobs.folder("a-1").iterdir()] == ["spec.json"]


def test_forget_leaves_nothing_whatever_the_modes(jobs: Jobs):
    """A context with closed directories, and what a crash left behind, are removed; links are not followed."""
    jobs.create("a-1", SPEC)
    folder = jobs.folder("a-1")
    outside = folder.parent.parent / "outside"
    (outside / "kept").mkdir(parents=True)
    (folder / "context/a/b").mkdir(parents=True)
    (folder / "context/a/b/file").touch()
    (folder / "context/link").symlink_to(outside)
    (folder.parent / ".new.a-1.xyz").mkdir()
    (folder.parent / ".gone.a-1.xyz").mkdir()
    (folder.parent / ".gone.a-11.xyz").mkdir()
    (folder / "context/a/b").chmod(0)
    (folder / "context/a").chmod(0o500)
    outside.chmod(0o500)

    jobs.forget("a-1", lambda _: None)
    jobs.forget("a-1", lambda _: None)

    assert sorted(path.name for path in folder.parent.iterdir()) == [".gone.a-11.xyz", ".lock"]
    assert (outside / "kept").is_dir()
    assert outside.stat().st_mode & 0o777 == 0o500


def test_forget_keeps_bases_that_another_job_counts_on(jobs: Jobs):
    """A base is dropped with the last job that names it."""
    dropped: list[tuple[str, int]] = []

    def discard(spec: Spec) -> None:
        dropped.append((spec.image, len(spec.bases)))

    jobs.create("a-1", SPEC)
    jobs.create("b-1", {**SPEC, "image": "archloom/b:1"})
    jobs.forget("a-1", discard)
    jobs.forget("b-1", discard)

    assert dropped == [("archloom/7f3a:armv7-1", 0), ("archloom/b:1", 1)]


ADDED = ("dockerfile_apart", "context_key", "has_context", "limits")


def test_jobs_of_an_earlier_agent_are_forgotten_with_all_they_hold(jobs: Jobs):
    """Their specs lack fields that format 1 did not have from the beginning. What they share goes with the last."""
    dropped: list[tuple[str, int]] = []
    for job, image in (("a-1", "archloom/a:1"), ("b-1", "archloom/b:1")):
        jobs.create(job, SPEC)
        old = {name: value for name, value in SPEC.items() if name not in ADDED}
        (jobs.folder(job) / "spec.json").write_text(json.dumps({**old, "image": image}))

    for job in ("a-1", "b-1"):
        jobs.forget(job, lambda spec: dropped.append((spec.image, len(spec.bases))))

    assert dropped == [("archloom/a:1", 0), ("archloom/b:1", 1)]


@pytest.mark.parametrize("name", ADDED)
def test_a_new_job_has_every_field_of_a_spec(jobs: Jobs, name: str):
    """Without a key its context would have no folder of its own."""
    with pytest.raises(AgentError) as refused:
        jobs.create("a-1", {key: value for key, value in SPEC.items() if key != name})

    assert (refused.value.code, name in refused.value.message) == ("bad_request", True)
    assert jobs.entries() == []


def test_a_forget_that_could_not_discard_can_be_repeated(jobs: Jobs):
    """While the engine is away the job stays known, so that its image can still be found."""

    def refuse(_: Spec) -> None:
        raise AgentError("engine", "the engine is down")

    jobs.create("a-1", SPEC)
    with pytest.raises(AgentError, match="down"):
        jobs.forget("a-1", refuse)

    assert jobs.folder("a-1").is_dir()


def test_forget_waits_for_a_push_to_take_its_names_away(tmp_path: Path):
    """What a push named is gone before the image is dropped: later nothing of the job would find those names."""
    order: list[str] = []
    discarded = threading.Event()

    def push(spec, port, repository, tag, secret, progress, cancelled):
        progress(0, 1)
        assert cancelled.wait(PATIENCE)
        discarded.wait(0.5)  # the time that the engine takes, unless the image goes first
        order.append("names")
        raise AgentError("cancelled", "the push was cancelled")

    def discard(_: Spec) -> None:
        order.append("image")
        discarded.set()

    parts = control.Operations(
        observe=dict,
        engine=lambda: EngineFacts("", "", "", "", ()),
        pull=push,
        push=push,
        discard=discard,
        lacking=list,
        save=push,
        load=push,
        prune=int,
        remove_leaked=list,
        job_command=(),
        ping_engine=lambda: None,
    )
    asks, answers = os.pipe(), os.pipe()
    with (
        os.fdopen(asks[0], "rb") as stream,
        os.fdopen(answers[1], "wb", buffering=0) as told,
        os.fdopen(answers[0], "rb") as heard,
        ThreadPoolExecutor(1) as pool,
        os.fdopen(asks[1], "wb", buffering=0) as asking,
    ):
        folder = state.open_state({"XDG_STATE_HOME": str(tmp_path)})
        running = pool.submit(control.Server(folder, parts, frames.Replies(told)).run, stream)

        def ask(number: int, op: str, **fields: object) -> dict[str, object]:
            """Ask, and the next frame, whosever it is."""
            asking.write(json.dumps({"id": number, "op": op, "job": "a-1", **fields}).encode() + b"\n")
            return json.loads(heard.readline())

        assert ask(1, "create", spec=SPEC) == {"id": 1, "ok": {}}
        assert ask(2, "push", port=1, repository="r", tag="t", secret="s")["event"]
        first, second = ask(3, "forget"), json.loads(heard.readline())
        asking.close()
        running.result(PATIENCE)

    assert (first["error"]["code"], second["ok"]) == ("cancelled", {})
    assert order == ["names", "image"]


def test_a_job_cancelled_before_it_ran_has_ended(jobs: Jobs):
    """Cancelling what was not started ends it for good."""
    jobs.create("a-1", SPEC)

    assert cancel(jobs.folder("a-1"))["state"] == "CANCELLED"
    assert results.ended(jobs.folder("a-1")) == cancel(jobs.folder("a-1"))


def sleeping(title: str) -> Child:
    """A process whose name in /proc/<pid>/stat is `title`."""
    # PR_SET_NAME is 15.
    script = f"import ctypes,sys; ctypes.CDLL(None).prctl(15, {title.encode()!r}); print(flush=True); sys.stdin.read()"
    child = Child([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.line()
    return child


def known(child: Child) -> process.Process:
    text = Path(f"/proc/{child.pid}/stat").read_text()
    return process.Process(child.pid, int(text.rpartition(")")[2].split()[19]), state.boot_id(), 0)


@pytest.mark.parametrize("title", ["plain", "a b", ") Z 1 (", "((("])
def test_a_process_is_known_by_more_than_its_pid(title: str):
    """Pid, start time and boot say who a process is; its name may hold anything; a zombie is dead."""
    with sleeping(title) as child:
        one = known(child)
        assert process.is_alive(one)
        assert not process.is_alive(one._replace(start_time=one.start_time - 1))
        assert not process.is_alive(one._replace(boot_id="another"))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not process.is_alive(one)


def test_the_end_of_a_process_is_seen_at_once():
    """Not at the next poll; and a process that lives on is waited for no longer than asked."""
    with sleeping("job") as child:
        one = known(child)
        process.await_end(one, 0.0)
        assert process.is_alive(one)

        began = time.monotonic()
        killer = threading.Timer(0.1, child.kill)
        killer.start()
        process.await_end(one, PATIENCE)

        assert not process.is_alive(one)
        assert time.monotonic() - began < PATIENCE
        process.await_end(one, PATIENCE)
        killer.join(PATIENCE)


def test_a_wait_for_a_process_ends_early_where_its_caller_wants_that():
    """Asked every 0.1 s: a caller that wants it to end at once, such as for half a line of a log, does not spin."""
    with sleeping("job") as child:
        answers, began = [False, False, True], time.monotonic()
        process.await_end(known(child), PATIENCE, lambda: answers.pop(0))
        assert answers == []
        assert time.monotonic() - began >= 0.25


def test_a_number_that_is_somebody_elses_now_is_left_alone(jobs: Jobs):
    """A job whose pid was given to another process is dead, and that process lives on."""
    jobs.create("a-1", SPEC)
    with sleeping("innocent") as child:
        process.write(jobs.folder("a-1"), known(child)._replace(start_time=1))

        assert cancel(jobs.folder("a-1"))["code"] == "vanished"
        assert child.poll() is None
        child.kill()


def test_a_job_of_another_boot_is_lost_to_the_restart(jobs: Jobs):
    """After a restart of the host the job is lost, and says why; its age plays no part."""
    jobs.create("a-1", SPEC)
    folder = jobs.folder("a-1")
    process.write(folder, process.Process(os.getpid(), 1, "another", 0))
    (folder / "log").write_bytes(b"#1 started\n")
    (folder / "heartbeat").touch()
    os.utime(folder / "heartbeat", (2e9, 2e9))
    os.utime(folder / process.FILE, (2e9 - 12.5, 2e9 - 12.5))

    result = results.ended(folder)

    assert result == results.read(folder)
    assert result is not None
    assert (result["code"], result["seconds"], result["log_size"]) == ("reboot", 12.5, 11)


def test_the_first_word_on_a_dead_job_counts(jobs: Jobs):
    """Whoever settles a job second gets what the first one wrote."""
    jobs.create("a-1", SPEC)
    folder = jobs.folder("a-1")

    assert results.settle(folder, BUILT) == BUILT
    assert results.settle(folder, {"state": "CANCELLED"}) == BUILT


def test_state_of_another_format_is_not_touched(tmp_path: Path):
    """What another version of the agent left is refused by name."""
    folder = state.open_state({"XDG_STATE_HOME": str(tmp_path)})
    (folder / "version").write_text("2")

    with pytest.raises(AgentError, match="format 2"):
        state.open_state({"XDG_STATE_HOME": str(tmp_path)})
    assert folder.stat().st_mode & 0o777 == 0o700
