"""The configuration: puts together the settings that each part declares, and reads them.

An option stands over an environment variable, that over the configuration file, that over the default. One name serves
everywhere: ``max_frame_bytes`` in the file is ``--max-frame-bytes`` and ``TARS_REGISTRY_MAX_FRAME_BYTES``.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import yaml

from registry.admin.health import AdminLimits
from registry.admin.logs import LogLimits
from registry.cache import CacheLimits
from registry.kube.settings import ReflectorSettings, WriterSettings
from registry.profile import ProfileLimits
from registry.routing.hosts import EndpointHost
from registry.servants.states import StateSettings
from registry.snapshot import SnapshotSettings
from registry.sources.directory import DirectorySettings
from registry.sources.kubernetes import KubernetesSettings
from registry.sources.routing_keeper import RoutingSettings
from tars_protocol.aio.server import ServerLimits
from tars_protocol.settings import setting

ENVIRONMENT_PREFIX: Final = "TARS_REGISTRY_"

SERVICE_NAME: Final = "tars-tarsregistry"
"""The name of the registry's Service in every installation of TARS on Kubernetes."""


_POD_NAME: Final = ("PodName", "POD_NAME", "HOSTNAME")
"""Variables that may hold the name of the own pod: TARS's controller sets the first, the host is named after it."""


class ConfigError(Exception):
    """A setting that can't be used; the text names where it was set and what would be right."""


class SourceKind(StrEnum):
    """Where the table comes from."""

    KUBERNETES = "kubernetes"
    DIRECTORY = "directory"


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


class EventLoop(StrEnum):
    """Which event loop runs the service."""

    AUTO = "auto"
    UVLOOP = "uvloop"
    ASYNCIO = "asyncio"


class LogLevel(StrEnum):
    """The least serious messages that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host ("" for all addresses, IPv4 and IPv6) and a port (0 for any)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host or '*'}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """From ``HOST:PORT``, ``[IPv6]:PORT``, ``:PORT``, ``*:PORT`` or ``PORT``. Raises ValueError."""
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError("an IPv6 address stands in brackets, as in [::1]:17890")
        if not (re.fullmatch("[0-9]{1,5}", port) and int(port) <= 65535):
            raise ValueError("expected HOST:PORT, as in 0.0.0.0:17890, or :PORT for all addresses")
        try:
            host.encode("idna")
        except UnicodeError:
            # The resolver would raise this, where nobody expects it.
            raise ValueError(f"no host name: {host!r}") from None
        return cls("" if host == "*" else host, int(port))


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What the service does and where it listens."""

    source: SourceKind | None = setting(
        None,
        "Where servers are found: in the Kubernetes API or in a directory of manifests. "
        "By default kubernetes inside a pod, directory elsewhere.",
    )
    manifests: Path | None = setting(
        None, "The directory of manifests (*.yaml, *.yml, *.json) of the directory source."
    )
    query_listen: ListenAddress = setting(ListenAddress("", 17890), "Where clients ask (QueryObj).")
    registry_listen: ListenAddress = setting(ListenAddress("", 17891), "Where tarsnodes report (RegistryObj).")
    admin_listen: ListenAddress | None = setting(
        ListenAddress("127.0.0.1", 17892),
        "Health, metrics and what shows the inside; for this machine alone unless told otherwise. off for none.",
    )
    metrics_listen: ListenAddress | None = setting(
        None, "Health and metrics only, for probes and scrapers from elsewhere, as in :17893. off for none."
    )
    endpoint_host: EndpointHost = setting(
        EndpointHost.AUTO,
        "What stands as the host of an endpoint: dns is POD.OBJECT, dns-fqdn adds NAMESPACE.svc.CLUSTER-DOMAIN; "
        "auto is dns for pods that have a name of their own (POD is OBJECT-NUMBER), otherwise pod-ip, or host-ip where "
        "the server has host ports. Go clients fold endpoints with one host into one: with host-ip two pods of a "
        "server on one node count as one there.",
    )
    cluster_domain: str = setting("cluster.local", "The cluster's domain, for dns-fqdn.")
    self_host: str = setting(
        "",
        "The host under which callers reach this registry: the answer for tars.tarsregistry.QueryObj and RegistryObj, "
        f"with which clients go on asking. By default {SERVICE_NAME} inside a pod, and elsewhere the address that the "
        "caller connected to.",
    )
    pod_name: str = setting(
        "",
        "The registry's own pod, whose condition tars.io/active says that it is ready, for pods with that readiness "
        "gate. By default what PodName, POD_NAME or HOSTNAME say inside a pod, and elsewhere none. off for none: then "
        "its condition is left alone.",
    )
    log_level: LogLevel = setting(LogLevel.INFO, "The least serious messages that are logged.", reloadable=True)
    log_format: LogFormat = setting(LogFormat.TEXT, "How log lines are written, to standard error.")
    event_loop: EventLoop = setting(EventLoop.AUTO, "auto takes uvloop where it is installed; it is faster.")
    drain_delay: float = setting(
        5.0,
        "After SIGTERM, not ready any more, connections are still taken for so long: it takes Kubernetes a moment to "
        "send nobody here any more, up to a few seconds on a busy cluster. Not after SIGINT.",
        unit="seconds",
        minimum=0,
        reloadable=True,
    )
    reconnect_grace: float = setting(
        2.0,
        "For clients that were asked to connect elsewhere (_reconnect_), before their connection is closed; they are "
        "answered meanwhile. TarsGo closes it itself, half a second to a second later.",
        unit="seconds",
        minimum=0,
        reloadable=True,
    )
    drain_timeout: float = setting(
        20.0,
        "From SIGTERM to the exit, drain_delay included; what is not answered by then is not. It must be less than the "
        "pod's terminationGracePeriodSeconds, 30 by default.",
        unit="seconds",
        minimum=0,
        reloadable=True,
    )

    @property
    def chosen_source(self) -> SourceKind:
        """The source, chosen by where the service runs if it is not set."""
        return self.source or (SourceKind.KUBERNETES if inside_pod() else SourceKind.DIRECTORY)

    @property
    def chosen_self_host(self) -> str:
        """The registry's own host; "" for the address that each caller connected to."""
        return self.self_host or (SERVICE_NAME if inside_pod() else "")

    @property
    def chosen_pod_name(self) -> str:
        """The registry's own pod; "" where it is in none, or is not to look after it."""
        if self.pod_name.lower() == "off":
            return ""
        named = next((os.environ[name] for name in _POD_NAME if os.environ.get(name)), "")
        return self.pod_name or (named if inside_pod() else "")


