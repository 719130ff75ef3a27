"""Settings: which value stands, what is refused and how that is told, and the page about them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from registry import config
from registry.config import Config, ConfigError, ListenAddress, Setting, SourceKind
from registry.routing.hosts import EndpointHost

SETTINGS = list(config.settings())
BY_NAME = {item.name: item for item in SETTINGS}

every_setting = pytest.mark.parametrize("item", SETTINGS, ids=lambda item: item.name)


def load(
    options: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    return config.load(options or {}, environment or {}, file)


def value_of(loaded: Config, item: Setting) -> Any:
    return getattr(getattr(loaded, item.part), item.name)


def refused(
    options: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> str:
    """The error, which must be one line."""
    with pytest.raises(ConfigError) as caught:
        load(options, environment, file)
    text = str(caught.value)
    assert text == text.strip()
    assert len(text.splitlines()) == 1, text
    return text


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def three_values(item: Setting) -> list[str]:
    """Three texts for three values, none of them the default."""
    kind = item.kind
    if issubclass(kind, StrEnum):
        others = [str(member) for member in kind if member != item.default]
        return (others * 3)[:3]
    if kind is ListenAddress:
        return ["127.0.0.1:1", "[::1]:2", ":3"]
    if kind is float:
        return ["101.5", "102.5", "103"]
    if kind is int:
        return ["101", "102", "103"]
    return ["one", "two", "three"]


# -- which value stands ----------------------------------------------------------------------------------------------


def test_without_anything_all_is_as_declared() -> None:
    loaded = load()
    assert loaded == Config()
    for item in SETTINGS:
        assert value_of(loaded, item) == item.default


@every_setting
def test_an_option_stands_over_a_variable_over_the_file_over_the_default(item: Setting, tmp_path: Path) -> None:
    option, variable, in_file = three_values(item)
    options = {item.name: option}
    environment = {item.variable: variable}
    file = write(tmp_path, yaml.safe_dump({item.name: in_file}))
    for loaded, expected in (
        (load(options, environment, file), option),
        (load({}, environment, file), variable),
        (load({}, {}, file), in_file),
        (load(options, {}, file), option),
    ):
        assert value_of(loaded, item) == item.parse(expected) != item.default
        other = [name for name in BY_NAME if name != item.name]
        assert all(value_of(loaded, BY_NAME[name]) == BY_NAME[name].default for name in other)


@every_setting
def test_a_setting_has_one_name_in_three_spellings(item: Setting) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", item.name)
    assert item.option == "--" + item.name.replace("_", "-")
    assert item.variable == "TARS_REGISTRY_" + item.name.upper()


def test_no_two_settings_have_one_name() -> None:
    """Not even in different parts: the file, the options and the variables know no parts."""
    assert len(BY_NAME) == len(SETTINGS)
    assert "config" not in BY_NAME, "--config names the file"
    assert {item.part for item in SETTINGS} == set(config.TITLES) == {f.name for f in dataclasses.fields(Config)}


def test_no_setting_is_taken_from_what_kubernetes_sets_for_a_service_of_our_name() -> None:
    """A Service called tars-registry puts TARS_REGISTRY_PORT=tcp://… and others into every pod of its namespace."""
    pattern = r"(SERVICE_(HOST|PORT(_.*)?)|PORT(_.*)?)"
    assert [item.name for item in SETTINGS if re.fullmatch(pattern, item.name.upper())] == []
    environment = {"TARS_REGISTRY_PORT": "tcp://10.0.0.1:17890", "TARS_REGISTRY_SERVICE_HOST": "10.0.0.1", "PATH": "/"}
    assert load({}, environment) == Config()


@every_setting
def test_what_is_shown_as_the_default_is_read_as_it(item: Setting) -> None:
    text = "" if item.shown_default == "empty" else item.shown_default
    assert item.parse(text) == item.default


@every_setting
def test_what_is_set_by_nobody_may_still_be_switched_off(item: Setting) -> None:
    if item.optional:
        for text in ("off", "none", "OFF", ""):
            assert value_of(load({item.name: text}), item) is None
    else:
        assert item.default is not None


@pytest.mark.parametrize("text", ["off", "no", "false", "null", "", "none", "'off'"])
def test_off_in_the_file_is_off_however_yaml_takes_it(text: str, tmp_path: Path) -> None:
    assert load({}, {}, write(tmp_path, f"admin_listen: {text}\n")).service.admin_listen is None


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n", "{}\n", "null\n"])
def test_an_empty_file_sets_nothing(content: str, tmp_path: Path) -> None:
    assert load({}, {}, write(tmp_path, content)) == Config()


