"""The kubernetes source: what it asks an API server for, what it makes of the answers, and how it tells how it is.

Each resource has its own model of an API server, in made-up time. The list-watch itself is tested with the reflector.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest
import yaml

from registry.kube.resource import Parameters
from registry.kube.settings import ReflectorSettings
from registry.model import Kind, ServantSpec, Server, SourceStatus, Upstream
from registry.sources import kubernetes
from registry.sources.kubernetes import Discover, Followed, KubernetesSource, followed
from registry.sources.pods import SELECTOR, PodObject, to_server
from registry.table import TableStore
from tests.support import manifests
from tests.support.scripted_api import Body, FakeApi, FakeResponse, Fault, Request, ScriptedSession, Streaming, error
from tests.support.virtual_time import in_virtual_time, now

QUICK: Final = ReflectorSettings(list_spread=0)

TENDPOINTS: Final = "/apis/k8s.tars.io/v1beta3/namespaces/{}/tendpoints"
TTEMPLATES: Final = "/apis/k8s.tars.io/v1beta3/namespaces/{}/ttemplates"
TFRAMEWORKCONFIGS: Final = "/apis/k8s.tars.io/v1beta3/namespaces/{}/tframeworkconfigs"
PODS: Final = "/api/v1/namespaces/{}/pods"

EXAMPLES: Final = Path(__file__).parents[3] / "examples" / "kubernetes"


class Resource(FakeApi):
    """One resource in one namespace on the API server. ``refuses``: code and message instead of an answer."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.served = (path,)
        self.refuses: tuple[int, str] | None = None

    def apply(self, body: Body, namespace: str = "tars") -> None:
        """Create or update an object."""
        self.version += 1
        name = body["metadata"]["name"]
        kind = "MODIFIED" if name in self.objects else "ADDED"
        meta = {**body["metadata"], "namespace": namespace, "resourceVersion": str(self.version)}
        self.objects[name] = {**body, "metadata": meta}
        self._written(kind, name, self.objects[name])

    async def _answer(self, request: Request, token: str, connection: Any) -> FakeResponse:
        if self.refuses:
            code, message = self.refuses
            return await error(code, "Refused", message).begin()
        return await super()._answer(request, token, connection)


class Cluster:
    """An API server with the resources of some namespaces; all else it does not know."""

    def __init__(self, *namespaces: str, tars: bool = True) -> None:
        self.resources: dict[str, Resource] = {}
        for namespace in namespaces or ("tars",):
            for path in (PODS, *((TENDPOINTS, TTEMPLATES, TFRAMEWORKCONFIGS) if tars else ())):
                self.add(path.format(namespace))
        self.requests: list[Request] = []
        self._unknown = FakeApi()
        self._unknown.served = ()

    def add(self, path: str) -> Resource:
        """One more resource."""
        self.resources[path] = Resource(path)
        return self.resources[path]

    def __getitem__(self, path: str) -> Resource:
        return self.resources[path.format("tars")]

    def get(self, path: str, parameters: Parameters) -> AbstractAsyncContextManager[FakeResponse]:
        """Ask for a path."""
        self.requests.append(Request(path, dict(parameters), now()))
        assert len(self.requests) < 20_000, self.requests[-5:]
        return ScriptedSession(model=self.resources.get(path, self._unknown)).get(path, parameters)

    async def reload(self) -> None:
        """Nothing to read again."""

    def asked(self, ending: str) -> list[Request]:
        """What was asked of a resource."""
        return [request for request in self.requests if request.path.endswith(ending)]


class Following:
    """A source at work, and the table that it fills."""

    def __init__(self, source: KubernetesSource, store: TableStore) -> None:
        self.source = source
        self.store = store

    def status(self, plural: str) -> SourceStatus:
        """How one resource is."""
        (found,) = [status for status in self.source.statuses if status.name.startswith(f"{plural} in")]
        return found

    async def until(self, done: Callable[[], bool], within: float = 5.0) -> None:
        """Wait for something."""
        began = now()
        while not done():
            assert now() - began <= within, f"not within {within} s: {self.source.statuses}, {self.store.table}"
            await asyncio.sleep(0.01)

    async def synced(self, within: float = 5.0) -> None:
        """Wait for the first table."""
        await self.until(lambda: not self.store.waiting_for, within)

    async def holds(self, *names: str, within: float = 5.0) -> None:
        """Wait until exactly these objects are the servers."""
        await self.until(lambda: self.names() == sorted(names), within)

    def names(self) -> list[str]:
        """Names of the objects that are the servers."""
        return sorted(server.name for group in self.store.table.servers.values() for server in group)


