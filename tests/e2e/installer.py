"""A replacement for uv that installs test packages and can wait at a gate."""

from __future__ import annotations

import sys
from pathlib import Path

from gate import Gate

# Writes half of a package, runs the code of the test, and writes the other half.
PROGRAM = """\
#!{python}
import os, pathlib, sys
if sys.argv[1:3] != ["pip", "install"]:
    sys.exit("unknown: " + " ".join(sys.argv))
with open({calls!r}, "a") as calls:
    calls.write("called\\n")
# Like an installer that is killed: only its caller can remove it.
pathlib.Path(os.environ["TMPDIR"], "unpacked").write_text("left behind")
if "--prefix" in sys.argv:
    prefix = pathlib.Path(sys.argv[sys.argv.index("--prefix") + 1])
else:
    prefix = pathlib.Path(sys.argv[sys.argv.index("--python") + 1]).parent.parent
site = prefix / "lib/python{{}}.{{}}/site-packages".format(*sys.version_info)
site.mkdir(parents=True, exist_ok=True)
if {named!r}:
    # As the requirement is called.
    words = open(sys.argv[sys.argv.index("--requirement") + 1]).read().split()
    (name,) = [word.partition("==")[0] for word in words if word.startswith("tool-")]
    info = site / (name.replace("-", "_") + "-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: " + name + "\\nVersion: 1.0\\n")
    (info / "RECORD").write_text("")
    sys.exit()
package = site / "sample_tool"
package.mkdir()
(package / "__init__.py").write_text("from sample_tool.second import VALUE\\n")
exec({between!r})
if {fails!r}:
    sys.exit("it fails")
(package / "second.py").write_text("VALUE = 'whole'\\n")
info = site / "sample_tool-1.0.dist-info"
info.mkdir()
(info / "METADATA").write_text("Metadata-Version: 2.1\\nName: sample-tool\\nVersion: 1.0\\n")
(info / "RECORD").write_text("")
"""


class Installer:
    """The installer; `hookpool` finds it by the variable UV."""

    def __init__(
        self,
        folder: Path,
        gate: Gate | None = None,
        named_by_requirement: bool = False,
        fails: bool = False,
    ) -> None:
        self._calls = folder / "installer-calls"
        program = folder / "uv"
        between = "" if gate is None else gate.code
        text = PROGRAM.format(
            python=sys.executable,
            calls=str(self._calls),
            between=between,
            named=named_by_requirement,
            fails=fails,
        )
        program.write_text(text)
        program.chmod(0o700)
        self.env = {"UV": str(program)}

    @property
    def calls(self) -> int:
        """The number of times that it was started."""
        return len(self._calls.read_text().splitlines()) if self._calls.exists() else 0