def inside_pod() -> bool:
    """True where Kubernetes says so, through the environment that every pod has."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, by the part that declares them."""

    service: ServiceSettings = dataclasses.field(default_factory=ServiceSettings)
    server: ServerLimits = dataclasses.field(default_factory=ServerLimits)
    admin: AdminLimits = dataclasses.field(default_factory=AdminLimits)
    cache: CacheLimits = dataclasses.field(default_factory=CacheLimits)
    directory: DirectorySettings = dataclasses.field(default_factory=DirectorySettings)
    kubernetes: KubernetesSettings = dataclasses.field(default_factory=KubernetesSettings)
    reflector: ReflectorSettings = dataclasses.field(default_factory=ReflectorSettings)
    routing: RoutingSettings = dataclasses.field(default_factory=RoutingSettings)
    snapshot: SnapshotSettings = dataclasses.field(default_factory=SnapshotSettings)
    states: StateSettings = dataclasses.field(default_factory=StateSettings)
    writer: WriterSettings = dataclasses.field(default_factory=WriterSettings)
    profile: ProfileLimits = dataclasses.field(default_factory=ProfileLimits)
    log: LogLimits = dataclasses.field(default_factory=LogLimits)


TITLES: Final = {
    "service": "Service",
    "server": "Connections",
    "admin": "Health and metrics",
    "cache": "Kept answers",
    "directory": "Directory source",
    "kubernetes": "Kubernetes source",
    "reflector": "List and watch",
    "routing": "Routing",
    "snapshot": "Snapshot file",
    "states": "Reports of tarsnodes",
    "writer": "Writing to the cluster",
    "profile": "Descriptors of servers",
    "log": "Log",
}
"""Heading of each part, in order."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as declared: ``part`` of the configuration, ``name``, type, default, documentation.

    ``reloadable``: it can change while the service runs.
    """

    part: str
    name: str
    type: Any
    default: Any
    meaning: str
    unit: str
    minimum: float | None
    maximum: int | None
    reloadable: bool

    @property
    def option(self) -> str:
        """On the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """In the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def kind(self) -> type[Any]:
        """The type without its "or None"."""
        plain: type[Any] = next((t for t in typing.get_args(self.type) if t is not type(None)), self.type)
        return plain

    @property
    def optional(self) -> bool:
        """True where there may be none."""
        return type(None) in typing.get_args(self.type)

    @property
    def placeholder(self) -> str:
        """What stands for the value in a help text."""
        if issubclass(self.kind, StrEnum):
            return "|".join(self.kind)
        if self.kind is Path:
            return "DIR" if self.name == "manifests" else "FILE"
        return {ListenAddress: "HOST:PORT", int: "N", float: "N", str: "TEXT"}[self.kind]

    @property
    def shown_default(self) -> str:
        """The default as it would be written."""
        if self.default is None:
            return "none"
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default) or "empty"

    def parse(self, text: str) -> Any:
        """The value that a text stands for. Raises ValueError that says what would be right."""
        kind = self.kind
        if self.optional and text.lower() in ("", "off", "none"):
            return None
        if issubclass(kind, StrEnum):
            try:
                return kind(text.lower())
            except ValueError:
                raise ValueError(f"expected one of {', '.join(kind)}") from None
        if kind is ListenAddress:
            return ListenAddress.parse(text)
        if kind in (int, float):
            return self._number(text)
        return kind(text)

    def _number(self, text: str) -> int | float:
        whole = self.kind is int
        factor = 1
        if self.unit == "bytes":
            for suffix, power in (("Ki", 10), ("Mi", 20), ("Gi", 30)):
                if text.removesuffix("B").endswith(suffix):
                    text, factor = text.removesuffix("B").removesuffix(suffix), 1 << power
                    break
        try:
            value = int(text) * factor if whole else float(text)
        except ValueError:
            raise ValueError(f"expected a {'whole ' if whole else ''}number{self._of_unit}") from None
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"expected a number{self._of_unit}")
        if self.minimum is not None and value < self.minimum:
            raise ValueError(f"the least is {self.minimum:g}{' ' + self.unit if self.unit else ''}")
        if self.maximum is not None and value > self.maximum:
            raise ValueError(f"the most is {self.maximum:d}{' ' + self.unit if self.unit else ''}")
        return value

    @property
    def _of_unit(self) -> str:
        return f" of {self.unit}" if self.unit else ""


