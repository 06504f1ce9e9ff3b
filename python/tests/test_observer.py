"""`--observe`: what hooks use beside their tree and environment. Hooks see no difference."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from client import Reply
from conftest import Start
from template_client import StartTemplate

pytest_plugins = ["template_fixture"]

PATTERNS = "TERM,SSH_*,*_RUN_ID,*SECRET*"

NOTHING: dict[str, Any] = {
    "variables": [],
    "environment_taken": False,
    "programs": [],
    "network": [],
    "outside": [],
    "written": [],
    "truncated": False,
}


@pytest.fixture
def interpreter(interpreter: str, request: pytest.FixtureRequest) -> str:
    """Every interpreter with audit events."""
    if request.node.callspec.params["interpreter"] == "3.7":
        pytest.skip("Python 3.7 has no audit events")
    return interpreter


def observed(reply: Reply) -> dict[str, Any]:
    """What is not as it is for a hook that does nothing."""
    value = json.loads(reply.value("OBSERVED"))
    assert set(value) == set(NOTHING)
    return {name: found for name, found in value.items() if found != NOTHING[name]}


# By what the hook does. The folder `outside` has the file `file` and the folder `folder`. The tree
# has the file `inside`, the folder `package` with the file `module`, and two links: `link` to
# `outside`, `to_file` to the file in it.
TABLE: dict[str, dict[str, Any]] = {
    "": {},
    "raise ValueError": {},
    "import no_such_module": {},
    # Variables.
    "os.environ['TERM']": {"variables": ["TERM"]},
    "os.environ.get('SSH_AUTH_SOCK')": {"variables": ["SSH_AUTH_SOCK"]},
    "os.getenv('GITHUB_RUN_ID')": {"variables": ["GITHUB_RUN_ID"]},
    "'A_SECRET_' in os.environ": {"variables": ["A_SECRET_"]},
    "os.environ.pop('TERM', None)": {"variables": ["TERM"]},
    "os.environb.get(b'SSH_')": {"variables": ["SSH_"]},
    "os.getenvb(b'TERM')": {"variables": ["TERM"]},
    "os.getenv('HOME'), os.getenv('TERMS'), os.getenv('A_SSH_B')": {},
    "for way in (dict, list, repr, sorted): way(os.environ)": {
        "variables": ["TERM"],
        "environment_taken": True,
    },
    "os.environ.copy()": {"variables": ["TERM"], "environment_taken": True},
    "next(iter(os.environb))": {"environment_taken": True},
    "copy.copy(os.environ).get('TERM')": {"variables": ["TERM"]},
    "copy.deepcopy(os.environ).get('TERM')": {"variables": ["TERM"]},
    # As setuptools builds a wheel.
    "code = 'import os\\ndef subst_vars(): dict(os.environ)'\n"
    "exec(compile(code, '/setuptools/_distutils/util.py', 'exec'), globals()); subst_vars()": {},
    "code = 'import os\\ndef subst_vars(): dict(os.environ)'\n"
    "exec(compile(code, '/setuptools/util.py', 'exec'), globals()); subst_vars()": {
        "variables": ["TERM"],
        "environment_taken": True,
    },
    # Repositories: where git looks for one.
    "git('git', 'log', '--format=%H', 'v1..v2', cwd='package')": {"programs": ["git"]},
    "git('/no/git', '--git-dir', os.path.abspath('.git'))": {"programs": ["/no/git"]},
    "git('git', 'log', cwd=outside)": {"programs": ["git"], "outside": ["{outside}/.git"]},
    "git('hg', '-R', outside)": {"programs": ["hg"], "outside": ["{outside}/.git"]},
    "git('git', '-C', '../outside')": {"programs": ["git"], "outside": ["{outside}/.git"]},
    "git('git', '--git-dir=' + outside)": {"programs": ["git"], "outside": ["{outside}/.git"]},
    "git('git', env={'GIT_DIR': outside})": {"programs": ["git"], "outside": ["{outside}/.git"]},
    "git('cat', outside)": {"programs": ["cat"]},
    # Files outside.
    "open(outside + '/file').read()": {"outside": ["{outside}/file"]},
    "open(os.fsencode(outside + '/file'))": {"outside": ["{outside}/file"]},
    "pathlib.Path(outside, 'file').read_text()": {"outside": ["{outside}/file"]},
    "os.close(os.open(outside + '/file', os.O_RDONLY))": {"outside": ["{outside}/file"]},
    "ignore(lambda: open(outside + '/none'))": {"outside": ["{outside}/none"]},
    "open('../outside/file')": {"outside": ["{outside}/file"]},
    "open('package/../../outside/file')": {"outside": ["{outside}/file"]},
    "open(tree + '/../outside//./file')": {"outside": ["{outside}/file"]},
    "os.chdir(outside); open('file')": {"outside": ["{outside}/file"]},
    "os.listdir(outside)": {"outside": ["{outside}/"]},
    "list(os.scandir('..'))": {"outside": ["{parent}/"]},
    "os.chdir('..'); os.listdir()": {"outside": ["{parent}/"]},
    "os.listdir('/'), os.listdir(tree + '/')": {"outside": ["/"]},
    "open('to_file')": {"outside": ["{outside}/file"]},
    "open('link/file')": {"outside": ["{outside}/file"]},
    "os.listdir('link')": {"outside": ["{outside}/"]},
    "open('link/../inside')": {"outside": ["{parent}/inside"]},
    "ctypes.CDLL(outside + '/file')": {"outside": ["{outside}/file"]},
    "ctypes.CDLL('libnone.so')": {"outside": ["libnone.so"]},
    "os.stat(outside), os.path.exists('/none'), os.readlink('link')": {},
    # Files that are known.
    "open('inside'), open(tree + '/inside'), os.listdir(), list(os.walk('package'))": {},
    "ignore(lambda: open('none'))": {},
    "open(json.__file__), os.listdir(os.path.dirname(json.__file__)), open(sys.executable)": {},
    "open('/dev/null', 'w'), open('/dev/urandom', 'rb', 0).read(1), open('/proc/self/stat')": {},
    "import sample_module, decimal; open(sample_module.__file__)": {},
    "descriptor = os.open('inside', 0); open(descriptor)": {},
    # What the hook has made.
    "name = tempfile.mkdtemp(); open(name + '/a', 'w'); open(name + '/a'); shutil.rmtree(name)": {},
    "tempfile.TemporaryFile(), tempfile.NamedTemporaryFile('w+').write('a')": {},
    "open(outside + '/new', 'x'); open(outside + '/new'); os.remove(outside + '/new')": {},
    "os.makedirs(outside + '/a/b'); os.listdir(outside + '/a/b')": {},
    "os.makedirs(outside + '/folder', exist_ok=True); os.listdir(outside + '/folder')": {
        "outside": ["{outside}/folder/"]
    },
    "ignore(lambda: os.mkdir(outside + '/folder')); os.listdir(outside + '/folder')": {
        "outside": ["{outside}/folder/"]
    },
    "open(outside + '/file', 'w')": {"outside": ["{outside}/file"]},
    "os.remove(outside + '/file')": {"outside": ["{outside}/file"]},
    "os.rename(outside + '/file', outside + '/new')": {"outside": ["{outside}/file"]},
    "shutil.copy(outside + '/file', outside + '/new')": {"outside": ["{outside}/file"]},
    "os.symlink(outside, 'new')": {"outside": ["{outside}"], "written": ["new"]},
    "os.symlink('inside', 'new'); open('new')": {"written": ["new"]},
    "os.link(outside + '/file', 'new')": {"outside": ["{outside}/file"], "written": ["new"]},
    # What is written in the tree.
    "open('inside', 'a'), open(tree + '/new', 'w'), open('package/new', 'x')": {
        "written": ["inside", "new", "package/new"]
    },
    "os.makedirs('a/b'); open('a/b/c', 'w'); os.rename('a/b/c', 'a/c')": {"written": ["a/"]},
    "pathlib.Path('a/b').mkdir(parents=True); open('a-b', 'w'); open('a.b', 'w')": {
        "written": ["a-b", "a.b", "a/"]
    },
    "ignore(lambda: os.mkdir('package'))": {},
    "os.replace('inside', 'new')": {"written": ["inside", "new"]},
    "os.rename('package', 'new')": {"written": ["new/", "package/"]},
    "shutil.rmtree('package')": {"written": ["package", "package/module"]},
    "os.chmod('inside', 0o600), os.utime('package'), os.truncate('package/module', 1)": {
        "written": ["inside", "package", "package/module"]
    },
    "folder = os.open('package', 0); os.remove('module', dir_fd=folder)": {
        "written": ["package/module"]
    },
    "os.utime(tree)": {"written": None},
    r"open(b'\xff', 'w')": {"written": None},
    "for number in range(10_001): os.close(os.open(str(number), os.O_CREAT | os.O_RDWR))": {
        "written": None
    },
    "sqlite3.connect('new')": {"written": None},
    "sqlite3.connect(':memory:')": {},
    # Programs and the network.
    "subprocess.run(['true'])": {"programs": ["true"]},
    "subprocess.run('true', shell=True)": {"programs": ["/bin/sh"]},
    "subprocess.run([os.fsencode(shutil.which('true'))])": {"programs": [shutil.which("true")]},
    "ignore(lambda: subprocess.run(['no-such-program']))": {"programs": ["no-such-program"]},
    "os.system('true')": {"programs": ["sh"]},
    "os.spawnvp(os.P_WAIT, 'true', ['true'])": {"programs": ["a process"]},
    "os.waitpid(os.fork() or os._exit(0), 0)": {"programs": ["a process"]},
    "run = multiprocessing.get_context('spawn').Process(); run.start(); run.join()": {
        "programs": ["a process"]
    },
    "ignore(lambda: socket.socket().connect(('127.0.0.1', 1)))": {"network": ["connect"]},
    "socket.socket().bind(('127.0.0.1', 0))": {"network": ["bind"]},
    "socket.getaddrinfo('127.0.0.1', 1); socket.gethostname()": {
        "network": ["getaddrinfo", "gethostname"]
    },
    "socket.socketpair()[0].sendmsg([b'a'])": {},
    "ignore(lambda: socket.socket(socket.AF_UNIX).connect(outside + '/file'))": {
        "outside": ["{outside}/file"]
    },
    "socket.socket(socket.AF_UNIX).bind('new')": {"written": ["new"]},
    # In other threads, and at the end.
    "thread = threading.Thread(target=os.listdir, args=(outside,)); thread.start()": {
        "outside": ["{outside}/"]
    },
    "atexit.register(os.listdir, outside)": {"outside": ["{outside}/"]},
    # Hooks that change what is observed with.
    "os.environ = {}; os.environ.get('TERM')": {},
    "os.chdir(tempfile.mkdtemp()); os.rmdir(os.getcwd()); os.listdir(outside)": {
        "outside": ["{outside}/"]
    },
    "sys.path.insert(0, outside); ignore(lambda: __import__('file'))": {"outside": ["{outside}/"]},
    # There are bounds.
    "for n in range(30): ignore(lambda: open('/none/{:02}'.format(n)))": {
        "outside": ["/none/{:02}".format(number) for number in range(20)],
        "truncated": True,
    },
}

IMPORTS = (
    "import atexit, copy, ctypes, json, multiprocessing, os, pathlib, shutil, socket, sqlite3\n"
    "import subprocess, sys, tempfile, threading\n"
    "def ignore(function):\n try: function()\n except (Exception, OSError): pass\n"
    "tree, outside = settings['tree'], settings['outside']\n"
    "def git(*words, **options):\n"
    " ignore(lambda: subprocess.check_output(words, stderr=subprocess.DEVNULL, **options))\n"
)


def test_table(start: Start, tree: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    environment["TERM"] = "dumb"
    environment.pop("SSH_AUTH_SOCK", None)
    hookd = start("--observe", PATTERNS)
    wrong = {}
    for number, (code, expected) in enumerate(TABLE.items()):
        # A folder of its own for each.
        parent = tmp_path / str(number)
        own, outside = parent / "tree", parent / "outside"
        (own / "package").mkdir(parents=True)
        (outside / "folder").mkdir(parents=True)
        for file in (own / "inside", own / "package" / "module", outside / "file"):
            file.write_text("content")
        (own / "link").symlink_to(outside)
        (own / "to_file").symlink_to(outside / "file")
        hookd.write("tree " + str(own))
        reply = hookd.run_code(IMPORTS + code, tree=str(own), outside=str(outside))
        text = json.dumps(expected).replace("{outside}", str(outside))
        if "OBSERVED" not in reply.kinds:
            wrong[code] = reply.messages
        elif observed(reply) != json.loads(text.replace("{parent}", str(parent))):
            wrong[code] = observed(reply)
    assert not wrong, "\n".join("{}: {}".format(*item) for item in wrong.items())


# What hooks see of `os.environ` and of processes: the same with and without.
SEEN = """
import copy, json, multiprocessing, os, pickle, re, subprocess, sys
def attempt(function):
    try:
        return repr(function())
    except BaseException as error:
        return re.sub(" at 0x[0-9a-f]+", "", repr(error))
