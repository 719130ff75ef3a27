"""Write down what is in the image or in the wheel, as CycloneDX JSON (a software bill of materials).

    python -m image.sbom image ARCHIVE --output FILE     of what `image/build --save ARCHIVE` saved
    python -m image.sbom wheel WHEEL --output FILE       with the locked requirements as they are installed here

`make sbom` does both. What is written is checked against the schema of the format first.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from image import archive, debian
from image.distributions import OWN, Distribution, from_files, installed, locked

VERSION_LABEL: Final = "org.opencontainers.image.version"

_licences = LicenseFactory()


class SbomError(Exception):
    """What should be described can't be."""


def _of_python(bom: Bom, distributions: Iterable[Distribution]) -> dict[str, Component]:
    """Add Python packages, with what is compiled into them and what they need."""
    components = {}
    distributions = list(distributions)
    for one in distributions:
        purl = PackageURL("pypi", None, one.name, one.version)
        components[one.name] = component = Component(
            name=one.name,
            version=one.version,
            description=one.summary or None,
            licenses=[_licences.make_from_string(one.licence)],
            purl=purl,
            bom_ref=purl.to_string(),
        )
        inner = []
        for crate in one.crates:
            crate_purl = PackageURL("cargo", None, crate.name, crate.version)
            inner.append(
                Component(
                    name=crate.name,
                    version=crate.version,
                    licenses=[_licences.make_from_string(crate.licence)],
                    purl=crate_purl,
                    bom_ref=f"{purl}#{crate_purl}",
                )
            )
        component.components.update(inner)
        bom.components.add(component)
    for one in distributions:
        bom.register_dependency(components[one.name], [components[name] for name in one.requires if name in components])
    return components


def _of_debian(bom: Bom, packages: Iterable[debian.Package], release: str) -> dict[str, Component]:
    """Add Debian packages, named so that scanners find the security notices of their sources."""
    components = {}
    packages = list(packages)
    for one in packages:
        upstream = one.source if one.source_version == one.version else f"{one.source}@{one.source_version}"
        qualifiers = {"arch": one.architecture, "distro": release}
        if upstream != one.name:
            qualifiers["upstream"] = upstream
        purl = PackageURL("deb", "debian", one.name, one.version, qualifiers)
        components[one.name] = component = Component(
            name=one.name,
            version=one.version,
            description=one.summary,
            licenses=[_licences.make_with_name(name) for name in one.licences],
            purl=purl,
            bom_ref=purl.to_string(),
        )
        bom.components.add(component)
    for one in packages:
        bom.register_dependency(components[one.name], [components[name] for name in one.depends if name in components])
    return components


def of_image(path: Path) -> Bom:
    """What is in a saved image."""
    image = archive.read(path, lambda name: debian.wanted(name) or ".dist-info/" in name)
    distributions = from_files(image.contents)
    packages = debian.packages(image.contents)
    if OWN not in {one.name for one in distributions} or not packages:
        raise SbomError(f"{path}: no image of {OWN}: neither its package nor those of Debian are in it")
    bom = Bom()
    whole = Component(
        name=OWN,
        type=ComponentType.CONTAINER,
        version=image.config["config"]["Labels"][VERSION_LABEL],
        licenses=[_licences.make_from_string("BSD-3-Clause")],
        bom_ref="image",
        # What `podman images --no-trunc` shows: which build this is about.
        properties=[
            Property(name="image:id", value=f"sha256:{image.id}"),
            Property(name="image:architecture", value=image.config["architecture"]),
        ],
    )
    bom.metadata.component = whole
    python = _of_python(bom, distributions)
    system = _of_debian(bom, packages, debian.release(image.contents))
    bom.register_dependency(whole, [python[OWN], *system.values()])
    return bom


def of_wheel(path: Path) -> Bom:
    """What a wheel of the project is, and the requirements that it is tested with."""
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" in name}
    own = [one for one in from_files(files) if one.name == OWN]
    if not own:
        raise SbomError(f"{path} is no wheel of {OWN}")
    pins = locked()
    requirements = installed(pins)
    if different := [f"{one.name} {one.version}" for one in requirements if pins[one.name] != one.version]:
        raise SbomError(
            f"installed here are other versions than the locked ones: {', '.join(different)}; run make setup"
        )
    bom = Bom()
    python = _of_python(bom, [*own, *requirements])
    whole = python[OWN]
    bom.components.remove(whole)
    bom.metadata.component = whole
    return bom


def as_json(bom: Bom) -> str:
    """The document, once it is right by the schema of its format. Raises SbomError."""
    text = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SbomError(f"not right by the schema of CycloneDX 1.6: {wrong}")
    return text


def main() -> int:
    """Write one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("image", "wheel"))
    parser.add_argument("path", type=Path, help="the archive or the wheel")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        bom = of_image(options.path) if options.kind == "image" else of_wheel(options.path)
        text = as_json(bom)
    except (OSError, SbomError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, encoding="utf-8")
    print(f"{options.output}: {len(bom.components)} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
