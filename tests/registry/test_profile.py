"""The descriptor of a server: its chain of templates, the joined profile, its adapters."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.model import ObjectKey, ServantSpec, Server, Template
from registry.profile import ProfileError, ProfileLimits, Profiles, chain, descriptor, join
from tars_protocol.interfaces.registry import AdapterDescriptor


def templates(*found: tuple[str, str] | tuple[str, str, str], namespace: str = "tars") -> dict[ObjectKey, Template]:
    """By name and parent (and content)."""
    made = (Template(namespace, *each) for each in found)
    return {(each.namespace, each.name): each for each in made}


def server(template: str = "own", profile: str = "") -> Server:
    return Server("tars", "test-hello", "Test", "Hello", template=template, profile=profile)


def names(found: Iterable[Template]) -> list[str]:
    return [template.name for template in found]


@pytest.mark.parametrize("end", ["", "root"], ids=["no parent", "its own parent"])
def test_a_chain_ends_at_a_template_that_names_itself_or_none(end: str) -> None:
    found = chain(server(), templates(("own", "cpp"), ("cpp", "root"), ("root", end)), 16)
    assert names(found) == ["own", "cpp", "root"]


@pytest.mark.parametrize(
    ("parents", "loop"),
    [
        ((("own", "b"), ("b", "own")), "TTemplate tars/b names 'own'"),
        ((("own", "b"), ("b", "c"), ("c", "b")), "TTemplate tars/c names 'b'"),
    ],
)
def test_a_loop_of_templates_is_an_error_that_names_where_it_closes(
    parents: tuple[tuple[str, str], ...], loop: str
) -> None:
    with pytest.raises(ProfileError, match=loop):
        chain(server(), templates(*parents), 16)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", "TEndpoint tars/test-hello names no template"),
        ("none", "TEndpoint tars/test-hello names the template 'none', which is not there"),
        ("own", "TTemplate tars/own names the template 'gone', which is not there"),
    ],
)
def test_a_template_that_is_missing_is_named_with_what_names_it(template: str, text: str) -> None:
    with pytest.raises(ProfileError, match=text):
        chain(server(template), templates(("own", "gone")), 16)


def test_templates_of_another_namespace_do_not_count() -> None:
    with pytest.raises(ProfileError, match="not there"):
        chain(server(), templates(("own", ""), namespace="other"), 16)


def test_a_chain_has_a_bound() -> None:
    long = templates(*((f"t{n}", f"t{n + 1}") for n in range(20)), ("t20", ""))
    assert len(chain(server("t0"), long, 21)) == 21
    with pytest.raises(ProfileError, match="max_template_chain"):
        chain(server("t0"), long, 20)


@given(st.dictionaries(st.sampled_from("abcde"), st.sampled_from(["", *"abcdef"]), max_size=5), st.sampled_from("abf"))
def test_every_chain_ends_or_is_an_error(parents: dict[str, str], first: str) -> None:
    try:
        found = names(chain(server(first), templates(*parents.items()), 4))
    except ProfileError:
        return
    assert found[0] == first
    assert len(set(found)) == len(found) <= 4
    assert all(parents[child] == parent for child, parent in pairwise(found))
    assert parents[found[-1]] in ("", found[-1])


def text(**keys: object) -> str:
    return "".join(["<tars>\n", *(f"  {key}={value}\n" for key, value in keys.items()), "</tars>\n"])


def test_a_child_stands_above_its_parents_and_the_servers_own_text_above_all() -> None:
    known = templates(
        ("own", "root", text(a="template", b="template")), ("root", "root", text(a="root", b="root", c="root"))
    )
    texts = Profiles().sources(server(profile=text(a="own")), known)
    assert join(texts) == text(c="root", b="template", a="own")


@pytest.mark.parametrize(
    ("root", "own", "profile", "wrong"),
    [
        ("<a>", "", "", "parent 1 of the template can't be read: line 1: <a> is never closed"),
        ("", "</a>", "", "the template can't be read: line 1"),
        ("", "", "\n\\s", "the profile can't be read: line 2"),
        ("<a>\nb=<\n</a>", "", "", "the joined profile can't be written: < and >"),
    ],
)
def test_a_text_that_can_not_be_read_is_named(root: str, own: str, profile: str, wrong: str) -> None:
    with pytest.raises(ProfileError, match=wrong):
        join(Profiles().sources(server(profile=profile), templates(("own", "root", own), ("root", "", root))))


def test_texts_that_are_too_long_together_are_not_joined() -> None:
    profiles = Profiles(ProfileLimits(max_profile_bytes=10))
    assert profiles.sources(server(profile="12345"), templates(("own", "", "12345")))
    with pytest.raises(ProfileError, match="11 characters, more than 10"):
        profiles.sources(server(profile="123456"), templates(("own", "", "12345")))


def test_joined_texts_are_kept_within_a_bound_and_the_oldest_go_first() -> None:
    profiles = Profiles(ProfileLimits(profile_cache_bytes=20))
    for name in "abc":
        profiles.keep((name * 4,), name * 4)
        profiles.find(("aaaa",))
    assert [profiles.find((name * 4,)) for name in "abc"] == ["aaaa", None, "cccc"]
    profiles.keep(("x" * 20,), "")
    profiles.keep(("y" * 20,), "y")
    assert [profiles.find((name * 20,)) for name in "xy"] == ["", None]
    assert profiles.find(("aaaa",)) is None


def test_an_adapter_has_what_its_servant_says_under_the_names_of_the_call() -> None:
    servants = (
        ServantSpec("HelloObj", 18100, True, True, 3000, 8, 200, 300),
        ServantSpec("RawObj", 18101, False, False, 60_000),
    )
    found = descriptor(
        Server("tars", "test-hello", "Test", "Hello", servants=servants, async_thread=5), "TEST", "hello", "p"
    )
    assert (found.profile, found.asyncThreadNum) == ("p", 5)
    assert found.adapters == {
        "TEST.hello.HelloObjAdapter": AdapterDescriptor(
            adapterName="TEST.hello.HelloObjAdapter",
            endpoint="tcp -h ${localip} -p 18100 -t 3000",
            threadNum=8,
            maxConnections=200,
            allowIp="",
            servant="TEST.hello.HelloObj",
            queuecap=300,
            queuetimeout=3000,
            protocol="tars",
        ),
        "TEST.hello.RawObjAdapter": AdapterDescriptor(
            adapterName="TEST.hello.RawObjAdapter",
            endpoint="udp -h ${localip} -p 18101 -t 60000",
            threadNum=3,
            maxConnections=10_000,
            allowIp="",
            servant="TEST.hello.RawObj",
            queuecap=10_000,
            queuetimeout=60_000,
            protocol="not_tars",
        ),
    }
