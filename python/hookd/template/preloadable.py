"""Which modules a template may import before the hooks that want them.

These are the modules of the standard library, and of the distributions that are listed here: build
backends, their plugins and what they need. Exceptions are listed, too.
``python/tests/test_preloadable.py`` examines the lists: it imports each of these modules, and looks
at what that changes.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, FrozenSet, Iterable, Iterator, List, Optional, Tuple

# By distribution, its top-level modules; below a namespace package, with the name of that.
DISTRIBUTIONS: Dict[str, Tuple[str, ...]] = {
    "calver": ("calver",),
    "cffi": ("cffi", "_cffi_backend"),
    "cython": ("Cython", "cython", "pyximport"),
    "editables": ("editables",),
    "expandvars": ("expandvars",),
    "flit-core": ("flit_core",),
    "flit-scm": ("flit_scm",),
    "hatch-fancy-pypi-readme": ("hatch_fancy_pypi_readme",),
    "hatch-jupyter-builder": ("hatch_jupyter_builder",),
    "hatch-nodejs-version": ("hatch_nodejs_version",),
    "hatch-requirements-txt": ("hatch_requirements_txt",),
    "hatch-vcs": ("hatch_vcs",),
    "hatchling": ("hatchling",),
    "importlib-metadata": ("importlib_metadata",),
    "importlib-resources": ("importlib_resources",),
    "maturin": ("maturin",),
    "meson-python": ("mesonpy",),
    "packaging": ("packaging",),
    "pathspec": ("pathspec",),
    "pdm-backend": ("pdm.backend",),
    "pluggy": ("pluggy",),
    "poetry-core": ("poetry.core",),
    "pybind11": ("pybind11",),
    "pycparser": ("pycparser",),
    "pyproject-metadata": ("pyproject_metadata",),
    "scikit-build-core": ("scikit_build_core",),
    "semantic-version": ("semantic_version",),
    "setuptools": ("setuptools", "pkg_resources", "_distutils_hack"),
    "setuptools-rust": ("setuptools_rust",),
    "setuptools-scm": ("setuptools_scm",),
    "tomli": ("tomli",),
    "tomlkit": ("tomlkit",),
    "trove-classifiers": ("trove_classifiers",),
    "typing-extensions": ("typing_extensions",),
    "vcs-versioning": ("vcs_versioning",),
    "wheel": ("wheel",),
    "zipp": ("zipp",),
}

# The tables of exceptions: a module stands for itself and all below it. With each come modules
# elsewhere that import it.

# These keep what they find when they are imported (sys.path, the current folder), or do something
# that a hook would miss (print). They are never preloaded, not even as a backend.
NEVER: Dict[str, Tuple[str, ...]] = {
    "flit_scm": (),
    "pkg_resources": (
        "setuptools.command.develop",
        "setuptools.command.easy_install",
        "setuptools.command.test",
        "setuptools.package_index",
        "setuptools.sandbox",
    ),
    "readline": ("_pyrepl", "rlcompleter"),
    "scikit_build_core.build": ("scikit_build_core.hatch", "scikit_build_core.setuptools"),
    "setuptools.command.easy_install": (),
    "setuptools.package_index": (),
    "this": (),
    "wheel.bdist_wheel": ("setuptools_rust",),
}

# These change the interpreter for all other modules: sys.path, sys.meta_path, functions of others.
# Whoever has one as a backend gets that anyway; other hooks must not.
ONLY_AS_BACKEND: Dict[str, Tuple[str, ...]] = {
    "importlib_metadata": (),
    "poetry.core": (),
    "pycparser._build_tables": (),
    "setuptools": (
        "_distutils_hack.override",
        "cffi._shimmed_dist_utils",
        "Cython.Build.Distutils",
        "Cython.Build.Inline",
        "Cython.Build.IpythonMagic",
        "Cython.Distutils",
        "distutils",
        "maturin.bootstrap",
        "pybind11.setup_helpers",
        "pyximport.pyxbuild",
        "scikit_build_core._compat.setuptools",
        "setuptools_scm._cli",
        "setuptools_scm._integration",
        "setuptools_scm.integration",
        "wheel._bdist_wheel",
    ),
    "setuptools._vendor.importlib_metadata": (),
}
if sys.version_info < (3, 10):
    ONLY_AS_BACKEND["importlib_metadata"] = (
        "pdm.backend.base",
        "pdm.backend.sdist",
        "pdm.backend.wheel",
    )

INSTALLED = ("site-packages", "dist-packages")

_distribution_of = {
    module: distribution for distribution, modules in DISTRIBUTIONS.items() for module in modules
}


def is_excepted(name: str) -> bool:
    """Whether this module must not be imported for hooks that may not want it."""
    excepted = {**NEVER, **ONLY_AS_BACKEND}
    # When the exception is loaded already, importing what needs it does no further harm.
    return _is_below(
        name, _with_importers({c: i for c, i in excepted.items() if c not in sys.modules})
    )


def is_never_preloaded(name: str) -> bool:
    """Whether this module must not even be imported as the backend."""
    return _is_below(name, _NEVER)


def exceptions_among(modules: Iterable[str], as_backend: bool) -> List[str]:
    """Those of these modules that are excepted by their own names."""
    excepted = set(NEVER) if as_backend else {*NEVER, *ONLY_AS_BACKEND}
    return [name for name in modules if name in excepted]


def _with_importers(exceptions: Dict[str, Tuple[str, ...]]) -> FrozenSet[str]:
    return frozenset(exceptions).union(*exceptions.values())


_NEVER = _with_importers(NEVER)


def _is_below(name: str, packages: FrozenSet[str]) -> bool:
    """Whether this is one of the packages, or a module in one. Asked for each imported module."""
    while name not in packages:
        name = name.rpartition(".")[0]
        if not name:
            return False
    return True


class Preloadable:
    """Tells by its file whether a module belongs to what is known.

    It knows the folders that are on ``sys.path`` when it is made.
    """

    def __init__(self) -> None:
        self._standard = _standard_folders()
        self._installed: Dict[str, Optional[FrozenSet[str]]] = {
            os.path.join(entry, ""): None
            for entry in sys.path
            if isinstance(entry, str) and os.path.basename(entry.rstrip(os.sep)) in INSTALLED
        }

    def may_import(self, name: str, file: str) -> bool:
        """Whether a module of this file, which a hook has imported, can be preloaded at all."""
        return self.holds(file) and not is_never_preloaded(name)

    def holds(self, file: str) -> bool:
        """Whether this absolute path is of the standard library or a known distribution."""
        return self.is_standard(file) or any(
            file.startswith(folder) and self._is_known(folder, file[len(folder) :])
            for folder in self._installed
        )

    def is_standard(self, file: str) -> bool:
        """Whether this absolute path is of the standard library."""
        return any(
            file.startswith(folder) and file[len(folder) :].split(os.sep, 1)[0] not in INSTALLED
            for folder in self._standard
        )

    def _is_known(self, folder: str, path: str) -> bool:
        first, _, rest = path.partition(os.sep)
        name = first.partition(".")[0]
        distribution = _distribution_of.get(name)
        if distribution is None:
            name += "." + rest.partition(os.sep)[0].partition(".")[0]
            distribution = _distribution_of.get(name)
        # Another distribution, or nobody, may have a module of the same name.
        return distribution is not None and distribution in self._distributions(folder)

    def _distributions(self, folder: str) -> FrozenSet[str]:
        found = self._installed[folder]
        if found is None:
            found = self._installed[folder] = frozenset(_distributions_in(folder))
        return found


def _standard_folders() -> List[str]:
    folders = [os.path.dirname(os.__file__)]
    # Some systems have the modules in C elsewhere.
    folders += [
        entry
        for entry in sys.path
        if isinstance(entry, str) and os.path.basename(entry.rstrip(os.sep)) == "lib-dynload"
    ]
    return [os.path.join(os.path.abspath(folder), "") for folder in folders]


def _distributions_in(folder: str) -> Iterator[str]:
    """The names of the distributions that are installed in this folder, normalized (PEP 503)."""
    try:
        entries = os.listdir(folder)
    except OSError:
        return
    for entry in entries:
        if entry.endswith(".dist-info"):
            name = entry[: -len(".dist-info")].partition("-")[0]
            yield name.lower().replace("_", "-").replace(".", "-")
