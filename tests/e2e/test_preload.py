"""What a template has imported ahead of time never shows in what a hook sees."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Setting
from packages import Environment
from pool import Pool
from test_templates import wait_logged
from trees import CODE_BACKEND, call, make_tree

BACKEND = '[build-system]\nrequires = []\nbuild-backend = "plain_backend"\n'
LEARNED = "import calver\nresult = [calver.WHOSE]\n"
# As `setup.py` does, and backends that look into `src`.
OWN = "import os, sys\nsys.path.insert(0, os.path.join(os.getcwd(), {place!r}))\n" + LEARNED
PRELOADED = "import sys\nresult = [str('calver' in sys.modules)]\n"


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment with a backend, and a module that its hooks may import: for hookpool it is of
    a distribution that it knows, and which has a module of that name.
    """
    environment = Environment(tmp_path / "venv")
    extra = "WHOSE = 'the environment'\n"
    known = {"calver.py": extra, "calver-1.dist-info/METADATA": ""}
    environment.write({"plain_backend.py": CODE_BACKEND, **known})
    return environment


def plain_tree(folder: Path) -> Path:
    """A tree that is built by the backend of the environment."""
    make_tree(folder)
    (folder / "in_tree_backend.py").unlink()
    (folder / "pyproject.toml").write_text(BACKEND)
    return folder


def learned(setting: Setting, environment: Environment, tree: Path) -> Pool:
    """A pool whose template has learned the module from hooks of this tree."""
    setting.start_method = "forkserver"
    pool = setting.start(python=environment.python)
    assert pool.ask(call(tree, LEARNED))["result"] == ["the environment"]
    pool.settle(tree, LEARNED)
    assert pool.ask(call(tree, PRELOADED))["result"] == ["True"]
    return pool


@pytest.mark.parametrize("place", ["", "src", "lib", "tools/vendored"])
@pytest.mark.parametrize("package", [False, True], ids=["module", "package"])
def test_f52_a_module_of_the_trees_own(
    setting: Setting, environment: Environment, tmp_path: Path, place: str, package: bool
) -> None:
    other = plain_tree(tmp_path / "other")
    own = plain_tree(tmp_path / "own")
    pool = learned(setting, environment, other)
    file = own / place / ("calver/__init__.py" if package else "calver.py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("WHOSE = 'the tree'\n")
    for number in range(3):
        response = pool.ask(call(own, OWN.format(place=place), number))
        assert response["result"] == ["the tree"]
        assert response["worker"]["start_method"] == "forkserver"
        assert pool.ask(call(other, LEARNED, number))["result"] == ["the environment"]
    assert pool.finish() == ([], 0)


def test_f52_a_worker_is_not_moved_to_a_tree_with_such_a_module(
    setting: Setting, environment: Environment, tmp_path: Path
) -> None:
    other, own = plain_tree(tmp_path / "other"), plain_tree(tmp_path / "own")
    (own / "calver.py").write_text("WHOSE = 'the tree'\n")
    pool = learned(setting, environment, other)
    rich = pool.ask(call(other, LEARNED))["worker"]["pid"]
    response = pool.ask(call(own, OWN.format(place="")))
    assert response["result"] == ["the tree"]
    plain = response["worker"]["pid"]
    # Each template's workers serve the trees that are like theirs.
    third, fourth = plain_tree(tmp_path / "third"), plain_tree(tmp_path / "fourth")
    (fourth / "calver.py").write_text("WHOSE = 'the tree'\n")
    assert pool.ask(call(third, LEARNED))["result"] == ["the environment"]
    assert pool.ask(call(fourth, OWN.format(place="")))["result"] == ["the tree"]
    assert rich != plain
    assert pool.finish() == ([], 0)


def test_f52_a_module_that_comes_later(
    setting: Setting, environment: Environment, tmp_path: Path
) -> None:
    """The tree gets its own one when its worker has the other already."""
    tree = plain_tree(tmp_path / "tree")
    pool = learned(setting, environment, tree)
    (tree / "calver.py").write_text("WHOSE = 'the tree'\n")
    for number in range(3):
        assert pool.ask(call(tree, OWN.format(place=""), number))["result"] == ["the tree"]
    assert pool.finish() == ([], 0)


# What a module does when it is imported, and the code of a hook that says how often it was done.
EFFECTS = {
    "exit handler": (
        "import atexit, os\natexit.register(lambda: open('exited', 'a').write(str(os.getpid())))\n",
        "import os\nresult = [str(os.path.exists('exited'))]\n"
        "if os.path.exists('exited'):\n    os.remove('exited')\n",
    ),
    "thread": (
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, name='own', daemon=True).start()\n",
        "import threading\nnames = [thread.name for thread in threading.enumerate()]\n"
        "result = [str(names.count('own'))]\n",
    ),
    "environment": (
        "import os\nos.environ['COUNT'] = os.environ.get('COUNT', '') + 'I'\n",
        "import os\nresult = [os.environ['COUNT']]\n",
    ),
    "current folder": (
        "import os\nos.chdir({folder!r})\n",
        "import os\nresult = [str(os.path.isdir('tree'))]\n",
    ),
}