@asynccontextmanager
async def following(
    cluster: Cluster, discover: Discover = Discover.TENDPOINTS, *namespaces: str, settings: ReflectorSettings = QUICK
) -> AsyncIterator[Following]:
    """A source at work; at the end it is cancelled, and leaves nothing."""
    parts = followed(discover, namespaces or ("tars",))
    store = TableStore(part.part for part in parts)
    source = KubernetesSource(cluster, store, parts, settings)
    task = asyncio.create_task(source.run())
    try:
        yield Following(source, store)
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


@pytest.fixture(autouse=True)
def made_up_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source tells ages by the monotonic clock, which is the loop's, but for loops with made-up time."""
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr(kubernetes, "time", clock)


def labelled(name: str, *, servants: str = "HelloObj:10000", ready: bool = True) -> Body:
    return {
        "metadata": {
            "name": name,
            "labels": {"tars.io/ServerApp": "Test", "tars.io/ServerName": "HelloServer"},
            "annotations": {"tars.io/servants": servants},
        },
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


TEMPLATE: Final = {"metadata": {"name": "tars.cpp"}, "spec": {"parent": "tars.cpp", "content": "x"}}


# ---------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("discover", "kinds"),
    [
        (Discover.TENDPOINTS, {Kind.SERVER: False, Kind.TEMPLATE: False, Kind.FRAMEWORK: False}),
        (Discover.PODS, {Kind.POD: False, Kind.TEMPLATE: True, Kind.FRAMEWORK: True}),
        (Discover.BOTH, {Kind.SERVER: False, Kind.POD: False, Kind.TEMPLATE: False, Kind.FRAMEWORK: False}),
    ],
)
def test_what_is_followed_and_what_of_it_may_be_missing(discover: Discover, kinds: dict[Kind, bool]) -> None:
    """Only without TARS's controller, and then all of its resources but Pods."""
    for namespaces in (["a"], ["a", "b"]):
        expected = [Followed(kind, name, optional) for name in namespaces for kind, optional in kinds.items()]
        assert followed(discover, namespaces) == expected


@in_virtual_time
async def test_each_resource_is_asked_for_where_it_is_and_no_other_is() -> None:
    cluster = Cluster()
    async with following(cluster, Discover.BOTH) as follow:
        await follow.synced()
    own = ("labelSelector", "fieldSelector")
    asked = {request.path: {k: v for k, v in request.parameters.items() if k in own} for request in cluster.requests}
    assert asked == {
        TENDPOINTS.format("tars"): {},
        PODS.format("tars"): {"labelSelector": SELECTOR},
        TTEMPLATES.format("tars"): {},
        TFRAMEWORKCONFIGS.format("tars"): {"fieldSelector": "metadata.name=tars-framework"},
    }


@pytest.mark.parametrize("streaming", Streaming)
@in_virtual_time
async def test_only_lists_and_watches_are_asked_for(streaming: Streaming) -> None:
    """So the right to get a single object is not needed."""
    cluster = Cluster()
    for resource in cluster.resources.values():
        resource.streaming = streaming
    cluster[TENDPOINTS].apply(manifests.hello("10.0.0.1"))
    async with following(cluster, Discover.BOTH) as follow:
        await follow.synced(within=60)
        await asyncio.sleep(3_600)
    plurals = ("/pods", "/tendpoints", "/ttemplates", "/tframeworkconfigs")
    assert {request.path.endswith(plurals) for request in cluster.requests} == {True}


@in_virtual_time
async def test_an_older_version_of_the_resources_will_do() -> None:
    cluster = Cluster(tars=False)
    older = {
        plural: cluster.add(plural.replace("v1beta3", "v1beta2").format("tars"))
        for plural in (TENDPOINTS, TTEMPLATES, TFRAMEWORKCONFIGS)
    }
    older[TENDPOINTS].apply(manifests.hello("10.0.0.1"))
    async with following(cluster) as follow:
        await follow.synced()
        assert follow.names() == ["test-helloserver"]
        assert [status.problems for status in follow.source.statuses] == [()] * 3
    assert [request.path.split("/")[3] for request in cluster.asked("/tendpoints")] == ["v1beta3", "v1beta2"]