def settings() -> Iterator[Setting]:
    """Every setting there is, part by part."""
    for part in dataclasses.fields(Config):
        cls = typing.get_type_hints(Config)[part.name]
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            meta = field.metadata
            yield Setting(
                part.name,
                field.name,
                hints[field.name],
                field.default,
                meta["meaning"],
                meta["unit"],
                meta["minimum"],
                meta["maximum"],
                meta["reloadable"],
            )


def load(options: Mapping[str, str], environment: Mapping[str, str], file: Path | None) -> Config:
    """The configuration from options (by setting name), environment and file. Raises ConfigError."""
    from_file = _read_file(file) if file else {}
    # A variable that is there but empty is what templates make of one that is not set.
    environment = {name: value for name, value in environment.items() if value}
    parts: dict[str, dict[str, Any]] = {name: {} for name in TITLES}
    for item in settings():
        for where, source, key in (
            (item.option, options, item.name),
            (item.variable, environment, item.variable),
            (f"{file}: {item.name}", from_file, item.name),
        ):
            if key in source:
                try:
                    parts[item.part][item.name] = item.parse(source[key])
                except ValueError as error:
                    raise ConfigError(f"{where}: {source[key]!r}: {error}") from None
                break
    hints = typing.get_type_hints(Config)
    return Config(**{name: hints[name](**values) for name, values in parts.items()})


def _read_file(path: Path) -> dict[str, str]:
    """The settings in a configuration file, a YAML mapping, as text by name."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date that is none, a number too long for int. Some of the texts take several lines.
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"--config {path}: no YAML{line}: {problem}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: expected settings by name, as in 'query_listen: 0.0.0.0:17890'")
    known = [item.name for item in settings()]
    found: dict[str, str] = {}
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"; did you mean {near[0]}?" if near else "; `tars-registry serve --help` lists them"
            raise ConfigError(f"--config {path}: no setting {key!r}{hint}")
        if value is not None and not isinstance(value, str | int | float):
            raise ConfigError(f"--config {path}: {key}: expected a single value")
        # YAML takes a bare off for false.
        found[key] = "off" if value is None or value is False else str(value)
    return found


def reference_page() -> str:
    """docs/settings.md: every setting with its default, unit and reason."""
    lines = [
        "# Settings",
        "",
        "Made from the declarations in the code by `make docs`; change it there.",
        "",
        "Each setting can be given as an option of `tars-registry serve`, as an environment variable, or in a YAML",
        "file named by `--config FILE` (or `TARS_REGISTRY_CONFIG`). An option stands over a variable, that over the",
        "file, that over the default. Numbers of bytes may be written with Ki, Mi or Gi.",
        "",
        "On SIGHUP the file is read again. Settings that are marked as re-read change at once, the others, which the",
        "log then names, with the next start. A file with a mistake changes nothing.",
    ]
    for part, title in TITLES.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| in the file | option | variable | default | meaning |",
            "|---|---|---|---|---|",
        ]
        for item in settings():
            if item.part == part:
                default = f"{item.shown_default} {item.unit}".strip()
                values = f" One of {', '.join(item.kind)}." if issubclass(item.kind, StrEnum) else ""
                meaning = item.meaning + values + (" Re-read." if item.reloadable else "")
                lines.append(f"| `{item.name}` | `{item.option}` | `{item.variable}` | {default} | {meaning} |")
    return "\n".join([*lines, ""])
