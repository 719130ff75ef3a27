"""The snapshot file: what is read back, what is refused, and that nothing that happens to it is fatal."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from registry import snapshot
from registry.model import Kind, Object, Server, Template, Upstream
from registry.snapshot import Snapshot, load, write
from registry.sources.snapshot_keeper import SnapshotKeeper, encode
from registry.table import DIRECTORY_PARTS, Part, TableStore
from tests.support.tables import (
    KINDS,
    NAMESPACES,
    framework,
    hello,
    server,
    small_frameworks,
    small_nodes,
    small_policy_texts,
    small_routed_servers,
    small_servers,
    small_templates,
    sync,
)
from tests.support.virtual_time import in_virtual_time, now

small_labelled_pods = st.builds(
    lambda found, subdomain: replace(
        found,
        kind=Kind.POD,
        subdomain=subdomain,
        servants=tuple(replace(one, name=one.name.lower(), any_case=True) for one in found.servants),
    ),
    small_servers,
    st.sampled_from(("", "alpha-one")),
)

Objects = Mapping[Kind, Sequence[Object]]

PARTS: Final = frozenset((kind, namespace) for kind in Kind for namespace in NAMESPACES)

STRATEGIES: Final[dict[Kind, st.SearchStrategy[Any]]] = {
    Kind.SERVER: small_routed_servers,
    Kind.POD: small_labelled_pods,
    Kind.TEMPLATE: small_templates,
    Kind.FRAMEWORK: small_frameworks,
    Kind.POLICY: small_policy_texts,
    Kind.NODE: small_nodes,
}
tables = st.fixed_dictionaries({kind: st.lists(items, max_size=6) for kind, items in STRATEGIES.items()})

SAMPLE: Final[dict[Kind, list[Object]]] = {
    Kind.SERVER: [hello(2, 1), server("Shop", "Order", host_ports={"OrderObj": 31_000})],
    Kind.POD: [],
    Kind.POLICY: [],
    Kind.NODE: [],
    Kind.TEMPLATE: [Template("tars", "tars.cpp", "tars.default", "<tars>\n  名=值\n</tars>")],
    Kind.FRAMEWORK: [framework({"default": [Upstream("up", 1)]})],
}


def encoded(objects: Objects, parts: frozenset[Part] = PARTS, written: float = 1.5) -> bytes:
    coroutine = encode(objects, parts, written)
    try:
        while True:  # all that it awaits is its next turn, so it needs no loop
            coroutine.send(None)
    except StopIteration as end:
        return b"".join(end.value)


def put(path: Path, objects: Objects = SAMPLE, parts: frozenset[Part] = DIRECTORY_PARTS, written: float = 1.5) -> None:
    path.write_bytes(encoded(objects, parts, written))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def content(path: Path) -> bytes:
    return path.read_bytes()


def remove(path: Path) -> None:
    path.unlink()


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def leave(path: Path, mode: int) -> None:
    path.write_bytes(b"half")
    path.chmod(mode)


def keeper_of(path: Path, *objects: Object, synced: bool = True, interval: float = 60.0) -> SnapshotKeeper:
    """A keeper of a store that is handed these objects after the keeper has begun to listen."""
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, path, interval)
    for item in objects:
        store.upsert(item)
    if synced:
        sync(store)
    return keeper


# ------------------------------------------------------------------------------------------ what is read back


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(objects=tables, parts=st.frozensets(st.sampled_from(sorted(PARTS))), written=st.floats(0, 2e9))
def test_what_was_written_is_read_back(objects: Objects, parts: frozenset[Part], written: float, path: Path) -> None:
    put(path, objects, parts, written)
    assert load(path) == Snapshot({kind: list(items) for kind, items in objects.items()}, parts, written)


def test_a_large_table_is_read_back_in_its_order(path: Path) -> None:
    """It has many chunks."""
    servers = [server("App", f"S{number}") for number in range(1_234)]
    put(path, {Kind.SERVER: servers})
    found = load(path)
    assert found is not None
    assert found.objects[Kind.SERVER] == servers
    assert found.objects[Kind.POD] == []


@given(objects=tables)
def test_a_table_that_is_read_back_is_the_same_table(objects: Objects) -> None:
    """Also for what is worked out from it: names in any case, TEndpoints above Pods, the up-chain."""
    there, back = TableStore(PARTS), TableStore(PARTS)
    for kind, items in objects.items():
        there.replace(kind, items)
    for part in PARTS:
        there.synced(*part)
    found = snapshot._decode(encoded(there.objects()))
    back.restore(found.objects)
    assert (back.table.servers, back.table.templates, back.table.up_chain, back.table.synced) == (
        there.table.servers,
        there.table.templates,
        there.table.up_chain,
        True,
    )


def test_what_is_alike_is_there_once(path: Path) -> None:
    """Equal objects of a first list do not take the place of those that were restored, so these stay for good."""
    put(path, {Kind.SERVER: [server("A", f"S{number}", pods=hello(2).pods) for number in range(100)]})
    found = load(path)
    assert found is not None
    servers = [item for item in found.objects[Kind.SERVER] if isinstance(item, Server)]
    assert len({id(item.servants) for item in servers}) == 1
    assert len({id(item.app) for item in servers}) == 1
    pods = [pod for item in servers for pod in item.pods]
    assert len({id(pod.setting_state) for pod in pods}) == 1
    assert len({id(pod.host_ip) for pod in pods}) == 1


# -------------------------------------------------------------------------------------------- what is refused


SMALL: Final = encoded({Kind.SERVER: [hello(1)], Kind.TEMPLATE: [Template("tars", "t", content="x")]})


def refused(data: bytes) -> str:
    with pytest.raises(snapshot._Unreadable) as error:
        snapshot._decode(data)
    return str(error.value)


def test_every_truncation_is_refused() -> None:
    snapshot._decode(SMALL)
    for length in range(len(SMALL)):
        refused(SMALL[:length])


def test_every_byte_that_is_another_is_refused() -> None:
    for position, byte in enumerate(SMALL):
        others = {byte ^ 1 << bit for bit in range(8)} | set(b' \n\t0"') - {byte}
        for other in others:
            refused(SMALL[:position] + bytes((other,)) + SMALL[position + 1 :])


@given(at=st.integers(SMALL.index(b"\n") + 1, len(SMALL)), more=st.binary(min_size=1, max_size=5))
def test_what_is_put_in_below_the_first_line_is_refused(at: int, more: bytes) -> None:
    refused(SMALL[:at] + more + SMALL[at:])


@given(at=st.integers(0, len(SMALL) - 1), length=st.integers(1, 100))
def test_what_lacks_something_is_refused(at: int, length: int) -> None:
    refused(SMALL[:at] + SMALL[at + length :])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    refused(data)


def with_header(**changes: object) -> bytes:
    head, _, body = SMALL.partition(b"\n")
    return json.dumps(json.loads(head) | changes).encode() + b"\n" + body


def with_body(*lines: bytes) -> bytes:
    """A file whose checksum is right, with these lines below."""
    body = b"".join(line + b"\n" for line in lines)
    return with_header(checksum=snapshot._digest(body).hexdigest()).partition(b"\n")[0] + b"\n" + body


ABOUT: Final = b'{"written":1.5,"parts":[]}'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "this is no snapshot"),
        (b"half a ta", "this is no snapshot"),
        (b"[" * 100_000, "this is no snapshot"),
        (b'["what"]\n', "this is no snapshot"),
        (b'"what"\n', "this is no snapshot"),
        (b"7\n", "this is no snapshot"),
        (b"{}\n", "this is no snapshot"),
        (b"9" * 5_000, "this is no snapshot"),
        (with_header(what="another program's"), "this is no snapshot"),
        (with_header(format=0), "a snapshot of format 0, this release reads 1"),
        (with_header(format=2), "a snapshot of format 2, this release reads 1"),
        (with_header(format="x"), "a snapshot of format x, this release reads 1"),
        (with_header(checksum=""), "the checksum is wrong"),
        (with_header(checksum=None), "the checksum is wrong"),
        (with_body(), "this is no snapshot"),
        (with_body(b"{}"), "this is no snapshot"),
        (with_body(b'{"written":1.5,"parts":[["Secret","x"]]}'), "this is no snapshot"),
        (with_body(ABOUT, b"[" * 100_000), "this is no snapshot"),
        (with_body(ABOUT, b'["Secret",[]]'), "this is no snapshot"),
        (with_body(ABOUT, b'["Pod",{}]'), "this is no snapshot"),
        (with_body(ABOUT, b'["Pod",[{"name":"x"}]]'), "this is no snapshot"),
        (with_body(ABOUT, b'["Pod",[{"namespace":"n","name":7}]]'), "this is no snapshot"),
        (with_body(ABOUT, b""), "this is no snapshot"),
    ],
)
def test_what_is_no_snapshot_of_this_format_is_put_aside(
    data: bytes, reason: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Never fatal; kept for whoever wants to look at it, or for the release that wrote it."""
    path.write_bytes(data)
    assert load(path) is None
    assert names(path.parent) == ["table.aside"]
    assert (path.parent / "table.aside").read_bytes() == data
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path}: {reason}" in record.getMessage()
    assert record.getMessage().endswith("it is put aside as table.aside")
    assert load(path) is None, "and then there is none"


