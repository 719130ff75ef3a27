"""The connection to the API server: configuration, credentials, TLS, requests whose answers come in pieces.

Configuration and authentication are kubernetes_asyncio's, so that every kind of kubeconfig works as elsewhere. What it
leaves to its users is done here: credentials that changed are read again when the server refuses the old ones, a
certificate authority that changed when the server's certificate no longer fits, and dead peers are noticed.

Importing this module takes 0.4 s and 40 MiB, so only a service that follows the Kubernetes API does.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config.config_exception import ConfigException

from registry.kube.resource import JSON, Body, Parameters, Reply, Response

log = logging.getLogger(__name__)

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a connection and its TLS handshake."""

_READ_BUFFER: Final = 2 * 1024 * 1024
"""Bytes of an answer that wait to be read: the largest object is 1.5 MiB."""

_RELOAD_PAUSE: Final = 1.0
"""Seconds in which credentials are read at most once: several reflectors learn of one change together."""


class ClusterConfigError(Exception):
    """No cluster can be reached with this configuration; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to reach a cluster: a kubeconfig file (None: the usual one) and context, or what every pod is given."""

    in_cluster: bool
    kubeconfig: Path | None = None
    context: str | None = None


class _Response:
    """An answer of aiohttp's as a reflector wants it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        header = response.headers.get("Retry-After", "")
        self.retry_after = float(header) if header.isdigit() else 0.0
        self.date = _seconds(response.headers.get("Date", ""))
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except aiohttp.ClientPayloadError as error:
            raise ConnectionError("the connection was closed in the middle of it") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error


class KubeClient:
    """A session with one cluster. ``start`` it before use, ``close`` it after."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._api: ApiClient | None = None
        self._configuration: Any = None
        self._fingerprint = b""
        self._namespace = ""
        self._reloading = asyncio.Lock()
        self._reloaded = 0.0
        self._distrusted = False
        """The server's certificate did not fit: the certificate authority may have changed."""

    @property
    def namespace(self) -> str:
        """The namespace that the credentials belong to."""
        return self._namespace

    @property
    def server(self) -> str:
        """Host and port of the API server."""
        return urlsplit(self._configuration.host).netloc if self._configuration else ""

    async def start(self) -> None:
        """Read the configuration. Raises ClusterConfigError."""
        self._configuration = await self._load()
        self._fingerprint = _fingerprint(self._configuration)
        self._api = _connected(self._configuration)

    async def close(self) -> None:
        """Close every connection."""
        if self._api is not None:
            await self._api.close()

    @asynccontextmanager
    async def get(self, path: str, parameters: Parameters) -> AsyncIterator[Response]:
        """Ask for a path (see :class:`registry.kube.resource.Session`)."""
        if self._distrusted:
            await self.reload()
        api = self._api
        if api is None:
            raise ConnectionError("the connection is closed")
        response = await self._request(api, path, parameters)
        try:
            yield _Response(response)
        finally:
            # Of a watch there is always more to come, so its connection can't be used again.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def send(self, method: str, path: str, body: Body | None = None, content_type: str = JSON) -> Reply:
        """Ask for something small, or change something (see :class:`registry.kube.resource.Writing`)."""
        if self._distrusted:
            await self.reload()
        api = self._api
        if api is None:
            raise ConnectionError("the connection is closed")
        response = await self._request(api, path, {}, method, body, content_type)
        try:
            reply = _Response(response)
            content = b"".join([chunk async for chunk in reply.chunks()])
            return Reply(reply.status, content, reply.retry_after, reply.date)
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def _request(
        self,
        api: ApiClient,
        path: str,
        parameters: Parameters,
        method: str = "GET",
        body: Body | None = None,
        content_type: str = JSON,
    ) -> aiohttp.ClientResponse:
        try:
            response: aiohttp.ClientResponse = await api.call_api(
                path,
                method,
                query_params=list(parameters.items()),
                header_params={"Accept": JSON} | ({"Content-Type": content_type} if body is not None else {}),
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                # Times without a byte are the reflector's to watch.
                _request_timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=_CONNECT_TIMEOUT, connect=2 * _CONNECT_TIMEOUT
                ),
            )
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
            self._distrusted = True
            raise ConnectionError(f"the certificate of {self.server} is not trusted: {error}") from error
        except aiohttp.ClientConnectorError as error:
            self._distrusted = isinstance(error.os_error, ssl.SSLError)
            raise ConnectionError(f"{self.server} can't be reached: {error.os_error}") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise ConnectionError(f"{self.server} can't be reached: no connection in time") from error
        except (aiohttp.ClientError, OSError, ValueError, ConfigException) as error:
            raise ConnectionError(f"{self.server}: {str(error) or type(error).__name__}") from error
        _keep_alive(response)
        return response

    async def reload(self) -> None:
        """Read configuration and credentials again; connections in use stay, unless the server or its CA changed."""
        async with self._reloading:
            now = asyncio.get_running_loop().time()
            if now - self._reloaded < _RELOAD_PAUSE:
                return
            self._reloaded = now
            self._distrusted = False
            try:
                fresh = await self._load()
            except ClusterConfigError as error:
                log.warning("the credentials can't be read again, the old ones stay: %s", error)
                return
            fingerprint = _fingerprint(fresh)
            if fingerprint == self._fingerprint:
                self._configuration.api_key = fresh.api_key
                self._configuration.refresh_api_key_hook = fresh.refresh_api_key_hook
                return
            log.info("the cluster's address or certificates changed; connecting anew")
            old, self._api = self._api, _connected(fresh)
            self._configuration, self._fingerprint = fresh, fingerprint
            if old is not None:
                await old.close()

    async def _load(self) -> Any:
        """The configuration as it is now."""
        configuration = Configuration()
        try:
            if self._credentials.in_cluster:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                self._namespace = await asyncio.to_thread(_own_namespace)
            else:
                loader = await config.load_kube_config(
                    config_file=str(self._credentials.kubeconfig) if self._credentials.kubeconfig else None,
                    context=self._credentials.context,
                    client_configuration=configuration,
                    persist_config=False,
                )
                current: Any = loader.current_context
                self._namespace = current["context"].get("namespace") or "default"
        except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            where = "the pod's service account" if self._credentials.in_cluster else f"kubeconfig {self._shown_path}"
            raise ClusterConfigError(f"{where}: {error}") from None
        _without_line_breaks(configuration)
        # Each watch holds a connection for as long as it lasts; one beyond a limit would wait for another to end.
        configuration.connection_pool_maxsize = 0
        configuration.proxy = configuration.proxy or _proxy_of_environment(configuration.host or "")
        return configuration

    @property
    def _shown_path(self) -> str:
        usual = os.environ.get("KUBECONFIG") or "~/.kube/config"
        return str(self._credentials.kubeconfig or usual)


