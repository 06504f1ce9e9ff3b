"""A worker that misbehaves as told.

Runs the file `script.py` of its tree, in which the functions below are
defined, and `start`: the number of this worker among those of its tree, from 1.
"""

import json
import os
import signal
import sys

tree = sys.argv[-1]
capture_folder = sys.argv[sys.argv.index("--capture-dir") + 1]

ARGUMENTS = {
    "build_wheel": 3,
    "get_requires_for_build_wheel": 1,
}


def count_start():
    """Number this start; starts of one tree never overlap."""
    path = os.path.join(tree, "starts")
    with open(path, "a") as file:
        file.write("x")
    return os.path.getsize(path)


def write(text):
    """Write exactly this."""
    sys.stdout.write(text)
    sys.stdout.flush()


def ready():
    write("READY\nEXPECT action\n")


def read_line():
    """One line of input; at its end a worker exits."""
    line = sys.stdin.readline()
    if not line:
        os._exit(0)
    return line.rstrip("\n")


def read_request():
    """Read a whole request; shut down where that is asked for."""
    while True:
        action = read_line()
        if action == "shutdown":
            write("SHUTDOWN\n")
            os._exit(0)
        if action.startswith("ping "):
            write("PONG {}\n".format(action[5:]))
        if action == "run":
            break
    read_line()
    while read_line():
        pass
    hook = read_line()
    return [read_line() for _ in range(ARGUMENTS[hook])]


def accept():
    """Accept the request that was read."""
    for kind in ("STDOUT", "STDERR"):
        path = os.path.join(capture_folder, "{}-{}-{}".format(os.getpid(), start, kind))
        with open(path, "w") as file:
            file.write(kind)
        write("{} {}\n".format(kind, path))


def ok(value):
    write("OK {}\n".format(json.dumps(value)))


def serve(value):
    """Behave: answer every request with this."""
    ready()
    while True:
        read_request()
        accept()
        ok(value)
        ready()


def die(name):
    """Die of this signal."""
    os.kill(os.getpid(), getattr(signal, name))


def wait_for_end():
    """Read and heed nothing until the end of input, then exit."""
    while sys.stdin.readline():
        pass
    os._exit(0)


def be_deaf():
    """Do not even notice the end of input."""
    while True:
        signal.pause()


start = count_start()
with open(os.path.join(tree, "script.py")) as script:
    exec(compile(script.read(), script.name, "exec"))
