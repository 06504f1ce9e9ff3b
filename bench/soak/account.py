"""The account of requests, of their possible outcomes, and of the responses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from backend import FLOOD_BYTES, Act
from client import Response
from world import Tree

TAIL = 64 << 10
# How long the pool may take to notice the end of a process, in seconds.
NOTICED = 2.0
FULL = ("No space left", "os error 28", "Errno 28")


@dataclass
class Asked:
    """An open request."""

    number: int
    tree: Tree
    act: Act
    version: int
    timeout: bool
    # Whether it was cancelled.
    cancelled: bool = False
    at: float = field(default_factory=monotonic)
    # Faults that happened while it was open.
    met: set[str] = field(default_factory=set)

    @property
    def token(self) -> str:
        return f"token-{self.number}"


class Account:
    """Checks that each request gets exactly one response, which must fit."""

    def __init__(self, isolation: str) -> None:
        self._isolation = isolation
        self.open: dict[int, Asked] = {}
        # Lines that are not requests.
        self.malformed: set[int | str] = set()
        self.wrong: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.methods: Counter[str] = Counter()
        self._killed_workers: set[int] = set()
        # Workers whose hooks were killed.
        self._bereaved_workers: set[int] = set()
        # The time of the last kill of a process that an environment may have needed.
        self._starter_killed_at = float("-inf")
        self._succeeded: set[str] = set()
        self._answered: dict[str, str] = {}
        self._present: set[str] = set()

    # Actions.

    def asked(self, asked: Asked) -> None:
        """Note a request that will be sent."""
        asked.met |= self._present
        self.open[asked.number] = asked

    def fault(self, name: str) -> None:
        """Note a fault that affects all open requests."""
        for asked in self.open.values():
            asked.met.add(name)

    def begins(self, name: str) -> None:
        """Note a fault that affects the open requests and later ones."""
        self._present.add(name)
        self.fault(name)

    def ends(self, name: str) -> None:
        """Note the end of such a fault."""
        self._present.discard(name)

    def worker_killed(self, pid: int) -> None:
        """Note a worker that will be killed."""
        self._killed_workers.add(pid)
        # It may be an interpreter that was asked for its version.
        self._starter_killed_at = monotonic()
        self.fault("worker")

    def template_killed(self, pid: int) -> None:
        """Note a process that will be killed: a template, or a worker whose template has ended and
        that looks like one, since it is not yet in its tree.
        """
        self._killed_workers.add(pid)

    def hook_killed(self, worker: int) -> None:
        """Note a worker whose hook will be killed."""
        self._bereaved_workers.add(worker)

    def installer_killed(self) -> None:
        """Note an installer or its guard that will be killed."""
        self._starter_killed_at = monotonic()
        self.fault("installer")

    # Responses.

    def answered(self, response: Response) -> None:
        """Note and check a response."""
        if response["id"] is None:
            self._answered_malformed(response)
            return
        asked = self.open.pop(response["id"], None)
        if asked is None:
            self.wrong.append(f"not asked, or answered twice: {response}")
            return
        if "abandoned" in response:
            # Its client has hung up. The hook may have run.
            self.outcomes["abandoned"] += 1
            self._answered[asked.token] = "abandoned"
            return
        worker = response["worker"]
        if worker is not None:
            self.methods[worker["start_method"]] += 1
        kind = "ok" if response["ok"] else response["error"]["kind"]
        self.outcomes[kind] += 1
        self._answered[asked.token] = kind
        fits = self._fits_result(asked, response) if response["ok"] else None
        if not response["ok"]:
            pid = None if worker is None else worker["pid"]
            fits = self._fits_error(asked, kind, pid, response)
        if not fits:
            self.wrong.append(f"{asked} was answered by {_short(response)}")

    def _answered_malformed(self, response: Response) -> None:
        if "refused" in response:
            # The service was drained, and has not read it.
            self.malformed.discard(response["line"])
            return
        line, kind = response["line"], response["error"]["kind"]
        self.outcomes[kind] += 1
        if line not in self.malformed or kind != "InvalidRequest":
            self.wrong.append(f"for no malformed line: {response}")
        self.malformed.discard(line)

    def _fits_result(self, asked: Asked, response: Response) -> bool:
        self._succeeded.add(asked.token)
        token, version = response["result"]
        if token != asked.token or not asked.version <= int(version) <= asked.tree.source.version:
            return False
        if asked.act in (Act.RAISE, Act.EXIT, Act.SEGFAULT, Act.HANG, Act.IGNORE):
            return False
        return "disk" in asked.met or self._fits_output(asked, response)

    def _fits_output(self, asked: Asked, response: Response) -> bool:
        expected = ("", "")
        if asked.act is Act.PRINT:
            expected = (f"printed by {asked.token}\n", f"complained by {asked.token}\n")
        elif asked.act is Act.FLOOD:
            whole = "x" * FLOOD_BYTES + asked.token
            if not response["stdout_truncated"]:
                return False
            expected = (whole[-TAIL:], "")
        return (response["stdout"], response["stderr"]) == expected

    def _fits_error(self, asked: Asked, kind: str, pid: int | None, response: Response) -> bool:
        crash = "HookCrashed" if self._isolation == "hook" else "WorkerCrashed"
        match kind:
            case "HookRuntimeError" if asked.act is Act.RAISE:
                return f"raised by {asked.token}" in response["error"]["message"]
            case "HookTimeout":
                return asked.timeout
            case "Cancelled":
                return asked.cancelled
            case "HookCrashed" | "WorkerCrashed" if asked.act in (Act.EXIT, Act.SEGFAULT):
                return kind == crash or "worker" in asked.met
            case "HookCrashed" if pid in self._bereaved_workers:
                return True
            case "EnvironmentFailed" if "died of SIGKILL" in response["error"]["message"]:
                # Until the pool notices the end, all requests get this error.
                known = self._starter_killed_at + NOTICED
                return bool(asked.met & {"installer", "worker"}) or asked.at < known
            case "WorkerCrashed":
                return pid in self._killed_workers or (pid is None and "worker" in asked.met)
        # The disk is full for the output of hooks and for the files of the pool.
        text = str(response["error"]) + response["stderr"]
        return "disk" in asked.met and any(words in text for words in FULL)

    # Totals.

    def close(self, trees: list[Tree]) -> None:
        """Compare with the starts that the hooks have recorded."""
        self.wrong += [f"never answered: {asked}" for asked in self.open.values()]
        self.wrong += [f"line {line} was never answered" for line in self.malformed]
        runs = Counter(token for tree in trees for token in tree.runs())
        for token, count in runs.items():
            if count > 1:
                self.wrong.append(f"{token} was run {count} times")
            if token not in self._answered:
                self.wrong.append(f"{token} was run and not answered")
        for token in self._succeeded - set(runs):
            self.wrong.append(f"{token} has a result and was never run")

    @property
    def answers(self) -> int:
        """The number of answered requests."""
        return len(self._answered)


def _short(response: Response) -> dict[str, Any]:
    return {
        name: value[-300:] if isinstance(value, str) else value for name, value in response.items()
    }