def show(environ):
    return sorted((name, environ[name]) for name in environ if "HOOKD_TEST" in str(name))
program = "import os; print('HOOKD_TEST_MARKER' in os.environ)"
def run(**options):
    return subprocess.run([sys.executable, "-c", program], stdout=-1, **options).stdout
def change():
    os.environ["HOOKD_TEST_A"] = "a"
    os.putenv("HOOKD_TEST_B", "b")
    seen = os.popen("echo $HOOKD_TEST_A $HOOKD_TEST_B").read(), os.environb[b"HOOKD_TEST_A"]
    del os.environ["HOOKD_TEST_A"]
    os.unsetenv("HOOKD_TEST_B")
    return seen, os.popen("echo $HOOKD_TEST_A $HOOKD_TEST_B").read(), os.getenv("HOOKD_TEST_A")
result = [attempt(function) for function in (
    lambda: type(os.environ), lambda: type(os.environb),
    lambda: sorted(vars(os.environ)), lambda: sorted(vars(os.environb)),
    lambda: repr(os.environ), lambda: len(os.environ), lambda: os.environ == os.environ.copy(),
    lambda: isinstance(os.environ, dict), lambda: type(os.environ.copy()),
    lambda: show(os.environ), lambda: show(os.environb), lambda: show(os.environ.copy()),
    lambda: os.environ["no such name"], lambda: os.environ[1], lambda: os.environ["a\\0"],
    lambda: os.environ.__setitem__("a", 1), lambda: os.environb["text"], lambda: os.environ[b"a"],
    lambda: os.getenv("no such name", "default"), lambda: os.getenvb(b"HOOKD_TEST_MARKER"),
    lambda: pickle.dumps(os.environ), lambda: pickle.dumps(os.environb),
    lambda: json.dumps(os.environ), lambda: show(copy.copy(os.environ)),
    lambda: type(copy.deepcopy(os.environ)), lambda: show(copy.deepcopy(os.environ)),
    lambda: (os.environ.encodekey("a"), os.environ.decodekey(b"a"), os.environ.encodekey.__name__),
    lambda: (os.environ.encodekey.__qualname__, os.environb.decodekey.__name__),
    lambda: (os.environ | {}) == os.environ.copy(), lambda: os.get_exec_path(), change,
    lambda: run(), lambda: run(env=None, close_fds=False), lambda: run(env={}),
    lambda: run(env=os.environ), lambda: run(env=dict(os.environ)),
    lambda: multiprocessing.get_context("fork").Pool(1).apply(os.getenv, ["HOOKD_TEST_MARKER"]),
    lambda: sys.flags, lambda: sys.getprofile(), lambda: sys.gettrace(), lambda: sys.argv,
    lambda: sorted(sys.modules), lambda: len(sys.meta_path), lambda: sys.path, lambda: open("none"),
    lambda: os.environ.clear(), lambda: dict(os.environ),
)]
"""


def test_a_hook_sees_no_difference(start: Start) -> None:
    plain = start().run_code(SEEN).result
    watched = start("--observe", PATTERNS).run_code(SEEN).result
    assert watched == plain
    assert len(plain) > 40


def test_nothing_is_told_when_it_is_not_known(start: Start, tree: Path) -> None:
    hookd = start("--observe", PATTERNS)
    breaks = "import os; os.symlink('b', 'a'); open('b', 'w'); open('a'); os.lstat = None"
    gone = "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); "
    assert "OBSERVED" not in hookd.run_code(gone + "os.path.exists('a') or open('a', 'w')").kinds
    assert "OBSERVED" not in hookd.run_code("import os; os._exit(0)").kinds
    assert "OBSERVED" not in hookd.run_code(breaks).kinds
    assert observed(hookd.run_code("")) == {}


def test_a_long_list_of_written_files_is_left_out(start: Start) -> None:
    hookd = start("--observe", PATTERNS)
    code = "for number in range(9000): open('{:0200}'.format(number), 'w')"
    assert observed(hookd.run_code(code)) == {"written": None}


def test_folders_of_the_arguments_are_known(start: Start, tmp_path: Path) -> None:
    hookd = start("--observe", PATTERNS)
    (tmp_path / "wheels").mkdir()
    settings = {"code": "open(directory + '/a', 'w'); result = 'a'; open(directory + '/../b', 'w')"}
    reply = hookd.run("run_code", "build_wheel", str(tmp_path / "wheels"), json.dumps(settings), "")
    assert observed(reply) == {}
    reply = hookd.run("run_code", "build_wheel", str(tmp_path / "wheels"), json.dumps(settings), "")
    # By now it is there.
    assert observed(reply) == {"outside": [str(tmp_path / "b")]}


def test_packages_behind_links_are_known(start: Start, site: Path, tmp_path: Path) -> None:
    """As in build environments, whose distributions are kept in one place for all."""
    kept, stranger = tmp_path / "kept" / "one", tmp_path / "stranger"
    for folder in (kept / "one", kept / "one-1.0.dist-info", kept / "data", stranger):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    for name in ("one", "one-1.0.dist-info"):
        (site / name).symlink_to(kept / name)
    code = (
        "import os; [open(os.path.realpath(name) + '/file') for name in settings['names'].split()]"
    )
    names = [site / "one", kept / "one", kept / "one-1.0.dist-info", kept / "data", stranger]
    reply = start("--observe", PATTERNS).run_code(code, names=" ".join(map(str, names)))
    assert observed(reply) == {"outside": [str(stranger / "file")]}


def test_python_without_audit_events(
    request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: Path
) -> None:
    import interpreters
    from client import HOOKD, Hookd

    python = interpreters.interpreters().get("3.7")
    if python is None:
        pytest.skip("Python 3.7 is not installed")
    command = [str(python), str(HOOKD), "--json", "--isolation", "hook", "--observe", "TERM"]
    environment["TMPDIR"] = str(tmp_path)
    hookd = Hookd([*command, str(tmp_path)], environment, tmp_path / "log")
    hookd.ready()
    assert hookd.run_code("").kinds == ["STDOUT", "STDERR", "OK"]
    hookd.finish()


def test_variables_that_cannot_be_observed(start: Start, site: Path) -> None:
    (site / "sitecustomize.py").write_text("import os; os.environ = dict(os.environ)")
    reply = start("--observe", PATTERNS).run_code("import os; result = [str(type(os.environ))]")
    assert reply.result == ["<class 'dict'>"]
    assert "OBSERVED" not in reply.kinds


def test_a_hook_that_clears_its_variables(start: Start, environment: dict[str, str]) -> None:
    environment["TERM"] = "dumb"
    hookd = start("--observe", PATTERNS)
    reply = hookd.run_code("import os; os.environ.clear(); result = [repr(os.environ.get('TERM'))]")
    assert reply.result == ["None"]
    assert observed(reply)["variables"] == ["TERM"]


@pytest.mark.skipif(sys.platform != "linux", reason="templates need Linux")
def test_what_a_template_imports_counts(
    start_template: StartTemplate, site: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (site / "reads.py").write_text(
        "import os\nos.getenv('TERM')\nos.path.exists({0!r}) and open({0!r}).close()\n".format(
            str(tmp_path / "file")
        )
    )
    watching, plain = start_template("--observe", PATTERNS), start_template()
    seen = {"variables": ["TERM"], "outside": [str(tmp_path / "file")]}
    assert observed(watching.fork_worker("--observe", PATTERNS).run_code("")) == {}
    for template in (watching, plain):
        assert template.import_backend("reads")["imported"] == "backend"
    worker = watching.fork_worker("--observe", PATTERNS)
    assert observed(worker.run_code("")) == seen
    assert observed(worker.run_code("open('a', 'w')")) == {**seen, "written": ["a"]}
    assert "OBSERVED" not in watching.fork_worker().run_code("").kinds
    # What its modules did when they were imported is not known.
    assert "OBSERVED" not in plain.fork_worker("--observe", PATTERNS).run_code("").kinds
