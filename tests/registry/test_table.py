"""The table against a naive one: what it holds, when its version grows, what a change names."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from registry.model import Framework, Kind, Object, ObjectKey, Server, Template
from registry.table import Change, ServerKey, Table, TableStore, keys_for, server_key
from tests.support.tables import (
    APPS,
    KINDS,
    NAMESPACES,
    OBJECT_NAMES,
    SERVERS,
    filled_store,
    framework,
    hello,
    pods,
    server,
    small_frameworks,
    small_servers,
    small_templates,
)

any_object: st.SearchStrategy[Object] = st.one_of(
    small_servers, small_servers, small_servers, small_templates, small_frameworks
)
STRATEGIES: dict[Kind, st.SearchStrategy[Object]] = {
    Kind.SERVER: small_servers,
    Kind.TEMPLATE: small_templates,
    Kind.FRAMEWORK: small_frameworks,
}
keys = st.tuples(
    st.sampled_from((*NAMESPACES, "c")), st.sampled_from((*OBJECT_NAMES, "t1", "t2", "tars-framework", "none"))
)


def key_of(item: Object) -> ObjectKey:
    return item.namespace, item.name


class Naive:
    """What the table must hold, worked out anew each time from all objects."""

    def __init__(self) -> None:
        self.objects: dict[Kind, dict[ObjectKey, Object]] = {kind: {} for kind in KINDS}

    @property
    def servers(self) -> list[Server]:
        return [item for _, item in sorted(self.objects[Kind.SERVER].items()) if isinstance(item, Server)]

    @property
    def groups(self) -> dict[ServerKey, tuple[Server, ...]]:
        groups: dict[ServerKey, tuple[Server, ...]] = {}
        for item in self.servers:
            named = item.app != "" and item.server != ""
            key = (item.app.lower(), item.server.lower()) if named else ("", item.name)
            groups[key] = (*groups.get(key, ()), item)
        return groups

    @property
    def up_chain(self) -> object:
        frameworks = sorted(self.objects[Kind.FRAMEWORK].items())
        first = frameworks[0][1] if frameworks else None
        return first.up_chain if isinstance(first, Framework) else {}

    @property
    def content(self) -> tuple[object, ...]:
        return self.groups, self.objects[Kind.TEMPLATE], self.up_chain

    def find(self, app: str, name: str) -> tuple[Server, ...]:
        found = tuple(
            s
            for s in self.servers
            if s.app and s.server and (s.app + "/" + s.server).lower() == f"{app}/{name}".lower()
        )
        if found:
            return found
        return tuple(s for s in self.servers if not (s.app and s.server) and s.name == f"{app}-{name}".lower())


class TableMachine(RuleBasedStateMachine):
    """Random changes, each compared with the naive table before and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.naive = Naive()
        self.store = TableStore()
        self.awaited = set(KINDS)
        self.changes: list[tuple[Change, Table]] = []
        self.kept: list[tuple[Table, Table]] = []
        """Snapshots and what they were when they were new."""
        self.store.subscribe(lambda change: self.changes.append((change, self.store.table)))

    def apply(self, change: Callable[[], None], edit: Callable[[], None]) -> None:
        before, groups, up_chain = self.store.table, self.naive.groups, self.naive.up_chain
        content = copy.deepcopy(self.naive.content)
        synced = self.store.table.synced
        self.changes.clear()
        edit()
        change()
        after = self.store.table
        if self.naive.content == content and after.synced is synced:
            assert after is before, "equal content made a new snapshot"
            assert self.changes == []
            return
        assert after.version == before.version + 1
        assert len(self.changes) == 1
        told, seen = self.changes[0]
        assert seen is after, "listeners must see the new snapshot"
        new = self.naive.groups
        assert told.servers == {key for key in groups.keys() | new.keys() if groups.get(key) != new.get(key)}
        assert told.everything is (self.naive.up_chain != up_chain or after.synced is not synced)
        self.kept.append((before, copy.deepcopy(before)))

    @initialize(items=st.lists(any_object, max_size=6))
    def some(self, items: list[Object]) -> None:
        for item in items:
            self.upsert(item)

    @rule(item=any_object)
    def upsert(self, item: Object) -> None:
        def edit() -> None:
            self.naive.objects[item.kind][key_of(item)] = item

        self.apply(lambda: self.store.upsert(item), edit)

    @rule(data=st.data())
    def upsert_what_is_there(self, data: st.DataObject) -> None:
        """As a watch does after it was resumed: the same objects again, as copies."""
        known = [item for found in self.naive.objects.values() for item in found.values()]
        if known:
            self.upsert(copy.deepcopy(data.draw(st.sampled_from(known))))

    @rule(data=st.data(), kind=st.sampled_from(KINDS))
    def replace(self, data: st.DataObject, kind: Kind) -> None:
        items = data.draw(st.lists(STRATEGIES[kind], max_size=5))
        if data.draw(st.booleans()):
            items += data.draw(st.permutations(list(self.naive.objects[kind].values())))

        def edit() -> None:
            self.naive.objects[kind] = {key_of(item): item for item in items}

        self.apply(lambda: self.store.replace(kind, iter(items)), edit)

    @rule(kind=st.sampled_from(KINDS), key=keys)
    def delete(self, kind: Kind, key: ObjectKey) -> None:
        def edit() -> None:
            self.naive.objects[kind].pop(key, None)

        self.apply(lambda: self.store.delete(kind, key), edit)

    @rule(kind=st.sampled_from(KINDS))
    def sync(self, kind: Kind) -> None:
        self.apply(lambda: self.store.synced(kind), lambda: self.awaited.discard(kind))

    @invariant()
    def holds_what_the_naive_one_does(self) -> None:
        table = self.store.table
        assert table.servers == self.naive.groups
        assert table.templates == self.naive.objects[Kind.TEMPLATE]
        assert table.up_chain == self.naive.up_chain
        assert table.synced is (not self.awaited)
        assert sorted(self.store.waiting_for) == sorted(self.awaited)
        size = self.store.size()
        servers = self.naive.servers
        assert size.servers == len(servers)
        assert size.pods == sum(len(s.pods) for s in servers)
        assert size.active_pods == sum(p.active for s in servers for p in s.pods)
        assert size.templates == len(self.naive.objects[Kind.TEMPLATE])

    @invariant()
    def finds_what_the_naive_one_does(self) -> None:
        for app, name in itertools.product((*APPS, "other"), (*SERVERS, "x")):
            assert self.store.table.find(app, name) == self.naive.find(app, name)

    def teardown(self) -> None:
        for snapshot, as_it_was in self.kept:
            assert snapshot == as_it_was, "a snapshot that was given out has changed"


