"""Who builds what, and why everybody else does not: farms as golden files, and rules that hold for any farm."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.hosts.facts import Builder, Facts
from coordinator.domain.hosts.inventory import HostState, Kind, Use
from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.placement.eligibility import Frontend, JobRequirements, RejectionReason, Unreachable
from coordinator.domain.placement.plan import plan
from coordinator.domain.targets.target import Emulate
from coordinator.errors import LostError, NoHostError, UsageError
from tests.unit.placement.farms import ARM64, ARMV7, CASES, WANTED, farms, found, host


def outcome(case: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan of a case file says: the table, and the error with its hint."""
    hosts, seen, slots = [], {}, {}
    for entry in case["hosts"]:
        words = dict(entry)
        name, kind, there = words.pop("name"), Kind(words.pop("kind")), words.pop("found")
        seen[name] = found(name, there) if isinstance(there, str) else Unreachable(**there)
        slots[name] = words.get("jobs", 1)
        if "state" in words:
            words["state"] = HostState(words["state"])
        words["use"] = tuple(map(Use, words.get("use", ())))
        for key in ("platforms", "emulate"):
            words[key] = tuple(map(parse, words.get(key, ())))
        hosts.append(host(name, kind, **words))
    frontend = Frontend(case.get("frontend", "builtin"))
    made = plan(
        [
            JobRequirements(
                platform=parse(text), frontend=frontend, copied_dockerfile=case.get("copied_dockerfile", "")
            )
            for text in case["wanted"]
        ],
        hosts,
        seen,
        emulate=Emulate(case.get("emulate", "auto")),
        on=case.get("on", ()),
        slots=slots,
    )
    error = made.no_host_error()
    return {
        "rows": [[row.platform, row.host, row.mode, row.verdict, row.reason] for row in made.rows],
        "error": error and [int(error.exit_code), error.message, *error.hint.splitlines()],
    }


@pytest.mark.parametrize("path", sorted((CASES / "plan").glob("*.json")), ids=lambda path: path.stem)
def test_farms_are_planned_as_their_case_says(path):
    """The table and the error of each case file."""
    case = json.loads(path.read_text("utf-8"))

    assert outcome(case) == {"rows": case["rows"], "error": case["error"]}


@given(farms(), WANTED, st.sampled_from(Emulate), st.data())
def test_what_holds_for_every_plan(farm, platforms, emulate, data):
    """Every host is a choice or has a reason; a choice has the platform, is reachable, sound and allowed to."""
    hosts, seen = farm
    names = [one.name for one in hosts]
    on = tuple(data.draw(st.lists(st.sampled_from(names), unique=True))) if names else ()
    wanted = [JobRequirements(platform=platform) for platform in platforms]

    made = plan(wanted, hosts, seen, emulate=emulate, on=on)

    assert [one.platform for one in made.placements] == platforms
    for placement in made.placements:
        said = [one.host for one in (*placement.choices, *placement.rejections)]
        assert Counter(said) == Counter(names)
        assert all(rejection.reason for rejection in placement.rejections)
        ranks = [list(Mode).index(choice.mode) for choice in placement.choices]
        assert ranks == sorted(ranks)
        for choice in placement.choices:
            taken, facts = hosts[names.index(choice.host)], seen[choice.host]
            assert isinstance(facts, Facts)
            assert facts.mode(placement.platform) is choice.mode
            assert facts.blocking is None
            assert facts.engine is not None
            assert choice.builder in facts.engine.builders
            assert taken.engine in {"auto", choice.builder}
            assert taken.state is HostState.ACTIVE
            assert not on or choice.host in on
            if choice.mode is Mode.EMULATED:
                assert taken.kind is Kind.EMULATOR
                assert emulate is not Emulate.NEVER
            if emulate is Emulate.ONLY:
                assert taken.kind is Kind.EMULATOR


@given(farms(), WANTED)
def test_a_plan_is_the_same_each_time(farm, platforms):
    """Nothing but the arguments decides, not even the order in which hosts answered."""
    hosts, seen = farm
    wanted = [JobRequirements(platform=platform) for platform in platforms]

    again = plan(wanted, hosts, dict(reversed(seen.items())))

    assert plan(wanted, hosts, seen) == again
    json.dumps(again.to_json())


