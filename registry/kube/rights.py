"""What this service account may do: asked for at the start and from time to time, so that what is missing is told once.

Where the API server does not say (it may not be asked, or is away), a right counts as granted: a refusal then tells.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import msgspec
from msgspec import Struct

from registry.kube.requests import send_within
from registry.kube.resource import Writing
from registry.kube.settings import WriterSettings

log = logging.getLogger(__name__)

_PATH: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_ASK_AGAIN: Final = 5.0
"""Seconds until the next try where the API server could not be asked, and until what changed is looked at again."""

_CERTAIN_AFTER: Final = 2.0
"""Seconds for which refusals say nothing yet: an API server that has just started refuses much until it has read its
roles, and who takes that for a right that is missing checks no callers for a while."""

_FORGOTTEN_AFTER: Final = 60.0
"""Seconds after which a refusal has nothing to do with an earlier one."""


@dataclass(frozen=True, slots=True)
class Right:
    """A right on a resource of the core group. ``without`` says what is off where it is missing."""

    verb: str
    resource: str
    without: str

    @property
    def plural(self) -> str:
        """The resource without its subresource."""
        return self.resource.partition("/")[0]

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


class _Status(Struct):
    allowed: bool = False


class _Review(Struct):
    status: _Status


_decode: Final = msgspec.json.Decoder(_Review).decode


class Rights:
    """Which rights there are in which namespaces. ``run`` it."""

    def __init__(
        self, api: Writing, rights: Sequence[Right], namespaces: Iterable[str], settings: WriterSettings
    ) -> None:
        self._api = api
        self._interval = settings.rights_interval
        self._timeout = settings.api_timeout
        self._wanted = [(right, namespace) for namespace in namespaces for right in rights]
        self._missing: set[tuple[Right, str]] = set()
        self._told: set[tuple[Right, str]] = set()
        self._suspected: dict[tuple[Right, str], float] = {}
        """Since when requests have been refused for the want of a right."""
        self._clock = asyncio.get_running_loop().time
        self._look = asyncio.Event()

    def may(self, right: Right, namespace: str) -> bool:
        """True unless it is known to be missing."""
        return (right, namespace) not in self._missing

    def refused(self, right: Right, namespace: str) -> bool:
        """The API server refused a request for the want of this right; True once that is taken for certain."""
        which = right, namespace
        if which in self._missing:
            return True
        now = self._clock()
        since = self._suspected.get(which)
        if since is None or now - since > _FORGOTTEN_AFTER:
            since = self._suspected[which] = now
        if now - since < _CERTAIN_AFTER:
            return False
        del self._suspected[which]
        self._missing.add(which)
        self._look.set()
        return True

    def worked(self, right: Right, namespace: str) -> None:
        """A request that needs this right went well: refusals before it were those of a moment."""
        self._suspected.pop((right, namespace), None)

    @property
    def missing(self) -> list[str]:
        """The rights that are known to be missing, in words."""
        return sorted(f"{right} in {namespace}" for right, namespace in self._missing)

    async def run(self) -> NoReturn:
        """Look now, at each interval, and after a refusal."""
        while True:
            self._look.clear()
            before = self.missing
            known = await self.review()
            # What is missing all at once may be there in a moment, see _CERTAIN_AFTER.
            settled = known and self.missing == before
            try:
                async with asyncio.timeout(self._interval if settled else _ASK_AGAIN):
                    await self._look.wait()
                    # A right that is refused though it is said to be there is not asked for again and again.
                    await asyncio.sleep(_ASK_AGAIN)
            except TimeoutError:
                pass

    async def review(self) -> bool:
        """Ask for each of them, and tell what changed; False where the API server could not be asked."""
        try:
            answers = {each: await self._granted(*each) for each in self._wanted}
        except ConnectionError as error:
            log.debug("rights can't be asked for: %s", error)
            return False
        for each, granted in answers.items():
            if granted is not None:
                (self._missing.discard if granted else self._missing.add)(each)
        if self._missing != self._told:
            self._tell()
        return True

    async def _granted(self, right: Right, namespace: str) -> bool | None:
        resource, _, subresource = right.resource.partition("/")
        what = {"namespace": namespace, "verb": right.verb, "group": "", "resource": resource}
        if subresource:
            what["subresource"] = subresource
        review: dict[str, Any] = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": what},
        }
        reply = await send_within(self._timeout, self._api, "POST", _PATH, review)
        if reply.status == 401:
            await self._api.reload()
        if reply.status >= 500 or reply.status in (401, 429):
            raise ConnectionError(f"the API server answered {reply.status}")
        try:
            return _decode(reply.body).status.allowed if reply.status < 300 else None
        except msgspec.MsgspecError:
            return None

    def _tell(self) -> None:
        self._told = set(self._missing)
        if not self._missing:
            log.info("all rights are there now")
            return
        off = sorted({f"{right.without} ({right})" for right, _ in self._missing})
        commands = []
        for namespace in sorted({namespace for _, namespace in self._missing}):
            rights = sorted((right for right, where in self._missing if where == namespace), key=str)
            for right in rights:
                name = f"tars-registry-{right.verb}-{right.resource.replace('/', '-')}"
                commands.append(
                    f"kubectl -n {namespace} create role {name} --verb={right.verb} --resource={right.resource} && "
                    f"kubectl -n {namespace} create rolebinding {name} --role={name} "
                    "--serviceaccount=NAMESPACE:SERVICEACCOUNT"
                )
        log.warning("off for the want of a right: %s; grant with: %s", ", ".join(off), "; ".join(commands))
