"""The facts of a host, derived from the raw observation of its agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from coordinator.domain.hosts import problems
from coordinator.domain.hosts.probe_reply import Reading
from coordinator.domain.hosts.problems import Problem, Severity
from coordinator.domain.hosts.supported_platforms import Modes, engine_platform, modes
from coordinator.domain.image.platforms import Mode, Platform

# A docker CLI from 18.09 up to 22 builds with BuildKit where DOCKER_BUILDKIT=1 is set; later ones need buildx.
_CLI_BUILDKIT, _CLI_WITHOUT_BUILDKIT = (18, 9), (23,)
# The first engine version that decompresses zstd layers.
_ZSTD = (23,)
# The API version of the newest of those CLIs; Docker 29.0 to 29.2 accept 1.44 and later only.
_OLD_CLI_API = (1, 41)
# Older engines with containerd's image store lose a context sent by API: https://github.com/moby/moby/issues/47717
_STORED_CONTEXT = (27, 5)


class Builder(StrEnum):
    """The client that drives an engine's build, in order of preference. The legacy builder is not supported."""

    BUILDX = "buildx"
    DOCKER = "docker"
    API = "api"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A container engine that answers. `id` is the same for all users of the machine; `builders` may be empty.

    `images` is the folder of its images, which is outside `root` where the system's containerd stores them.
    """

    platform: Platform
    kind: str
    version: str
    api: str
    id: str
    root: str
    images: str
    store: str
    builders: tuple[Builder, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts of one host, in bytes, °C and seconds. An unknown number is 0, an unknown optional value `None`.

    `platforms` are best first. `disk_free` and `disk_total` are of the engine's disk; of two disks, the one with less
    free space. `clock_offset` is the host's clock minus the coordinator's. `shared_slots` is whether slots of other
    users are visible.
    """

    host: str
    platforms: Modes
    engine: Engine | None
    model: str = ""
    cores: int = 0
    memory: int = 0
    memory_available: int = 0
    disk_free: int = 0
    disk_total: int = 0
    page_size: int = 0
    load: float = 0.0
    uptime: float = 0.0
    clock_offset: float | None = None
    temperature: float | None = None
    shared_slots: bool = True
    problems: tuple[Problem, ...] = ()

    @property
    def native(self) -> Platform:
        """The engine's own platform, which is `BUILDPLATFORM` in its builds.

        Raises ValueError for a host without an engine, which never gets a job.
        """
        if self.engine is None:
            raise ValueError(f"{self.host} has no engine that answers")
        return self.engine.platform

    @property
    def reaches_tunnel(self) -> bool:
        """Whether the engine reaches the SSH tunnel on its host's loopback; otherwise images leave as archives."""
        return self.problem(problems.ROOTLESS) is None

    @property
    def loads_zstd(self) -> bool:
        """Whether the engine loads zstd-compressed layers from an archive."""
        return self.engine is not None and problems.version(self.engine.version) >= _ZSTD

    @property
    def blocking(self) -> Problem | None:
        """The first problem that keeps the host from building anything."""
        return next((problem for problem in self.problems if problem.severity is Severity.BLOCKING), None)

    def problem(self, code: str) -> Problem | None:
        return next((problem for problem in self.problems if problem.code == code), None)

    def mode(self, platform: Platform) -> Mode | None:
        """Return the mode in which this host runs the platform, `None` where it does not."""
        return dict(self.platforms).get(platform)

    def in_mode(self, mode: Mode) -> tuple[Platform, ...]:
        return tuple(platform for platform, how in self.platforms if how is mode)

    def to_json(self) -> dict[str, object]:
        """Return the facts for `--json` and for comparison, with platforms by mode and without empty modes."""
        engine = self.engine
        return {
            "platforms": {
                mode.value: found for mode in Mode if (found := [str(platform) for platform in self.in_mode(mode)])
            },
            "engine": {
                "platform": str(engine.platform),
                "kind": engine.kind,
                "version": engine.version,
                "api": engine.api,
                "id": engine.id,
                "root": engine.root,
                "images": engine.images,
                "store": engine.store,
                "builders": [builder.value for builder in engine.builders],
            }
            if engine
            else None,
            "model": self.model,
            "cores": self.cores,
            "memory": self.memory,
            "memory_available": self.memory_available,
            "disk_free": self.disk_free,
            "disk_total": self.disk_total,
            "page_size": self.page_size,
            "load": self.load,
            "uptime": self.uptime,
            "clock_offset": self.clock_offset,
            "temperature": self.temperature,
            "shared_slots": self.shared_slots,
            "problems": [
                {
                    "code": problem.code,
                    "severity": problem.severity.value,
                    "message": problem.message,
                    "hint": problem.hint,
                }
                for problem in self.problems
            ],
        }


