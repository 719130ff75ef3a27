"""The interfaces, held against tables written by hand: positions, tags and types are what every peer relies on."""

from __future__ import annotations

from typing import Any, Final

import pytest

from jce import DecodeError, SchemaError
from jce.schema import Field, Map, Scalar, Struct, Type, Vector, fields
from tars_protocol.bodies import FORMS
from tars_protocol.errors import InterfaceError
from tars_protocol.interface import Interface, Out, function
from tars_protocol.interfaces import admin, query, registry, server
from tars_protocol.packets import REQUEST, RequestPacket, ResponsePacket
from tests.support import golden
from tests.tars_protocol.shared import captured

# A function: its return type, then "position type" for each input, "position out type" for each output.
QUERY: Final = {
    "findObjectById": ("[EndpointF]", "1 string"),
    "findObjectById4Any": ("int", "1 string", "2 out [EndpointF]", "3 out [EndpointF]"),
    "findObjectById4All": ("int", "1 string", "2 out [EndpointF]", "3 out [EndpointF]"),
    "findObjectByIdInSameGroup": ("int", "1 string", "2 out [EndpointF]", "3 out [EndpointF]"),
    "findObjectByIdInSameStation": ("int", "1 string", "2 string", "3 out [EndpointF]", "4 out [EndpointF]"),
    "findObjectByIdInSameSet": ("int", "1 string", "2 string", "3 out [EndpointF]", "4 out [EndpointF]"),
    "findObjectNodeName": ("int", "1 string", "2 out [string]"),
    "registerChange": ("int", "1 {string: string}", "2 string"),
    "registerQuery": ("int", "1 string", "2 string"),
    "getLocker": ("int", "1 GetMasterSlaveLock"),
}

REGISTRY: Final = {
    "getServerDescriptor": ("int", "1 string", "2 string", "3 out ServerDescriptor"),
    "updateServerState": ("void", "1 string", "2 string", "3 string"),
    "registerNode": ("int", "1 string", "2 NodeInfo", "3 LoadInfo"),
    "keepAlive": ("int", "1 string", "2 LoadInfo"),
    "getServers": ("[ClassicServerDescriptor]", "1 string", "2 string", "3 string"),
    "updateServer": ("int", "1 string", "2 string", "3 string", "4 ServerStateInfo"),
    "updateServerBatch": ("int", "1 [ServerStateInfo]"),
    "destroyNode": ("int", "1 string"),
    "reportNode": ("int", "1 ReportNode"),
    "reportVersion": ("int", "1 string", "2 string", "3 string", "4 string"),
    "getNodeTemplate": ("int", "1 string", "2 out string"),
    "getClientIp": ("int", "1 out string"),
    "updatePatchResult": ("int", "1 PatchResult"),
    "getDockerRegistry": ("int", "1 out [DockerRegistry]"),
    "dockerPull": ("int", "1 string"),
    "getFrameworkKey": ("int", "1 out FrameworkKey"),
}

SERVER: Final = {
    "keepAlive": ("int", "1 ServerInfo"),
    "keepActiving": ("int", "1 ServerInfo"),
    "reportVersion": ("int", "1 string", "2 string", "3 string"),
    "getLatestKeepAliveTime": ("unsigned int",),
}

ADMIN: Final = {
    "shutdown": ("void",),
    "notify": ("string", "1 string"),
    "getPid": ("long",),
}

INTERFACES: Final = {
    "QueryF": (query.QUERY, QUERY),
    "Registry": (registry.REGISTRY, REGISTRY),
    "ServerF": (server.SERVER, SERVER),
    "AdminF": (admin.ADMIN, ADMIN),
}

