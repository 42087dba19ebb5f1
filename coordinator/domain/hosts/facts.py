"""What a probe found on a host, as a value: the agent's raw observation with its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from coordinator.domain.hosts import problems
from coordinator.domain.hosts.probe_reply import Reading
from coordinator.domain.hosts.problems import Problem, Severity
from coordinator.domain.hosts.supported_platforms import Modes, engine_platform, modes
from coordinator.domain.image.platforms import Mode, Platform

# A docker CLI from here to before 23 builds with BuildKit when DOCKER_BUILDKIT=1 says so.
_CLI_BUILDKIT, _CLI_WITHOUT_BUILDKIT = (18, 9), (23,)
# The first engine that unpacks zstd.
_ZSTD = (23,)
# What the newest of those CLIs speaks; Docker 29.0 to 29.2 accept nothing below 1.44.
_OLD_CLI_API = (1, 41)
# With containerd's store an engine before loses a context that comes by the API: https://github.com/moby/moby/issues/47717
_STORED_CONTEXT = (27, 5)


class Builder(StrEnum):
    """How an engine is made to build, in order of preference. The legacy builder is not among them."""

    BUILDX = "buildx"
    DOCKER = "docker"
    API = "api"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A container engine that answers. `id` names it for all users of the machine; `builders` may be empty.

    Its images lie below `images`, which is not below `root` where a containerd of the system keeps them.
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
    """One host. Bytes, °C and seconds; a number is 0, and what may be absent None, where the host does not say.

    `platforms` are best first. `disk_free` and `disk_total` are of the engine's disk, the fuller one where it has two.
    `clock_offset` is the host's clock less ours. `shared_slots`: whether other users' builds are seen.
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
        """The engine's own platform, `BUILDPLATFORM` to its builds.

        Raises ValueError for a host that has none: it is never given a job.
        """
        if self.engine is None:
            raise ValueError(f"{self.host} has no engine that answers")
        return self.engine.platform

    @property
    def reaches_tunnel(self) -> bool:
        """Whether the engine meets us on its host's loopback: where not, images leave as archives."""
        return self.problem(problems.ROOTLESS) is None

    @property
    def loads_zstd(self) -> bool:
        """Whether the engine takes layers compressed by zstd from an archive."""
        return self.engine is not None and problems.version(self.engine.version) >= _ZSTD

    @property
    def blocking(self) -> Problem | None:
        """The first reason why nothing can be built here."""
        return next((problem for problem in self.problems if problem.severity is Severity.BLOCKING), None)

    def problem(self, code: str) -> Problem | None:
        return next((problem for problem in self.problems if problem.code == code), None)

    def mode(self, platform: Platform) -> Mode | None:
        """How this host runs the platform; None where it does not."""
        return dict(self.platforms).get(platform)

    def in_mode(self, mode: Mode) -> tuple[Platform, ...]:
        return tuple(platform for platform, how in self.platforms if how is mode)

    def to_json(self) -> dict[str, object]:
        """For `--json` and for comparing: platforms by mode, and only the modes there are."""
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


def read_facts(host: str, observation: Mapping[str, object], *, now: float, round_trip: float) -> Facts:
    """What this observation says of the host; `now` is when it arrived, `round_trip` how long it took, in seconds.

    The host's clock was read at some moment in between. Fields that are absent or of another type are not known.
    """
    seen = Reading(observation)
    platforms, oddities = modes(seen)
    engine = _engine(seen)
    disk = min(problems.disks(seen), key=lambda disk: disk.whole("free"), default=seen.at("engine"))
    time = seen.number("time")
    offset = None if time is None else round(time - (now - round_trip / 2), 1)
    return Facts(
        host=host,
        platforms=platforms,
        engine=engine,
        model=seen.text("board") or seen.at("cpuinfo").text("model"),
        cores=seen.whole("cores"),
        memory=seen.at("memory").whole("total"),
        memory_available=seen.at("memory").whole("available"),
        disk_free=disk.whole("free"),
        disk_total=disk.whole("total"),
        page_size=seen.whole("page_size"),
        load=next(iter(seen.numbers("load")), 0.0),
        uptime=seen.number("uptime") or 0.0,
        clock_offset=offset,
        temperature=seen.number("temperature"),
        shared_slots=seen.flag("shared_slots") is not False,
        problems=(
            *problems.of_engine(seen),
            *problems.of_clock(offset, round_trip / 2),
            *problems.of_machine(seen),
            *_of_builders(seen, engine),
            *oddities,
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
    able = {
        Builder.BUILDX: any(cli.text("buildx") and cli.flag("buildx_fits") is not False for cli in clis),
        Builder.DOCKER: problems.version(engine.text("min_api")) <= _OLD_CLI_API
        and any(_CLI_BUILDKIT <= problems.version(cli.text("version")) < _CLI_WITHOUT_BUILDKIT for cli in clis),
        Builder.API: not engine.at("images").text("root")
        or problems.version(engine.text("version")) >= _STORED_CONTEXT,
    }
    return tuple(builder for builder in Builder if able[builder])


def _of_builders(observation: Reading, engine: Engine | None) -> list[Problem]:
    if engine is None or set(engine.builders) - {Builder.API} or not problems.has_buildkit(observation.at("engine")):
        return []
    clis = [f"docker {cli.text('version')}" for cli in observation.at("clis")]
    plugins = [f"buildx {cli.text('buildx')}" for cli in observation.at("clis") if cli.text("buildx")]
    least = observation.at("engine").text("min_api")
    what = "there is no docker command line"
    if plugins:
        what = f"{', '.join(plugins)} and engine {engine.version} have no API version in common"
    elif clis and problems.version(least) > _OLD_CLI_API:
        what = f"{', '.join(clis)} has no buildx, and the engine wants API {least} at least"
    elif clis:
        what = f"{', '.join(clis)} has no buildx"
    hint = "sudo apt install docker-buildx"
    if plugins:
        hint = "sudo apt install docker-buildx-plugin (Docker's packages) or docker-buildx: 0.13 or newer, and not 0.31"
    if not engine.builders:
        stored = f"engine {engine.version} keeps images in containerd's store"
        message = f"{what}, and {stored}, and before 27.5 loses contexts that come by API"
        return [Problem("no_builder", message, hint, Severity.BLOCKING)]
    message = f"{what}: builds use the Engine API, which has no `# syntax` and no secrets"
    return [Problem("no_buildx", message, hint, Severity.NOTE)]