@given(farms(), WANTED)
def test_a_plan_complains_exactly_when_a_platform_has_no_host(farm, platforms):
    """The error names every such platform, and the scheduler is given the others."""
    hosts, seen = farm
    made = plan([JobRequirements(platform=platform) for platform in platforms], hosts, seen)
    missing = [one.platform for one in made.placements if not one.choices]

    error = made.no_host_error()

    assert set(made.candidates) == set(platforms) - set(missing)
    if error is None:
        assert not missing
    else:
        assert missing
        lines = error.message.splitlines()
        assert [line.partition(": ")[0] for line in lines] == [f"no host for {platform}" for platform in missing]


def test_equal_boards_share_the_work():
    """Jobs go where the fewest are for the slots there, and to the inventory's first among equals."""
    hosts = [host("a"), host("b")]
    seen = {name: found(name, "pi4") for name in ("a", "b")}
    wanted = [JobRequirements(platform=parse(text)) for text in ("linux/arm64", "linux/arm/v7", "linux/arm/v6")]

    one_each = plan(wanted[:2], hosts, seen)
    three_slots = plan(wanted, hosts, seen, slots={"a": 1, "b": 3})

    assert [one.choices[0].host for one in one_each.placements] == ["a", "b"]
    assert [one.choices[0].host for one in three_slots.placements] == ["a", "b", "b"]


def test_four_kib_pages_come_first_among_equals():
    """What is built under larger pages may run nowhere else; but an idle board is better than a busy one."""
    hosts = [host("pi5"), host("pi4")]
    seen = {"pi5": found("pi5", "pi5-16k"), "pi4": found("pi4", "pi4")}
    wanted = [JobRequirements(platform=ARM64)]

    idle = plan(wanted, hosts, seen)
    busy = plan(wanted * 2, hosts, seen)

    assert [choice.host for choice in idle.placements[0].choices] == ["pi4", "pi5"]
    assert [choice.host for choice in busy.placements[1].choices] == ["pi5", "pi4"]


def test_the_job_with_one_host_gets_it_first():
    """A job that could go elsewhere does not take the slot of one that cannot."""
    hosts = [host("pi4"), host("pi5")]
    seen = {"pi4": found("pi4", "pi4"), "pi5": found("pi5", "pi5-16k")}

    made = plan([JobRequirements(platform=ARM64), JobRequirements(platform=ARMV7)], hosts, seen)

    assert [one.choices[0].host for one in made.placements] == ["pi5", "pi4"]


def test_a_platform_can_be_given_to_a_host():
    """A pinned platform goes to its host alone; the others go where they would have gone."""
    hosts = [host("a"), host("b")]
    seen = {name: found(name, "pi4") for name in ("a", "b")}

    made = plan([JobRequirements(platform=ARM64), JobRequirements(platform=ARMV7)], hosts, seen, pinned={ARMV7: "a"})

    assert [choice.host for choice in made.placements[1].choices] == ["a"]
    assert made.placements[1].rejections[0].why is RejectionReason.NOT_ASKED
    assert made.choice(ARMV7, "a").builder is Builder.BUILDX


def test_a_context_larger_than_the_room_is_not_sent():
    """What the build takes at least must fit above what stays free; naming the host overrides it."""
    hosts, seen = [host("pi4", min_free=0.0)], {"pi4": found("pi4", "pi4")}
    wanted = [JobRequirements(platform=ARM64, space=200_000_000_000)]

    refused = plan(wanted, hosts, seen)

    assert refused.placements[0].rejections[0].why is RejectionReason.DISK
    assert isinstance(refused.no_host_error(), LostError)
    assert plan(wanted, hosts, seen, on=("pi4",)).no_host_error() is None


