"""The platforms that a host runs, each with its mode: native, compat or emulated.

The engine's architecture decides what is native: a 32-bit engine on a 64-bit kernel pulls and runs 32-bit images. A
test program that runs proves nothing by itself, since the kernel passes foreign programs to registered emulators
silently (binfmt_misc). So an architecture with a registered emulator is emulated, even where the CPU could run it.
"""

from __future__ import annotations

from coordinator.domain.hosts.probe_reply import Reading
from coordinator.domain.hosts.problems import Problem, Severity
from coordinator.domain.image.platforms import Mode, Platform, normalise

_ARM_LEVELS = (7, 6, 5)
# Pairs of architectures that one CPU may run without an emulator.
_SAME_CPU = ({"amd64", "386"}, {"arm64", "arm"})
# Distributions align 32-bit Arm programs to this page size; a kernel with larger pages cannot load them.
_ARM_PAGE_BYTES = 4096
# The levels of the x86-64 psABI, by the flags in /proc/cpuinfo for their instructions.
_X86_LEVELS = (
    ("v2", frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"})),
    ("v3", frozenset({"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"})),
    ("v4", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
)

Modes = tuple[tuple[Platform, Mode], ...]


def modes(observation: Reading) -> tuple[Modes, tuple[Problem, ...]]:
    """Return the platforms with their modes, best first, each once, and the problems of emulators and 32-bit Arm.

    Both are empty without an engine.
    """
    direct = _direct(observation)
    if not direct:
        return (), ()
    by_platform, problems = dict(direct), []
    for architecture, emulator in _emulators(observation).items():
        own = [platform for platform, _ in direct if platform.architecture == architecture]
        problem = _emulator_problem(architecture, emulator, observation)
        if problem is None:
            for platform in own or _platforms(architecture):
                by_platform[platform] = Mode.EMULATED
            problem = _shadowing_problem(architecture, emulator) if own else None
        else:
            for platform in own:
                del by_platform[platform]
        problems += [problem] if problem else []
    problems += _arm_problems(observation)
    problems += _hidden_emulators(observation)
    ranks = list(Mode)
    ordered = sorted(by_platform.items(), key=lambda row: (ranks.index(row[1]), row[0].sort_key))
    return tuple(ordered), tuple(problems)


def engine_platform(observation: Reading) -> Platform | None:
    """Return the platform of the engine itself, `None` without an engine."""
    direct = _direct(observation)
    return direct[0][0] if direct else None


def _direct(observation: Reading) -> Modes:
    """Return what the CPU runs without emulators, the engine's own platform first."""
    engine = observation.at("engine")
    system, architecture = engine.text("os") or "linux", engine.text("arch")
    if not architecture:
        return ()
    runs = observation.at("runs")
    match architecture:
        case "arm":
            own = _arm_level(observation)
            older = tuple((_arm(level), Mode.COMPAT) for level in _ARM_LEVELS if level < own)
            return ((_arm(own), Mode.NATIVE), *older)
        case "arm64":
            fits = observation.whole("page_size") <= _ARM_PAGE_BYTES
            runs_arm = observation.flag("aarch32") is not False and runs.flag("arm") is True
            arms = _ARM_LEVELS if runs_arm and fits else ()
            return ((normalise(system, architecture), Mode.NATIVE), *((_arm(level), Mode.COMPAT) for level in arms))
        case "amd64":
            levels = tuple((normalise("linux", "amd64", level), Mode.COMPAT) for level in _x86_levels(observation))
            i386 = ((normalise("linux", "386"), Mode.COMPAT),) if runs.flag("386") else ()
            return ((normalise(system, architecture), Mode.NATIVE), *levels, *i386)
        case _:
            return ((normalise(system, architecture), Mode.NATIVE),)


def _arm_level(observation: Reading) -> int:
    """Return 5, 6 or 7 by containerd's rule (platforms, cpuinfo_linux.go). For 32-bit programs, 8 counts as 7."""
    cpu = observation.at("cpuinfo")
    # The first Raspberry Pis report architecture 7 for their ARMv6 CPU.
    if "armv6-compatible" in cpu.text("model").lower():
        return 6
    reported = cpu.text("architecture").lower().removeprefix("armv")
    machine = observation.at("uname").text("machine").removeprefix("armv")
    for word in (reported, machine):
        if word[:1].isdecimal():
            return min(max(int(word[0]), min(_ARM_LEVELS)), max(_ARM_LEVELS))
    return max(_ARM_LEVELS)


def _x86_levels(observation: Reading) -> list[str]:
    features = set(observation.at("cpuinfo").words("features"))
    levels: list[str] = []
    for level, needed in _X86_LEVELS:
        if not needed <= features:
            break
        levels.append(level)
    return levels


def _emulators(observation: Reading) -> dict[str, Reading]:
    """Return the enabled emulators by architecture."""
    binfmt = observation.at("binfmt")
    if binfmt.flag("enabled") is False:
        return {}
    return {
        entry.text("magic_arch"): entry
        for entry in binfmt.at("entries")
        if entry.flag("enabled") and entry.text("magic_arch")
    }


def _emulator_problem(architecture: str, emulator: Reading, observation: Reading) -> Problem | None:
    """Return why containers cannot use this emulator, `None` where they can."""
    if "F" not in emulator.text("flags"):
        return Problem(
            "binfmt_flags",
            f"QEMU for {architecture} is registered without flag F, so programs in containers do not find it",
            "register it again: sudo apt install --reinstall qemu-user-static",
            Severity.WARNING,
        )
    if observation.at("runs").flag(architecture) is not True:
        return Problem(
            "emulator_broken",
            f"QEMU for {architecture} is registered, but does not run {architecture} programs",
            "register it again: sudo apt install --reinstall qemu-user-static",
            Severity.WARNING,
        )
    return None


def _shadowing_problem(architecture: str, emulator: Reading) -> Problem:
    return Problem(
        f"shadowed_{architecture}",
        f"QEMU is registered for {architecture}, which this CPU runs by itself: builds take about ten times as long",
        f"echo -1 | sudo tee /proc/sys/fs/binfmt_misc/{emulator.text('name')}",
        Severity.WARNING,
    )


def _arm_problems(observation: Reading) -> list[Problem]:
    architecture = observation.at("engine").text("arch")
    if architecture == "arm" and observation.at("uname").text("machine") == "aarch64":
        return [
            Problem(
                "userland",
                "the system is 32-bit on a 64-bit CPU: it builds linux/arm/v7, and not linux/arm64",
                "for linux/arm64, install the 64-bit system",
                Severity.NOTE,
            )
        ]
    pages = observation.whole("page_size")
    if architecture == "arm64" and pages > _ARM_PAGE_BYTES and observation.flag("aarch32"):
        return [
            Problem(
                "pages",
                f"memory pages are {pages // 1024} KiB: 32-bit Arm programs do not load, nor do some others",
                "on a Raspberry Pi 5: add kernel=kernel8.img to /boot/firmware/config.txt, then reboot",
                Severity.NOTE,
            )
        ]
    return []


def _hidden_emulators(observation: Reading) -> list[Problem]:
    runs, own = observation.at("runs"), observation.at("engine").text("arch")
    compatible = next((pair for pair in _SAME_CPU if own in pair), {own})
    foreign = sorted(name for name in runs.names() if runs.flag(name) and name not in compatible)
    if not foreign or observation.at("binfmt").flag("mounted") is not False:
        return []
    return [
        Problem(
            "binfmt_unseen",
            f"programs for {', '.join(foreign)} run here, but their emulator cannot be seen",
            "sudo mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc",
            Severity.NOTE,
        )
    ]


def _platforms(architecture: str) -> tuple[Platform, ...]:
    """Return what an emulator of this architecture runs. One emulator runs all levels of 32-bit Arm."""
    if architecture == "arm":
        return tuple(_arm(level) for level in _ARM_LEVELS)
    return (normalise("linux", architecture),)


def _arm(level: int) -> Platform:
    return normalise("linux", "arm", f"v{level}")
