"""From the custom resources of TARS on Kubernetes (group k8s.tars.io) to what the registry keeps of them.

The structs name only the fields that are used; all else is skipped while decoding. They fit the Kubernetes API as it
is on the wire, ``msgspec.json.decode(line, type=TEndpoint)``, as well as decoded manifests, :func:`convert`.

What may be absent may be null as well, and then stands for its default in the resource's definition; a null list is an
empty one. A value of the wrong type is an error, never guessed at; only ``pid`` and ``id`` of a pod, which are text
that looks like a number, may be written as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from sys import intern
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from registry.model import CUSTOM_RESOURCES, Framework, Kind, Object, Pod, ServantSpec, Server, Template, Upstream
from registry.sources.routing_facts import RoutingAnnotations, SetLabel, facts_of

GROUP: Final = "k8s.tars.io"

API_VERSIONS: Final = tuple(f"{GROUP}/{version}" for version in ("v1beta3", "v1beta2", "v1beta1"))
"""The versions that are understood, the newest first; the fields used here are the same in all of them."""

KINDS: Final[frozenset[str]] = frozenset(CUSTOM_RESOURCES)
"""The kinds that are taken."""

FRAMEWORK_NAME: Final = "tars-framework"
"""The only TFrameworkConfig that counts."""

DEFAULT_NAMESPACE: Final = "default"

Path = tuple[str | int, ...]
"""Where a value stands in an object: keys and list positions, from the top."""


class ConversionError(Exception):
    """An object that can't be taken.

    ``object_name`` is its kind, namespace and name; ``path`` where the value is, as in ``spec.tars.servants[0].port``,
    and ``steps`` the same in parts; ``reason`` what was expected there and what was found.
    """

    def __init__(self, object_name: str, steps: Path, reason: str) -> None:
        super().__init__(object_name, steps, reason)
        self.object_name = object_name
        self.steps = steps
        self.path = format_path(steps)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.object_name}: {self.path}: {self.reason}" if self.path else f"{self.object_name}: {self.reason}"


class ApiVersionError(ConversionError):
    """An object of one of our kinds in a group or version that is not known."""


_Text = Annotated[str, Meta(min_length=1)]
_Port = Annotated[int, Meta(ge=1, le=65_535)]
# Goes into answers as an int of the protocol, which has 32 bits.
_Int = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]

_Value = TypeVar("_Value")


def _or(value: _Value | None, default: _Value) -> _Value:
    return default if value is None else value


class Metadata(Struct, frozen=True, gc=False, rename="camel"):
    """What is used of an object's metadata."""

    name: _Text
    namespace: str | None = None
    resource_version: str | None = None


class _ServerMetadata(Metadata, frozen=True, gc=False, rename="camel"):
    labels: SetLabel | None = None
    annotations: RoutingAnnotations | None = None


class ServantFields(Struct, frozen=True, gc=False, rename="camel"):
    """A servant as it is declared."""

    name: _Text
    port: _Port
    is_tcp: bool | None = None
    is_tars: bool | None = None
    timeout: _Int | None = None
    thread: _Int | None = None
    connection: _Int | None = None
    capacity: _Int | None = None

    def to_model(self) -> ServantSpec:
        """As the registry keeps it."""
        return ServantSpec(
            name=self.name,
            port=self.port,
            is_tcp=_or(self.is_tcp, True),
            is_tars=_or(self.is_tars, True),
            timeout=_or(self.timeout, 60_000),
            threads=_or(self.thread, 3),
            connections=_or(self.connection, 10_000),
            capacity=_or(self.capacity, 10_000),
        )


class _Tars(Struct, frozen=True, gc=False, rename="camel"):
    template: str | None = None
    profile: str | None = None
    async_thread: _Int | None = None
    servants: list[ServantFields] | None = None


class _HostPort(Struct, frozen=True, gc=False, rename="camel"):
    name_ref: _Text
    port: _Port


class _ServerSpec(Struct, frozen=True, gc=False, rename="camel"):
    app: str | None = None
    server: str | None = None
    sub_type: str | None = None
    host_ports: list[_HostPort] | None = None
    tars: _Tars | None = None


