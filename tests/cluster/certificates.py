"""Certificate authorities for tests, made with the openssl command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

LOOPBACK: Final = ("IP:127.0.0.1", "DNS:localhost")
DAYS: Final = 3650

# All that a strict check asks for (Python does one from 3.13 on): key usages and key identifiers.
EXTENSIONS: Final = """
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Pair(NamedTuple):
    """A certificate (or public key) and its private key, both PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority; make() makes one."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.pair = Pair(folder / "ca.crt", folder / "ca.key")
        self._issued = 0
        folder.mkdir()

    @property
    def certificate(self) -> Path:
        """What clients trust."""
        return self.pair.certificate

    @classmethod
    async def make(cls, folder: Path, name: str = "tars-registry tests") -> Self:
        """A new one, its files in this new folder."""
        authority = cls(folder, name)
        await generate_key(authority.pair.key)
        await authority._sign("ca", f"/CN={name}", authority.pair)
        return authority

    async def server(self, names: Sequence[str] = LOOPBACK) -> Pair:
        """A certificate for a server with these subject alternative names."""
        pair = self._next("server")
        await generate_key(pair.key)
        await self._sign("server", "/CN=kube-apiserver", pair, names)
        return pair

    async def client(self, user: str, *groups: str) -> Pair:
        """A certificate by which the API server knows a user as one of these groups."""
        pair = self._next("client")
        await generate_key(pair.key)
        await self._sign("client", "".join(f"/O={group}" for group in groups) + f"/CN={user}", pair)
        return pair

    def _next(self, kind: str) -> Pair:
        self._issued += 1
        return Pair(self.folder / f"{kind}-{self._issued}.crt", self.folder / f"{kind}-{self._issued}.key")

    async def _sign(self, kind: str, subject: str, pair: Pair, names: Sequence[str] = LOOPBACK) -> None:
        config = pair.certificate.with_suffix(".cnf")
        config.write_text(EXTENSIONS.format(names=",".join(names)))
        signer = [] if pair == self.pair else ["-CA", self.pair.certificate, "-CAkey", self.pair.key]
        await openssl(
            *("req", "-x509", "-new", "-sha256", "-days", DAYS, "-config", config, "-extensions", kind),
            *("-subj", subject, "-key", pair.key, *signer, "-out", pair.certificate),
        )


async def generate_key(path: Path, *, public: Path | None = None) -> None:
    """Write a new private key, and its public one."""
    await openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    if public is not None:
        await openssl("pkey", "-in", path, "-pubout", "-out", public)


async def openssl(*arguments: object) -> None:
    """Run the openssl command; AssertionError with what it said where it fails."""
    process = await asyncio.create_subprocess_exec(
        "openssl",
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # The machine's own configuration has no say in it.
        env={**os.environ, "OPENSSL_CONF": os.devnull},
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, f"openssl {' '.join(map(str, arguments))}:\n{said.decode(errors='replace')}"
