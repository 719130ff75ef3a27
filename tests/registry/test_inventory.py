"""The ids of all objects, page by page: each once, in order, and only such as can be asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.inventory import MOST_IDS, page
from registry.model import Object, ServantSpec, Upstream
from registry.routing.select import parse_id
from registry.table import Table
from tests.support.tables import filled_store, framework, server, small_frameworks, small_servers


def table(*objects: Object) -> Table:
    return filled_store(*objects).table


def walk(known: Table, limit: int) -> list[str]:
    """All pages."""
    found: list[str] = []
    after = ""
    while True:
        told = page(known, {"limit": str(limit)} | ({"after": after} if after else {}))
        assert len(told.objects) <= limit
        found += told.objects
        if told.next is None:
            return found
        assert told.next == told.objects[-1]
        after = told.next


def test_servants_of_all_servers_and_what_the_up_chain_names_are_listed_as_they_are_spelt() -> None:
    known = table(
        server("Test", "HelloServer", servants=[ServantSpec("HelloObj", 1), ServantSpec("AdminObj", 2)]),
        server("", "", name="shop-order-server", servants=[ServantSpec("OrderObj", 1)]),
        server("tars", "tarsregistry", servants=[]),
        server("Odd.App", "S", servants=[ServantSpec("Obj", 1)]),
        server("A", "B", servants=[ServantSpec("Obj@x", 1)]),
        framework(
            {"Legacy.User.Obj": [Upstream("h", 1)], "default": [Upstream("h", 2)], "test.HELLOSERVER.HelloObj": []}
        ),
    )
    assert page(known, {}).objects == [
        "Legacy.User.Obj",
        "shop.order-server.OrderObj",
        "Test.HelloServer.AdminObj",
        "Test.HelloServer.HelloObj",
    ]
    assert page(known, {}).next is None


def test_a_page_begins_behind_an_object_whether_it_is_still_there_or_not() -> None:
    known = table(server("B", "S", servants=[ServantSpec("X", 1), ServantSpec("Z", 1)]), server("C", "S", name="c"))
    assert page(known, {"after": "a.s.Obj"}).objects == ["B.S.X", "B.S.Z", "C.S.HelloObj"]
    assert page(known, {"after": "b.S.Y"}).objects == ["B.S.Z", "C.S.HelloObj"]
    assert page(known, {"after": "C.S.HelloObj"}).objects == []


@given(st.lists(small_servers, max_size=6), st.lists(small_frameworks, max_size=1), st.integers(1, 4))
def test_the_pages_together_have_each_object_once(servers: list[Object], chain: list[Object], limit: int) -> None:
    known = table(*servers, *chain)
    found = walk(known, limit)
    assert found == walk(known, MOST_IDS)
    assert len(set(found)) == len(found)
    assert found == sorted(found, key=lambda text: (text.rpartition(".")[0].lower(), text.rpartition(".")[2]))
    for text in found:
        parsed = parse_id(text)
        assert parsed is not None
        declared = [s.name for each in known.find(parsed.app, parsed.server) for s in each.servants]
        assert parsed.servant in declared or text in known.up_chain


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"limit": "0"}, "limit: expected a number from 1 to 250, got '0'"),
        ({"limit": "251"}, "limit: "),
        ({"limit": "x"}, "limit: "),
        ({"limit": "²"}, "limit: "),
        ({"limit": "9" * 5000}, "limit: "),
        ({"after": "x"}, "after: expected an object id as in App.Server.Obj, got 'x'"),
        ({"from": "x"}, "no parameter 'from'; there are after, limit"),
    ],
)
def test_what_is_no_page_is_told(parameters: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the text is looked at
        page(Table(), parameters)
    assert says in str(raised.value)