def test_the_file_is_read_as_one_writes_it(tmp_path: Path) -> None:
    content = """
    source: directory
    manifests: /etc/tars/manifests
    query_listen: 0.0.0.0:17890
    registry_listen: ":17891"
    metrics_listen: 17893
    admin_listen: "[::1]:17892"
    endpoint_host: Pod-IP
    drain_timeout: 2.5
    cache_bytes: 16Mi
    log_burst: 20
    """
    loaded = load({}, {}, write(tmp_path, content))
    service = loaded.service
    assert (service.source, service.manifests) == (SourceKind.DIRECTORY, Path("/etc/tars/manifests"))
    assert service.query_listen == ListenAddress("0.0.0.0", 17890)
    assert service.metrics_listen == ListenAddress("", 17893)
    assert service.admin_listen == ListenAddress("::1", 17892)
    assert service.endpoint_host is EndpointHost.POD_IP
    assert (service.drain_timeout, loaded.cache.cache_bytes, loaded.log.log_burst) == (2.5, 16 << 20, 20)


@pytest.mark.parametrize("in_pod", [True, False])
def test_inside_a_pod_source_and_own_host_are_those_of_the_cluster(
    in_pod: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    else:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    service = load().service
    assert service.chosen_source is (SourceKind.KUBERNETES if in_pod else SourceKind.DIRECTORY)
    assert service.chosen_self_host == ("tars-tarsregistry" if in_pod else "")
    told = load({"source": "directory", "self_host": "me"}).service
    assert (told.chosen_source, told.chosen_self_host) == (SourceKind.DIRECTORY, "me")


def test_the_own_pod_is_the_one_that_is_named_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HOSTNAME", "registry-7")
    assert load({}, {}, None).service.chosen_pod_name == "registry-7"
    assert load({"pod_name": "other"}, {}, None).service.chosen_pod_name == "other"
    assert load({"pod_name": "off"}, {}, None).service.chosen_pod_name == ""


# -- what is refused -------------------------------------------------------------------------------------------------


def bad_value(item: Setting) -> str | None:
    """A text that can't be a value; None where any text can."""
    kind = item.kind
    if issubclass(kind, StrEnum):
        return "nonsense"
    if kind is ListenAddress:
        return "host:port"
    return "ten" if kind in (int, float) else None


@every_setting
def test_a_bad_value_is_told_in_one_line_that_names_where(item: Setting, tmp_path: Path) -> None:
    bad = bad_value(item)
    if bad is None:
        assert item.kind in (str, Path)
        return
    assert refused({item.name: bad}).startswith(f"{item.option}: '{bad}': expected ")
    assert refused({}, {item.variable: bad}).startswith(f"{item.variable}: '{bad}': expected ")
    file = write(tmp_path, f"{item.name}: {bad}\n")
    assert refused({}, {}, file).startswith(f"{file}: {item.name}: '{bad}': expected ")
    kind = item.kind
    if issubclass(kind, StrEnum):
        assert ", ".join(kind) in refused({item.name: bad})


@every_setting
def test_a_bad_value_that_does_not_count_is_no_error(item: Setting) -> None:
    """What an option stands over may hold anything: one can always get by with options."""
    bad, good = bad_value(item), three_values(item)[0]
    assert value_of(load({item.name: good}, {item.variable: bad or "x"}), item) == item.parse(good)


@pytest.mark.parametrize("item", [item for item in SETTINGS if item.kind in (int, float)], ids=lambda item: item.name)
def test_numbers_have_a_least_value(item: Setting) -> None:
    assert item.minimum is not None, "every number has a bound, so that a slip is told and not served"
    least = f"{item.minimum:g}"
    assert value_of(load({item.name: least}), item) == item.minimum
    below = str(int(item.minimum) - 1) if item.kind is int else str(item.minimum - 0.001)
    text = refused({item.name: below})
    assert f"the least is {least}" in text
    assert text.endswith(item.unit)
    if item.maximum is not None:
        most = f"{item.maximum:d}"
        assert value_of(load({item.name: most}), item) == item.maximum
        assert f"the most is {most}" in refused({item.name: str(item.maximum + 1)})
    for bad in ("nan", "inf", "-inf", "1e999", "", " ", "0x10", "1,5", "9" * 5_000, "-" + "9" * 5_000):
        refused({item.name: bad})
    if item.kind is int:
        refused({item.name: "20.5"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("100", 100), ("4Ki", 4096), ("4KiB", 4096), ("2Mi", 2 << 20), ("1Gi", 1 << 30), ("1GiB", 1 << 30), ("0", 0)],
)
def test_bytes_may_be_written_with_a_suffix(text: str, expected: int) -> None:
    assert load({"cache_bytes": text}).cache.cache_bytes == expected


@pytest.mark.parametrize(
    "text", ["Ki", "1K", "1M", "1KB", "1kib", "1.5Mi", "1MiKi", "1KiMi", "1MiMi", "MiB", "1B", "-1Ki", "1Ki B", "1Ti"]
)
def test_what_is_no_number_of_bytes_is_refused(text: str) -> None:
    assert refused({"cache_bytes": text}).startswith(f"--cache-bytes: '{text}': ")


def test_only_bytes_have_suffixes() -> None:
    refused({"cache_entries": "1Ki"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("querylisten: 1", "did you mean query_listen?"),
        ("query-listen: 1", "did you mean query_listen?"),
        ("QUERY_LISTEN: 1", "--help"),
        ("zzz: 1", "no setting 'zzz'; `tars-registry serve --help` lists them"),
        ("1: 2", "no setting 1"),
        ("off: 2", "no setting False"),
        ("? [a]\n: 1", "no YAML"),
        ('"a\\nb": 1', "no setting 'a\\nb'"),
        ("- a", "expected settings by name"),
        ("text", "expected settings by name"),
        ("query_listen: [1]", "query_listen: expected a single value"),
        ("query_listen: {a: 1}", "query_listen: expected a single value"),
        ("self_host: 2026-01-01", "self_host: expected a single value"),
        ("self_host: 2026-13-45", "no YAML"),
        ("self_host: !!python/name:os.system x", "no YAML in line 1"),
        ("self_host: *nowhere", "no YAML in line 1"),
        ("a: 1\n  b: 2", "no YAML in line 2"),
        ("a: [", "no YAML in line "),
        ("---\na: 1\n---\nb: 1", "no YAML in line "),
        (b"self_host: \xff\xfe\n", "no YAML"),
        (b"self_host: \x00\n", "no YAML"),
        (b"self_host: \xc2\x80\n", "no YAML"),
        ("cache_bytes: " + "9" * 5_000, "no YAML"),
        ("cache_bytes: true", "cache_bytes: 'True': expected a whole number of bytes"),
        ("[" * 2_000, "no YAML"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_wrong_in_the_file_is_told_in_one_line(content: str | bytes, expected: str, tmp_path: Path) -> None:
    file = write(tmp_path, content)
    text = refused({}, {}, file)
    assert str(file) in text
    assert expected in text


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    assert refused({}, {}, tmp_path / "none.yaml") == f"--config {tmp_path}/none.yaml: No such file or directory"
    assert refused({}, {}, tmp_path) == f"--config {tmp_path}: Is a directory"


@given(st.dictionaries(st.sampled_from(sorted(BY_NAME)), st.text(max_size=12), max_size=3))
def test_any_text_is_a_value_or_refused_in_one_line(options: dict[str, str]) -> None:
    try:
        load(options)
    except ConfigError:
        refused(options)


@given(st.binary(max_size=60))
def test_any_file_is_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        load({}, {}, path)
    except ConfigError:
        refused({}, {}, path)


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:17890", "0.0.0.0", 17890),
        ("localhost:1", "localhost", 1),
        ("[::1]:17890", "::1", 17890),
        ("[::]:0", "::", 0),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        (":17890", "", 17890),
        ("*:17890", "", 17890),
        ("17890", "", 17890),
        ("0", "", 0),
        ("h:65535", "h", 65535),
        ("h:00080", "h", 80),
    ],
)
def test_an_address_has_these_forms(text: str, host: str, port: int) -> None:
    address = ListenAddress.parse(text)
    assert address == ListenAddress(host, port)
    assert ListenAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "h:",
        "h",
        "::1",
        "::1:17890",
        "[::1]",
        "[::1",
        "h:65536",
        "h:-1",
        "h:+1",
        "h: 1",
        "h:1 ",
        "h:٣",
        "h:²",
        "h:0x10",
        "h:1.5",
        "h:" + "9" * 5_000,
        "a..b:1",
        ".a:1",
        "x" * 64 + ":1",
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Host names that no resolver takes, too: they would end in a trace, much later."""
    with pytest.raises(ValueError, match=r"expected|stands in brackets|no host name"):
        ListenAddress.parse(text)
    refused({"query_listen": text})


names = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
hosts = st.one_of(st.just(""), st.ip_addresses().map(str), names)


@given(st.builds(ListenAddress, hosts, st.integers(0, 65535)))
def test_an_address_is_read_as_it_is_shown(address: ListenAddress) -> None:
    assert ListenAddress.parse(str(address)) == address


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_tells_of_every_setting() -> None:
    page = config.reference_page()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(SETTINGS)
    for item in SETTINGS:
        row = next(row for row in rows if row.startswith(f"| `{item.name}` |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 5, "a | in a text would break the table"
        assert cells[1:4] == [f"`{item.option}`", f"`{item.variable}`", f"{item.shown_default} {item.unit}".strip()]
        assert item.meaning in cells[4]
        kind = item.kind
        if issubclass(kind, StrEnum):
            assert all(member in cells[4] for member in kind)
    for title in config.TITLES.values():
        assert f"\n## {title}\n" in page


@every_setting
def test_every_setting_says_what_it_does(item: Setting) -> None:
    assert item.meaning.strip() == item.meaning
    assert item.meaning.endswith((".", "!"))
    assert item.placeholder


def test_the_page_in_the_docs_is_made_from_the_code() -> None:
    """`make docs` writes it."""
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == config.reference_page(), "run `make docs`"


def test_a_variable_that_is_there_but_empty_sets_nothing() -> None:
    """Which is what templates make of a value that is not given."""
    empty = {item.variable: "" for item in config.settings()}
    assert load({}, empty, None) == Config()