# "tag name type", with a "?" where the field is optional.
STRUCTS: Final[dict[type[Any], str]] = {
    query.EndpointF: """
        0 host string, 1 port int, 2 timeout int, 3 istcp int, 4 grid int, 5 groupworkid int?, 6 grouprealid int?,
        7 setId string?, 8 qos int?, 9 bakFlag int?, 11 weight int?, 12 weightType int?, 13 authType int?,
        14 nodeName string?""",
    query.GetMasterSlaveLock: """
        0 application string?, 1 server_name string?, 2 node_name string?, 3 isMaster bool?, 4 lastErr bool?,
        5 timeout int?, 6 bakType int?""",
    registry.ServerDescriptor: "0 profile string, 1 asyncThreadNum int?, 2 adapters {string: AdapterDescriptor}",
    registry.AdapterDescriptor: """
        0 adapterName string, 1 endpoint string, 2 threadNum int, 3 maxConnections int, 4 allowIp string,
        5 servant string, 6 queuecap int, 7 queuetimeout int, 8 protocol string?""",
    registry.NodeInfo: """
        0 nodeName string, 1 nodeObj string, 2 endpointIp string, 3 endpointPort int, 4 timeOut short, 5 dataDir string,
        6 version string?, 7 coreFileSize string?, 8 openFiles int?""",
    registry.LoadInfo: "0 avg1 float, 1 avg5 float, 2 avg15 float, 3 avgCpu int?",
    registry.ReportNode: "0 nodeName string, 1 sid string",
    registry.ServerStateInfo: """
        0 serverState int, 1 processId int, 2 nodeName string?, 3 application string?, 4 serverName string?,
        5 settingState int?, 6 exState {string: string}?""",
    registry.PatchResult: """
        0 sApplication string, 1 sServerName string, 2 sNodeName string, 3 sVersion string, 4 sUserName string""",
    registry.DockerRegistry: """
        0 sId string?, 1 sRegistry string?, 2 sUserName string?, 3 sPassword string?, 4 bSucc bool?,
        5 baseImages [BaseImageInfo]?""",
    registry.BaseImageInfo: "0 id string?, 1 image string?, 2 registryId string?, 3 sha string?",
    registry.FrameworkKey: "0 cuid string, 1 priKey string",
    registry.ClassicServerDescriptor: """
        0 application string, 1 serverName string, 2 nodeName string, 3 basePath string, 4 exePath string,
        5 settingState string, 6 presentState string, 7 profile string, 8 patchVersion string, 9 patchTime string,
        10 patchUser string, 11 adapters {string: ClassicAdapterDescriptor}, 12 serverType string?,
        13 startScript string?, 14 stopScript string?, 15 monitorScript string?, 16 configCenterPort int?,
        17 asyncThreadNum int?, 18 setId string?, 19 sJmx_port string?, 20 runType string?, 21 baseImage string?,
        22 sha string?, 23 baseImageId string?""",
    registry.ClassicAdapterDescriptor: """
        0 adapterName string, 1 threadNum string, 2 endpoint string, 3 maxConnections int, 4 allowIp string,
        5 servant string, 6 queuecap int, 7 queuetimeout int, 8 grid int, 9 protocol string?, 10 handlegroup string?,
        11 shmkey int?, 12 shmcap int?""",
    server.ServerInfo: "0 application string, 1 serverName string, 2 pid int, 3 adapter string?",
    RequestPacket: """
        1 iVersion short, 2 cPacketType byte?, 3 iMessageType int?, 4 iRequestId int, 5 sServantName string,
        6 sFuncName string, 7 sBuffer vector<byte>, 8 iTimeout int?, 9 context {string: string}?,
        10 status {string: string}?""",
    ResponsePacket: """
        1 iVersion short, 2 cPacketType byte, 3 iRequestId int, 4 iMessageType int, 5 iRet int, 6 sBuffer vector<byte>,
        7 status {string: string}, 8 sResultDesc string?, 9 context {string: string}?""",
}


def shown(kind: Type) -> str:
    """A type as the tables write it."""
    match kind:
        case Vector(element):
            return f"[{shown(element)}]"
        case Map(key, value):
            return f"{{{shown(key)}: {shown(value)}}}"
        case Struct(cls):
            return cls.__name__
        case Scalar():
            return kind.name
    raise AssertionError(kind)


