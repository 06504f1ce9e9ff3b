"""Source trees in which a process that was used before gives wrong answers, and the right ones.

A trap is a few projects that disturb each other, or their own next hook, when hooks share more than
the environment. What each hook of them must answer is written down here, and comes from nowhere
else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GET_REQUIRES = "get_requires_for_build_wheel"
PREPARE = "prepare_metadata_for_build_wheel"
BUILD_WHEEL = "build_wheel"

# What files of this name say in the tree is part of the answer; they are removed when it was read.
TRACES = "trace-*.txt"

Files = Mapping[str, str]


@dataclass(frozen=True)
class Step:
    """A hook, what it must answer, and what is written into the tree before it runs.

    The answer: name and version of the metadata, with the summary if there is one; the name of the
    wheel and of its modules; the requirements; then the traces.
    """

    hook: str
    answer: list[str]
    edits: Files = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Project:
    """A source tree and its hooks. Each is itself only, so that it can be a key."""

    name: str
    files: Files
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Trap:
    """Projects of one environment."""

    name: str
    projects: tuple[Project, ...]
    environment: str = "backends"
    # Whether one process that runs all these hooks answers wrong.
    caught_by_reuse: bool = True
    # Whether modules of the environment that were imported before make the answers wrong.
    caught_by_preload: bool = False


def write(tree: Path, files: Mapping[str, str]) -> None:
    """Files of the tree, by relative path."""
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
HATCHLING = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'

# The tree is not on sys.path: setup.py and hatch_build.py that need it do this.
FIND_HERE = """\
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, {folder!r}))
"""


def prepared(*answer: str) -> tuple[Step, ...]:
    """The same metadata, twice in a row."""
    return (Step(PREPARE, list(answer)), Step(PREPARE, list(answer)))


def find(folder: str = "") -> str:
    """Code that puts this folder of the tree on sys.path."""
    return FIND_HERE.format(folder=folder)


# Setuptools reads a version that is plain text without importing the module.
def computed_version(version: str) -> str:
    """A module whose version is known only when it was imported."""
    return f'__version__ = ".".join({version.split(".")!r})\n'


def attr_in_setup_cfg(name: str, version: str) -> Project:
    """The version is an attribute of a package."""
    setup_cfg = f"""\
[metadata]
name = {name}
version = attr: same_package.__version__
[options]
packages = same_package
"""
    files = {
        "pyproject.toml": SETUPTOOLS,
        "setup.cfg": setup_cfg,
        "same_package/__init__.py": computed_version(version),
    }
    return Project(name, files, prepared(f"{name} {version}"))


def attr_in_pyproject(name: str, version: str) -> Project:
    """The same in pyproject.toml."""
    project = f"""\
[project]
name = "{name}"
dynamic = ["version"]
[tool.setuptools]
packages = ["same_package"]
[tool.setuptools.dynamic]
version = {{attr = "same_package.version.VERSION"}}
"""
    files = {
        "pyproject.toml": SETUPTOOLS + project,
        "same_package/__init__.py": "from same_package.version import VERSION\n",
        "same_package/version.py": computed_version(version).replace("__version__", "VERSION"),
    }
    return Project(name, files, prepared(f"{name} {version}"))


def environment_default(name: str, version: str) -> Project:
    """The version is what the environment says, which setup.py sets by itself."""
    setup = f"""\
import os
from setuptools import setup

os.environ.setdefault("X_VERSION", "{version}")
setup(name="{name}", version=os.environ["X_VERSION"], py_modules=[])
"""
    return Project(name, {"setup.py": setup}, prepared(f"{name} {version}"))


def setup_helper(name: str, version: str) -> Project:
    """A setup.py with a helper module, and another that is imported late."""
    setup = f"""\
{find()}
from setuptools import setup
from setuptools.command.egg_info import egg_info
import same_helper


class LateImport(egg_info):
    def run(self):
        import same_late_helper
        self.distribution.metadata.description = same_late_helper.SUMMARY
        super().run()


