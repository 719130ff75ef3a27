"""Routing agrees with the slow model of its rules, over random servers, policies and callers."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from registry.model import Pod, RoutingFacts, ServantSpec, Server
from registry.routing.changes import PolicyChange
from registry.routing.groups import Rule, parse_prefix
from registry.routing.hosts import EndpointHost, Naming
from registry.routing.policy import NO_POLICY, Group, Policy, PolicyDocument, Station
from registry.routing.select import BY_GROUP, Endpoint, Lookup, Question, parse_id, select
from registry.sources.routing_facts import facts_of_pod
from tests.support import classic_rules
from tests.support.classic_rules import ModelPolicy
from tests.support.tables import filled_store

ADDRESSES: Final = ("10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "192.168.7.7", "fd00::1", "fd00:0:0:1::1", "")
PATTERNS: Final = (
    "10.0.0.1",
    "10.0.0.*",
    "10.0.*.*",
    "10.0.0.0/23",
    "10.0.0.0/8",
    "10.*.*.*",
    "10.0.1.0/24",
    "192.168.0.0/16",
    "0.0.0.0/0",
    "fd00::/16",
    "fd00::1",
    "fd00:0:0:1::/64",
)
SETS: Final = ("", "n.a.1", "n.a.2", "n.a.*", "n.b.1", "m.a.1", "n.a", "*.a.1", "n.*.1", "n.a.1.2", "n..1")
NAMES: Final = {1: "one", 2: "two", 3: ""}

pods = st.lists(
    st.fixed_dictionaries(
        {"number": st.integers(0, 12), "ip": st.sampled_from(ADDRESSES), "active": st.booleans()},
    ),
    max_size=3,
    unique_by=lambda pod: pod["number"],
)


@st.composite
def objects(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The objects of one server."""
    found = []
    for name in ("blue", "green", "red")[: draw(st.integers(1, 3))]:
        own = [
            {**pod, "name": f"{name}-{pod['number']}", "order": (name, pod["number"], f"{name}-{pod['number']}")}
            for pod in draw(pods)
        ]
        names = [pod["name"] for pod in own]
        some = st.sets(st.sampled_from(names)) if names else st.just(set())
        weights = st.dictionaries(st.sampled_from(names), st.sampled_from((0, 7, 100))) if names else st.just({})
        found.append(
            {
                "name": name,
                "pods": own,
                "set_id": draw(st.sampled_from(SETS)),
                "weight": draw(st.sampled_from((None, None, 0, 30))),
                "pod_weights": draw(weights),
                "flow_off": draw(st.sampled_from((False, False, True))),
                "off_pods": draw(some),
                "grouping": draw(st.sampled_from((None, True, False))),
                "group_name": draw(st.sampled_from(("", "", "one", "two", "nobody"))),
                "backup": draw(st.sampled_from((False, False, False, True))),
            }
        )
    return found


@st.composite
def policies(draw: st.DrawFn) -> ModelPolicy:
    """A policy with up to three groups and two priorities; often none at all."""
    names = {number: NAMES[number] for number in sorted(draw(st.sets(st.sampled_from((1, 2, 3)))))}
    numbers = sorted(names)
    patterns = draw(st.lists(st.sampled_from(PATTERNS), max_size=6, unique_by=parse_prefix))
    addresses = [(pattern, draw(st.sampled_from(numbers))) for pattern in patterns] if numbers else []
    stations = draw(st.lists(st.sampled_from(("north", "south")), max_size=2, unique=True))
    priorities = [(name, sorted(draw(st.sets(st.sampled_from(numbers))) if numbers else ())) for name in stations]
    return ModelPolicy(names, addresses, priorities, draw(st.booleans()))


def server_of(item: dict[str, Any]) -> Server:
    """An object as its annotations make it."""
    annotations = {"tars.io/set": item["set_id"], "tars.io/group-name": item["group_name"]}
    if item["weight"] is not None:
        annotations["tars.io/weight"] = str(item["weight"])
    if item["pod_weights"]:
        texts = (f'"{pod}": {weight}' for pod, weight in item["pod_weights"].items())
        annotations["tars.io/pod-weights"] = f"{{{', '.join(texts)}}}"
    if item["flow_off"]:
        annotations["tars.io/flow"] = "off"
    annotations["tars.io/flow-off-pods"] = ",".join(sorted(item["off_pods"]))
    if item["grouping"] is not None:
        annotations["tars.io/group"] = "on" if item["grouping"] else "off"
    if item["backup"]:
        annotations["tars.io/backup"] = "true"
    facts = facts_of_pod({key: text for key, text in annotations.items() if text}, None)
    assert facts is None or isinstance(facts, RoutingFacts)
    return Server(
        "tars",
        item["name"],
        app="App",
        server="Server",
        servants=(ServantSpec("Obj", 1),),
        pods=tuple(
            Pod(
                pod["name"],
                pod_ip=pod["ip"],
                setting_state="Active",
                present_state="Active" if pod["active"] else "Activating",
            )
            for pod in sorted(item["pods"], key=lambda pod: pod["order"])
        ),
        routing=facts,
    )


