"""`archloom boards import` prints entries that an inventory is made of, and says what it left out and why."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.cli.main import run
from coordinator.config import yaml_source
from coordinator.config.addresses import LOCAL
from coordinator.config.imports import ansible, render, ssh_config
from coordinator.config.imports.ansible_groups import MOST_HOSTS, expanded
from coordinator.config.imports.entries import entries
from coordinator.config.imports.found import Found, Machine
from coordinator.config.load import inventory, load
from coordinator.domain.hosts.inventory import Address, Kind
from coordinator.domain.image.platforms import parse
from coordinator.errors import UsageError
from tests.services.commands import run_limited
from tests.services.missing import program
from tests.services.paths import CASES

GOLDEN = CASES / "import"
ALL = sorted(str(path.relative_to(GOLDEN)) for path in GOLDEN.glob("*/*"))
VARIABLES = (
    "BUILDX_CONFIG", "DOCKER_CONFIG", "DOCKER_HOST", "XDG_CONFIG_HOME", "CONTAINERS_CONF", "PODMAN_CONNECTIONS_CONF",
)  # fmt: skip


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """A user without any settings."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def imported(case: Path, monkeypatch, *more: str) -> int:
    """What the command ends with in the folder and the home of this case."""
    monkeypatch.setenv("HOME", str(case / "home"))
    monkeypatch.chdir(case)
    words = (case / "words").read_text("utf-8").split() if (case / "words").exists() else []
    return run(["boards", "import", case.parent.name, *words, *more])


@pytest.mark.parametrize("name", ALL)
def test_what_is_printed(name, monkeypatch, capsys):
    """Each case tells entries on stdout and notes or the error on stderr; the golden files are the judge."""
    case = GOLDEN / name
    code = imported(case, monkeypatch)
    told = capsys.readouterr()

    assert told.err.replace(str(case), "/CASE") == (case / "told.txt").read_text("utf-8")
    assert "hunter2" not in told.out + told.err
    if (case / "inventory.yaml").exists():
        assert code == 0
        assert told.out == (case / "inventory.yaml").read_text("utf-8")
    else:
        assert code == 2
        assert told.out == ""
        assert re.search(r"^error: .*\n(.*\n)*hint: ", told.err, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in ALL if (GOLDEN / name / "inventory.yaml").exists()])
