"""The table against a naive one: what it holds, when its version grows, what a change names."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from registry.model import Framework, Kind, Node, Object, ObjectKey, Pod, ServantSpec, Server, Template
from registry.routing.hosts import Naming
from registry.routing.select import Lookup, Question, parse_id, select
from registry.table import DIRECTORY_PARTS, Change, Part, ServerKey, Table, TableStore, keys_for, server_key
from tests.support.tables import (
    APPS,
    NAMESPACES,
    OBJECT_NAMES,
    SERVERS,
    filled_store,
    framework,
    hello,
    pods,
    server,
    small_frameworks,
    small_nodes,
    small_policy_texts,
    small_routed_servers,
    small_servers,
    small_templates,
    sync,
)

small_labelled_pods = st.builds(
    lambda found, app, name: replace(found, kind=Kind.POD, app=app, server=name, pods=found.pods[:1]),
    small_servers,
    st.sampled_from(APPS),
    st.sampled_from(SERVERS),
)
"""A pod names its server, or it is none."""

any_object: st.SearchStrategy[Object] = st.one_of(
    small_servers, small_servers, small_labelled_pods, small_labelled_pods, small_templates, small_frameworks
)
STRATEGIES: dict[Kind, st.SearchStrategy[Object]] = {
    Kind.SERVER: small_routed_servers,
    Kind.POD: small_labelled_pods,
    Kind.TEMPLATE: small_templates,
    Kind.FRAMEWORK: small_frameworks,
    Kind.POLICY: small_policy_texts,
    Kind.NODE: small_nodes,
}
keys = st.tuples(
    st.sampled_from((*NAMESPACES, "c", "")),
    st.sampled_from((*OBJECT_NAMES, "t1", "t2", "tars-framework", "p", "node-1", "none")),
)

AWAITED: Final[frozenset[Part]] = DIRECTORY_PARTS | {(Kind.POD, namespace) for namespace in NAMESPACES}
"""Parts of both sorts: of one namespace, and of all together."""


def key_of(item: Object) -> ObjectKey:
    return item.namespace, item.name


class Naive:
    """What the table must hold, worked out anew each time from all objects."""

    def __init__(self) -> None:
        self.objects: dict[Kind, dict[ObjectKey, Object]] = {kind: {} for kind in Kind}

    def of_kind(self, kind: Kind) -> list[Server]:
        return [item for _, item in sorted(self.objects[kind].items()) if isinstance(item, Server)]

    @property
    def servers(self) -> list[Server]:
        """Those that count: a pod does not, where there is a TEndpoint that names its server."""
        endpoints = self.of_kind(Kind.SERVER)
        named = {server_key(item) for item in endpoints}
        return endpoints + [item for item in self.of_kind(Kind.POD) if server_key(item) not in named]

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
    def policy(self) -> object:
        return next((item for _, item in sorted(self.objects[Kind.POLICY].items())), None)

    @property
    def nodes(self) -> object:
        return {item.name: item for item in self.objects[Kind.NODE].values() if isinstance(item, Node)}

    @property
    def content(self) -> tuple[object, ...]:
        return self.groups, self.objects[Kind.TEMPLATE], self.up_chain, self.policy, self.nodes

    def find(self, app: str, name: str) -> tuple[Server, ...]:
        found = tuple(
            s
            for s in self.servers
            if s.app and s.server and (s.app + "/" + s.server).lower() == f"{app}/{name}".lower()
        )
        nameless = tuple(s for s in self.servers if not (s.app and s.server) and s.name == f"{app}-{name}".lower())
        if nameless and not any(s.kind is Kind.SERVER for s in found):
            return nameless
        return found


class TableMachine(RuleBasedStateMachine):
    """Random changes, each compared with the naive table before and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.naive = Naive()
        self.store = TableStore(AWAITED)
        self.awaited = set(AWAITED)
        self.restored = False
        self.changes: list[tuple[Change, Table]] = []
        self.kept: list[tuple[Table, Table]] = []
        """Snapshots and what they were when they were new."""
        self.store.subscribe(lambda change: self.changes.append((change, self.store.table)))

    def apply(self, change: Callable[[], None], edit: Callable[[], None]) -> None:
        before, groups, up_chain = self.store.table, self.naive.groups, self.naive.up_chain
        routing = self.naive.policy, self.naive.nodes
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
        assert told.routing is ((self.naive.policy, self.naive.nodes) != routing)
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

    @rule(data=st.data(), kind=st.sampled_from(Kind))
    def replace(self, data: st.DataObject, kind: Kind) -> None:
        items = data.draw(st.lists(STRATEGIES[kind], max_size=5))
        if data.draw(st.booleans()):
            items += data.draw(st.permutations(list(self.naive.objects[kind].values())))

        def edit() -> None:
            self.naive.objects[kind] = {key_of(item): item for item in items}

        self.apply(lambda: self.store.replace(kind, iter(items)), edit)

    @rule(data=st.data(), kind=st.sampled_from(Kind), namespace=st.sampled_from(NAMESPACES))
    def replace_in_a_namespace(self, data: st.DataObject, kind: Kind, namespace: str) -> None:
        """What is in the others stays."""
        known = self.naive.objects[kind]
        items = [item for item in data.draw(st.lists(STRATEGIES[kind], max_size=5)) if item.namespace == namespace]
        if data.draw(st.booleans()):
            items += [item for item in known.values() if item.namespace == namespace]

        def edit() -> None:
            others = {key: item for key, item in known.items() if item.namespace != namespace}
            self.naive.objects[kind] = others | {key_of(item): item for item in items}

        self.apply(lambda: self.store.replace(kind, iter(items), namespace), edit)

    @rule(data=st.data(), kind=st.sampled_from(Kind), namespace=st.sampled_from(NAMESPACES))
    def replace_in_steps(self, data: st.DataObject, kind: Kind, namespace: str) -> None:
        """Between two steps other objects change; the list takes effect in one step, as a whole."""
        known = self.naive.objects[kind]
        items = [item for item in data.draw(st.lists(STRATEGIES[kind], max_size=5)) if item.namespace == namespace]
        if data.draw(st.booleans()):
            items += [item for item in known.values() if item.namespace == namespace]
        between = [
            item for item in data.draw(st.lists(any_object)) if item.kind is not kind or item.namespace != namespace
        ]
        made = 0

        def look() -> tuple[object, object]:
            return self.store.table, self.store.objects()[kind]

        def edit() -> None:
            others = {key: item for key, item in self.naive.objects[kind].items() if item.namespace != namespace}
            self.naive.objects[kind] = others | {key_of(item): item for item in items}

        steps = self.store.replacing(kind, iter(items), namespace)
        while True:
            before = look()
            ended = next(steps, self) is self
            if look() != before:
                made += 1
                edit()
            self.holds_what_the_naive_one_does()
            if ended:
                break
            if data.draw(st.booleans()) and between:
                self.upsert(between.pop())
        assert made <= 1
        edit()

    @rule(data=st.data(), kinds=st.sets(st.sampled_from(Kind)))
    def restore(self, data: st.DataObject, kinds: set[Kind]) -> None:
        """Several changes, one for each kind and one at the end; together they name all that is another."""
        before, groups, up_chain = self.store.table, self.naive.groups, self.naive.up_chain
        objects = {kind: data.draw(st.lists(STRATEGIES[kind], max_size=4)) for kind in kinds}
        for kind, items in objects.items():
            self.naive.objects[kind] = {key_of(item): item for item in items}
        self.changes.clear()
        self.store.restore(objects)
        self.restored = True
        new = self.naive.groups
        told = {key for change, _ in self.changes for key in change.servers}
        assert told >= {key for key in groups.keys() | new.keys() if groups.get(key) != new.get(key)}
        everything = any(change.everything for change, _ in self.changes)
        assert everything is (not before.synced or self.naive.up_chain != up_chain)
        assert self.store.table.version == before.version + len(self.changes)
        self.kept.append((before, copy.deepcopy(before)))

    @rule(kind=st.sampled_from(Kind), key=keys)
    def delete(self, kind: Kind, key: ObjectKey) -> None:
        def edit() -> None:
            self.naive.objects[kind].pop(key, None)

        self.apply(lambda: self.store.delete(kind, key), edit)

    @rule(part=st.sampled_from(sorted({*AWAITED, (Kind.POD, ""), (Kind.SERVER, "a"), (Kind.POD, "c")})))
    def sync(self, part: Part) -> None:
        """Also one that nobody waits for: it stands for no other."""
        self.apply(lambda: self.store.synced(*part), lambda: self.awaited.discard(part))

    @invariant()
    def holds_what_the_naive_one_does(self) -> None:
        table = self.store.table
        assert table.servers == self.naive.groups
        assert table.templates == self.naive.objects[Kind.TEMPLATE]
        assert table.up_chain == self.naive.up_chain
        assert (table.policy, table.nodes) == (self.naive.policy, self.naive.nodes)
        assert table.synced is (self.restored or not self.awaited)
        words = [f"{kind} in {namespace}" if namespace else str(kind) for kind, namespace in self.awaited]
        assert self.store.waiting_for == sorted(words)
        assert self.store.objects() == {kind: list(items.values()) for kind, items in self.known().items()}
        size = self.store.size()
        servers = self.naive.servers
        assert size.servers == len(servers)
        assert size.pods == sum(len(s.pods) for s in servers)
        assert size.active_pods == sum(p.active for s in servers for p in s.pods)
        assert size.templates == len(self.naive.objects[Kind.TEMPLATE])

    def known(self) -> dict[Kind, dict[ObjectKey, Object]]:
        """What was handed over, in the store's order, which means nothing."""
        order = {kind: [key_of(item) for item in items] for kind, items in self.store.objects().items()}
        for kind, objects in self.naive.objects.items():
            assert sorted(order[kind]) == sorted(objects)
        return {kind: {key: self.naive.objects[kind][key] for key in keys} for kind, keys in order.items()}

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


