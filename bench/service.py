"""The service: metadata through `hookpool serve`, and single requests over HTTP."""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import Samples, compare, file_system, goal, machine
from programs import GET_REQUIRES, HERE, Connection, environment, make_trees, parser, service
from whole_runs import JOBS, OURS, UV, Bench, Kept

sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))
import processes

import sdists

DOWNLOADS = HERE.parent / "target" / "test-sdists"
THROUGH = "hookpool, through a service"
RUN = "hookpool run"
REQUESTS = 300
# The connections of one measurement.
AT_ONCE = 16
TICKS = os.sysconf("SC_CLK_TCK")


def used(pid: int) -> float:
    """The processor time of a process and its descendants, with those that they waited for."""
    found = [processes.stat(one) for one in [pid, *processes.descendants(pid)]]
    return sum(sum(map(int, fields[11:15])) for fields in found if fields) / TICKS


def metadata(arguments: Namespace, folder: Path) -> None:
    """The same work by uv, by `hookpool metadata`, and by a service that has done it before."""
    archives = list(sdists.fetch_archives(DOWNLOADS).values())
    bench = Bench(arguments, folder, Kept.ENVIRONMENTS)
    contestants = bench.metadata(archives, by_hooks=True)
    contestants = {name: contestants[name] for name in (UV, OURS)}
    path = folder / "socket"
    own = contestants[OURS]
    own_command = [*own.command, "--service", "never"]
    contestants[OURS] = replace(own, command=own_command)
    place = own.command.index("--jobs")
    through = [*own.command[:place], *own.command[place + 2 :], "--service", str(path)]
    contestants[THROUGH] = replace(own, command=through)
    # Made by a first run.
    contestants[OURS].run()
    serve = [str(arguments.hookpool), "serve", "--jobs", str(JOBS), "--python", arguments.python]
    serve += ["--cache-dir", own.command[own.command.index("--cache-dir") + 1]]
    wall = {name: Samples() for name in contestants}
    shares = Samples()
    with service(serve, path, own.env) as pid:
        for contestant in [*contestants.values(), *contestants.values()]:
            contestant.run()
        for number in range(arguments.rounds):
            names = list(contestants) if number % 2 == 0 else list(reversed(contestants))
            for name in names:
                before = used(pid)
                took = contestants[name].run()
                wall[name].rounds.append([took.wall])
                if name == THROUGH:
                    hooks = sum(map(hook_time, took.output.splitlines()))
                    shares.rounds.append([(used(pid) - before + took.processors) / hooks])
    print(compare(f"metadata of {len(archives)} archives: wall time", wall, UV), "\n")
    times = wall[UV].median / wall[THROUGH].median
    print(f"goal: through a service: at least 6.5 times as fast as uv: {times:.2f} times")
    print(
        "goal: processor time of client and service at most 1.15 times that of the hooks (wall):",
        end=" ",
    )
    print(f"{shares.median:.2f} times\n", flush=True)


def hook_time(line: str) -> float:
    """The time of the hooks of a result, in seconds."""
    return sum(hook["timing"]["hook_ms"] or 0 for hook in json.loads(line)["hooks"]) / 1e3


def requests(arguments: Namespace, folder: Path) -> None:
    """A hook that does nothing, on one connection."""
    (tree,) = make_trees(folder / "trees", 1)
    env = {**environment()}
    times: dict[str, Samples] = {}
    for isolation in ("none", "hook"):
        path = folder / f"socket-{isolation}"
        serve = [str(arguments.hookpool), "serve", "--no-build-isolation", "--isolation", isolation]
        serve += ["--python", arguments.python]
        # The backend is found by a variable.
        variables = list(env.items())
        request = {"id": 1, "tree": str(tree), "hook": GET_REQUIRES}
        request["caller"] = {"variables": variables, "umask": 18}
        body = json.dumps(request).encode()
        samples = times[f"isolation {isolation}"] = Samples()
        with service(serve, path, env):
            connection = Connection(path)
            for number in range(-1, arguments.rounds):
                taken = [ask(connection, body) for _ in range(REQUESTS)]
                if number >= 0:
                    samples.rounds.append(taken)
            connection.close()
    print(compare("a request over HTTP", times, "isolation none"))
    for name, at_most in [("isolation none", 0.6e-3), ("isolation hook", 3e-3)]:
        print(goal(name, times[name], at_most))


