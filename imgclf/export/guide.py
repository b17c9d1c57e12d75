"""exports/README.md: which file to ship, how good it is, and how apps use it. May import runs and Jinja2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from imgclf import runs
from imgclf.export.catalog import FORMATS
from imgclf.export.golden import FOLDER as GOLDEN
from imgclf.export.golden import write_golden
from imgclf.export.results import RESULTS
from imgclf.export.verify import Exported, Reference
from imgclf.export.web import VERSION, refresh_web
from imgclf.markdown import plain

NAME = "README.md"
TASKS_ANDROID = "0.10.26"  # that the snippet was written for


def write_for_apps(run: runs.Run, rows: Sequence[Exported], reference: Reference) -> None:
    """Write what people need who put the files into an app: the guide, and images to test it with."""
    if rows:
        write_golden(run / runs.EXPORTS, rows, reference)
        refresh_web(run)
        write_guide(run)


def write_guide(run: runs.Run) -> Path | None:
    """Write the guide from verify.json; None where no file may be shipped."""
    folder = run / runs.EXPORTS
    found: dict[str, Any] = runs.read_json(folder / RESULTS)
    name = found["recommended"]
    if name is None:
        (folder / NAME).unlink(missing_ok=True)
        return None
    files = found["files"]
    text = _environment().get_template("guide.md.j2").render(
        file=files[name], kind=FORMATS[name], files=files, formats=FORMATS, keras=found["keras"],
        classes=[plain(label) for label in run.outputs], run=plain(run.root.name), golden=GOLDEN,
        unknown=len(run.outputs) > len(run.classes),
        android=TASKS_ANDROID, web=VERSION,
    )  # fmt: skip
    return runs.write_text(folder / NAME, text)


def _environment() -> Environment:
    # Markdown, not HTML: names are made harmless by `markdown.plain`
    return Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)  # fmt: skip
