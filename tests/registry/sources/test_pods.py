"""Pods as servers: their state as TARS's controller works it out, their servants, and how they are reached."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.kube.objects import Undecodable, decoder
from registry.model import Kind, Pod, ServantSpec, Server
from registry.routing.hosts import EndpointHost, Naming
from registry.routing.select import Endpoint, Lookup, Question, parse_id, select
from registry.sources.pods import (
    APP_LABEL,
    SELECTOR,
    SERVANTS_ANNOTATION,
    SERVER_LABEL,
    PodObject,
    parse_servants,
    to_server,
)
from registry.table import TableStore

READY: Final = [
    {"type": name, "status": "True"} for name in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
]
LABELS: Final = {APP_LABEL: "Shop", SERVER_LABEL: "Order"}

decode = decoder(PodObject, to_server)


def pod(
    name: str = "order-0",
    *,
    servants: str | None = "OrderObj:21010",
    ports: list[dict[str, Any]] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    labels: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """A Pod as the API server gives it."""
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-of-{name}",
            "resourceVersion": "7",
            "labels": LABELS if labels is None else labels,
            "annotations": {} if servants is None else {SERVANTS_ANNOTATION: servants},
            **metadata,
        },
        "spec": {"containers": [{"name": "server", "image": "x", "ports": ports or []}], **(spec or {})},
        "status": {
            "phase": "Running",
            "podIP": "10.1.0.1",
            "hostIP": "192.168.0.1",
            "conditions": READY if conditions is None else conditions,
            **(status or {}),
        },
    }


def server_of(found: dict[str, Any]) -> Server:
    item = decode(msgspec.Raw(msgspec.json.encode(found))).item
    assert isinstance(item, Server)
    return item


def reason_for(found: dict[str, Any]) -> str:
    """Why a pod is left out."""
    with pytest.raises(Undecodable) as error:
        decode(msgspec.Raw(msgspec.json.encode(found)))
    assert error.value.key == ("shop", "order-0")
    assert error.value.version == "7"
    return error.value.reason


def state_of(conditions: list[dict[str, Any]], **metadata: Any) -> tuple[str, str, str]:
    (one,) = server_of(pod(conditions=conditions, **metadata)).pods
    return one.setting_state, one.present_state, one.pid


def condition(name: str, status: str = "True", reason: str | None = None) -> dict[str, Any]:
    found = {"type": name, "status": status, "lastTransitionTime": "2024-01-01T00:00:00Z"}
    return found if reason is None else found | {"reason": reason}


def reported(reason: str | None, status: str = "True") -> dict[str, Any]:
    return condition("tars.io/active", status, reason)


ALL_BUT_READY: Final = [*READY[:3], condition("Ready", "False", "ReadinessGatesNotReady")]


# ------------------------------------------------------------------------------------------------ what is kept


def test_a_labelled_pod_is_a_server_with_one_pod() -> None:
    assert server_of(pod(conditions=[*READY, reported("Active/Active/27")], spec={"subdomain": "order"})) == Server(
        namespace="shop",
        name="order-0",
        app="Shop",
        server="Order",
        servants=(ServantSpec("OrderObj", 21_010),),
        pods=(
            Pod(
                "order-0",
                uid="uid-of-order-0",
                pod_ip="10.1.0.1",
                host_ip="192.168.0.1",
                setting_state="Active",
                present_state="Active",
                pid="27",
            ),
        ),
        kind=Kind.POD,
        subdomain="order",
    )


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {APP_LABEL: "Shop"},
        {SERVER_LABEL: "Order"},
        {APP_LABEL: "", SERVER_LABEL: "Order"},
        {APP_LABEL: "Shop", SERVER_LABEL: ""},
        {APP_LABEL.lower(): "Shop", SERVER_LABEL.lower(): "Order"},
    ],
)
def test_without_both_labels_a_pod_is_no_server(labels: dict[str, str]) -> None:
    """The selector of the watch lets those through whose label is there but empty. No fault of the pod."""
    found = decode(msgspec.Raw(msgspec.json.encode(pod(labels=labels, servants="nonsense"))))
    assert (found.key, found.version, found.item) == (("shop", "order-0"), "7", None)


def test_the_selector_asks_for_both_labels() -> None:
    assert SELECTOR == "tars.io/ServerApp,tars.io/ServerName"


@pytest.mark.parametrize(
    "rest",
    [
        {},
        {"spec": None, "status": None},
        {"spec": {}, "status": {}},
        {"spec": {"containers": None}, "status": {"conditions": None, "podIP": None, "hostIP": None}},
        {"spec": {"containers": [{}, {"ports": None}], "subdomain": None}},
    ],
)
def test_what_is_not_there_yet_is_no_error(rest: dict[str, Any]) -> None:
    """A pod that was only just created: known, not scheduled."""
    found = server_of({"metadata": {"name": "order-0", "namespace": "shop", "labels": LABELS}, **rest})
    assert found.servants == ()
    (one,) = found.pods
    assert (one.active, one.pod_ip, one.host_ip) == (False, "", "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": {"podIP": 7}},
        {"status": {"conditions": {}}},
        {"status": {"conditions": [{"type": "Ready"}]}},
        {"spec": {"subdomain": 7}},
        {"spec": {"containers": {}}},
        {"labels": {APP_LABEL: 7, SERVER_LABEL: "Order"}},
        {"ports": [{"name": "orderobj"}]},
        {"ports": [{"name": "orderobj", "containerPort": "21010"}]},
    ],
)
def test_a_value_of_the_wrong_type_drops_that_pod(wrong: dict[str, Any]) -> None:
    assert "Expected" in reason_for(pod(**wrong)) or "missing" in reason_for(pod(**wrong))


# ------------------------------------------------------------------------------------------- states in pods mode


@pytest.mark.parametrize("conditions", [[], READY, ALL_BUT_READY, [reported("Inactive/Inactive")]])
def test_a_pod_that_is_to_go_is_terminating_whatever_its_conditions_say(conditions: list[dict[str, Any]]) -> None:
    """Its process may still run and be Ready: inactive at once."""
    found = state_of(conditions, deletionTimestamp="2024-01-01T00:00:00Z")
    assert found[:2] == ("Active", "Terminating")


def test_a_ready_pod_is_active() -> None:
    assert state_of(READY) == ("Active", "Active", "")
    assert state_of([READY[3]]) == ("Active", "Active", "")


def test_a_ready_pod_is_active_whatever_else_is_said_of_it() -> None:
    """Ready has every gate and probe in it."""
    others = [condition("DisruptionTarget", "False", "x"), condition("ContainersReady", "False", "y")]
    assert state_of([*others, READY[3], reported("Inactive/Activating/3", "False")]) == ("Active", "Active", "3")


@pytest.mark.parametrize("status", ["False", "Unknown", "true", ""])
def test_only_true_is_ready(status: str) -> None:
    """Unknown is what a node that does not answer is given."""
    assert state_of([*READY[:3], condition("Ready", status)])[1] != "Active"


@pytest.mark.parametrize(
    ("conditions", "present"),
    [
        # The first of these three, in their order and not in that of the list.
        (
            [condition(n, "False", f"No{n}") for n in ("ContainersReady", "Initialized", "PodScheduled")],
            "NoPodScheduled",
        ),
        ([condition(n, "False", f"No{n}") for n in ("ContainersReady", "Initialized")], "NoInitialized"),
        (
            [condition("PodScheduled"), condition("ContainersReady", "False", "ContainersNotReady")],
            "ContainersNotReady",
        ),
        # They go before any other.
        ([condition("Other", "False", "No"), condition("Initialized", "False", "NotYet")], "NotYet"),
        # Others in the order in which they stand.
        ([*READY[:3], condition("a/gate", "False", "First"), condition("b/gate", "False", "Second")], "First"),
        ([*READY[:3], condition("a/gate", "True", "Fine"), condition("b/gate", "False", "Second")], "Second"),
        # Anything but True, with the reason; without one, the type.
        ([condition("PodScheduled", "Unknown", "NodeLost")], "NodeLost"),
        ([condition("PodScheduled", "False")], "PodScheduled"),
        ([condition("PodScheduled", "False", "")], "PodScheduled"),
        # It is not Ready that is named, nor the report: both follow from the rest.
        ([condition("Ready", "False", "ContainersNotReady"), condition("Initialized", "False", "Init")], "Init"),
        ([reported("Active/Activating", "False"), condition("ContainersReady", "False", "Crash")], "Crash"),
    ],
)
def test_the_first_condition_that_is_not_true_names_the_present_state(
    conditions: list[dict[str, Any]], present: str
) -> None:
    not_ready = [] if any(one["type"] == "Ready" for one in conditions) else [ALL_BUT_READY[3]]
    assert state_of([*conditions, *not_ready])[:2] == ("Active", present)


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("Active/Activating/27", ("Active", "Activating", "27")),
        ("Inactive/Inactive", ("Inactive", "Inactive", "")),
        ("Active/Active/27", ("Active", "Active", "27")),
        ("Active", ("Active", "", "")),
        ("Active/", ("Active", "", "")),
        ("", ("", "", "")),
        (None, ("", "", "")),
        ("Active/Active/27/1", ("Unknown", "Unknown", "")),
        ("////", ("Unknown", "Unknown", "")),
    ],
)
def test_else_the_report_of_the_tarsnode_is_the_state(reason: str | None, state: tuple[str, str, str]) -> None:
    """Where all that it waits for is true, but Ready is not yet: setting/present/pid. More parts mean unknown."""
    assert state_of([*ALL_BUT_READY, reported(reason)]) == state
    assert state_of([*ALL_BUT_READY, reported(reason, "False")]) == state


@pytest.mark.parametrize("conditions", [[], ALL_BUT_READY, READY[:3]])
def test_without_a_report_the_state_is_unknown(conditions: list[dict[str, Any]]) -> None:
    assert state_of(conditions) == ("Unknown", "Unknown", "")


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_is_inactive(phase: str) -> None:
    """As one that was evicted, which stays for a while."""
    ended = [*READY[:2], condition("ContainersReady", "False", "PodFailed"), condition("Ready", "False", "PodFailed")]
    (one,) = server_of(pod(conditions=ended, status={"phase": phase})).pods
    assert not one.active


@given(
    conditions=st.lists(
        st.builds(
            condition,
            st.sampled_from(("PodScheduled", "Initialized", "ContainersReady", "Ready", "a/gate", "tars.io/active")),
            st.sampled_from(("True", "False", "Unknown")),
            st.sampled_from((None, "", "Active/Active/1", "NotYet")),
        ),
        unique_by=lambda one: one["type"],
    ),
    leaving=st.booleans(),
)
def test_active_is_ready_and_not_terminating_or_reported_so(conditions: list[dict[str, Any]], leaving: bool) -> None:
    metadata: dict[str, Any] = {"deletionTimestamp": "2024-01-01T00:00:00Z"} if leaving else {}
    (one,) = server_of(pod(conditions=conditions, **metadata)).pods
    true = {each["type"] for each in conditions if each["status"] == "True"}
    waits = [each for each in conditions if each["type"] not in ("Ready", "tars.io/active", *true)]
    report = [each.get("reason") for each in conditions if each["type"] == "tars.io/active"]
    assert one.active is (not leaving and ("Ready" in true or (not waits and report == ["Active/Active/1"])))


# ------------------------------------------------------------------------------------- servants by annotation


FULL: Final = ServantSpec("OrderObj", 21_010, False, False, timeout=5_000, threads=7, connections=8, capacity=9)

FULL_YAML: Final = """
- name: OrderObj
  port: 21010
  isTcp: false
  isTars: false
  timeout: 5000
  thread: 7
  connection: 8
  capacity: 9
