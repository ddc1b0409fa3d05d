"""Is what was assigned still ours? Pure: `now` is a parameter.

The coordinator of a group gives the partitions of a member away when it has heard no heartbeat for the
session timeout. It counts from the moment a heartbeat reached it, which is after the moment we sent it: so
what we hold is ours until one session timeout after the *sending* of the last heartbeat that was answered.
The clock must count suspended time too, or a virtual machine that was suspended for an hour would take itself
for the owner.
"""

from dataclasses import dataclass
from typing import Final

_NEVER: Final = float("-inf")


@dataclass(slots=True)
class Confirmation:
    """What the coordinator has said. All instants are of one boot clock.

    Session 15 s, heartbeats sent at 100 and 101, the first answered: ours until 115, if polled by then.
    """

    session_s: float
    _asked_at: float = _NEVER
    _granted_at: float = _NEVER
    _polled_at: float = _NEVER

    def asked(self, now: float) -> None:
        """A heartbeat is being sent."""
        self._asked_at = now

    def answered(self) -> None:
        """The heartbeat that was sent last was answered."""
        self._granted_at = max(self._granted_at, self._asked_at)

    def polled(self, began_at: float, now: float, *, joining: bool) -> None:
        """A poll has returned. joining: during it the coordinator held, or answered, our request to join,
        which stands for a heartbeat.

        Not so if this process stood still since the last poll: the answer may have waited just as long.
        """
        last = self._polled_at if self._polled_at != _NEVER else began_at
        if joining and now - last <= self.session_s:
            self._granted_at = max(self._granted_at, began_at)
        self._polled_at = now

    def lost(self) -> None:
        """The coordinator does not count us as a member any more."""
        self._granted_at = _NEVER

    def holds(self, now: float) -> bool:
        """Whether nobody else can have been given what is ours."""
        return now - self._granted_at <= self.session_s and now - self._polled_at <= self.session_s
