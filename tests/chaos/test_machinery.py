"""The machinery of the trials can fail: the proxy misbehaves as it is told, and each invariant sees what it is for."""

from __future__ import annotations

import base64
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from tests.chaos import invariants
from tests.chaos.desk import Command
from tests.chaos.moments import Struck
from tests.chaos.observer import Execution, Observer
from tests.chaos.plan import KINDS, Planned, _family, plan
from tests.chaos.registry_proxy import TROUBLES, RegistryProxy, registry_proxy
from tests.chaos.trial import Ran, Trial
from tests.services.images import INDEX, base_image, push_manifest
from tests.services.judges import skopeo_inspect, skopeo_raw
from tests.services.registry import Registry

STATUSES = {name: trouble.status for name, trouble in TROUBLES.items() if trouble.status}


@pytest.fixture
def proxy(registry: Registry) -> Iterator[RegistryProxy]:
    with registry_proxy(registry.address) as running:
        yield running


def asked(
    proxy: RegistryProxy, method: str = "GET", timeout: float = 20, path: str = "/v2/chaos/some/tags/list"
) -> int:
    try:
        with urlopen(Request(f"http://{proxy.address}{path}", method=method), timeout=timeout) as response:
            response.read()
            return int(response.status)
    except HTTPError as error:
        error.read()
        return error.code


@pytest.mark.registry
def test_the_proxy_passes_everything_on(registry: Registry, proxy: RegistryProxy):
    """An image is pushed and read through it, and the requests are counted."""
    base = base_image(replace(registry, address=proxy.address), "linux/amd64", repository="chaos/through")

    assert skopeo_inspect(base.reference)["Architecture"] == "amd64"
    assert proxy.served > 10
    assert proxy.bitten == 0


@pytest.mark.registry
@pytest.mark.parametrize("name", STATUSES)
def test_the_proxy_refuses_until_it_behaves(registry: Registry, proxy: RegistryProxy, name: str):
    """With the status that it was told; reads pass where only writes fail."""
    base_image(registry, "linux/amd64", repository="chaos/some")
    proxy.misbehave(TROUBLES[name])
    upload = "/v2/chaos/some/blobs/uploads/"

    assert asked(proxy, "POST", path=upload) == STATUSES[name]
    assert asked(proxy) == (200 if TROUBLES[name].writes else STATUSES[name])
    assert proxy.bitten >= 1
    proxy.behave()
    assert asked(proxy) == 200
    assert asked(proxy, "POST", path=upload) == 202


@pytest.mark.registry
def test_the_proxy_loses_the_answer_to_what_is_done(registry: Registry, proxy: RegistryProxy):
    """A tag is there though whoever put it was told nothing; reads are answered."""
    lossy = replace(registry, address=proxy.address)
    base_image(lossy, "linux/amd64", repository="chaos/lossy")
    raw = skopeo_raw(f"{registry.address}/chaos/lossy:1")
    proxy.misbehave(TROUBLES["answers-lost"])

    with pytest.raises((URLError, HTTPException, ConnectionError)):
        push_manifest(lossy, "chaos/lossy", "2", INDEX, raw)

    assert skopeo_raw(f"{proxy.address}/chaos/lossy:2") == raw


@pytest.mark.registry
@pytest.mark.parametrize("name", ["reset", "away", "silent", "stall"])
def test_the_proxy_breaks_connections(registry: Registry, proxy: RegistryProxy, name: str):
    """It resets, refuses, is silent, or stalls in the middle of a body; and none of it for longer than it is told."""
    base_image(registry, "linux/amd64", repository="chaos/some")
    proxy.misbehave(TROUBLES[name])

    with pytest.raises((URLError, HTTPException, TimeoutError, ConnectionError)):
        asked(proxy, timeout=1)
    proxy.behave()
    assert asked(proxy) == 200


def test_a_seed_is_a_trial():
    """The same seed is the same trial, seeds differ, and there are kinds enough, each of one family."""
    assert plan(7) == plan(7)
    assert len({str(plan(seed)) for seed in range(50)}) > 40
    assert len(KINDS) >= 25
    assert all(_family(name) for name in KINDS)
    drawn = {one.kind for seed in range(2000) for one in plan(seed).faults}
    assert drawn == set(KINDS)


RIGHT = {"linux/amd64": "token linux/amd64\n"}
OLD = {"linux/amd64": "old linux/amd64\n"}
PUBLISHED = '{"event": "run_ended", "exit_code": 0, "message": ""}'


def ran(code: int = 0, tag: object = RIGHT, *lines: str, verb: str = "build", seconds: float = 9.0, **more: Any) -> Ran:
    process: Any = SimpleNamespace(returncode=code, pid=1 << 30)
    command = Command((verb,), process, began=100.0, ended=100.0 + seconds)
    command._take([line.encode() for line in lines])
    command.lines = [replace(line, at=101.0) for line in command.lines]
    return Ran(command=command, tag=tag, **more)  # type: ignore[arg-type]


def tried(first: Ran, *later: Ran, kind: str = "off", lasts: float | None = None, **more: Any) -> Trial:
    fault = Planned(kind=kind, stage="running", delay=0, lasts=lasts)
    made = plan(1)
    made = replace(made, had_tag=True, faults=(fault,), build=replace(made.build, platforms=("linux/amd64",)))
    scene: Any = SimpleNamespace(host="pi-a", command=None, kept={})
    observer = Observer("token", lambda _: "pi-a")
    known: Any = SimpleNamespace()
    return Trial(
        plan=made, lab=known, desk=known, observer=observer, repository="r", token="token", first=first,
        struck=[Struck(planned=fault, scene=scene, at=102.0)], later=list(later), healed=110.0,
        is_finished=[first, *later][-1].exit_code == 0, **more,
    )  # fmt: skip