class _Pod(Struct, frozen=True, gc=False, rename="camel"):
    name: _Text
    uid: str | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    host_ip: str | None = field(default=None, name="hostIP")
    setting_state: str | None = None
    present_state: str | None = None
    pid: str | int | None = None
    id: str | int | None = None

    def to_model(self) -> Pod:
        # Thousands of pods share a few states, releases and nodes: one text for all.
        return Pod(
            name=self.name,
            uid=self.uid or "",
            pod_ip=self.pod_ip or "",
            host_ip=intern(self.host_ip or ""),
            setting_state=intern(self.setting_state or ""),
            present_state=intern(self.present_state or ""),
            pid=str(_or(self.pid, "")),
            id=intern(str(_or(self.id, ""))),
        )


class _ServerStatus(Struct, frozen=True, gc=False, rename="camel"):
    pods: list[_Pod] | None = None


_NO_SPEC: Final = _ServerSpec()
_NO_TARS: Final = _Tars()


class TEndpoint(Struct, frozen=True, gc=False, rename="camel"):
    """A server and its pods. Without ``spec.tars`` (a normal server) it has no servants, without status no pods."""

    metadata: _ServerMetadata
    spec: _ServerSpec | None = None
    status: _ServerStatus | None = None

    def to_model(self, default_namespace: str = DEFAULT_NAMESPACE) -> Server:
        """As the registry keeps it. Of several pods with one name the last stands."""
        spec = _or(self.spec, _NO_SPEC)
        tars = _or(spec.tars, _NO_TARS)
        pods = {pod.name: pod.to_model() for pod in (self.status and self.status.pods) or ()}
        return Server(
            namespace=self.metadata.namespace or default_namespace,
            name=self.metadata.name,
            app=spec.app or "",
            server=spec.server or "",
            sub_type=spec.sub_type or "tars",
            template=tars.template or "",
            profile=tars.profile or "",
            async_thread=_or(tars.async_thread, 3),
            servants=tuple(servant.to_model() for servant in tars.servants or ()),
            host_ports={item.name_ref: item.port for item in spec.host_ports or ()},
            pods=tuple(sorted(pods.values(), key=lambda pod: pod.order)),
            routing=facts_of(self.metadata.annotations, self.metadata.labels),
        )


class _TemplateSpec(Struct, frozen=True, gc=False, rename="camel"):
    parent: str | None = None
    content: str | None = None


_NO_TEMPLATE_SPEC: Final = _TemplateSpec()


class TTemplate(Struct, frozen=True, gc=False, rename="camel"):
    """A template of server configurations."""

    metadata: Metadata
    spec: _TemplateSpec | None = None

    def to_model(self, default_namespace: str = DEFAULT_NAMESPACE) -> Template:
        """As the registry keeps it."""
        spec = _or(self.spec, _NO_TEMPLATE_SPEC)
        return Template(
            namespace=self.metadata.namespace or default_namespace,
            name=self.metadata.name,
            parent=spec.parent or "",
            content=spec.content or "",
        )


class _Upstream(Struct, frozen=True, gc=False, rename="camel"):
    host: _Text
    port: _Port
    timeout: _Int | None = None
    is_tcp: bool | None = None

    def to_model(self) -> Upstream:
        return Upstream(self.host, self.port, timeout=_or(self.timeout, 6_000), is_tcp=_or(self.is_tcp, True))


class TFrameworkConfig(Struct, frozen=True, gc=False, rename="camel"):
    """The framework's configuration; its fields stand at the top, there is no spec."""

    metadata: Metadata
    up_chain: dict[str, list[_Upstream] | None] | None = None

    def to_model(self, default_namespace: str = DEFAULT_NAMESPACE) -> Framework | None:
        """As the registry keeps it; None for any object but :data:`FRAMEWORK_NAME`."""
        if self.metadata.name != FRAMEWORK_NAME:
            return None
        return Framework(
            namespace=self.metadata.namespace or default_namespace,
            name=self.metadata.name,
            up_chain={
                name: tuple(upstream.to_model() for upstream in upstreams or ())
                for name, upstreams in (self.up_chain or {}).items()
            },
        )


STRUCTS: Final[Mapping[str, type[TEndpoint | TTemplate | TFrameworkConfig]]] = {
    Kind.SERVER: TEndpoint,
    Kind.TEMPLATE: TTemplate,
    Kind.FRAMEWORK: TFrameworkConfig,
}
"""What to decode the objects of each kind with."""