"""
FULL_JSON: Final = (
    '[{"name":"OrderObj","port":21010,"isTcp":false,"isTars":false,"timeout":5000,"thread":7,"connection":8,'
    '"capacity":9,"later":{}}]'
)


@pytest.mark.parametrize(
    ("text", "servants"),
    [
        ("OrderObj:21010/tcp", [ServantSpec("OrderObj", 21_010)]),
        ("OrderObj:21010", [ServantSpec("OrderObj", 21_010)]),
        ("OrderObj:21010/udp", [ServantSpec("OrderObj", 21_010, is_tcp=False)]),
        ("OrderObj:1/TCP,A2:65535/Udp", [ServantSpec("OrderObj", 1), ServantSpec("A2", 65_535, is_tcp=False)]),
        (
            " OrderObj : 21010 / tcp ,\n UserObj:21011\n",
            [ServantSpec("OrderObj", 21_010), ServantSpec("UserObj", 21_011)],
        ),
        ("OrderObj:00080", [ServantSpec("OrderObj", 80)]),
        ("- {name: OrderObj, port: 21010}", [ServantSpec("OrderObj", 21_010)]),
        ("[{name: OrderObj, port: 21010}]", [ServantSpec("OrderObj", 21_010)]),
        (
            "- name: OrderObj\n  port: 21010\n  timeout: 3000\n- name: UserObj\n  port: 21011\n",
            [ServantSpec("OrderObj", 21_010, timeout=3_000), ServantSpec("UserObj", 21_011)],
        ),
        (FULL_YAML, [FULL]),
        ('[{"name":"OrderObj","port":21010}]', [ServantSpec("OrderObj", 21_010)]),
        ('\n[\n\t{"name": "OrderObj",\t"port": 21010}\n]\n', [ServantSpec("OrderObj", 21_010)]),
        (FULL_JSON, [FULL]),
        ("- {name: OrderObj, port: 21010, timeout: null}", [ServantSpec("OrderObj", 21_010)]),
        ("---\n- {name: OrderObj, port: 21010}\n", [ServantSpec("OrderObj", 21_010)]),
        ("[]", []),
    ],
)
def test_forms_of_the_annotation(text: str, servants: list[ServantSpec]) -> None:
    """The names are exact, as in a TEndpoint; a container port's name plays no part."""
    found = server_of(pod(servants=text, ports=[{"name": "other", "containerPort": 1}]))
    assert list(found.servants) == servants


