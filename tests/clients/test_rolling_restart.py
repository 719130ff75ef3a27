"""A rolling restart of a pair of registries loses nothing of a client that honours ``_reconnect_``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.driver import find
from tests.prove.restarts import roll

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

ROUNDS = 10


async def test_a_rolling_restart_fails_no_call_and_no_query_of_tarsgo(tmp_path: Path) -> None:
    argv = find("go")
    if argv is None:
        pytest.skip("the go client is not built: run tests/clients/install go")
    seen = await roll(argv, tmp_path, ROUNDS)
    assert seen.errors == []
    assert (seen.calls.failed, seen.queries.failed) == (0, 0)
    assert seen.calls.done > ROUNDS * 100
    assert seen.queries.done > ROUNDS * 100
    assert seen.statuses == {0}
    assert seen.good