TestTableAgainstNaive = TableMachine.TestCase
TestTableAgainstNaive.settings = settings(max_examples=80, stateful_step_count=25)


def listened(store: TableStore) -> list[Change]:
    changes: list[Change] = []
    store.subscribe(changes.append)
    return changes


def test_a_server_that_gets_other_names_changes_both_groups() -> None:
    """Answers about the old name and about the new one have to be made again."""
    store = filled_store(server("Old", "Server", name="obj"))
    changes = listened(store)
    store.upsert(server("New", "Server", name="obj"))
    assert changes == [Change(frozenset({("old", "server"), ("new", "server")}))]
    assert store.table.find("Old", "Server") == ()


def test_a_server_whose_names_differ_only_in_case_stays_in_its_group() -> None:
    store = filled_store(server("Test", "HelloServer"))
    changes = listened(store)
    store.upsert(server("TEST", "helloserver", name="test-helloserver"))
    assert changes == [Change(frozenset({("test", "helloserver")}))]
    assert [s.app for s in store.table.find("test", "HELLOSERVER")] == ["TEST"]


def test_objects_of_one_server_stand_together_and_leave_one_by_one() -> None:
    blue, green = server(name="green"), server(name="blue")
    store = filled_store(blue, green)
    assert [s.name for s in store.table.find("Test", "HelloServer")] == ["blue", "green"]
    store.delete(Kind.SERVER, ("tars", "blue"))
    assert [s.name for s in store.table.find("Test", "HelloServer")] == ["green"]
    store.delete(Kind.SERVER, ("tars", "green"))
    assert store.table.servers == {}