def test_a_list_in_the_annotation_has_the_defaults_of_an_endpoint() -> None:
    (found,) = server_of(pod(servants='[{"name":"OrderObj","port":21010}]')).servants
    assert (found.timeout, found.is_tcp, found.is_tars, found.any_case) == (60_000, True, True, False)


EXPECTED: Final = "expected OrderObj:21010/tcp (several with commas), or a list of servants as in a TEndpoint"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", EXPECTED),
        ("  ", EXPECTED),
        ("OrderObj", EXPECTED),
        ("OrderObj:", EXPECTED),
        ("OrderObj:21010/sctp", EXPECTED),
        ("OrderObj:21010,", EXPECTED),
        (",OrderObj:21010", EXPECTED),
        ("OrderObj:21010 UserObj:21011", EXPECTED),
        ("Order-Obj:21010", EXPECTED),
        ("1Obj:21010", EXPECTED),
        ("Order.Obj:21010", EXPECTED),
        ("\N{KELVIN SIGN}Obj:21010", EXPECTED),
        ("OrderObj:\N{ARABIC-INDIC DIGIT ONE}", EXPECTED),
        ("OrderObj:210100", EXPECTED),
        ("OrderObj:0", "OrderObj: 0 is no port from 1 to 65535"),
        ("A:1,OrderObj:65536", "OrderObj: 65536 is no port from 1 to 65535"),
        ("{name: OrderObj, port: 21010}", "Expected `array`, got `object`"),
        ("- OrderObj", "Expected `object`, got `str` - at `$[0]`"),
        ("- {name: OrderObj}", "missing required field `port`"),
        ("- {port: 21010}", "missing required field `name`"),
        ("- {name: '', port: 21010}", "at `$[0].name`"),
        ("- {name: OrderObj, port: '21010'}", "Expected `int`, got `str` - at `$[0].port`"),
        ("- {name: OrderObj, port: 0}", "at `$[0].port`"),
        ("- {name: OrderObj, port: 1}\n- {name: UserObj, port: 65536}", "at `$[1].port`"),
        ("- {name: OrderObj, port: 21010, isTcp: 1}", "at `$[0].isTcp`"),
        ("- {name: OrderObj, port: 21010, timeout: 2147483648}", "at `$[0].timeout`"),
        ("- {name: OrderObj, port: 2024-13-45}", "Expected `int`, got `str` - at `$[0].port`"),
        ("- {name: OrderObj, port: 1, port: 2}", "the key 'port' stands twice"),
        ('[{"name":"OrderObj","port":21010}', EXPECTED),
        ("- {name: OrderObj, port: 21010}\n---\n- {name: UserObj, port: 21011}", "more than one document"),
        ("null", "Expected `array`, got `null`"),
        ("\0", "no YAML"),
    ],
)
def test_a_wrong_annotation_drops_the_pod_and_says_what_is_right(text: str, reason: str) -> None:
    said = reason_for(pod(servants=text))
    assert said.startswith("tars.io/servants: ")
    assert reason in said


