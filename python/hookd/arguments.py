"""The command line of hookd.

Parsed by hand: importing argparse would cost a tenth of the worker's start.
"""

from __future__ import annotations

import os

from hookd import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Set

ISOLATIONS = ("hook", "none")

USAGE = """\
usage: hookd [--json] [--isolation hook|none] [--control] [--report-imports]
             [--report-shadowed] [--observe PATTERNS] [--kill-detached]
             [--capture-dir DIR] [--reuse-captures] [TREE]
       hookd --template FD [--observe PATTERNS]
       hookd --guard PROGRAM [ARGUMENT...]

Runs the build hooks of the source tree TREE (the current folder if not given)
as asked for on standard input, and answers on standard output.

  --json              write results and errors as JSON
  --isolation hook    run each hook in a process of its own
  --isolation none    run hooks in this process (the default)
  --control           answer the actions `ping TOKEN` and `cancel SIGNAL`
  --report-imports    tell after each hook which modules it imported
  --report-shadowed   tell after each hook which modules of its template it would
                      have found elsewhere by its own sys.path
  --observe PATTERNS  tell after each hook what it used beside its tree and environment;
                      of the variables that it read, those with these names, with a
                      comma between two (`*` stands for any text at either end)
  --kill-detached     with a hook's end, kill what it left in sessions of its own
  --capture-dir DIR   where the files with the hooks' output are made
                      (the platform's temporary folder if not given)
  --reuse-captures    have the next hook write to files that the last one left empty
  --template FD       fork workers, as asked for on the socket that is open as FD
  --guard PROGRAM ... run that program; kill it, with all that it started, at the end
                      of standard input, and what it leaves behind at its own end
  --version           show the version
  --help              show this text
"""


TEXTS = {"-h": USAGE, "--help": USAGE, "--version": "hookd {}\n".format(__version__)}


class UsageError(Exception):
    """The command line is wrong; the message says which argument and what was expected."""


class Options:
    """What the command line asked for."""

    __slots__ = (
        "capture_folder",
        "control",
        "isolation",
        "json",
        "kill_detached",
        "observe",
        "report_imports",
        "report_shadowed",
        "reuse_captures",
        "template",
        "text",
        "tree",
    )

    def __init__(self) -> None:
        self.json = False
        self.isolation = "none"
        self.control = False
        self.report_imports = False
        self.report_shadowed = False
        self.kill_detached = False
        self.observe: Optional[List[str]] = None
        """Patterns for names of variables, if hooks are to be observed."""
        self.capture_folder: Optional[str] = None
        self.reuse_captures = False
        self.template: Optional[int] = None
        self.text = ""
        """What is to be printed, for `--help` and `--version`, in place of anything else."""
        self.tree = ""

    def resolve_folders(self) -> None:
        """Make the paths of the folders absolute. Raises `UsageError` if there are no such ones."""
        if self.capture_folder is not None:
            self.capture_folder = _folder("--capture-dir", self.capture_folder)
        # Not its real path: hooks see the tree under the name that the caller gave it.
        self.tree = _folder("TREE", self.tree)


SWITCHES: Dict[str, str] = {
    "--json": "json",
    "--control": "control",
    "--report-imports": "report_imports",
    "--report-shadowed": "report_shadowed",
    "--kill-detached": "kill_detached",
    "--reuse-captures": "reuse_captures",
}


def parse(arguments: List[str]) -> Options:
    """Read the command line, or raise `UsageError`. It looks at no file: see `resolve_folders`."""
    options = Options()
    trees: List[str] = []
    names: Set[str] = set()
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            trees += waiting
            break
        name, equals, value = argument.partition("=")
        names.add(name)
        if argument in TEXTS:
            options.text = TEXTS[argument]
            return options
        if argument in SWITCHES:
            setattr(options, SWITCHES[argument], True)
        elif name in ("--isolation", "--observe", "--capture-dir", "--template"):
            if not equals:
                value = _following_value(name, waiting)
            _set_value(options, name, value)
        elif argument.startswith("-") and argument != "-":
            raise UsageError("unknown argument {!r}: see --help".format(argument))
        else:
            trees.append(argument)
    if options.template is None:
        options.tree = _tree(trees)
        if options.observe is not None and options.isolation != "hook":
            raise UsageError("--observe: expected with --isolation hook only")
    elif trees or not names <= {"--template", "--observe"}:
        raise UsageError("--template: expected no TREE and no other option but --observe")
    return options


def _following_value(name: str, waiting: List[str]) -> str:
    if not waiting:
        raise UsageError("{} needs a value".format(name))
    return waiting.pop(0)


def _set_value(options: Options, name: str, value: str) -> None:
    if name == "--isolation":
        if value not in ISOLATIONS:
            raise UsageError(
                "--isolation: {!r} is not an isolation, expected 'hook' or 'none'".format(value)
            )
        options.isolation = value
        return
    if name == "--observe":
        options.observe = [pattern for pattern in value.split(",") if pattern]
        return
    if name == "--template":
        if not (value.isdigit() and value.isascii()):
            raise UsageError(
                "--template: expected the number of a descriptor, got {!r}".format(value)
            )
        options.template = int(value)
        return
    # The names of capture files are announced on lines of their own.
    if "\n" in value:
        raise UsageError(
            "--capture-dir: expected a folder without a newline in its name, got {!r}".format(value)
        )
    options.capture_folder = value


def _tree(trees: List[str]) -> str:
    if len(trees) > 1:
        raise UsageError("TREE: expected one source tree, got {!r}".format(trees))
    return trees[0] if trees else os.curdir


def _folder(name: str, path: str) -> str:
    if not os.path.isdir(path):
        problem = "it is none" if os.path.exists(path) else "it does not exist"
        raise UsageError("{}: expected a folder, got {!r}: {}".format(name, path, problem))
    return os.path.abspath(path)