def test_it_is_an_inventory(name, monkeypatch, capsys):
    """What is printed can be used as it is, and --json says the same."""
    hosts = {host.name: host for host in load(GOLDEN / name / "inventory.yaml").hosts}
    assert hosts

    assert imported(GOLDEN / name, monkeypatch, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [*told["boards"], *told["emulators"]] == list(hosts)
    for section, kind in (("boards", Kind.BOARD), ("emulators", Kind.EMULATOR)):
        for host, entry in told[section].items():
            assert hosts[host].kind is kind
            assert str(hosts[host].address) == entry["host"]
            assert [str(one) for one in hosts[host].platforms] == entry.get("platforms", [])


def test_every_source_has_good_and_bad_cases():
    """So that a source cannot lose its cases by a slip in a path."""
    for source in ("ssh-config", "ansible", "buildx", "podman"):
        outcomes = {(path / "inventory.yaml").exists() for path in (GOLDEN / source).iterdir()}
        assert outcomes == {True, False}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ssh-config"], "there is no file ~/.ssh/config"),
        (["ssh-config", "nowhere"], "there is no file nowhere"),
        (["ssh-config", "."], ". is a folder, not a file"),
        (["ansible", "."], ". is a folder"),
        (["ansible"], "missing argument 'FILE'"),
        (["buildx"], "there is no folder ~/.docker/buildx/instances"),
        (
            ["podman"],
            "there is neither ~/.config/containers/podman-connections.json nor ~/.config/containers/containers.conf",
        ),
        (["nix"], "no such command: nix"),
    ],
)
def test_what_is_not_there(words, message, tmp_path, monkeypatch, capsys):
    """Nothing on stdout, exit 2, and a hint."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(["boards", "import", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"error: {message}\nhint: ")


def test_what_is_no_text(tmp_path, capsys):
    """A binary file is refused with the place of its first odd byte."""
    path = tmp_path / "hosts"
    path.write_bytes(b"[pis]\npi\xff\n")
    assert run(["boards", "import", "ansible", str(path)]) == 2
    assert "hosts:2: byte 0xff is not UTF-8" in capsys.readouterr().err


def test_ansible_s_own_list_comes_by_standard_input():
    """`ansible-inventory --list | archloom boards import ansible -`."""
    text = (GOLDEN / "ansible" / "list" / "list.json").read_bytes()
    words = [sys.executable, "-m", "coordinator", "boards", "import", "ansible", "-"]
    ended = run_limited(words, input=text, capture_output=True, check=True)
    assert b"pi5: ssh://pi@192.168.1.30:22\n" in ended.stdout


def test_buildx_is_where_the_environment_says(tmp_path, monkeypatch, capsys):
    """BUILDX_CONFIG comes before DOCKER_CONFIG, whose contexts count; the default context is DOCKER_HOST."""
    node = [{"Name": "n0", "Endpoint": "ctx"}, {"Name": "n1", "Endpoint": "default"}]
    for folder, nodes in ((tmp_path / "own", node), (tmp_path / "docker" / "buildx", [])):
        (folder / "instances").mkdir(parents=True)
        (folder / "instances" / "n").write_text(json.dumps({"Name": "n", "Nodes": nodes}), "utf-8")
    meta = tmp_path / "docker" / "contexts" / "meta" / "1"
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(
        json.dumps({"Name": "ctx", "Endpoints": {"docker": {"Host": "ssh://ctx.lan"}}}), "utf-8"
    )
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "own"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("DOCKER_HOST", "ssh://pi@pi5")

    assert run(["boards", "import", "buildx", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["boards"] == {"ctx": {"host": "ssh://ctx.lan"}, "pi5": {"host": "ssh://pi@pi5"}}

    monkeypatch.delenv("BUILDX_CONFIG")
    assert run(["boards", "import", "buildx"]) == 2


def test_podman_is_where_the_environment_says(tmp_path, monkeypatch, capsys):
    """Each of podman's variables names its file; XDG_CONFIG_HOME the folder of both."""
    both = tmp_path / "xdg" / "containers"
    both.mkdir(parents=True)
    (both / "containers.conf").write_text('[engine.service_destinations.a]\nuri = "ssh://a.lan"\n', "utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert run(["boards", "import", "podman"]) == 0
    assert "a: ssh://a.lan" in capsys.readouterr().out

    (tmp_path / "c.json").write_text('{"Connection": {"Connections": {"b": {"URI": "ssh://b.lan"}}}}', "utf-8")
    (tmp_path / "c.conf").write_text("", "utf-8")
    monkeypatch.setenv("PODMAN_CONNECTIONS_CONF", str(tmp_path / "c.json"))
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "c.conf"))
    assert run(["boards", "import", "podman"]) == 0
    assert capsys.readouterr().out.endswith("boards:\n  b: ssh://b.lan\n")


def test_an_alias_leads_where_ssh_says(tmp_path):
    """The judge is OpenSSH itself: of two aliases for one machine one is left out, so the machine must be right."""
    (tmp_path / ".ssh").mkdir()
    config = tmp_path / ".ssh" / "config"
    for name in ("home-lab", "guarded"):
        written = (GOLDEN / "ssh-config" / name / "home" / ".ssh" / "config").read_text("utf-8")
        config.write_text(re.sub(r"(?m)^ *Include .*", "    Port 2200", written), "utf-8")
        machines = ssh_config.read(config, tmp_path).machines
        assert len(machines) > 2
        for machine in machines:
            words = [program("ssh"), "-G", "-F", str(config), machine.name]
            told = run_limited(words, capture_output=True, text=True, check=True).stdout
            said = dict(line.partition(" ")[::2] for line in told.splitlines())
            assert machine.identity == f"{said['hostname']}:{said['port']}"


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("pi5", ["pi5"]),
        ("pi[1:3]", ["pi1", "pi2", "pi3"]),
        ("pi[08:11].lan", ["pi08.lan", "pi09.lan", "pi10.lan", "pi11.lan"]),
        ("pi[1:6:2]", ["pi1", "pi3", "pi5"]),
        ("pi[a:c]", ["pia", "pib", "pic"]),
        ("r[1:2]b[a:b]", ["r1ba", "r1bb", "r2ba", "r2bb"]),
        ("[fd00::1]", ["[fd00::1]"]),
    ],
)
def test_ranges_of_hosts(pattern, hosts):
    """As Ansible has them: both ends included, leading zeros kept, a step behind a second colon."""
    assert expanded(pattern) == hosts


