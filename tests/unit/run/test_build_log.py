"""A build's plain log as steps, whichever builder wrote it and however it arrives."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.run.build_log import LineKind, StepReader

# docker 20.10.24: a digest under each title, no word of the program's own in the closing block.
DOCKER_20 = """\
#1 [internal] load build definition from Dockerfile
#1 sha256:49ff03a9ba799632f8d8ee1545158ed259b603636611bb7caf7c953d922c1919
#1 transferring dockerfile: 32B done
#1 DONE 0.0s

#5 [stage-1 2/3] RUN ["/bin/busybox","sh","-c","for i in 1 2 3 4 5; do echo b$i; done"]
#5 sha256:700a1e35d33b3d4feefab21b6ab9dea1b6e1d75f7b83f42daada914224fcdc52
#5 0.495 b1
#5 CANCELED

#6 [b 2/2] RUN ["/bin/busybox","sh","-c","exit 3"]
#6 sha256:68147a53b51345fe8ca3992e984423d075a23def64dc5326f04653cd40b745ff
#6 0.486 a1
#6 10.89 DONE 9.9s
#6 ERROR: executor failed running [/bin/busybox sh -c exit 3]: exit code: 3
------
 > [b 2/2] RUN ["/bin/busybox","sh","-c","exit 3"]:
------
executor failed running [/bin/busybox sh -c exit 3]: exit code: 3
"""
# buildx 0.13 and newer: pauses, the closing block repeats the program's last words.
BUILDX = """\
#0 building with "default" instance using docker driver

#4 [1/4] FROM nas.lan:5000/base@sha256:49ff03a9ba799632f8d8ee1545158ed259b603636611bb7caf7c953d922c1919
#4 CACHED

#5 [2/4] RUN make
#5 0.310 cc -c a.c
#5 ...

#6 [build 2/2] RUN ./configure
#6 DONE 12.5s

#5 [2/4] RUN make
#5 1.204 a.c:1: error: no
#5 1.205
#5 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 2
------
 > [2/4] RUN make:
1.204 a.c:1: error: no
------
Dockerfile:3
--------------------
   3 | >>> RUN make
--------------------
ERROR: failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 2
"""
# The agent's own, from an engine's trace.
TRACE = """\
#1 [internal] load remote build context
#1 DONE 0.0s

#2 copy /context /
#2 CACHED

#3 [2/2] RUN printf 'no end'
#3 0.052 no end
#3 ERROR: process "/bin/sh -c printf 'no end'; false" did not complete successfully: exit code: 1
"""
LOGS = [DOCKER_20, BUILDX, TRACE]


def read(text: str) -> StepReader:
    reader = StepReader()
    reader.feed(text)
    return reader


def test_steps_begin_and_end():
    """Each step is announced once with its place in its stage, and ends as the log says."""
    marks = [
        (line.kind, line.number, line.index, line.total, line.seconds)
        for line in StepReader().feed(BUILDX)
        if line.kind not in {LineKind.OTHER, LineKind.OUTPUT}
    ]

    assert marks == [
        (LineKind.STARTED, 0, 0, 0, None),
        (LineKind.STARTED, 4, 1, 4, None),
        (LineKind.CACHED, 4, 1, 4, None),
        (LineKind.STARTED, 5, 2, 4, None),
        (LineKind.STARTED, 6, 2, 2, None),
        (LineKind.DONE, 6, 2, 2, 12.5),
        (LineKind.RESUMED, 5, 2, 4, None),
        (LineKind.ERROR, 5, 2, 4, None),
    ]


def test_a_line_that_begins_or_ends_a_step_has_its_title():
    """That is what a live view shows; a line of the program's has none."""
    titles = {line.kind: line.step for line in StepReader().feed(TRACE)}

    assert titles[LineKind.ERROR] == "[2/2] RUN printf 'no end'"
    assert titles[LineKind.OUTPUT] == ""


def test_the_failing_step_is_told_with_its_own_last_words():
    """Not the words of the step that was cancelled beside it, nor the builder's own closing block."""
    old, new = read(DOCKER_20), read(BUILDX)

    assert old.failing_step == '[b 2/2] RUN ["/bin/busybox","sh","-c","exit 3"]'
    assert old.tail("exit code: 3") == ("a1", "DONE 9.9s")
    assert new.failing_step == "[2/4] RUN make"
    assert new.tail("exit code: 2") == ("cc -c a.c", "a.c:1: error: no", "")


def test_the_first_error_is_the_one_that_counts():
    """What fails after it fails because of it."""
    reader = read("#1 a\n#2 b\n#2 ERROR: first\n#1 ERROR: second\n")

    assert reader.failing_step == "b"


def test_a_step_that_begins_again_begins_with_no_output():
    """BuildKit gives a step that it runs again the same number."""
    for end in ("DONE 0.2s", "CANCELED"):
        reader = read(f"#1 [1/1] RUN x\n#1 0.1 old\n#1 {end}\n#1 [1/1] RUN x\n#1 0.1 new\n#1 ERROR: no\n")

        assert reader.tail("no") == ("new",)


def test_a_line_outside_any_step_belongs_to_none():
    (line,) = StepReader().feed("------\n")

    assert (line.kind, line.step, line.number, line.seconds) == (LineKind.OTHER, "", 0, None)
    assert (line.index, line.total) == (0, 0)


