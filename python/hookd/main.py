"""From the command line to a serving worker."""

from __future__ import annotations

import os
import sys

from hookd.arguments import UsageError, parse
from hookd.hook import observer
from hookd.process.descriptors import take_over_standard_descriptors
from hookd.protocol.channel import Channel
from hookd.retained import EagerImports
from hookd.worker.base import Worker, serve
from hookd.worker.forking import ForkingWorker
from hookd.worker.in_process import InProcessWorker
from hookd.worker.tree import ServedTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, NoReturn

    from hookd.arguments import Options

EXIT_USAGE = 2


def main(arguments: List[str]) -> NoReturn:
    """Run as a worker or a template, as the command line says."""
    try:
        options = parse(arguments)
    except UsageError as error:
        _leave_with_usage_error(str(error))
    if options.text:
        sys.stdout.write(options.text)
        sys.exit(0)
    _make_path_absolute()
    if options.observe is not None:
        observer.start(options.observe)
    if options.template is not None:
        _be_template(options.template)
    work(options, is_watched=False)


def _be_template(descriptor: int) -> NoReturn:
    # Imported late: a worker that is not forked from a template needs none of it.
    with EagerImports():
        from hookd.template.server import open_channel, serve_template

    try:
        channel = open_channel(descriptor)
    except (OSError, OverflowError, ImportError) as error:
        _leave_with_usage_error("--template: expected a Unix socket: {}".format(error))
    serve_template(channel, work)


def work(options: Options, is_watched: bool) -> NoReturn:
    """Run as a worker. It `is_watched` if a template ends it when its input hangs up."""
    try:
        options.resolve_folders()
    except UsageError as error:
        _leave_with_usage_error(str(error))
    tree = ServedTree(options.tree, hand_down=options.control)
    try:
        tree.enter()
    except OSError as error:
        _leave_with_usage_error("TREE: cannot be entered: {}".format(error))
    descriptors = take_over_standard_descriptors()
    channel = Channel(descriptors.input, descriptors.output)
    worker: Worker
    if options.isolation == "hook":
        worker = ForkingWorker(options, tree, channel, descriptors)
    else:
        worker = InProcessWorker(options, tree, channel, descriptors, is_watched)
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
