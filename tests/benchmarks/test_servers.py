"""What is measured and by what: the floor, the service, the crowd; and that answers must say what is right."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from benchmarks import interleaved, load
from benchmarks.interleaved import Load, Side, alternate, one
from benchmarks.load import Outcome
from benchmarks.load.plan import FIRST_ID, Asked, Lists, Plan, made_answer, question, read_answer
from benchmarks.servers import Server, WrongAnswer, changing_plan, driven, exchange, floor, learn, plan_of, service
from benchmarks.tables import Table, expected, object_id
from benchmarks.trouble import crowd
from tars_protocol.interfaces.query import EndpointF
from tars_protocol.packets import decode_response

TABLE = Table(3, 2, 4)
ENDPOINTS = tuple(
    EndpointF(host=host, port=port, timeout=60_000, istcp=1, grid=0) for host, port in TABLE.expected(0).active
)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return Plan([Asked(question(object_id(0)))], [made_answer(ENDPOINTS)]).write(tmp_path / "plan")


def test_the_floor_echoes_request_ids_of_every_width(plan: Path) -> None:
    ids = [0, 1, -1, 127, 128, -32_768, 65_536, FIRST_ID, -(1 << 31)]
    with floor(plan) as server:
        answers = [server.ask(question(object_id(0), request_id)) for request_id in ids]
    assert [decode_response(answer).request_id for answer in answers] == ids
    assert {read_answer(answer) for answer in answers} == {TABLE.expected(0)}


def test_the_floor_puts_together_what_comes_in_pieces(plan: Path) -> None:
    frames = question(object_id(0)) + question(object_id(0), 7) + question(object_id(0), 300)
    with floor(plan) as server, server.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(frames), 10):
            sock.sendall(frames[at : at + 10])
        answers = [exchange(sock, b"") for _ in range(3)]
    assert [decode_response(answer).request_id for answer in answers] == [FIRST_ID, 7, 300]


def test_two_servers_are_measured_in_turn_with_every_answer_right(plan: Path) -> None:
    with floor(plan) as first, floor(plan) as second:
        sides = [Side(first, plan, "first"), Side(second, plan, "second")]
        runs = alternate(load.generator(), sides, Load(2, 3), 3, seconds=0.05, warm_up=0.01)
    assert [each.name for each in runs] == ["first", "second"]
    for each in runs:
        assert len(each.outcomes) == len(each.memory_kib) == 3
        assert all(outcome.answered and not outcome.wrong and not outcome.unanswered for outcome in each.outcomes)


def test_the_slices_of_runs_are_made_in_turn(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each run is all of its slices together."""
    order, measure = [], interleaved.one

    def noted(command: list[str], side: Side, how: Load, **options: object) -> Outcome:
        order.append(side.name)
        return measure(command, side, how, **options)

    monkeypatch.setattr(interleaved, "one", noted)
    with floor(plan) as first, floor(plan) as second:
        sides = [Side(first, plan, "a"), Side(second, plan, "b")]
        runs = alternate(load.generator(), sides, Load(2), 2, slices=3, seconds=0.03, warm_up=0.01)
    assert "".join(order) == "abbaab" + "baabba"
    for each in runs:
        assert len(each.outcomes) == len(each.memory_kib) == 2
        for outcome in each.outcomes:
            assert outcome.seconds > 0.06, "more than two of them"
            assert outcome.connects == 6
            assert outcome.latency.count == outcome.answered


def test_a_wrong_answer_ends_the_measurement(plan: Path, tmp_path: Path) -> None:
    other = Plan([Asked(question(object_id(0)))], [made_answer(ENDPOINTS[:3])]).write(tmp_path / "other")
    with floor(other) as server, pytest.raises(WrongAnswer, match="answers were wrong, first another answer"):
        one(load.generator(), Side(server, plan), Load(1), seconds=0.05, warm_up=0)


def test_an_answer_is_learned_only_if_it_says_what_the_table_says(plan: Path) -> None:
    frame = question(object_id(0))
    with floor(plan) as server:
        assert learn(server, [frame], [TABLE.expected(0)]) == [made_answer(ENDPOINTS)]
        with pytest.raises(WrongAnswer, match="bench-server0-0"):
            learn(server, [frame], [TABLE.expected(1)])


def test_a_server_that_closes_instead_of_answering_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server("target", listening.getsockname()[1], 0)
        with server.connect() as sock:
            accepted, _ = listening.accept()
            accepted.close()
            with pytest.raises(ConnectionError):
                exchange(sock, question(object_id(0)))


def test_the_service_answers_from_the_table_as_it_was_written(tmp_path: Path) -> None:
    with service(TABLE, tmp_path) as server:
        made = plan_of(server, TABLE, range(3))
        plan = made.write(tmp_path / "plan")
        found = one(load.generator(), Side(server, plan), Load(2), seconds=0.1, warm_up=0)
    assert read_answer(made.answers[0]) == TABLE.expected(0)
    assert (len(made.answers), found.wrong, found.unanswered) == (3, 0, 0)
    assert found.answered > 0


def test_the_driven_service_changes_its_table_when_it_is_told_to(tmp_path: Path) -> None:
    with driven("--servers=3", "--pods=2", "--first=4", "--changing=2") as server:
        made = changing_plan(server, TABLE, 2)
        before, after = (read_answer(answer) for answer in made.answers[:2])
        assert before == TABLE.expected(0)
        assert after == expected(0, 4, 3) == Lists(before.active[:3], before.active[3:])
        began = server.command("churn 500")["changes"]
        found = one(load.generator(), Side(server, made.write(tmp_path / "plan")), Load(2), seconds=0.2, warm_up=0)
        assert server.command("still")["changes"] > began
        assert (found.wrong, found.unanswered) == (0, 0)
        assert set(server.command("pauses")) == {"pauses", "thresholds", "frozen"}
        assert "error" in server.command("dance")


def test_a_crowd_gathers_and_tells(plan: Path, tmp_path: Path) -> None:
    wanted = {"idle": 3, "slow": 2, "deaf": 2, "garbage": 2}
    with driven("--servers=3", "--pods=2") as server, crowd(server, plan, wanted) as end:
        found = one(load.generator(), Side(server, plan_of(server, Table(3, 2)).write(tmp_path / "good")), Load(1))
        told = end()
    assert {kind: told["made"][kind] for kind in wanted if kind != "garbage"} == {"idle": 3, "slow": 2, "deaf": 2}
    assert told["made"]["garbage"] >= 2
    assert told["failed"] == {}
    assert (found.wrong, found.unanswered) == (0, 0)
