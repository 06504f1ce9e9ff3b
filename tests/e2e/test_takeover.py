"""A new service takes the place of an old one while clients send hooks all the time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import processes
from conftest import Setting
from service import TIMEOUT, Service
from trees import call, make_tree

CLIENTS = 6
TAKEOVERS = 3
# Between two takeovers.
HOOKS = 40


class Client(threading.Thread):
    """Sends one hook after the other; each writes its number down."""

    def __init__(self, number: int, service: Service, tree: Path, ran: Path) -> None:
        super().__init__()
        self.number = number
        self.answered: list[str] = []
        self.again = 0
        self.failure: object = None
        self.stop = threading.Event()
        self._service = service
        self._tree = tree
        self._ran = ran

    def run(self) -> None:
        """Send until it is told to stop; only what cannot have run is sent again."""
        while not self.stop.is_set() and self.failure is None:
            name = f"{self.number}.{len(self.answered)}"
            code = f"with open({str(self._ran)!r}, 'a') as ran: ran.write('{name}\\n')\n"
            try:
                answer = self._service.ask(
                    "POST", "/v1/hooks", call(self._tree, code + f"result = ['{name}']")
                )
            except Exception as error:
                self.failure = error
                return
            if answer.status == 503:
                self.again += 1
                # Far less than Retry-After, so that many meet the moment.
                time.sleep(processes.TICK)
            elif answer.status == 200 and answer.json["result"] == [name]:
                self.answered.append(name)
            else:
                self.failure = answer.body


def test_no_hook_is_lost_or_run_twice(setting: Setting, tmp_path: Path) -> None:
    service = setting.serve()
    ran = tmp_path / "ran"
    trees = [make_tree(tmp_path / name) for name in ("one", "two", "three")]
    clients = [
        Client(number, service, trees[number % len(trees)], ran) for number in range(CLIENTS)
    ]

    def answered() -> int:
        failures = [client.failure for client in clients if client.failure is not None]
        assert not failures, failures
        return sum(len(client.answered) for client in clients)

    def wait_for_hooks() -> None:
        enough = answered() + HOOKS
        processes.wait_until(lambda: answered() >= enough, TIMEOUT)

    for client in clients:
        client.start()
    try:
        for _ in range(TAKEOVERS):
            wait_for_hooks()
            new = setting.serve("--take-over", socket=service.socket)
            assert service.process.wait(TIMEOUT) == 0, service.stderr
            service = new
        wait_for_hooks()
    finally:
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(TIMEOUT)
    answered()
    names = [name for client in clients for name in client.answered]
    assert sorted(ran.read_text().split()) == sorted(names)
    assert service.end() == 0
