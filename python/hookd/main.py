"""From the command line to a serving worker."""

from __future__ import annotations

import os
import sys

from hookd.arguments import UsageError, parse
from hookd.channel import Channel
from hookd.descriptors import take_over_standard_descriptors
from hookd.isolation_hook import ForkingWorker
from hookd.isolation_none import InProcessWorker
from hookd.worker import Worker, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, NoReturn

    from hookd.arguments import Options
    from hookd.descriptors import Descriptors

EXIT_USAGE = 2


def main(arguments: List[str]) -> NoReturn:
    """Be a worker on the standard descriptors, as the command line asks."""
    try:
        options = parse(arguments)
        _make_path_absolute()
        os.chdir(options.tree)
    except UsageError as error:
        _leave_with_usage_error(str(error))
    except OSError as error:
        _leave_with_usage_error("TREE: cannot be entered: {}".format(error))
    work(options, take_over_standard_descriptors())


def work(options: Options, descriptors: Descriptors) -> NoReturn:
    """Be a worker on the given descriptors, in a process that is ready for it.

    A worker that is forked from a template starts here.
    """
    channel = Channel(descriptors.input, descriptors.output)
    kind = ForkingWorker if options.isolation == "hook" else InProcessWorker
    worker: Worker = kind(options, channel, descriptors)
    serve(worker)


def _make_path_absolute() -> None:
    # A relative entry means a folder relative to where we were started, not to the tree. What does
    # not exist is left as it is: it may be no path, but a name for a path hook.
    sys.path[:] = [
        os.path.abspath(entry) if os.path.exists(entry or os.curdir) else entry
        for entry in sys.path
    ]


def _leave_with_usage_error(message: str) -> NoReturn:
    sys.stderr.write("hookd: {}\n".format(message))
    sys.exit(EXIT_USAGE)
