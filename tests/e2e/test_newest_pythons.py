"""Changes in the newest Pythons: hooks see what they would see in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import reference
import sdists
from conftest import BOTH_START_METHODS, Setting
from packages import Environment
from pool import PROGRAM, Pool
from trees import CODE_BACKEND, call

# The backend runs the code of a hook; the process that starts it does nothing else.
FRESH = """\
import json, sys
from pathlib import Path
import reference
tree, python, code = sys.argv[1:]
hooks = reference.caller(Path(tree), python)
print(json.dumps(hooks.get_requires_for_build_wheel({"code": code})))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose backend, in the environment, runs the code in the request."""
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "code_backend"\n'
    )
    return folder


@pytest.fixture
def packages(newest: str, tmp_path: Path) -> Path:
    """The package folder of a new environment with that backend."""
    venv = tmp_path / "venv"
    subprocess.run([newest, "-m", "venv", "--without-pip", venv], check=True)
    (folder,) = venv.glob("lib/python*/site-packages")
    (folder / "code_backend.py").write_text(CODE_BACKEND)
    return folder


@pytest.fixture
def python(packages: Path) -> str:
    """The interpreter of that environment."""
    return str(packages.parents[2] / "bin" / "python")


def fresh(setting: Setting, python: str, tree: Path, code: str) -> Any:
    """The hook's result in a new process."""
    command = [sys.executable, "-c", FRESH, str(tree), python, code]
    folder = Path(reference.__file__).parent
    env = {**setting.env, "PYTHONPATH": ""}
    done = subprocess.run(command, env=env, cwd=folder, check=True, capture_output=True)
    return json.loads(done.stdout)


def ask(pool: Pool, tree: Path, code: str) -> Any:
    """The result of a hook, which must print nothing."""
    response = pool.ask(call(tree, code))
    assert response["ok"], response["error"]
    assert (response["stdout"], response["stderr"]) == ("", "")
    return response["result"]


def answers(setting: Setting, python: str, tree: Path, codes: Sequence[str]) -> dict[str, Any]:
    """The results in new processes, and in workers of both start methods that are used again."""
    found = {"fresh": [fresh(setting, python, tree, code) for code in codes]}
    for method in ("spawn", "forkserver"):
        pool = setting.start("--start-method", method, python=python)
        found[method] = [ask(pool, tree, code) for code in codes]
        pool.settle(tree, codes[-1])
        found[f"{method}, once more"] = [ask(pool, tree, code) for code in codes]
        assert pool.finish() == ([], 0)
    return found


def differences(found: dict[str, Any]) -> dict[str, Any]:
    """The differences to a new process."""
    return {how: answer for how, answer in found.items() if answer != found["fresh"]}


WORK = """\
import os


def double(number):
    return 2 * number


def tell(queue):
    queue.put(os.getcwd())
"""

# Code of hooks that could reveal the changes.
CODES = (
    # All flags, warning filters and variables of the interpreter.
    "import builtins, contextvars, sys, warnings\n"
    "result = [*map(str, warnings.filters), str(sys.flags), str(sys._xoptions)]\n"
    "result += [*sorted(vars(builtins)), *sorted(vars(sys))]\n"
    "result += [getattr(sys, 'get_lazy_imports', str)()]\n"
    "result += map(str, contextvars.copy_context().items())\n",
    # UTF-8 since 3.15 (PEP 686).
    "import locale, sys\nopen('text', 'w', errors='replace').write('\\u00fc')\n"
    "result = [str(sys.flags.utf8_mode), sys.getfilesystemencoding(), locale.getencoding()]\n"
    "result += [f'{s.encoding} {s.errors}' for s in (sys.stdin, sys.stdout, sys.stderr)]\n"
    "result += [open('text').encoding, repr(open('text', 'rb').read())]\n",
    # multiprocessing has a different start method since 3.14.
    "import multiprocessing, os, work\n"
    "from concurrent.futures import ProcessPoolExecutor\n"
    "with ProcessPoolExecutor(2) as executor:\n"
    "    result = [multiprocessing.get_start_method()]\n"
    "    result += map(str, executor.map(work.double, range(3)))\n"
    "queue = multiprocessing.SimpleQueue()\n"
    "process = multiprocessing.Process(target=work.tell, args=(queue,))\n"
    "process.start()\nresult.append(queue.get())\nprocess.join()\n",
    # Subinterpreters (PEP 734, Python 3.14).
    "import work\nfrom concurrent.futures import InterpreterPoolExecutor\n"
    "with InterpreterPoolExecutor(2) as executor:\n"
    "    result = list(map(str, executor.map(work.double, range(3))))\n",
    # Remote debugging (PEP 768, Python 3.14).
    "import os, sys\n"
    "open('script.py', 'w').write('import sys; sys.was_debugged = True')\n"
    "sys.remote_exec(os.getpid(), os.path.abspath('script.py'))\n"
    "for _ in range(1000):\n    pass\n"
    "result = [str(sys.was_debugged)]\n",
)


