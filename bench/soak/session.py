"""Sends random requests, injects faults, and keeps an account of both."""

from __future__ import annotations

import queue
import random
import signal
from collections import deque
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

import family
from account import Account, Asked
from backend import Act
from client import Client
from clients import Clients
from disk import SmallDisk
from family import Usage
from faults import Faults
from world import World

HOOK = "get_requires_for_build_wheel"
# The most open requests.
WINDOW = 64
# No response for this long: hooks that hang block the pool, or the disk is full.
STALL = 0.2
# No response for this long: there will be none.
GIVE_UP = 90.0
# The average number of requests between faults, and while the disk is full.
BETWEEN_FAULTS = 20
# After which parts of the run the resources of the supervisor are measured, besides its end.
MOMENTS = (0.1, 0.25, 0.5, 0.75)
DEADLINE = "150ms"
# How long the idle supervisor is watched, in seconds.
IDLE = 3.0

ACTS = {
    Act.ANSWER: 780,
    Act.NAP: 60,
    Act.PRINT: 60,
    Act.FLOOD: 4,
    Act.RAISE: 40,
    Act.EXIT: 10,
    Act.SEGFAULT: 10,
    Act.HANG: 12,
    Act.IGNORE: 3,
    Act.CHILD: 15,
    Act.DAEMON: 2,
}
MALFORMED = ['{"id": 1, "tree":', "[]", '{"id": 1}', "\0", '{"cancel": 1, "id": 2}', "{" * 300]


class Stuck(Exception):
    """There is no response."""


@dataclass
class Soak:
    """A run of the soak."""

    random: random.Random
    client: Client | Clients
    world: World
    account: Account
    disk: SmallDisk | None
    # How long to wait for the end of idle threads before resources are measured, in seconds.
    rest: float
    faults: Faults = field(init=False)
    # The resources of the supervisor at the moments, and at the end.
    usages: list[Usage] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = (self.random, self.client, self.world, self.account, self.disk)
        self.faults = Faults(*parts)
        # Each with the number of the request that it is sent before.
        self._cancellations: deque[tuple[int, int]] = deque()

    def run(self, requests: int, seconds: float | None) -> None:
        """Send requests and receive responses."""
        began = monotonic()
        for number in range(requests):
            progress = number / requests
            if seconds is not None:
                progress = max(progress, (monotonic() - began) / seconds)
            if progress > 1:
                break
            if len(self.usages) < len(MOMENTS) and progress >= MOMENTS[len(self.usages)]:
                self._measure()
            self._request(number)
            if self.random.randrange(BETWEEN_FAULTS) == 0:
                self.faults.inject()
            if self.random.randrange(BETWEEN_FAULTS) == 0:
                self.faults.pass_by()
            if self.random.randrange(300) == 0:
                self.client.send_text(self.random.choice(MALFORMED))
                self.account.malformed.add(self.client.lines)
            self._cancel_before(number)
            while len(self.account.open) >= WINDOW:
                self._take()
        self._measure()

    def _measure(self) -> None:
        """Measure the supervisor when all requests are answered and its workers have ended."""
        self._cancel_before(None)
        self.faults.pass_by()
        while self.account.open or self.account.malformed:
            self._take()
        supervisor = self.client.process.pid
        if self.rest:
            self.client.signal(signal.SIGHUP)
            family.wait_childless(supervisor)
            self.client.rest()
            sleep(self.rest)
            before = family.processor_time(supervisor)
            sleep(IDLE)
            if used := family.processor_time(supervisor) - before:
                self.account.wrong.append(f"idle for {IDLE} s, it used {used:.2f} s of a processor")
        self.usages.append(Usage.of(supervisor))

    def _request(self, number: int) -> None:
        tree = self.random.choice(self.world.trees)
        (act,) = self.random.choices(list(ACTS), list(ACTS.values()))
        hangs = act in (Act.HANG, Act.IGNORE)
        by_timeout = hangs and self.random.random() < 0.5
        asked = Asked(number, tree, act, tree.source.version, by_timeout)
        settings = {"act": act.value, "token": asked.token, "counts": str(tree.counts)}
        line: dict[str, Any] = {
            "id": number,
            "tree": str(tree.path),
            "hook": HOOK,
            "config_settings": settings,
            "priority": self.random.choice([0, 0, 0, 1, -1]),
        }
        if by_timeout:
            line["timeout"] = DEADLINE
        if self.random.randrange(50) == 0:
            line["env"] = {"SOAK": self.random.choice("ab")}
        self.account.asked(asked)
        self.client.send(line)
        if (hangs and not by_timeout) or self.random.randrange(100) == 0:
            self._cancellations.append((number + self.random.randrange(30), number))

    def _cancel_before(self, number: int | None) -> None:
        """Send the cancellations that are due; without a number, all."""
        later: deque[tuple[int, int]] = deque()
        for when, cancelled in self._cancellations:
            if number is not None and when > number:
                later.append((when, cancelled))
                continue
            if (asked := self.account.open.get(cancelled)) is not None:
                asked.cancelled = True
            self.client.send({"cancel": cancelled})
        self._cancellations = later

    def _take(self) -> None:
        """Wait for a response, and unblock the pool if none can come."""
        waited = 0.0
        while waited < GIVE_UP:
            try:
                response = self.client.response(STALL)
            except queue.Empty:
                waited += STALL
                self._cancel_before(None)
                self.faults.pass_by()
                continue
            if response is None:
                raise Stuck(f"the program has ended with {self.client.process.wait()}")
            self.account.answered(response)
            return
        raise Stuck(f"no answer in {GIVE_UP:.0f} s")