def test_one_of_two_servers_of_one_name_is_in_the_way_of_an_object_without_names() -> None:
    """Spec names go before an object's name; without them the object's name is found."""
    nameless = Server("tars", "test-helloserver")
    store = filled_store(nameless, server(name="other"))
    assert [s.name for s in store.table.find("Test", "HelloServer")] == ["other"]
    store.delete(Kind.SERVER, ("tars", "other"))
    assert store.table.find("Test", "HelloServer") == (nameless,)


@pytest.mark.parametrize(("app", "name"), [("App", ""), ("", "Server"), ("", "")])
def test_an_object_with_half_a_name_is_found_by_its_own(app: str, name: str) -> None:
    assert server_key(Server("n", "app-server", app=app, server=name)) == ("", "app-server")
    assert ("", "app-server") in keys_for("APP", "Server")


def test_a_replace_that_swaps_everything_is_one_change() -> None:
    store = filled_store(server("A", "X"), server("B", "Y"))
    changes = listened(store)
    version = store.table.version
    store.replace(Kind.SERVER, [server("B", "Y"), server("C", "Z")])
    assert store.table.version == version + 1
    assert changes == [Change(frozenset({("a", "x"), ("c", "z")}))]


def test_of_two_objects_with_one_key_in_a_list_the_last_stands() -> None:
    store = filled_store(synced=False)
    store.replace(Kind.SERVER, [hello(1), hello(2)])
    assert store.size().pods == 3
    assert store.size().servers == 1


def test_a_template_changes_no_answer() -> None:
    store = filled_store(hello())
    changes = listened(store)
    store.upsert(Template("tars", "tars.default", content="x"))
    assert changes == [Change()]


def test_the_framework_changes_every_answer_but_only_by_its_up_chain() -> None:
    store = filled_store(framework({}))
    changes = listened(store)
    store.upsert(framework({"default": ()}))
    assert changes == [Change(everything=True)]
    store.upsert(Framework("tars", "unused-second"))
    assert len(changes) == 1


def test_the_table_is_synchronised_once_every_kind_was_handed_over() -> None:
    """Never before, even where a kind says so twice; and that is a change of everything, once."""
    store = TableStore()
    changes = listened(store)
    store.replace(Kind.SERVER, [hello()])
    for kind in (Kind.SERVER, Kind.TEMPLATE, Kind.SERVER):
        store.synced(kind)
        assert not store.table.synced
    assert list(store.waiting_for) == [Kind.FRAMEWORK]
    store.synced(Kind.FRAMEWORK)
    assert store.table.synced
    store.synced(Kind.FRAMEWORK)
    assert changes == [Change(frozenset({("test", "helloserver")})), Change(everything=True)]


@given(st.lists(small_servers, max_size=12))
def test_the_order_in_which_objects_came_does_not_show(items: list[Server]) -> None:
    unique = {key_of(item): item for item in items}.values()
    tables = [filled_store(*order).table.servers for order in (list(unique), list(reversed(list(unique))))]
    assert tables[0] == tables[1]


def test_unchanged_groups_are_shared_between_snapshots() -> None:
    """A change costs the servers that it is about, not all of them."""
    store = filled_store(hello(), server("B", "Y"))
    before = store.table
    store.upsert(server("B", "Y", pods=pods("b-y", 1)))
    assert store.table.servers["test", "helloserver"] is before.servers["test", "helloserver"]
    assert store.table.templates is before.templates


def test_all_listeners_are_called_in_their_order() -> None:
    store = TableStore()
    called: list[str] = []

    def note(name: str) -> Callable[[Change], None]:
        return lambda _: called.append(name)

    names: Iterable[str] = ("first", "second")
    for name in names:
        store.subscribe(note(name))
    store.upsert(hello())
    assert called == ["first", "second"]