def test_a_later_release_may_add_to_the_first_line_and_to_objects(path: Path) -> None:
    """What does not matter to this release does not change the format."""
    line = b'["TTemplate",[{"namespace":"n","name":"t","added":{"a":[1]}}]]'
    head, _, body = with_body(b'{"written":2,"parts":[["TTemplate","n"]],"added":1}', line).partition(b"\n")
    path.write_bytes(json.dumps(json.loads(head) | {"added": 1}).encode() + b"\n" + body)
    found = load(path)
    assert found is not None
    assert found.objects[Kind.TEMPLATE] == [Template("n", "t")]


def test_only_the_last_one_put_aside_is_kept(path: Path) -> None:
    for text in (b"first", b"second"):
        path.write_bytes(text)
        assert load(path) is None
    assert (path.parent / "table.aside").read_bytes() == b"second"


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_what_can_not_be_put_aside_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"x")
    monkeypatch.setattr(Path, "replace", failing(errno.EROFS))
    assert load(path) is None
    assert path.read_bytes() == b"x"
    assert f"{path}: can't be put aside: Read-only file system" in caplog.text


def test_no_file_is_no_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is so at every first start."""
    caplog.set_level(logging.INFO)
    assert load(path) is None
    assert load(path / "below" / "nothing") is None
    assert [record.levelno for record in caplog.records] == [logging.INFO] * 2
    assert f"{path}: no snapshot yet" in caplog.text


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_file_that_can_not_be_read_stays_where_it_is(
    code: int, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be a good one."""
    put(path)
    monkeypatch.setattr(Path, "read_bytes", failing(code))
    assert load(path) is None
    assert names(path.parent) == ["table"]
    assert f"{path}: the snapshot can't be read: {os.strerror(code)}" in caplog.text


