"""For hooks of tests: ways to leave processes behind.

All of them hold the lifeline open, a named pipe, and have written a byte to it when they are
returned from: what starts nobody knows of could not be waited for.
"""

import os
import signal

lifeline = -1


def open_lifeline(path):
    global lifeline
    lifeline = os.open(path, os.O_WRONLY)


def started():
    os.write(lifeline, b"+")


def hang():
    started()
    signal.pause()


def child(prepare=lambda: None):
    """Leave a child behind, that is prepared by a function of its own."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        prepare()
        started()
        os.write(write_end, b"+")
        signal.pause()
    os.read(read_end, 1)


def child_in_other_group():
    child(lambda: os.setpgid(0, 0))


def daemon():
    """Leave a process behind as daemons are made: two forks, and a new session between them."""

    def detach():
        os.setsid()
        if os.fork() != 0:
            os._exit(0)

    child(detach)
    os.wait()
