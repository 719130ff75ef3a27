"""From custom resources to what the registry keeps of them."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest

from registry.model import CUSTOM_RESOURCES, Framework, Pod, ServantSpec, Server, Template, Upstream
from registry.sources.tendpoints import (
    KINDS,
    STRUCTS,
    ApiVersionError,
    ConversionError,
    TEndpoint,
    TFrameworkConfig,
    convert,
)

V = "k8s.tars.io/v1beta3"

ENDPOINT: dict[str, Any] = {
    "apiVersion": V,
    "kind": "TEndpoint",
    "metadata": {"name": "shop-orderserver", "namespace": "tars-dev", "labels": {"a": "b"}, "resourceVersion": "71"},
    "spec": {
        "app": "Shop",
        "server": "OrderServer",
        "subType": "tars",
        "important": 3,
        "hostPorts": [{"nameRef": "OrderObj", "port": 31010}],
        "tars": {
            "template": "tars.cpp",
            "profile": "<tars></tars>",
            "asyncThread": 5,
            "servants": [
                {
                    "name": "OrderObj",
                    "port": 21010,
                    "thread": 8,
                    "connection": 20000,
                    "capacity": 30000,
                    "timeout": 40000,
                    "isTars": False,
                    "isTcp": False,
                }
            ],
        },
        "release": {"id": "r12"},
    },
    "status": {
        "pods": [
            {
                "uid": "u1",
                "name": "shop-orderserver-0",
                "id": "r12",
                "podIP": "10.42.0.7",
                "hostIP": "192.0.2.11",
                "startTime": "2024-05-02T08:00:03Z",
                "settingState": "Active",
                "presentState": "Activating",
                "presentMessage": "",
                "pid": "27",
                "containerStatuses": [{"ready": True}],
            }
        ]
    },
}


def endpoint(**parts: Any) -> dict[str, Any]:
    return {"apiVersion": V, "kind": "TEndpoint", "metadata": {"name": "a-s"}, **parts}


def with_tars(**tars: Any) -> dict[str, Any]:
    return endpoint(spec={"app": "A", "server": "S", "tars": tars})


def with_pods(*pods: Any) -> dict[str, Any]:
    return endpoint(status={"pods": list(pods)})


def framework(up_chain: Any, name: str = "tars-framework") -> dict[str, Any]:
    return {"apiVersion": V, "kind": "TFrameworkConfig", "metadata": {"name": name}, "upChain": up_chain}


def server(raw: dict[str, Any]) -> Server:
    item = convert(raw)
    assert isinstance(item, Server)
    return item


def error_of(raw: dict[str, Any]) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        convert(raw)
    return caught.value


# --------------------------------------------------------------------------------------------- what is taken


def test_every_field_that_is_used_is_taken() -> None:
    assert convert(ENDPOINT) == Server(
        namespace="tars-dev",
        name="shop-orderserver",
        app="Shop",
        server="OrderServer",
        sub_type="tars",
        template="tars.cpp",
        profile="<tars></tars>",
        async_thread=5,
        servants=(
            ServantSpec(
                "OrderObj",
                21010,
                is_tcp=False,
                is_tars=False,
                timeout=40000,
                threads=8,
                connections=20000,
                capacity=30000,
            ),
        ),
        host_ports={"OrderObj": 31010},
        pods=(Pod("shop-orderserver-0", "u1", "10.42.0.7", "192.0.2.11", "Active", "Activating", pid="27", id="r12"),),
    )


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2", "v1beta3"])
def test_all_versions_are_read_alike(version: str) -> None:
    assert convert({**ENDPOINT, "apiVersion": f"k8s.tars.io/{version}"}) == convert(ENDPOINT)


def test_only_the_name_must_be_there() -> None:
    assert convert(endpoint()) == Server(namespace="default", name="a-s")


def test_a_servant_has_the_defaults_of_the_resource() -> None:
    item = server(with_tars(servants=[{"name": "O", "port": 1}, {"name": "P", "port": 65535, "timeout": None}]))
    assert item.servants == (
        ServantSpec("O", 1, True, True, timeout=60000, threads=3, connections=10000, capacity=10000),
        ServantSpec("P", 65535),
    )
    assert item.async_thread == 3
    assert item.profile == ""
    assert item.sub_type == "tars"


def test_a_normal_server_has_no_servants() -> None:
    item = server(endpoint(spec={"app": "A", "server": "S", "subType": "normal", "normal": {"ports": []}}))
    assert (item.sub_type, item.servants) == ("normal", ())


def without_parts(value: Any) -> list[Any]:
    """The value with null in the place of each part that it has, one at a time."""
    if isinstance(value, dict):
        return [{**value, key: other} for key, part in value.items() for other in [None, *without_parts(part)] if part]
    return [[other] for other in without_parts(value[0])] if isinstance(value, list) else []


@pytest.mark.parametrize("spec", without_parts(ENDPOINT["spec"]))
def test_null_is_absent_where_it_may_be_absent(spec: dict[str, Any]) -> None:
    def without_nulls(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_nulls(part) for key, part in value.items() if part is not None}
        return [without_nulls(part) for part in value] if isinstance(value, list) else value

    def outcome(raw: dict[str, Any]) -> object:
        try:
            return convert(raw)
        except ConversionError as error:
            return error.steps[:3]  # the same place, said otherwise

    assert outcome(endpoint(spec=spec)) == outcome(endpoint(spec=without_nulls(spec)))


@pytest.mark.parametrize("status", [None, {}, {"pods": None}, {"pods": []}])
def test_without_status_a_server_is_known_and_has_no_pods(status: Any) -> None:
    assert server(endpoint(spec={"app": "A"}, status=status)).pods == ()


def test_without_a_namespace_the_given_one_stands() -> None:
    item = convert(endpoint(), "tars")
    assert item is not None
    assert item.namespace == "tars"


def test_pods_are_in_order_of_their_ordinals() -> None:
    names = [pod.name for pod in server(with_pods({"name": "x-10"}, {"name": "x-2"}, {"name": "x-0"})).pods]
    assert names == ["x-0", "x-2", "x-10"]


def test_of_pods_with_one_name_the_last_stands() -> None:
    pods = server(with_pods({"name": "x-0", "uid": "1"}, {"name": "x-1"}, {"name": "x-0", "uid": "2"})).pods
    assert pods == (Pod("x-0", uid="2"), Pod("x-1"))


def test_pid_and_id_may_be_written_as_numbers() -> None:
    assert server(with_pods({"name": "x-0", "pid": 27, "id": 0})).pods == (Pod("x-0", pid="27", id="0"),)


def test_a_template_keeps_parent_and_content() -> None:
    raw = {"apiVersion": V, "kind": "TTemplate", "metadata": {"name": "tars.cpp"}}
    assert convert({**raw, "spec": {"parent": "tars.default", "content": "<a>"}}) == Template(
        "default", "tars.cpp", "tars.default", "<a>"
    )
    assert convert(raw) == Template("default", "tars.cpp")


def test_the_up_chain_has_its_defaults() -> None:
    chain = {
        "default": [{"host": "192.0.2.1", "port": 1}],
        "A.S.O": [{"host": "h", "port": 2, "timeout": 3000, "isTcp": False}],
    }
    assert convert(framework(chain)) == Framework(
        "default",
        "tars-framework",
        {"default": (Upstream("192.0.2.1", 1, 6000, True),), "A.S.O": (Upstream("h", 2, 3000, False),)},
    )


@pytest.mark.parametrize(("chain", "taken"), [(None, {}), ({}, {}), ({"a": None}, {"a": ()}), ({"a": []}, {"a": ()})])
def test_a_null_up_chain_is_empty(chain: Any, taken: Any) -> None:
    assert convert(framework(chain)) == Framework("default", "tars-framework", taken)


def test_only_the_framework_of_the_right_name_counts() -> None:
    assert convert(framework({}, name="other")) is None
    assert convert(framework({"a": 3}, name="other")) is None
    assert msgspec.json.decode(b'{"metadata": {"name": "other"}}', type=TFrameworkConfig).to_model() is None


@pytest.mark.parametrize("kind", ["TServer", "ConfigMap", "tendpoint", "", None, 3, ["TEndpoint"]])
def test_other_kinds_are_nothing_of_ours(kind: Any) -> None:
    assert convert({**ENDPOINT, "kind": kind}) is None
    assert convert({}) is None


def test_nothing_given_is_changed() -> None:
    raw = copy.deepcopy(ENDPOINT)
    convert(raw)
    assert raw == ENDPOINT


def test_kinds_are_those_of_the_model() -> None:
    assert set(CUSTOM_RESOURCES) == KINDS == set(STRUCTS)


def test_the_structs_decode_what_the_api_sends() -> None:
    decoded = msgspec.json.decode(json.dumps(ENDPOINT).encode(), type=TEndpoint)
    assert decoded.metadata.resource_version == "71"
    assert decoded.to_model("tars") == convert(ENDPOINT)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"metadata": {"name": "x"}, "spec": {"app": 1}}', type=TEndpoint)


# --------------------------------------------------------------------------------------------- what is not

SERVANT = {"name": "O", "port": 1}


def with_servant(**fields: Any) -> dict[str, Any]:
    return with_tars(servants=[{**SERVANT, **fields}])


@pytest.mark.parametrize(
    ("raw", "path", "reason"),
    [
        (
            with_servant(port="21010"),
            "spec.tars.servants[0].port",
            'expected a whole number, got "21010"; write it without quotes',
        ),
        (
            with_tars(servants=[SERVANT, {**SERVANT, "port": 0}]),
            "spec.tars.servants[1].port",
            "expected a port from 1 to 65535, got 0",
        ),
        (
            with_servant(port=65536),
            "spec.tars.servants[0].port",
            "expected a port from 1 to 65535, got 65536",
        ),
        (with_tars(servants=[{"name": "O"}]), "spec.tars.servants[0]", "port is missing"),
        (
            with_servant(port=True),
            "spec.tars.servants[0].port",
            "expected a whole number, got true",
        ),
        (
            with_servant(port=1.5),
            "spec.tars.servants[0].port",
            "expected a whole number, got 1.5",
        ),
        (
            with_servant(port=None),
            "spec.tars.servants[0].port",
            "expected a whole number, got nothing",
        ),
        (
            with_servant(name=""),
            "spec.tars.servants[0].name",
            'expected text that is not empty, got ""',
        ),
        (
            with_servant(timeout=2**31),
            "spec.tars.servants[0].timeout",
            "expected a whole number from -2147483648 to 2147483647, got 2147483648",
        ),
        (
            with_servant(isTcp="true"),
            "spec.tars.servants[0].isTcp",
            'expected true or false, got "true"; write it without quotes',
        ),
        (with_tars(servants={"O": 1}), "spec.tars.servants", "expected a list, got a mapping"),
        (with_tars(servants=["O"]), "spec.tars.servants[0]", 'expected a mapping, got "O"'),
        (with_tars(profile=["x"]), "spec.tars.profile", "expected text, got a list"),
        (with_tars(template=12), "spec.tars.template", "expected text, got 12; put it in quotes"),
        (endpoint(spec={"app": True}), "spec.app", "expected text, got true; put it in quotes"),
        (endpoint(spec=[]), "spec", "expected a mapping, got a list"),
        (
            endpoint(spec={"hostPorts": [{"nameRef": "O", "port": 70000}]}),
            "spec.hostPorts[0].port",
            "expected a port from 1 to 65535, got 70000",
        ),
        (with_pods({"name": "x", "podIP": 10}), "status.pods[0].podIP", "expected text, got 10; put it in quotes"),
        (
            with_pods({"name": "x", "pid": 1.5}),
            "status.pods[0].pid",
            "expected a whole number or text, got 1.5; put it in quotes",
        ),
        (
            with_pods({"name": "x", "id": False}),
            "status.pods[0].id",
            "expected a whole number or text, got false; put it in quotes",
        ),
        (with_pods({"uid": "u"}), "status.pods[0]", "name is missing"),
        (with_pods(None), "status.pods[0]", "expected a mapping, got nothing"),
        (
            endpoint(metadata={"name": "x", "namespace": 5}),
            "metadata.namespace",
            "expected text, got 5; put it in quotes",
        ),
        (endpoint(metadata={}), "metadata", "name is missing"),
        (endpoint(metadata=None), "metadata", "expected a mapping, got nothing"),
        (
            framework({"default": [], "Legacy.User.Obj": [{"host": "h", "port": 1}, {"host": "h", "port": "x"}]}),
            "upChain[Legacy.User.Obj][1].port",
            'expected a whole number, got "x"',
        ),
        (framework({"default": [{"port": 1}]}), "upChain.default[0]", "host is missing"),
        (framework({"default": {"host": "h"}}), "upChain.default", "expected a list, got a mapping"),
        (framework([]), "upChain", "expected a mapping, got a list"),
    ],
)
def test_a_value_that_is_wrong_is_named_with_its_path_and_what_is_right(
    raw: dict[str, Any], path: str, reason: str
) -> None:
    error = error_of(raw)
    assert (error.path, error.reason) == (path, reason)
    assert not isinstance(error, ApiVersionError)


def test_an_error_names_the_object() -> None:
    error = error_of({**ENDPOINT, "spec": {"app": 1}})
    assert error.object_name == "TEndpoint tars-dev/shop-orderserver"
    assert str(error) == "TEndpoint tars-dev/shop-orderserver: spec.app: expected text, got 1; put it in quotes"
    assert error.steps == ("spec", "app")


def test_an_object_without_metadata_is_named_as_well_as_can_be() -> None:
    raw = {"apiVersion": V, "kind": "TTemplate"}
    assert str(error_of(raw)) == "TTemplate default/(no name): metadata is missing"


def test_long_values_are_cut_in_errors() -> None:
    assert len(error_of(with_tars(asyncThread="x" * 1000)).reason) < 120


@pytest.mark.parametrize(
    "version", ["k8s.tars.io/v1", "k8s.tars.io/v1alpha1", "v1", "example.com/v1beta3", None, 3, []]
)
def test_an_unknown_version_is_told_with_the_right_ones(version: Any) -> None:
    error = error_of({**ENDPOINT, "apiVersion": version})
    assert isinstance(error, ApiVersionError)
    assert error.path == "apiVersion"
    assert error.reason.startswith("expected k8s.tars.io/v1beta3 (or k8s.tars.io/v1beta2 or k8s.tars.io/v1beta1), got ")