def _seconds(date: str) -> float | None:
    """A date as HTTP writes it, in seconds since 1970; None where it is none."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError):
        return None


def _own_namespace() -> str:
    try:
        return (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or "default"
    except OSError:
        return "default"


def _connected(configuration: Any) -> ApiClient:
    """A client whose session asks for nothing but what it is told to.

    kubernetes_asyncio's own looks for the environment's proxy and for passwords in ~/.netrc with every request, each in
    a thread, which takes a fifth of what a request costs; and a password that is found there makes the request fail.
    """
    api = ApiClient(configuration)
    session = api.rest_client.pool_manager
    api.rest_client.pool_manager = aiohttp.ClientSession(
        connector=session.connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=_READ_BUFFER
    )
    session.detach()
    return api


def _proxy_of_environment(url: str) -> str | None:
    """The proxy for an address by https_proxy, http_proxy and no_proxy; None where there is none."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def _without_line_breaks(configuration: Any) -> None:
    """Tokens in files often end with a line break, which no header may have."""
    hook = configuration.refresh_api_key_hook

    def strip(current: Any) -> None:
        if hook is not None:
            hook(current)
        for name, value in current.api_key.items():
            if isinstance(value, str):
                current.api_key[name] = value.strip()

    configuration.refresh_api_key_hook = strip
    for name, value in configuration.api_key.items():
        if isinstance(value, str):
            configuration.api_key[name] = value.strip()


def _fingerprint(configuration: Any) -> bytes:
    """Stands for all that a connection is made with; the token is not among it, as it goes with each request."""
    digest = hashlib.sha256(f"{configuration.host} {configuration.verify_ssl} {configuration.proxy}".encode())
    for name in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file):
        try:
            digest.update(Path(name).read_bytes() if name else b"-")
        except OSError:
            digest.update(b"?")
    return digest.digest()


def _keep_alive(response: aiohttp.ClientResponse) -> None:
    """Let the system notice a peer that is gone without a word."""
    connection = response.connection
    sock = connection.transport.get_extra_info("socket") if connection and connection.transport else None
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
