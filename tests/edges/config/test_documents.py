"""`inventory.yaml` is read as its reference says, and all that is wrong with one is told at once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.config import yaml_source
from coordinator.config.documents import DIALECT, InventoryDocument, schema
from coordinator.config.load import inventory, load
from coordinator.config.locate import find
from coordinator.domain.hosts.inventory import Address, Host, Inventory, Kind, Pins, RegistrySettings, Use, builtin
from coordinator.domain.image.platforms import parse
from coordinator.errors import UsageError
from tests.services.paths import CASES, ROOT

GOLDEN = CASES / "inventory"
BAD = sorted(path.name for path in (GOLDEN / "bad").glob("*.yaml"))
REFERENCE = (ROOT / "inventory.yaml").read_text("utf-8")
# In the reference, one blank after the '#' explains; anything else is an example with its '#' in front.
EXAMPLES = re.sub(r"^( *)#(?! [^ ]|$)", r"\1", REFERENCE, flags=re.MULTILINE)
PI5_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def read(text: str) -> Inventory:
    return inventory(yaml_source.parse(text, "inventory.yaml"), Path("inventory.yaml"))


def refused(text: str) -> str:
    with pytest.raises(UsageError) as error:
        read(text)
    return error.value.message


def read_or_refused(text: str) -> bool:
    try:
        return bool(read(text).hosts)
    except UsageError as error:
        return re.search(r"inventory\.yaml:\d+:\d+: ", error.message) is not None


@pytest.mark.parametrize("name", BAD)
def test_all_problems_are_told_at_once(name, monkeypatch):
    """Each case tells every problem with file, line, column, path and what to write; the golden file is the judge."""
    monkeypatch.chdir(GOLDEN / "bad")
    with pytest.raises(UsageError) as error:
        load(Path(name))
    told = error.value.message + (f"\nhint: {error.value.hint}" if error.value.hint else "") + "\n"
    assert told == Path(name).with_suffix(".txt").read_text("utf-8")
    assert "hunter2" not in told


def test_problems_stand_in_the_order_of_the_lines():
    """A person works through the file from top to bottom."""
    lines = [int(line.split(":")[1]) for line in (GOLDEN / "bad/every-key.txt").read_text("utf-8").splitlines()[1:]]
    assert lines == sorted(lines)


def test_the_reference_works_as_it_stands():
    """The commented reference is an inventory with this machine alone, the same as none at all."""
    found = load(ROOT / "inventory.yaml")
    assert found.hosts == builtin().hosts
    assert found.registries == {}


def test_every_example_of_the_reference_works(tmp_path):
    """With all its examples in use the reference loads too, so that none of them can rot."""
    path = tmp_path / "inventory.yaml"
    path.write_text(EXAMPLES, "utf-8")
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "lan.pem").touch()
    found = load(path)

    assert [host.name for host in found.hosts if host.kind is Kind.BOARD] == [
        "pi5", "pi4", "odroid", "bbb", "pizero.lan", "pi5-nvme", "bbb2",
    ]  # fmt: skip
    assert found.host("pi5-nvme") == Host(
        name="pi5-nvme",
        kind=Kind.BOARD,
        address=Address("192.168.1.30", "pi", 2222),
        jobs=2,
        use=(Use.BUILD, Use.RUN),
        platforms=(parse("linux/arm64"), parse("linux/arm/v7")),
        connect_timeout=10.0,
        reconnect_for=300.0,
        host_key="SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        min_free=0.15,
        keep_built=2 * 86400.0,
        cache_budget=40 * 10**9,
        memory_floor=256 << 20,
        engine="buildx",
        note="behind the TV",
    )
    assert found.host("bbb2").min_free == 0.2
    assert found.host("bbb").address == Address("fd00::21", "build", 22)
    assert found.host("beast").emulate == (parse("linux/arm64"), parse("linux/arm/v7"))
    assert found.registry_patience == 300.0
    assert found.registries == {
        "nas.lan:5000": RegistrySettings(host="nas.lan:5000", http=True, http_hosts=("nas.lan:5000",)),
        "registry.lan": RegistrySettings(host="registry.lan", ca=str(tmp_path / "certs" / "lan.pem")),
    }


def test_the_reference_shows_every_key():
    """No key may be accepted and left unexplained."""
    models = [InventoryDocument, *(InventoryDocument.model_fields[name].annotation for name in ("defaults",))]
    keys = {key for model in models for key in model.model_fields}
    for shape in schema()["$defs"].values():
        keys |= shape["anyOf"][-1]["properties"].keys()
    assert {key for key in keys if not re.search(rf"^ *{key}:", EXAMPLES, re.MULTILINE)} == set()


def test_the_smallest_file():
    """A target per name is enough; everything else is left to the SSH configuration and to probes."""
    found = load(GOLDEN / "good" / "minimal.yaml")
    assert [(host.name, host.kind, str(host.address)) for host in found.hosts] == [
        ("pi5", Kind.BOARD, "ssh://pi5"),
        ("pi4", Kind.BOARD, "ssh://pi@192.168.1.21"),
        ("beast", Kind.EMULATOR, "ssh://beast"),
    ]
    assert found.source == str(GOLDEN / "good" / "minimal.yaml")


def test_the_traps_of_yaml():
    """Names that look like numbers or truth are names; merge keys work; what was written is what is read."""
    found = load(GOLDEN / "good" / "odd.yaml")
    assert [host.name for host in found.hosts] == ["5", "on", "no", "007", "pi4"]
    zero = found.host("007")
    # An earlier map of a merge wins over a later one, and the entry's own keys over both.
    assert (zero.jobs, zero.min_free, zero.keep_built, zero.note) == (2, 0.125, 5400.0, "22:00")
    assert found.host("no").address.host == "0x10"
    assert str(found.host("pi4").address) == "ssh://[fe80::1]"
    assert {name: entry.pins for name, entry in found.registries.items()} == {
        "docker.io": Pins.OFF,
        "localhost:5000": Pins.KEEP,
    }


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("local", Address()),
        ("localhost", Address("localhost")),
        ("pi4.lan", Address("pi4.lan")),
        ("my_alias", Address("my_alias")),
        ("pi@pi4", Address("pi4", "pi")),
        ("::1", Address("::1")),
        ("pi@fe80::1%eth0", Address("fe80::1%eth0", "pi")),
        ("ssh://pi5", Address("pi5")),
        ("SSH://pi5/", Address("pi5")),
        ("ssh://local", Address("local")),
        ("ssh://pi@pi5:2222", Address("pi5", "pi", 2222)),
        ("ssh://pi@[fe80::1]:22", Address("fe80::1", "pi", 22)),
        ("ssh://[::1]", Address("::1")),
    ],
)
def test_targets(written, address):
    """A target is `local`, an alias, a host, user@host or an ssh:// URL."""
    text = json.dumps({"boards": {"x": written}, "emulators": {"y": {"host": written, "jobs": 2}}})
    assert "this is the same machine as x on line 1" in refused(text)
    assert read(json.dumps({"boards": {"x": written}})).hosts[0].address == address


