"""helm and kubeconform as tests and `make manifests` use them, and what they render."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from tests.chart.schemas import LOCATION

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts" / "tars-registry"
INSTALL: Final = Path(__file__).with_name("install")
KUBERNETES: Final = "1.35.4"
"""What is rendered for; helm itself would take one of its own age."""

Values: TypeAlias = Mapping[str, Any]
Object: TypeAlias = dict[str, Any]


class HelmError(Exception):
    """helm ended with an error; the text is what it said."""


def find() -> Path | None:
    """The folder with the built programs; None where they are not built."""
    shown = subprocess.run([INSTALL, "--print-path"], check=True, stdout=subprocess.PIPE, text=True)
    programs = Path(shown.stdout.rstrip("\n"))
    return programs if os.access(programs / "helm", os.X_OK) else None


class Helm:
    """helm, with folders of its own, and with a cluster where a kubeconfig is given."""

    def __init__(self, programs: Path, home: Path, kubeconfig: Path | None = None, namespace: str = "tars") -> None:
        self.namespace = namespace
        self._program = programs / "helm"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HELM_CACHE_HOME": str(home / "cache"),
            "HELM_CONFIG_HOME": str(home / "config"),
            "HELM_DATA_HOME": str(home / "data"),
            # Never whatever cluster somebody is logged in to.
            "KUBECONFIG": str(kubeconfig or home / "no-kubeconfig"),
        }

    def argv(self, *arguments: str | Path) -> list[str]:
        """A command line."""
        return [str(self._program), "--namespace", self.namespace, *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        """What it runs in."""
        return dict(self._environment)

    def run(self, *arguments: str | Path, values: Values | None = None) -> str:
        """What a command prints. Raises HelmError."""
        with tempfile.TemporaryDirectory() as folder:
            given: list[str | Path] = []
            if values is not None:
                file = Path(folder) / "values.yaml"
                file.write_text(yaml.safe_dump(dict(values)))
                given = ["--values", file]
            done = subprocess.run(
                self.argv(*arguments, *given), env=self._environment, capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise HelmError(f"{done.stdout}{done.stderr}".strip())
        return done.stdout

    def render(self, values: Values | None = None, *options: str, release: str = "tars-registry") -> list[Object]:
        """The objects of a release, those of hooks among them, without the custom resource definitions."""
        text = self.run("template", release, CHART, "--kube-version", KUBERNETES, *options, values=values or {})
        return documents(text)


def documents(text: str) -> list[Object]:
    """The objects in a YAML text."""
    return [each for each in yaml.safe_load_all(text) if each]


def of_kind(objects: list[Object], kind: str, name: str | None = None) -> list[Object]:
    """Those of a kind, and of a name where one is given."""
    return [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The only one of a kind, or of a kind and name."""
    found = of_kind(objects, kind, name)
    assert len(found) == 1, f"{len(found)} of {kind} {name or ''} in {[each['kind'] for each in objects]}"
    return found[0]


def configuration(objects: list[Object]) -> dict[str, Any]:
    """The configuration file that the registries are given."""
    name = one(objects, "Deployment")["metadata"]["name"]
    loaded: dict[str, Any] = yaml.safe_load(one(objects, "ConfigMap", name)["data"]["registry.yaml"])
    return loaded


def container(objects: list[Object]) -> Object:
    """The registry's container."""
    (found,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def as_json(objects: list[Object]) -> str:
    """As one document that every tool reads."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


class Kubeconform:
    """kubeconform with schemas in a folder, and no others."""

    def __init__(self, programs: Path, schemas: Path) -> None:
        self._argv = [
            str(programs / "kubeconform"),
            "-strict",
            f"-schema-location={schemas}/{LOCATION}",
            # Whoever defines these is the Prometheus operator.
            "-skip=ServiceMonitor,PrometheusRule",
            "-summary",
            "-output=json",
        ]

    def check(self, objects: list[Object]) -> list[str]:
        """What is wrong with objects, and with which; raises where not all of them were looked at."""
        text = "---\n".join(yaml.safe_dump(each) for each in objects)
        done = subprocess.run(self._argv, input=text, capture_output=True, text=True, check=False)
        answer = json.loads(done.stdout)
        assert sum(answer["summary"].values()) == len(objects), done.stdout + done.stderr
        return [f"{each['kind']} {each['name']}: {each['msg']}" for each in answer["resources"]]
