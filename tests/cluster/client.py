"""A plain REST client for a Kubernetes API server: what tests do to a cluster, apart from what they test."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

import aiohttp

Object: TypeAlias = dict[str, Any]
Change: TypeAlias = Mapping[str, Any] | list[Object]

ANSWERS_WITHIN: Final = 30.0
EVENT_WITHIN: Final = 20.0
FIELD_MANAGER: Final = "tests"
LINE_LIMIT: Final = 16 * 1024 * 1024

CLUSTER_SCOPED: Final = frozenset(
    {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "Node", "PersistentVolume"}
)
PATCH_TYPES: Final = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}


@dataclass(frozen=True)
class Resource:
    """A kind of object by what the API calls it."""

    version: str  # "v1", "k8s.tars.io/v1beta3"
    plural: str
    namespaced: bool = True

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self:
        """The resource of an object with apiVersion and kind."""
        kind: str = manifest["kind"]
        plural = kind.lower()
        if plural.endswith("y"):
            plural = f"{plural[:-1]}ies"
        elif plural != "endpoints":
            plural += "es" if plural.endswith("s") else "s"
        return cls(manifest["apiVersion"], plural, kind not in CLUSTER_SCOPED)

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Where it is; without a namespace, in all of them."""
        parts = ["apis" if "/" in self.version else "api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/" + "/".join(parts)


TENDPOINTS: Final = Resource("k8s.tars.io/v1beta3", "tendpoints")
TTEMPLATES: Final = Resource("k8s.tars.io/v1beta3", "ttemplates")
TFRAMEWORKCONFIGS: Final = Resource("k8s.tars.io/v1beta3", "tframeworkconfigs")
PODS: Final = Resource("v1", "pods")
EVENTS: Final = Resource("v1", "events")
CONFIGMAPS: Final = Resource("v1", "configmaps")
SERVICE_ACCOUNTS: Final = Resource("v1", "serviceaccounts")
NAMESPACES: Final = Resource("v1", "namespaces", namespaced=False)
NODES: Final = Resource("v1", "nodes", namespaced=False)
CRDS: Final = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)


class ApiError(Exception):
    """An answer of the API server that is an error: its HTTP code, and reason and message of its Status."""

    def __init__(self, what: str, code: int, status: Mapping[str, Any]) -> None:
        self.code = code
        self.reason = str(status.get("reason", ""))
        self.message = str(status.get("message", ""))
        super().__init__(f"{what}: {code} {self.reason}: {self.message}")


