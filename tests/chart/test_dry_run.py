"""What a real API server and kubeconform, with its schemas, think of what the chart renders."""

from __future__ import annotations

import copy

import pytest

from tests.chart.conftest import Release
from tests.chart.tools import CHART, Kubeconform, Object, documents, of_kind, one
from tests.chart.variants import ALL_ON, VARIANTS
from tests.cluster.client import ApiError, Client, Resource

pytestmark = [pytest.mark.chart, pytest.mark.cluster]


async def dry_run(admin: Client, manifest: Object) -> Object:
    """Create an object but for writing it down; ApiError for a field that is unknown or given twice."""
    resource = {"NetworkPolicy": "networkpolicies"}.get(manifest["kind"])
    where = Resource.of(manifest) if resource is None else Resource(manifest["apiVersion"], resource)
    return await admin.request(
        "POST",
        where.path(manifest["metadata"].get("namespace")),
        params={"dryRun": "All", "fieldValidation": "Strict"},
        body=manifest,
    )


@pytest.mark.parametrize("name", [*VARIANTS, "all"])
async def test_every_object_is_taken_by_the_api_server_and_fits_its_schemas(
    name: str, release: Release, kubeconform: Kubeconform
) -> None:
    values = ALL_ON if name == "all" else VARIANTS[name]
    objects = release.helm.render(values)
    assert kubeconform.check(objects) == []
    for each in objects:
        if each["metadata"].get("namespace") in (None, release.namespace):
            await dry_run(release.admin, each)


async def test_both_would_find_a_field_that_is_none_and_a_value_that_can_t_be(
    release: Release, kubeconform: Kubeconform
) -> None:
    deployment = one(release.helm.render(), "Deployment")
    misspelt, wrong = copy.deepcopy(deployment), copy.deepcopy(deployment)
    misspelt["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    wrong["spec"]["replicas"] = "two"
    for bad, said in ((misspelt, "readynessProbe"), (wrong, "replicas")):
        assert len(kubeconform.check([bad])) == 1
        with pytest.raises(ApiError, match=said):
            await dry_run(release.admin, bad)


async def test_the_definitions_are_taken_and_fit(release: Release, kubeconform: Kubeconform) -> None:
    definitions = documents(release.helm.run("show", "crds", CHART))
    assert {each["metadata"]["name"] for each in of_kind(definitions, "CustomResourceDefinition")} == {
        "tendpoints.k8s.tars.io",
        "ttemplates.k8s.tars.io",
        "tframeworkconfigs.k8s.tars.io",
    }
    for each in definitions:
        # Names of their own, where the real ones are there already.
        spec = each["spec"]
        spec["group"] = "trial.example"
        each["metadata"]["name"] = f"{spec['names']['plural']}.trial.example"
        await dry_run(release.admin, each)