def policy_of(model: ModelPolicy) -> Policy:
    rules = [Rule(parse_prefix(text), number, text) for text, number in model.addresses]
    groups = tuple(
        Group(number, name, tuple(rule for rule in rules if rule.group == number))
        for number, name in model.names.items()
    )
    priorities = tuple(Station(name, tuple(numbers)) for name, numbers in model.priorities)
    return Policy(PolicyDocument(groups, priorities, everywhere=model.everywhere))


def shown(endpoints: tuple[Endpoint, ...]) -> list[tuple[Any, ...]]:
    return [
        (e.host, m.set_id, m.group_work, m.group_real, m.weight, m.weight_type) for e in endpoints for m in (e.marks,)
    ]


questions = st.one_of(
    st.tuples(st.sampled_from(sorted(set(Lookup) - {Lookup.SAME_SET, Lookup.SAME_STATION})), st.just("")),
    st.tuples(st.just(Lookup.SAME_STATION), st.sampled_from(("north", "south", "nowhere", ""))),
    st.tuples(st.just(Lookup.SAME_SET), st.sampled_from(SETS)),
)
NAMING: Final = Naming(EndpointHost.POD_IP)


@settings(max_examples=500)
@given(objects=objects(), model=policies(), asked=questions, address=st.sampled_from(ADDRESSES))
def test_every_answer_is_that_of_the_model(
    objects: list[dict[str, Any]], model: ModelPolicy, asked: tuple[Lookup, str], address: str
) -> None:
    lookup, argument = asked
    policy = policy_of(model)
    caller = policy.group_of_address(address)
    assert caller == classic_rules.group_of(model, address)
    table = filled_store(*map(server_of, objects)).table
    question = Question(lookup, parse_id("App.Server.Obj"), argument, caller)
    found = select(table, NAMING, question, policy)
    expected = classic_rules.ask(objects, model, lookup, argument, caller)
    assert (found.ret, shown(found.active), shown(found.inactive)) == expected


@given(objects=objects(), model=policies(), asked=questions, group=st.sampled_from((-1, 1, 2, 3)))
def test_no_answer_holds_weights_that_a_client_chokes_on(
    objects: list[dict[str, Any]], model: ModelPolicy, asked: tuple[Lookup, str], group: int
) -> None:
    """Go divides by zero where all weights of type 1 are 0; Go and C++ go back to plain looping on a mix of types."""
    table = filled_store(*map(server_of, objects)).table
    question = Question(asked[0], parse_id("App.Server.Obj"), asked[1], group)
    found = select(table, NAMING, question, policy_of(model))
    for endpoints in (found.active, found.inactive):
        types = {endpoint.marks.weight_type for endpoint in endpoints}
        weights = [endpoint.marks.weight for endpoint in endpoints]
        assert types <= {0} or (types == {1} and max(weights) > 0)
        assert types != {0} or not any(weights)


@settings(max_examples=300)
@given(
    objects=objects(), before=policies(), after=policies(), asked=questions, group=st.sampled_from((-1, 1, 2, 3)),
    change=st.sampled_from(("everything", "addresses", "priorities", "nothing")),
)  # fmt: skip
def test_what_a_change_of_policy_spares_is_the_same_after_it(
    objects: list[dict[str, Any]],
    before: ModelPolicy,
    after: ModelPolicy,
    asked: tuple[Lookup, str],
    group: int,
    change: str,
) -> None:
    if change == "addresses":
        numbers = sorted(before.names)
        addresses = [(text, number) for text, number in after.addresses if number in numbers]
        after = ModelPolicy(before.names, addresses, before.priorities, before.everywhere)
    elif change == "priorities":
        kept = [(name, [g for g in groups if g in before.names]) for name, groups in after.priorities]
        after = ModelPolicy(before.names, before.addresses, kept, before.everywhere)
    elif change == "nothing":
        after = before
    old, new = policy_of(before), policy_of(after)
    lookup, argument = asked
    servers = [server_of(item) for item in objects]
    table = filled_store(*servers).table
    question = Question(lookup, parse_id("App.Server.Obj"), argument, group if lookup in BY_GROUP else -1)
    station = argument if lookup is Lookup.SAME_STATION else None
    spared = PolicyChange(old, new).spares(servers, question.group, station)
    if spared:
        assert select(table, NAMING, question, old) == select(table, NAMING, question, new)
    assert spared or change != "nothing"


def test_without_a_policy_every_caller_is_in_no_group() -> None:
    assert NO_POLICY.empty
    assert {NO_POLICY.group_of_address(address) for address in ADDRESSES} == {-1}
