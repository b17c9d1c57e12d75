"""exports/web: a page that runs the file to ship in a browser, from any static host. May import runs.

The page is as it lies in web_page/; what is in it of this run is model.json, so that no name is ever read as HTML.
MediaPipe's web runtime lies beside it where its npm package is installed, else the page takes it from a fixed address.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from imgclf import runs
from imgclf.errors import InputError
from imgclf.export.golden import FOLDER as GOLDEN
from imgclf.export.golden import INDEX
from imgclf.export.results import RESULTS

WEB = "web"  # the folder, and how people ask for it
INDEX_PAGE, FACTS = "index.html", "model.json"
ASSETS = ("page.css", "page.js", "pixels.js", "offline.js", "icon.svg")

PACKAGE = "@mediapipe/tasks-vision"
# The last version that reports nothing to its makers; later ones do, where the page's policy lets them.
VERSION = "0.10.35"
CDN = "https://cdn.jsdelivr.net"
BUNDLE, WASM = "vision_bundle.mjs", ("vision_wasm_internal.js", "vision_wasm_internal.wasm")

# The page may load nothing from elsewhere and tell nobody anything.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{cdn}; connect-src 'self'{cdn}; style-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'"
)


def write_web(run: runs.Run) -> Path:
    """Write the page for the file to ship of a run that was exported; an earlier page is replaced.

    Returns:
        The folder exports/web.

    Raises:
        InputError: no file may be shipped, or the network reads grey images, which MediaPipe does not know.
        SetupError: the disk is full or cannot be written.
    """
    exports = run / runs.EXPORTS
    facts = _facts(run, exports)
    package = find_package()
    folder, partial = exports / WEB, exports / f".{WEB}-partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        facts["runtime"] = _put_runtime(package, partial)
        shutil.copyfile(exports / facts["file"], partial / facts["file"])
        for example in facts["examples"]:
            place = partial / example["image"]
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(exports / GOLDEN / place.name, place)
        page = files("imgclf.export").joinpath("web_page")
        for name in ASSETS:
            (partial / name).write_bytes(page.joinpath(name).read_bytes())
        policy = POLICY.format(cdn="" if package else f" {CDN}")
        html = page.joinpath(INDEX_PAGE).read_text(encoding="utf-8")
        html = html.replace("{{ policy }}", policy).replace("{{ title }}", escape(run.root.resolve().name))
        (partial / INDEX_PAGE).write_bytes(html.encode("utf-8", "replace"))
        (partial / FACTS).write_text(json.dumps(facts), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise runs.disk_error(error, folder) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def refresh_web(run: runs.Run) -> None:
    """Write the page anew where there is one, so that it never shows an earlier model."""
    if (run / runs.EXPORTS / WEB).is_dir():
        try:
            write_web(run)
        except InputError:  # nothing is to be shipped any more
            shutil.rmtree(run / runs.EXPORTS / WEB)


def find_package() -> Path | None:
    """The npm package of MediaPipe's web runtime, where Node.js would find it; None where it is not installed.

    See https://nodejs.org/api/modules.html#loading-from-node_modules-folders; npm's global folder is looked into too.
    """
    for folder in _node_modules():
        package = folder / PACKAGE
        if all((package / name).is_file() for name in (BUNDLE, *(f"wasm/{name}" for name in WASM))):
            return package
    return None


def _node_modules() -> Iterator[Path]:
    here = Path.cwd()
    for folder in (here, *here.parents):
        yield folder / "node_modules"
    for name in filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep)):
        yield Path(name)
    npm = shutil.which("npm")
    if npm is not None:
        try:
            found = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return
        if found.stdout.strip():
            yield Path(found.stdout.strip())


def _put_runtime(package: Path | None, folder: Path) -> dict[str, str]:
    """Put MediaPipe into the page's folder, or say where on the web it is."""
    if package is None:
        address = f"{CDN}/npm/{PACKAGE}@{VERSION}"
        return {"version": VERSION, "bundle": f"{address}/{BUNDLE}", "wasm": f"{address}/wasm"}
    inside = folder / "mediapipe"
    (inside / "wasm").mkdir(parents=True)
    shutil.copyfile(package / BUNDLE, inside / BUNDLE)
    for name in WASM:
        shutil.copyfile(package / "wasm" / name, inside / "wasm" / name)
    return {"version": str(runs.read_json(package / "package.json").get("version", "")),
            "bundle": f"./mediapipe/{BUNDLE}", "wasm": "mediapipe/wasm"}  # fmt: skip


def _facts(run: runs.Run, exports: Path) -> dict[str, Any]:
    """What the page is told of the model."""
    from imgclf.models.litert import LiteModel

    found = runs.read_json(exports / RESULTS)
    if found["recommended"] is None:
        raise InputError(f"{run.root} has no file that may be shipped", f"see {exports / RESULTS}")
    row = found["files"][found["recommended"]]
    height, width, channels = LiteModel(exports / row["path"], threads=1).input_shape
    if channels != 3:
        raise InputError(f"{run.root} reads grey images, which MediaPipe does not know", "train with --color rgb")
    examples = []
    if (exports / GOLDEN / INDEX).is_file():
        golden = runs.read_json(exports / GOLDEN / INDEX)
        examples = [
            {"image": f"examples/{entry['image']}", "label": entry["label"], "scores": entry["scores"][row["path"]]}
            for entry in golden["images"] if row["path"] in entry["scores"]
        ]  # fmt: skip
    litert = row["litert"]
    return {
        "file": row["path"], "bytes": row["bytes"], "width": width, "height": height,
        "classes": run.outputs, "known": len(run.classes),
        "accuracy": litert["accuracy"], "low": litert["low"], "high": litert["high"], "n": litert["n"],
        "examples": examples, "offline": True,
    }  # fmt: skip
