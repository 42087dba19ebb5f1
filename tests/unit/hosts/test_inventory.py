"""Hosts and registries as values."""

from __future__ import annotations

import pytest

from coordinator.domain.hosts.inventory import Address, Host, Inventory, Kind, builtin

PI5 = Host(name="pi5", kind=Kind.BOARD, address=Address("pi5.lan"))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address(), "local"),
        (Address("pi5.lan"), "ssh://pi5.lan"),
        (Address("pi5.lan", "ann", 2222), "ssh://ann@pi5.lan:2222"),
        (Address("fe80::1", port=22), "ssh://[fe80::1]:22"),
    ],
)
def test_an_address_is_written_as_a_url(address, text):
    """An IPv6 address stands in brackets (RFC 3986, 3.2.2)."""
    assert str(address) == text
    assert address.is_local is (text == "local")


def test_a_host_is_found_by_its_name():
    inventory = Inventory(hosts=(*builtin().hosts, PI5))

    assert inventory.host("pi5") is PI5
    assert inventory.host("pi4") is None


def test_without_an_inventory_file_this_machine_is_the_emulator():
    (host,) = builtin().hosts

    assert (host.name, host.kind, host.address.is_local) == ("local", Kind.EMULATOR, True)
