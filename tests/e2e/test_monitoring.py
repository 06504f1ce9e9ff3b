"""The alerts and the dashboard in `docs/ops`: Prometheus takes them, and the metrics are there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Setting
from pool import REPOSITORY
from test_service_operations import metrics

ALERTS = REPOSITORY / "docs" / "ops" / "prometheus" / "alerts.yml"
DASHBOARD = REPOSITORY / "docs" / "ops" / "grafana" / "hookpool.json"


@pytest.fixture
def promtool(target: Path) -> str:
    """The program."""
    places = [str(target / "promtool" / "usr" / "bin"), os.environ.get("PATH", "")]
    program = shutil.which("promtool", path=os.pathsep.join(places))
    if program is None:
        pytest.skip("promtool is not installed")
    return program


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program."""
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, **options
    )


def test_the_alerts_are_valid(promtool: str) -> None:
    done = run(promtool, "check", "rules", str(ALERTS))
    assert done.returncode == 0, done
    assert "5 rules found" in done.stdout


def older_format(text: str) -> str:
    """Metrics in the text format that promtool lints: in it, suffixes belong to the names."""
    for name, kind in re.findall(r"^# TYPE (\S+) (counter|info)$", text, re.MULTILINE):
        suffix = {"counter": "_total", "info": "_info"}[kind]
        text = text.replace(f"# HELP {name} ", f"# HELP {name}{suffix} ")
        text = text.replace(f"# TYPE {name} {kind}", f"# TYPE {name}{suffix} {kind}")
    return text.replace("_info info\n", "_info gauge\n")


def test_the_metrics_follow_the_conventions(setting: Setting, tree: Path, promtool: str) -> None:
    service = setting.serve()
    assert service.hook(tree).json["ok"]
    text = service.ask("GET", "/metrics").body.decode()
    assert service.end() == 0
    done = run(promtool, "check", "metrics", input=older_format(text))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_alerts_and_dashboard_use_metrics_that_exist(setting: Setting, tree: Path) -> None:
    service = setting.serve()
    assert service.hook(tree).json["ok"]
    names = {name for name, _ in metrics(service)}
    assert service.end() == 0
    dashboard = json.loads(DASHBOARD.read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for text in (ALERTS.read_text(), "\n".join(shown)):
        used = set(re.findall(r"\bhookpool_\w+", text))
        assert used
        assert used <= names
    # The dashboard has all of them.
    of_histograms = {name for name in names if name.endswith(("_sum", "_count"))}
    assert names - of_histograms == set(re.findall(r"\bhookpool_\w+", "\n".join(shown)))
