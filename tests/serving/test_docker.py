"""What docker/Dockerfile installs is what serving a .tflite file needs, in the package's own ranges."""

import json
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTED = re.compile(r'"([\w-]+)([<>=][^"]*)"')

CODE = """
import json, sys
from pathlib import Path
import imgclf.cli.main, imgclf.cli.serve
from imgclf.serving import app, connections, limits, start
from imgclf.serving.model import open_model
open_model(Path(sys.argv[1]))
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def with_their_own(names: set[str]) -> set[str]:
    """Distributions with all that they need and is installed."""
    found, left = set(), list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            with suppress(PackageNotFoundError):  # for another Python or system
                needed = [text for text in requires(name) or () if "extra ==" not in text]
                left += [plain(re.split(r"[^\w.-]", text)[0]) for text in needed]
    return found


def test_the_list_has_what_is_imported_in_the_ranges_of_the_package(run: Path) -> None:
    listed = LISTED.findall((ROOT / "docker" / "Dockerfile").read_text())
    assert len(listed) >= 9
    package = (ROOT / "pyproject.toml").read_text()
    assert [f'"{name}{versions}"' for name, versions in listed if f'"{name}{versions}"' not in package] == []
    model = run / "exports" / "model_float32.tflite"
    done = subprocess.run([sys.executable, "-c", CODE, model], check=True, capture_output=True, text=True)
    owners = packages_distributions()
    imported = {plain(owners[name][0]) for name in json.loads(done.stdout) if name in owners}
    assert imported - {"imgclf", "setuptools"} <= with_their_own({plain(name) for name, _ in listed})
    assert "tensorflow" not in imported
