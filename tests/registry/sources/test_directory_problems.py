"""A directory of manifests as the source: what can't be taken is reported, and what was good stays."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from registry.model import Kind
from registry.sources.directory import LOGGED_AT_ONCE, DirectorySettings, DirectorySource
from tests.registry.sources.directory_support import (
    Recorder,
    reasons,
    template,
    warnings,
    wrong_template,
)

# ------------------------------------------------------------------------------------------- what is broken


@pytest.mark.parametrize(
    ("data", "line", "part"),
    [
        (b"kind: [\n", 2, "no YAML"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        (b"a: 1\na: 2\n", 2, "stands twice"),
        (b"\n- 1\n", 2, "expected a mapping"),
        (b"apiVersi", 1, "expected a mapping"),
    ],
)
async def test_a_broken_file_keeps_its_last_good_content(
    root: Path, sink: Recorder, source: DirectorySource, data: bytes, line: int, part: str
) -> None:
    (root / "a.yaml").write_text(template("a"))
    (root / "b.yaml").write_text(template("b"))
    await source.scan()
    sink.new_calls()
    (root / "a.yaml").write_bytes(data)
    await source.scan()
    assert sink.new_calls() == []
    (problem,) = source.status.problems
    assert problem.where == f"{root}/a.yaml:{line}"
    assert part in problem.reason
    assert problem.reason.endswith("; its last good content stays")
    assert source.status.errors == {"syntax": 1}
    assert source.status.state == "watching"

    (root / "a.yaml").write_text(template("a", "mended"))
    await source.scan()
    assert sink.contents == {"a": "mended", "b": "x"}
    assert source.status.problems == ()
    assert source.status.errors == {"syntax": 1}


async def test_a_file_that_was_never_good_holds_nothing(root: Path, sink: Recorder, source: DirectorySource) -> None:
    (root / "a.json").write_text('{"a": }')
    (root / "b.yaml").write_text(template("b"))
    await source.scan()
    assert sink.contents == {"b": "x"}
    assert reasons(source) == [f"{root}/a.json:1: no JSON: Expecting value"]
    assert source.status.synced


async def test_an_empty_file_holds_no_objects(root: Path, sink: Recorder, source: DirectorySource) -> None:
    (root / "a.yaml").write_text(template("a"))
    await source.scan()
    (root / "a.yaml").write_text("")
    await source.scan()
    assert (sink.contents, reasons(source)) == ({}, [])


async def test_a_half_written_file_changes_nothing_until_it_is_whole(
    root: Path, sink: Recorder, source: DirectorySource
) -> None:
    """An editor that truncates and writes, seen in the middle of it."""
    whole = template("a", "one two") + template("b")
    (root / "a.yaml").write_text(whole)
    await source.scan()
    (root / "a.yaml").write_text(whole[: whole.index("two")])
    await source.scan()
    assert sink.contents == {"a": "one two", "b": "x"}
    (root / "a.yaml").write_text(whole + template("c"))
    await source.scan()
    assert sink.contents == {"a": "one two", "b": "x", "c": "x"}


async def test_a_problem_is_logged_and_counted_once_for_a_content(
    root: Path, source: DirectorySource, caplog: pytest.LogCaptureFixture
) -> None:
    broken = root / "a.yaml"
    broken.write_text("- 1\n")
    for _ in range(3):
        await source.scan()
        broken.touch()
    assert warnings(caplog) == [f"{broken}:1: expected a mapping: the fields of an object"]
    broken.write_text("- 2\n")
    await source.scan()
    assert len(warnings(caplog)) == 2, "another content, though the same is wrong with it"
    (root / "b.yaml").write_text(template("b"))
    await source.scan()
    assert len(warnings(caplog)) == 2, "another file changed"
    assert source.status.errors == {"syntax": 2}
    caplog.set_level(logging.INFO)
    broken.write_text("")
    await source.scan()
    assert f"{broken}: mended" in caplog.messages


async def test_many_problems_are_not_all_logged(
    root: Path, source: DirectorySource, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "a.yaml").write_text("".join(wrong_template(f"t{number}") for number in range(LOGGED_AT_ONCE + 5)))
    await source.scan()
    assert len(source.status.problems) == LOGGED_AT_ONCE + 5
    assert source.status.errors == {"object": LOGGED_AT_ONCE + 5}
    assert len(warnings(caplog)) == LOGGED_AT_ONCE + 1
    assert warnings(caplog)[-1] == f"{root}: and 5 more problems"


async def test_a_wrong_value_drops_that_one_object(root: Path, sink: Recorder, source: DirectorySource) -> None:
    path = root / "a.yaml"
    path.write_text(template("a") + template("b") + template("c"))
    await source.scan()
    path.write_text(template("a") + wrong_template("b") + template("c", "new"))
    await source.scan()
    assert sink.contents == {"a": "x", "c": "new"}
    assert reasons(source) == [f"{path}:10: TTemplate default/b: spec.content: expected text, got 5; put it in quotes"]
    assert source.status.errors == {"object": 1}


async def test_an_unknown_version_is_reported(root: Path, sink: Recorder, source: DirectorySource) -> None:
    (root / "a.yaml").write_text(template("a").replace("v1beta3", "v2"))
    await source.scan()
    assert sink.contents == {}
    (text,) = reasons(source)
    assert text.startswith(f"{root}/a.yaml:2: TTemplate default/a: apiVersion: expected k8s.tars.io/v1beta3 (or ")
    assert source.status.errors == {"api_version": 1}


async def test_other_kinds_are_ignored(root: Path, source: DirectorySource, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (root / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\n---\nno: manifest\n")
    await source.scan()
    assert (reasons(source), warnings(caplog)) == ([], [])
    assert "not used: ConfigMap default/cm" in caplog.messages


async def test_of_two_definitions_the_first_stands(root: Path, sink: Recorder, source: DirectorySource) -> None:
    (root / "b.yaml").write_text(template("a", "second") + template("b"))
    (root / "a.yaml").write_text(template("z") + template("a", "first"))
    (root / "c.yaml").write_text(template("a", "third"))
    await source.scan()
    assert sink.contents == {"a": "first", "b": "x", "z": "x"}
    taken = f"TTemplate default/a is defined in {root}/a.yaml:7 already; this one is not taken"
    assert reasons(source) == [f"{root}/b.yaml:2: {taken}", f"{root}/c.yaml:2: {taken}"]
    assert source.status.errors == {"duplicate": 2}

    (root / "a.yaml").unlink()
    await source.scan()
    assert sink.contents == {"a": "second", "b": "x"}
    assert reasons(source) == [f"{root}/c.yaml:2: {taken.replace('a.yaml:7', 'b.yaml:2')}"]


async def test_one_name_in_two_namespaces_or_kinds_is_no_duplicate(
    root: Path, sink: Recorder, source: DirectorySource
) -> None:
    other = template("a").replace("{name: a}", "{name: a, namespace: other}")
    (root / "a.yaml").write_text(template("a") + other + template("a").replace("TTemplate", "TEndpoint"))
    await source.scan()
    assert reasons(source) == []
    assert len(sink.objects[Kind.TEMPLATE]) == 2
    assert len(sink.objects[Kind.SERVER]) == 1


async def test_an_alias_bomb_is_a_broken_file(root: Path, source: DirectorySource) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 30)]
    (root / "a.yaml").write_text("\n".join(lines))
    await source.scan()
    (text,) = reasons(source)
    assert "the aliases stand for more than" in text


# ------------------------------------------------------------------------------------------ what is unreadable


async def test_a_link_that_leads_nowhere_keeps_what_was_there(
    root: Path, tmp_path: Path, sink: Recorder, source: DirectorySource, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "target"
    target.write_text(template("a"))
    (root / "a.yaml").symlink_to(target)
    (root / "circle.yaml").symlink_to("circle.yaml")
    await source.scan()
    assert sink.contents == {"a": "x"}
    target.unlink()
    await source.scan()
    await source.scan()
    assert sink.contents == {"a": "x"}
    assert reasons(source)[0] == f"{root}/a.yaml: the link leads nowhere; its last good content stays"
    assert reasons(source)[1].startswith(f"{root}/circle.yaml: can't be read: ")
    assert source.status.errors == {"unreadable": 2}
    assert len(warnings(caplog)) == 2
    target.write_text(template("a", "again"))
    await source.scan()
    assert sink.contents == {"a": "again"}


async def test_a_file_that_may_not_be_read_keeps_what_was_there(
    root: Path, sink: Recorder, source: DirectorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.yaml").write_text(template("a"))
    await source.scan()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (root / "a.yaml").write_text(template("a", "new"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        await source.scan()
    assert sink.contents == {"a": "x"}
    assert reasons(source) == [f"{root}/a.yaml: can't be read: Permission denied; its last good content stays"]
    await source.scan()
    assert sink.contents == {"a": "new"}
    assert source.status.errors == {"unreadable": 1}


async def test_a_folder_that_may_not_be_listed_keeps_what_was_in_it(
    root: Path, sink: Recorder, source: DirectorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "sub" / "deep" / "a.yaml").write_text(template("a"))
    await source.scan()
    scandir = os.scandir

    def refuse(path: Path) -> Any:
        if path.name == "sub":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        (root / "b.yaml").write_text(template("b"))
        await source.scan()
        await source.scan()
    assert sink.contents == {"a": "x", "b": "x"}
    assert reasons(source) == [f"{root}/sub: this folder can't be listed: Permission denied"]
    assert source.status.errors == {"unreadable": 1}
    await source.scan()
    assert reasons(source) == []
    assert sink.contents == {"a": "x", "b": "x"}


async def test_a_file_longer_than_the_limit_is_not_taken(root: Path, sink: Recorder) -> None:
    settings = DirectorySettings(max_file_bytes=len(template("a")))
    source = DirectorySource(root, sink, settings)
    (root / "a.yaml").write_text(template("a"))
    (root / "b.yaml").write_text(template("b", "xx"))
    await source.scan()
    assert sink.contents == {"a": "x"}
    assert reasons(source) == [f"{root}/b.yaml: longer than max_file_bytes, {settings.max_file_bytes} bytes"]


async def test_what_is_no_file_is_not_opened(root: Path, source: DirectorySource) -> None:
    """A pipe would keep its reader waiting for ever."""
    os.mkfifo(root / "a.yaml")
    (root / "folder.yaml").mkdir()
    await source.scan()
    assert reasons(source) == [f"{root}/a.yaml: not a file"]
