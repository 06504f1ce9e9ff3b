"""Faults of the pool."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable

import family
from account import Account
from client import Client
from clients import Clients
from disk import SmallDisk
from family import Family
from world import Backend, Library, Requirement, Versioned, World

DEADLY = (signal.SIGKILL, signal.SIGKILL, signal.SIGABRT)


class Faults:
    """Injects faults at random."""

    def __init__(
        self,
        random_: random.Random,
        client: Client | Clients,
        world: World,
        account: Account,
        disk: SmallDisk | None,
    ) -> None:
        self._random = random_
        self._client = client
        self._world = world
        self._account = account
        self._disk = disk
        self.counts: Counter[str] = Counter()
        self._kinds: list[tuple[str, int, Callable[[], bool]]] = [
            ("worker killed", 20, self._kill_worker),
            ("hook killed", 20, self._kill_hook),
            ("template killed", 3, self._kill_template),
            ("installer killed", 3, self._kill_installer),
            ("SIGHUP", 5, self._hang_up),
            ("stopped and continued", 2, self._stop_and_continue),
            ("backend edited", 30, lambda: self._renew(Backend)),
            ("requirement edited", 8, lambda: self._renew(Requirement)),
            ("environment touched", 5, lambda: self._renew(Library)),
        ]
        if isinstance(client, Clients):
            self._kinds += [
                ("client killed", 10, client.kill_one),
                ("client left", 10, client.leave_one),
                ("resized", 8, lambda: self._resize(client)),
                ("tree restarted", 8, lambda: self._restart(client)),
                ("drained and resumed", 3, lambda: self._drain(client)),
                ("status asked", 10, lambda: self._look(client)),
            ]
        if disk is not None:
            self._kinds.append(("disk full", 3, self._fill_disk))

    def inject(self) -> None:
        """Inject a fault, if there is anything that it can affect."""
        weights = [weight for _, weight, _ in self._kinds]
        ((name, _, act),) = self._random.choices(self._kinds, weights)
        self.counts[name] += act()

    def pass_by(self) -> None:
        """End the faults that last."""
        if self._disk is not None and self._disk.is_full:
            self._disk.clear()
            self._account.ends("disk")

    def _family(self) -> Family:
        return Family(self._client.process.pid)

    def _kill_worker(self) -> bool:
        there = self._family()
        if not there.workers:
            return False
        pid = self._random.choice(there.workers)
        self._account.worker_killed(pid)
        return there.signal(pid, signal.SIGKILL)

    def _kill_hook(self) -> bool:
        there = self._family()
        if not there.hooks:
            return False
        pid = self._random.choice(list(there.hooks))
        self._account.hook_killed(there.hooks[pid])
        return there.signal(pid, self._random.choice(DEADLY))

    def _kill_template(self) -> bool:
        there = self._family()
        if not there.templates:
            return False
        pid = self._random.choice(there.templates)
        self._account.template_killed(pid)
        return there.signal(pid, signal.SIGKILL)

    def _kill_installer(self) -> bool:
        there = self._family()
        everyone = [*there.guards, *there.installers]
        if not everyone:
            return False
        self._account.installer_killed()
        return there.signal(self._random.choice(everyone), signal.SIGKILL)

    def _hang_up(self) -> bool:
        self._client.signal(signal.SIGHUP)
        return True

    def _stop_and_continue(self) -> bool:
        self._client.signal(signal.SIGTSTP)
        family.wait_state(self._client.process.pid, "T")
        self._client.signal(signal.SIGCONT)
        return True

    def _renew(self, kind: type[Versioned]) -> bool:
        sources = self._world.sources(kind)
        if not sources:
            return False
        self._random.choice(sources).renew()
        return True

    def _resize(self, clients: Clients) -> bool:
        limits = {"jobs": self._random.randint(1, 6), "max_workers": self._random.randint(6, 12)}
        self._expect_success(clients.operate("PATCH", "/v1/limits", limits))
        return True

    def _restart(self, clients: Clients) -> bool:
        tree = str(self._random.choice(self._world.trees).path)
        self._expect_success(clients.operate("POST", "/v1/restart", {"tree": tree}))
        return True

    def _drain(self, clients: Clients) -> bool:
        self._expect_success(clients.operate("POST", "/v1/drain"))
        status, text = clients.operate("POST", "/v1/hooks", {"id": 0, "tree": "/", "hook": "x"})
        if status != 503:
            self._account.wrong.append(f"draining, a client got {status}: {text}")
        self._expect_success(clients.operate("POST", "/v1/resume"))
        return True

    def _look(self, clients: Clients) -> bool:
        for path in ("/v1/status", "/v1/requests", "/v1/limits", "/metrics", "/healthz"):
            self._expect_success(clients.operate("GET", path))
        return True

    def _expect_success(self, answer: tuple[int, str]) -> None:
        if answer[0] != 200:
            self._account.wrong.append(f"an operator got {answer[0]}: {answer[1]}")

    def _fill_disk(self) -> bool:
        assert self._disk is not None
        if self._disk.is_full:
            return False
        self._account.begins("disk")
        self._disk.fill()
        return True