# -------------------------------------------------------------------------------------------------- the table


@in_virtual_time
async def test_the_table_is_synchronised_once_every_resource_is_there() -> None:
    cluster = Cluster()
    cluster[TENDPOINTS].apply(manifests.hello("10.0.0.1"))
    cluster[TTEMPLATES].apply(TEMPLATE)
    cluster[TFRAMEWORKCONFIGS].apply(manifests.framework(default=[{"host": "up", "port": 1}]))
    cluster[TFRAMEWORKCONFIGS].up = False
    async with following(cluster) as follow:
        await asyncio.sleep(30)
        assert follow.names() == ["test-helloserver"]
        assert follow.store.waiting_for == ["TFrameworkConfig in tars"]
        assert not follow.store.table.synced
        assert [status.synced for status in follow.source.statuses] == [True, True, False]
        cluster[TFRAMEWORKCONFIGS].come_up()
        await follow.synced(within=3)
        table = follow.store.table
        assert table.synced
        assert table.up_chain == {"default": (Upstream("up", 1),)}
        assert set(table.templates) == {("tars", "tars.cpp")}


@in_virtual_time
async def test_changes_of_the_cluster_are_changes_of_the_table() -> None:
    cluster = Cluster()
    cluster[TENDPOINTS].apply(manifests.hello("10.0.0.1"))
    async with following(cluster) as follow:
        await follow.synced()
        cluster[TENDPOINTS].apply(manifests.tendpoint("Shop", "Order"))
        await follow.holds("shop-order", "test-helloserver", within=0.1)
        cluster[TENDPOINTS].remove("test-helloserver")
        await follow.holds("shop-order", within=0.1)
        version = follow.store.table.version
        cluster[TENDPOINTS].apply(manifests.tendpoint("Shop", "Order"))
        await asyncio.sleep(1)
        assert follow.store.table.version == version, "written again, and equal"


@in_virtual_time
async def test_namespaces_are_one_table_and_each_is_listed_by_itself() -> None:
    """A list of one does not take away what is in the other."""
    cluster = Cluster("a", "b")
    of_a, of_b = (cluster.resources[TENDPOINTS.format(namespace)] for namespace in ("a", "b"))
    of_a.apply(manifests.hello("10.0.0.1"), "a")
    of_b.apply(manifests.hello("10.0.0.2"), "b")
    async with following(cluster, Discover.TENDPOINTS, "a", "b") as follow:
        await follow.synced()
        of_a.befall(Fault.CUT)
        of_a.remove("test-helloserver")
        of_a.compact()
        await follow.holds("test-helloserver")
        (left,) = follow.store.table.find("Test", "HelloServer")
        assert left.namespace == "b"
        names = [status.name for status in follow.source.statuses]
    assert names == [
        f"{plural} in {n}" for n in ("a", "b") for plural in ("tendpoints", "ttemplates", "tframeworkconfigs")
    ]


@in_virtual_time
async def test_where_both_are_followed_an_endpoint_stands_above_its_pods() -> None:
    cluster = Cluster()
    cluster[PODS].apply(labelled("p-0"))
    async with following(cluster, Discover.BOTH) as follow:
        await follow.holds("p-0")
        cluster[TENDPOINTS].apply(manifests.hello("10.0.0.1"))
        await follow.holds("test-helloserver")
        cluster[TENDPOINTS].remove("test-helloserver")
        await follow.holds("p-0")


