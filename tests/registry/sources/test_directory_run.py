"""A directory of manifests while it is followed: events, rescans, a directory that goes and comes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watchfiles import awatch

from registry.model import Kind, Object, ObjectKey, SourceStatus, Template
from registry.sources.directory import DirectorySettings, DirectorySource
from registry.sources.files import look

V = "k8s.tars.io/v1beta3"
AWATCH = "registry.sources.directory.awatch"
NEVER = 3600.0
"""A rescan that no test waits for: what is seen was told by an event."""


def template(name: str, content: str = "x") -> str:
    return f"---\napiVersion: {V}\nkind: TTemplate\nmetadata: {{name: {name}}}\nspec: {{content: '{content}'}}\n"


def make(root: Path, **contents: str) -> None:
    """A directory with a file for each template."""
    root.mkdir()
    for name, content in contents.items():
        (root / f"{name}.yaml").write_text(template(name, content))


def move(path: Path, to: Path) -> None:
    path.rename(to)


class Status(SourceStatus):
    """Tells when something in it is set."""

    changed: asyncio.Event | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if self.changed is not None and name != "changed":
            self.changed.set()


class Following:
    """A source that runs; its sink keeps the templates by name."""

    def __init__(self, path: Path, rescan_interval: float = NEVER) -> None:
        self.contents: dict[str, str] = {}
        self.passes = 0
        self.status = Status("test")
        self.status.changed = self._changed = asyncio.Event()
        self.source = DirectorySource(path, self, DirectorySettings(rescan_interval=rescan_interval), self.status)
        self._task: asyncio.Task[None] | None = None

    def replace(self, kind: Kind, objects: Iterable[Object], namespace: str = "") -> None:
        if kind is Kind.TEMPLATE:
            self.contents = {item.name: item.content for item in objects if isinstance(item, Template)}

    def replacing(self, kind: Kind, objects: Iterable[Object], namespace: str = "") -> Iterator[None]:
        self.replace(kind, objects, namespace)
        yield

    def upsert(self, item: Object) -> None:
        assert isinstance(item, Template)
        self.contents[item.name] = item.content

    def delete(self, _: Kind, key: ObjectKey) -> None:
        self.contents.pop(key[1], None)

    def synced(self, kind: Kind, namespace: str = "") -> None:
        pass

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[Following]:
        self._task = asyncio.create_task(self.source.run())
        self._task.add_done_callback(lambda _: self._changed.set())
        try:
            await self.until(lambda: self.status.last_success is not None)
            yield self
        finally:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so."""
        assert self._task is not None
        async with asyncio.timeout(30):
            while not reached():
                if self._task.done():
                    self._task.result()
                self._changed.clear()
                await self._changed.wait()

    async def until_contents(self, **contents: str) -> None:
        await self.until(lambda: self.contents == contents)

    async def until_next_pass(self) -> None:
        last = self.status.last_success
        await self.until(lambda: self.status.last_success != last)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "manifests"
    make(path, a="x")
    return path


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that sends no events."""

    async def silent(*_: object, **__: object) -> AsyncIterator[set[Any]]:
        await asyncio.Event().wait()
        yield set()

    monkeypatch.setattr(AWATCH, silent)


async def test_new_changed_and_deleted_files_are_seen_by_events(root: Path) -> None:
    async with Following(root).run() as following:
        assert following.contents == {"a": "x"}
        (root / "b.yaml").write_text(template("b"))
        await following.until_contents(a="x", b="x")
        (root / "a.yaml").write_text(template("a", "other"))
        await following.until_contents(a="other", b="x")
        (root / "b.yaml").unlink()
        await following.until_contents(a="other")
        (root / "new").write_text(template("a", "renamed"))
        (root / "new").rename(root / "a.yaml")
        await following.until_contents(a="renamed")


async def test_new_folders_are_watched_too(root: Path) -> None:
    async with Following(root).run() as following:
        (root / "sub").mkdir()
        (root / "sub" / "b.yaml").write_text(template("b"))
        await following.until_contents(a="x", b="x")
        (root / "sub" / "b.yaml").write_text(template("b", "other"))
        await following.until_contents(a="x", b="other")
        shutil.rmtree(root / "sub")
        await following.until_contents(a="x")


async def test_a_relative_path_is_followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    async with Following(Path("manifests")).run() as following:
        (root / "a.yaml").write_text("- 1\n")
        await following.until(lambda: bool(following.status.problems))
        assert following.status.problems[0].where == "manifests/a.yaml:1"


async def test_a_mounted_configmap_is_followed(tmp_path: Path) -> None:
    """The kubelet puts the files into a hidden folder and swaps a link to it; what is seen are links through that."""
    root = tmp_path / "mount"

    def put(version: str, **contents: str) -> None:
        folder = root / f"..{version}"
        (folder / "sub").mkdir(parents=True)
        for name, content in contents.items():
            (folder / f"{name}.yaml").write_text(template(name, content))
        (folder / "sub" / "s.yaml").write_text(template("s", version))
        (root / "..data_tmp").symlink_to(folder.name)
        (root / "..data_tmp").rename(root / "..data")
        for name in contents:
            if not (root / f"{name}.yaml").is_symlink():
                (root / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")

    put("v1", a="1", b="1")
    (root / "sub").symlink_to("..data/sub")
    async with Following(root).run() as following:
        assert following.contents == {"a": "1", "b": "1", "s": "v1"}
        put("v2", a="2", b="2", c="2")
        shutil.rmtree(root / "..v1")
        await following.until_contents(a="2", b="2", c="2", s="v2")
        put("v3", a="3", b="3", c="3")
        await following.until_contents(a="3", b="3", c="3", s="v3")
        assert following.status.errors == {}


async def test_a_broken_file_is_mended_with_its_next_event(root: Path) -> None:
    async with Following(root).run() as following:
        (root / "a.yaml").write_text("kind: [")
        await following.until(lambda: bool(following.status.problems))
        assert following.contents == {"a": "x"}
        (root / "a.yaml").write_text(template("a", "mended"))
        await following.until_contents(a="mended")
        await following.until(lambda: not following.status.problems)
        assert following.status.errors == {"syntax": 1}


@pytest.mark.usefixtures("unwatched")
async def test_without_events_the_rescan_finds_changes(root: Path) -> None:
    async with Following(root, rescan_interval=0.01).run() as following:
        (root / "b.yaml").write_text(template("b"))
        await following.until_contents(a="x", b="x")
        (root / "a.yaml").unlink()
        await following.until_contents(b="x")


@pytest.mark.usefixtures("unwatched")
async def test_rescans_log_and_count_a_problem_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "a.yaml").write_text("- 1\n")
    async with Following(root, rescan_interval=0.01).run() as following:
        for _ in range(5):
            await following.until_next_pass()
        assert following.status.errors == {"syntax": 1}
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


async def test_a_directory_that_is_deleted_and_made_again_is_followed_again(root: Path) -> None:
    async with Following(root).run() as following:
        shutil.rmtree(root)
        await following.until(lambda: following.status.state == "failing")
        assert following.contents == {"a": "x"}
        make(root, b="x")
        await following.until(lambda: following.status.state == "watching")
        await following.until_contents(b="x")
        assert following.status.problems == ()
        # Events come again as well.
        (root / "b.yaml").write_text(template("b", "other"))
        await following.until_contents(b="other")


async def test_a_directory_that_is_made_again_at_once_is_followed(root: Path) -> None:
    """Between two looks, perhaps even with the same inode."""
    async with Following(root).run() as following:
        for content in "123":
            shutil.rmtree(root)
            make(root, a=content)
            await following.until_contents(a=content)
            (root / "a.yaml").write_text(template("a", "after"))
            await following.until_contents(a="after")


async def test_a_directory_that_another_takes_the_place_of_is_found_by_the_rescan(root: Path) -> None:
    other = root.with_name("other")
    make(other, b="x")
    async with Following(root, rescan_interval=0.05).run() as following:
        move(root, root.with_name("old"))
        move(other, root)
        await following.until_contents(b="x")
        (root / "b.yaml").write_text(template("b", "other"))
        await following.until_contents(b="other")


async def test_a_directory_may_come_later(tmp_path: Path) -> None:
    following = Following(tmp_path / "late", rescan_interval=0.01)
    task = asyncio.create_task(following.source.run())
    following._task = task
    await following.until(lambda: following.status.state == "failing")
    assert not following.status.synced
    (tmp_path / "late").mkdir()
    await following.until(lambda: following.status.synced)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_watch_that_can_not_be_had_leaves_the_rescans(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object, **__: object) -> AsyncIterator[set[Any]]:
        raise OSError("OS file watch limit reached.")

    monkeypatch.setattr(AWATCH, refused)
    async with Following(root, rescan_interval=0.01).run() as following:
        await following.until(lambda: bool(following.status.problems))
        (root / "b.yaml").write_text(template("b"))
        await following.until_contents(a="x", b="x")
        assert following.status.state == "watching"
        assert [str(problem) for problem in following.status.problems] == [
            f"{root}: changes are not told: OS file watch limit reached.; looking every 0.01 s"
        ]
        await following.until_next_pass()
        monkeypatch.setattr(AWATCH, awatch)
        await following.until(lambda: not following.status.problems)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


async def test_a_watch_that_breaks_down_is_logged_and_started_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> AsyncIterator[set[Any]]:
        monkeypatch.setattr(AWATCH, awatch)
        raise ValueError("a bug")

    monkeypatch.setattr(AWATCH, broken)
    async with Following(root, rescan_interval=0.01).run() as following:
        await following.until_next_pass()
        await following.until_next_pass()
    assert "the watch of a directory ended: ValueError('a bug')" in caplog.messages


async def test_it_ends_at_once_when_cancelled_and_can_run_again(root: Path) -> None:
    following = Following(root)
    async with asyncio.timeout(30):
        async with following.run():
            pass
        (root / "b.yaml").write_text(template("b"))
        async with following.run():
            await following.until_contents(a="x", b="x")


async def test_the_loop_stays_free_while_files_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe in the place of a file that takes long to read: the loop goes on until it is written."""
    reading = asyncio.Event()
    loop = asyncio.get_running_loop()
    receiver, sender = os.pipe()

    def slow(*args: Any) -> Any:
        loop.call_soon_threadsafe(reading.set)
        os.read(receiver, 1)
        return look(*args)

    monkeypatch.setattr("registry.sources.directory.look", slow)
    following = Following(root)
    task = asyncio.create_task(following.source.run())
    following._task = task
    async with asyncio.timeout(30):
        await reading.wait()
        assert not following.status.synced
        os.write(sender, b"x")
        await following.until(lambda: following.status.synced)
    task.cancel()
    await asyncio.wait([task])
    os.close(receiver)
    os.close(sender)
