"""The build function, which a real project would let npm do."""

from pathlib import Path

NUMBER = 1


def build(target_name, version, greeting):
    """Write what browsers get."""
    folder = Path("src/uses_jupyter_builder/static")
    folder.mkdir(exist_ok=True)
    (folder / "index.js").write_text(f"// {greeting} {NUMBER} {target_name} {version}\n")
