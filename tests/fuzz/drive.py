"""Give an input to the service, and look at what comes of it."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from jce import dynamic
from registry.app import App
from tars_protocol.connection import Connection
from tars_protocol.handlers import Caller
from tars_protocol.packets import decode_response
from tests.fuzz.cases import Case, Expected
from tests.fuzz.pieces import REQUEST_ID, call

ADDRESS = "10.1.1.1"
"""Of the one pod of the object that the catalogue asks for."""

ANSWER = {0: 0, 2: [{0: ADDRESS, 1: 18100, 2: 3000, 3: 1, 4: 0}], 3: []}
"""To the question for it: return value, active and inactive endpoints."""

QUESTION = call()

_CALLER = Caller("127.0.0.1", 40_000, "127.0.0.7", 17_890)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an input: the frames sent, and why the connection was closed ("" where it goes on)."""

    frames: tuple[bytes, ...]
    closed: str

    def problem(self, expected: Expected) -> str:
        """What is not as it should be; "" where nothing is."""
        responses = [decode_response(frame) for frame in self.frames]
        found = [response.code for response in responses], self.closed
        wanted = list(expected.codes), expected.closed
        if found != wanted:
            descriptions = [response.description for response in responses]
            return f"codes and end are {found}, not {wanted}: {descriptions}"
        for response in responses:
            if (response.version, response.request_id) != (expected.version, expected.request_id):
                return f"answered {response}, not version {expected.version} and id {expected.request_id}"
        return ""


def connect(app: App, port: str) -> Connection:
    """A connection without a socket, as the service makes it."""
    server = app.query if port == "query" else app.registry
    return server._connect(_CALLER)


def split(data: bytes) -> tuple[bytes, ...]:
    """The frames that these bytes are, all of them whole."""
    frames = []
    while data:
        length = int.from_bytes(data[:4], "big")
        assert 4 < length <= len(data)
        frames.append(data[:length])
        data = data[length:]
    return tuple(frames)


def receive(connection: Connection, data: bytes) -> bytes:
    """All that a connection answers to these bytes, in as many turns as it takes."""
    sent = _turn(connection, data)
    while connection.held:
        sent += _turn(connection, b"")
    return sent


def _turn(connection: Connection, data: bytes) -> bytes:
    # As whoever drives connections does once everything else had its turn.
    connection._turns.renew()
    sent = connection.receive(data)
    pending, connection.pending = connection.pending, []
    for answer in pending:
        sent += _at_once(answer)
        connection.answered()
    return sent


def whole(app: App, case: Case) -> Outcome:
    """All of an input in one read."""
    connection = connect(app, case.port)
    return _outcome(connection, receive(connection, case.data))


def byte_by_byte(app: App, case: Case) -> Outcome:
    """An input in reads of one byte each."""
    connection = connect(app, case.port)
    sent = b"".join(receive(connection, case.data[at : at + 1]) for at in range(len(case.data)))
    return _outcome(connection, sent)


def _outcome(connection: Connection, sent: bytes) -> Outcome:
    assert not connection.pending
    assert not connection.held
    return Outcome(split(sent), connection.error.reason if connection.error else "")


def _at_once(answer: Awaitable[bytes]) -> bytes:
    """An answer that may wait, but here has nothing to wait for."""
    try:
        answer.__await__().send(None)
    except StopIteration as done:
        data: bytes = done.value
        return data
    raise AssertionError("the answer waits for something")


def assert_answers(app: App) -> None:
    """A good question on a connection of its own is answered right."""
    assert_answer(Outcome(split(receive(connect(app, "query"), QUESTION)), ""))


def assert_answer(outcome: Outcome) -> None:
    """What came back is the answer to the good question."""
    (frame,) = outcome.frames
    response = decode_response(frame)
    assert (response.code, response.request_id) == (0, REQUEST_ID)
    assert dynamic.decode(response.body) == ANSWER
