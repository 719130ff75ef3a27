"""Self-registration: servers without a tarsnode beside them. Servant ``tars.tarsregistry.Registry``.

Callers find it through findObjectByIdInSameGroup. Only the servant's name tells its keepAlive from the one of a classic
tarsnode. All its functions return nothing.

Source: the registry interface of the K8STARS project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from jce import Int32, field, struct
from tars_protocol.interface import Interface, Out, function

SERVANT: Final = "tars.tarsregistry.Registry"


@struct
class AdapterConf:
    """How a server listens for one servant. ``queueTimeout`` in ms."""

    servant: str = field(0)
    endpoint: str = field(1)
    protocol: str = field(2, default="")
    maxConns: Int32 = field(3, default=0)
    threadNum: Int32 = field(4, default=0)
    queueCap: Int32 = field(5, default=0)
    queueTimeout: Int32 = field(6, default=0)


@struct
class OnStartupReq:
    """A server that has started."""

    nodeName: str = field(0)
    application: str = field(1)
    server: str = field(2)
    setID: str = field(3, default="")
    adapters: tuple[AdapterConf, ...] = field(4, default=())
    disableFlow: bool = field(5, default=False)
    State: str = field(6, default="active")
    Version: str = field(7, default="")


@struct
class OnPrestopReq:
    """A server that is about to stop."""

    nodeName: str = field(0)
    application: str = field(1, default="")
    server: str = field(2, default="")


@struct
class KeepAliveReq:
    """A server that is still there."""

    nodeName: str = field(0)
    state: str = field(1)
    application: str = field(2, default="")
    server: str = field(3, default="")


@struct
class RegisterMetricsReq:
    """Where a server's metrics are scraped."""

    nodeName: str = field(0)
    application: str = field(1)
    server: str = field(2)
    metricsPort: Int32 = field(3)


@struct
class GetMetricsAdaptersReq:
    """Which servers' metrics are asked for."""

    filter: Mapping[str, str] = field(0, default={})


@struct
class MetricsAdapterInfo:
    """What to scrape, and the labels to put on it."""

    targets: tuple[str, ...] = field(0, default=())
    labels: Mapping[str, str] = field(1, default={})


SELF_REGISTRATION: Final = Interface(
    "Registry",
    function("onStartup", None, req=OnStartupReq),
    function("onPrestop", None, req=OnPrestopReq),
    function("keepAlive", None, req=KeepAliveReq),
    function("registerMetrics", None, req=RegisterMetricsReq),
    function("getMetricsAdapters", None, req=GetMetricsAdaptersReq, adapters=Out(tuple[MetricsAdapterInfo, ...])),
)