@in_virtual_time
async def test_an_object_that_can_not_be_taken_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """In the log, in the status, and counted; the watch and everything else go on. It is taken once it is mended."""
    cluster = Cluster()
    cluster[PODS].apply(labelled("bad", servants="nonsense"))
    cluster[PODS].apply(labelled("good"))
    async with following(cluster, Discover.PODS) as follow:
        await follow.synced()
        assert follow.names() == ["good"]
        (problem,) = follow.status("pods").problems
        assert str(problem).startswith("tars/bad: tars.io/servants: ")
        assert follow.status("pods").errors == {"object": 1}
        assert "pods in tars tars/bad is left out: tars.io/servants: " in caplog.text
        cluster[PODS].apply(labelled("good", servants="- [" * 2_000))
        await follow.holds()
        assert len(follow.status("pods").problems) == 2
        for name in ("bad", "good"):
            cluster[PODS].apply(labelled(name))
        await follow.holds("bad", "good")
        assert follow.status("pods").problems == ()
        assert len(cluster.asked("/pods")) == 1, "one watch through all of it"


# --------------------------------------------------------------------------------------- what may be missing


@in_virtual_time
async def test_pods_alone_will_do_on_a_cluster_without_tars(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cluster = Cluster(tars=False)
    cluster[PODS].apply(labelled("p-0"))
    async with following(cluster, Discover.PODS) as follow:
        await follow.synced()
        assert follow.names() == ["p-0"]
        assert follow.status("pods").problems == ()
        await asyncio.sleep(600)
        for plural in ("ttemplates", "tframeworkconfigs"):
            assert caplog.text.count(f"{plural} in tars: going on without: the API server has no {plural}") == 1
        assert not [record for record in caplog.records if record.levelno > logging.INFO]
        # It goes on looking, in case they are installed, but not so that anybody would notice.
        assert len(cluster.requests) < 600 / 4 * 3

        cluster.add(TFRAMEWORKCONFIGS.format("tars")).apply(manifests.framework(default=[{"host": "up", "port": 1}]))
        await follow.until(lambda: follow.store.table.up_chain != {}, within=60)
        assert follow.status("tframeworkconfigs").problems == ()


@pytest.mark.parametrize("code", [403, 404])
@in_virtual_time
async def test_what_is_gone_without_does_not_make_the_table_old(code: int) -> None:
    """It is known to be missing as of the last answer that said so; without answers that grows old as all else."""
    cluster = Cluster()
    cluster[TTEMPLATES].refuses = code, "no"
    async with following(cluster, Discover.PODS) as follow:
        await follow.synced()
        clock = asyncio.get_running_loop().time
        for _ in range(100):
            await asyncio.sleep(61)
            assert follow.status("ttemplates").last_success == clock()
        cluster[TTEMPLATES].go_down()
        await asyncio.sleep(600)
        current = follow.status("ttemplates").last_success
        assert current is not None
        assert 600 <= clock() - current <= 661


@in_virtual_time
async def test_pods_alone_will_do_without_the_right_to_anything_else() -> None:
    cluster = Cluster()
    cluster[PODS].apply(labelled("p-0"))
    cluster[TTEMPLATES].refuses = 403, "ttemplates is forbidden"
    cluster[TFRAMEWORKCONFIGS].refuses = 403, "tframeworkconfigs is forbidden"
    async with following(cluster, Discover.PODS) as follow:
        await follow.synced()
        (problem,) = follow.status("ttemplates").problems
    assert str(problem) == (
        "ttemplates in tars: ttemplates is forbidden; grant it with: "
        "kubectl -n tars create role tars-registry-ttemplates --verb=get,list,watch --resource=ttemplates.k8s.tars.io "
        "&& kubectl -n tars create rolebinding tars-registry-ttemplates --role=tars-registry-ttemplates "
        "--serviceaccount=NAMESPACE:SERVICEACCOUNT"
    )


@pytest.mark.parametrize("code", [500, 503, 429, 401])
@in_virtual_time
async def test_what_may_be_missing_is_waited_for_where_that_is_not_known(code: int) -> None:
    """Only an answer that says so tells that it is missing."""
    cluster = Cluster()
    cluster[TTEMPLATES].refuses = code, "not now"
    async with following(cluster, Discover.PODS) as follow:
        await asyncio.sleep(300)
        assert follow.store.waiting_for == ["TTemplate in tars"]
        cluster[TTEMPLATES].refuses = None
        await follow.synced(within=31)


@pytest.mark.parametrize(
    ("discover", "path", "kind"),
    [
        (Discover.TENDPOINTS, TENDPOINTS, "TEndpoint"),
        (Discover.TENDPOINTS, TTEMPLATES, "TTemplate"),
        (Discover.TENDPOINTS, TFRAMEWORKCONFIGS, "TFrameworkConfig"),
        (Discover.PODS, PODS, "Pod"),
        (Discover.BOTH, TENDPOINTS, "TEndpoint"),
        (Discover.BOTH, PODS, "Pod"),
    ],
)
@in_virtual_time
async def test_what_must_be_there_is_waited_for_and_named_with_what_to_do(
    discover: Discover, path: str, kind: str
) -> None:
    cluster = Cluster()
    plural = path.rpartition("/")[2]
    cluster[path].refuses = 403, "no"
    async with following(cluster, discover) as follow:
        await asyncio.sleep(60)
        assert follow.store.waiting_for == [f"{kind} in tars"]
        group = "" if path is PODS else ".k8s.tars.io"
        (problem,) = follow.status(plural).problems
        assert f"--verb=get,list,watch --resource={plural}{group} && " in problem.reason
        assert follow.status(plural).errors["forbidden"] > 1
        if path is not PODS:
            cluster[path].refuses = 404, "no such resource"
            await asyncio.sleep(60)
            (problem,) = follow.status(plural).problems
            assert "install it with: the chart of TARS on Kubernetes, or use --discover pods" in problem.reason
        cluster[path].refuses = None
        await follow.synced(within=31)
        assert follow.status(plural).problems == ()


# -------------------------------------------------------------------------------------------------- supervision


class Faulty:
    """Stands for the conversion of pods: raises ``error`` so many ``times`` for the pod called boom."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, times: int = 1) -> None:
        self.times = times
        self._error = error
        monkeypatch.setattr(kubernetes, "to_server", self._convert)

    def _convert(self, found: PodObject) -> Server | None:
        if found.metadata.name == "boom" and self.times:
            self.times -= 1
            raise self._error
        return to_server(found)


@pytest.mark.parametrize("raised", [RuntimeError("a bug"), asyncio.CancelledError("from somewhere within")])
@in_virtual_time
async def test_a_resource_that_crashes_is_started_again(
    raised: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged with its trace, counted, shown; the table stays meanwhile, and other resources do not notice."""
    Faulty(monkeypatch, raised)
    cluster = Cluster()
    cluster[PODS].apply(labelled("p-0"))
    async with following(cluster, Discover.BOTH) as follow:
        await follow.synced()
        cluster[PODS].apply(labelled("boom"))
        await follow.until(lambda: follow.status("pods").state == "crashed", within=0.1)
        assert follow.status("pods").errors["crash"] == 1
        assert [follow.status(plural).state for plural in ("tendpoints", "ttemplates")] == ["watching"] * 2
        assert follow.names() == ["p-0"]
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert re.match(r"pods in tars crashed; it starts again in [01]\.\d s", record.getMessage())
        assert record.exc_info
        assert record.exc_info[1] is raised

        cluster[PODS].apply(labelled("p-1"))
        await follow.holds("boom", "p-0", "p-1", within=1.1)
        assert follow.status("pods").state == "watching"
        assert follow.status("pods").errors["crash"] == 1
        assert len(cluster.asked("/tendpoints")) == 1


@in_virtual_time
async def test_crashes_in_a_row_are_further_and_further_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    Faulty(monkeypatch, RuntimeError("a bug"), times=8)
    cluster = Cluster()
    cluster[PODS].apply(labelled("boom"))
    async with following(cluster, Discover.PODS) as follow:
        await follow.synced(within=200)
        assert follow.status("pods").errors["crash"] == 8
    times = [request.at for request in cluster.asked("/pods")]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    for number, gap in enumerate(gaps):
        longest = min(2**number, 30)
        assert longest / 2 <= gap <= longest + 0.1


# ------------------------------------------------------------------------------------------------------ status


@in_virtual_time
async def test_before_anything_was_heard_nothing_is_known() -> None:
    cluster = Cluster()
    for resource in cluster.resources.values():
        resource.up = False
    async with following(cluster) as follow:
        assert [(one.state, one.synced, one.last_success) for one in follow.source.statuses] == [
            ("starting", False, None)
        ] * 3
        await asyncio.sleep(100)
        for status in follow.source.statuses:
            assert (status.state, status.synced, status.last_success, status.last_byte) == (
                "backing off",
                False,
                None,
                None,
            )
            assert status.errors["connection"] > 10
            (problem,) = status.problems
            assert str(problem) == f"{status.name}: connection refused"


@in_virtual_time
async def test_what_is_watched_is_current_and_says_when_it_changed() -> None:
    cluster = Cluster()
    async with following(cluster) as follow:
        await follow.synced()
        clock = asyncio.get_running_loop().time
        first = follow.status("tendpoints").last_change
        await asyncio.sleep(1_000)
        status = follow.status("tendpoints")
        assert (status.state, status.synced, status.version) == ("watching", True, "100")
        assert status.last_success == clock()
        assert status.last_byte is not None
        assert clock() - status.last_byte <= 61
        assert status.last_change == first
        cluster[TENDPOINTS].apply(manifests.hello("10.0.0.1"))
        await asyncio.sleep(0.1)
        status = follow.status("tendpoints")
        assert status.last_change == pytest.approx(clock() - 0.1, abs=0.01)
        assert status.version == "101"
        assert (status.relists, status.errors) == (0, {})
        assert status.reconnects >= 1


@in_virtual_time
async def test_a_watch_that_says_nothing_is_as_old_as_its_last_byte() -> None:
    """Until it is given up, which a half-open connection is after 68 s."""
    cluster = Cluster()
    async with following(cluster) as follow:
        await follow.synced()
        cluster[TENDPOINTS].black_hole = True
        cluster[TENDPOINTS].befall(Fault.STALL)
        await asyncio.sleep(200)
        status, clock = follow.status("tendpoints"), asyncio.get_running_loop().time
        assert status.last_success is not None
        assert clock() - status.last_success == pytest.approx(200, abs=1)
        assert status.synced
        cluster[TENDPOINTS].black_hole = False
        await follow.until(lambda: follow.status("tendpoints").last_success == clock(), within=33)


@in_virtual_time
async def test_through_an_outage_the_table_stays_and_its_age_grows() -> None:
    cluster = Cluster()
    cluster[TENDPOINTS].apply(manifests.hello("10.0.0.1"))
    async with following(cluster) as follow:
        await follow.synced()
        await asyncio.sleep(10)
        cluster[TENDPOINTS].go_down()
        await asyncio.sleep(3_600)
        status, clock = follow.status("tendpoints"), asyncio.get_running_loop().time
        assert follow.names() == ["test-helloserver"]
        assert follow.store.table.synced
        assert status.state == "backing off"
        assert status.last_success is not None
        assert clock() - status.last_success == pytest.approx(3_610, abs=1)
        cluster[TENDPOINTS].remove("test-helloserver")
        cluster[TENDPOINTS].come_up(forgetful=True)
        await follow.holds(within=3)
        await asyncio.sleep(0.1)
        assert follow.status("tendpoints").last_success == clock()
        assert follow.status("tendpoints").relists == 1


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500])
@in_virtual_time
async def test_an_api_server_that_refuses_does_not_make_the_table_current(code: int) -> None:
    """Its answers are bytes, but they tell nothing of the table: stale_after and the metric must see that."""
    cluster = Cluster()
    async with following(cluster) as follow:
        await follow.synced()
        cluster[TENDPOINTS].refuses = code, "no"
        cluster[TENDPOINTS].befall(Fault.CUT)
        await asyncio.sleep(3_600)
        status, clock = follow.status("tendpoints"), asyncio.get_running_loop().time
        assert status.last_success is not None
        assert clock() - status.last_success == pytest.approx(3_600, abs=70)


