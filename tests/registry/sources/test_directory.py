"""A directory of manifests as the source: what is handed over; one pass at a time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from registry.model import CUSTOM_RESOURCES, Framework, Kind, Server, SourceStatus
from registry.sources.base import SourceError
from registry.sources.directory import SINGLY, DirectorySource
from registry.sources.manifests import parse
from registry.table import TableStore
from tests.registry.sources.directory_support import (
    Recorder,
    V,
    make,
    move,
    reasons,
    settle,
    template,
    warnings,
)

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "manifests"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is parsed."""
    calls: list[bytes] = []

    def recorded(data: bytes, *, is_json: bool) -> Any:
        calls.append(data)
        return parse(data, is_json=is_json)

    monkeypatch.setattr("registry.sources.files.parse", recorded)
    return calls


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are read."""
    calls: list[str] = []
    path_open = Path.open

    def recorded(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode == "rb":
            calls.append(path.name)
        return path_open(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", recorded)
    return calls


# ---------------------------------------------------------------------------------------------- first pass


async def test_the_first_pass_hands_over_all_and_then_says_so(
    root: Path, sink: Recorder, source: DirectorySource
) -> None:
    (root / "a.yaml").write_text(template("a"))
    assert (source.status.state, source.status.synced, source.status.last_success) == ("starting", False, None)
    before = time.monotonic()
    await source.scan()
    assert sink.calls == [("replace", kind) for kind in CUSTOM_RESOURCES] + [
        ("synced", kind) for kind in CUSTOM_RESOURCES
    ]
    assert sink.contents == {"a": "x"}
    status = source.status
    assert (status.name, status.state, status.synced, status.problems, status.errors) == (
        "directory",
        "watching",
        True,
        (),
        {},
    )
    assert status.last_success is not None
    assert before <= status.last_success <= time.monotonic()
    assert status.last_change is not None


async def test_an_empty_directory_is_synchronised(sink: Recorder, source: DirectorySource) -> None:
    await source.scan()
    assert [call for call, _ in sink.calls] == ["replace"] * 3 + ["synced"] * 3
    assert source.status.synced


async def test_a_status_may_be_given(root: Path, sink: Recorder) -> None:
    status = SourceStatus("mine")
    await DirectorySource(root, sink, status=status).scan()
    assert status.synced


async def test_the_examples_are_whole_and_fill_the_table() -> None:
    table = TableStore()
    source = DirectorySource(EXAMPLES, table)
    source.check()
    await source.scan()
    assert source.status.problems == ()
    assert table.table.synced
    (hello,) = table.table.find("Test", "HelloServer")
    assert (hello.name, [servant.name for servant in hello.servants]) == ("test-helloserver", ["HelloObj", "AdminObj"])
    assert [pod.active for pod in hello.pods] == [True, True, False]
    assert table.table.find("Shop", "OrderServer")
    (front,) = table.table.find("Shop", "WebFront")
    assert (front.sub_type, front.servants) == ("normal", ())
    assert table.table.templates["tars", "tars.default"].parent == "tars.default"
    assert table.table.templates["tars", "tars.cpp"].parent == "tars.default"
    assert list(table.table.up_chain) == ["Legacy.UserServer.UserObj"]


async def test_all_kinds_of_all_files_below_are_taken(root: Path, sink: Recorder, source: DirectorySource) -> None:
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.yaml").write_text(template("a") + template("b"))
    (root / "deep" / "s.yml").write_text(f"apiVersion: {V}\nkind: TEndpoint\nmetadata: {{name: s, namespace: ns}}\n")
    (root / "deep" / "er" / "f.json").write_text(
        f'{{"apiVersion": "{V}", "kind": "TFrameworkConfig", "metadata": {{"name": "tars-framework"}}}}'
    )
    await source.scan()
    assert sorted(sink.contents) == ["a", "b"]
    assert sink.objects[Kind.SERVER] == {("ns", "s"): Server("ns", "s")}
    assert sink.objects[Kind.FRAMEWORK] == {("default", "tars-framework"): Framework("default", "tars-framework")}


async def test_hidden_and_other_files_are_not_read(root: Path, sink: Recorder, source: DirectorySource) -> None:
    (root / ".hidden").mkdir()
    for name in (".a.yaml", ".hidden/a.yaml", "a.yaml~", "a.txt", "a.yaml.swp", "yaml"):
        (root / name).write_text(template("a"))
    await source.scan()
    assert sink.contents == {}


async def test_links_in_a_circle_are_followed_once(root: Path, sink: Recorder, source: DirectorySource) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "up").symlink_to(root)
    (root / "sub" / "self").symlink_to("self")
    (root / "sub" / "a.yaml").write_text(template("a"))
    await source.scan()
    assert (sink.contents, reasons(source)) == ({"a": "x"}, [])


async def test_a_name_that_is_no_utf_8_can_be_reported(root: Path, source: DirectorySource) -> None:
    make(root / os.fsdecode(b"\xff.yaml"), "- 1\n")
    await source.scan()
    assert reasons(source) == [f"{root}/?.yaml:1: expected a mapping: the fields of an object"]


# -------------------------------------------------------------------------------------------- later passes


async def test_only_what_changed_is_handed_over(root: Path, sink: Recorder, source: DirectorySource) -> None:
    for name in "abc":
        (root / f"{name}.yaml").write_text(template(name))
    await source.scan()
    first_change = source.status.last_change
    sink.new_calls()

    await source.scan()
    assert sink.new_calls() == []
    assert source.status.last_change == first_change

    (root / "a.yaml").unlink()
    (root / "b.yaml").write_text(template("b", "other"))
    (root / "d.yaml").write_text(template("d"))
    await source.scan()
    # New ones first, so that nothing is missing in between.
    assert sink.new_calls() == [("upsert", "b"), ("upsert", "d"), ("delete", "a")]
    assert sink.contents == {"b": "other", "c": "x", "d": "x"}
    assert first_change is not None
    assert source.status.last_change is not None
    assert source.status.last_change > first_change


async def test_an_object_that_moves_to_another_file_is_no_change(
    root: Path, sink: Recorder, source: DirectorySource
) -> None:
    (root / "a.yaml").write_text(template("a"))
    await source.scan()
    sink.new_calls()
    (root / "a.yaml").rename(root / "b.yaml")
    (root / "b.yaml").write_text("# moved\n" + template("a"))
    await source.scan()
    assert sink.new_calls() == []


async def test_many_changes_are_handed_over_as_a_whole(root: Path, sink: Recorder, source: DirectorySource) -> None:
    await source.scan()
    sink.new_calls()
    (root / "a.yaml").write_text("".join(template(f"t{number}") for number in range(SINGLY + 1)))
    await source.scan()
    assert sink.new_calls() == [("replace", Kind.TEMPLATE)]
    (root / "a.yaml").unlink()
    await source.scan()
    assert sink.new_calls() == [("replace", Kind.TEMPLATE)]
    assert sink.contents == {}


async def test_files_that_did_not_change_are_not_read(
    root: Path, source: DirectorySource, opened: list[str], parsed: list[bytes]
) -> None:
    (root / "a.yaml").write_text(template("a"))
    (root / "b.yaml").write_text("broken: [")
    settle(root)
    await source.scan()
    assert (opened, len(parsed)) == (["a.yaml", "b.yaml"], 2)
    await source.scan()
    assert len(opened) == 2
    (root / "a.yaml").touch()
    await source.scan()
    assert opened == ["a.yaml", "b.yaml", "a.yaml"]
    assert len(parsed) == 2, "its content is the same"


async def test_a_change_within_one_tick_of_the_clock_is_seen(
    root: Path, sink: Recorder, source: DirectorySource
) -> None:
    """Two writes of the same size can leave the same time stamp."""
    path = root / "a.yaml"
    path.write_text(template("a", "1"))
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    await source.scan()
    path.write_text(template("a", "2"))
    os.utime(path, ns=(now, now))
    await source.scan()
    assert sink.contents == {"a": "2"}


async def test_a_file_that_goes_while_it_is_looked_at_is_gone(
    root: Path, sink: Recorder, source: DirectorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.yaml").write_text(template("a"))
    await source.scan()

    def deleted_before(path: Path, *_: object) -> None:
        path.unlink()
        raise FileNotFoundError

    monkeypatch.setattr(Path, "open", deleted_before)
    await source.scan()
    assert (sink.contents, reasons(source)) == ({}, [])


async def test_a_folder_that_goes_while_it_is_looked_at_is_gone(
    root: Path, sink: Recorder, source: DirectorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "a.yaml").write_text(template("a"))
    await source.scan()
    scandir = os.scandir

    def deleted_before(path: Path) -> Any:
        if path.name == "sub":
            raise FileNotFoundError
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deleted_before)
    await source.scan()
    assert (sink.contents, reasons(source)) == ({}, [])


async def test_two_thousand_files_are_read_once(
    root: Path, sink: Recorder, source: DirectorySource, opened: list[str], parsed: list[bytes]
) -> None:
    for number in range(2000):
        (root / f"{number}.yaml").write_text(template(f"t{number}"))
    settle(root)
    started = time.monotonic()
    await source.scan()
    await source.scan()
    (root / "7.yaml").write_text(template("t7", "new"))
    await source.scan()
    assert len(opened) == len(parsed) == 2001
    assert len(sink.contents) == 2000
    assert sink.contents["t7"] == "new"
    assert time.monotonic() - started < 30, "takes about 0.5 s"


# --------------------------------------------------------------------------------------- the directory itself


def test_a_missing_directory_is_refused(root: Path, sink: Recorder) -> None:
    with pytest.raises(SourceError) as caught:
        DirectorySource(root / "no", sink).check()
    assert str(caught.value) == f"{root}/no: no such directory; create it or name another with --manifests"


def test_a_file_is_refused_as_a_directory(root: Path, sink: Recorder) -> None:
    (root / "a.yaml").touch()
    with pytest.raises(SourceError, match=r"a\.yaml: not a directory; name the one that holds the manifests"):
        DirectorySource(root / "a.yaml", sink).check()


def test_a_directory_that_may_not_be_read_is_refused(source: DirectorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    source.check()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match="can't be read: Permission denied; give this user the right to"):
        source.check()


async def test_a_directory_that_is_not_there_is_no_empty_one(tmp_path: Path, sink: Recorder) -> None:
    source = DirectorySource(tmp_path / "late", sink)
    await source.scan()
    assert (source.status.state, source.status.synced, sink.calls) == ("failing", False, [])
    (tmp_path / "late").mkdir()
    await source.scan()
    assert (source.status.state, source.status.synced) == ("watching", True)


async def test_a_directory_that_goes_away_is_reported_once_and_all_of_it_stays(
    root: Path, sink: Recorder, source: DirectorySource, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "a.yaml").write_text(template("a") + "\n---\n- 1\n")
    (root / "b.yaml").write_text(template("b"))
    await source.scan()
    success = source.status.last_success
    moved = root.with_name("moved")
    move(root, moved)
    caplog.clear()
    await source.scan()
    await source.scan()
    gone = f"{root}: no such directory; what was read from it stays until it is there again"
    assert reasons(source)[0] == gone
    assert len(reasons(source)) == 2, "what else is wrong is still told"
    assert warnings(caplog) == [gone]
    assert source.status.errors == {"syntax": 1, "unreadable": 1}
    assert (source.status.state, source.status.synced, source.status.last_success) == ("failing", True, success)
    assert sink.contents == {"b": "x"}

    make(root, "a file")
    await source.scan()
    assert reasons(source)[0].startswith(f"{root}: can't be read: Not a directory; ")
    move(root, root.with_name("file"))
    move(moved, root)
    await source.scan()
    assert (source.status.state, len(source.status.problems)) == ("watching", 1)