@pytest.mark.parametrize("encoding", ["", "0"], ids=["as it comes", "no UTF-8"])
def test_what_is_new_is_as_in_a_new_process(
    setting: Setting, python: str, packages: Path, tree: Path, encoding: str
) -> None:
    (packages / "work.py").write_text(WORK)
    if encoding:
        setting.env |= {"PYTHONUTF8": encoding, "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    assert differences(answers(setting, python, tree, CODES)) == {}


@pytest.fixture
def lazy_python(python: str) -> str:
    """The interpreter, if it has lazy imports (PEP 810)."""
    command = [python, "-c", "import sys; sys.exit(not hasattr(sys, 'set_lazy_imports'))"]
    if subprocess.run(command, check=False).returncode != 0:
        pytest.skip("it has no lazy imports")
    return python


def test_f80_all_imports_are_lazy(
    setting: Setting, lazy_python: str, packages: Path, tree: Path
) -> None:
    (packages / "work.py").write_text(WORK)
    setting.env["PYTHON_LAZY_IMPORTS"] = "all"
    assert differences(answers(setting, lazy_python, tree, CODES)) == {}


def test_a_lazy_import_is_of_its_first_use(
    setting: Setting, lazy_python: str, packages: Path, tree: Path
) -> None:
    code = "import os, sys, early\nsys.path.insert(0, os.getcwd())\nresult = [early.late.VALUE]\n"
    (packages / "early.py").write_text("lazy import late\n")
    (packages / "late.py").write_text("VALUE = 'of the environment'\n")
    (tree / "late.py").write_text("VALUE = 'of the tree'\n")
    found = answers(setting, lazy_python, tree, [code])
    assert found["fresh"] == [["of the tree"]]
    assert differences(found) == {}


@BOTH_START_METHODS
def test_f81_a_start_file_is_added_edited_and_removed(
    setting: Setting, lazy_python: str, packages: Path, tree: Path
) -> None:
    """A .start file names a function to call at the start of the interpreter (PEP 829)."""
    code = "import sys\nresult = [getattr(sys, 'begun', 'not begun')]\n"
    (packages / "begins.py").write_text(
        "import sys\n\n\ndef once():\n    sys.begun = 'once'\n\n\n"
        "def again():\n    sys.begun = 'again'\n"
    )
    pool = setting.start(python=lazy_python)
    pool.settle(tree, code)
    assert ask(pool, tree, code) == ["not begun"]
    file = packages / "begins.start"
    for name in ("once", "again"):
        file.write_text(f"begins:{name}\n")
        assert ask(pool, tree, code) == fresh(setting, lazy_python, tree, code) == [name]
    file.unlink()
    assert ask(pool, tree, code) == ["not begun"]
    assert pool.finish() == ([], 0)


def test_a_free_threaded_build_is_told_about(setting: Setting, tree: Path, tmp_path: Path) -> None:
    """An interpreter that claims to be free-threaded, since the tests have no real one."""
    environment = Environment(tmp_path / "free")
    says_so = "import sysconfig\nsysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1\n"
    environment.write({"code_backend.py": CODE_BACKEND, "sitecustomize.py": says_so})
    pool = setting.start(python=environment.python)
    assert ask(pool, tree, "result = ['as any other']") == ["as any other"]
    assert pool.finish() == ([], 0)
    assert pool.stderr.count("the interpreter is a free-threaded build") == 1


# One project each of setuptools, flit and hatchling, with its environment.
@pytest.mark.exhaustive(newest="3.14")
@pytest.mark.timeout(300)
def test_real_projects_are_the_same(setting: Setting, newest: str, target: Path) -> None:
    sources = sdists.fetch_all(target / "test-sdists")
    trees = [
        sdists.copy(sources[name], setting.root / "trees" / name)
        for name in ("six", "idna", "soupsieve")
    ]
    command = [PROGRAM, "check", "--python", newest, "--jobs", "2", *map(str, trees)]
    done = subprocess.run(command, check=False, env=setting.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": same (5 of 5 hooks give a result)") == len(trees)
