"""Runs of the program, and checks of their results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import family
import projects

# A run takes seconds. One that takes this long hangs.
PATIENCE = 90.0
COMMANDS = (("wheel",), ("wheel", "--via-sdist"), ("metadata",), ("sdist",))
Command = tuple[str, ...]


@dataclass
class Place:
    """The folders. The files of hookpool are on the disk that may be small."""

    folder: Path

    def __post_init__(self) -> None:
        self.disk = self.folder / "disk"
        self.cache = self.disk / "cache"
        self.tmp = self.disk / "tmp"
        self.out = self.disk / "out"
        self.sources = self.folder / "sources"
        self.wheels = self.folder / "wheels"
        self.stdout = self.folder / "stdout"
        self.stderr = self.folder / "stderr"
        # The last process that was started.
        self.process: subprocess.Popen[str] | None = None

    def stop(self) -> None:
        """End the running process when the soak ends early."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def environment(self, mark: str) -> dict[str, str]:
        """Our variables, with a mark that identifies all descendants."""
        unwanted = ("HOOKPOOL_", "PYTHON", "XDG_", "PIP_", "UV_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        own = {"SOAK_MARK": mark, "TMPDIR": str(self.tmp), "HOME": str(self.folder)}
        # For reproducible files.
        return kept | own | {"SOURCE_DATE_EPOCH": "1577836800"}


@dataclass
class Run:
    """A run from its start to its end."""

    place: Place
    program: Path
    command: Command
    installer: str
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self) -> subprocess.Popen[str]:
        """Start building all sources."""
        place = self.place
        words: list[object] = [self.program, *self.command, *projects.lay(place.sources)]
        if self.command[0] != "metadata":
            words += ["--output-dir", place.out]
        words += ["--format", "json", "--installer", self.installer, "--cache-dir", place.cache]
        words += ["--no-index", "--find-links", place.wheels, "--python", sys.executable]
        words += ["--jobs", 4, "--grace-period", "1s"]
        with place.stdout.open("wb") as stdout, place.stderr.open("wb") as stderr:
            place.process = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=place.environment(self.mark),
                text=True,
            )
        self.process = place.process
        return self.process

    def end(self, codes: set[int]) -> list[str]:
        """Wait for its end. Returns what was wrong with it."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return [f"it had not ended after {PATIENCE:.0f} s", *self._survivors()]
        wrong = [] if code in codes else [f"exit code {code}, expected one of {sorted(codes)}"]
        return wrong + self._survivors()

    def _survivors(self) -> list[str]:
        left = family.survivors(self.mark, 5)
        return [f"process {pid} is left: {line}" for pid, line in left.items()]

    def results(self) -> dict[str, Any]:
        """The successful results by source: the text of metadata, the contents of files."""
        found: dict[str, Any] = {}
        for line in self.place.stdout.read_text().splitlines():
            try:
                result = json.loads(line)
            except ValueError:
                # A killed program leaves an incomplete line.
                continue
            name = Path(result["source"]).name
            if name in found:
                raise ValueError(f"{name} has two answers")
            found[name] = self._of(result) if result["ok"] else None
        return found

    def _of(self, result: dict[str, Any]) -> Any:
        if result["file"] is None:
            return result["metadata"]
        return projects.contents(Path(result["file"]["path"]))

    def leftovers(self) -> list[str]:
        """What should not exist after a successful run."""
        found = [*self.place.tmp.rglob("*"), *self.place.cache.rglob(".draft-*")]
        found += self.place.out.glob(".hookpool-*")
        return [f"{path} is left" for path in found]
