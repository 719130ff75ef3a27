"""The pages of a running registry's admin port, as commands read them."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping, Set
from typing import Any, Final
from urllib.parse import urlencode

from registry.cli.errors import CommandError
from registry.config import ListenAddress

_MOST_BYTES: Final = 16 << 20
"""Of one page: a thousand ids, or one object with all its pods, are far below."""

_AT_ONCE: Final = 1 << 16


class Pages:
    """Pages of the admin port at HOST:PORT, each within ``timeout`` seconds. Raises CommandError for no address."""

    def __init__(self, admin: str, timeout: float) -> None:
        try:
            self._address = ListenAddress.parse(admin)
        except ValueError as error:
            raise CommandError(f"--admin {admin!r}: {error}") from None
        self._admin = admin
        self._timeout = timeout

    def get(self, path: str, parameters: Mapping[str, str], fields: Set[str] = frozenset()) -> dict[str, Any]:
        """A page that is a JSON object with ``fields``, at least.

        Raises CommandError for any other, and for what it complains of.
        """
        host = self._address.host or "127.0.0.1"
        connection = http.client.HTTPConnection(host, self._address.port, timeout=self._timeout)
        try:
            connection.request("GET", f"{path}?{urlencode(parameters, errors='surrogateescape')}")
            response = connection.getresponse()
            body = self._read(response)
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise CommandError(
                f"{self._admin}: {reason}; name a running registry's --admin-listen with --admin"
            ) from None
        finally:
            connection.close()
        if response.status == http.client.BAD_REQUEST:
            raise CommandError(body.decode(errors="replace").strip())
        try:
            told = json.loads(body) if response.status == http.client.OK else None
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or not told.keys() >= fields:
            raise CommandError(f"{self._admin}: no admin port of a registry (it answered {response.status})")
        return told

    def objects(self) -> Iterator[str]:
        """The ids of all objects that the registry knows, in their order. Raises CommandError."""
        after: str | None = ""
        while after is not None:
            told = self.get("/objects", {"after": after} if after else {})
            ids, following = told.get("objects"), told.get("next")
            # One that does not go on could go on for ever.
            if (
                not isinstance(ids, list)
                or not all(isinstance(each, str) for each in ids)
                or not (following is None or (ids and following == ids[-1] != after))
            ):
                raise CommandError(f"{self._admin}: no page of objects; is it the admin port of another release?")
            yield from ids
            after = following

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        end = time.monotonic() + self._timeout
        body = bytearray()
        while chunk := response.read1(_AT_ONCE):
            body += chunk
            if len(body) > _MOST_BYTES:
                raise http.client.HTTPException(f"a page of more than {_MOST_BYTES >> 20} MiB")
            if time.monotonic() > end:
                raise TimeoutError(f"the page was not whole in {self._timeout:g} s")
        return bytes(body)