@pytest.mark.parametrize(
    ("min_free", "space", "said", "remedy"),
    [
        (0.8, 0, "178.8 GiB stay free by min_free", True),
        (0.8, 1 << 20, "178.8 GiB stay free by min_free", True),
        (0.8, 1 << 30, "178.8 GiB stay free by min_free and 1.0 GiB for this build", True),
        (0.0, 200 << 30, "0.0 GiB stay free by min_free and 200.0 GiB for this build", False),
    ],
)
def test_a_disk_with_too_little_room_names_the_setting_where_it_helps(min_free, space, said, remedy):
    """And what the build needs where that is more than nothing."""
    board, wanted = host("pi4", min_free=min_free), [JobRequirements(platform=ARM64, space=space)]
    error = plan(wanted, [board], {"pi4": found("pi4", "pi4")}).no_host_error()

    assert error is not None
    assert error.message.endswith(f"GiB of disk free, {said}")
    assert ("; or write min_free: 5% for pi4 there" in error.hint) is remedy


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ((ARM64,), "inventory"),
        ((ARMV7, ARM64), "inventory, or leave it out of --platform"),
        ((ARMV7, ARM64, parse("linux/riscv64")), "inventory, or leave them out of --platform"),
    ],
)
def test_a_platform_is_left_out_only_where_another_remains(wanted, hint):
    board = plan([JobRequirements(platform=platform) for platform in wanted], [host("a")], {"a": found("a", "pi2")})
    error = board.no_host_error()

    assert error is not None
    assert error.hint.endswith(f" to the {hint}")


def test_a_host_that_could_never_build_it_ends_with_another_error_than_one_that_is_off():
    """Exit 3 says to change the inventory, exit 5 to try again."""
    wanted = [JobRequirements(platform=ARM64)]
    board, off = host("pi2"), host("pi5")

    never = plan(wanted, [board], {"pi2": found("pi2", "pi2")}).no_host_error()
    later = plan(
        wanted, [board, off], {"pi2": found("pi2", "pi2"), "pi5": Unreachable("no route", "ping it")}
    ).no_host_error()
    pinned = plan(wanted, [host("pi5", platforms=(ARMV7,))], {"pi5": Unreachable("no route")}).no_host_error()

    assert isinstance(never, NoHostError)
    assert isinstance(later, LostError)
    assert "pi5: ping it" in later.hint
    assert isinstance(pinned, NoHostError)


@pytest.mark.parametrize(
    ("last", "error", "said"),
    [
        ("pi2", NoHostError, "it runs linux/arm/v7, linux/arm/v6, linux/arm/v5, when it last answered"),
        ("pi4", LostError, "it is off"),
        ("engine-down", LostError, "it is off"),
        (None, LostError, "it is off"),
    ],
)
def test_what_a_dead_board_was_tells_whether_it_could_have_done_it(last, error, said):
    """A board known to be another platform's never could, and one that nobody knows well might have."""
    off = Unreachable("it is off", known=found("pi", last) if last else None)

    no_host_error = plan([JobRequirements(platform=ARM64)], [host("pi")], {"pi": off}).no_host_error()

    assert type(no_host_error) is error
    assert said in no_host_error.message


def test_an_emulator_that_is_off_could_never_have_done_it_natively():
    """With --emulate never, what is known to emulate is no hope; by itself it is."""
    off = {"beast": Unreachable("it is off", known=found("beast", "amd64-qemu-user-static"))}
    hosts, wanted = [host("beast", Kind.EMULATOR)], [JobRequirements(platform=ARM64)]

    assert type(plan(wanted, hosts, off, emulate=Emulate.NEVER).no_host_error()) is NoHostError
    assert type(plan(wanted, hosts, off).no_host_error()) is LostError


def test_a_blocked_board_of_another_platform_could_never_have_done_it():
    """Mending its clock would not make it run another platform."""
    wrong_clock = {"pi": found("pi", "clock-a-year-back")}

    other = plan([JobRequirements(platform=parse("linux/amd64"))], [host("pi")], wrong_clock).no_host_error()
    own = plan([JobRequirements(platform=ARM64)], [host("pi")], wrong_clock).no_host_error()

    assert type(other) is NoHostError
    assert type(own) is LostError


