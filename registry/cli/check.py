"""``tars-registry check``: look for what is wrong in configuration, manifests and routing policy, without serving."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from registry import config
from registry.admin.logs import one_line
from registry.cli.errors import CommandError
from registry.model import Kind, Server
from registry.routing.groups import address_bits
from registry.routing.policy import Policy
from registry.sources.files import Directory, look
from registry.sources.policy_document import PolicyError, read_policy


@dataclasses.dataclass
class _Report:
    """What was looked at, what is wrong, and in which group the addresses are that were asked for."""

    checked: list[str] = dataclasses.field(default_factory=list)
    problems: list[dict[str, str]] = dataclasses.field(default_factory=list)
    addresses: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def problem(self, where: str, reason: str) -> None:
        """Something is wrong."""
        self.problems.append({"where": where, "reason": reason})


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "check",
        help="look for mistakes in configuration, manifests and routing policy",
        description="Read the configuration (its file and the environment), a directory of manifests and a routing "
        "policy, and tell all that is wrong in them. Exit status 0: nothing; 1: something; 2: they can't be read.",
        allow_abbrev=False,
    )
    command.add_argument("--config", metavar="FILE", help="a YAML file with settings (TARS_REGISTRY_CONFIG)")
    command.add_argument("--manifests", metavar="DIR", help="a directory of manifests (default: that of the settings)")
    command.add_argument("--policy", metavar="FILE", help="a routing policy (default: routing_policy of the settings)")
    command.add_argument(
        "--ip", metavar="ADDRESS", action="append", default=[], help="tell the group of an address; may be repeated"
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check all that there is, print what was found."""
    report = _Report()
    settings = _check_settings(options, report)
    manifests = options.manifests or settings.service.manifests
    directory = _check_manifests(Path(manifests), settings.directory.max_file_bytes, report) if manifests else None
    policy_path = options.policy or settings.routing.routing_policy
    policy = _check_policy(Path(policy_path), settings.directory.max_file_bytes, report) if policy_path else None
    if policy and directory:
        _check_names(policy, directory, report)
    if options.ip:
        if not policy_path:
            raise CommandError("--ip needs a policy: name one with --policy FILE")
        for address in options.ip:
            _find_group(address, policy, report)
    if options.json:
        print(json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False))
    else:
        _print(report)
    return 1 if report.problems else 0


def _check_settings(options: argparse.Namespace, report: _Report) -> config.Config:
    file = options.config or os.environ.get(config.ENVIRONMENT_PREFIX + "CONFIG")
    try:
        found = config.load({}, os.environ, Path(file) if file else None)
    except config.ConfigError as error:
        report.problem("configuration", f"{error}; what else the settings name was not looked at")
        return config.Config()
    report.checked.append(f"configuration {file}" if file else "configuration: defaults and environment")
    if found.routing.routing_policy is not None and found.routing.routing_policy_configmap:
        report.problem("configuration", "routing_policy and routing_policy_configmap: name one of them")
    if found.service.source is config.SourceKind.DIRECTORY and found.routing.routing_policy_configmap:
        report.problem(
            "configuration", "routing_policy_configmap goes with the kubernetes source; name a file with routing_policy"
        )
    return found


def _check_manifests(root: Path, max_bytes: int, report: _Report) -> Directory:
    try:
        found = look(root, Directory(), max_bytes)
    except OSError as error:
        raise CommandError(f"{root}: can't be read: {error.strerror}; name a directory with --manifests") from None
    for flaw in found.flaws:
        problem = flaw.problem(root)
        report.problem(problem.where, problem.reason)
    counts = ", ".join(f"{len(items)} {kind}" for kind, items in found.objects.items())
    report.checked.append(f"manifests {root}: {counts} in {len(found.files)} files")
    return found


def _check_policy(path: Path, max_bytes: int, report: _Report) -> Policy | None:
    """The policy in a file; None where it can't be used."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
        text = data.decode("utf-8-sig") if len(data) <= max_bytes else None
    except OSError as error:
        raise CommandError(f"{path}: can't be read: {error.strerror}; name a file with --policy") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        report.problem(f"{path}:{line}", f"not UTF-8: {error.reason}")
        return None
    if text is None:
        report.problem(str(path), f"longer than max_file_bytes, {max_bytes} bytes")
        return None
    try:
        document = read_policy(text)
    except PolicyError as error:
        for flaw in error.flaws:
            report.problem(f"{path}:{flaw.line}", f"{flaw.path}: {flaw.reason}" if flaw.path else flaw.reason)
        return None
    rules = sum(len(group.rules) for group in document.groups)
    stations = len(document.priorities)
    report.checked.append(f"policy {path}: {len(document.groups)} groups, {rules} addresses, {stations} stations")
    return Policy(document)


def _check_names(policy: Policy, directory: Directory, report: _Report) -> None:
    """Groups that objects name must be there; the zones of nodes are not known here."""
    if policy.document.from_topology:
        return
    for item in directory.objects[Kind.SERVER].values():
        facts = item.routing if isinstance(item, Server) else None
        if facts is not None and facts.group_name and facts.group_name not in policy.ids:
            known = ", ".join(policy.ids) or "no names"
            report.problem(
                f"{item.kind} {item.namespace}/{item.name}",
                f"tars.io/group-name: the policy has no group named {facts.group_name!r} (it has {known}); "
                "the pods' addresses count instead",
            )


def _find_group(address: str, policy: Policy | None, report: _Report) -> None:
    if address_bits(address) is None:
        raise CommandError(f"--ip {address!r}: expected an address, as in 10.1.2.3 or fd00::1")
    if policy is None:
        return
    rule = policy.rule_of(address)
    found: dict[str, Any] = {"address": address, "group": None, "name": "", "rule": "", "line": None}
    if rule is not None:
        found |= {"group": rule.group, "name": policy.groups[rule.group], "rule": rule.text, "line": rule.line}
        found["stations"] = [name for name, _ in policy.priorities_of(rule.group)]
    found["zone_unknown"] = rule is None and policy.document.from_topology
    report.addresses.append(found)


def _print(report: _Report) -> None:
    for line in report.checked:
        print(one_line(line))
    for problem in report.problems:
        print(one_line(f"{problem['where']}: {problem['reason']}"))
    for each in report.addresses:
        if each["group"] is None:
            unknown = ", but its node may have a zone (from_topology), which is not known here"
            print(f"{each['address']}: in no group{unknown if each['zone_unknown'] else ''}")
        else:
            name = f" ({each['name']})" if each["name"] else ""
            text = f"{each['address']}: group {each['group']}{name}, by {each['rule']} in line {each['line']}"
            print(one_line(text + (f"; priorities: {', '.join(each['stations'])}" if each["stations"] else "")))
    count = len(report.problems)
    print(f"{count} problem{'' if count == 1 else 's'}" if count else "nothing is wrong")
