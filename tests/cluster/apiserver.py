"""A real Kubernetes API server with its etcd, on loopback and free ports, for tests.

```
async with ApiServer(programs, folder) as server:
    await server.create_crds()
    async with server.client() as admin:
        await admin.create(manifest)
```

Tests take a running one from the fixtures of conftest.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import aiohttp

from tests.cluster.certificates import Authority, Pair, generate_key
from tests.cluster.client import CRDS, ApiError, Client, Resource
from tests.cluster.crds import GROUP, SERVED, definitions
from tests.cluster.programs import POLL_INTERVAL, Program, ProgramError, free_ports

User = Literal["admin", "limited"]
"""admin may do all; limited nothing but what a test grants it."""

INSTALL: Final = Path(__file__).with_name("install")
STARTS_WITHIN: Final = 60.0
SERVED_WITHIN: Final = 30.0
TAKES_OVER_WITHIN: Final = 30.0
COMMAND_WITHIN: Final = 30.0
TRIES: Final = 3


def find() -> Path | None:
    """The folder with the built programs; None where they are not built."""
    shown = subprocess.run([INSTALL, "--print-path"], check=True, stdout=subprocess.PIPE, text=True)
    programs = Path(shown.stdout.rstrip("\n"))
    return programs if os.access(programs / "kube-apiserver", os.X_OK) else None


class ApiServer:
    """etcd and kube-apiserver. It may be entered in one event loop and used in others."""

    def __init__(self, programs: Path, folder: Path, *, watch_cache: bool = True, options: Sequence[str] = ()) -> None:
        """`folder` is for data, certificates and logs; `options` are further ones of kube-apiserver."""
        self.folder = folder
        self.port = 0
        self.tokens: Final[dict[User, str]] = {"admin": secrets.token_hex(16), "limited": secrets.token_hex(16)}
        self.programs = programs
        self._options = [f"--watch-cache={str(watch_cache).lower()}", *options]
        self._authority: Authority | None = None
        self._users: Authority | None = None
        self._serving = Pair(folder / "serving.crt", folder / "serving.key")
        self._accounts = Pair(folder / "service-accounts.pub", folder / "service-accounts.key")
        self._etcd: Program | None = None
        self._etcd_url = ""
        self._apiserver: Program | None = None
        self._kubeconfigs = 0
        self._defined: list[dict[str, Any]] = []

    # --------------------------------------------------------------------------------- its life

    async def __aenter__(self) -> Self:
        self._authority = self._users = await Authority.make(self.folder / "authority")
        await generate_key(self._accounts.key, public=self._accounts.certificate)
        self._place(await self._authority.server())
        (self.folder / "tokens.csv").write_text(
            f"{self.tokens['admin']},admin,admin,system:masters\n{self.tokens['limited']},limited,limited\n"
        )
        for tries_left in reversed(range(TRIES)):
            try:
                await self._start()
                return self
            except BaseException as error:
                await self.stop()
                # Somebody was faster to take the port: others are as good.
                taken = isinstance(error, ProgramError) and "address already in use" in str(error)
                if not taken or not tries_left:
                    raise
        raise AssertionError("not reached")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End both programs."""
        for program in (self._apiserver, self._etcd):
            if program is not None:
                # In good order it would first wait for the watches that are still open.
                await program.kill()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """What clients trust, as long as it was not changed with serve_with."""
        return self.authority.certificate

    @property
    def authority(self) -> Authority:
        """Whose certificate it serves with now."""
        assert self._authority is not None, "an API server is an async context manager"
        return self._authority

    @property
    def users(self) -> Authority:
        """Whose certificates it knows users by; not touched by serve_with."""
        assert self._users is not None, "an API server is an async context manager"
        return self._users

    @property
    def service_accounts(self) -> Pair:
        """By what it knows the tokens of service accounts, and what it signs them with."""
        return self._accounts

    @property
    def apiserver(self) -> Program:
        """The API server's program: its pid, its log."""
        assert self._apiserver is not None, "an API server is an async context manager"
        return self._apiserver

    @property
    def etcd(self) -> Program:
        """etcd's program."""
        assert self._etcd is not None, "an API server is an async context manager"
        return self._etcd

    async def kill(self) -> None:
        """End the API server as a crash would. etcd, and so all data, stays."""
        await self.apiserver.kill()

    async def restart(self) -> None:
        """Start the API server again, ended or not, on the same port and data; ready on return."""
        await self.kill()
        self.apiserver.start()
        await self._ready()
        async with self.client() as admin:
            await asyncio.gather(*(self._usable(admin, definition) for definition in self._defined))

    async def _start(self) -> None:
        client_port, peer_port, self.port = free_ports(3)
        data = self.folder / f"etcd-{client_port}"
        self._etcd_url = f"http://127.0.0.1:{client_port}"
        peer_url = f"http://127.0.0.1:{peer_port}"
        self._etcd = Program(
            "etcd",
            [
                self.programs / "etcd",
                "--name=default",
                f"--data-dir={data}",
                f"--listen-client-urls={self._etcd_url}",
                f"--advertise-client-urls={self._etcd_url}",
                f"--listen-peer-urls={peer_url}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=default={peer_url}",
                "--unsafe-no-fsync",
                "--watch-progress-notify-interval=5s",
                "--log-level=warn",
            ],
            self.folder / "etcd.log",
        )
        serving = self._serving
        self._apiserver = Program(
            "kube-apiserver",
            [
                self.programs / "kube-apiserver",
                f"--etcd-servers={self._etcd_url}",
                "--etcd-compaction-interval=0",  # history goes when a test says so
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={self.port}",
                "--endpoint-reconciler-type=none",
                f"--tls-cert-file={serving.certificate}",
                f"--tls-private-key-file={serving.key}",
                f"--cert-dir={self.folder / 'own-certificates'}",
                f"--client-ca-file={self.users.certificate}",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={self._accounts.certificate}",
                f"--service-account-signing-key-file={self._accounts.key}",
                "--authorization-mode=RBAC",
                f"--token-auth-file={self.folder / 'tokens.csv'}",
                "--anonymous-auth=true",
                "--disable-admission-plugins=ServiceAccount",
                "--allow-privileged=true",
                "--v=0",
                *self._options,
            ],
            self.folder / "kube-apiserver.log",
        )
        self._etcd.start()
        self._apiserver.start()
        await self._ready()

    async def _ready(self) -> None:
        """Wait until it says that it is ready."""
        try:
            async with asyncio.timeout(STARTS_WITHIN), self.client() as client:
                while True:
                    try:
                        await client.request("GET", "/readyz")
                        return
                    except (aiohttp.ClientError, ApiError):
                        for program in (self.etcd, self.apiserver):
                            _ = program.pid  # ProgramError when it has ended
                    await asyncio.sleep(POLL_INTERVAL)
        except TimeoutError:
            raise ProgramError(
                f"not ready within {STARTS_WITHIN} s\n{self.etcd.log_tail()}\n{self.apiserver.log_tail()}"
            ) from None

    # ---------------------------------------------------------------------------------- access

    def client(
        self, user: User = "admin", *, token: str | None = None, namespace: str | None = None, port: int | None = None
    ) -> Client:
        """A client as this user, or with this token; `port` is that of a proxy before the server."""
        url = self.url if port is None else f"https://127.0.0.1:{port}"
        return Client(url, self.tokens[user] if token is None else token, self.ca_file, namespace)

    def kubeconfig(
        self,
        user: User = "admin",
        *,
        token: str | None = None,
        token_file: Path | None = None,
        certificate: Pair | None = None,
        ca_file: Path | None = None,
        namespace: str = "default",
        port: int | None = None,
    ) -> Path:
        """A new kubeconfig for this user, token, token file or certificate.

        `port` is that of a proxy before the server, `ca_file` another file than the server's own, for a test to change.
        """
        secret = {"token": self.tokens[user] if token is None else token}
        if token_file is not None:
            secret = {"tokenFile": str(token_file)}
        if certificate is not None:
            secret = {"client-certificate": str(certificate.certificate), "client-key": str(certificate.key)}
        cluster = {
            "server": self.url if port is None else f"https://127.0.0.1:{port}",
            "certificate-authority": str(ca_file or self.ca_file),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": secret}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user, "namespace": namespace}}],
            "current-context": "test",
        }
        self._kubeconfigs += 1
        path = self.folder / f"kubeconfig-{self._kubeconfigs}.yaml"
        path.write_text(json.dumps(config, indent=2))  # YAML too
        return path

    # ----------------------------------------------------------------------------- its inside

    async def create_crds(self, served: Sequence[str] = SERVED) -> None:
        """Define the tars kinds in these versions (the last is stored); all can be used on return."""
        self._defined = definitions(served)
        async with self.client() as admin:
            await asyncio.gather(*(admin.create(definition) for definition in self._defined))
            await asyncio.gather(*(self._usable(admin, definition) for definition in self._defined))

    async def _usable(self, admin: Client, definition: dict[str, Any]) -> None:
        """Wait until objects of a kind can be listed and created in all its versions."""
        spec = definition["spec"]
        for version in spec["versions"]:
            # A list says that it is served; a creation waits for more than that, so try one that leaves no trace.
            resource = Resource(f"{GROUP}/{version['name']}", spec["names"]["plural"])
            trial = {
                "apiVersion": resource.version,
                "kind": spec["names"]["kind"],
                "metadata": {"name": "trial"},
                "spec": {"parent": "trial", "content": ""},
            }
            async with asyncio.timeout(SERVED_WITHIN):
                while True:
                    try:
                        await admin.request("GET", resource.path())
                        await admin.request("POST", resource.path("default"), params={"dryRun": "All"}, body=trial)
                        break
                    except ApiError as error:
                        if error.code not in (404, 429, 503):
                            raise
                        await asyncio.sleep(POLL_INTERVAL)
        established = await admin.get(CRDS, definition["metadata"]["name"])
        conditions = {each["type"]: each["status"] for each in established["status"]["conditions"]}
        assert conditions["Established"] == "True", conditions

    async def compact(self, revision: int | None = None) -> int:
        """Drop the history of all objects up to this revision of etcd (resourceVersion), by default up to now."""
        if revision is None:
            status = json.loads(await self._etcdctl("endpoint", "status", "--write-out=json"))
            revision = int(status[0]["Status"]["header"]["revision"])
        await self._etcdctl("compact", str(revision), "--physical")
        return revision

    async def _etcdctl(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            self.programs / "etcdctl",
            f"--endpoints={self._etcd_url}",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(COMMAND_WITHIN):
            said, complained = await process.communicate()
        if process.returncode:
            raise ProgramError(f"etcdctl {' '.join(arguments)}: {complained.decode(errors='replace')}")
        return said.decode()

    async def serve_with(self, authority: Authority) -> None:
        """Go on, without a restart, with a server certificate of this authority; done on return."""
        self._place(await authority.server())
        trust = ssl.create_default_context(cafile=authority.certificate)
        async with asyncio.timeout(TAKES_OVER_WITHIN):
            while True:
                if await self._is_trusted(trust):
                    break
                await asyncio.sleep(POLL_INTERVAL)
        self._authority = authority

    async def _is_trusted(self, trust: ssl.SSLContext) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=trust)
        except ssl.SSLError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    def _place(self, pair: Pair) -> None:
        """Put a certificate and key where the server reads them, each at once."""
        for new, place in zip(pair, self._serving, strict=True):
            temporary = place.with_name(f".{place.name}")
            temporary.write_bytes(new.read_bytes())
            temporary.rename(place)
