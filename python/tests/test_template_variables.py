"""`--template`: the variables that imports read, and workers with variables of their own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest
from template_client import StartTemplate, Template, variables_file

pytest_plugins = ["template_fixture"]

READING = """
import os
{}
def shown():
    return sorted(name for name in globals() if not name.startswith('_'))
"""

# What a hook finds, as JSON in a list, as hooks of requirements give it.
LOOK = """
import json, os, posix, subprocess, sys
def text(variables):
    return [[os.fsdecode(name), os.fsdecode(value)] for name, value in variables.items()]
script = "import os, sys; sys.stdout.buffer.write(os.fsencode(repr(list(os.environ.items()))))"
child = subprocess.run(["env", "-0"], stdout=subprocess.PIPE).stdout
found = {
    "environ": list(os.environ.items()),
    "environb": text(os.environb),
    "posix": text(posix.environ),
    "child": [os.fsdecode(entry).split("=", 1) for entry in child.split(b"\\0") if entry],
    "umask": os.umask(0o77),
}
result = [json.dumps(found)]
"""


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("FOUND = os.environ.get('SAMPLE')", ["SAMPLE"]),
        ("FOUND = os.getenv('SAMPLE', 'default')", ["SAMPLE"]),
        ("FOUND = os.environb.get(b'SAMPLE')", ["SAMPLE"]),
        ("FOUND = 'SAMPLE' in os.environ", ["SAMPLE"]),
        ("FOUND = os.path.expanduser('~')", ["HOME"]),
        ("FOUND = os.environ.copy()", None),
        ("FOUND = dict(os.environ)", None),
        ("FOUND = [*os.environb]", None),
        ("FOUND = repr(os.environ)", None),
        ("FOUND = len(os.name)", []),
        ("def later(): return os.environ['SAMPLE']", []),
    ],
)
def test_what_an_import_reads(
    start_template: StartTemplate, site: Path, code: str, names: list[str] | None
) -> None:
    (site / "reading.py").write_text(READING.format(code))
    template = start_template()
    assert template.import_backend("reading")["imported"] == "backend"
    told = [{"names": names or [], "all": names is None}] if names != [] else []
    assert template.read == told


def fork_refused(template: Template, variables: dict[str, str]) -> dict[str, object]:
    template.send_fork(variables=variables)
    return template.find("not_forked")


def test_a_worker_with_another_value_of_what_was_read_is_refused(
    start_template: StartTemplate, site: Path, environment: dict[str, str]
) -> None:
    (site / "reading.py").write_text(READING.format("FOUND = os.environ.get('SAMPLE')"))
    template = start_template()
    template.import_backend("reading")
    own = own_variables(template)
    template.fork_worker(variables=own)
    template.fork_worker(variables={**own, "OTHER": "2"})
    assert fork_refused(template, {**own, "SAMPLE": "1"})["differs"] is True


def test_a_worker_of_a_template_that_read_all_has_the_same_variables(
    start_template: StartTemplate, site: Path
) -> None:
    (site / "reading.py").write_text(READING.format("FOUND = os.environ.copy()"))
    template = start_template()
    template.import_backend("reading")
    own = own_variables(template)
    template.fork_worker(variables=own)
    assert fork_refused(template, {**own, "OTHER": "2"})["differs"] is True
    assert fork_refused(template, {name: own[name] for name in own if name != "PATH"})["differs"]


def own_variables(template: Template) -> dict[str, str]:
    block = Path(f"/proc/{template.process.pid}/environ").read_bytes()
    entries = [os.fsdecode(entry).partition("=") for entry in block.split(b"\0") if entry]
    return {name: value for name, _, value in entries}


@pytest.mark.parametrize("isolation", ["hook", "none"])
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LC_CTYPE": "C"}, {"LANG": "C.UTF-8"}])
def test_a_hook_finds_exactly_the_variables_of_a_fresh_process(
    start_template: StartTemplate,
    interpreter: str,
    environment: dict[str, str],
    isolation: str,
    locale: dict[str, str],
) -> None:
    """Those that are removed, changed and added, bytes that are not UTF-8, and their order."""
    for name in [name for name in environment if name == "LANG" or name.startswith("LC_")]:
        del environment[name]
    environment.update(locale, REMOVED="1", CHANGED="1")
    template = start_template()
    own = own_variables(template)
    wanted = {"ADDED_FIRST": "\udcff", **own, "CHANGED": "2", "ADDED": "", "IN_VAIN": "a=b\nc"}
    del wanted["REMOVED"]
    hookd = template.fork_worker(variables=wanted, isolation=isolation, umask=0o27)
    (found,) = hookd.run_code(LOOK).result
    found = json.loads(found)
    script = LOOK.replace("result = [json.dumps(found)]", "print(json.dumps(found))")
    fresh = subprocess.run(
        [interpreter, "-c", script], env=wanted, stdout=subprocess.PIPE, check=True
    )
    expected = json.loads(fresh.stdout)
    expected["umask"] = 0o27
    # The name of the tree that is served.
    for place in ("environ", "environb", "posix", "child"):
        found[place] = [entry for entry in found[place] if entry[0] != "HOOKPOOL_WITHIN"]
    assert found == expected


def test_limits_of_a_worker(start_template: StartTemplate) -> None:
    template = start_template()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard_core = resource.getrlimit(resource.RLIMIT_CORE)[1]

    def shown(bound: int) -> str:
        # Its number depends on the version of Python.
        return "none" if bound == resource.RLIM_INFINITY else str(bound)

    limits = [["RLIMIT_NOFILE", 200, 300], ["RLIMIT_CORE", 0, None], ["RLIMIT_UNHEARD_OF", 1, 1]]
    code = """
import resource
names = ["RLIMIT_NOFILE", "RLIMIT_CORE"]
bounds = [bound for name in names for bound in resource.getrlimit(getattr(resource, name))]
result = ["none" if bound == resource.RLIM_INFINITY else str(bound) for bound in bounds]
"""
    limited = template.fork_worker(limits=limits)
    assert limited.run_code(code).result == ["200", "300", "0", shown(hard_core)]
    # The template's own are as before.
    assert template.fork_worker().run_code(code).result[:2] == [shown(soft), shown(hard)]


def test_the_variables_of_the_template_itself(start_template: StartTemplate, site: Path) -> None:
    (site / "reading.py").write_text(READING.format("FOUND = os.environ.get('SAMPLE')"))
    template = start_template()
    wanted = {**own_variables(template), "SAMPLE": "early"}
    descriptor = variables_file(wanted)
    template.send({"variables": True}, [descriptor])
    os.close(descriptor)
    template.import_backend("reading")
    code = "import os, reading; result = [reading.FOUND, os.environ['SAMPLE']]"
    assert template.fork_worker().run_code(code).result == ["early", "early"]
    assert fork_refused(template, {**wanted, "SAMPLE": "late"})["differs"]


@pytest.mark.parametrize(
    ("process", "reason"),
    [
        ({"umask": 0o1000}, "umask: expected a number up to 511, got 512"),
        ({"limits": [["NOFILE", 1, 1]]}, "limits: expected [NAME, SOFT, HARD] each"),
        ({"limits": [["RLIMIT_NOFILE", -1, 1]]}, "limits: expected [NAME, SOFT, HARD] each"),
    ],
)
def test_wrong_values_are_refused(
    start_template: StartTemplate, process: dict[str, object], reason: str
) -> None:
    template = start_template()
    template.send_fork(**process)
    assert reason in template.find("not_forked")["reason"]
