"""What a tarsnode needs to run its server: the adapters, and the profile joined over its chain of templates.

Source: wire.md and the descriptor as the registry of TARS on Kubernetes gives it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from registry.model import ObjectKey, ServantSpec, Server, Template
from tars_protocol import config_text
from tars_protocol.interfaces.registry import AdapterDescriptor, ServerDescriptor
from tars_protocol.settings import setting


@dataclass(frozen=True, slots=True)
class ProfileLimits:
    """How much is joined and kept."""

    max_template_chain: int = setting(
        16, "Templates from a server's own to the last parent: a longer chain is taken for a mistake.", minimum=1
    )
    max_profile_bytes: int = setting(
        4 << 20,
        "Text of a server's profile and all its templates together. One template may have 1.5 MB, where a few "
        "kilobytes are usual; reading a megabyte takes some tenths of a second.",
        unit="bytes",
        minimum=1,
    )
    profile_cache_bytes: int = setting(
        4 << 20,
        "Joined texts that are kept, so that a fleet that starts at once has them joined once.",
        unit="bytes",
        minimum=0,
    )


class ProfileError(Exception):
    """Why there is no descriptor: what is wrong in which object, and what would be right."""


LOCAL_IP: Final = "${localip}"
"""Stands for the address of the pod, which the tarsnode puts in."""


def chain(server: Server, templates: Mapping[ObjectKey, Template], longest: int) -> list[Template]:
    """The templates of a server, its own first, up to one that names itself or none as its parent.

    Raises ProfileError where one is missing, where they go round in a loop, and where there are more than ``longest``.
    """
    name, user = server.template, f"{server.kind} {server.namespace}/{server.name}"
    found: list[Template] = []
    seen: set[str] = set()
    while name not in seen:
        template = templates.get((server.namespace, name)) if name else None
        if template is None:
            wanted = f"the template {name!r}, which is not there" if name else "no template"
            raise ProfileError(f"{user} names {wanted}; create it, or name another")
        if len(found) == longest:
            raise ProfileError(f"{user}: more than {longest} templates above it (max_template_chain)")
        found.append(template)
        seen.add(name)
        if template.parent in ("", name):
            return found
        user, name = f"TTemplate {template.namespace}/{name}", template.parent
    raise ProfileError(f"{user} names {name!r} as its parent, and so do its parents: one of them must name itself")


class Profiles:
    """Joins profiles, and keeps the results for as long as the texts that they were made of are asked for."""

    def __init__(self, limits: ProfileLimits | None = None) -> None:
        self._limits = limits or ProfileLimits()
        self._kept: OrderedDict[tuple[str, ...], str] = OrderedDict()
        self._size = 0

    def sources(self, server: Server, templates: Mapping[ObjectKey, Template]) -> tuple[str, ...]:
        """The texts to join, the root's first. Raises ProfileError."""
        above = chain(server, templates, self._limits.max_template_chain)
        texts = (*(template.content for template in reversed(above)), server.profile)
        if (size := sum(map(len, texts))) > self._limits.max_profile_bytes:
            raise ProfileError(
                f"{server.kind} {server.namespace}/{server.name}: profile and templates have {size} characters, more "
                f"than {self._limits.max_profile_bytes} (max_profile_bytes)"
            )
        return texts

    def find(self, texts: tuple[str, ...]) -> str | None:
        """The joined text, if it is kept."""
        found = self._kept.get(texts)
        if found is not None:
            self._kept.move_to_end(texts)
        return found

    def keep(self, texts: tuple[str, ...], joined: str) -> None:
        """Keep a joined text; the one not asked for the longest goes for it."""
        cost = len(joined) + sum(map(len, texts))
        if texts in self._kept or cost > self._limits.profile_cache_bytes:
            return
        self._kept[texts] = joined
        self._size += cost
        while self._size > self._limits.profile_cache_bytes:
            gone, text = self._kept.popitem(last=False)
            self._size -= len(text) + sum(map(len, gone))


def join(texts: tuple[str, ...]) -> str:
    """The profile: each text on top of those before it. Raises ProfileError where one does not follow the grammar."""
    try:
        return config_text.join(texts)
    except config_text.ConfigTextError as error:
        raise ProfileError(_at_fault(texts, error)) from None


def _at_fault(texts: tuple[str, ...], error: config_text.ConfigTextError) -> str:
    """Which of the texts it is; none of them where only what came out of all can't be written."""
    for level, text in enumerate(reversed(texts)):
        try:
            config_text.read(text)
        except config_text.ConfigTextError as own:
            return f"{'the profile' if level == 0 else _template(level)} can't be read: {own}"
    return f"the joined profile can't be written: {error}"


def _template(level: int) -> str:
    return "the template" if level == 1 else f"parent {level - 1} of the template"


def descriptor(server: Server, app: str, name: str, profile: str) -> ServerDescriptor:
    """The descriptor of a server that was asked for as ``app`` and ``name``, whose case goes into the names."""
    adapters = (_adapter(servant, app, name) for servant in server.servants)
    return ServerDescriptor(
        profile=profile, asyncThreadNum=server.async_thread, adapters={each.adapterName: each for each in adapters}
    )


def _adapter(servant: ServantSpec, app: str, name: str) -> AdapterDescriptor:
    servant_name = f"{app}.{name}.{servant.name}"
    return AdapterDescriptor(
        adapterName=f"{servant_name}Adapter",
        endpoint=f"{'tcp' if servant.is_tcp else 'udp'} -h {LOCAL_IP} -p {servant.port} -t {servant.timeout}",
        threadNum=servant.threads,
        maxConnections=servant.connections,
        allowIp="",
        servant=servant_name,
        queuecap=servant.capacity,
        queuetimeout=servant.timeout,
        protocol="tars" if servant.is_tars else "not_tars",
    )
