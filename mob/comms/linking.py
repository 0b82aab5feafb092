"""The verbs about wiring: who may send to whom from now on.

Owns: `wire`, `unwire`, `peers_of` on the handle. Must not: send anything, or decide who may send
(`mob.comms.routing` does).
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from mob.comms.announcing import Announcing
from mob.comms.records import MembersUnwired, MembersWired
from mob.comms.routing import Rule
from runtime.errors import Unusable
from stores import StoreError

Pair = tuple[str, str]


class WireVerbs(Announcing):
    """What `mob.mob.Mob` has of this module."""

    def may_send(self, sender: str, recipient: str) -> Rule:
        """Whether one member may send to the other now, and why or why not."""
        return self.wiring.may_send(sender, recipient)

    def peers_of(self, member: str) -> tuple[str, ...]:
        """To whom the member may send now, in order of joining. Raises `MemberNotFound`."""
        return self.wiring.peers_of(self._row(member).name)

    async def wire(self, a: str, b: str, *, directed: bool = False) -> bool:
        """Let `a` and `b` send to each other, or with `directed` only `a` to `b`.

        Counts over what the mob file says of them, and until one of them leaves. One commit: when
        this returns it is on disk; if it fails the wiring is as it was. False if they have such an
        edge already. Cancelling may leave it done or not, never half.

        Raises:
            MemberNotFound: one of them is no member.
            Unusable: they are the same.
            VerbRefused: the mob's state does not allow it.
        """
        pairs = self._pairs("wire", a, b, directed=directed)
        new = tuple(pair for pair in pairs if not self._has_edge(pair))
        if not new:
            return False
        record = MembersWired(new, self.realm.ports.clock.now_ns())
        await self.realm.append(record, *self._wired_notices(new, gone=False)).wait()
        return True

    async def unwire(self, a: str, b: str, *, directed: bool = False) -> bool:
        """Let `a` and `b` send to each other no more, or with `directed` `a` to `b` no more.

        From its first step on nothing new is accepted along the edge. What was accepted before is
        delivered, questions (`ask_PROFILE`) are answered, and requests along it that wait for a
        reply end with `RequestFailed`. One commit, False if neither may send as it is; raises as
        `wire`.
        """
        pairs = self._pairs("unwire", a, b, directed=directed)
        gone = tuple(pair for pair in pairs if self.wiring.may_send(*pair).allows)
        if not gone:
            await self.realm.store.barrier()  # another unwiring of them may be on its way
            return False
        record = MembersUnwired(gone, self.realm.ports.clock.now_ns())
        ticket = self.realm.append(record, *self._wired_notices(gone, gone=True))
        if not ticket.done:
            self.wiring.closing.update(gone)
        try:
            with trio.CancelScope(shield=True):
                # Nothing takes the record back, so whoever is cancelled now must still open the
                # edges again if it fails. No deadline: the store settles every ticket.
                await ticket.wait()
        except StoreError:
            self._opened(gone)
            raise
        return True

    # -- inside ----------------------------------------------------------------------------

    def _pairs(self, verb: str, a: str, b: str, *, directed: bool) -> tuple[Pair, ...]:
        self._admit(verb)
        for name in (a, b):
            self._row(name)
        if a == b:
            raise Unusable(f"{a!r} cannot be wired to itself")
        return ((a, b),) if directed else ((a, b), (b, a))

    def _has_edge(self, pair: Pair) -> bool:
        rule = self.wiring.may_send(*pair)
        return rule.allows and rule.by_name

    def _opened(self, pairs: Iterable[Pair]) -> None:
        """The unwiring of the pairs is not on its way any more."""
        self.wiring.closing.subtract(pairs)
        self.wiring.closing = +self.wiring.closing

    def _wires_changed(self, record: MembersWired | MembersUnwired) -> None:
        if isinstance(record, MembersUnwired) and self.wiring.closing:
            self._opened(record.pairs)
        self._harnesses.forget()
