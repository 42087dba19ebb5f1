"""`archloom boards add`: set up SSH access to a host, probe it, and add it to the inventory."""

from __future__ import annotations

import click

from coordinator.cli.environment import read_environment
from coordinator.cli.output import print_message
from coordinator.cli.terminal import Terminal
from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host, Kind
from coordinator.domain.image.platforms import Mode
from coordinator.domain.placement.eligibility import Unreachable
from coordinator.errors import Exit

_MODE_TEXT = {
    Mode.NATIVE: "natively",
    Mode.COMPAT: "in its CPU's 32-bit or older mode",
    Mode.CROSS: "by cross-compiling",
    Mode.EMULATED: "through QEMU",
}


@click.command(
    epilog="\b\nExamples:\n  archloom boards add pi@192.168.1.21\n  archloom boards add --name beast --emulator local"
)
@click.argument("target", metavar="USER@HOST|ssh://USER@HOST[:PORT]|ALIAS|local")
@click.option(
    "--name", metavar="NAME", default="", help="Name in the inventory. Default: the alias or the host's short name."
)
@click.option("--emulator", is_flag=True, help="Add it as an emulator: it may also run foreign platforms through QEMU.")
@click.option(
    "--host-key", metavar="SHA256:…", default="", help="The expected host key; you are then not asked about it."
)
@click.option("--yes", is_flag=True, help="Answer yes to every question except an unknown host key.")
@click.option("-i", "--inventory", metavar="FILE", help="Inventory to add it to. (env: ARCHLOOM_INVENTORY)")
def command(target: str, name: str, host_key: str, inventory: str | None, *, emulator: bool, yes: bool) -> int:
    """Add a host to the inventory.

    Shows its host key and asks once whether it is the right one; installs your SSH key, asking for the password once;
    pins the host key; probes the host, and appends it to the inventory, whose comments are kept.

    A host that cannot build yet is added too: its problems and hints are printed, and the exit code is 5. A host
    that cannot be reached is not added.
    """
    from coordinator.config.locate import label
    from coordinator.usecases.boards.add import Addition, add

    addition = Addition(
        target=target,
        name=name,
        kind=Kind.EMULATOR if emulator else Kind.BOARD,
        host_key=host_key,
        yes=yes,
        inventory=inventory,
    )
    added = add(addition, read_environment(), Terminal())
    file, host = label(added.file), added.host
    if added.is_new_file:
        emulator_note = ", with this machine kept as an emulator" if not host.address.is_local else ""
        print_message(f"{file}: created{emulator_note}")
    outcome = (
        f"{host.name} is already listed, nothing to do" if added.was_there else f"added {host.name} to {host.kind}s"
    )
    print_message(f"{file}: {outcome}")
    usable = tell(host, added.found)
    print_message(
        f"next: {_build(added.found)}" if usable else f"next: archloom boards {host.name}, once that is fixed"
    )
    return Exit.DONE if usable else Exit.LOST


def _build(found: Facts | Unreachable) -> str:
    platforms = found.in_mode(Mode.NATIVE) if isinstance(found, Facts) else ()
    return f"archloom build . -t REGISTRY/IMAGE:TAG --platform {','.join(map(str, platforms))}"


def tell(host: Host, found: Facts | Unreachable) -> bool:
    """Print what the host can build and its problems. Return whether it can build anything."""
    name = host.name
    if isinstance(found, Unreachable):
        print_message(f"{name}: {found.message}{_hint(found.hint)}")
        return False
    for mode, how in _MODE_TEXT.items():
        platforms = ", ".join(str(platform) for platform in found.in_mode(mode))
        emulates = host.kind is Kind.EMULATOR or mode is not Mode.EMULATED
        if platforms and emulates and not found.blocking:
            print_message(f"{name}: builds {platforms} {how}")
    for problem in found.problems:
        print_message(f"{name}: {problem.message}{_hint(problem.hint)}")
    return not found.blocking


def _hint(hint: str) -> str:
    return "".join(f"\n  hint: {line}" for line in hint.splitlines())