@in_virtual_time
async def test_a_crash_does_not_make_the_table_endlessly_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was handed over is still there, as old as it is; counters never go back."""
    Faulty(monkeypatch, RuntimeError("a bug"))
    cluster = Cluster()
    async with following(cluster, Discover.PODS) as follow:
        await follow.synced()
        cluster[PODS].befall(Fault.CUT)
        await asyncio.sleep(10)
        before = follow.status("pods")
        assert before.errors["connection"] == 1
        cluster[PODS].apply(labelled("boom"))
        await asyncio.sleep(0.1)
        cluster[PODS].go_down()
        await asyncio.sleep(100)
        status, clock = follow.status("pods"), asyncio.get_running_loop().time
        assert status.synced
        assert status.last_success is not None
        assert clock() - status.last_success == pytest.approx(100, abs=1)
        assert status.errors["connection"] > before.errors["connection"]
        assert status.reconnects >= before.reconnects


# -------------------------------------------------------------------------------------------------- the examples


def documents(name: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8")) if document]


def pod_templates() -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
    """The workloads of the examples that are TARS servers, and their pods' templates."""
    for document in documents("servers.yaml"):
        template = document.get("spec", {}).get("template")
        if template:
            yield document, template


def test_the_servers_of_the_examples_are_found() -> None:
    """Each by one form of naming its servants, and all that point at one another fit."""
    found = {}
    for workload, template in pod_templates():
        assert workload["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        pod = {**template, "metadata": {**template["metadata"], "name": "x-0", "namespace": "shop"}}
        server = to_server(msgspec.convert(pod, PodObject))
        assert server is not None
        found[workload["kind"], f"{server.app}.{server.server}"] = server.servants
    assert found == {
        ("StatefulSet", "Shop.OrderServer"): (ServantSpec("OrderObj", 21_010), ServantSpec("OrderAdminObj", 21_011)),
        ("Deployment", "Shop.UserServer"): (ServantSpec("UserObj", 21_020, timeout=3_000),),
        ("Deployment", "Shop.PriceServer"): (ServantSpec("priceobj", 21_030, any_case=True),),
    }
    services = {
        each["metadata"]["name"]: each["spec"] for each in documents("servers.yaml") if each["kind"] == "Service"
    }
    for workload, template in pod_templates():
        if workload["kind"] == "StatefulSet":
            service = services[workload["spec"]["serviceName"]]
            assert workload["spec"]["serviceName"] == workload["metadata"]["name"], "what auto takes for a name"
            assert service["clusterIP"] == "None"
            assert service["selector"].items() <= template["metadata"]["labels"].items()


@in_virtual_time
async def test_the_role_of_the_examples_allows_what_is_asked_and_no_more() -> None:
    """For --discover pods: whatever the source asks a cluster for, and what reports of tarsnodes are written with."""
    cluster = Cluster()
    async with following(cluster, Discover.PODS) as follow:
        await follow.synced()
    (role,) = [document for document in documents("registry.yaml") if document["kind"] == "Role"]
    granted = {
        (group, resource): (set(rule["verbs"]), rule.get("resourceNames"))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    for_reports = {("", "pods"): {"get"}, ("", "pods/status"): {"patch"}, ("", "events"): {"create"}}
    for what, verbs in for_reports.items():
        assert granted[what][0] >= verbs
        granted[what][0].difference_update(verbs)
        if not granted[what][0]:
            del granted[what]
    asked = set()
    for request in cluster.requests:
        parts = request.path.split("/")
        group, resource = "" if parts[1] == "api" else parts[2], parts[-1]
        asked.add((group, resource))
        verbs, only = granted[group, resource]
        assert verbs == {"list", "watch"}
        if only is not None:
            assert request.parameters["fieldSelector"] == f"metadata.name={only[0]}"
    assert asked == granted.keys()


def test_what_points_at_each_other_in_the_example_of_the_registry_fits() -> None:
    by_kind = {document["kind"]: document for document in documents("registry.yaml")}
    assert set(by_kind) == {"ServiceAccount", "Role", "RoleBinding", "Deployment", "Service"}
    template = by_kind["Deployment"]["spec"]["template"]
    account = by_kind["ServiceAccount"]["metadata"]["name"]
    binding = by_kind["RoleBinding"]
    assert template["spec"]["serviceAccountName"] == account
    assert [subject["name"] for subject in binding["subjects"]] == [account]
    assert binding["roleRef"]["name"] == by_kind["Role"]["metadata"]["name"]
    assert by_kind["Deployment"]["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert by_kind["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert by_kind["Service"]["metadata"]["name"] == "tars-tarsregistry", "what the registry calls itself in a pod"
    (container,) = template["spec"]["containers"]
    names = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in by_kind["Service"]["spec"]["ports"]} <= names
    assert {container[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")} <= names
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