setup(
    name="{name}",
    version=same_helper.VERSION,
    py_modules=[],
    cmdclass={{"egg_info": LateImport}},
)
"""
    files = {
        "pyproject.toml": SETUPTOOLS,
        "setup.py": setup,
        "same_helper.py": f"VERSION = '{version}'\n",
        "same_late_helper.py": f"SUMMARY = 'this is {name}'\n",
    }
    return Project(name, files, prepared(f"{name} {version}: this is {name}"))


def hatch_project(name: str, more: str = "") -> str:
    """The pyproject.toml of a project whose version comes from hatch_build.py."""
    return f"""\
{HATCHLING}
[project]
name = "{name}"
dynamic = ["version"]
[tool.hatch.metadata.hooks.custom]
[tool.hatch.build.targets.wheel]
include = ["*.py"]
exclude = ["hatch_build.py"]
{more}"""


METADATA_HOOK = """\
from hatchling.metadata.plugin.interface import MetadataHookInterface


class Custom(MetadataHookInterface):
    def update(self, metadata):
        metadata["version"] = {version}
"""


def hatch_helper(name: str, version: str) -> Project:
    """A custom hatch hook with a helper module."""
    files = {
        "pyproject.toml": hatch_project(name),
        "hatch_build.py": f"{find()}\nimport same_helper\n"
        + METADATA_HOOK.format(version="same_helper.VERSION"),
        "same_helper.py": f"VERSION = '{version}'\n",
    }
    return Project(name, files, prepared(f"{name} {version}"))


def hatch_edited(name: str) -> Project:
    """The same, edited between two requests: the helper first, then the hook itself."""
    hook = f"{find()}\nimport edited_helper\n" + METADATA_HOOK
    # The sizes differ: an interpreter's bytecode check compares those, and whole seconds.
    helpers = {text: {"edited_helper.py": f"VERSION = '{text}'\n"} for text in ("1.0", "1.0.1")}
    before = {"hatch_build.py": hook.format(version="edited_helper.VERSION")}
    after = {"hatch_build.py": hook.format(version="edited_helper.VERSION + '.post5'")}
    steps = (
        Step(PREPARE, [f"{name} 1.0"], {**before, **helpers["1.0"]}),
        Step(PREPARE, [f"{name} 1.0.1"], helpers["1.0.1"]),
        Step(PREPARE, [f"{name} 1.0.1.post5"], after),
    )
    return Project(name, {"pyproject.toml": hatch_project(name)}, steps)


def in_tree_backend(name: str, real: str, table: str, wheel: Step) -> Project:
    """An in-tree backend which wraps a real one, with a helper and a late one."""
    project = f"""\
[build-system]
requires = []
build-backend = "same_backend"
backend-path = ["_build"]
[project]
name = "{name}"
version = "1.0"
requires-python = ">=3"
description = "from the tree"
{table}
"""
    backend = f"""\
import same_settings
from {real} import *
from {real} import build_wheel as real_build_wheel


def get_requires_for_build_wheel(config_settings=None):
    import same_late_settings
    return [same_settings.NAME, same_late_settings.NAME]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return real_build_wheel(wheel_directory, config_settings, metadata_directory)
"""
    module = name.replace("-", "_")
    files = {
        "pyproject.toml": project,
        "_build/same_backend.py": backend,
        "_build/same_settings.py": f"NAME = '{name}'\n",
        "_build/same_late_settings.py": f"NAME = 'late-{name}'\n",
        f"{module}/__init__.py": '"""A module."""\n',
    }
    steps = (
        Step(GET_REQUIRES, [name, f"late-{name}"]),
        Step(PREPARE, [f"{name} 1.0: from the tree"]),
        wheel,
    )
    return Project(name, files, steps)


def in_tree_backends() -> tuple[Project, ...]:
    """One name, three real backends below it."""
    return (
        in_tree_backend(
            "tree-setuptools",
            "setuptools.build_meta",
            '[tool.setuptools]\npackages = ["tree_setuptools"]',
            built("tree_setuptools", "1.0", "tree_setuptools/__init__.py"),
        ),
        in_tree_backend(
            "tree-hatchling",
            "hatchling.build",
            '[tool.hatch.build.targets.wheel]\npackages = ["tree_hatchling"]',
            built("tree_hatchling", "1.0", "tree_hatchling/__init__.py"),
        ),
        in_tree_backend(
            "tree-flit",
            "flit_core.buildapi",
            '[tool.flit.module]\nname = "tree_flit"',
            built("tree_flit", "1.0", "tree_flit/__init__.py"),
        ),
    )


def built(name: str, version: str, *modules: str) -> Step:
    """A wheel with these modules."""
    return Step(BUILD_WHEEL, [f"{name}-{version}-py3-none-any.whl", *modules])


def second_wheel(name: str, modules: tuple[str, ...]) -> Project:
    """Three wheels from one tree, without a change and after one."""
    setup = f"""\
