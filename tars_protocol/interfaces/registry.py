"""Registry: what a tarsnode reports and asks. Servant ``tars.tarsregistry.RegistryObj``, port 17891.

Two families of callers share the servant: the tarsnode inside a Kubernetes pod, which serves one server, and the
classic tarsnode, one a machine with many servers. Their function names do not collide, but both have a
ServerDescriptor of their own.

Source: Registry.tars and NodeDescriptor.tars of the classic framework, and the interface of TARS on Kubernetes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from jce import Float, Int16, Int32, field, struct
from tars_protocol.interface import Interface, Out, function

SERVANT: Final = "tars.tarsregistry.RegistryObj"
PORT: Final = 17891

PID_KEY: Final = "PID"
"""Key in the context of updateServerState: the process id of the pod's server."""


# -- a tarsnode inside a pod ---------------------------------------------------------------------------------------


@struct
class AdapterDescriptor:
    """How a server listens for one servant. ``queuetimeout`` in ms; ``protocol`` is "tars" or "not_tars"."""

    adapterName: str = field(0)
    endpoint: str = field(1)
    threadNum: Int32 = field(2)
    maxConnections: Int32 = field(3)
    allowIp: str = field(4)
    servant: str = field(5)
    queuecap: Int32 = field(6)
    queuetimeout: Int32 = field(7)
    protocol: str = field(8, default="")


@struct
class ServerDescriptor:
    """How a pod's server is to be run; ``adapters`` by adapter name."""

    profile: str = field(0)
    asyncThreadNum: Int32 = field(1, default=0)
    adapters: Mapping[str, AdapterDescriptor] = field(2)


# -- a classic tarsnode --------------------------------------------------------------------------------------------


class ServerState(enum.IntEnum):
    """State of a server process, in ``ServerStateInfo.serverState``."""

    INACTIVE = 0
    ACTIVATING = 1
    ACTIVE = 2
    DEACTIVATING = 3
    DESTROYING = 4
    DESTROYED = 5


@struct
class NodeInfo:
    """A machine that registers."""

    nodeName: str = field(0)
    nodeObj: str = field(1)
    endpointIp: str = field(2)
    endpointPort: Int32 = field(3)
    timeOut: Int16 = field(4)
    dataDir: str = field(5)
    version: str = field(6, default="")
    coreFileSize: str = field(7, default="")
    openFiles: Int32 = field(8, default=0)


@struct
class LoadInfo:
    """Load of a machine: averages of 1, 5 and 15 minutes, processor use in percent."""

    avg1: Float = field(0)
    avg5: Float = field(1)
    avg15: Float = field(2)
    avgCpu: Int32 = field(3, default=0)


@struct
class ReportNode:
    """A machine that was asked to report."""

    nodeName: str = field(0)
    sid: str = field(1)


@struct
class ServerStateInfo:
    """What a node says of one server."""

    serverState: Int32 = field(0)
    processId: Int32 = field(1)
    nodeName: str = field(2, default="")
    application: str = field(3, default="")
    serverName: str = field(4, default="")
    settingState: Int32 = field(5, default=0)
    exState: Mapping[str, str] = field(6, default={})


@struct
class PatchResult:
    """The end of an update of a server."""

    sApplication: str = field(0)
    sServerName: str = field(1)
    sNodeName: str = field(2)
    sVersion: str = field(3)
    sUserName: str = field(4)


@struct
class BaseImageInfo:
    """An image that servers are built on."""

    id: str = field(0, default="")
    image: str = field(1, default="")
    registryId: str = field(2, default="")
    sha: str = field(3, default="")


@struct
class DockerRegistry:
    """An image registry and what it holds."""

    sId: str = field(0, default="")
    sRegistry: str = field(1, default="")
    sUserName: str = field(2, default="")
    sPassword: str = field(3, default="")
    bSucc: bool = field(4, default=False)
    baseImages: tuple[BaseImageInfo, ...] = field(5, default=())


@struct
class FrameworkKey:
    """The framework's key pair."""

    cuid: str = field(0)
    priKey: str = field(1)


@struct
class ClassicAdapterDescriptor:
    """AdapterDescriptor of the classic framework; ``threadNum`` is a string there."""

    adapterName: str = field(0)
    threadNum: str = field(1)
    endpoint: str = field(2)
    maxConnections: Int32 = field(3)
    allowIp: str = field(4)
    servant: str = field(5)
    queuecap: Int32 = field(6)
    queuetimeout: Int32 = field(7)
    grid: Int32 = field(8)
    protocol: str = field(9, default="")
    handlegroup: str = field(10, default="")
    shmkey: Int32 = field(11, default=0)
    shmcap: Int32 = field(12, default=0)


@struct
class ClassicServerDescriptor:
    """ServerDescriptor of the classic framework."""

    application: str = field(0)
    serverName: str = field(1)
    nodeName: str = field(2)
    basePath: str = field(3)
    exePath: str = field(4)
    settingState: str = field(5)
    presentState: str = field(6)
    profile: str = field(7)
    patchVersion: str = field(8)
    patchTime: str = field(9)
    patchUser: str = field(10)
    adapters: Mapping[str, ClassicAdapterDescriptor] = field(11)
    serverType: str = field(12, default="")
    startScript: str = field(13, default="")
    stopScript: str = field(14, default="")
    monitorScript: str = field(15, default="")
    configCenterPort: Int32 = field(16, default=0)
    asyncThreadNum: Int32 = field(17, default=0)
    setId: str = field(18, default="")
    sJmx_port: str = field(19, default="")
    runType: str = field(20, default="")
    baseImage: str = field(21, default="")
    sha: str = field(22, default="")
    baseImageId: str = field(23, default="")


REGISTRY: Final = Interface(
    "Registry",
    # a tarsnode inside a pod
    function("getServerDescriptor", Int32, serverApp=str, serverName=str, serverDescriptor=Out(ServerDescriptor)),
    function("updateServerState", None, podName=str, settingState=str, presentState=str),
    # a classic tarsnode
    function("registerNode", Int32, name=str, ni=NodeInfo, li=LoadInfo),
    function("keepAlive", Int32, name=str, pl=LoadInfo),
    function("getServers", tuple[ClassicServerDescriptor, ...], app=str, serverName=str, nodeName=str),
    # In the order that real nodes send, whatever the names in the interface file say.
    function("updateServer", Int32, nodeName=str, app=str, serverName=str, stateInfo=ServerStateInfo),
    function("updateServerBatch", Int32, stateInfo=tuple[ServerStateInfo, ...]),
    function("destroyNode", Int32, name=str),
    function("reportNode", Int32, rn=ReportNode),
    function("reportVersion", Int32, app=str, serverName=str, nodeName=str, version=str),
    function("getNodeTemplate", Int32, nodeName=str, profile=Out(str)),
    function("getClientIp", Int32, clientIp=Out(str)),
    function("updatePatchResult", Int32, result=PatchResult),
    function("getDockerRegistry", Int32, dockerRegistry=Out(tuple[DockerRegistry, ...])),
    function("dockerPull", Int32, baseImageId=str),
    function("getFrameworkKey", Int32, fKey=Out(FrameworkKey)),
)
