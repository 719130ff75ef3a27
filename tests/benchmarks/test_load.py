"""The load generators, in C and in Python: that they count, that they notice what is wrong, that they agree."""

from __future__ import annotations

import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import load
from benchmarks.load.plan import FIRST_ID, ID_BYTES, VARYING, Asked, Lists, Plan, made_answer, question, read_answer
from benchmarks.tables import object_id
from tars_protocol.interfaces.query import EndpointF
from tars_protocol.packets import request_id_span

ENDPOINT = EndpointF(host="a-0.a", port=1, timeout=60_000, istcp=1, grid=0)
ANSWER, OTHER = made_answer((ENDPOINT,)), made_answer((ENDPOINT, ENDPOINT))
QUICK: dict[str, Any] = {"seconds": 0.15, "warm_up": 0.02, "grace": 0.3}

Reply = Callable[[bytes, bytes], list[bytes]]
"""From a question and its request id to the frames to send."""


@pytest.fixture(params=["c", "python"])
def command(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "python":
        return load.PYTHON
    if load.compiler() is None:
        pytest.skip("no C compiler")
    return load.generator()


@contextmanager
def responder(reply: Reply) -> Iterator[int]:
    """A server that answers each frame as it is told; its port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(4):
                frame = head + self.rfile.read(int.from_bytes(head, "big") - 4)
                span = request_id_span(frame)
                assert span is not None
                for answer in reply(frame, frame[slice(*span)]):
                    if not answer:
                        return
                    self.wfile.write(answer)

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:
                pass  # The generator resets its connections at the end.

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def with_id(answer: bytes, request_id: bytes) -> bytes:
    at = answer.index(FIRST_ID.to_bytes(ID_BYTES, "big"))
    return answer[:at] + request_id + answer[at + ID_BYTES :]


def right(_: bytes, request_id: bytes) -> list[bytes]:
    return [with_id(ANSWER, request_id)]


def written(folder: Path, *asked: Asked, answers: tuple[bytes, ...] = (ANSWER,)) -> Path:
    return Plan(list(asked) or [Asked(question("App.Server.Obj"))], list(answers)).write(folder / "plan")


def run(command: list[str], plan: Path, reply: Reply, **options: object) -> load.Outcome:
    with responder(reply) as port:
        return load.run(command, plan, port, pid=os.getpid(), **QUICK | options)


def test_right_answers_are_counted_and_timed(command: list[str], tmp_path: Path) -> None:
    found = run(command, written(tmp_path), right, connections=3, outstanding=2)
    assert (found.wrong, found.unanswered, found.lost, found.connects) == (0, 0, 0, 3)
    assert found.answered > 10
    assert found.latency.count == found.answered
    assert 0 < found.latency.percentile(50) <= found.latency.max
    assert found.server_cpu_seconds > 0
    assert found.load_cpu_seconds > 0
    assert found.bytes_in >= found.answered * len(ANSWER)


def _one_byte(frame: bytes, request_id: bytes) -> list[bytes]:
    answer = with_id(ANSWER, request_id)
    return [answer[:-1] + bytes((answer[-1] ^ 1,))]


def _longer(frame: bytes, request_id: bytes) -> list[bytes]:
    return [with_id(OTHER, request_id)]


def _other_id(frame: bytes, request_id: bytes) -> list[bytes]:
    return [with_id(ANSWER, (int.from_bytes(request_id, "big") + 77).to_bytes(4, "big"))]


def _twice(frame: bytes, request_id: bytes) -> list[bytes]:
    return 2 * [with_id(ANSWER, request_id)]


def _no_frame(frame: bytes, request_id: bytes) -> list[bytes]:
    return [b"\x00\x00\x00\x01"]


@pytest.mark.parametrize("reply", [_one_byte, _longer, _other_id, _twice, _no_frame])
def test_a_wrong_answer_is_noticed_and_shown(command: list[str], tmp_path: Path, reply: Reply) -> None:
    found = run(command, written(tmp_path), reply, connections=2)
    assert found.wrong > 0
    assert ": " in found.first_wrong


def test_an_answer_that_never_comes_is_unanswered(command: list[str], tmp_path: Path) -> None:
    found = run(command, written(tmp_path), lambda *_: [], connections=2, outstanding=3)
    assert (found.answered, found.wrong, found.unanswered) == (0, 0, 6)


def test_a_connection_that_the_server_closes_is_lost_and_made_again(command: list[str], tmp_path: Path) -> None:
    found = run(command, written(tmp_path), lambda *_: [b""], connections=2)
    assert found.lost > 2
    assert found.connects > 2
    assert found.answered == 0


def test_an_open_loop_keeps_its_rate(command: list[str], tmp_path: Path) -> None:
    found = run(command, written(tmp_path), right, connections=5, rate=200, seconds=0.5)
    assert found.asked == found.answered == found.latency.count == found.late.count
    assert abs(found.asked - 100) <= 1, "one may be due on the edge of what is measured"
    assert (found.wrong, found.unanswered) == (0, 0)


def test_an_open_loop_counts_from_when_a_question_was_due(command: list[str], tmp_path: Path) -> None:
    """A server that stalls once must not hide what waited meanwhile: each of those questions has its whole wait."""
    stall = threading.Event()
    stalled: list[bytes] = []

    def reply(_: bytes, request_id: bytes) -> list[bytes]:
        if len(stalled) == 20:
            stall.wait(0.3)
        stalled.append(request_id)
        return [with_id(ANSWER, request_id)]

    found = run(command, written(tmp_path), reply, connections=1, rate=200, seconds=0.5, warm_up=0)
    assert found.answered == 100
    assert found.latency.max >= 0.29e9
    # 60 of the 100 were due in those 0.3 s: the 40th longest wait is still a good part of it.
    assert found.latency.percentile(60) > 0.05e9


def test_any_of_the_answers_of_a_question_is_right_and_no_other(command: list[str], tmp_path: Path) -> None:
    asked = Asked(question("App.Server.Obj"), 0, 2)
    third = made_answer(())
    turns = [ANSWER, OTHER]

    def reply(_: bytes, request_id: bytes) -> list[bytes]:
        turns.append(turns.pop(0))
        return [with_id(turns[0], request_id)]

    assert run(command, written(tmp_path, asked, answers=(ANSWER, OTHER, third)), reply).wrong == 0
    turns = [third, OTHER]
    assert run(command, written(tmp_path, asked, answers=(ANSWER, OTHER, third)), reply).wrong > 0


def test_questions_are_asked_in_turn_and_vary_where_they_are_to(command: list[str], tmp_path: Path) -> None:
    seen: list[bytes] = []

    def reply(frame: bytes, request_id: bytes) -> list[bytes]:
        seen.append(frame.replace(request_id, b"...."))
        return [with_id(ANSWER, request_id)]

    plain, varied = question("App.Server.Obj"), question("App.Server.Obj", node_name=f"10.{VARYING}")
    plan = written(tmp_path, Asked(plain), Asked(varied))
    found = run(command, plan, reply, connections=1, questions=20, warm_up=0, seconds=5)
    assert found.asked == found.answered == len(seen) == 20
    assert len(set(seen[::2])) == 1
    assert len(set(seen[1::2])) == 10


def test_after_so_many_answers_a_connection_is_made_anew(command: list[str], tmp_path: Path) -> None:
    found = run(command, written(tmp_path), right, connections=2, reconnect_after=2, questions=20, warm_up=0, seconds=5)
    assert found.answered == 20
    assert found.connects >= 10
    assert (found.lost, found.unanswered, found.wrong) == (0, 0, 0)


def test_where_nobody_listens_the_generator_says_so(command: list[str], tmp_path: Path) -> None:
    with responder(right) as port:
        pass
    with pytest.raises(load.LoadError, match="ended with"):
        load.run(command, written(tmp_path), port, **QUICK)


def test_a_generator_that_had_no_time_left_is_the_bottleneck() -> None:
    numbers: dict[str, Any] = dict.fromkeys(load.Outcome.__dataclass_fields__, 0)
    assert load.Outcome(**numbers | {"seconds": 1.0, "load_cpu_seconds": 0.97}).bottleneck
    assert not load.Outcome(**numbers | {"seconds": 1.0, "load_cpu_seconds": 0.5}).bottleneck


def test_the_program_is_built_once_and_outside_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if load.compiler() is None:
        pytest.skip("no C compiler")
    monkeypatch.setenv("TARS_REGISTRY_CACHE", str(tmp_path))
    built = load.build()
    assert built is not None
    assert built.is_relative_to(tmp_path)
    made = built.stat().st_mtime_ns
    assert load.build() == built
    assert built.stat().st_mtime_ns == made


def test_without_a_compiler_the_python_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "compiler", lambda: None)
    assert load.generator() == load.PYTHON


def test_a_plan_comes_back_from_its_file(tmp_path: Path) -> None:
    plan = Plan([Asked(question(object_id(0)), 0, 2), Asked(question(object_id(1)), 1)], [ANSWER, OTHER])
    assert Plan.read(plan.write(tmp_path / "plan")) == plan


def test_an_answer_is_read_as_it_was_made() -> None:
    assert read_answer(OTHER) == Lists((("a-0.a", 1), ("a-0.a", 1)), ())