REFUSED = {
    "backend": "the backend is not preloaded: ",
    "learned": "this environment goes without learned modules: ",
}


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("who", REFUSED)
def test_f53_an_import_that_has_effects(
    setting: Setting, environment: Environment, tmp_path: Path, effect: str, who: str
) -> None:
    """Each hook imports it, as in a fresh process, and the template is there for the rest."""
    text, look = EFFECTS[effect]
    text = text.replace("{folder!r}", repr(str(tmp_path)))
    tree = plain_tree(tmp_path / "tree")
    if who == "backend":
        environment.write({"plain_backend.py": text + CODE_BACKEND})
    else:
        environment.write({"calver.py": text + "WHOSE = 'the environment'\n"})
    code = "import calver\n" + look
    fresh = {"exit handler": "True", "thread": "1", "environment": "I", "current folder": "True"}
    setting.start_method = "forkserver"
    # The second program has what the first has learned.
    for _ in range(2):
        pool = setting.start("-vv", python=environment.python)
        pool.ask(call(tree, code))
        wait_logged(pool, REFUSED[who])
        for number in range(6):
            response = pool.ask(call(tree, code, number))
            assert response["ok"], response["error"]
            assert response["result"] == [fresh[effect]]
        assert response["worker"]["start_method"] == "forkserver"
        assert pool.finish() == ([], 0)


def test_learned_modules_that_the_next_template_dies_of(
    setting: Setting, environment: Environment, tmp_path: Path
) -> None:
    """The environment goes without any, and its hooks go on."""
    trigger = tmp_path / "trigger"
    text = f"import os\nif os.path.exists({str(trigger)!r}):\n    os._exit(1)\n"
    environment.write({"calver.py": text + "WHOSE = 'the environment'\n"})
    tree = plain_tree(tmp_path / "tree")
    pool = learned(setting, environment, tree)
    assert pool.finish() == ([], 0)
    trigger.touch()
    pool = setting.start("-vv", python=environment.python)
    response = pool.ask(call(tree, PRELOADED))
    assert (response["result"], response["worker"]["start_method"]) == (["False"], "spawn")
    for number in range(3):
        assert pool.ask(call(tree, "result = []\n", number))["ok"]
    response = pool.ask(call(tree, PRELOADED))
    assert (response["result"], response["worker"]["start_method"]) == (["False"], "forkserver")
    assert pool.finish() == ([], 0)
    assert REFUSED["learned"] + "the template ended while it imported them" in pool.stderr


def test_only_what_is_known_is_learned(
    setting: Setting, environment: Environment, tmp_path: Path
) -> None:
    """Neither a module that no known distribution brought, nor one that another brought."""
    environment.write({"unknown.py": "", "zipp.py": "", "other-1.dist-info/METADATA": ""})
    tree = plain_tree(tmp_path / "tree")
    pool = learned(setting, environment, tree)
    pool.settle(tree, "import unknown, zipp\n")
    code = "import sys\nresult = [name for name in ('unknown', 'zipp') if name in sys.modules]\n"
    assert pool.ask(call(tree, code))["result"] == []
    assert pool.finish() == ([], 0)