def convert(raw: Mapping[str, Any], default_namespace: str = DEFAULT_NAMESPACE) -> Object | None:
    """What the registry keeps of an object, given as decoded JSON or YAML; None where it is nothing of ours.

    Raises:
        ApiVersionError: one of our kinds, but in an unknown group or version.
        ConversionError: a value that is missing, of the wrong type or out of its range.
    """
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        return None
    if raw.get("apiVersion") not in API_VERSIONS:
        reason = f"expected {API_VERSIONS[0]} (or {' or '.join(API_VERSIONS[1:])}), got {_shown(raw.get('apiVersion'))}"
        raise ApiVersionError(object_name(raw, default_namespace), ("apiVersion",), reason)
    if kind == Kind.FRAMEWORK and _metadata(raw).get("name", FRAMEWORK_NAME) != FRAMEWORK_NAME:
        return None
    struct = STRUCTS[kind]
    try:
        return msgspec.convert(raw, struct).to_model(default_namespace)
    except msgspec.ValidationError as error:
        steps, reason = _explain(raw, str(error))
        raise ConversionError(object_name(raw, default_namespace), steps, reason) from None


def object_name(raw: Mapping[str, Any], default_namespace: str = DEFAULT_NAMESPACE) -> str:
    """How an object is named to people, as well as it can be: ``TEndpoint tars/test-helloserver``."""
    metadata = _metadata(raw)
    return f"{raw.get('kind')} {metadata.get('namespace') or default_namespace}/{metadata.get('name') or '(no name)'}"


def format_path(steps: Path) -> str:
    """Parts of a path as people write them; a key with dots stands in brackets."""
    text = ""
    for step in steps:
        if isinstance(step, str) and _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{step}]"
    return text


def _metadata(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = raw.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


# ------------------------------------------------------------------------- what msgspec says, in the users' words

_PLAIN_KEY: Final = re.compile(r"\w+")
_MESSAGE: Final = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]|\[(\.\.\.)\]")
_TYPES: Final = {
    "int": "a whole number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def _explain(raw: Any, message: str) -> tuple[Path, str]:
    """Where a value is wrong and what was expected there, from msgspec's message."""
    match = _MESSAGE.fullmatch(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    steps: list[str | int] = []
    above, annotation, key = path.partition(".metadata.annotations.")
    if not annotation:
        above, annotation, key = path.partition(".metadata.labels.")
    if annotation and not above:
        path = annotation[:-1]  # the key has dots and a slash of its own
    for name, index, any_key in _STEP.findall(path):
        if any_key:
            # msgspec does not say which key: the one map that is used is the up-chain.
            upstreams = _find(raw, tuple(steps))
            for key, value in upstreams.items():
                try:
                    msgspec.convert(value, list[_Upstream] | None)
                except msgspec.ValidationError:
                    steps.append(key)
                    break
        else:
            steps.append(name or int(index))
    if annotation and not above:
        steps.append(key)
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return tuple(steps), f"{missing[1]} is missing"
    value = _find(raw, tuple(steps))
    return tuple(steps), f"expected {_expected(what)}, got {_shown(value)}{_hint(what, value)}"


def _expected(what: str) -> str:
    if "65535" in what or "`int` >= 1" in what:
        return "a port from 1 to 65535"
    if "2147483" in what:
        return f"a whole number from {-(2**31)} to {2**31 - 1}"
    if "length >= 1" in what:
        return "text that is not empty"
    types = re.match(r"Expected `([^`]*)`", what)
    names = [_TYPES.get(name, name) for name in types[1].split(" | ") if name != "null"] if types else [what]
    return " or ".join(names)


def _hint(what: str, value: Any) -> str:
    if isinstance(value, (int, float)) and re.match(r"Expected `[^`]*\bstr\b", what):
        return "; put it in quotes"
    if isinstance(value, str) and re.match(r"Expected `(int|bool)\b", what):
        return "; write it without quotes" if re.fullmatch(r"[0-9]+|true|false", value) else ""
    return ""


def _find(raw: Any, steps: Path) -> Any:
    for step in steps:
        raw = raw[step]
    return raw


def _shown(value: Any) -> str:
    """A value as YAML has it, in a few words."""
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = msgspec.json.encode(value).decode() if isinstance(value, str) else {None: "nothing"}.get(value, str(value))
    if isinstance(value, bool):
        text = text.lower()
    return text if len(text) <= 60 else f"{text[:57]}…"