def reached(kind: Type) -> set[type[Any]]:
    """The structs that a type is made of."""
    match kind:
        case Vector(element):
            return reached(element)
        case Map(key, value):
            return reached(key) | reached(value)
        case Struct(cls):
            return {cls}.union(*(reached(field.type) for field in fields(cls)))
    return set()


@pytest.mark.parametrize("name", INTERFACES)
def test_the_functions_of_an_interface_are_those_of_its_file(name: str) -> None:
    declared, expected = INTERFACES[name]
    assert (declared.name, list(declared)) == (name, list(expected))


@pytest.mark.parametrize(("name", "of"), [(name, of) for name, (_, expected) in INTERFACES.items() for of in expected])
def test_a_function_has_its_parameters_at_their_positions(name: str, of: str) -> None:
    declared, expected = INTERFACES[name]
    found = declared[of]
    positions = [(f.tag, "", f) for f in found.inputs] + [(f.tag, "out ", f) for f in found.outputs]
    parameters = [f"{tag} {out}{shown(f.type)}" for tag, out, f in sorted(positions, key=lambda entry: entry[0])]
    assert (shown(found.returns) if found.returns else "void", *parameters) == expected[of]
    assert all(f.required for f in (*found.inputs, *found.outputs))


def test_names_of_parameters_are_those_that_tup_and_json_callers_send() -> None:
    assert [f.name for f in query.QUERY["findObjectByIdInSameStation"].inputs] == ["id", "sStation"]
    assert [f.name for f in query.QUERY["findObjectByIdInSameSet"].inputs] == ["id", "setId"]
    for name in list(QUERY)[1:6]:
        assert [f.name for f in query.QUERY[name].outputs] == ["activeEp", "inactiveEp"]
    assert [f.name for f in query.QUERY["findObjectNodeName"].outputs] == ["nodeName"]
    assert [f.name for f in registry.REGISTRY["updateServer"].inputs] == ["nodeName", "app", "serverName", "stateInfo"]


@pytest.mark.parametrize("cls", STRUCTS, ids=lambda cls: cls.__name__)
def test_a_struct_has_its_fields_at_their_tags(cls: type[Any]) -> None:
    found = [f"{f.tag} {f.name} {shown(f.type)}{'' if f.required else '?'}" for f in fields(cls)]
    assert found == [" ".join(field.split()) for field in STRUCTS[cls].split(", " if "\n" not in STRUCTS[cls] else ",")]


@pytest.mark.parametrize("cls", STRUCTS, ids=lambda cls: cls.__name__)
def test_an_optional_field_defaults_to_nothing(cls: type[Any]) -> None:
    for field in fields(cls):
        if not field.required:
            assert field.default in (0, "", False, {}, ())
            assert not field.default


def test_every_struct_that_is_sent_is_in_the_table() -> None:
    sent: set[type[Any]] = set()
    for declared, _ in INTERFACES.values():
        for found in declared.values():
            sent |= {cls for field in (*found.inputs, *found.results) for cls in reached(field.type)}
    assert sent == STRUCTS.keys() - {RequestPacket, ResponsePacket}


def test_states_of_a_server_count_from_zero() -> None:
    assert [(state.name.capitalize(), state.value) for state in registry.ServerState] == [
        ("Inactive", 0),
        ("Activating", 1),
        ("Active", 2),
        ("Deactivating", 3),
        ("Destroying", 4),
        ("Destroyed", 5),
    ]


def test_servants_and_ports_are_those_that_callers_are_configured_with() -> None:
    assert (query.SERVANT, query.PORT) == ("tars.tarsregistry.QueryObj", 17890)
    assert (registry.SERVANT, registry.PORT, registry.PID_KEY) == ("tars.tarsregistry.RegistryObj", 17891, "PID")
    assert (server.SERVANT, server.PORT) == ("tars.tarsnode.ServerObj", 19386)