@pytest.mark.parametrize(
    "text",
    [
        "[" * 9_000,
        "{" * 9_000,
        "- " * 4_000,
        '[{"name":' * 1_000,
        "!!timestamp x",
        "!!bool x",
        "!!int ''",
        "!!python/object/apply:os.system [ls]",
        "- &a [*a]",
        "&a [&b [1, 1], " + "*b, " * 2_000 + "*b]",
        "<<: x",
        "? [a]\n: b",
        "- {name: OrderObj, port: 1" + "0" * 5_000 + "}",
        "9" * 5_000,
        '"\\ud800"',
        "OrderObj:21010," * 600 + "x",
        "x" * 200_000,
        "- {name: OrderObj, port: 21010}\n" * 7_000,
    ],
)
def test_no_annotation_does_more_than_drop_its_pod(text: str) -> None:
    """Whoever may create a pod writes it. Any other exception would end the watch of all pods, again and again."""
    assert reason_for(pod(servants=text)).startswith("tars.io/servants: ")
    assert len(reason_for(pod(servants=text))) < 500


@given(
    st.one_of(
        st.text(max_size=60),
        st.text("[]{}-:,!&*<>?|%@`'\"# \n\tAo19/tcpudp", max_size=40),
        st.lists(
            st.sampled_from(
                ("OrderObj", ":", "21010", "/tcp", ",", "- ", "{", "}", "name: ", "port: ", "\n", "!!set", "&a", "*a")
            )
        ).map("".join),
    )
)
def test_any_text_is_servants_or_a_reason(text: str) -> None:
    try:
        servants = parse_servants(text)
    except ValueError as error:
        reason = str(error)
    else:
        assert all(1 <= servant.port <= 65_535 for servant in servants)
        return
    assert reason.startswith("tars.io/servants: ")


