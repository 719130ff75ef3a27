"""What the load generators are told: the questions to ask, in turn, and the bytes that are right as an answer to each.

The file, all numbers 4 bytes, little-endian::

    "TARSPLAN"  answers  questions
    answers   x:  size  id_at  bytes
    questions x:  size  id_at  vary_at  first_answer  answers  bytes

``id_at`` is where the 4 bytes of the request id are. With ``vary_at`` above 0 the 8 digits there count up from one
question asked to the next, so that no two of them are alike. Any of ``answers`` answers from ``first_answer`` on is
right.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tars_protocol.bodies import FORMS
from tars_protocol.interfaces.query import QUERY, SERVANT, EndpointF
from tars_protocol.packets import RequestPacket, decode_response, encode_request, reply, request_id_span

MAGIC: Final = b"TARSPLAN"
FIRST_ID: Final = 0x01000000
"""Ids from here on take 4 bytes."""

ID_BYTES: Final = 4
FUNCTION: Final = QUERY["findObjectByIdInSameGroup"]
VARYING: Final = "00000000"
"""In a text of a question: where it is to vary."""

MAX_VALUES: Final = 1_000_000


def question(
    object_id: str,
    request_id: int = FIRST_ID,
    *,
    node_name: str = "",
    old: tuple[tuple[EndpointF, ...], tuple[EndpointF, ...]] | None = None,
) -> bytes:
    """The frame that asks for an object: of a caller that says which node it is on, or resends the lists it has."""
    fields, values = FUNCTION.inputs, (object_id,)
    body = FORMS[1].encode(fields, values)
    if old is not None:
        # Out parameters stand behind the inputs, at their positions.
        body += FORMS[1].encode(FUNCTION.results[1:], old)
    context = {"node_name": node_name} if node_name else {}
    return encode_request(
        RequestPacket(
            iVersion=1,
            iRequestId=request_id,
            sServantName=SERVANT,
            sFuncName=FUNCTION.name,
            sBuffer=body,
            iTimeout=3000,
            context=context,
        )
    )


@dataclass(frozen=True)
class Lists:
    """What an answer says: active and inactive endpoints as (host, port)."""

    active: tuple[tuple[str, int], ...]
    inactive: tuple[tuple[str, int], ...]


def read_answer(frame: bytes) -> Lists:
    """The endpoints in an answer. Raises ValueError where it is no success."""
    answer = decode_response(frame, MAX_VALUES)
    if answer.code:
        raise ValueError(f"answered {answer.code}: {answer.description}")
    ret, active, inactive = FORMS[answer.version].decode(FUNCTION.results, answer.body, MAX_VALUES)
    if ret:
        raise ValueError(f"the function returned {ret}")
    return Lists(tuple((e.host, e.port) for e in active), tuple((e.host, e.port) for e in inactive))


def made_answer(endpoints: tuple[EndpointF, ...]) -> bytes:
    """The frame of an answer with these active endpoints, by our own codec."""
    body = FORMS[1].encode(FUNCTION.results, (0, endpoints, ()))
    return reply(1, 0, body).frame(FIRST_ID)


@dataclass(frozen=True)
class Asked:
    """A question of a plan, and which answers are right: ``answers`` of them from ``first_answer`` on."""

    frame: bytes
    first_answer: int = 0
    answers: int = 1

    @property
    def id_at(self) -> int:
        """Where its request id is."""
        span = request_id_span(self.frame)
        if span is None or span[1] - span[0] != ID_BYTES:
            raise ValueError("a question without an id of 4 bytes")
        return span[0]

    @property
    def vary_at(self) -> int:
        """Where it varies; 0 where it does not."""
        return max(0, self.frame.find(VARYING.encode()))


@dataclass
class Plan:
    """Questions and answers."""

    questions: list[Asked] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)

    @property
    def id_in_answers(self) -> int:
        """Where the request id is, which is one place in all answers. Raises ValueError."""
        places = {id_in_answer(frame) for frame in self.answers}
        if len(places) != 1:
            raise ValueError("the answers have their request ids in different places")
        return places.pop()

    def write(self, path: Path) -> Path:
        """Write it where a load generator can read it."""
        id_at = self.id_in_answers
        parts = [MAGIC, struct.pack("<II", len(self.answers), len(self.questions))]
        for frame in self.answers:
            parts += [struct.pack("<II", len(frame), id_at), frame]
        for asked in self.questions:
            head = (len(asked.frame), asked.id_at, asked.vary_at, asked.first_answer, asked.answers)
            parts += [struct.pack("<IIIII", *head), asked.frame]
        path.write_bytes(b"".join(parts))
        return path

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan in a file."""
        data = path.read_bytes()
        if data[: len(MAGIC)] != MAGIC:
            raise ValueError(f"{path} is no plan")
        at = len(MAGIC)
        answers, questions = struct.unpack_from("<II", data, at)
        at += 8
        plan = cls()
        for _ in range(answers):
            (size, _) = struct.unpack_from("<II", data, at)
            plan.answers.append(data[at + 8 : at + 8 + size])
            at += 8 + size
        for _ in range(questions):
            size, _, _, first, count = struct.unpack_from("<IIIII", data, at)
            plan.questions.append(Asked(data[at + 20 : at + 20 + size], first, count))
            at += 20 + size
        return plan


def id_in_answer(frame: bytes) -> int:
    """Where the request id is in an answer to a question that was asked with FIRST_ID. Raises ValueError."""
    at = frame.find(b"\x32" + FIRST_ID.to_bytes(ID_BYTES, "big"))
    if at < 0:
        raise ValueError("the request id of the answer is not in 4 bytes")
    return at + 1
