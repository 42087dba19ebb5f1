"""Minimal static ELF programs, one per architecture, that exit with status 0.

Each has a header, one segment and a few instructions for the exit system call. It exits with 0 where the host executes
that architecture, natively or emulated. BuildKit probes in the same way (util/archutil).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_BASE = 0x400000
# Valid for every page size of Linux, 64 KiB at most: the result must depend on the CPU, not on the page size.
_ALIGN = 0x10000
_PF_R_X = 5
_ET_EXEC, _EV_CURRENT, _PT_LOAD = 2, 1, 1


class _Machine(NamedTuple):
    """`number` is e_machine, `flags` e_flags; `code` holds the instructions in the machine's own byte order."""

    bits: int
    order: str
    number: int
    flags: int
    code: str


# fmt: off
_MACHINES = {
    "amd64":   _Machine(64, "<", 62, 0, "31ff b83c000000 0f05"),  # xor edi,edi; mov eax,60; syscall
    "386":     _Machine(32, "<", 3, 0, "31db 31c0 40 cd80"),  # xor ebx,ebx; xor eax,eax; inc eax; int 0x80
    "arm64":   _Machine(64, "<", 183, 0, "000080d2 a80b80d2 010000d4"),  # mov x0,#0; mov x8,#93; svc #0
    "arm":     _Machine(32, "<", 40, 0x05000000, "0000a0e3 0170a0e3 000000ef"),  # mov r0,#0; mov r7,#1; svc #0 (EABI 5)
    "riscv64": _Machine(64, "<", 243, 0, "13050000 9308d005 73000000"),  # li a0,0; li a7,93; ecall
    "ppc64le": _Machine(64, "<", 21, 2, "01000038 00006038 02000044"),  # li r0,1; li r3,0; sc (ELFv2)
    "s390x":   _Machine(64, ">", 22, 0, "a7290000 0a01"),  # lghi %r2,0; svc 1
}
# fmt: on

ARCHITECTURES = tuple(_MACHINES)


def program(architecture: str) -> bytes:
    """Return the ELF file of one of ARCHITECTURES."""
    machine = _MACHINES[architecture]
    wide = machine.bits == 64
    code = bytes.fromhex(machine.code)
    head, segment = (64, 56) if wide else (52, 32)
    size = head + segment + len(code)
    word = "Q" if wide else "I"
    ident = b"\x7fELF" + bytes([2 if wide else 1, 2 if machine.order == ">" else 1, _EV_CURRENT]) + bytes(9)
    header = ident + struct.pack(
        f"{machine.order}HHI{word}{word}{word}IHHHHHH",
        *(_ET_EXEC, machine.number, _EV_CURRENT),
        *(_BASE + head + segment, head, 0, machine.flags),
        *(head, segment, 1, 0, 0, 0),
    )
    if wide:
        fields = (_PT_LOAD, _PF_R_X, 0, _BASE, _BASE, size, size, _ALIGN)
        loaded = struct.pack(f"{machine.order}IIQQQQQQ", *fields)
    else:
        fields = (_PT_LOAD, 0, _BASE, _BASE, size, size, _PF_R_X, _ALIGN)
        loaded = struct.pack(f"{machine.order}IIIIIIII", *fields)
    return header + loaded + code


def architecture_of(header: bytes) -> str | None:
    """Return the one of ARCHITECTURES with this ELF header's class, byte order and e_machine; None for any other."""
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    bits, order = {1: 32, 2: 64}.get(header[4]), {1: "<", 2: ">"}.get(header[5])
    for name, machine in _MACHINES.items():
        if (machine.bits, machine.order) == (bits, order):
            (number,) = struct.unpack_from(f"{order}H", header, 18)
            if number == machine.number:
                return name
    return None