# -- bytes of real callers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", captured("client-request"))
def test_arguments_of_a_captured_call_are_what_its_client_meant(line: dict[str, Any]) -> None:
    """To the registry and to a tarsnode; ``args`` of the capture are the fields of the body by position."""
    if line["to"] not in ("registry", "tarsnode"):
        return
    declared = query.QUERY if line["to"] == "registry" else server.SERVER
    packet = REQUEST.decode(bytes.fromhex(line["request_hex"])[4:])
    found = declared[packet.sFuncName]
    arguments = FORMS[packet.iVersion].decode(found.inputs, packet.sBuffer, 20_000)
    for field, value in zip(found.inputs, arguments, strict=True):
        meant = line["args"][str(field.tag)]
        if isinstance(value, server.ServerInfo):
            assert meant == {
                "0": value.application,
                "1": value.serverName,
                "2": value.pid,
                **({"3": value.adapter} if value.adapter else {}),
            }
        else:
            assert value == meant


def test_there_are_captured_calls_to_a_tarsnode() -> None:
    called = {line["func"] for line in golden.lines("client-request") if line["to"] == "tarsnode"}
    assert called == {"keepAlive", "reportVersion"}


def test_a_heartbeat_for_the_process_has_no_adapter() -> None:
    lines = [
        line for line in golden.lines("client-request") if line["to"] == "tarsnode" and line["func"] == "keepAlive"
    ]
    adapters = set()
    for line in lines:
        body = REQUEST.decode(bytes.fromhex(line["request_hex"])[4:]).sBuffer
        (info,) = FORMS[1].decode(server.SERVER["keepAlive"].inputs, body, 100)
        adapters.add(info.adapter)
    assert adapters == {"", "AdminAdapter", "TestApp.GoServer.QueryObjAdapter"}


# -- declarations --------------------------------------------------------------------------------------------------


def test_positions_count_inputs_and_outputs_alike() -> None:
    found = function("f", str, a=str, b=Out(bytes), c=bool, d=Out(str))
    assert [(f.tag, f.name) for f in found.inputs] == [(1, "a"), (3, "c")]
    assert [(f.tag, f.name) for f in found.outputs] == [(2, "b"), (4, "d")]
    assert [(f.tag, f.name) for f in found.results] == [(0, ""), (2, "b"), (4, "d")]


def test_a_void_function_has_its_outputs_only() -> None:
    assert function("f", None).results == ()
    assert [f.name for f in function("f", None, a=Out(str)).results] == ["a"]


def test_a_type_that_the_wire_has_not_is_refused_where_it_is_declared() -> None:
    with pytest.raises(InterfaceError, match=r"f\(a\): .*int.* has no form on the wire") as caught:
        function("f", None, a=int)
    assert isinstance(caught.value.__cause__, SchemaError)
    with pytest.raises(InterfaceError, match="f returns: "):
        function("f", list[str])
    with pytest.raises(InterfaceError, match=r"f\(a\): "):
        function("f", None, a=Out(object))


def test_a_function_declared_twice_is_refused() -> None:
    with pytest.raises(InterfaceError, match="I: a function is declared twice"):
        Interface("I", function("f", None), function("f", str))


def test_an_interface_is_a_mapping_of_its_functions() -> None:
    f, g = function("f", None), function("g", str)
    made = Interface("I", f, g)
    assert (dict(made), len(made), made["g"], "h" in made) == ({"f": f, "g": g}, 2, g, False)
    assert repr(made) == "<Interface I>"
    with pytest.raises(KeyError):
        made["h"]


@pytest.mark.parametrize("name", INTERFACES)
def test_every_function_can_be_decoded_in_every_form(name: str) -> None:
    """An empty body is refused for what it lacks, and by no other error."""
    for found in INTERFACES[name][0].values():
        for form in FORMS.values():
            for declared in (found.inputs, found.results):
                _refuses_empty(form.decode, declared, form.empty)


def _refuses_empty(decode: Any, declared: tuple[Field, ...], empty: bytes) -> None:
    if not declared:
        assert decode(declared, empty, 100) == ()
        return
    with pytest.raises(DecodeError, match="missing"):
        decode(declared, empty, 100)
