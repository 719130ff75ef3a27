"""The asyncio shell of a server: sockets in, :class:`tars_protocol.connection.Connection` in the middle, sockets out.

It adds what only a socket has: listening, deadlines, and peers that do not read. Everything that a peer may use up has
a limit in :class:`ServerLimits`, and everything that is refused is counted by reason.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable

from tars_protocol.aio.accept import Acceptor
from tars_protocol.aio.limits import RateLimitMode, ServerLimits, ServerStats
from tars_protocol.aio.listen import bind
from tars_protocol.aio.peer import Peer
from tars_protocol.aio.peers import Addresses
from tars_protocol.aio.rounds import Rounds
from tars_protocol.connection import Connection
from tars_protocol.handlers import Caller, Load
from tars_protocol.turns import Turns

__all__ = ["RateLimitMode", "Server", "ServerLimits", "ServerStats", "plain_address"]

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 1.0
"""How often deadlines are looked at. They are good to a second, and no connection needs a timer of its own."""

_FLUSH_SECONDS = 1.0
"""For what was answered to be sent, at the end of a drain."""

_SLICE = 256
"""Connections that are looked at before others get their turn: about 1 ms."""

_LEAVE_SECONDS = 0.05
"""How often a server that is about to go looks whose moment has come."""


class Server:
    """Listens on one address and drives a :class:`Connection` for each peer.

    ``connect`` makes the connection for a caller. ``name`` stands in logs. First ``bind``, which finds out whether the
    address can be had and which port it is, then ``start``, which lets callers in. At the end ``drain``, which loses
    nobody's answer, or ``stop``.
    """

    def __init__(self, name: str, connect: Callable[[Caller], Connection], limits: ServerLimits | None = None) -> None:
        self.name = name
        self.limits = limits or ServerLimits()
        self.stats = ServerStats()
        self.load = Load(self.limits.max_in_flight)
        """For the connections that ``connect`` makes, and whoever answers."""
        self.turns = Turns()
        """For the connections that ``connect`` makes."""
        self.rounds = Rounds(self.turns, self.limits.turn_timeout)
        self._share_turns()
        self._connect = connect
        self._sockets: list[socket.socket] = []
        self._acceptor = Acceptor(name, self._accepted, self.stats.refused)
        self._addresses = Addresses()
        self._taken = 0
        """Connections that were accepted and are not closed, those that can't be used yet included."""
        self._peers: set[Peer] = set()
        self._empty = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self.port = 0
        """The port listened on, once bound."""
        self._holders: set[Peer] = set()
        """Connections for which bytes are held, and how many for all of them."""
        self._held = 0

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._peers)

    @property
    def connections(self) -> list[Connection]:
        """The connections that are open now."""
        return [peer.connection for peer in self._peers]

    def bind(self, host: str, port: int) -> None:
        """Take a host ("" for all addresses, IPv4 and IPv6) and port (0 for any). Raises ListenError."""
        self._sockets = bind(host, port)
        self.port = self._sockets[0].getsockname()[1]

    def unbind(self) -> None:
        """Give the address back, where the server is not to be started after all."""
        for bound in self._sockets:
            bound.close()

    async def start(self) -> None:
        """Let callers in."""
        self._acceptor.start(self._sockets)
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name=f"{self.name} deadlines")

    def change_limits(self, limits: ServerLimits) -> None:
        """Other limits from now on. Those of frames and of what one connection holds are for new connections."""
        self.limits = limits
        self.load.most = limits.max_in_flight
        self._share_turns()
        for peer in self._peers:
            peer.limit_rate()
        self._hold_no_more()

    def _share_turns(self) -> None:
        self.turns.seconds = self.limits.turn_time
        # What a connection that is cut still had to send is given back in the next turn of the event loop at best.
        self.turns.answer_bytes = self.limits.max_buffered_bytes // 4
        self.turns.renew()
        self.rounds.patience = self.limits.turn_timeout

    async def drain(self, seconds: float, farewell: float, hurry: asyncio.Event | None = None) -> None:
        """Stop listening, answer what is in flight, ask everybody to connect elsewhere, close.

        Whoever is asked to connect anew has ``farewell`` seconds to do so, in which it is still answered. All of it
        takes ``seconds`` at most, and is broken off once there is a ``hurry``.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        end = began + seconds
        await self._close_sockets()
        while self._peers and clock() < end and not (hurry and hurry.is_set()):
            for peer in list(self._peers):
                peer.leave(began, clock(), farewell)
            await self._emptied(min(_LEAVE_SECONDS, end - clock()), hurry)
        await self.stop(max(0.0, min(_FLUSH_SECONDS, end - clock())), hurry)

    async def stop(self, grace: float = 1.0, hurry: asyncio.Event | None = None) -> None:
        """Stop listening, then close every connection once what was answered is sent, at most ``grace`` seconds."""
        await self._close_sockets()
        for peer in list(self._peers):
            peer.close()
        await self._emptied(grace, hurry)
        for peer in list(self._peers):
            peer.abort()
        # The sweep goes on until here: a peer that never reads is cut in a drain as well.
        if self._sweeper:
            self._sweeper.cancel()
        if self._peers:
            self._empty.clear()
            await self._empty.wait()

    async def _close_sockets(self) -> None:
        await self._acceptor.stop()
        self.unbind()

    async def _emptied(self, seconds: float, hurry: asyncio.Event | None) -> None:
        """Wait until no connection is left, at most so long, and not in a hurry."""
        if not self._peers or (hurry and hurry.is_set()):
            return
        self._empty.clear()
        events = [self._empty, *([hurry] if hurry else [])]
        waiting = [asyncio.ensure_future(event.wait()) for event in events]
        await asyncio.wait(waiting, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    async def _sweep(self) -> None:
        while True:
            peers = list(self._peers)
            # Thousands at a stretch would hold up whoever asks meanwhile.
            slices = [peers[start : start + _SLICE] for start in range(0, len(peers), _SLICE)] or [[]]
            for some in slices:
                await asyncio.sleep(_SWEEP_SECONDS / len(slices))
                self.check_peers(_SWEEP_SECONDS, some)
            self._addresses.forget(self.limits, asyncio.get_running_loop().time())
            # A set stays as large as it ever was, until it is made anew.
            self._peers, self._holders = set(self._peers), set(self._holders)

    def check_peers(self, passed: float, peers: Iterable[Peer] | None = None) -> None:
        """Cut what is too slow, or holds too much, of these (by default all); ``passed`` seconds have gone by since the
        last look.

        Time is what was slept, never the time of day: that may be set, and then every deadline would be over at once.
        """
        for peer in list(self._peers) if peers is None else peers:
            try:
                if peer in self._peers:
                    peer.check_deadlines(passed)
            except Exception:
                # Deadlines must go on being looked at.
                log.exception("%s: cutting %s after a bug", self.name, peer.connection.caller)
                peer.cut("bug")

    def _hold_no_more(self) -> None:
        """Cut connections where more is held for all of them than may be."""
        if self._held <= self.limits.max_buffered_bytes:
            return
        # Some more than is needed: else with thousands at the limit every few bytes would have them all sorted again.
        enough = self.limits.max_buffered_bytes - self.limits.max_buffered_bytes // 8
        for peer in sorted(self._holders, key=lambda peer: peer.holds, reverse=True):
            if self._held <= enough:
                return
            peer.cut("buffers_full")

    def _accepted(self, accepted: socket.socket, address: tuple[str, int]) -> Peer | None:
        """A connection came in; None where there is no place for it."""
        self.stats.accepted += 1
        name = plain_address(address[0])
        if self._taken >= self.limits.max_connections:
            self._turn_away("too_many_connections", name, "max_connections", self.limits.max_connections)
            return None
        known = self._addresses.enter(name, self.limits, asyncio.get_running_loop().time())
        if known is None:
            most = self.limits.max_connections_per_peer
            self._turn_away("too_many_connections_of_peer", name, "max_connections_per_peer", most)
            return None
        try:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.limits.send_buffer_bytes // 2)
            local = accepted.getsockname()
            caller = Caller(name, address[1], plain_address(local[0]), local[1])
            peer = Peer(self, self._connect(caller), known)
        except Exception:
            self._addresses.leave(known, self.limits)
            raise
        self._taken += 1
        return peer

    def _turn_away(self, reason: str, name: str, setting: str, most: int) -> None:
        self.stats.refused[reason] += 1
        log.warning(
            "%s: closed a connection of %s at once: there are %d (%s)",
            self.name,
            name,
            most,
            setting,
            extra={"limit_key": name},
        )

    # What peers call:

    def holds_changed(self, peer: Peer, by: int) -> None:
        """So many bytes more than before are held for a connection."""
        self._held += by
        if peer.holds:
            self._holders.add(peer)
        else:
            self._holders.discard(peer)
        if by > 0:
            self._hold_no_more()

    def opened(self, peer: Peer) -> None:
        """A connection that was accepted can be used."""
        self._peers.add(peer)

    def closed(self, peer: Peer) -> None:
        """A connection is gone, one that never could be used as well."""
        self._peers.discard(peer)
        self._taken -= 1
        self._addresses.leave(peer.address, self.limits)
        if not self._peers:
            self._empty.set()


def plain_address(text: str) -> str:
    """An IP address without scope, an IPv4 one that came in through IPv6 as IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    return str(getattr(address, "ipv4_mapped", None) or address)
