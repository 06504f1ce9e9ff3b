"""What a process gets from its caller: environment variables, umask, resource limits."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    Variables = Dict[bytes, bytes]
    Limit = Tuple[str, Optional[int], Optional[int]]


def parse_variables(block: bytes) -> Variables:
    """Split what environ(7) describes: entries `NAME=VALUE`, each with a NUL at its end."""
    variables: Variables = {}
    for entry in block.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if name and equals:
            variables[name] = value
    return variables


def variables_at_start() -> Variables:
    """The variables that this process was started with, before the interpreter has set its own."""
    try:
        with open("/proc/self/environ", "rb") as file:
            return parse_variables(file.read())
    except OSError:
        # Not on Linux.
        return {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}


class Surroundings:
    """What is set in a process before it becomes a worker."""

    __slots__ = ("limits", "umask")

    def __init__(self, umask: Optional[int], limits: List[Limit]) -> None:
        self.umask = umask
        self.limits = limits
        """Each with its name in getrlimit(2), and the soft and the hard limit. None: no limit."""

    @classmethod
    def read(cls, umask: Any, limits: Any) -> Surroundings:
        """Take them from a message. Raises `ValueError`, which says what is wrong."""
        if umask is not None and (type(umask) is not int or not 0 <= umask <= 0o777):
            raise ValueError("umask: expected a number up to 511, got {!r}".format(umask))
        if limits is None:
            limits = []
        if type(limits) is not list or not all(map(_is_limit, limits)):
            raise ValueError("limits: expected [NAME, SOFT, HARD] each, got {!r}".format(limits))
        return cls(umask, [(name, soft, hard) for name, soft, hard in limits])

    def enter(self) -> None:
        """Set them in this process. A system call that fails raises `OSError` or `ValueError`."""
        if self.umask is not None:
            os.umask(self.umask)
        if self.limits:
            import resource

            for name, soft, hard in self.limits:
                number = getattr(resource, name, None)
                if number is not None:
                    _set_limit(resource, number, soft, hard)


def _is_limit(limit: Any) -> bool:
    return (
        type(limit) is list
        and len(limit) == 3
        and type(limit[0]) is str
        and limit[0].startswith("RLIMIT_")
        and all(bound is None or (type(bound) is int and bound >= 0) for bound in limit[1:])
    )


def _set_limit(resource: Any, number: int, soft: Optional[int], hard: Optional[int]) -> None:
    # Only a privileged process may raise a hard limit: the lower one stays.
    own = resource.getrlimit(number)[1]
    highest = None if own == resource.RLIM_INFINITY else own
    bounds = [_lowest(bound, highest) for bound in (soft, hard)]
    none = resource.RLIM_INFINITY
    resource.setrlimit(number, tuple(none if bound is None else bound for bound in bounds))


def _lowest(one: Optional[int], other: Optional[int]) -> Optional[int]:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
