"""Templates for tests, as a plugin of pytest."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import HOOKD, kill, processes_with, wait_for_end
from template_client import StartTemplate, Template


@pytest.fixture
def start_template(
    interpreter: str,
    environment: dict[str, str],
    tree: Path,
    tmp_path: Path,
) -> Iterator[StartTemplate]:
    """Starts templates, and checks after the test that they left nothing behind."""
    # Apart from the workers that a test may start by themselves.
    marker = uuid.uuid4().hex
    capture_folder = tmp_path / "template-capture"
    capture_folder.mkdir()
    templates: list[Template] = []

    def start(*arguments: str) -> Template:
        folder = tmp_path / "template-{}".format(len(templates))
        folder.mkdir()
        # Only now: a fixture of the test may have changed it.
        variables = dict(environment, HOOKD_TEST_MARKER=marker)
        template = Template([interpreter, str(HOOKD)], variables, folder, arguments)
        templates.append(template)
        template.capture_folder, template.tree = str(capture_folder), str(tree)
        template.wait_started()
        return template

    yield start

    try:
        for template in templates:
            template.finish()
    finally:
        left = wait_for_end(processes_with(marker), 5.0)
        kill(left)
    assert not left, "processes were left behind"
    announced = {
        path for template in templates for hookd in template.workers for path in hookd.announced
    }
    assert {str(path) for path in capture_folder.iterdir()} <= announced
