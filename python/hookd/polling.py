"""Waiting for descriptors, without importing `selectors`."""

from __future__ import annotations

import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence, Set

# poll() on macOS does not work on terminals, where a bare hookd may be tried out. Elsewhere
# select() would fail on descriptors above 1023, which a careless caller's leaks can lead to.
HAS_POLL = hasattr(select, "poll") and sys.platform != "darwin"


def wait_readable(readable: Sequence[int], hung_up: Sequence[int] = ()) -> Set[int]:
    """Block until one of `readable` can be read or has ended, or one of `hung_up` has no writer
    left, even if what was written is still unread. Which ones, is returned.

    Without poll() the latter cannot be told, and is not waited for.
    """
    if not HAS_POLL:
        return set(select.select(list(readable), (), ())[0])
    poll = select.poll()
    for descriptor in hung_up:
        poll.register(descriptor, 0)
    for descriptor in readable:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll()}