class Watch:
    """An open watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self, timeout: float = EVENT_WITHIN) -> Object | None:
        """The next event, {"type": …, "object": …}; None when the server has ended the watch.

        TimeoutError when none comes in time, aiohttp.ClientError when the connection is lost.
        """
        async with asyncio.timeout(timeout):
            line = await self._response.content.readline()
        return json.loads(line) if line else None

    async def until(self, kind: str, timeout: float = EVENT_WITHIN) -> Object:
        """The object of the next event of this type; those before it are dropped."""
        async with asyncio.timeout(timeout):
            while (event := await self.next(timeout)) is not None:
                if event["type"] == kind:
                    found: Object = event["object"]
                    return found
        raise AssertionError(f"the watch ended without an event of type {kind}")


class Client:
    """Requests as one user, as an async context manager.

    Where it has a namespace, namespaced objects are read and written in that one, whatever their manifest says:
    so the objects of tests.support.manifests can go into a test's own namespace.
    """

    def __init__(self, url: str, token: str | None, ca_file: Path, namespace: str | None = None) -> None:
        self.url = url
        self.namespace = namespace
        self._token = token
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        trust = ssl.create_default_context(cafile=self._ca_file)
        trust.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
        self._session = aiohttp.ClientSession(
            self.url,
            headers={} if self._token is None else {"Authorization": f"Bearer {self._token}"},
            connector=aiohttp.TCPConnector(ssl=trust, limit=0),
            timeout=aiohttp.ClientTimeout(total=ANSWERS_WITHIN),
            read_bufsize=LINE_LIMIT,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    # ------------------------------------------------------------------------------------- requests

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> Object:
        """The answer to any request, a JSON object; ApiError where it is an error."""
        assert self._session is not None, "a client is an async context manager"
        data = None if body is None else json.dumps(body)
        headers = None if body is None else {"Content-Type": content_type}
        async with self._session.request(method, path, params=params, data=data, headers=headers) as response:
            text = await response.text()
            await _check(response, f"{method} {path}", text)
        answer = json.loads(text) if response.content_type == "application/json" else {"text": text}
        assert isinstance(answer, dict)
        return answer

    async def get(self, resource: Resource, name: str, *, subresource: str | None = None) -> Object:
        """One object."""
        return await self.request("GET", resource.path(self.namespace, name, subresource))

    async def list(self, resource: Resource, **params: str) -> Object:
        """The list of the objects of one kind."""
        return await self.request("GET", resource.path(self.namespace), params=params)

    async def create(self, manifest: Mapping[str, Any]) -> Object:
        """A new object; one with a status gets it by a second write, as controllers do."""
        resource, manifest = Resource.of(manifest), self._placed(manifest)
        path = resource.path(manifest["metadata"].get("namespace"))
        made = await self.request("POST", path, params={"fieldManager": FIELD_MANAGER}, body=manifest)
        if "status" not in manifest:
            return made
        return await self.patch(
            resource,
            made["metadata"]["name"],
            {"status": manifest["status"]},
            subresource="status",
            namespace=made["metadata"].get("namespace"),
        )

    async def apply(self, manifest: Mapping[str, Any]) -> Object:
        """Make an object like this one, whether it is there or not (server-side apply), then its status.

        Each of the two that says something new is one write, one that does not is none. For an object that came by
        create(), the first is always one: whose its fields are is new.
        """
        resource, manifest = Resource.of(manifest), self._placed(manifest)
        status = manifest.pop("status", None)
        made = await self._apply(resource, manifest, None)
        if status is None:
            return made
        return await self._apply(resource, {**manifest, "status": status}, "status")

    async def _apply(self, resource: Resource, manifest: Object, subresource: str | None) -> Object:
        metadata = manifest["metadata"]
        return await self.request(
            "PATCH",
            resource.path(metadata.get("namespace"), metadata["name"], subresource),
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=manifest,
            content_type="application/apply-patch+yaml",
        )

    async def update(self, manifest: Mapping[str, Any], *, subresource: str | None = None) -> Object:
        """Replace an object that was read before (it carries its resourceVersion), or a subresource of it."""
        manifest = self._placed(manifest)
        metadata = manifest["metadata"]
        path = Resource.of(manifest).path(metadata.get("namespace"), metadata["name"], subresource)
        return await self.request("PUT", path, params={"fieldManager": FIELD_MANAGER}, body=manifest)

    async def patch(
        self,
        resource: Resource,
        name: str,
        change: Change,
        *,
        how: Literal["merge", "strategic", "json"] = "merge",
        subresource: str | None = None,
        namespace: str | None = None,
    ) -> Object:
        """Change a part of an object, or of a subresource of it. Custom resources know no strategic patch."""
        return await self.request(
            "PATCH",
            resource.path(namespace or self.namespace, name, subresource),
            params={"fieldManager": FIELD_MANAGER},
            body=change,
            content_type=PATCH_TYPES[how],
        )

    async def delete(self, resource: Resource, name: str) -> None:
        """Delete an object at once, without any grace period."""
        await self.request("DELETE", resource.path(self.namespace, name), params={"gracePeriodSeconds": "0"})

    async def delete_all(self, resource: Resource) -> None:
        """Delete all objects of a kind in the namespace."""
        assert self.namespace is not None, "all of the cluster?"
        await self.request("DELETE", resource.path(self.namespace), params={"gracePeriodSeconds": "0"})

    @contextlib.asynccontextmanager
    async def watch(self, resource: Resource, **params: str) -> AsyncIterator[Watch]:
        """Watch the objects of a kind; ApiError where the server refuses to."""
        assert self._session is not None, "a client is an async context manager"
        path = resource.path(self.namespace)
        endless = aiohttp.ClientTimeout(total=None, sock_connect=ANSWERS_WITHIN)
        async with self._session.get(path, params={"watch": "1", **params}, timeout=endless) as response:
            if response.status != 200:
                await _check(response, f"watch {path}", await response.text())
            yield Watch(response)

    # ------------------------------------------------------------------------------- some more work

    async def service_account_token(self, name: str, *, seconds: int = 3600) -> str:
        """A new token of a service account of the namespace, made if it is not there (600 s at least)."""
        with contextlib.suppress(ApiError):
            await self.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        answer = await self.request("POST", SERVICE_ACCOUNTS.path(self.namespace, name, "token"), body=asked)
        token: str = answer["status"]["token"]
        return token

    async def grant(self, subject: str, *rules: Mapping[str, Sequence[str]], name: str = "granted") -> None:
        """Give a user, or service account "sa:NAME" of the namespace, these rules in the namespace; in force on return.

        Granted again under the same name, they replace what was granted.
        """
        assert self.namespace is not None, "in which namespace?"
        user, groups = subject, ["system:authenticated"]
        who = {"kind": "User", "name": subject, "apiGroup": "rbac.authorization.k8s.io"}
        if subject.startswith("sa:"):
            account = subject.removeprefix("sa:")
            user = f"system:serviceaccount:{self.namespace}:{account}"
            who = {"kind": "ServiceAccount", "name": account, "namespace": self.namespace}
        api, metadata = "rbac.authorization.k8s.io/v1", {"name": name}
        role = {"kind": "Role", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        await self.apply({"apiVersion": api, "kind": "Role", "metadata": metadata, "rules": rules})
        await self.apply(
            {"apiVersion": api, "kind": "RoleBinding", "metadata": metadata, "subjects": [who], "roleRef": role}
        )
        async with asyncio.timeout(ANSWERS_WITHIN):
            for rule in rules:
                while not await self._may(user, groups, rule):
                    pass  # the question takes long enough

    async def _may(self, user: str, groups: Sequence[str], rule: Mapping[str, Sequence[str]]) -> bool:
        """Whether a user may do the last thing that a rule allows."""
        resource, _, subresource = rule["resources"][-1].partition("/")
        what = {
            "namespace": self.namespace,
            "verb": rule["verbs"][-1],
            "group": rule["apiGroups"][-1],
            "resource": resource,
            "subresource": subresource,
            "name": rule.get("resourceNames", [""])[-1],
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "groups": groups, "resourceAttributes": what},
        }
        answer = await self.request("POST", Resource.of(review).path(), body=review)
        allowed: bool = answer["status"]["allowed"]
        return allowed

    def _placed(self, manifest: Mapping[str, Any]) -> Object:
        """A copy of an object, in the client's namespace."""
        placed: Object = copy.deepcopy(dict(manifest))
        if self.namespace is not None and Resource.of(placed).namespaced:
            placed.setdefault("metadata", {})["namespace"] = self.namespace
        return placed


async def _check(response: aiohttp.ClientResponse, what: str, text: str) -> None:
    if response.status < 400:
        return
    try:
        status = json.loads(text)
    except ValueError:
        status = {"message": text}
    raise ApiError(what, response.status, status if isinstance(status, dict) else {"message": text})