def connections(arguments: Namespace, folder: Path) -> None:
    """Hooks that do nothing in four trees: over 16 connections, and 16 at once by `run`."""
    trees = make_trees(folder / "trees", 4)
    env = {**environment()}
    flags = ["--no-build-isolation", "--isolation", "none", "--python", arguments.python]
    flags += ["--jobs", str(JOBS), "--cache-dir", str(folder / "cache")]
    caller = {"variables": list(env.items()), "umask": 18}
    path = folder / "socket"
    asked = [{"id": 1, "tree": str(trees[n % 4]), "hook": GET_REQUIRES} for n in range(AT_ONCE)]
    lines = [json.dumps(one).encode() + b"\n" for one in asked]
    bodies = [json.dumps({**one, "caller": caller}).encode() for one in asked]
    head = b"POST /v1/hooks HTTP/1.1\r\nHost: hookpool\r\nContent-Length: %d\r\n\r\n"
    # The clients are not what is measured: they do as little as they can.
    wholes = [head % len(body) + body for body in bodies]
    each = REQUESTS // 4
    times = {RUN: Samples(), THROUGH: Samples()}
    run = [str(arguments.hookpool), "run", *flags]
    with (
        service([str(arguments.hookpool), "serve", *flags], path, env),
        subprocess.Popen(run, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pool,
        selectors.DefaultSelector() as selector,
    ):
        assert pool.stdin is not None
        assert pool.stdout is not None
        clients = [socket.socket(socket.AF_UNIX) for _ in wholes]
        for client, whole in zip(clients, wholes, strict=True):
            client.connect(str(path))
            selector.register(client, selectors.EVENT_READ, (client, whole))

        def by_service() -> None:
            for client, whole in zip(clients, wholes, strict=True):
                client.sendall(whole)
            answered = 0
            while answered < each * AT_ONCE:
                for key, _ in selector.select():
                    client, whole = key.data
                    check(client.recv(1 << 16))
                    answered += 1
                    if answered <= (each - 1) * AT_ONCE:
                        client.sendall(whole)

        def by_run() -> None:
            pool.stdin.writelines(lines)
            pool.stdin.flush()
            for number in range(each * AT_ONCE):
                check(pool.stdout.readline().rstrip())
                if number < (each - 1) * AT_ONCE:
                    pool.stdin.write(lines[number % AT_ONCE])
                    pool.stdin.flush()

        ways = [(RUN, by_run), (THROUGH, by_service)]
        for number in range(-1, arguments.rounds):
            for name, way in ways if number % 2 == 0 else reversed(ways):
                start = time.perf_counter()
                way()
                if number >= 0:
                    took = time.perf_counter() - start
                    times[name].rounds.append([took / (each * AT_ONCE)])
        for client in clients:
            client.close()
        pool.stdin.close()
    print(compare(f"time of a request, {AT_ONCE} at once", times, RUN))
    share = times[RUN].median / times[THROUGH].median
    print(f"goal: throughput at least 0.9 of `hookpool run`: {share:.2f}\n")


def check(answer: bytes) -> None:
    """Check that an answer is whole, and says that the hook has not failed."""
    if not (answer.endswith(b"}") and b'"ok":true' in answer):
        raise RuntimeError(answer)


def ask(connection: Connection, body: bytes) -> float:
    """How long a request takes, in seconds."""
    start = time.perf_counter()
    connection.request("POST", "/v1/hooks", body)
    answer = json.loads(connection.getresponse().read())
    took = time.perf_counter() - start
    if not answer["ok"]:
        raise RuntimeError(answer)
    return took


def main() -> None:
    flags = parser(__doc__, rounds=5)
    flags.add_argument("--uv", default=Path(sys.executable).with_name("uv"), help="its program")
    names = ("metadata", "requests", "connections")
    flags.add_argument("--only", choices=names, help="default: each of them")
    arguments = flags.parse_args()
    print(machine(), f"; temporary files on {file_system(os.environ.get('TMPDIR', '/tmp'))}\n")
    parts = {"metadata": metadata, "requests": requests, "connections": connections}
    for part in [parts[arguments.only]] if arguments.only else parts.values():
        with TemporaryDirectory(prefix="hookpool-bench-") as made:
            part(arguments, Path(made))


if __name__ == "__main__":
    main()