def test_an_unknown_host_is_a_usage_error_with_the_likely_name():
    """`--on p5` means pi5."""
    with pytest.raises(UsageError) as caught:
        plan([JobRequirements(platform=ARM64)], [host("pi5"), host("beast")], {}, on=("p5",))

    assert caught.value.message == "unknown host 'p5' in --on"
    assert caught.value.hint == "did you mean pi5?"


def test_a_host_that_was_not_probed_is_as_good_as_off():
    """Planning does not wait for it, and says so."""
    made = plan([JobRequirements(platform=ARM64)], [host("pi5")], {})

    assert made.placements[0].rejections[0].reason == "it has not answered"


def test_what_a_program_reads_of_a_plan():
    """The keys of `--json`: the host that builds, the others that could, and those that do not, by their codes."""
    hosts = [host("pi4"), host("pi5"), host("pi2"), host("beast", Kind.EMULATOR)]
    seen = {"pi4": found("pi4", "pi4"), "pi5": found("pi5", "pi4"), "pi2": found("pi2", "pi2")}
    seen["beast"] = found("beast", "amd64-qemu-user-static")
    made = plan([JobRequirements(platform=ARM64), JobRequirements(platform=parse("linux/loong64"))], hosts, seen)
    (arm64, loong) = made.placements

    told = json.loads(json.dumps(made.to_json()))

    assert told == {
        "jobs": [
            {
                "platform": "linux/arm64",
                "builds": {"host": "pi4", "mode": "native", "engine": "buildx", "reason": arm64.choices[0].reason},
                "could": [
                    {"host": "pi5", "mode": "native", "engine": "buildx", "reason": arm64.choices[1].reason},
                    {"host": "beast", "mode": "emulated", "engine": "docker", "reason": arm64.choices[2].reason},
                ],
                "rejected": [
                    {"host": "pi2", "code": "platform", "reason": arm64.rejections[0].reason, "hint": ""},
                ],
            },
            {
                "platform": "linux/loong64",
                "builds": None,
                "could": [],
                "rejected": [
                    {"host": one.host, "code": "platform", "reason": one.reason, "hint": one.hint}
                    for one in loong.rejections
                ],
            },
        ]
    }
    assert loong.rejections[3].hint
    assert [row.verdict for row in made.rows] == ["builds", "could", "could", "no", "no", "no", "no", "no"]


def test_how_a_host_builds_a_platform_is_found_or_is_an_error():
    """Each platform has its own choice; a host that does not build it has none."""
    hosts = [host("pi4"), host("beast", Kind.EMULATOR)]
    seen = {"pi4": found("pi4", "pi4"), "beast": found("beast", "amd64-qemu-user-static")}
    made = plan([JobRequirements(platform=ARM64), JobRequirements(platform=parse("linux/amd64"))], hosts, seen)

    assert made.choice(ARM64, "beast").mode is Mode.EMULATED
    assert made.choice(parse("linux/amd64"), "beast").mode is Mode.NATIVE
    with pytest.raises(KeyError):
        made.choice(parse("linux/amd64"), "pi4")


def test_a_platform_cannot_be_given_to_an_unknown_host():
    with pytest.raises(UsageError) as caught:
        plan([JobRequirements(platform=ARM64)], [host("pi5")], {}, pinned={ARM64: "beast"})

    assert caught.value.code == "host"
    assert "pi5" in caught.value.hint


def test_a_host_without_slots_is_planned_like_one_with_one():
    """It may get some later: the plan is of what can be done."""
    hosts = [host("a"), host("b")]
    seen = {name: found(name, "pi4") for name in ("a", "b")}

    made = plan([JobRequirements(platform=ARM64), JobRequirements(platform=ARMV7)], hosts, seen, slots={"a": 0})

    assert [one.choices[0].host for one in made.placements] == ["a", "b"]


def test_a_plan_without_a_host_names_those_that_the_user_does_not_know_of():
    """Hosts that --on leaves out are no news."""
    complaint = plan(
        [JobRequirements(platform=ARM64)], [host("pi2"), host("pi4")], {"pi2": found("pi2", "pi2")}, on=("pi2",)
    )

    error = complaint.no_host_error()
    assert error.code == "no_host"
    assert "pi2: " in error.message
    assert "pi4" not in error.message
