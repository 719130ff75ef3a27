"""What is in an image, read from the archive that ``docker save``, ``podman save`` and ``buildah push`` write.

Needs no builder, no rights and no mount: layers are tar files, each laid over the ones before it.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

_WHITEOUT: Final = ".wh."


@dataclass
class Image:
    """An image: its configuration, its files by their path (no leading slash), and what some of them hold."""

    id: str
    """The digest of its configuration."""
    config: dict[str, Any]
    files: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    layers: list[dict[str, tarfile.TarInfo]] = field(default_factory=list)
    """The files of each layer by itself: what a later one hides is still shipped."""


def read(path: Path, keep: Callable[[str], bool] = lambda path: False) -> Image:
    """Read an archive. ``keep`` tells by the path which files' contents are wanted."""
    with tarfile.open(path) as archive:
        manifest = json.load(_member(archive, "manifest.json"))
        if len(manifest) != 1:
            raise ValueError(f"{path}: expected one image, found {len(manifest)}")
        configuration = manifest[0]["Config"]
        image = Image(
            Path(configuration).name.removesuffix(".json").removeprefix("sha256:"),
            json.load(_member(archive, configuration)),
        )
        for name in manifest[0]["Layers"]:
            with tarfile.open(fileobj=_member(archive, name)) as layer:
                _lay_over(image, layer, keep)
    return image


def _member(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return cast(Any, file)


def _lay_over(image: Image, layer: tarfile.TarFile, keep: Callable[[str], bool]) -> None:
    files: dict[str, tarfile.TarInfo] = {}
    for member in layer:
        path = member.name.removeprefix("./").strip("/")
        folder, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT):
            hidden = f"{folder}/{name.removeprefix(_WHITEOUT)}".strip("/")
            for other in [other for other in image.files if other == hidden or other.startswith(f"{hidden}/")]:
                del image.files[other]
                image.contents.pop(other, None)
            continue
        files[path] = member
        if member.isfile() and keep(path) and (file := layer.extractfile(member)):
            image.contents[path] = file.read()
    image.files.update(files)
    image.layers.append(files)
