"""Under which host and port a pod is reached."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from registry.model import Pod, ServantSpec, Server


class EndpointHost(StrEnum):
    """What stands as the host of an endpoint."""

    AUTO = "auto"
    DNS = "dns"
    DNS_FQDN = "dns-fqdn"
    POD_IP = "pod-ip"
    HOST_IP = "host-ip"


@dataclass(frozen=True, slots=True)
class Naming:
    """How hosts are named: ``mode``, and the cluster's domain for full names."""

    mode: EndpointHost = EndpointHost.AUTO
    cluster_domain: str = "cluster.local"

    def address(self, server: Server, pod: Pod, servant: ServantSpec) -> tuple[str, int]:
        """Host and port of a servant in a pod; an empty host where the pod has no such address yet."""
        mode = self.mode
        if mode is EndpointHost.AUTO:
            if _has_name(server, pod):
                mode = EndpointHost.DNS
            else:
                # Of a server with host ports, a servant without one is not to be had under the node's address.
                mode = EndpointHost.HOST_IP if servant.name in server.host_ports else EndpointHost.POD_IP
        match mode:
            case EndpointHost.DNS:
                return f"{pod.name}.{server.service}" if server.service else "", servant.port
            case EndpointHost.DNS_FQDN:
                suffix = f"{server.namespace}.svc.{self.cluster_domain}"
                return f"{pod.name}.{server.service}.{suffix}" if server.service else "", servant.port
            case EndpointHost.POD_IP:
                return pod.pod_ip, servant.port
        return pod.host_ip, server.host_ports.get(servant.name, servant.port)


def _has_name(server: Server, pod: Pod) -> bool:
    """True for a pod of a StatefulSet, which alone has a name that resolves; one of a DaemonSet has none."""
    prefix, _, ordinal = pod.name.rpartition("-")
    return prefix == server.service != "" and ordinal.isascii() and ordinal.isdigit()
