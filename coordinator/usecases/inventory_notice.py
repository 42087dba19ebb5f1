"""The notice about a missing inventory file."""

from __future__ import annotations

from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.run.events import Emit, Notice


def report_inventory(inventory: Inventory, emit: Emit) -> None:
    """Emit a notice where there is no inventory file, which is not an error."""
    if not inventory.source:
        emit(Notice("no inventory file: this machine (local) builds everything, through QEMU where needed"))
