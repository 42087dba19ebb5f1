"""Edits of the inventory: golden files, and for any file that people write, that all the rest of it stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from coordinator.config import yaml_source
from coordinator.config.edit import Entry, scalar, with_host, with_host_key, without_host
from coordinator.errors import UsageError
from tests.services.paths import CASES

GOLDEN = CASES / "inventory_edit"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIyWE3+5aTsX6lMuGFpzVfvvT1YFfPmIRyDoxM7DI0xg"
NEW = Entry("boards", "new", "pi@192.168.1.99", KEY)

names = st.sampled_from(["pi5", "pi4.lan", '"quoted"', "10.0.0.7", "odroid"])
words = st.sampled_from(["", "# why", "# note: this", "#pi3: ssh://pi3", "# — ü"])
forms = st.sampled_from(
    [
        "{m}{n}: ssh://pi5{c}",
        "{m}{n}:{c}",
        "{m}{n}: {{host: pi5.lan, jobs: 2}}{c}",
        "{m}{n}:{c}\n{m}  host: 'pi5.lan'\n{m}  jobs: 2",
        "{m}{n}:{c}\n{m}    <<: *small\n{m}    host: pi5.lan  # there\n{m}    #port: 2222",
        "{m}{n}:{c}\n{m}  host: pi5.lan\n\n{m}  note: |\n{m}    behind\n{m}    # the TV",
        "{m}{n}:{c}\n{m}  host: pi5.lan\n{m}  note: >-\n{m}    folded\n{m}    twice",
    ]
)


@st.composite
def entries(draw: st.DrawFn, margin: str) -> list[str]:
    lines: list[str] = []
    for name in draw(st.lists(names, unique=True, min_size=1, max_size=4)):
        lines += [""] * draw(st.integers(0, 1))
        lines += [margin + word for word in draw(st.lists(words, max_size=2)) if word]
        comment = draw(words)
        lines += draw(forms).format(m=margin, n=name, c=f"  {comment}" if comment else "").split("\n")
    return lines


@st.composite
def documents(draw: st.DrawFn) -> str:
    """An inventory with boards, in somebody's own style."""
    margin = draw(st.sampled_from(["  ", "    "]))
    lines = ["# my farm", "", "x-small: &small", "  min_free: 20%", ""]
    parts = [
        ["boards:" + draw(st.sampled_from(["", "  # all of them"])), *draw(entries(margin))],
        ["emulators:", f"{margin}local: local"],
        ["registries:", f'{margin}"nas.lan:5000": {{http: true}}', "", "# the end"],
    ]
    for part in draw(st.permutations(parts)):
        lines += part + [""] * draw(st.integers(0, 1))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return draw(st.sampled_from(["", "\ufeff"])) + end.join(lines) + draw(st.sampled_from(["", end]))


def data(text: str) -> dict:
    return yaml_source.parse(text.removeprefix("\ufeff"), "i").root.data


def boards(text: str) -> list[str]:
    return [str(name) for name, _ in yaml_source.parse(text.removeprefix("\ufeff"), "i").members("boards")]


def is_within(few: list[str], many: list[str]) -> bool:
    rest = iter(many)
    return all(line in rest for line in few)


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_golden(case: str):
    """The file after the edit is the golden one, byte for byte."""
    edit = json.loads((GOLDEN / case / "edit.json").read_text())
    before = (GOLDEN / case / "before.yaml").read_bytes().decode()
    match edit["op"]:
        case "add":
            after = with_host(before, "i", Entry(edit["section"], edit["name"], edit["target"], edit["host_key"]))
        case "remove":
            after = without_host(before, "i", edit["name"])
        case _:
            after = with_host_key(before, "i", edit["name"], edit["host_key"])
    assert after == (GOLDEN / case / "after.yaml").read_bytes().decode()


@settings(max_examples=50)
@given(documents())
def test_an_addition_adds_its_lines_alone(text: str):
    """All lines stay in their order; what is read is what was and the entry; removed again, nothing is left of it."""
    # A text block that ends with the file has no line's end in it: going on after it would give it one.
    assume(text.endswith(("\n", "\r")) or "note: |" not in text)
    after = with_host(text, "i", NEW)
    assert is_within(text.splitlines(), after.splitlines())
    assert len(after.splitlines()) == len(text.splitlines()) + 3
    assert data(after) == {**data(text), "boards": {**data(text)["boards"], "new": NEW.data}}
    assert boards(after)[-1] == "new"
    assert without_host(after, "i", "new").rstrip("\r\n") == text.rstrip("\r\n")


@settings(max_examples=50)
@given(documents(), st.data())
def test_a_removal_removes_lines_of_its_own_alone(text: str, draw: st.DataObject):
    """What is left was there before, in its order, and reads as before without the entry."""
    name = draw.draw(st.sampled_from(boards(text)))
    after = without_host(text, "i", name)
    assert is_within(after.splitlines(), text.splitlines())
    left = {key: value for key, value in data(text)["boards"].items() if key != name}
    assert data(after) == {**data(text), "boards": left or None}
    kept = [line for line in text.splitlines() if line.lstrip().startswith("#pi3")]
    assert is_within(kept, after.splitlines())


@settings(max_examples=50)
@given(documents(), st.data())
def test_a_pin_changes_its_entry_alone(text: str, draw: st.DataObject):
    """Every other entry and line stays; pinned again with another key, only that key differs."""
    name = draw.draw(st.sampled_from(boards(text)))
    once = with_host_key(text, "i", name, KEY)
    before, after = data(text)["boards"], data(once)["boards"]
    assert after[name]["host_key"] == KEY
    assert {**after, name: None} == {**before, name: None}
    other = f"SHA256:{'A' * 43}"
    assert with_host_key(once, "i", name, other) == once.replace(KEY, other)


@given(st.text(min_size=1).filter(str.isprintable))
@example(":0")
def test_a_scalar_reads_as_it_was_meant(text: str):
    """Whatever the text, it is quoted where it has to be."""
    assert data(f"k: {scalar(text)}\n") == {"k": text}
    assert data(f"k: {{a: {scalar(text)}, b: 1}}\n") == {"k": {"a": text, "b": 1}}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("x-b: &b {}\nboards: *b\n", "boards:\n  new:\n    host: pi@192.168.1.99\n"),
        ("x-p: &p {pi5: ssh://pi5}\nboards: &b {}\n", "boards:\n  new:"),
        ("? boards\n: ~\n", "boards:\n  new:"),
        ("boards:\n  pi5:\n    note: |\n      behind the TV", "boards:\n  new:"),
    ],
)
def test_what_cannot_be_edited_is_left_to_a_person(text: str, hint: str):
    """The error has the lines to paste."""
    with pytest.raises(UsageError) as refused:
        with_host(text, "i", NEW)
    assert hint in refused.value.hint


def test_an_entry_others_are_made_from_is_not_removed():
    """Its anchor would be missing."""
    with pytest.raises(UsageError) as refused:
        without_host("boards:\n  pi5: &p {jobs: 2}\n  pi4: *p\n", "i", "pi5")
    assert "cannot be edited safely" in refused.value.message
