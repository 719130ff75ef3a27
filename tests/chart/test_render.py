"""What the chart makes of its values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
import yaml
from hypothesis import given, settings

from registry import config as registry_config
from registry.sources.kubernetes import KubernetesSettings
from tests.chart.tools import (
    CHART,
    KUBERNETES,
    ROOT,
    Helm,
    Object,
    Values,
    configuration,
    container,
    of_kind,
    one,
)
from tests.chart.variants import ALL_ON, VARIANTS, any_values

pytestmark = pytest.mark.chart

OWN: Final = "tars"
SELECTOR: Final = {"app.kubernetes.io/name": "tars-registry", "app.kubernetes.io/instance": "tars-registry"}


def pod(objects: list[Object]) -> Object:
    """The pod template of the Deployment."""
    found: Object = one(objects, "Deployment")["spec"]["template"]
    return found


def rules(objects: list[Object], kind: str = "Role", name: str = "tars-registry") -> set[tuple[str, str, str, str]]:
    """Namespace, resource, name and verbs of each rule of a Role."""
    return {
        (role["metadata"].get("namespace", ""), resource, ",".join(rule.get("resourceNames", ())), verb)
        for role in of_kind(objects, kind, name)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


# --------------------------------------------------------------------------------------------- all of it


def test_lint_finds_nothing(helm: Helm) -> None:
    for options in ([], ["--with-subcharts"]):
        said = helm.run("lint", "--strict", CHART, "--kube-version", KUBERNETES, *options)
        assert "WARNING" not in said
        assert "ERROR" not in said


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_is_well_formed_and_its_configuration_is_taken(name: str, helm: Helm, tmp_path: Path) -> None:
    objects = helm.render(VARIANTS[name])
    well_formed(objects)
    loads(objects, tmp_path)


@settings(max_examples=25)
@given(values=any_values())
def test_any_combination_of_parts_is_well_formed(
    values: Values, helm: Helm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    objects = helm.render(values)
    well_formed(objects)
    loads(objects, tmp_path_factory.mktemp("config"))


def well_formed(objects: list[Object]) -> None:
    """What holds of every render."""
    named = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(named) == len(set(named))
    for each in objects:
        cluster_wide = each["kind"] in ("ClusterRole", "ClusterRoleBinding")
        assert ("namespace" in each["metadata"]) is not cluster_wide, each["metadata"]
        if each["kind"] in ("Role", "ClusterRole"):
            assert all("*" not in value for rule in each["rules"] for value in rule.values())
            assert all("secrets" not in rule["resources"] for rule in each["rules"])
        if each["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            same = [role for role in objects if role["kind"] == each["roleRef"]["kind"]]
            assert each["roleRef"]["name"] in [role["metadata"]["name"] for role in same]
    deployment, template = one(objects, "Deployment"), pod(objects)
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()
    for service in of_kind(objects, "Service"):
        assert service["spec"]["selector"] == selector
        named_ports = {port["name"] for port in container(objects)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named_ports
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"] == selector
    for tested in of_kind(objects, "Pod"):
        assert not selector.items() <= tested["metadata"]["labels"].items(), "a Service would send callers to it"
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container(objects)["volumeMounts"]} == volumes


def loads(objects: list[Object], folder: Path) -> registry_config.Config:
    """The configuration as the registry reads it, whose drain must fit into the grace period."""
    file = folder / "registry.yaml"
    file.write_text(yaml.safe_dump(configuration(objects)))
    loaded = registry_config.load({}, {}, file)
    assert loaded.service.drain_delay < loaded.service.drain_timeout
    grace = pod(objects)["spec"]["terminationGracePeriodSeconds"]
    assert grace > loaded.service.drain_timeout
    return loaded


# ---------------------------------------------------------------------------------------------- defaults


def test_by_default_two_registries_are_replaced_one_by_one_without_rights_on_their_machine(
    helm: Helm, tmp_path: Path
) -> None:
    objects = helm.render()
    deployment, template = one(objects, "Deployment")["spec"], pod(objects)["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert template["securityContext"]["runAsNonRoot"] is True
    assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert template["enableServiceLinks"] is False
    assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    spread = template["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert container(objects)[probe]["httpGet"] == {"path": path, "port": "metrics"}
    loaded = loads(objects, tmp_path)
    assert loaded.service.chosen_source is registry_config.SourceKind.KUBERNETES
    assert loaded.kubernetes == KubernetesSettings(namespace=OWN)
    assert loaded.service.metrics_listen == registry_config.ListenAddress("", 17893)
    assert {each["kind"] for each in objects} == {
        "ConfigMap",
        "Deployment",
        "Pod",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    }


def test_the_service_is_the_one_that_tars_has(helm: Helm) -> None:
    service = one(helm.render(), "Service")
    assert service["metadata"]["name"] == registry_config.SERVICE_NAME
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is False
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == [
        ("queryobj", 17890),
        ("registryobj", 17891),
    ]


def test_the_image_is_that_of_the_release_of_the_project(helm: Helm) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    assert container(helm.render())["image"] == f"tars-registry:{version}"
    for image, expected in (
        ({"repository": "hub:5000/tars/registry", "tag": "7"}, "hub:5000/tars/registry:7"),
        ({"repository": "r", "tag": "7", "digest": "sha256:" + "a" * 64}, "r@sha256:" + "a" * 64),
    ):
        objects = helm.render({"image": image})
        images = {each["image"] for each in one(objects, "Pod")["spec"]["containers"]}
        assert images == {container(objects)["image"]} == {expected}


# ------------------------------------------------------------------------------------------------- rights

CUSTOM: Final = {("tendpoints", ""), ("ttemplates", ""), ("tframeworkconfigs", "tars-framework")}
STATES: Final = {("pods", "", "get"), ("pods/status", "", "patch"), ("events", "", "create")}


def lists_and_watches(*resources: tuple[str, str]) -> set[tuple[str, str, str]]:
    return {(resource, name, verb) for resource, name in resources for verb in ("list", "watch")}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, lists_and_watches(*CUSTOM) | STATES),
        ({"tarsnodes": {"enabled": False}}, lists_and_watches(*CUSTOM)),
        ({"tarsnodes": {"events": False}}, lists_and_watches(*CUSTOM) | STATES - {("events", "", "create")}),
        (
            {"discover": "pods", "tarsnodes": {"enabled": False}},
            lists_and_watches(*CUSTOM - {("tendpoints", "")}, ("pods", "")),
        ),
        ({"discover": "both"}, lists_and_watches(*CUSTOM, ("pods", "")) | STATES),
        ({"routing": {"topology": True}}, lists_and_watches(*CUSTOM, ("pods", "")) | STATES),
        (
            {"tarsnodes": {"enabled": False}, "readinessGate": {"enabled": True}},
            lists_and_watches(*CUSTOM) | STATES - {("events", "", "create")},
        ),
    ],
    ids=["default", "no tarsnodes", "no events", "pods", "both", "topology", "the gate alone"],
)
def test_the_role_has_what_the_features_need(values: Values, expected: set[tuple[str, str, str]], helm: Helm) -> None:
    assert rules(helm.render(values)) == {(OWN, *each) for each in expected}


def test_each_namespace_that_is_followed_has_a_role_for_the_account_of_the_release(helm: Helm) -> None:
    objects = helm.render({"namespaces": ["shop", "bank"], "readinessGate": {"enabled": True}})
    assert {each[0] for each in rules(objects)} == {"shop", "bank"}
    assert rules(objects, name="tars-registry-own-pod") == {
        (OWN, "pods", "", "get"),
        (OWN, "pods/status", "", "patch"),
    }
    for binding in of_kind(objects, "RoleBinding"):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "tars-registry", "namespace": OWN}]
    assert configuration(objects)["namespace"] == "shop,bank"
    assert configuration(objects)["self_host"] == "tars-tarsregistry.tars"


@pytest.mark.parametrize(
    ("routing", "named"),
    [
        ({"policy": {"grouping": "all"}}, (OWN, "tars-registry-routing")),
        ({"existingConfigMap": "mine"}, (OWN, "mine")),
        ({"existingConfigMap": "other/mine", "policy": {"grouping": "all"}}, ("other", "mine")),
    ],
    ids=["made", "here", "elsewhere"],
)
def test_the_policy_s_configmap_may_be_read_and_no_other(routing: Values, named: tuple[str, str], helm: Helm) -> None:
    objects = helm.render({"routing": routing})
    namespace, name = named
    assert rules(objects, name="tars-registry-routing") == {
        (namespace, "configmaps", name, verb) for verb in ("list", "watch")
    }
    assert configuration(objects)["routing_policy_configmap"] == f"{namespace}/{name}"
    assert bool(of_kind(objects, "ConfigMap", "tars-registry-routing")) is (routing.get("existingConfigMap") is None)


@pytest.mark.parametrize("as_text", [False, True])
def test_nodes_may_be_read_only_where_the_policy_asks_for_zones(as_text: bool, helm: Helm) -> None:
    for wanted in (False, True):
        policy = {"grouping": "all", "from_topology": wanted}
        objects = helm.render({"routing": {"policy": yaml.safe_dump(policy) if as_text else policy}})
        nodes = rules(objects, "ClusterRole", "tars-tars-registry-nodes")
        assert nodes == ({("", "nodes", "", verb) for verb in ("list", "watch")} if wanted else set())
        written = one(objects, "ConfigMap", "tars-registry-routing")["data"]["routing.yaml"]
        assert yaml.safe_load(written) == policy


def test_without_rbac_there_is_no_role_and_the_account_may_be_another(helm: Helm) -> None:
    objects = helm.render({**ALL_ON, "rbac": {"create": False}, "serviceAccount": {"create": False, "name": "mine"}})
    assert {each["kind"] for each in objects}.isdisjoint(
        {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount"}
    )
    assert pod(objects)["spec"]["serviceAccountName"] == "mine"


# --------------------------------------------------------------------------------------------------- parts


def test_without_tarsnodes_their_port_is_nowhere(helm: Helm) -> None:
    objects = helm.render({**ALL_ON, "tarsnodes": {"enabled": False}})
    assert configuration(objects)["registry_listen"] == "127.0.0.1:17891"
    for each in objects:
        if each["kind"] not in ("ConfigMap", "PrometheusRule"):  # alerts are about whatever there may be
            assert "17891" not in json.dumps(each)
            assert "registryobj" not in json.dumps(each)


def test_the_gate_is_there_with_the_name_of_the_pod_or_neither_is(helm: Helm) -> None:
    without = helm.render()
    assert "readinessGates" not in pod(without)["spec"]
    assert configuration(without)["pod_name"] == "off"
    with_gate = helm.render({"readinessGate": {"enabled": True}})
    assert pod(with_gate)["spec"]["readinessGates"] == [{"conditionType": "tars.io/active"}]
    assert "pod_name" not in configuration(with_gate)
    (variable,) = container(with_gate)["env"]
    assert variable == {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}


def test_the_snapshot_is_on_a_volume_of_each_pod(helm: Helm) -> None:
    objects = helm.render()
    path = configuration(objects)["snapshot_path"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container(objects)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(objects)["spec"]["volumes"]}
    assert "emptyDir" in volumes[mounts[str(Path(path).parent)]]
    assert "snapshot_path" not in configuration(helm.render({"snapshot": {"enabled": False}}))


def test_another_configuration_starts_the_pods_anew_and_another_policy_does_not(helm: Helm) -> None:
    def checksum(values: Values) -> str:
        return str(pod(helm.render(values))["metadata"]["annotations"]["checksum/config"])

    plain = checksum({})
    assert checksum({"podDisruptionBudget": {"enabled": False}}) == plain
    assert checksum({"config": {"cache_bytes": "32Mi"}}) != plain
    assert checksum({"endpointHost": "pod-ip"}) != plain
    one_policy, other = ({"routing": {"policy": {"grouping": how}}} for how in ("all", "annotated"))
    assert checksum(one_policy) == checksum(other) != plain


def test_large_numbers_and_off_stay_what_they_are(helm: Helm, tmp_path: Path) -> None:
    config = {"cache_bytes": 123456789, "max_frame_bytes": "2Mi", "rate_limit": False, "admin_listen": None}
    loaded = loads(helm.render({"config": config}), tmp_path)
    assert loaded.cache.cache_bytes == 123456789
    assert loaded.server.max_frame_bytes == 2 << 20
    assert loaded.server.rate_limit == "off"


def test_ip_families_go_into_each_service(helm: Helm) -> None:
    families = {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}
    objects = helm.render(
        {
            "service": families,
            "clusterIPService": {"enabled": True, **families},
            "metrics": {"serviceMonitor": {"enabled": True}},
        }
    )
    services = of_kind(objects, "Service")
    assert len(services) == 3
    for service in services:
        assert {key: service["spec"][key] for key in families} == families


def test_the_second_service_has_an_address(helm: Helm) -> None:
    objects = helm.render({"clusterIPService": {"enabled": True, "clusterIP": "10.0.0.77"}})
    service = one(objects, "Service", "tars-tarsregistry-vip")["spec"]
    assert service["clusterIP"] == "10.0.0.77"
    assert service["ports"] == one(objects, "Service", "tars-tarsregistry")["spec"]["ports"]


def test_the_network_policy_lets_in_the_namespaces_that_are_followed_and_who_is_named(helm: Helm) -> None:
    outside = {"ipBlock": {"cidr": "192.0.2.0/24"}}
    objects = helm.render({"namespaces": ["shop"], "networkPolicy": {"enabled": True, "clients": [outside]}})
    policy = one(objects, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    inside = {
        "namespaceSelector": {
            "matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop", OWN]},
            ]
        }
    }
    peers = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}
    assert peers == {"queryobj": [inside, outside], "registryobj": [inside], "metrics": [{"namespaceSelector": {}}]}
    egress = [{"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}]
    closed = one(helm.render({"networkPolicy": {"enabled": True, "egress": egress}}), "NetworkPolicy")["spec"]
    assert (closed["policyTypes"], closed["egress"]) == (["Ingress", "Egress"], egress)


def test_another_name_of_the_service_is_what_callers_go_on_with_and_what_is_tested(helm: Helm) -> None:
    objects = helm.render({"service": {"name": "registry-next"}})
    assert configuration(objects)["self_host"] == "registry-next"
    (tested,) = one(objects, "Pod")["spec"]["containers"]
    assert "--registry=registry-next:17890" in tested["args"]
    assert "self_host" not in configuration(helm.render())


def test_labels_and_annotations_go_where_they_are_said_to(helm: Helm) -> None:
    common, of_pod = {"team": "rpc"}, {"tier": "core"}
    objects = helm.render(
        {
            **ALL_ON,
            "commonLabels": common,
            "podLabels": of_pod,
            "annotations": {"a": "1"},
            "podAnnotations": {"b": "2"},
        }
    )
    for each in objects:
        assert common.items() <= each["metadata"]["labels"].items(), each["metadata"]["name"]
    assert (common | of_pod).items() <= pod(objects)["metadata"]["labels"].items()
    assert one(objects, "Deployment")["metadata"]["annotations"] == {"a": "1"}
    assert pod(objects)["metadata"]["annotations"]["b"] == "2"
    assert one(objects, "Deployment")["spec"]["selector"]["matchLabels"] == SELECTOR


def test_what_is_added_to_the_container_comes_after_its_own(helm: Helm) -> None:
    objects = helm.render(
        {
            "extraArgs": ["--log-level=debug"],
            "extraEnv": [{"name": "TZ", "value": "Asia/Shanghai"}],
            "extraEnvFrom": [{"secretRef": {"name": "more"}}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            "imagePullSecrets": [{"name": "hub"}],
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [],
            "priorityClassName": "high",
        }
    )
    registry, spec = container(objects), pod(objects)["spec"]
    assert registry["args"] == ["serve", "--config=/etc/tars-registry/registry.yaml", "--log-level=debug"]
    assert registry["env"] == [{"name": "TZ", "value": "Asia/Shanghai"}]
    assert registry["envFrom"] == [{"secretRef": {"name": "more"}}]
    assert registry["volumeMounts"][-1] == {"name": "more", "mountPath": "/more"}
    assert spec["imagePullSecrets"] == [{"name": "hub"}]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "high"
    assert "topologySpreadConstraints" not in spec


def test_the_rules_and_the_dashboard_are_the_files_of_the_chart(helm: Helm) -> None:
    objects = helm.render({"metrics": {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}}})
    rule = one(objects, "PrometheusRule")["spec"]
    assert rule == yaml.safe_load((CHART / "rules/alerts.yaml").read_text())
    assert rule["groups"]
    shown = one(objects, "ConfigMap", "tars-registry-dashboard")["data"]["tars-registry.json"]
    assert json.loads(shown) == json.loads((CHART / "dashboards/tars-registry.json").read_text())


def test_the_monitor_selects_the_service_of_the_metrics_and_no_other(helm: Helm) -> None:
    objects = helm.render(ALL_ON)
    wanted = one(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    found = [each for each in of_kind(objects, "Service") if wanted.items() <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in found] == ["tars-registry-metrics"]
    # One that is not ready is to be seen, too.
    assert found[0]["spec"]["publishNotReadyAddresses"] is True


@pytest.mark.parametrize(
    ("release", "values", "expected"),
    [
        ("tars-registry", {}, "tars-registry"),
        ("second", {}, "second-tars-registry"),
        ("second", {"nameOverride": "reg"}, "second-reg"),
        ("second", {"fullnameOverride": "whole"}, "whole"),
        ("r" * 53, {}, "r" * 50),
    ],
)
def test_objects_are_named_after_the_release(release: str, values: Values, expected: str, helm: Helm) -> None:
    objects = helm.render({**ALL_ON, **values}, release=release)
    well_formed(objects)
    assert one(objects, "Deployment")["metadata"]["name"] == expected
    assert all(len(each["metadata"]["name"]) <= 63 for each in objects if each["kind"] != "ClusterRole")
