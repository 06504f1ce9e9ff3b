"""Observes what hooks use beside their tree and environment (``--observe``).

Python tells of it in two ways: by audit events (PEP 578), and by `os.environ`, whose functions that
encode and decode names are replaced. All else of that object stays as it is.

Templates and workers start to observe; hook processes inherit that, with what was seen so far,
since modules may look at the system when they are imported. Only what runs between `resume` and
`pause` counts. Python reports neither that somebody asked for the state of a file, nor what code in
C does by itself.
"""

from __future__ import annotations

import os
import sys

# Taken before a hook can replace them.
from os import fsdecode, fspath, getcwd, lstat, readlink
from posixpath import join, normpath, realpath
from stat import S_ISDIR, S_ISLNK
from sys import _getframe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

    from hookd.protocol.requests import Request

    Handler = Callable[[Tuple[Any, ...]], None]

MOST_LISTED = 20
MOST_WRITTEN = 10_000
# Beyond this, nobody knows which files were read.
MOST_READ = 100_000
LONGEST_ENTRY = 1000
MOST_VARIABLES = 100

A_PROCESS = "a process"

# Files whose content is no input. `/proc/self` is the hook process itself.
HARMLESS = ("/dev/null", "/dev/random", "/dev/urandom")
HARMLESS_FOLDERS = ("/proc/self/",)

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# Where git looks for a repository, or for parts of it.
REPOSITORY_VARIABLES = ("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")

WITH_SOCKETS = ("connect", "bind", "sendto", "sendmsg")
NETWORK = (
    *WITH_SOCKETS,
    *("getaddrinfo", "gethostbyname", "gethostbyaddr", "gethostname"),
    *("getnameinfo", "getservbyname", "getservbyport"),
)

_handlers: Dict[str, Handler] = {}
"""By audit event; empty while nothing counts. The audit hook cannot be removed."""
_observer: Optional[Observer] = None


def start(patterns: List[str]) -> None:
    """Observe from now on in this process and in those that it forks. Does nothing where Python
    has no audit events, which came with 3.8.
    """
    global _observer  # noqa: PLW0603
    add_audit_hook = getattr(sys, "addaudithook", None)
    # PyPy has few of the events.
    if add_audit_hook is not None and sys.implementation.name == "cpython":
        starting = Observer(patterns)
        try:
            starting.watch_variables()
        except AttributeError:
            # A sitecustomize has put something else in the place of os.environ.
            return
        add_audit_hook(starting.audit_hook())
        _observer = starting


def observer() -> Optional[Observer]:
    """Return what observes this process, if anything does."""
    return _observer


