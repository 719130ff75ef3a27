"""Groups of addresses: which one an address falls in, and what group priority makes of it.

The longest prefix wins, an exact address being the longest of all: a look-up in one dict for each length that occurs,
a few microseconds however many rules there are.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

NO_GROUP: Final = -1
"""The group of a caller, or of an endpoint, that is in none."""

_BITS: Final = {4: 32, 6: 128}


class Prefix(NamedTuple):
    """All addresses of IP ``version`` whose first ``length`` bits are the number ``bits``."""

    version: int
    bits: int
    length: int

    def __str__(self) -> str:
        number = self.bits << (_BITS[self.version] - self.length)
        address = ipaddress.IPv4Address(number) if self.version == 4 else ipaddress.IPv6Address(number)
        return str(address) if self.length == _BITS[self.version] else f"{address}/{self.length}"


class Rule(NamedTuple):
    """A prefix and the group that its addresses are in; ``text`` and ``line`` are where the policy says so."""

    prefix: Prefix
    group: int
    text: str = ""
    line: int = 0


_EXPECTED: Final = "expected an address, a range as in 10.1.0.0/16 or fd00:1::/32, or a pattern as in 10.1.2.*"
_STARS: Final = re.compile(r"([0-9]{1,3}\.){0,3}\*(\.\*)*", re.ASCII)


def parse_prefix(text: str) -> Prefix:
    """An address, a range or a pattern with stars at its end. Raises ValueError that says what would be right."""
    if "*" in text:
        return _parse_stars(text)
    address, slash, length = text.partition("/")
    found = address_bits(address) if "%" not in address else None
    if found is None:
        raise ValueError(f"{_EXPECTED}, got {text[:60]!r}")
    version, number = found
    longest = _BITS[version]
    if not slash:
        return Prefix(version, number, longest)
    if not (re.fullmatch("[0-9]{1,3}", length, re.ASCII)):
        raise ValueError(f"{_EXPECTED}, got {text[:60]!r}")
    # ::ffff:10.1.0.0/112 is 10.1.0.0/16
    shorter = 96 if ":" in address and version == 4 else 0
    bits = int(length) - shorter
    if not 0 <= bits <= longest:
        what = "IPv4 range that is written as IPv6" if shorter else f"IPv{version} range"
        raise ValueError(f"the length of an {what} is {shorter} to {shorter + longest}, got {text[:60]!r}")
    prefix = Prefix(version, number >> (longest - bits), bits)
    if prefix.bits << (longest - bits) != number:
        raise ValueError(f"{text!r} has bits set beyond its length; did you mean {prefix}?")
    return prefix


def _parse_stars(text: str) -> Prefix:
    parts = text.split(".")
    if len(parts) != 4 or not _STARS.fullmatch(text):
        raise ValueError(
            f"stars stand for whole numbers at the end of four, as in 10.1.2.* or 10.1.*.*, got {text[:60]!r}"
        )
    numbers = [part for part in parts if part != "*"]
    found = address_bits(".".join(numbers + ["0"] * (4 - len(numbers))))
    if found is None:
        raise ValueError(f"{_EXPECTED}, got {text!r}")
    return Prefix(4, found[1] >> 8 * (4 - len(numbers)), 8 * len(numbers))


def address_bits(text: str) -> tuple[int, int] | None:
    """IP version and number of an address, an IPv4 one that is written as IPv6 as IPv4; None for what is none."""
    try:
        if ":" not in text:
            return 4, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
        number = int.from_bytes(socket.inet_pton(socket.AF_INET6, text.partition("%")[0]), "big")
    except (OSError, ValueError):  # ValueError: a zero byte, or what can't be encoded
        return None
    return (4, number & 0xFFFF_FFFF) if number >> 32 == 0xFFFF else (6, number)


class Prefixes:
    """Rules by prefix: finds the one with the longest prefix of an address."""

    __slots__ = ("_lengths",)

    def __init__(self, rules: Iterable[Rule]) -> None:
        tables: dict[int, dict[int, dict[int, Rule]]] = {4: {}, 6: {}}
        for rule in rules:
            tables[rule.prefix.version].setdefault(rule.prefix.length, {})[rule.prefix.bits] = rule
        self._lengths = {
            version: [(_BITS[version] - length, found) for length, found in sorted(by_length.items(), reverse=True)]
            for version, by_length in tables.items()
        }
        """By IP version, the longest first: how many bits to leave off, and the rules by what remains."""

    def find(self, address: str) -> Rule | None:
        """The rule for an address; None where none fits, or the text is no address."""
        bits = address_bits(address)
        if bits is None:
            return None
        version, number = bits
        for shift, rules in self._lengths[version]:
            rule = rules.get(number >> shift)
            if rule is not None:
                return rule
        return None

    def __bool__(self) -> bool:
        return any(self._lengths.values())


class Grouped(Protocol):
    """What group priority chooses from."""

    @property
    def active(self) -> bool:
        """True where it serves."""

    @property
    def work(self) -> int:
        """The group for which it works; NO_GROUP where grouping is off for it."""


G = TypeVar("G", bound=Grouped)

Trail = Callable[[str], None]
"""Is told each step of a choice, for people."""


def by_priority(
    pool: Sequence[G], group: int, priorities: Iterable[tuple[str, frozenset[int]]], trail: Trail | None = None
) -> Sequence[G]:
    """Those of the caller's group; if none is active, those of the priorities in order; those of no group; all.

    ``priorities`` are names and groups, only those with the caller's group. Active or not, all come from one step.
    """
    steps = [(f"group {group}, the caller's own", frozenset((group,)))]
    steps += [(f"the groups of priority {name!r}", groups) for name, groups in priorities]
    steps.append(("those in no group", frozenset((NO_GROUP,))))
    for name, groups in steps:
        found = [each for each in pool if each.work in groups]
        if any(each.active for each in found):
            if trail:
                trail(f"{name}: taken")
            return found
        if trail:
            trail(f"{name}: no active endpoint")
    if trail:
        trail("all endpoints: taken")
    return pool