from setuptools import setup

setup(name="{name}", version="1.0", packages=["package"], package_dir={{"": "src"}})
"""
    package = [f"package/{module}" for module in modules]
    files: dict[str, str] = {f"src/{module}": "" for module in package}
    files |= {"pyproject.toml": SETUPTOOLS, "setup.py": setup}
    distribution = name.replace("-", "_")
    steps = (
        built(distribution, "1.0", *package),
        built(distribution, "1.0", *package),
        Step(PREPARE, [f"{name} 1.0"]),
        built(distribution, "1.0", *package),
    )
    return Project(name, files, steps)


def exit_in_setup() -> Project:
    """A setup.py that leaves its last work to the end of its process."""
    setup = """\
import atexit
import logging
import logging.handlers
import pathlib
import weakref
from setuptools import setup

HERE = pathlib.Path(__file__).absolute().parent
generated = HERE / "trace-generated.txt"
generated.write_text("still there")
atexit.register(generated.unlink)
atexit.register((HERE / "trace-atexit.txt").write_text, "ran")


class Thing:
    pass


# Kept until the end.
Thing.thing = Thing()
weakref.finalize(Thing.thing, (HERE / "trace-finalize.txt").write_text, "ran")

# What it holds is written by logging's own exit handler.
log = logging.FileHandler(str(HERE / "trace-logging.txt"), delay=True)
memory = logging.handlers.MemoryHandler(1000, target=log)
logger = logging.getLogger("exits-in-setup")
logger.propagate = False
logger.addHandler(memory)
logger.warning("flushed")

setup(name="exits-in-setup", version="1.0", py_modules=[])
"""
    traces = ("trace-atexit.txt: ran", "trace-finalize.txt: ran", "trace-logging.txt: flushed")
    files = {"pyproject.toml": SETUPTOOLS, "setup.py": setup}
    return Project("exits-in-setup", files, prepared("exits-in-setup 1.0", *traces))


def exit_in_hatch() -> Project:
    """A hatch hook that does the same, and joins no thread."""
    hook = f"""\
{find()}
import atexit
import pathlib
import threading
import weakref
{METADATA_HOOK.format(version="'1.0'")}

def late():
    threading.main_thread().join()
    pathlib.Path(HERE, "trace-thread.txt").write_text("ran")


threading.Thread(target=late).start()
weakref.finalize(Custom, pathlib.Path(HERE, "trace-finalize.txt").write_text, "ran")
unflushed = open(os.path.join(HERE, "trace-unflushed.txt"), "w")
unflushed.write("text")
atexit.register(pathlib.Path(HERE, "trace-atexit.txt").write_text, "ran")
sys.kept = [unflushed, Custom]
"""
    traces = (
        "trace-atexit.txt: ran",
        "trace-finalize.txt: ran",
        "trace-thread.txt: ran",
        "trace-unflushed.txt: text",
    )
    files = {"pyproject.toml": hatch_project("exits-in-hatch"), "hatch_build.py": hook}
    return Project("exits-in-hatch", files, prepared("exits-in-hatch 1.0", *traces))


TOML_AND_SIX = """\
import six
import toml
from setuptools import setup

