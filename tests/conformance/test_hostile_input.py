"""Bytes that no client sends: the connection ends or gets its code, the process and all other connections go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tars_protocol.aio.client import Client
from tars_protocol.frames import DEFAULT_MAX_FRAME_BYTES, frame
from tars_protocol.interfaces.query import QUERY, SERVANT
from tars_protocol.packets import RequestPacket, decode_response, encode_request
from tests.support.manifests import hello, write
from tests.support.service import Service, serving

ID = "Test.HelloServer.HelloObj"
MEMORY_SLACK = 24 << 20
"""Bytes that the process may grow by: buffers of the largest frame, several times over, and the allocator's own."""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A running service that knows one object, and gives up half a frame after a second."""
    write(tmp_path / "hello.yaml", hello("127.0.0.1"))
    async with serving(tmp_path, "--endpoint-host=pod-ip", "--frame-timeout=1") as running:
        yield running


def request(body: bytes, *, version: int = 1, function: str = "findObjectById4Any") -> bytes:
    """A call with this body."""
    return encode_request(
        RequestPacket(iVersion=version, iRequestId=7, sServantName=SERVANT, sFuncName=function, sBuffer=body)
    )


def in_full(start: bytes, filler: bytes, size: int = DEFAULT_MAX_FRAME_BYTES) -> bytes:
    """A packet of the largest size that is taken: ``start``, then ``filler`` again and again."""
    return (start + filler * size)[: size - 4]


REQUEST_START = request(b"")[4:-12]
"""A request up to its body."""

ANSWERED = {
    "100,000 struct begins in the body": (request(b"\x0a" * 100_000), -1),
    "100,000 struct begins after the id": (request(b"\x16\x19Test.HelloServer.HelloObj" + b"\x2a" * 100_000), -1),
    "a full frame of struct begins in the body": (request(b"\x0a" * (DEFAULT_MAX_FRAME_BYTES - 200)), -1),
    "a full frame of zeros in the body": (request(b"\x0c" * (DEFAULT_MAX_FRAME_BYTES - 200)), -1),
    "a list that says it has 2^31-1 elements": (request(b"\x19\x02\x7f\xff\xff\xff"), -1),
    "a list with a negative count": (request(b"\x19\x00\xff"), -1),
    "a string that says it has 4 GiB": (request(b"\x17\xff\xff\xff\xff"), -1),
    "a map of maps": (request((b"\x18\x00\x01\x06\x00" * 100_000)[:300_000]), -1),
    "a TUP body of struct begins": (request(b"\x0a" * 100_000, version=3), -1),
    "a JSON body of brackets": (request(b"[" * 100_000, version=5), -1),
    "a full frame of JSON brackets": (request(b"[" * (DEFAULT_MAX_FRAME_BYTES - 200), version=5), -1),
    "a packet that ends after its request id": (frame(bytes.fromhex("10012c3c4007")), -1),
    "a full frame of struct begins behind the request id": (frame(in_full(bytes.fromhex("10012c3c4007"), b"\x5a")), -1),
    "a version that nobody has": (request(b"", version=9), -1),
    "an unknown function": (request(b"", function="drop" * 1000), -3),
}
"""Requests whose id can be read: answered with a code, and the connection goes on."""

ENDED = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: registry\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100a5010000a10303") + b"\x5a" * 155,
    "an SSH greeting": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a frame of length 0": b"\x00\x00\x00\x00",
    "a frame of length 4": b"\x00\x00\x00\x04",
    "a frame one byte over the limit": (DEFAULT_MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
    "a frame of 4 GiB": b"\xff\xff\xff\xff",
    "100,000 bare struct begins": frame(b"\x0a" * 100_000),
    "a full frame of struct begins": frame(in_full(b"", b"\x0a")),
    "a full frame of struct ends": frame(in_full(b"", b"\x0b")),
    "a full frame of bytes that are no type": frame(in_full(b"", b"\xff")),
    "an empty struct": frame(b"\x0a\x0b"),
    "a packet without a request id": frame(bytes.fromhex("10012c3c")),
}
"""Bytes to which there is no answer: the connection ends."""