def test_an_entry_wins_over_the_defaults():
    """Defaults fill what the entry and its target leave open; this machine needs no login."""
    found = read("""
defaults: {user: build, port: 2200, jobs: 3, connect_timeout: 500ms, min_free: 5%, engine: api, cache_budget: 1GiB}
boards:
  a:
  b: {host: "ssh://pi@b:22", jobs: 1, min_free: 0%}
  c: {user: root, port: "23"}
emulators: {local: }
""")
    assert [str(host.address) for host in found.hosts] == [
        "ssh://build@a:2200",
        "ssh://pi@b:22",
        "ssh://root@c:23",
        "local",
    ]
    assert [host.jobs for host in found.hosts] == [3, 1, 3, 3]
    assert [host.min_free for host in found.hosts] == [0.05, 0.0, 0.05, 0.05]
    assert {(host.connect_timeout, host.engine, host.cache_budget) for host in found.hosts} == {(0.5, "api", 2**30)}


def test_the_patience_with_registries_has_a_default_and_bounds():
    assert read("boards: {pi5: }").registry_patience == 300.0
    assert read("boards: {pi5: }\nregistry_patience: 90s").registry_patience == 90.0
    assert read("boards: {pi5: }\nregistry_patience: 0s").registry_patience == 0.0
    assert "registry_patience: expected a time from 0s to 86400s" in refused("boards: {pi5: }\nregistry_patience: 2d")


def test_host_keys():
    """A fingerprint, or a public key without its comment; a known_hosts line is answered with its key."""
    found = read(f"boards: {{a: {{host_key: '{PI5_KEY} root@pi5'}}, b: {{host_key: 'SHA256:{'a' * 43}='}}}}")
    assert [host.host_key for host in found.hosts] == [PI5_KEY, f"SHA256:{'a' * 43}"]
    assert f"did you mean '{PI5_KEY[:50]}" in refused(f"boards: {{a: {{host_key: 'pi5 {PI5_KEY}'}}}}")
    assert "expected SHA256:…" in refused(f"boards: {{a: {{host_key: 'ssh-rsa {PI5_KEY.split()[1]}'}}}}")


def test_a_bad_entry_does_not_hide_what_is_wrong_beside_it():
    """What is left when the bad entries are taken out is checked on: names and machines given twice are told too."""
    told = refused("boards: {a: {jobs: 0}, b: x, c: x}\nemulators: {a: z}\n")
    assert "boards.a.jobs" in told
    assert "boards.c: this is the same machine as b on line 1: ssh://x" in told
    assert "emulators.a: the name is taken by the board on line 1" in told


