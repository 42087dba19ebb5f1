"""What had changed between two runs of a tag."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import Platform, parse
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.domain.why.built_from import BuiltFrom, KeptInputs
from coordinator.domain.why.changes import Change, ChangeKind, changes
from coordinator.report.why import change_lines

AMD64, ARM64 = parse("linux/amd64"), parse("linux/arm64")
HOST = Platform("host", "any")
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def file(path: str, digest: str = "1", mode: int = 0o644) -> ContextEntry:
    return ContextEntry(path=path, kind=EntryKind.FILE, mode=mode, digest=digest)


def on_both(context: tuple[ContextEntry, ...]) -> dict[Platform, tuple[ContextEntry, ...]]:
    return {AMD64: context, ARM64: context}


C2 = {"linux/amd64": "c2"}
CONTEXT = (file("Dockerfile"), file("README.md"), file("run.sh"), file("src/main.py"), file("src/old.py"))
KEPT = KeptInputs(
    contexts=on_both(CONTEXT),
    dockerfile="FROM alpine:3.20\nRUN apk add make\nCOPY src /src\nCOPY run.sh /\n",
    dockerfile_path="Dockerfile",
    bases={AMD64: {"alpine:3.20": OLD}, ARM64: {"alpine:3.20": OLD}},
)
BEFORE = BuiltFrom(
    request={"build_args": {"A": "1"}, "labels": {"l": "x"}, "stage": "", "context": "/home/ann/app"},
    inputs={"contexts": {"linux/amd64": "c1", "linux/arm64": "c1"}, "dockerfile": "d1", "bases": {"alpine:3.20": OLD}},
    kept=KEPT,
)


def told(before: BuiltFrom, now: BuiltFrom) -> list[str]:
    return list(change_lines(changes(before, now, [AMD64, ARM64], HOST)))


def with_inputs(built_from: BuiltFrom = BEFORE, **changed: object) -> BuiltFrom:
    return replace(built_from, inputs={**built_from.inputs, **changed})


def with_request(**changed: object) -> BuiltFrom:
    return replace(BEFORE, request={**BEFORE.request, **changed})


def test_files_stand_at_the_instruction_that_takes_them():
    """New, changed and gone ones, other modes; and what no instruction takes is no reason to build at all."""
    context = (
        file("Dockerfile", "2"),
        file("README.md", "2"),
        file("run.sh", "1", 0o755),
        file("src/main.py", "2"),
        file("src/new.py"),
    )
    now = with_inputs(replace(BEFORE, kept=replace(KEPT, contexts=on_both(context))), contexts=C2)

    assert told(BEFORE, now) == [
        "COPY src /src ← src/main.py, src/new.py (new), src/old.py (gone)",
        "COPY run.sh / ← run.sh (mode 644 → 755)",
        "context ← README.md",
    ]


def test_names_are_shown_whole():
    """A colour in a name is a part of it, and a byte that is not UTF-8 is shown as one."""
    context = (*CONTEXT, file("src/caf\udce9\x1b[31m"))
    now = with_inputs(replace(BEFORE, kept=replace(KEPT, contexts=on_both(context))), contexts=C2)

    assert told(BEFORE, now) == [r"COPY src /src ← src/caf\xe9\x1b[31m (new)"]


def test_a_file_that_became_a_hard_link():
    """Its content is the same, and the image is not."""
    context = tuple(replace(entry, hard_link="run.sh") if entry.path == "run.sh" else entry for entry in CONTEXT)
    now = with_inputs(replace(BEFORE, kept=replace(KEPT, contexts=on_both(context))), contexts=C2)

    assert told(BEFORE, now) == ["COPY run.sh / ← run.sh (no hard link → has hard links)"]


def test_many_files_are_counted():
    """A few are named."""
    context = (*CONTEXT, *(file(f"src/{number:03}") for number in range(100)))
    now = with_inputs(replace(BEFORE, kept=replace(KEPT, contexts=on_both(context))), contexts=C2)

    (line,) = told(BEFORE, now)

    assert line.startswith("COPY src /src ← src/000 (new), ")
    assert line.endswith(" and 92 more")


def test_a_base_that_moved():
    """Its index moves with every platform in it; one may have stayed as it was."""
    moved = replace(KEPT, bases={AMD64: {"alpine:3.20": NEW}, ARM64: {"alpine:3.20": OLD}})
    now = with_inputs(bases={"alpine:3.20": NEW})

    assert told(BEFORE, replace(now, kept=moved)) == [
        "base alpine:3.20 moved sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb (linux/arm64 in it is the same)"
    ]
    assert told(BEFORE, replace(now, kept=None)) == ["base alpine:3.20 moved sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb"]


def test_lines_of_the_dockerfile():
    """What was there, what is there now."""
    now = replace(BEFORE, kept=replace(KEPT, dockerfile=KEPT.dockerfile.replace("add make", "add make gcc")))

    assert told(BEFORE, with_inputs(now, dockerfile="d2")) == [
        "Dockerfile:",
        "  - RUN apk add make",
        "  + RUN apk add make gcc",
    ]


def test_arguments_labels_and_options():
    """By their flags; what is volatile says that it is no reason."""
    assert told(BEFORE, with_request(build_args={"A": "2", "B": ""}, labels={})) == [
        "--build-arg A: 1 → 2",
        "--build-arg B: none → ''",
        "--label l: x → none",
    ]
    assert told(BEFORE, with_request(build_args={"A": "2"}, volatile=["A"])) == [
        "--build-arg A: 1 → 2 (volatile: does not start a build)"
    ]
    assert told(BEFORE, with_request(stage="test", no_cache=True)) == [
        "--target: none → test",
        "--no-cache: none → True",
    ]


def test_what_is_not_kept_is_not_made_up():
    """The store knows by their digests that the context and the Dockerfile are others, and no more."""
    now = with_inputs(replace(BEFORE, kept=None), contexts=C2, dockerfile="d2")

    assert told(BEFORE, now) == ["Dockerfile", "files of /home/ann/app; the list of changed files is not stored"]


def test_a_dockerfile_that_cannot_be_read_here_tells_of_no_takers():
    """Another version wrote it down."""
    kept = replace(KEPT, dockerfile="FRUM x\n", contexts=on_both((*CONTEXT[:-1], file("src/old.py", "2"))))

    assert told(BEFORE, with_inputs(replace(BEFORE, kept=kept), contexts=C2)) == ["context ← src/old.py"]


@given(
    st.lists(st.builds(file, st.sampled_from(["a", "b", "c/d"]), st.sampled_from("12")), unique_by=lambda one: one.path)
)
def test_a_run_has_not_changed_since_itself(context):
    """Whatever it was built from."""
    built_from = with_inputs(replace(BEFORE, kept=replace(KEPT, contexts=on_both(tuple(context)))), contexts=C2)

    assert changes(built_from, built_from, [AMD64], HOST) == ()
    assert all(
        change.kind is ChangeKind.FILE
        for change in changes(BEFORE, built_from, [AMD64], HOST)
        if isinstance(change, Change)
    )


def test_a_link_is_told_by_its_target():
    """A changed kind by the kinds."""
    before, now = (
        ContextEntry(path="link", kind=EntryKind.SYMLINK, mode=0o777, link=link) for link in ("src", "run.sh")
    )
    context = (*CONTEXT, before)
    seen = [
        changes(
            with_inputs(replace(BEFORE, kept=replace(KEPT, contexts=on_both(context)))),
            with_inputs(replace(BEFORE, kept=replace(KEPT, contexts=on_both((*CONTEXT, entry)))), contexts=C2),
            [ARM64],
            HOST,
        )
        for entry in (now, replace(before, kind=EntryKind.DIRECTORY, link=""))
    ]

    assert [[(one.what, one.before, one.now) for one in found if one.kind is ChangeKind.FILE] for found in seen] == [
        [("link", "src", "run.sh")],
        [("link", "symlink", "directory")],
    ]


def test_who_takes_a_file_depends_on_the_stage_and_the_arguments_of_the_run():
    dockerfile = "FROM a AS one\nARG D\nCOPY $D /d\nFROM b AS two\nCOPY run.sh /\n"
    kept = replace(KEPT, dockerfile=dockerfile)
    before = replace(with_request(stage="one", build_args={"D": "src"}), kept=kept)
    context = (*CONTEXT[:3], file("src/main.py", "2"), CONTEXT[4])
    now = with_inputs(replace(before, kept=replace(kept, contexts=on_both(context))), contexts=C2)

    (change,) = changes(before, now, [ARM64], HOST)

    assert (change.what, change.copy_sources) == ("src/main.py", ("COPY $D /d",))
