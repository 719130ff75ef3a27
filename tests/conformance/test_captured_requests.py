"""Every request that a real client was seen to send, answered by the rules.

What is expected is worked out here by hand from the captured arguments, and the answers are read without a schema, so
that a mistake in the declarations can't hide itself.
"""

from __future__ import annotations

from typing import Any

import pytest

from jce import DecodeError, dynamic
from registry.answers import Answers, SelfAddress
from registry.model import CUSTOM_RESOURCES, Kind, Pod, ServantSpec, Server
from registry.routing.hosts import EndpointHost, Naming
from registry.servants.query import query_servant
from registry.table import TableStore
from tars_protocol.connection import Connection
from tars_protocol.dispatch import Dispatcher
from tars_protocol.handlers import Caller
from tars_protocol.interfaces.query import SERVANT
from tars_protocol.packets import decode_response
from tests.support import golden

CALLER = Caller("127.0.0.1", 40_000, "127.0.0.7", 17_890)

ACTIVE = [{0: "10.0.0.1", 1: 18100, 2: 3000, 3: 1, 4: 0}, {0: "10.0.0.2", 1: 18100, 2: 3000, 3: 1, 4: 0}]
INACTIVE = [{0: "10.0.0.3", 1: 18100, 2: 3000, 3: 1, 4: 0}]
ITSELF = [{0: "127.0.0.7", 1: 17890, 2: 6000, 3: 1, 4: 0}]

EXPECTED = {
    "Test.HelloServer.HelloObj": (ACTIVE, INACTIVE),
    "tars.tarsregistry.QueryObj": (ITSELF, []),
    "tars.tarsstat.StatObj": ([], []),
    "tars.tarsnotify.NotifyObj": ([], []),
}
"""Active and inactive endpoints of each object that the captured requests ask for."""

OUT_POSITION = {"findObjectByIdInSameStation": 3, "findObjectByIdInSameSet": 3}

REQUESTS = [entry for entry in golden.lines() if entry["kind"] in ("client-request", "tup")]


def label(entry: dict[str, Any]) -> str:
    """A name for a captured request."""
    return f"{entry['client']}-{entry.get('servant', 'tup')}-{entry['func']}-v{version(entry)}"


def version(entry: dict[str, Any]) -> int:
    """The iVersion in its first field."""
    return bytes.fromhex(entry["request_hex"])[5]


@pytest.fixture
def connection() -> Connection:
    """A connection to a registry that knows Test.HelloServer: two pods active, one not."""
    store = TableStore()
    pods = [
        Pod(f"test-helloserver-{n}", pod_ip=f"10.0.0.{n + 1}", setting_state="Active", present_state=state)
        for n, state in enumerate(("Active", "Active", "Activating"))
    ]
    servants = (ServantSpec("HelloObj", 18100, timeout=3000),)
    server = Server("tars", "test-helloserver", "Test", "HelloServer", servants=servants, pods=tuple(pods))
    store.replace(Kind.SERVER, [server])
    for kind in CUSTOM_RESOURCES:
        store.synced(kind)
    answers = Answers(store, naming=Naming(EndpointHost.POD_IP), self_address=SelfAddress("", 17890, 17891))
    dispatcher = Dispatcher({SERVANT: query_servant(answers)})
    return Connection(CALLER, dispatcher.handle, answers.cache.lookup, scope=answers.scope(CALLER))


@pytest.mark.parametrize("entry", [pytest.param(e, id=f"{n}-{label(e)}") for n, e in enumerate(REQUESTS)])
def test_a_captured_request_is_answered_by_the_rules(entry: dict[str, Any], connection: Connection) -> None:
    request = bytes.fromhex(entry["request_hex"])
    asked = dynamic.decode(request[4:])
    first = connection.receive(request)
    # The second time it comes from the kept answers: nothing may differ.
    assert connection.receive(request) == first
    if asked.get(2) == 1:
        assert first == b"", "a one-way call gets nothing"
        return
    answer = decode_response(first)
    assert answer.request_id == asked[4]
    assert answer.version == asked[1]
    if version(entry) == 2:
        assert answer.code == -1
        return
    if entry.get("servant", asked[5]) != SERVANT:
        assert answer.code == -4
        return
    assert answer.code == 0
    results = dynamic.decode(answer.body)
    active, inactive = EXPECTED[entry["args"]["1"]]
    if entry["func"] == "findObjectById":
        assert results == {0: active}
    else:
        position = OUT_POSITION.get(entry["func"], 2)
        assert results == {0: 0, position: active, position + 1: inactive}


def test_the_captures_hold_requests_for_the_registry_and_for_others() -> None:
    """So that the test above can't pass for want of input."""
    servants = [entry.get("servant") for entry in REQUESTS]
    assert servants.count(SERVANT) >= 30
    assert len(REQUESTS) - servants.count(SERVANT) >= 15


RESPONSES = [bytes.fromhex(e["response_hex"]) for e in golden.lines("server-response") if e["response_hex"]]


def decodes(frame: bytes) -> bool:
    """True for a response that has all its required fields."""
    try:
        decode_response(frame)
    except DecodeError:
        return False
    return True


def test_every_captured_response_decodes_but_two_that_lack_required_fields() -> None:
    assert len(RESPONSES) > 50
    refused = [frame for frame in RESPONSES if not decodes(frame)]
    assert len(refused) == 2
    for frame in refused:
        with pytest.raises(DecodeError, match="iRequestId: required field is missing"):
            decode_response(frame)