# ---------------------------------------------------------------------------------- labelled pods, namespaces


def labelled(name: str, app: str = "Test", server_name: str = "HelloServer", *, namespace: str = "tars") -> Server:
    found = server(app, server_name, name=name, namespace=namespace, pods=(Pod(name),))
    return replace(found, kind=Kind.POD)


POD_PARTS: Final = frozenset(((Kind.POD, "a"), (Kind.POD, "b")))


def test_an_endpoint_stands_above_the_pods_of_its_server_while_it_is_there() -> None:
    """What becomes of the pods meanwhile is no change; when it goes, they are as they are then."""
    store = filled_store(labelled("p-0"), labelled("p-1"))
    changes = listened(store)
    store.upsert(hello())
    assert store.table.find("Test", "HelloServer") == (hello(),)
    version = store.table.version
    store.upsert(labelled("p-2"))
    store.delete(Kind.POD, ("tars", "p-0"))
    assert store.table.version == version
    store.delete(Kind.SERVER, ("tars", "test-helloserver"))
    assert [found.name for found in store.table.find("Test", "HelloServer")] == ["p-1", "p-2"]
    assert changes == [Change(frozenset({("test", "helloserver")}))] * 2


def test_pods_and_an_endpoint_of_one_name_are_two_objects() -> None:
    """As of a StatefulSet whose pod is called as another server's object."""
    store = filled_store(labelled("same"), server("Other", "Server", name="same"))
    assert store.table.find("Test", "HelloServer") == (labelled("same"),)
    store.delete(Kind.SERVER, ("tars", "same"))
    assert store.table.find("Test", "HelloServer") == (labelled("same"),)
    assert store.table.find("Other", "Server") == ()