def test_equal_annotations_are_read_once() -> None:
    """Thousands of pods have one text: it is not parsed for each, and what comes of it is shared."""
    text = "- {name: OrderObj, port: 21010, timeout: 1234}"
    assert server_of(pod("order-0", servants=text)).servants is server_of(pod("order-1", servants=text)).servants
    named = [{"name": "orderobj", "containerPort": 1}]
    first, second = (server_of(pod(name, servants=None, ports=named)) for name in ("order-0", "order-1"))
    assert first.servants is second.servants


# ------------------------------------------------------------------------------------ servants by named ports


def test_without_the_annotation_named_container_ports_are_the_servants() -> None:
    ports: list[dict[str, Any]] = [
        {"name": "orderobj", "containerPort": 21_010, "protocol": "TCP"},
        {"containerPort": 8_080},
        {"name": "userobj", "containerPort": 21_011, "protocol": "UDP"},
        {"name": "", "containerPort": 8_081},
    ]
    assert server_of(pod(servants=None, ports=ports)).servants == (
        ServantSpec("orderobj", 21_010, any_case=True),
        ServantSpec("userobj", 21_011, is_tcp=False, any_case=True),
    )


def test_ports_of_all_containers_count() -> None:
    containers = [{"ports": [{"name": name, "containerPort": 1}]} for name in ("orderobj", "userobj")]
    found = server_of(pod(servants=None, spec={"containers": containers}))
    assert [servant.name for servant in found.servants] == ["orderobj", "userobj"]


