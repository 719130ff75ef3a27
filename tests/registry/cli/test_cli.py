"""The program as a whole: its commands, how it ends, and what ``serve`` refuses to start with."""

from __future__ import annotations

import argparse
import errno
import gc
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import __version__, config
from registry.cli import main, parser, version
from registry.cli.errors import CommandError

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings from the environment; the root logger put back as it was."""
    for name in list(os.environ):
        if name.startswith(config.ENVIRONMENT_PREFIX) or name == "KUBERNETES_SERVICE_HOST":
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def failed(capsys: Capture, *arguments: str) -> str:
    """Run a command that must end with status 2 and one line; that line, without whose it is."""
    assert main(arguments) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert len(found.err.splitlines()) == 1, found.err
    start = f"tars-registry {arguments[0]}: "
    assert found.err.startswith(start)
    return found.err.removeprefix(start).rstrip("\n")


# -- the program -------------------------------------------------------------------------------------------------------


def test_the_version_is_printed(capsys: Capture) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"tars-registry {__version__} (Python 3.")
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == __version__


@pytest.mark.parametrize("arguments", [[], ["nope"], ["serve", "--nope"], ["version", "more"], ["serv"], ["--version"]])
def test_what_is_no_command_ends_in_status_two(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: tars-registry" in capsys.readouterr().err


def test_no_option_can_be_shortened(capsys: Capture) -> None:
    """A new option must not change what an old command line means."""
    with pytest.raises(SystemExit):
        main(["serve", "--manifest", "x"])
    assert "unrecognized arguments: --manifest" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "resolve", "compare", "decode", "version"])
def test_every_command_has_help(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: tars-registry {command}" in capsys.readouterr().out


def test_the_help_of_serve_tells_of_every_setting() -> None:
    commands = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    text = " ".join(commands.choices["serve"].format_help().split())
    for item in config.settings():
        assert f"{item.option} {item.placeholder}" in text
        default = f"{item.shown_default} {item.unit}".strip()
        assert f"(default: {default})" in text


def end_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def run(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(version, "run", run)
    return main(["version"])


def test_an_interrupt_is_no_trace(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert end_with(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_has_seen_enough_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `tars-registry decode big | head -1`."""

    class Closed:
        def close(self) -> None:
            pass

    monkeypatch.setattr(sys, "stderr", Closed())
    assert end_with(monkeypatch, BrokenPipeError(errno.EPIPE, "Broken pipe")) == 2


def test_what_a_command_can_not_do_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert end_with(monkeypatch, CommandError("no such thing")) == 2
    assert capsys.readouterr().err == "tars-registry version: no such thing\n"


# -- serve, as far as it gets without serving --------------------------------------------------------------------------


def test_serve_tells_a_bad_option_and_where_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    assert failed(capsys, "serve", "--max-values", "many").startswith("--max-values: 'many': expected a whole number")
    monkeypatch.setenv("TARS_REGISTRY_MAX_VALUES", "some")
    assert failed(capsys, "serve").startswith("TARS_REGISTRY_MAX_VALUES: 'some': ")
    monkeypatch.delenv("TARS_REGISTRY_MAX_VALUES")
    file = tmp_path / "c.yaml"
    file.write_text("max_values: few\n")
    assert failed(capsys, "serve", "--config", str(file)).startswith(f"{file}: max_values: 'few': ")
    monkeypatch.setenv("TARS_REGISTRY_CONFIG", str(file))
    assert failed(capsys, "serve").startswith(f"{file}: max_values: 'few': ")
    assert failed(capsys, "serve", "--config", "none").startswith("--config none: No such file")


@pytest.mark.parametrize("value", ["-1", "--max-frames", ""])
def test_a_value_may_look_like_an_option(value: str, capsys: Capture) -> None:
    assert failed(capsys, "serve", f"--max-values={value}").startswith(f"--max-values: '{value}': ")


def test_serve_needs_a_directory(tmp_path: Path, capsys: Capture) -> None:
    assert failed(capsys, "serve") == "no directory to read; name one with --manifests DIR"
    assert failed(capsys, "serve", "--manifests", str(tmp_path / "none")).startswith(
        f"{tmp_path}/none: no such directory"
    )
    (tmp_path / "file").write_text("")
    assert failed(capsys, "serve", "--manifests", str(tmp_path / "file")).startswith(
        f"{tmp_path}/file: not a directory"
    )


# The sockets that were bound before are left to the end of the process.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("option", ["--query-listen", "--registry-listen", "--admin-listen", "--metrics-listen"])
def test_an_address_that_is_taken_is_named_with_its_option(option: str, tmp_path: Path, capsys: Capture) -> None:
    free = [f"{name}=127.0.0.1:0" for name in ("--query-listen", "--registry-listen", "--admin-listen")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = failed(capsys, "serve", "--manifests", str(tmp_path), *free, option, address)
        gc.collect()
    assert text.startswith(f"{address} is in use by another program; choose another address with {option} HOST:PORT")


def test_an_address_that_is_not_of_this_machine_is_told(tmp_path: Path, capsys: Capture) -> None:
    for host in ("192.0.2.1", "a..b", "x" * 70):
        text = failed(capsys, "serve", "--manifests", str(tmp_path), "--query-listen", f"{host}:17890")
        assert host in text
