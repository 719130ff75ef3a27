"""Values that the chart is rendered with: each optional part on and off, and any combination."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from tests.chart.tools import Values

_SWITCHES: Final[dict[str, dict[str, Any]]] = {
    "second service": {"clusterIPService": {"enabled": True}},
    "network policy": {
        "networkPolicy": {
            "enabled": True,
            "clients": [{"podSelector": {"matchLabels": {"app": "gateway"}}}],
            "egress": [{"ports": [{"port": 53, "protocol": "UDP"}, {"port": 443}]}],
        }
    },
    "gate": {"readinessGate": {"enabled": True}},
    "monitoring": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "interval": "30s", "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboard": {"enabled": True, "annotations": {"folder": "TARS"}},
        }
    },
    "policy": {"routing": {"policy": {"grouping": "all", "from_topology": True}}},
    "no tarsnodes": {"tarsnodes": {"enabled": False}},
    "no snapshot": {"snapshot": {"enabled": False}},
    "no budget": {"podDisruptionBudget": {"enabled": False}},
    "no test": {"tests": []},
    "no roles": {"rbac": {"create": False}},
    "no account": {"serviceAccount": {"create": False}},
    "no definitions": {"crds": {"enabled": False}},
    "several namespaces": {"namespaces": ["tars", "shop"], "endpointHost": "dns-fqdn"},
    "another namespace": {"namespaces": ["shop"]},
    "pods": {"discover": "pods"},
    "both": {"discover": "both"},
    "recreate": {"strategy": {"type": "Recreate", "rollingUpdate": None}},
    "settings": {"config": {"drain_delay": 2.5, "drain_timeout": 10, "log_format": "json", "max_frame_bytes": "2Mi"}},
    "scheduling": {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "only", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}
                ]
            }
        },
    },
    "labels": {
        "commonLabels": {"team": "rpc"},
        "podLabels": {"tier": "core"},
        "annotations": {"a": "1"},
        "podAnnotations": {"b": "2"},
    },
    "extra": {
        "extraArgs": ["--log-level=debug"],
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraEnvFrom": [{"configMapRef": {"name": "more", "optional": True}}],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "imagePullSecrets": [{"name": "hub"}],
    },
    "two tests": {"tests": ["tars.tarsregistry.QueryObj", "Shop.OrderServer.OrderObj"]},
}

VARIANTS: Final[dict[str, Values]] = {"default": {}, **_SWITCHES}
"""Each part by itself."""

ALL_ON: Final[Values] = {
    key: value
    for name in ("second service", "network policy", "gate", "monitoring", "policy", "several namespaces")
    for key, value in _SWITCHES[name].items()
}
"""Every optional part."""


def any_values() -> st.SearchStrategy[Values]:
    """Any of the parts together; of two that set one value, the latter."""
    return st.sets(st.sampled_from(sorted(_SWITCHES))).map(
        lambda names: {key: value for name in sorted(names) for key, value in _SWITCHES[name].items()}
    )