@pytest.mark.parametrize("pattern", ["pi[3:1]", "pi[1:c]", "pi[1:9:0]", "pi[0:1000]", "a[1:999]b[1:999]"])
def test_a_range_that_makes_no_sense(pattern):
    """Empty, mixed, endless and huge ranges are refused."""
    with pytest.raises(ValueError, match=rf"has (no hosts|more than {MOST_HOSTS} hosts)"):
        expanded(pattern)


def test_the_older_spelling_wins():
    """Of `ansible_ssh_user` and `ansible_user`, wherever each comes from, as Ansible's ssh connection does."""
    text = "[a]\nx ansible_user=new ansible_port=1 ansible_ssh_port=2\n[a:vars]\nansible_ssh_user=old\n"
    found = ansible.parse(text, "hosts")
    assert [str(one.address) for one in found.machines] == ["ssh://old@x:2"]


def test_groups_in_a_circle_end():
    """Ansible refuses a circle; here it must not hang, and the hosts are still found."""
    found = ansible.parse("[a]\nx\n[a:children]\nb\n[b:children]\na\n[b:vars]\nansible_user=pi\n", "hosts")
    assert [str(one.address) for one in found.machines] == ["ssh://pi@x"]


def test_a_child_group_wins_over_its_parent():
    """Whatever the groups are called and wherever they stand; a host's own value wins over both."""
    text = "[a:vars]\nansible_user=child\n[z:children]\na\n[z:vars]\nansible_user=parent\n[a]\nx\ny ansible_user=own\n"
    found = ansible.parse(text, "hosts")
    assert [one.address.user for one in found.machines] == ["child", "own"]


def test_a_line_to_paste_stays_one_line():
    """A value with a line break cannot add lines of its own to what a person is told to paste."""
    found = ansible.parse('all: {hosts: {pi: {ansible_private_key_file: "k\\nProxyCommand evil"}}}', "h.yaml")
    assert found.notes[0].endswith('\nHost pi\n  IdentityFile "k ProxyCommand evil"')


def test_nothing_a_terminal_would_act_on():
    """Names come from files of others: escape sequences are shown as question marks."""
    made = entries(Found("a\nb\x1b[2J", (), ("\x1b]0;x\x07: left out",)))
    assert made.notes == ("?]0;x?: left out",)
    assert made.source == "a?b?[2J"


NAMES = st.text(max_size=80) | st.sampled_from(["local", "pi5", "on", "007", "pi5-2"])
HOSTS = st.sampled_from(["", "pi5", "10.0.0.1", "fd00::21", "Pi5", "beast.lan"])
MACHINES = st.builds(
    lambda name, host, user, port, pins: Machine(
        name=name, address=Address(host, user, port) if host else Address(), platforms=tuple(map(parse, pins))
    ),
    NAMES,
    HOSTS,
    st.sampled_from(["", "pi"]),
    st.sampled_from([0, 22, 2222]),
    st.lists(st.sampled_from(["linux/arm64", "linux/arm/v7", "linux/amd64"]), unique=True, max_size=2),
)


@settings(max_examples=200)
@given(st.lists(MACHINES, min_size=1, max_size=12))
def test_any_machines_make_an_inventory(machines):
    """Whatever they are called: the text loads, each machine is there once, and nothing is lost without a note."""
    made = entries(Found("x", tuple(machines), ()))
    loaded = inventory(yaml_source.parse(render.yaml_text(made), "x.yaml"), Path("x.yaml"))

    assert [host.name for host in loaded.hosts] == [entry.name for entry in (*made.boards, *made.emulators)]
    assert len(loaded.hosts) == len({machine.identity for machine in machines})
    assert {host.name for host in loaded.hosts if host.kind is Kind.EMULATOR} <= {LOCAL}
    left_out = len(set(machines)) - len(loaded.hosts)
    assert sum("left out" in note for note in made.notes) >= left_out


@settings(max_examples=300)
@given(
    st.text(alphabet="[]:=#;\"' \n\tapi01.-{}$!@\\", max_size=60), st.sampled_from(["h", "h.yaml", "h.ini", "h.json"])
)
def test_any_text_is_read_or_refused(text, label):
    """No inventory of Ansible ends in a traceback: it is read, or refused with a hint."""
    try:
        found = ansible.parse(text, label)
    except UsageError as error:
        told = error.hint
    else:
        told = entries(found).source
    assert told
