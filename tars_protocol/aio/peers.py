"""What the peers behind one address have together: connections, and requests a second."""

from __future__ import annotations

import logging

from tars_protocol.aio.limits import RateLimitMode, ServerLimits, ServerStats

log = logging.getLogger(__name__)

_TELL_AGAIN = 1.0
"""Seconds."""


class Address:
    """One peer address: ``connections`` that are open, and the requests that it may still send (``tokens``)."""

    __slots__ = ("_told", "connections", "name", "seen", "tokens")

    def __init__(self, name: str, tokens: float, now: float) -> None:
        self.name = name
        self.connections = 0
        self.tokens = tokens
        self.seen = now
        """When ``tokens`` was right, on the clock that never jumps."""
        self._told: dict[str, float] = {}
        """When something was last said of it, on the same clock."""

    def tell(self, what: str, now: float) -> bool:
        """Whether something is to be said of it now: once a second, as to make each line and to leave it out later
        would take as long as to answer."""
        if now - self._told.get(what, float("-inf")) < _TELL_AGAIN:
            return False
        self._told[what] = now
        return True


class Addresses:
    """Every address that has a connection, or had one not long ago."""

    def __init__(self) -> None:
        self._known: dict[str, Address] = {}

    def __len__(self) -> int:
        return len(self._known)

    def enter(self, name: str, limits: ServerLimits, now: float) -> Address | None:
        """One more connection from an address; None where it has as many as it may."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = Address(name, _burst(limits), now)
        if known.connections >= limits.max_connections_per_peer:
            return None
        known.connections += 1
        return known

    def leave(self, address: Address, limits: ServerLimits) -> None:
        """A connection is gone. While rates are limited the address is remembered for a second (see ``forget``): else
        it would have a second's worth of requests again by connecting anew."""
        address.connections -= 1
        if not address.connections and limits.rate_limit is RateLimitMode.OFF:
            del self._known[address.name]

    def forget(self, limits: ServerLimits, now: float) -> None:
        """Give up addresses without connections that may send as much again as any other."""
        full = _burst(limits)
        for address in [each for each in self._known.values() if not each.connections]:
            if _tokens(address, limits, now) >= full:
                del self._known[address.name]


def admit(address: Address, limits: ServerLimits, now: float) -> bool:
    """True where one more request is within the rate; it is then taken off."""
    tokens = _tokens(address, limits, now)
    admitted = tokens >= 1
    address.tokens, address.seen = tokens - admitted, now
    return admitted


def may_ask(address: Address, server: str, limits: ServerLimits, stats: ServerStats, now: float) -> bool:
    """True where one more request is to be answered. What is above the rate is counted, and told of the address."""
    if admit(address, limits, now):
        return True
    stats.over_rate += 1
    enforced = limits.rate_limit is RateLimitMode.ENFORCE
    stats.rate_refused += enforced
    if address.tell("rate", now):
        log.warning(
            "%s: %s asks more than %g times a second (max_requests_per_peer); %s",
            server,
            address.name,
            limits.max_requests_per_peer,
            "what is above is answered -9" if enforced else "it is answered all the same",
            extra={"limit_key": address.name},
        )
    return not enforced


def _burst(limits: ServerLimits) -> float:
    """A second's worth, and one where that would be less."""
    return max(1.0, limits.max_requests_per_peer)


def _tokens(address: Address, limits: ServerLimits, now: float) -> float:
    return min(_burst(limits), address.tokens + (now - address.seen) * limits.max_requests_per_peer)