setup(
    name="{name}",
    version=toml.__version__,
    description="six " + six.__version__,
    py_modules=[],
)
"""


def installed_ones() -> Project:
    """A project that imports two modules of the environment, as many do."""
    files = {"pyproject.toml": SETUPTOOLS, "setup.py": TOML_AND_SIX.format(name="installed-ones")}
    return Project("installed-ones", files, prepared("installed-ones 0.10.1: six 1.15.0"))


def own_ones(folder: str) -> Project:
    """A project with modules of the same names."""
    name = "own-in-" + (folder.replace("/", "-") or "root")
    setup = find(folder) + "\n" + TOML_AND_SIX.format(name=name)
    prefix = f"{folder}/" if folder else ""
    files = {
        "pyproject.toml": SETUPTOOLS,
        "setup.py": setup,
        f"{prefix}toml/__init__.py": "from toml.version import __version__\n",
        f"{prefix}toml/version.py": "__version__ = '77.0'\n",
        f"{prefix}six.py": "__version__ = '88.0'\n",
    }
    return Project(name, files, prepared(f"{name} 77.0: six 88.0"))


def hatch_installed_ones() -> Project:
    """The same with hatchling."""
    name = "hatch-installed-ones"
    hook = "import toml\n" + METADATA_HOOK.format(version="toml.__version__")
    files = {"pyproject.toml": hatch_project(name), "hatch_build.py": hook}
    return Project(name, files, prepared(f"{name} 0.10.1"))


def hatch_own_ones() -> Project:
    """A hatch project with a module of that name."""
    name = "hatch-own-ones"
    hook = find("src") + "import toml\n" + METADATA_HOOK.format(version="toml.__version__")
    files = {
        "pyproject.toml": hatch_project(name),
        "hatch_build.py": hook,
        "src/toml.py": "__version__ = '77.0'\n",
    }
    return Project(name, files, prepared(f"{name} 77.0"))


def own_beside_backend() -> Project:
    """An in-tree backend with such a module beside it."""
    backend = """\
import toml
from setuptools.build_meta import *


def get_requires_for_build_wheel(config_settings=None):
    import six
    return [toml.__version__, six.__version__]
"""
    project = (
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["_build"]\n'
    )
    files = {
        "pyproject.toml": project + '[project]\nname = "own-beside-backend"\nversion = "1.0"\n',
        "_build/backend.py": backend,
        "_build/toml.py": "__version__ = '77.0'\n",
        "_build/six/__init__.py": "__version__ = '88.0'\n",
    }
    steps = (Step(GET_REQUIRES, ["77.0", "88.0"]), Step(GET_REQUIRES, ["77.0", "88.0"]))
    return Project("own-beside-backend", files, steps)


SNAPSHOT = """\
import pkg_resources

{before}
try:
    __version__ = pkg_resources.get_distribution("snapshot").version
except pkg_resources.DistributionNotFound:
    __version__ = "0+unknown"
"""


def snapshot(name: str, version: str, answer: str, before: str = "") -> Project:
    """A project that reads its version from its own egg-info by pkg_resources.

    setup.py finds the tree on sys.path, as it is run by `__legacy__`.
    """
    setup = f"""\
from setuptools import setup
import snapshot

setup(name="{name}", version=snapshot.__version__, py_modules=["snapshot"])
"""
    info = f"Metadata-Version: 2.1\nName: snapshot\nVersion: {version}\n"
    files = {
        "setup.py": setup,
        "snapshot.py": SNAPSHOT.format(before=before),
        "snapshot.egg-info/PKG-INFO": info,
    }
    return Project(name, files, prepared(f"{name} {answer}"))


def required(name: str, version: str) -> Project:
    """A project that tells pkg_resources of its folder, and requires itself."""
    before = "import os\n"
    before += "pkg_resources.working_set.add_entry(os.path.dirname(os.path.abspath(__file__)))\n"
    before += "pkg_resources.require('snapshot')\n"
    return snapshot(name, version, version, before)


def plain_resources() -> Project:
    """A project that asks pkg_resources for what is installed."""
    setup = """\
import pkg_resources
from setuptools import setup

version = pkg_resources.get_distribution("toml").version
pkg_resources.require("toml>=0.10")
setup(name="asks-for-toml", version=version, py_modules=[])
"""
    return Project("asks-for-toml", {"setup.py": setup}, prepared("asks-for-toml 0.10.1"))


# Only what the project itself survives.
CHANGES = """\
import builtins
import locale
import logging
import os
import signal
import sys
from setuptools import setup

setup(name="changes", version="1.0", py_modules=[])
sys.argv += ["--changed"]
os.environ["CHANGED"] = "yes"
os.environ["SETUPTOOLS_SCM_PRETEND_VERSION"] = "9.9"
os.environ["PATH"] += os.pathsep + "/changed"
os.umask(0o077)
logging.disable(logging.CRITICAL)
logging.getLogger().addHandler(logging.NullHandler())
logging.getLogger("changed").setLevel(7)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")
sys.path_hooks.append(sys)
sys.setrecursionlimit(4321)
sys.modules["changed"] = os
sys.dont_write_bytecode = True
builtins.changed = True
"""

LOOKS = """\
import builtins
import locale
import logging
import os
import signal
import sys
from setuptools import setup