def ending(*spans: tuple[str, float, float | None]) -> Trial:
    made = tried(ran())
    for number, (host, began, ended) in enumerate(spans):
        one = Execution(pid=number, platform="linux/amd64", host=host, began=began, ended=ended)
        made.observer.executions.append(one)
    return made


SEEN = {
    "half a tag": (invariants.tags_are_old_or_right, lambda: tried(ran(tag={}), ran())),
    "a tag that cannot be pulled": (invariants.tags_are_old_or_right, lambda: tried(ran(tag="unknown blob"), ran())),
    "an old tag in the end": (invariants.tags_are_old_or_right, lambda: tried(ran(tag=OLD))),
    "a code of its own": (invariants.exits_are_true, lambda: tried(ran(1, OLD))),
    "a success that is none": (invariants.exits_are_true, lambda: tried(ran(0, OLD, PUBLISHED))),
    "a failure that is none": (invariants.exits_are_true, lambda: tried(ran(5, RIGHT))),
    "false words": (invariants.exits_are_true, lambda: tried(ran(130, RIGHT, "error: interrupted; r:1 not touched"))),
    "a traceback": (invariants.exits_are_true, lambda: tried(ran(0, RIGHT, "Traceback (most recent call last):"))),
    "a bug": (invariants.exits_are_true, lambda: tried(ran(5, OLD, "error: bug: KeyError"))),
    "another code than said": (invariants.exits_are_true, lambda: tried(ran(5, OLD, PUBLISHED))),
    "a host that decides": (invariants.one_fault_does_not_decide, lambda: tried(ran(5, OLD))),
    "a short fault of the registry": (
        invariants.one_fault_does_not_decide,
        lambda: tried(ran(6, OLD), kind="registry-503", lasts=3.0),
    ),
    "a wait without end": (invariants.one_fault_does_not_decide, lambda: tried(ran(130, OLD, gave_up=True))),
    "a run that is not finished": (invariants.it_is_finished_without_rebuilding, lambda: tried(ran(5, OLD))),
    "too many commands": (
        invariants.it_is_finished_without_rebuilding,
        lambda: tried(ran(5, OLD), ran(5, OLD, verb="retry"), ran(verb="retry")),
    ),
    "a minute of silence": (invariants.nobody_waits_in_silence, lambda: tried(ran(seconds=62.0))),
    "Ctrl-C that is not heard": (
        invariants.ctrl_c_is_heard,
        lambda: tried(ran(130, OLD, seconds=40.0, gave_up=True, asked_to_stop=120.0)),
    ),
    "SIGTERM that is not heard": (
        invariants.ctrl_c_is_heard,
        lambda: tried(ran(130, OLD, seconds=40.0), kind="coordinator-terminated", lasts=0),
    ),
    "two builds on one host": (invariants.builds_are_few, lambda: ending(("pi-a", 1, 5), ("pi-a", 4, 8))),
    "three builds": (invariants.builds_are_few, lambda: ending(("pi-a", 1, 9), ("pi-b", 4, None), ("beast", 5, 8))),
}


@pytest.mark.parametrize("what", SEEN)
def test_an_invariant_sees(what: str):
    """What is not as it has to be is said in a sentence; what is, is not."""
    invariant, make = SEEN[what]
    assert list(invariant(make()))


FINE: dict[str, Callable[[], Trial]] = {
    "published": lambda: tried(ran(0, RIGHT, PUBLISHED)),
    "a registry that stays away": lambda: tried(ran(6, OLD), ran(verb="retry"), kind="registry-503"),
    "stopped": lambda: tried(ran(130, OLD, seconds=3), ran(verb="retry"), kind="coordinator-interrupted", lasts=0),
    "killed": lambda: tried(ran(-signal.SIGKILL, OLD), ran(verb="resume"), kind="coordinator-killed", lasts=0),
    "one after the other": lambda: ending(("pi-a", 1, 5), ("pi-a", 6, 8)),
    "two hosts": lambda: ending(("pi-a", 1, 5), ("pi-b", 4, 8)),
}


@pytest.mark.parametrize("what", FINE)
def test_an_invariant_lets_be(what: str):
    """What is as it has to be violates none of those that look at commands."""
    made = FINE[what]()
    judges = dict.fromkeys(invariant for invariant, _ in SEEN.values())
    assert [sentence for invariant in judges for sentence in invariant(made)] == []


def test_a_rebuild_is_seen():
    """A step that runs again after it was built, by a command that was to finish the run."""
    made = tried(ran(6, OLD), ran(verb="retry"), kind="registry-503", held=frozenset({"linux/amd64"}))
    assert not list(invariants.it_is_finished_without_rebuilding(made))

    made.observer.executions.append(Execution(pid=1, platform="linux/amd64", host="pi-b", began=111.0))

    assert list(invariants.it_is_finished_without_rebuilding(made))


def test_a_secret_is_seen(tmp_path: Path):
    """In a file of the user's home, in an argument, and in what a command printed."""
    secret = "a-secret-of-the-broker"
    (tmp_path / "secrets.hex").write_text(secret.encode().hex() + "\n")
    home = tmp_path / "home"
    home.mkdir()
    made = tried(ran(0, RIGHT, f"token {secret}"))
    made.lab = SimpleNamespace(password="pw-0123456789", boards={})  # type: ignore[assignment]
    made.desk = SimpleNamespace(  # type: ignore[assignment]
        secrets=tmp_path / "secrets.hex", home=SimpleNamespace(folder=home), state=home / "state", log=home / "log"
    )
    (home / "notes").write_bytes(base64.b64encode(b"ada:pw-0123456789"))
    made.observer.commands.add(f"docker login -p {secret}")

    assert len(list(invariants.secrets_stay_secret(made))) == 3