def test_an_endpoint_without_names_stands_above_pods_too() -> None:
    """It is the server's endpoint by its own name, and the pods have its labels all the same."""
    nameless = Server("tars", "test-helloserver")
    store = filled_store(labelled("p-0"))
    changes = listened(store)
    store.upsert(nameless)
    assert store.table.find("Test", "HelloServer") == (nameless,)
    assert changes == [Change(frozenset({("", "test-helloserver")}))]
    store.upsert(server(name="named"))
    assert [found.name for found in store.table.find("Test", "HelloServer")] == ["named"]


def test_a_pod_that_is_labelled_anew_leaves_its_old_server() -> None:
    store = filled_store(labelled("p-0"))
    changes = listened(store)
    store.upsert(labelled("p-0", "Other", "Server"))
    assert store.table.find("Test", "HelloServer") == ()
    assert changes == [Change(frozenset({("test", "helloserver"), ("other", "server")}))]


def test_pods_of_one_server_in_several_namespaces_stand_together() -> None:
    store = TableStore(POD_PARTS)
    store.replace(Kind.POD, [labelled("p-1", namespace="a"), labelled("p-0", namespace="a")], "a")
    store.replace(Kind.POD, [labelled("p-0", namespace="b")], "b")
    assert [(found.namespace, found.name) for found in store.table.find("test", "helloserver")] == [
        ("a", "p-0"),
        ("a", "p-1"),
        ("b", "p-0"),
    ]
    store.replace(Kind.POD, [], "a")
    assert [found.namespace for found in store.table.find("test", "helloserver")] == ["b"]