def test_a_directory_is_no_snapshot(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    assert load(path) is None
    assert "the snapshot can't be read: Is a directory" in caplog.text


# ------------------------------------------------------------------------------------------------- restoring


def test_a_restored_table_answers_and_is_replaced_part_by_part(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(path, written=time.time() - 100)
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, path, 60)
    versions: list[int] = []
    store.subscribe(lambda _: versions.append(store.table.version))
    assert keeper.restore()
    assert "serving the table of 100 s ago until the sources are synchronised" in caplog.text
    assert store.table.synced
    assert store.objects() == SAMPLE
    assert store.waiting_for == [Kind.SERVER, Kind.FRAMEWORK, Kind.TEMPLATE]

    store.replace(Kind.SERVER, [hello(1)])
    store.synced(Kind.SERVER)
    assert store.objects()[Kind.SERVER] == [hello(1)], "what is not in the first list is gone"
    assert store.objects()[Kind.TEMPLATE] == SAMPLE[Kind.TEMPLATE], "what was not listed yet stays"
    assert store.table.up_chain == {"default": (Upstream("up", 1),)}
    assert store.waiting_for == [Kind.FRAMEWORK, Kind.TEMPLATE]

    before = len(versions)
    for kind in (Kind.TEMPLATE, Kind.FRAMEWORK):
        store.replace(kind, SAMPLE[kind])
        store.synced(kind)
    assert len(versions) == before, "equal lists change nothing"
    assert store.waiting_for == []


def test_a_first_list_replaces_only_what_was_restored_of_its_namespace(path: Path) -> None:
    """Two namespaces: the one that could be listed is current, the other is still as it was."""
    parts = frozenset((Kind.SERVER, namespace) for namespace in ("a", "b"))
    put(path, {Kind.SERVER: [server(namespace="a"), server("B", "X", namespace="b")]}, parts)
    store = TableStore(parts)
    assert SnapshotKeeper(store, parts, path, 60).restore()
    store.replace(Kind.SERVER, [], "a")
    store.synced(Kind.SERVER, "a")
    assert store.objects()[Kind.SERVER] == [server("B", "X", namespace="b")]
    assert store.waiting_for == ["TEndpoint in b"]


@pytest.mark.parametrize("missing", sorted(PARTS))
def test_a_snapshot_that_lacks_a_followed_part_is_not_used(
    missing: Part, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its absence would be taken for the servers' absence. The file is a good one and stays."""
    put(path, parts=PARTS - {missing})
    store = TableStore(PARTS)
    keeper = SnapshotKeeper(store, PARTS, path, 60)
    assert not keeper.restore()
    assert not store.table.synced
    assert store.table.version == 0
    assert f"the snapshot lacks {missing[0]} in {missing[1]}; it is not used" in caplog.text
    assert names(path.parent) == ["table"]


def test_a_directory_does_not_use_what_a_cluster_left(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(path, parts=PARTS)
    assert not SnapshotKeeper(TableStore(), DIRECTORY_PARTS, path, 60).restore()
    assert "the snapshot lacks TEndpoint, TFrameworkConfig, TTemplate; it is not used" in caplog.text


@given(objects=tables, followed=st.frozensets(st.sampled_from(sorted(PARTS)), min_size=1))
def test_what_is_not_followed_is_left_out(
    tmp_path_factory: pytest.TempPathFactory, objects: Objects, followed: frozenset[Part]
) -> None:
    """A namespace, or a kind, that is no longer configured would never be replaced by any list."""
    path = tmp_path_factory.getbasetemp() / "followed"
    put(path, objects, PARTS)
    store = TableStore(followed)
    assert SnapshotKeeper(store, followed, path, 60).restore()
    there = {(kind, item.namespace) for kind, items in store.objects().items() for item in items}
    assert there == {(kind, item.namespace) for kind, items in objects.items() for item in items} & followed


def test_no_snapshot_restores_nothing(path: Path) -> None:
    keeper = keeper_of(path, synced=False)
    assert not keeper.restore()
    assert keeper.written is None


def test_a_clock_that_was_set_back_makes_no_negative_age(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(path, written=time.time() + 1_000)
    assert SnapshotKeeper(TableStore(), DIRECTORY_PARTS, path, 60).restore()
    assert "serving the table of 0 s ago" in caplog.text


# --------------------------------------------------------------------------------------------------- writing


async def test_what_is_written_can_be_restored(path: Path) -> None:
    keeper = keeper_of(path, *(item for items in SAMPLE.values() for item in items))
    before = time.time()
    await keeper.write()
    assert keeper.written is not None
    assert before <= keeper.written <= time.time()
    fresh = TableStore()
    assert SnapshotKeeper(fresh, DIRECTORY_PARTS, path, 60).restore()
    assert fresh.objects() == SAMPLE


async def test_only_its_owner_may_read_it(path: Path) -> None:
    """Profiles may hold passwords. A file of an earlier release, or left by a crash, does not lend its rights."""
    leave(path, 0o644)
    leave(path.with_name(f".table.{os.getpid()}"), 0o666)
    before = os.umask(0)
    try:
        await keeper_of(path, hello()).write()
    finally:
        os.umask(before)
    assert rights(path) == 0o600
    assert names(path.parent) == ["table"]


async def test_a_link_in_place_of_the_temporary_file_is_not_followed(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_bytes(b"precious")
    path.with_name(f".table.{os.getpid()}").symlink_to(victim)
    await keeper_of(path, hello()).write()
    assert victim.read_bytes() == b"precious"
    assert load(path) is not None


async def test_nothing_is_written_before_everything_is_there(path: Path) -> None:
    keeper = keeper_of(path, hello(), synced=False)
    await keeper.write()
    assert names(path.parent) == []


async def test_what_is_only_restored_is_not_written_again(path: Path) -> None:
    """It is no newer than the file, and would be taken for it. Nor is a table of which only a part is new."""
    put(path)
    before = content(path)
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, path, 60)
    assert keeper.restore()
    await keeper.write()
    store.replace(Kind.SERVER, [hello(1)])
    store.synced(Kind.SERVER)
    await keeper.write()
    assert content(path) == before
    assert keeper.written == 1.5


@pytest.mark.parametrize("order", [KINDS, KINDS[::-1]])
async def test_what_the_first_lists_change_of_what_was_restored_is_written(order: Sequence[Kind], path: Path) -> None:
    """Also where the last one of them changes nothing."""
    put(path)
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, path, 60)
    assert keeper.restore()
    for kind in order:
        await keeper.write()
        store.replace(kind, [hello(1)] if kind is Kind.SERVER else SAMPLE[kind])
        store.synced(kind)
    await keeper.write()
    found = load(path)
    assert found is not None
    assert found.objects == {**SAMPLE, Kind.SERVER: [hello(1)]}


async def test_first_lists_that_change_nothing_write_nothing(path: Path) -> None:
    put(path)
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, path, 60)
    assert keeper.restore()
    for kind in KINDS:
        store.replace(kind, SAMPLE[kind])
        store.synced(kind)
    await keeper.write()
    assert keeper.written == 1.5


async def test_an_unchanged_table_is_not_written_again(path: Path) -> None:
    keeper = keeper_of(path, hello())
    await keeper.write()
    remove(path)
    await keeper.write()
    assert names(path.parent) == []


def partial(data: bytes) -> bool:
    try:
        snapshot._decode(data)
    except snapshot._Unreadable:
        return True
    return False


async def test_whoever_looks_sees_the_old_file_or_the_new_one(path: Path) -> None:
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, path, 60)
    store.replace(Kind.SERVER, [server("A", f"S{number}") for number in range(3_000)])
    sync(store)
    await keeper.write()
    done = threading.Event()
    seen: list[bytes] = []

    def look() -> None:
        while not done.is_set():
            seen.append(path.read_bytes())

    looking = asyncio.ensure_future(asyncio.to_thread(look))
    for number in range(20):
        store.upsert(hello(number))
        await keeper.write()
    done.set()
    await looking
    assert not [data for data in set(seen) if partial(data)]
    assert names(path.parent) == ["table"]


@pytest.mark.parametrize(
    ("where", "code"), [("fsync", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EXDEV), ("open", errno.EROFS)]
)
async def test_a_disk_that_does_not_take_it_keeps_the_old_one(
    where: str, code: int, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The old file stays, nothing is left beside it; said once, counted each time, and tried again."""
    caplog.set_level(logging.INFO)
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, path, 60)
    store.upsert(hello(1))
    sync(store)
    await keeper.write()
    before, written = content(path), keeper.written

    owner: Any = Path if where == "replace" else os
    with monkeypatch.context() as patched:
        patched.setattr(owner, where, failing(code))
        store.upsert(hello(2))
        for errors in (1, 2, 3):
            await keeper.write()
            assert keeper.errors == errors
        assert content(path) == before
        assert keeper.written == written
        assert names(path.parent) == ["table"]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said == [f"{path}: the snapshot can't be written: {os.strerror(code)}; the old one stays"]

    await keeper.write()
    assert content(path) != before, "what could not be written is still to be"
    assert "the snapshot is written again" in caplog.text
    assert keeper.errors == 3
    monkeypatch.setattr(owner, where, failing(code))
    store.upsert(hello(3))
    await keeper.write()
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 2, "another failure is said again"


async def test_a_directory_that_is_gone_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "volume" / "table"
    keeper = keeper_of(path, hello())
    await keeper.write()
    assert keeper.errors == 1
    assert "the snapshot can't be written: No such file or directory" in caplog.text
    path.parent.mkdir()
    await keeper.write()
    assert names(path.parent) == ["table"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error_that_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system says it, in the midst of a file."""
    real = os.open

    def full(name: str, flags: int, mode: int = 0o777) -> int:
        os.close(real(name, flags, mode))
        return real("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="No space left") as error:
        write(path, [b"x" * 100_000])
    assert error.value.errno == errno.ENOSPC
    assert names(path.parent) == []


# ------------------------------------------------------------------------------------------- when it is written


class Written:
    """Stands for the file: notes when it was written. ``fails``: so many times it can't be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: int = 0) -> None:
        self.times: list[float] = []
        self.fails = fails
        monkeypatch.setattr(SnapshotKeeper, "_replace_file", self._write)

    async def _write(self, *_: object) -> None:
        self.times.append(now())
        if self.fails:
            self.fails -= 1
            raise OSError(errno.ENOSPC, "full")


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@in_virtual_time
async def test_it_is_written_once_in_an_interval_however_much_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(monkeypatch)
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, Path("x"), 60)
    sync(store)
    task = asyncio.create_task(keeper.run())
    for number in range(300):
        store.upsert(hello(number % 7))
        await asyncio.sleep(1)
    await asyncio.sleep(1_000)
    assert written.times == pytest.approx([0, 60, 120, 180, 240, 300], abs=0.1)
    store.upsert(hello(8))
    await asyncio.sleep(0.01)
    assert len(written.times) == 7, "after a quiet time at once"
    await stopped(task)


@in_virtual_time
async def test_the_first_table_is_written_as_soon_as_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its parts took: a registry that crashes in its first minute has its snapshot."""
    written = Written(monkeypatch)
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, Path("x"), 60)
    task = asyncio.create_task(keeper.run())
    for number, kind in enumerate(KINDS):
        await asyncio.sleep(10)
        store.replace(kind, [hello(number)] if kind is Kind.SERVER else [])
        store.synced(kind)
    await asyncio.sleep(50)
    assert written.times == pytest.approx([30], abs=1)
    await stopped(task)


@in_virtual_time
async def test_a_failed_writing_is_tried_again_each_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing changes any more."""
    written = Written(monkeypatch, fails=3)
    keeper = keeper_of(Path("x"), hello())
    task = asyncio.create_task(keeper.run())
    await asyncio.sleep(1_000)
    assert written.times == pytest.approx([0, 60, 120, 180], abs=0.1)
    assert keeper.errors == 3
    await stopped(task)


@in_virtual_time
async def test_a_writing_at_exit_has_what_changed_since_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(monkeypatch)
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, Path("x"), 60)
    sync(store)
    task = asyncio.create_task(keeper.run())
    await asyncio.sleep(10)
    store.upsert(hello())
    await asyncio.sleep(10)
    await stopped(task)
    assert written.times == pytest.approx([0], abs=0.1)
    await keeper.write()
    assert written.times == pytest.approx([0, 20], abs=0.1)


@pytest.mark.parametrize("turns", [1, 5, 30])
async def test_a_writing_that_was_cancelled_is_made_good_at_exit(turns: int, path: Path) -> None:
    """In the midst of encoding as of writing: two never write at a time, and the last change is in the file."""
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, path, 60)
    store.replace(Kind.SERVER, [server("A", f"S{number}") for number in range(1_000)])
    sync(store)
    task = asyncio.create_task(keeper.run())
    for _ in range(turns):
        await asyncio.sleep(0)
    await stopped(task)
    await keeper.write()
    found = load(path)
    assert found is not None
    assert len(found.objects[Kind.SERVER]) == 1_000
    assert names(path.parent) == ["table"]


async def test_a_slow_disk_never_has_two_writers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread goes on though the task that waits for it was cancelled, as at exit."""
    under_way, most, begun, go = 0, 0, threading.Event(), threading.Event()

    def slow(path: Path, lines: Sequence[bytes]) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        begun.set()
        assert go.wait(10)
        write(path, lines)
        under_way -= 1

    monkeypatch.setattr(snapshot, "write", slow)
    store = TableStore()
    keeper = SnapshotKeeper(store, DIRECTORY_PARTS, path, 60)
    store.upsert(hello(1))
    sync(store)
    task = asyncio.create_task(keeper.run())
    assert await asyncio.to_thread(begun.wait, 10)
    await stopped(task)
    store.upsert(hello(2))
    last = asyncio.create_task(keeper.write())
    await asyncio.sleep(0.05)
    go.set()
    await last
    assert most == 1
    found = load(path)
    assert found is not None
    assert found.objects[Kind.SERVER] == [hello(2)]


async def test_encoding_gives_way_to_others() -> None:
    """Between any 50 objects; and what is encoded is the table of one moment, however it changes meanwhile."""
    store = TableStore()
    store.replace(Kind.SERVER, [server("A", f"S{number}") for number in range(2_000)])
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            store.upsert(server("A", "S1999", pods=hello(turns % 2).pods))
            store.delete(Kind.SERVER, ("tars", f"a-s{turns}"))
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    lines = await encode(store.objects(), DIRECTORY_PARTS, 1.0)
    await stopped(task)
    assert turns >= 2_000 / 50
    found = snapshot._decode(b"".join(lines))
    assert sorted(item.name for item in found.objects[Kind.SERVER]) == sorted(f"a-s{n}" for n in range(2_000))
    assert not [item for item in found.objects[Kind.SERVER] if isinstance(item, Server) and item.pods]