class Observer:
    """Records what is used. It never raises: where it fails, `report` gives nothing."""

    def __init__(self, patterns: List[str]) -> None:
        self._is_counted = _matcher(patterns)
        self._names: Set[bytes] = set()
        """Names of variables that need not be looked at again."""
        self._variables: Set[str] = set()
        self._takes_environment = False
        self._programs: Set[str] = set()
        self._network: Set[str] = set()
        self._outside: Set[str] = set()
        """With a slash at its end: a folder that was listed."""
        self._in_tree: Set[str] = set()
        """Files of the tree that were opened, which may be links that lead out of it."""
        self._written: Optional[Set[str]] = set()
        """With a slash at its end: a folder with all that is in it."""
        self._made: Set[str] = set()
        """What did not exist before. If it is a folder, all that is in it is the hook's."""
        self._is_truncated = False
        self._has_failed = False
        self._is_active = False
        self._tree_folders: Tuple[str, ...] = ("\0",)
        """The tree by the name of the request, and by the one without links."""
        self._known = Known()
        self._far_folders = self._known.folders
        """Known folders without the tree in them."""
        self._all_handlers = self._make_handlers()

    # Control.

    def resume(self) -> None:
        """Count what is done from now on."""
        self._is_active = True
        _handlers.update(self._all_handlers)

    def pause(self) -> None:
        """Do not count what hookd does from now on."""
        _handlers.clear()
        self._is_active = False

    def enter(self, request: Request) -> None:
        """A hook process runs this request. It is in the tree."""
        # The folder that the process is in has a name without links.
        self._tree_folders = tuple({_slashed(request.tree), _slashed(getcwd())})
        self._known.add(argument for argument in request.arguments if isinstance(argument, str))
        self._known.add_packages(
            entry
            for entry in sys.path
            if type(entry) is str and not _slashed(entry).startswith(self._tree_folders)
        )
        self._far_folders = tuple(
            folder
            for folder in self._known.folders
            if not any(tree.startswith(folder) for tree in self._tree_folders)
        )

    # What Python tells.

    def audit_hook(self) -> Callable[[str, Tuple[Any, ...]], None]:
        """Make the function that gets all audit events. Most of them are of no interest."""
        find_handler = _handlers.get

        def on_event(event: str, arguments: Tuple[Any, ...]) -> None:
            handle = find_handler(event)
            if handle is not None:
                try:
                    handle(arguments)
                except Exception:
                    self._has_failed = True

        return on_event

    def watch_variables(self) -> None:
        """Learn of variables that are read from `os.environ` and `os.environb`."""
        for environ in (os.environ, os.environb):
            # Functions and not methods: copy.deepcopy() copies what a method is bound to.
            for name, watched in (("encodekey", self._use), ("decodekey", self._take)):
                original = getattr(environ, name)
                setattr(environ, name, _alike(original, watched(original)))

    def _use(self, encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        def encodekey(value: Any) -> bytes:
            encoded = encode(value)
            if self._is_active and encoded not in self._names:
                if not self._is_counted(encoded):
                    self._names.add(encoded)
                elif not _is_harmless_reader():
                    self._names.add(encoded)
                    self._variables.add(fsdecode(encoded))
            return encoded

        return encodekey

    def _take(self, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        # Called for each variable when all are looked through, and at no other time.
        def decodekey(value: bytes) -> Any:
            if self._is_active and not self._takes_environment and not _is_harmless_reader():
                self._takes_environment = True
            return decode(value)

        return decodekey

    def _make_handlers(self) -> Dict[str, Handler]:
        handlers: Dict[str, Handler] = {
            "open": self._on_open,
            "import": self._on_import,
            "os.listdir": self._on_listing,
            "os.scandir": self._on_listing,
            "os.getxattr": lambda arguments: self._read(arguments[0]),
            "os.listxattr": lambda arguments: self._read(arguments[0]),
            "ctypes.dlopen": self._on_dlopen,
            "sqlite3.connect": self._on_database,
            "os.mkdir": self._on_mkdir,
            "os.remove": lambda arguments: self._change(*arguments),
            "os.rmdir": lambda arguments: self._change(*arguments),
            "os.rename": self._on_rename,
            "os.link": self._on_link,
            "os.symlink": self._on_symlink,
            "os.truncate": lambda arguments: self._change(arguments[0]),
            "os.chmod": lambda arguments: self._change(arguments[0], arguments[2]),
            "os.chown": lambda arguments: self._change(arguments[0], arguments[3]),
            "os.utime": lambda arguments: self._change(arguments[0], arguments[3]),
            "os.setxattr": lambda arguments: self._change(arguments[0]),
            "os.removexattr": lambda arguments: self._change(arguments[0]),
            "subprocess.Popen": lambda arguments: self._run(*arguments),
            "os.exec": lambda arguments: self._run(arguments[0], arguments[1], None, arguments[2]),
            "os.posix_spawn": lambda arguments: self._run(
                arguments[0], arguments[1], None, arguments[2]
            ),
            "os.spawn": lambda arguments: self._run(arguments[1], arguments[2], None, arguments[3]),
            "os.system": lambda arguments: self._start("sh"),
            "pty.spawn": lambda arguments: self._start(arguments[0][0]),
            "os.fork": lambda arguments: self._start(A_PROCESS),
            "os.forkpty": lambda arguments: self._start(A_PROCESS),
            # Other interpreters have audit hooks of their own.
            "cpython.PyInterpreterState_New": lambda arguments: self._start("an interpreter"),
        }
        for name in NETWORK:
            handlers["socket." + name] = self._on_network(name)
        return handlers

    # Files.

    def _on_open(self, arguments: Tuple[Any, ...]) -> None:
        path, _, flags = arguments
        # Most files are modules.
        if type(path) is str and path.startswith(self._far_folders) and "/.." not in path:
            return
        if not flags & WRITES:
            self._read(path)
        elif _is_folder(self._path(path)):
            # The file in it has no name, or another event.
            return
        elif flags & os.O_CREAT:
            self._make(path)
        else:
            self._change(path)

    def _on_import(self, arguments: Tuple[Any, ...]) -> None:
        # Other modules are opened as files.
        extension = arguments[1]
        if extension is not None:
            self._read(extension)

    def _on_listing(self, arguments: Tuple[Any, ...]) -> None:
        path = arguments[0]
        self._read("." if path is None else path, is_listed=True)

    def _on_dlopen(self, arguments: Tuple[Any, ...]) -> None:
        name = arguments[0]
        if name is not None and "/" in fsdecode(name):
            self._read(name)
        elif name:
            # Searched for by the system.
            self._note_outside(fsdecode(name))

    def _on_database(self, arguments: Tuple[Any, ...]) -> None:
        if fsdecode(arguments[0]) not in ("", ":memory:"):
            # It is read and written by C code, with files beside it.
            self._written = None
            self._read(arguments[0])

    def _on_mkdir(self, arguments: Tuple[Any, ...]) -> None:
        path, _, folder = arguments
        # It fails for one that exists.
        if not _exists(self._path(path, folder)):
            self._make(path, folder, is_folder=True)

    def _on_rename(self, arguments: Tuple[Any, ...]) -> None:
        source, target = arguments[:2]
        source_folder, target_folder = _folders(arguments[2:])
        is_folder = _is_folder(self._path(source, source_folder))
        self._change(source, source_folder, is_folder)
        self._make(target, target_folder, is_folder)

    def _on_link(self, arguments: Tuple[Any, ...]) -> None:
        source, target = arguments[:2]
        source_folder, target_folder = _folders(arguments[2:])
        self._read(source, source_folder)
        self._make(target, target_folder)

    def _on_symlink(self, arguments: Tuple[Any, ...]) -> None:
        source, target = map(fsdecode, arguments[:2])
        (folder,) = _folders(arguments[2:], 1)
        # Read by its target.
        self._read(join(os.path.dirname(target), source), folder)
        self._make(target, folder)

    def _path(self, path: Any, folder: int = -1) -> Optional[str]:
        """The absolute path. None if it is a descriptor, whose opening was told."""
        if type(path) is not str:
            if path is None or isinstance(path, int):
                return None
            path = fsdecode(fspath(path))
        if path[:1] != "/":
            base = _descriptor_path(folder) if folder >= 0 else getcwd()
            path = base + "/" + path
        if "/.." in path:
            # Not by the text alone: a folder before it may be a link.
            path = realpath(path)
        elif "/." in path or "//" in path:
            path = normpath(path)
        return str.__str__(path)

    def _read(self, path: Any, folder: int = -1, is_listed: bool = False) -> None:
        path = self._path(path, folder)
        if path is None:
            return
        if is_listed:
            path = _slashed(path)
        if self._is_in_tree(path):
            if len(self._in_tree) < MOST_READ:
                self._in_tree.add(path)
            else:
                self._is_truncated = True
        elif not self._known.has(path) and not self._is_made(path):
            self._note_outside(path)

    def _make(self, path: Any, folder: int = -1, is_folder: bool = False) -> None:
        """A file or folder is made, or replaced."""
        path = self._path(path, folder)
        if path is None or self._is_made(path):
            return
        in_tree = self._is_in_tree(path)
        if not in_tree and self._known.has(path):
            return
        is_new = not _exists(path)
        if is_new:
            self._made.add(path)
        if in_tree:
            self._note_written(path + "/" if is_folder else path)
        elif not is_new:
            self._note_outside(path)

    def _change(self, path: Any, folder: int = -1, is_folder: bool = False) -> None:
        """Something that exists is changed, removed or renamed."""
        path = self._path(path, folder)
        if path is None or self._is_made(path):
            return
        if self._is_in_tree(path):
            self._note_written(path + "/" if is_folder else path)
        elif not self._known.has(path):
            self._note_outside(path)

    def _is_in_tree(self, path: str) -> bool:
        return path.startswith(self._tree_folders) or path + "/" in self._tree_folders

    def _is_made(self, path: str) -> bool:
        made = self._made
        if not made:
            return False
        while path:
            if path in made:
                return True
            path = path.rpartition("/")[0]
        return False

    def _note_written(self, path: str) -> None:
        if self._written is not None:
            self._written.add(path)
            if len(self._written) > MOST_WRITTEN:
                self._written = None

    def _note_outside(self, path: str) -> None:
        if len(self._outside) < MOST_READ:
            self._outside.add(path)
        else:
            self._is_truncated = True

    # Programs and the network.

    def _start(self, program: Any) -> None:
        if len(self._programs) < MOST_READ:
            self._programs.add(fsdecode(fspath(program)))
        else:
            self._is_truncated = True

    def _run(self, program: Any, words: Any, folder: Any, variables: Any) -> None:
        """Note where git and hg look, too: they tell of the repository there."""
        words = [words] if isinstance(words, (str, bytes)) else list(words)
        program = fsdecode(fspath(program or words[0]))
        self._start(program)
        if os.path.basename(program) not in ("git", "hg"):
            return
        base = getcwd() if folder is None else join(getcwd(), fsdecode(fspath(folder)))
        set_to = (os.environ if variables is None else variables).get
        named = [value for value in map(set_to, REPOSITORY_VARIABLES) if value]
        places = [fsdecode(fspath(word)).rpartition("=")[2] for word in [*words[1:], *named]]
        for place in ["", *places]:
            if place[:1] in ("", "/") or ".." in place.split("/"):
                self._read(join(base, place, ".git"))

    def _on_network(self, name: str) -> Handler:
        def handle(arguments: Tuple[Any, ...]) -> None:
            # What is done with a socket has that first. None: it is connected.
            address = arguments[1] if name in WITH_SOCKETS else ""
            if isinstance(address, (str, bytes)) and address[:1] not in ("", b"", "\0", b"\0"):
                # A Unix socket, which is a file.
                use = self._make if name == "bind" else self._read
                use(address)
            elif address is not None:
                self._network.add(name)

        return handle

    # The report.

    def report(self) -> Optional[Dict[str, Any]]:
        """What was observed, as `OBSERVED` has it. None if that is not known."""
        self.pause()
        try:
            return self._report()
        except Exception:
            return None

    def _report(self) -> Optional[Dict[str, Any]]:
        if not self._programs and _had_children():
            # Code in C, or multiprocessing, which starts processes by functions without events.
            self._programs.add(A_PROCESS)
        outside = self._outside_for_certain()
        written = self._written_in_tree()
        variables = sorted(self._variables)
        if len(variables) > MOST_VARIABLES or not all(map(_is_plain, variables)):
            self._takes_environment, variables = True, []
        lists = [sorted(found) for found in (self._programs, self._network, outside)]
        if any(len(found) > MOST_LISTED for found in lists):
            self._is_truncated = True
        programs, network, listed = (
            [entry[:LONGEST_ENTRY] for entry in found[:MOST_LISTED]] for found in lists
        )
        if self._has_failed:
            return None
        return {
            "variables": variables,
            "environment_taken": self._takes_environment,
            "programs": programs,
            "network": network,
            "outside": listed,
            "written": written,
            "truncated": self._is_truncated,
        }

    def _outside_for_certain(self) -> Set[str]:
        """The paths that are outside when links are followed."""
        links = _Links(self._tree_folders)
        candidates = self._outside.union(map(links.follow, self._in_tree))
        candidates = {path for path in candidates if not self._is_inside(path)}
        if candidates:
            # Only now, as it takes time and is hardly ever needed.
            self._known.follow_links()
        return {
            path
            for path in candidates
            # A library that the system searches for has no path.
            if path[:1] != "/" or not self._is_inside(realpath(path))
        }

    def _is_inside(self, path: str) -> bool:
        return self._is_in_tree(path) or self._known.has(path)

    def _written_in_tree(self) -> Optional[List[str]]:
        if self._written is None:
            return None
        written = set()
        for path in self._written:
            folder = next((each for each in self._tree_folders if path.startswith(each)), None)
            if folder is None or not _is_plain(path):
                # The tree itself, or a name that JSON cannot carry.
                return None
            written.add(path[len(folder) :])
        listed: List[str] = []
        for path in sorted(written):
            if not (listed and listed[-1].endswith("/") and path.startswith(listed[-1])):
                listed.append(path)
        return listed


class Known:
    """Folders and files whose state is known without observing them."""

    def __init__(self) -> None:
        self._exact: Set[str] = set(HARMLESS)
        self.folders: Tuple[str, ...] = HARMLESS_FOLDERS
        """Each with a slash at its end."""
        self._packages: List[str] = []
        self._base = tuple({_slashed(sys.base_prefix), _slashed(sys.base_exec_prefix)})
        self._version = "/python{}.{}".format(*sys.version_info[:2])
        self.add([os.path.dirname(os.path.dirname(os.path.abspath(__file__)))])
        self.add([os.path.dirname(os.__file__)])
        self.add([sys.executable, getattr(sys, "_base_executable", "")])
        # A virtual environment is the interpreter's own. The base installation may share its folder
        # with all other programs (/usr).
        if sys.prefix != sys.base_prefix:
            self.add([sys.prefix, sys.exec_prefix])
        self.add_packages(sys.path)

    def add(self, paths: Iterable[str]) -> None:
        """Add folders with all that is in them, and files."""
        added = set(paths) - self._exact - {"", "/"}
        self._exact |= added
        self.folders += tuple(map(_slashed, added))

    def add_packages(self, entries: Iterable[str]) -> None:
        """Add entries of `sys.path`."""
        added = [entry for entry in entries if type(entry) is str and entry not in self._exact]
        self._packages += added
        self.add(added)

    def has(self, path: str) -> bool:
        """Whether this absolute path is known."""
        return path.startswith(self.folders) or path in self._exact or self._is_of_base(path)

    def _is_of_base(self, path: str) -> bool:
        """Whether it is a part of the base installation: its version is in the path."""
        return path.startswith(self._base) and self._version in path

    def follow_links(self) -> None:
        """Add what links to known paths lead to, and links in folders of packages. Behind a link
        to the metadata of a distribution lies all of it.
        """
        self.add([realpath(path) for path in self._exact])
        for entry in self._packages:
            try:
                with os.scandir(entry) as found:
                    links = [each.path for each in found if each.is_symlink()]
            except (OSError, ValueError):
                # There is none, or it is an archive.
                continue
            targets = [realpath(link) for link in links]
            self.add(targets)
            self.add(os.path.dirname(each) for each in targets if each.endswith(".dist-info"))


class _Links:
    """Follows links, of a folder once for all that is in it."""

    def __init__(self, real: Iterable[str]) -> None:
        self._folders = {folder.rstrip("/"): folder.rstrip("/") for folder in ("", *real)}

    def follow(self, path: str) -> str:
        """Where this path leads."""
        if S_ISLNK(_mode(path)):
            return realpath(path)
        folder, _, name = path.rpartition("/")
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = self.follow(folder)
        return real + "/" + name


def _matcher(patterns: List[str]) -> Callable[[bytes], bool]:
    """A function that tells whether a name matches one of the patterns."""
    names: Set[bytes] = set()
    starts: List[bytes] = []
    ends: List[bytes] = []
    parts: List[bytes] = []
    for pattern in map(os.fsencode, patterns):
        text = pattern.strip(b"*")
        if pattern.startswith(b"*") and pattern.endswith(b"*"):
            parts.append(text)
        elif pattern.endswith(b"*"):
            starts.append(text)
        elif pattern.startswith(b"*"):
            ends.append(text)
        else:
            names.add(pattern)
    prefixes, suffixes = tuple(starts), tuple(ends)

    def matches(name: bytes) -> bool:
        return (
            name in names
            or name.startswith(prefixes)
            or name.endswith(suffixes)
            or any(part in name for part in parts)
        )

    return matches


def _is_harmless_reader() -> bool:
    """Whether the variables are copied by setuptools, as it does for each wheel that it builds.

    Its function needs those that the paths of an installation scheme name, and the schemes of
    wheels name none.
    """
    frame = _getframe(1).f_back
    # Between it and us are methods of os.environ, and of the view of its keys.
    for _ in range(3):
        if frame is None:
            return False
        code = frame.f_code
        if code.co_name == "subst_vars":
            return code.co_filename.endswith("distutils/util.py")
        frame = frame.f_back
    return False


def _alike(original: Any, function: Any) -> Any:
    """Make a function look like the one that it replaces, in error messages of pickle, say."""
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(function, name, getattr(original, name))
    return function


def _slashed(folder: str) -> str:
    return folder.rstrip("/") + "/"


def _folders(descriptors: Tuple[Any, ...], count: int = 2) -> List[int]:
    """The dir_fd arguments of an event, as far as it has them."""
    return [int(each) for each in (*descriptors, *[-1] * count)[:count]]


def _descriptor_path(descriptor: int) -> str:
    return readlink("/proc/self/fd/{}".format(descriptor))


def _exists(path: Optional[str]) -> bool:
    return _mode(path) != 0


def _is_folder(path: Optional[str]) -> bool:
    return S_ISDIR(_mode(path))


def _mode(path: Optional[str]) -> int:
    """The kind and permissions of a file, or of a link itself. Zero if there is none."""
    try:
        return 0 if path is None else lstat(path).st_mode
    except (OSError, ValueError):
        return 0


def _is_plain(text: str) -> bool:
    """Whether JSON can carry it: a name that is not UTF-8 has lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeError:
        return False
    return len(text) <= 4 * LONGEST_ENTRY


def _had_children() -> bool:
    """Whether this process has or had children, by the page faults of those that it has reaped."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    except AttributeError:
        # macOS before Python 3.13.
        pass
    except ChildProcessError:
        pass
    try:
        with open("/proc/self/stat", "rb", buffering=0) as file:
            # See proc(5): cminflt. The second field, a name, may have blanks.
            return int(file.read(4096).rpartition(b") ")[2].split()[8]) > 0
    except OSError:
        return False
