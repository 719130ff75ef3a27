"""An API server that has pods and nothing else, in made-up time, for tests of what is written to it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from registry.kube.resource import JSON, STRATEGIC_MERGE_PATCH, Body, Reply
from tests.support.virtual_time import now

_POD: Final = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods/(?P<name>[^/]+)(?P<status>/status)?")
_EVENTS: Final = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/events")
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

CONDITION: Final = "tars.io/active"


@dataclass
class FakePod:
    """A pod as it is kept: ``reasons`` is the history of its condition, with the times of its writes."""

    uid: str
    ips: list[str]
    conditions: dict[str, dict[str, str]] = field(default_factory=dict)
    reasons: list[tuple[float, str]] = field(default_factory=list)
    version: int = 1

    @property
    def reason(self) -> str:
        """What its condition says."""
        return self.conditions.get(CONDITION, {}).get("reason", "")


@dataclass(frozen=True)
class Asked:
    """A request: when, and what."""

    at: float
    verb: str
    name: str
    code: int
    body: Mapping[str, Any] | None = None


class FakePods:
    """Answers ``send`` as a client of the API server does; ``latency`` seconds after it was asked.

    ``down``: no connection. ``silent``: no answer. ``date``: what its clock said at the beginning of the made-up time.
    ``answers``: what is said instead, by verb or by name of the pod.
    ``forbidden``: verbs that are refused, and said to be where rights are asked for.
    """

    def __init__(self, latency: float = 0.005) -> None:
        self.pods: dict[tuple[str, str], FakePod] = {}
        self.events: list[Mapping[str, Any]] = []
        self.asked: list[Asked] = []
        self.reloads = 0
        self.latency = latency
        self.down = False
        self.silent = False
        self.lose_next_patch = False
        self.date: float | None = None
        self.answers: dict[str, Reply] = {}
        self.forbidden: set[str] = set()
        self.before_patch: list[Any] = []
        """Called before the next patches, one each."""
        self.in_flight = 0
        self.most_in_flight = 0
        self._made = 0

    def make(self, name: str, *ips: str, namespace: str = "tars") -> FakePod:
        """A new pod; one that was there is gone."""
        self._made += 1
        pod = self.pods[namespace, name] = FakePod(f"uid-{self._made}", list(ips))
        return pod

    def count(self, verb: str) -> int:
        """How often something was asked for."""
        return sum(asked.verb == verb for asked in self.asked)

    def busiest_second(self, verb: str) -> int:
        """The most requests of a kind that began within a second, from full second to full second."""
        return max(Counter(int(asked.at) for asked in self.asked if asked.verb == verb).values(), default=0)

    async def reload(self) -> None:
        """Read the credentials again."""
        self.reloads += 1

    async def send(self, method: str, path: str, body: Body | None = None, content_type: str = JSON) -> Reply:
        """Answer a request."""
        began = now()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency)
            verb, name = self._what(method, path)
            if self.down:
                self.asked.append(Asked(began, verb, name, 0))
                raise ConnectionError("the API server can't be reached")
            if self.silent:
                self.asked.append(Asked(began, verb, name, 0))
                await asyncio.sleep(3600)
            reply = self._answer(verb, path, name, body, content_type)
            if self.lose_next_patch and verb == "patch":
                self.lose_next_patch = False
                self.asked.append(Asked(began, verb, name, 0))
                raise ConnectionError("the answer broke off")
            self.asked.append(Asked(began, verb, name, reply.status, body))
            return reply if self.date is None else replace(reply, date=float(int(self.date + now())))
        finally:
            self.in_flight -= 1

    def _what(self, method: str, path: str) -> tuple[str, str]:
        if path == _REVIEWS:
            return "review", ""
        if _EVENTS.fullmatch(path):
            return "event", ""
        match = _POD.fullmatch(path)
        assert match, path
        assert (method, bool(match["status"])) in (("GET", False), ("PATCH", True))
        return method.lower(), match["name"]

    def _answer(self, verb: str, path: str, name: str, body: Body | None, content_type: str) -> Reply:
        for key in (verb, name):
            if key in self.answers:
                return self.answers[key]
        if verb == "review":
            assert body is not None
            asked = body["spec"]["resourceAttributes"]
            right = {"events": "event"}.get(asked["resource"], asked["verb"])
            return _reply(201, {"status": {"allowed": right not in self.forbidden}})
        if verb in self.forbidden:
            return _status(403, "Forbidden", f"may not {verb}")
        if verb == "event":
            assert body is not None
            self.events.append(body)
            return _reply(201, {})
        match = _POD.fullmatch(path)
        assert match
        place = match["namespace"], match["name"]
        if verb == "patch":
            if self.before_patch:
                self.before_patch.pop(0)()
            return self._patch(place, body, content_type)
        pod = self.pods.get(place)
        return _reply(200, _object(place, pod)) if pod else _status(404, "NotFound", f'pods "{name}" not found')

    def _patch(self, key: tuple[str, str], body: Body | None, content_type: str) -> Reply:
        assert content_type == STRATEGIC_MERGE_PATCH
        assert body is not None
        pod = self.pods.get(key)
        if pod is None:
            return _status(404, "NotFound", "not found")
        if body.get("metadata", {}).get("uid", pod.uid) != pod.uid:
            return _status(409, "Conflict", "the UID in the precondition does not match")
        if body.get("metadata", {}).get("resourceVersion", str(pod.version)) != str(pod.version):
            return _status(409, "Conflict", "the object has been modified")
        pod.version += 1
        for condition in body["status"]["conditions"]:
            pod.conditions.setdefault(condition["type"], {}).update(condition)
            pod.reasons.append((now(), condition["reason"]))
        return _reply(200, _object(key, pod))


def _object(key: tuple[str, str], pod: FakePod) -> dict[str, Any]:
    return {
        "metadata": {"namespace": key[0], "name": key[1], "uid": pod.uid, "resourceVersion": str(pod.version)},
        "status": {
            "podIP": pod.ips[0] if pod.ips else None,
            "podIPs": [{"ip": ip} for ip in pod.ips],
            "conditions": list(pod.conditions.values()),
        },
    }


def _reply(status: int, body: Mapping[str, Any]) -> Reply:
    return Reply(status, msgspec.json.encode(body))


def _status(code: int, reason: str, message: str) -> Reply:
    return _reply(code, {"kind": "Status", "code": code, "reason": reason, "message": message})


def refusal(code: int, message: str = "no", retry_after: float = 0.0) -> Reply:
    """An answer that is an error."""
    return Reply(code, _status(code, "Because", message).body, retry_after)