@pytest.mark.parametrize("no_annotations", [None, {}, {"other": "x"}])
def test_other_annotations_name_no_servants(no_annotations: dict[str, str] | None) -> None:
    found = pod(ports=[{"name": "orderobj", "containerPort": 1}], annotations=no_annotations)
    assert [servant.name for servant in server_of(found).servants] == ["orderobj"]


# ----------------------------------------------------------------------------------------------- how it answers


def ask(object_id: str, *pods: dict[str, Any], mode: EndpointHost = EndpointHost.POD_IP) -> tuple[list[str], list[str]]:
    """Addresses of the active and of the inactive endpoints of an object."""
    store = TableStore()
    for found in pods:
        store.upsert(server_of(found))
    selection = select(store.table, Naming(mode), Question(Lookup.ALL, parse_id(object_id)))
    return [_shown(e) for e in selection.active], [_shown(e) for e in selection.inactive]


def _shown(endpoint: Endpoint) -> str:
    return f"{endpoint.host}:{endpoint.port}"


@pytest.mark.parametrize("called", ["OrderObj", "orderobj", "ORDEROBJ"])
def test_a_named_port_is_called_in_any_case(called: str) -> None:
    found = pod(servants=None, ports=[{"name": "orderobj", "containerPort": 21_010}])
    assert ask(f"shop.ORDER.{called}", found) == (["10.1.0.1:21010"], [])


@pytest.mark.parametrize(("called", "active"), [("OrderObj", ["10.1.0.1:21010"]), ("orderobj", [])])
def test_an_annotated_servant_is_called_as_it_is_spelt(called: str, active: list[str]) -> None:
    assert ask(f"Shop.Order.{called}", pod()) == (active, [])


def at(name: str, ip: str, **how: Any) -> dict[str, Any]:
    return pod(name, status={"podIP": ip}, **how)


def test_pods_of_a_server_are_put_together_in_their_order() -> None:
    found = [
        at("order-10", "10.0.0.10"),
        at("order-9", "10.0.0.9"),
        at("order-1", "10.0.0.1", conditions=ALL_BUT_READY),
    ]
    assert ask("Shop.Order.OrderObj", *found) == (["10.0.0.9:21010", "10.0.0.10:21010"], ["10.0.0.1:21010"])
    assert ask("Shop.Order.OrderObj", *found[::-1]) == ask("Shop.Order.OrderObj", *found)


def test_in_a_rolling_update_each_pod_answers_for_its_own_servants() -> None:
    """Another port, one more servant: an endpoint is never given the port of another release's pods."""
    old, new = at("order-0", "10.0.0.1"), at("order-1", "10.0.0.2", servants="OrderObj:21020,UserObj:21021")
    assert ask("Shop.Order.OrderObj", old, new) == (["10.0.0.1:21010", "10.0.0.2:21020"], [])
    assert ask("Shop.Order.UserObj", old, new) == (["10.0.0.2:21021"], [])
    assert ask("Shop.Order.Other", old, new) == ([], [])


