"""A board's network: a namespace with one cable, which can be pulled or made slow."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import dataclass, field

from tests.services.board_lab import run
from tests.services.commands import Child

_HOLD = "ip link set lo up && echo up && exec cat >/dev/null"
_DIRECTIONS = (("INPUT", "-i"), ("OUTPUT", "-o"))


@dataclass(slots=True, kw_only=True)
class Link:
    """`gateway` is the end of the cable outside: on this machine, or in the namespace of another board (`behind`).

    The namespace lives as long as a process that waits for the end of its stdin: no longer than the tests do.
    """

    outside: str
    gateway: str
    addresses: tuple[str, ...]
    behind: Link | None
    beyond: list[Link] = field(default_factory=list)
    _holder: Child | None = None
    _dark: bool = False
    _loss: str = ""
    _rate: str | None = None

    @property
    def namespace(self) -> str:
        """Its file."""
        assert self._holder is not None, "the board has no network"
        return f"/proc/{self._holder.pid}/ns/net"

    def open(self) -> None:
        """A fresh namespace with the same addresses: nothing of what went before is left in it, nor any connection."""
        self.close()
        self._holder = Child(
            ["unshare", "--net", "sh", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.line() == "up\n", "a network namespace did not come up"
        self._lay()
        for link in self.beyond:
            link._lay()

    def _lay(self) -> None:
        """Lays the cable between the two ends, of which one may be new."""
        assert self._holder is not None
        with suppress(subprocess.CalledProcessError):
            self.inner("ip", "link", "del", "eth0")
        pid = str(self._holder.pid)
        self._outer("ip", "link", "add", self.outside, "type", "veth", "peer", "name", "eth0", "netns", pid)
        self._outer("ip", "address", "add", f"{self.gateway}/29", "dev", self.outside)
        self._outer("ip", "link", "set", self.outside, "up")
        for address in self.addresses:
            self.inner("ip", "address", "add", f"{address}/29", "dev", "eth0")
        self.inner("ip", "link", "set", "eth0", "up")
        self._apply_rate()

    def close(self) -> None:
        """The namespace and the cable go."""
        if self._holder is None:
            return
        with suppress(subprocess.CalledProcessError):
            self._outer("ip", "link", "del", self.outside)
        self._holder.communicate()
        self._holder, self._dark, self._loss = None, False, ""

    def cut(self) -> None:
        """From now on nothing comes through, either way, and nobody is told."""
        if not self._dark:
            for chain, way in _DIRECTIONS:
                self.inner("iptables", "-w", "-I", chain, way, "eth0", "-j", "DROP")
            self._dark = True

    def mend(self) -> None:
        if self._dark:
            for chain, way in _DIRECTIONS:
                self.inner("iptables", "-w", "-D", chain, way, "eth0", "-j", "DROP")
            self._dark = False

    def lose(self, percent: int) -> None:
        """Each way so many packets of a hundred vanish from now on; 0: none."""
        for change, probability in (("-D", self._loss), ("-I", str(percent / 100) if percent else "")):
            for chain, way in _DIRECTIONS if probability else ():
                chance = ("statistic", "--mode", "random", "--probability", probability)
                self.inner("iptables", "-w", change, chain, way, "eth0", "-m", *chance, "-j", "DROP")
        self._loss = str(percent / 100) if percent else ""

    def limit(self, rate: str | None) -> None:
        """Each way carries no more than this, as `tc` writes it ("10mbit"); None: as much as there is."""
        if rate != self._rate:
            self._rate = rate
            self._apply_rate()

    def inner(self, *command: str) -> str:
        """The output of a command in the board's network."""
        return run("nsenter", f"--net={self.namespace}", *command)

    def _outer(self, *command: str) -> str:
        return self.behind.inner(*command) if self.behind else run(*command)

    def _apply_rate(self) -> None:
        shape = ("tbf", "rate", self._rate, "burst", "32k", "latency", "50ms") if self._rate else ("noqueue",)
        self.inner("tc", "qdisc", "replace", "dev", "eth0", "root", *shape)
        self._outer("tc", "qdisc", "replace", "dev", self.outside, "root", *shape)
