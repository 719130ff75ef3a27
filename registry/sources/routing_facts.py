"""What annotations and labels say of routing: set, flow, weight, group, backup.

They are written by hand, and apart from what makes the server work: what can't be understood is passed over and told,
it never takes a server out of the table (but what is no text at all does, as the API server would not take it). The
texts are the annotations of a TEndpoint, for all its pods, or of a labelled Pod, for itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from registry.model import RoutingFacts
from registry.routing.sets import is_set

SET: Final = "tars.io/set"
FLOW: Final = "tars.io/flow"
FLOW_OFF_PODS: Final = "tars.io/flow-off-pods"
WEIGHT: Final = "tars.io/weight"
POD_WEIGHTS: Final = "tars.io/pod-weights"
GROUPING: Final = "tars.io/group"
GROUP_NAME: Final = "tars.io/group-name"
BACKUP: Final = "tars.io/backup"

MAX_WEIGHT: Final = 100

_LONGEST: Final = 50_000
"""Characters of an annotation that are read: the names and weights of about a thousand pods."""

_LONGEST_NAME: Final = 200
"""Characters of a set, which goes out with every endpoint, and of a group's name."""

_SHORT: Final = 500
"""Characters up to which equal annotations are read once, for the thousands of pods that have the same."""

_ON: Final = frozenset(("on", "true", "yes"))
_OFF: Final = frozenset(("off", "false", "no"))


class SetLabel(Struct, frozen=True, gc=False):
    """The labels that count."""

    set_id: str | None = field(default=None, name=SET)


class RoutingAnnotations(Struct, frozen=True, gc=False):
    """The annotations that count; all others are skipped while decoding."""

    set_id: str | None = field(default=None, name=SET)
    flow: str | None = field(default=None, name=FLOW)
    flow_off_pods: str | None = field(default=None, name=FLOW_OFF_PODS)
    weight: str | None = field(default=None, name=WEIGHT)
    pod_weights: str | None = field(default=None, name=POD_WEIGHTS)
    grouping: str | None = field(default=None, name=GROUPING)
    group_name: str | None = field(default=None, name=GROUP_NAME)
    backup: str | None = field(default=None, name=BACKUP)


_NOTHING: Final = RoutingAnnotations()
_FIELDS: Final = {field.encode_name: field.name for field in msgspec.structs.fields(RoutingAnnotations)}


def facts_of(annotations: RoutingAnnotations | None, labels: SetLabel | None) -> RoutingFacts | None:
    """What an object says of routing; None where it says nothing, as most do. An annotation stands over a label."""
    label = labels.set_id if labels is not None else None
    if annotations is None or annotations == _NOTHING:
        if label is None:
            return None
        annotations = _NOTHING
    texts = (*msgspec.structs.astuple(annotations), label)
    read = _read_once if sum(map(len, filter(None, texts))) <= _SHORT else _read
    return read(annotations, label)


def facts_of_pod(annotations: Mapping[str, str] | None, labels: Mapping[str, str] | None) -> RoutingFacts | None:
    """The same from all the annotations and labels of an object."""
    found = {name: annotations[key] for key, name in _FIELDS.items() if key in annotations} if annotations else {}
    label = labels.get(SET) if labels else None
    if not found and label is None:
        return None
    return facts_of(RoutingAnnotations(**found), SetLabel(label))


def _read(annotations: RoutingAnnotations, label: str | None) -> RoutingFacts:
    flaws: list[str] = []
    set_id = annotations.set_id if annotations.set_id is not None else label
    return RoutingFacts(
        set_id=_set(set_id, flaws),
        weight=_weight(annotations.weight, flaws),
        pod_weights=_pod_weights(annotations.pod_weights, flaws),
        flow_off=_switch(FLOW, annotations.flow, flaws) is False,
        flow_off_pods=_pods(annotations.flow_off_pods, flaws),
        grouping=_switch(GROUPING, annotations.grouping, flaws),
        group_name=_name(GROUP_NAME, annotations.group_name, flaws),
        backup=_switch(BACKUP, annotations.backup, flaws) is True,
        flaws=tuple(flaws),
    )


_read_once = lru_cache(2_000)(_read)


def _set(text: str | None, flaws: list[str]) -> str:
    text = _name(SET, text, flaws)
    if text and not is_set(text):
        flaws.append(
            f"{SET}: expected name.area.group, of which only the group may be *, got {_shown(text)}; "
            "this counts as no set"
        )
        return ""
    return text


def _name(key: str, text: str | None, flaws: list[str]) -> str:
    text = (text or "").strip()
    if len(text) > _LONGEST_NAME:
        flaws.append(f"{key}: {len(text)} characters, more than {_LONGEST_NAME}; passed over")
        return ""
    return text


def _switch(key: str, text: str | None, flaws: list[str]) -> bool | None:
    word = (text or "").strip().lower()
    if word in _ON:
        return True
    if word in _OFF:
        return False
    if word:
        flaws.append(f'{key}: expected "on" or "off" (or true, false), got {_shown(word)}; passed over')
    return None


def _weight(text: str | None, flaws: list[str]) -> int | None:
    text = (text or "").strip()
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,3}", text, re.ASCII) or int(text) > MAX_WEIGHT:
        flaws.append(f"{WEIGHT}: expected a whole number from 0 to {MAX_WEIGHT}, got {_shown(text)}; passed over")
        return None
    return int(text)


def _pod_weights(text: str | None, flaws: list[str]) -> tuple[tuple[str, int], ...]:
    if not text or not text.strip():
        return ()
    if len(text) > _LONGEST:
        flaws.append(f"{POD_WEIGHTS}: {len(text)} characters, more than {_LONGEST}; passed over")
        return ()
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        flaws.append(f'{POD_WEIGHTS}: expected JSON, as in {{"my-server-0": 50}}, got {_shown(text)}; passed over')
        return ()
    weights = []
    for pod, weight in found.items():
        if isinstance(weight, int) and not isinstance(weight, bool) and 0 <= weight <= MAX_WEIGHT:
            weights.append((pod, weight))
        else:
            flaws.append(
                f"{POD_WEIGHTS}: {_shown(pod)}: expected a whole number from 0 to {MAX_WEIGHT}, "
                f"got {_shown(str(weight))}; passed over"
            )
    return tuple(weights)


def _pods(text: str | None, flaws: list[str]) -> frozenset[str]:
    """Names with commas or spaces between them, or a list in JSON."""
    if not text or not text.strip():
        return frozenset()
    if len(text) > _LONGEST:
        flaws.append(f"{FLOW_OFF_PODS}: {len(text)} characters, more than {_LONGEST}; passed over")
        return frozenset()
    if text.lstrip().startswith("["):
        try:
            return frozenset(msgspec.json.decode(text, type=list[str]))
        except (msgspec.MsgspecError, RecursionError):
            flaws.append(f"{FLOW_OFF_PODS}: expected pod names with commas, got {_shown(text)}; passed over")
            return frozenset()
    return frozenset(name for name in re.split(r"[\s,]+", text) if name)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
