"""Imports that are put off until something of the module is used (PEP 810, Python 3.15)."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import INTERPRETERS, Start
from template_client import StartTemplate
from test_template_preload import names, write

pytest_plugins = ["template_fixture"]

MODE = "import sys; result = [sys.get_lazy_imports()]"


@pytest.fixture
def interpreter() -> str:
    if "3.15" not in INTERPRETERS:
        pytest.skip("Python 3.15 is not installed")
    return str(INTERPRETERS["3.15"])


@pytest.fixture
def all_lazy(environment: dict[str, str]) -> None:
    """Make all imports lazy, of hookd and of hooks."""
    environment["PYTHON_LAZY_IMPORTS"] = "all"


@pytest.mark.usefixtures("all_lazy")
@pytest.mark.parametrize("isolation", ["hook", "none"])
def test_all_imports_are_lazy(start: Start, isolation: str) -> None:
    """Imports of hooks are. Hookd's own are not: it works when a hook hides all modules."""
    hookd = start(isolation=isolation)
    assert hookd.run_code(MODE).result == ["all"]
    assert hookd.run("sample_module").result
    code = "import sys; sys.path.clear(); sys.meta_path.clear(); raise ValueError('kept')"
    reply = hookd.run_code(code)
    assert reply.error[1]["message"].startswith("ValueError: kept\n")
    assert "<code of the test>" in reply.traceback


@pytest.mark.usefixtures("all_lazy")
def test_all_imports_are_lazy_in_a_template(start_template: StartTemplate, site: Path) -> None:
    write(site, subject="import helper\nVALUE = 1", helper="VALUE = 2")
    template = start_template()
    assert names(template.import_backend("subject")) == ["subject"]
    template.wait_idle()
    code = "import sys, subject\nresult = [str('helper' in sys.modules)]\n"
    code += "result += [str(subject.helper.VALUE), sys.get_lazy_imports()]"
    assert template.fork_worker().run_code(code).result == ["False", "2", "all"]


@pytest.mark.usefixtures("all_lazy")
def test_a_template_has_no_more_modules(start: Start, start_template: StartTemplate) -> None:
    """All modules that hookd needs after a hook are loaded before it, in spawned workers, too."""
    code = "import sys; result = [name for name in sys.modules]"
    spawned = start().run_code(code).result
    forked = start_template().fork_worker().run_code(code).result
    assert set(forked) - set(spawned) <= {"_socket"}