def test_a_pod_without_an_address_is_no_endpoint_yet() -> None:
    assert ask("Shop.Order.OrderObj", at("order-0", ""), at("order-1", "10.0.0.2")) == (["10.0.0.2:21010"], [])


@pytest.mark.parametrize(
    ("mode", "host"),
    [
        (EndpointHost.AUTO, "order-0.order"),
        (EndpointHost.DNS, "order-0.order"),
        (EndpointHost.DNS_FQDN, "order-0.order.shop.svc.cluster.local"),
        (EndpointHost.POD_IP, "10.1.0.1"),
        (EndpointHost.HOST_IP, "192.168.0.1"),
    ],
)
def test_a_pod_of_a_stateful_set_is_reached_under_its_name(mode: EndpointHost, host: str) -> None:
    found = pod(spec={"subdomain": "order", "hostname": "order-0"})
    assert ask("Shop.Order.OrderObj", found, mode=mode) == ([f"{host}:21010"], [])


@pytest.mark.parametrize(
    ("mode", "active"),
    [
        (EndpointHost.AUTO, ["10.1.0.1:21010"]),
        (EndpointHost.DNS, []),
        (EndpointHost.DNS_FQDN, []),
        (EndpointHost.POD_IP, ["10.1.0.1:21010"]),
        (EndpointHost.HOST_IP, ["192.168.0.1:21010"]),
    ],
)
def test_a_pod_of_a_deployment_is_reached_under_its_address(mode: EndpointHost, active: list[str]) -> None:
    assert ask("Shop.Order.OrderObj", pod("order-7d4b9-x2x4z"), mode=mode) == (active, [])


@pytest.mark.parametrize(
    ("servants", "name"),
    [(None, "orderobj"), ("OrderObj:21010", "orderobj"), ("OrderObj:21010", None), ("OrderObj:21010", "tars")],
)
def test_host_ports_belong_to_the_servant_that_listens_on_the_port(servants: str | None, name: str | None) -> None:
    """Whatever the container port is called, and whether there is an annotation or not."""
    port = {"containerPort": 21_010, "hostPort": 31_010, "name": name}
    other = {"containerPort": 9_100, "hostPort": 9_100, "name": None}
    found = pod("order-x", servants=servants, ports=[port, other])
    for mode in (EndpointHost.AUTO, EndpointHost.HOST_IP):
        assert ask("Shop.Order.OrderObj", found, mode=mode) == (["192.168.0.1:31010"], [])
    assert ask("Shop.Order.OrderObj", found) == (["10.1.0.1:21010"], [])


def test_a_host_port_of_something_else_does_not_make_the_node_the_host() -> None:
    """As that of an exporter beside the server."""
    exporter: dict[str, Any] = {"name": "metrics", "containerPort": 9_100, "hostPort": 9_100}
    named = pod("order-x", servants=None, ports=[exporter, {"name": "orderobj", "containerPort": 21_010}])
    annotated = pod("order-x", ports=[exporter])
    for found in (named, annotated):
        assert ask("Shop.Order.OrderObj", found, mode=EndpointHost.AUTO) == (["10.1.0.1:21010"], [])


def test_host_ports_of_udp_and_tcp_are_two() -> None:
    ports = [
        {"containerPort": 21_010, "hostPort": 31_010, "protocol": "UDP"},
        {"containerPort": 21_010, "hostPort": 31_011, "protocol": "TCP"},
    ]
    found = pod("order-x", servants="OrderObj:21010/tcp,UserObj:21010/udp", ports=ports)
    assert server_of(found).host_ports == {"OrderObj": 31_011, "UserObj": 31_010}


def test_reasons_name_no_line_break() -> None:
    """They stand in one line of the log and of /readyz."""
    for text in ("a\nb\nc: [", "- {name: OrderObj\n\n}"):
        assert re.search(r"[\r\n]", reason_for(pod(servants=text))) is None