def test_a_carriage_return_at_a_lines_end_is_no_part_of_it():
    """Also at the end of a log that stops without a line end."""
    reader = StepReader()

    assert [line.text for line in reader.feed("#1 a\r\n#1 0.1 b\r")] == ["#1 a"]
    assert [line.text for line in reader.end()] == ["#1 0.1 b"]


def test_twenty_lines_are_kept():
    """However much a step wrote, the last twenty are what is told."""
    output = "".join(f"#1 0.1 line {number}\n" for number in range(50))

    assert read(f"#1 [1/1] RUN x\n{output}#1 ERROR: no\n").tail("no") == tuple(
        f"line {number}" for number in range(30, 50)
    )


def test_without_a_failing_step_the_last_lines_of_the_log_are_told():
    """A Dockerfile that cannot be read fails outside of any step that says so."""
    reader = read(
        "#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\nERROR: unknown instruction: RUNN\n"
    )

    assert reader.failing_step == ""
    assert reader.tail("it was lost")[-1] == "ERROR: unknown instruction: RUNN"


NO_FILE = 'failed to compute cache key: "/nope": not found'
NO_IMAGE = "nas.lan:5000/nope:1: not found"
NO_WORD = "dockerfile parse error line 2: unknown instruction: RUNN"


@pytest.mark.parametrize(
    ("log", "message", "tail"),
    [
        (f"#5 [1/1] COPY nope /\n#5 ERROR: {NO_FILE}\n------\n > [1/1] COPY nope /:\n------\n{NO_FILE}\n", NO_FILE, ()),
        (
            f"#4 FROM nas.lan:5000/nope:1\n#4 resolve nas.lan:5000/nope:1 0.0s done\n#4 ERROR: {NO_IMAGE}\n",
            NO_IMAGE,
            (),
        ),
        (
            f"#1 [internal] load\n#1 DONE 0.0s\nfailed to solve: failed to create LLB definition: {NO_WORD}\n",
            NO_WORD,
            (),
        ),
        (
            "#5 [1/1] RUN make\n#5 0.1 cc\n------\n > [1/1] RUN make:\n0.1 cc\n------\nERROR: failed to solve: EOF\n",
            "the engine stopped during the build: EOF",
            ("#5 [1/1] RUN make", "#5 0.1 cc"),
        ),
        (
            "#0 building\n#1 [internal] load\n#1 CACHED\nDockerfile:2\n   2 | >>> RUNN\nERROR: failed to solve: no\n",
            "no",
            ("Dockerfile:2", "   2 | >>> RUNN"),
        ),
    ],
)
def test_the_last_lines_do_not_repeat_the_error(log, message, tail):
    """It is shown above them: only what it does not say is shown below, and no transfer that succeeded."""
    assert read(log).tail(message) == tail


def test_a_program_that_imitates_the_builder_fools_nobody():
    """Its lines carry a time, which the builder's own do not."""
    kinds = [line.kind for line in StepReader().feed("#1 [1/1] RUN x\n#1 0.100 ERROR: not really\n#1 0.2 CACHED\n")]

    assert kinds == [LineKind.STARTED, LineKind.OUTPUT, LineKind.OUTPUT]


def test_a_log_that_ends_in_the_middle_of_a_line_loses_nothing():
    """The rest is a line when the log has ended."""
    reader = StepReader()

    assert reader.feed("#1 [1/1] RUN x\n#1 0.1 ha") == StepReader().feed("#1 [1/1] RUN x\n")
    assert [line.text for line in reader.end()] == ["#1 0.1 ha"]
    assert reader.end() == []


@given(st.sampled_from(LOGS), st.lists(st.integers(0, 1200), max_size=12))
def test_how_the_log_is_cut_makes_no_difference(log, cuts):
    """Pieces of any size give the same lines, the same step and the same last words."""
    places = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    reader, whole = StepReader(), StepReader()

    lines = [line for at, to in pairwise(places) for line in reader.feed(log[at:to])]

    assert lines == whole.feed(log)
    assert (reader.failing_step, reader.tail("")) == (whole.failing_step, whole.tail(""))


def test_a_log_without_end_takes_little_memory():
    """A line that never ends, or steps that never do, are only text: an engine's, a program's, or a liar's."""
    reader = StepReader()
    for _ in range(40):
        parts = [len(line.text) for line in reader.feed("x" * 100_000)]
        assert set(parts) <= {1 << 20}
    assert len(reader.end()[0].text) < 1 << 20

    for number in range(1, 30_000):
        reader.feed(f"#{number} RUN a\n")
    assert len(reader._steps) == 10_000
    assert reader.feed(f"#{'9' * 5000} RUN a\n")[0].number == 0
    assert reader.feed(f"#7 [{'9' * 5000}/3] RUN a\n")[0].total == 0


LINE = st.sampled_from(["#1 DONE 1s", "#1 a", "#2 CACHED", "#2 ...", "# 1", "#", "#9999", "#1 ERROR: x", "------"])


@given(st.lists(LINE | st.text(max_size=12), max_size=30))
def test_no_text_is_lost_or_refused(lines):
    """Whatever a builder writes, every line comes out as it went in, but for how it ended."""
    text = "".join(f"{line}\n" for line in lines)

    assert [line.text for line in StepReader().feed(text)] == [line.rstrip("\r") for line in text.split("\n")[:-1]]