async def ask(service: Service) -> None:
    """An honest question on a connection of its own."""
    async with Client("127.0.0.1", service.query_port, SERVANT, QUERY) as client:
        ret, active, _ = await client.call("findObjectById4Any", ID)
        assert (ret, [endpoint.host for endpoint in active]) == (0, ["127.0.0.1"])


async def send(service: Service, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which these bytes were sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.query_port)
    writer.write(data)
    return reader, writer


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """One frame."""
    head = await reader.readexactly(4)
    return head + await reader.readexactly(int.from_bytes(head, "big") - 4)


async def ends(reader: asyncio.StreamReader) -> bytes:
    """What comes before the end of a connection; a reset is an end too."""
    data = b""
    try:
        async with asyncio.timeout(10):
            while chunk := await reader.read(1 << 16):
                data += chunk
    except ConnectionResetError:
        pass
    return data


def memory(service: Service) -> int:
    """Bytes resident in the service's process."""
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) << 10


def descriptors(service: Service) -> int:
    """File descriptors that the service's process has open."""
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


async def test_malformed_requests_get_their_code_and_the_connection_goes_on(service: Service) -> None:
    before = memory(service)
    for name, (data, code) in ANSWERED.items():
        reader, writer = await send(service, data)
        answer = decode_response(await answer_of(reader))
        assert (answer.code, answer.request_id) == (code, 7), name
        writer.write(request(b"\x16\x19" + ID.encode()))
        assert decode_response(await answer_of(reader)).code == 0, f"after {name}"
        writer.close()
        await writer.wait_closed()
        await ask(service)
    assert memory(service) < before + MEMORY_SLACK


async def test_bytes_without_an_answer_end_their_connection_and_no_other(service: Service) -> None:
    before = memory(service)
    async with Client("127.0.0.1", service.query_port, SERVANT, QUERY) as bystander:
        for name, data in ENDED.items():
            reader, writer = await send(service, data)
            assert await ends(reader) == b"", name
            writer.close()
            assert (await bystander.call("findObjectById", ID))[0], f"after {name}"
            await ask(service)
    assert memory(service) < before + MEMORY_SLACK


async def test_half_a_frame_and_silence_is_cut_while_others_are_answered(service: Service) -> None:
    halves = [request(b"\x16\x19" + ID.encode())[:20], b"\x00\x00", frame(b"\x0c" * 100_000)[:-1]]
    connections = [await send(service, half) for half in halves]
    silent = await send(service, b"")
    await ask(service)
    for reader, writer in connections:
        assert await ends(reader) == b""
        writer.close()
    # A connection that has sent nothing has no frame to finish.
    silent[1].write(request(b"\x16\x19" + ID.encode()))
    assert decode_response(await answer_of(silent[0])).code == 0
    silent[1].close()


async def test_random_bytes_never_stop_the_service(service: Service) -> None:
    chance = random.Random(17890)
    before = memory(service)
    for _ in range(200):
        size = chance.choice([5, 20, 100, 3000])
        packet = chance.randbytes(size)
        if chance.random() < 0.5:
            packet = bytes.fromhex("10012c3c4007") + packet
        reader, writer = await send(service, frame(packet))
        writer.write_eof()
        await ends(reader)
        writer.close()
    await ask(service)
    assert memory(service) < before + MEMORY_SLACK
    assert "Traceback" not in service.log


async def test_many_connections_that_end_abruptly_leave_nothing_behind(service: Service) -> None:
    await ask(service)
    before = descriptors(service)
    for _ in range(200):
        _, writer = await send(service, request(b"\x16\x19" + ID.encode())[:30])
        writer.transport.abort()
    async with asyncio.timeout(10):
        while descriptors(service) > before:
            await ask(service)


async def test_a_service_that_was_attacked_still_stops_cleanly(service: Service) -> None:
    writers = [(await send(service, data))[1] for data in ENDED.values()]
    service.process.terminate()
    assert await service.process.wait() == 0, service.log
    for writer in writers:
        writer.transport.abort()