mask = os.umask(0)
os.umask(mask)
summary = [
    "tree" if os.path.samefile(os.getcwd(), os.path.dirname(os.path.abspath(__file__))) else "else",
    str("--changed" in sys.argv),
    os.environ.get("CHANGED", "unset"),
    os.environ.get("SETUPTOOLS_SCM_PRETEND_VERSION", "unset"),
    str("/changed" in os.environ["PATH"]),
    oct(mask),
    str(logging.root.manager.disable),
    str(any(type(handler) is logging.NullHandler for handler in logging.getLogger().handlers)),
    str(logging.getLogger("changed").level),
    str(signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL),
    locale.setlocale(locale.LC_NUMERIC),
    str(sys in sys.path_hooks),
    str(sys.getrecursionlimit() == 4321),
    str("changed" in sys.modules),
    str(sys.dont_write_bytecode),
    str(hasattr(builtins, "changed")),
]
setup(name="looks", version="1.0", description=" ".join(summary), py_modules=[])
"""
UNCHANGED = "tree False unset unset False 0o22 0 False 0 True C False False False False False"
# The files of the looks project are made, and its hooks are run, under this.
UMASK = 0o022

CHILDREN = """\
import multiprocessing
import operator
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from setuptools import setup


def main():
    code = "import toml; print(toml.__version__)"
    version = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    sums = []
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            sums.append(str(pool.submit(operator.add, len(sums), 1).result()))
    setup(name="children", version=version, description=" ".join(sums), py_modules=[])


if __name__ == "__main__":
    main()
"""

# Before setuptools 66 the backend imports pkg_resources by itself, and so before setup.py has its
# folder on sys.path.
OLD_SNAPSHOT = "0+unknown" if sys.version_info < (3, 12) else "4.5"

TRAPS = (
    Trap("attr in setup.cfg", (attr_in_setup_cfg("one", "1.0"), attr_in_setup_cfg("two", "2.0"))),
    Trap(
        "attr in pyproject.toml",
        (attr_in_pyproject("three", "3.0"), attr_in_pyproject("four", "4.0")),
    ),
    Trap(
        "os.environ.setdefault",
        (environment_default("five", "5.0"), environment_default("six-point", "6.0")),
    ),
    Trap("helpers of setup.py", (setup_helper("seven", "7.0"), setup_helper("eight", "8.0"))),
    Trap("helpers of a hatch hook", (hatch_helper("nine", "9.0"), hatch_helper("ten", "10.0"))),
    Trap("an edited hatch hook", (hatch_edited("edited"),)),
    Trap("in-tree backends", in_tree_backends()),
    Trap(
        "a second wheel",
        (
            second_wheel("wheels", ("__init__.py", "one.py")),
            second_wheel("other-wheels", ("__init__.py", "two.py")),
        ),
    ),
    Trap("clean-up at exit", (exit_in_setup(), exit_in_hatch())),
    Trap(
        "packages named like installed ones",
        (
            installed_ones(),
            own_ones(""),
            own_ones("src"),
            own_ones("lib"),
            own_beside_backend(),
            hatch_installed_ones(),
            hatch_own_ones(),
        ),
        caught_by_preload=True,
    ),
    Trap(
        "packages elsewhere",
        (installed_ones(), own_ones("tools/vendored")),
        caught_by_preload=True,
    ),
    Trap(
        "pkg_resources",
        (snapshot("snap", "4.5", "4.5"), snapshot("other-snap", "6.0", "6.0")),
        caught_by_preload=True,
    ),
    Trap(
        "pkg_resources of old",
        (
            snapshot("snap", "4.5", OLD_SNAPSHOT),
            required("requires-itself", "5.0"),
            required("requires-itself-too", "6.0"),
            plain_resources(),
        ),
        environment="old setuptools",
    ),
    Trap(
        "process state",
        (
            Project("changes", {"setup.py": CHANGES}, prepared("changes 1.0")),
            Project("looks", {"setup.py": LOOKS}, prepared(f"looks 1.0: {UNCHANGED}")),
        ),
    ),
    Trap(
        "children",
        (
            Project(
                "children",
                {"pyproject.toml": SETUPTOOLS, "setup.py": CHILDREN},
                prepared("children 0.10.1: 1 2 3"),
            ),
        ),
        caught_by_reuse=False,
    ),
)