def test_the_table_is_synchronised_once_every_namespace_was_handed_over() -> None:
    store = TableStore(POD_PARTS)
    store.synced(Kind.POD, "b")
    store.synced(Kind.POD)
    assert store.waiting_for == ["Pod in a"]
    assert not store.table.synced
    store.synced(Kind.POD, "a")
    assert store.table.synced


def test_whoever_waits_for_the_whole_table_is_told_once_and_not_of_one_restored() -> None:
    store = TableStore()
    told: list[str] = []
    store.when_whole(lambda: told.append("first"))
    store.restore({Kind.SERVER: [hello()]})
    assert told == []
    sync(store)
    sync(store)
    assert told == ["first"]
    store.when_whole(lambda: told.append("later"))
    assert told == ["first", "later"]


def test_a_restored_table_is_synchronised_but_still_waited_for() -> None:
    """Answers are given from it; not so the snapshot file made from it, nor is it taken for current."""
    store = TableStore()
    changes = listened(store)
    store.restore({Kind.SERVER: [hello()], Kind.TEMPLATE: []})
    assert store.table.synced
    assert changes == [Change(frozenset({("test", "helloserver")})), Change(everything=True)]
    assert len(store.waiting_for) == 3
    sync(store)
    assert store.waiting_for == []
    assert len(changes) == 2


def test_restoring_nothing_is_an_empty_table_that_answers() -> None:
    store = TableStore()
    store.restore({})
    assert store.table.synced
    assert store.size().servers == 0


def test_a_servant_that_was_named_by_a_port_is_called_in_any_case() -> None:
    """Names of container ports have no capitals. A servant that was declared is called as it was spelt."""
    port, declared = ServantSpec("orderobj", 1, any_case=True), ServantSpec("OrderObj", 2)
    for name in ("OrderObj", "orderobj", "ORDEROBJ"):
        assert port.is_called(name)
        assert declared.is_called(name) is (name == "OrderObj")
    assert not port.is_called("Order")
    assert not port.is_called("")


def test_servants_in_any_case_and_exact_ones_answer_together() -> None:
    """In a rolling update from named ports to an annotation: each pod by its own rule."""
    by_port = replace(labelled("p-0"), servants=(ServantSpec("orderobj", 1, any_case=True),))
    declared = replace(labelled("p-1"), servants=(ServantSpec("OrderObj", 2),))
    pods_up = [
        replace(one, pods=(Pod(one.name, pod_ip=one.name, setting_state="Active", present_state="Active"),))
        for one in (by_port, declared)
    ]
    table = filled_store(*pods_up).table
    for servant, ports in (("OrderObj", [1, 2]), ("orderobj", [1]), ("ORDEROBJ", [1]), ("Other", [])):
        found = select(table, Naming(), Question(Lookup.ALL, parse_id(f"Test.HelloServer.{servant}")))
        assert [endpoint.port for endpoint in found.active] == ports