def test_aliases_do_not_blow_up():
    """A file that names itself a billion times is read in no time, and told off."""
    levels = "\n".join(f"x-{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 40))
    told = refused(f"x-0: &l0 [a, b]\n{levels}\nboards: *l39\n")
    assert "boards: expected a map" in told


def test_a_file_nested_too_deeply_is_refused():
    """The parser's own limit is a sentence, not a traceback."""
    assert refused("[" * 5000) == "inventory.yaml:1:1: lists or maps are nested too deeply"


LEAF = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just("linux/arm64"))
KEYS = [*schema()["$defs"]["Emulator"]["anyOf"][-1]["properties"], "x", "x-", "nas.lan:5000", "policy"]
TREE = st.recursive(
    LEAF,
    lambda tree: st.one_of(st.lists(tree, max_size=3), st.dictionaries(st.sampled_from(KEYS), tree, max_size=4)),
    max_leaves=8,
)
DOCUMENT = st.dictionaries(st.sampled_from([*InventoryDocument.model_fields, "x-mine"]), TREE, min_size=1)


@given(DOCUMENT)
def test_any_document_is_an_inventory_or_a_usage_error(document):
    """Whatever is written, it is read or told off with its place; nothing else happens."""
    assert read_or_refused(json.dumps(document))


@given(st.text())
def test_any_text_is_an_inventory_or_a_usage_error(text):
    """What is not even YAML is told off with its place."""
    assert read_or_refused(text)


def test_files_that_cannot_be_read(tmp_path):
    """A folder, a missing file and a path through a file are each named as what they are."""
    with pytest.raises(UsageError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(UsageError, match="there is no file"):
        load(tmp_path / "missing.yaml")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot read .*: Not a directory"):
        load(tmp_path / "file" / "inventory.yaml")


def test_a_byte_order_mark_is_no_problem(tmp_path):
    """Editors on Windows write one."""
    path = tmp_path / "inventory.yaml"
    path.write_bytes(b"\xef\xbb\xbfboards:\r\n  pi5: ssh://pi5\r\n")
    assert load(path).host("pi5").address == Address("pi5")


def test_no_file_means_this_machine():
    """Without an inventory, `local` is the emulator."""
    assert load(None) == builtin()


def test_where_the_inventory_is_found(tmp_path):
    """`-i`, then ARCHLOOM_INVENTORY, then the current folder, then the user's configuration."""
    cwd, home, config = tmp_path / "cwd", tmp_path / "home", tmp_path / "config"
    in_cwd, in_home, in_config = (
        cwd / "inventory.yaml",
        home / ".config/archloom/inventory.yaml",
        config / "archloom/inventory.yaml",
    )
    cwd.mkdir()
    assert find(None, {}, cwd, home) is None
    for path in (in_home, in_config):
        path.parent.mkdir(parents=True)
        path.touch()
    assert find(None, {}, cwd, home) == in_home
    assert find(None, {"XDG_CONFIG_HOME": str(config)}, cwd, home) == in_config
    assert find(None, {"XDG_CONFIG_HOME": "relative"}, cwd, home) == in_home
    in_cwd.touch()
    assert find(None, {}, cwd, home) == in_cwd
    assert find(None, {"ARCHLOOM_INVENTORY": ""}, cwd, home) == in_cwd
    assert find(None, {"ARCHLOOM_INVENTORY": "~/.config/archloom/inventory.yaml"}, cwd, home) == in_home
    assert find("../cwd/inventory.yaml", {"ARCHLOOM_INVENTORY": "x"}, cwd, home).resolve() == in_cwd


def test_a_named_file_must_be_there(tmp_path):
    """Another file than the named one would build on other machines than the user meant."""
    (tmp_path / "inventory.yaml").touch()
    with pytest.raises(UsageError, match=r"there is no inventory file farm\.yaml") as by_flag:
        find("farm.yaml", {}, tmp_path, tmp_path)
    with pytest.raises(UsageError) as by_variable:
        find(None, {"ARCHLOOM_INVENTORY": "farm.yaml"}, tmp_path, tmp_path)
    assert by_flag.value.hint.startswith("-i names it")
    assert by_variable.value.hint.startswith("ARCHLOOM_INVENTORY names it")


def test_the_schema_is_what_is_read():
    """The JSON schema names its dialect, explains every key, and knows the short forms of entries."""
    made = schema()
    assert made["$schema"] == DIALECT
    assert made["title"] == "archloom inventory"
    for shape in made["$defs"].values():
        for key, value in shape["anyOf"][-1]["properties"].items():
            assert value.get("description"), key
    assert {"type": "null"} in made["$defs"]["Board"]["anyOf"]
    assert any(form.get("type") == "string" for form in made["$defs"]["Emulator"]["anyOf"])
    assert "emulate" not in made["$defs"]["Board"]["anyOf"][-1]["properties"]


@pytest.mark.parametrize("text", [REFERENCE, EXAMPLES, (GOLDEN / "good/minimal.yaml").read_text("utf-8")])
def test_good_files_fit_the_schema(text):
    """What is read is what the schema allows; an independent validator is the judge."""
    import jsonschema

    root = yaml_source.parse(text, "inventory.yaml").root
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(root.data)


@pytest.mark.parametrize("name", ["every-key", "sections", "list"])
def test_bad_files_do_not_fit_the_schema(name):
    """An editor with the schema underlines what the loader refuses."""
    import jsonschema

    root = yaml_source.read(GOLDEN / "bad" / f"{name}.yaml", name).root
    assert not jsonschema.Draft202012Validator(schema()).is_valid(root.data)