def read_facts(
    host: str, observation: Mapping[str, object], *, now: float, round_trip: float, is_local: bool = False
) -> Facts:
    """Return the facts in an agent's observation, which arrived at `now` after `round_trip` seconds.

    `is_local`: the host is the coordinator's own machine.

    The host's clock was read at some moment within the round trip: the middle is assumed, and half the round trip is
    the uncertainty. Fields that are absent or of another type are unknown.
    """
    reading = Reading(observation)
    platforms, platform_problems = modes(reading)
    engine = _engine(reading)
    disk = min(problems.disks(reading), key=lambda disk: disk.whole("free"), default=reading.at("engine"))
    time = reading.number("time")
    offset = None if time is None else round(time - (now - round_trip / 2), 1)
    return Facts(
        host=host,
        platforms=platforms,
        engine=engine,
        model=reading.text("board") or reading.at("cpuinfo").text("model"),
        cores=reading.whole("cores"),
        memory=reading.at("memory").whole("total"),
        memory_available=reading.at("memory").whole("available"),
        disk_free=disk.whole("free"),
        disk_total=disk.whole("total"),
        page_size=reading.whole("page_size"),
        load=next(iter(reading.numbers("load")), 0.0),
        uptime=reading.number("uptime") or 0.0,
        clock_offset=offset,
        temperature=reading.number("temperature"),
        shared_slots=reading.flag("shared_slots") is not False,
        problems=(
            *problems.of_engine(reading),
            *problems.of_clock(offset, round_trip / 2),
            *problems.of_machine(reading, is_local=is_local),
            *_of_builders(reading, engine),
            *platform_problems,
        ),
    )


def _engine(observation: Reading) -> Engine | None:
    engine = observation.at("engine")
    platform = engine_platform(observation)
    if engine.at("error").value is not None or platform is None:
        return None
    return Engine(
        platform=platform,
        kind=engine.text("kind"),
        version=engine.text("version"),
        api=engine.text("api"),
        id=engine.text("id"),
        root=engine.text("root"),
        images=engine.at("images").text("root") or engine.text("root"),
        store=engine.text("store"),
        builders=_builders(observation),
    )


def _builders(observation: Reading) -> tuple[Builder, ...]:
    engine = observation.at("engine")
    if not problems.has_buildkit(engine):
        return ()
    clis = list(observation.at("clis"))
    usable = {
        Builder.BUILDX: any(cli.text("buildx") and cli.flag("buildx_fits") is not False for cli in clis),
        Builder.DOCKER: problems.version(engine.text("min_api")) <= _OLD_CLI_API
        and any(_CLI_BUILDKIT <= problems.version(cli.text("version")) < _CLI_WITHOUT_BUILDKIT for cli in clis),
        Builder.API: not engine.at("images").text("root")
        or problems.version(engine.text("version")) >= _STORED_CONTEXT,
    }
    return tuple(builder for builder in Builder if usable[builder])


def _of_builders(observation: Reading, engine: Engine | None) -> list[Problem]:
    if engine is None or set(engine.builders) - {Builder.API} or not problems.has_buildkit(observation.at("engine")):
        return []
    clis = [f"docker {cli.text('version')}" for cli in observation.at("clis")]
    plugins = [f"buildx {cli.text('buildx')}" for cli in observation.at("clis") if cli.text("buildx")]
    least = observation.at("engine").text("min_api")
    gap = "docker's command line is not installed"
    if plugins:
        gap = f"{', '.join(plugins)} and engine {engine.version} have no API version in common"
    elif clis and problems.version(least) > _OLD_CLI_API:
        gap = f"{', '.join(clis)} has no buildx, and the engine wants API {least} at least"
    elif clis:
        gap = f"{', '.join(clis)} has no buildx"
    hint = "sudo apt install docker-buildx"
    if plugins:
        hint = "sudo apt install docker-buildx-plugin (Docker's packages) or docker-buildx: 0.13 or newer, and not 0.31"
    if not engine.builders:
        stored = f"engine {engine.version} keeps images in containerd's store"
        message = f"{gap}, and {stored}, and before 27.5 loses contexts sent through the API"
        return [Problem("no_builder", message, hint, Severity.BLOCKING)]
    message = f"{gap}: builds use the Engine API, which has no `# syntax` and no secrets"
    return [Problem("no_buildx", message, hint, Severity.NOTE)]
