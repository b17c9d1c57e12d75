"""Predictions of many images, streamed into a folder of Parquet files that can be gone on with. May import predict,
data/parquet, workers/, storage/ and what is below; pyarrow (extra `parquet`) when it writes.

Files are complete or not there: a kill costs what was not yet written, and the same command goes on from there. The
folder may be at an address.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgclf import predict, runs
from imgclf.data.parquet import import_pyarrow
from imgclf.errors import InputError
from imgclf.predict import Prediction, Predictor, Skipped
from imgclf.progress import plural, track
from imgclf.storage.patience import Missing
from imgclf.storage.places import Address, place
from imgclf.storage.readers import side_by_side
from imgclf.workers.parallel import each_item

ABOUT = "_about.json"  # readers of Parquet folders pass over names that begin with an underscore
# A file is written when it has so many rows, or so much time has passed: what a kill costs.
ROWS = 20_000
SECONDS = 60.0
AT_ONCE = 64  # images of one piece of work on another machine
TIMEOUT = 600.0  # seconds for it; the first one may import TensorFlow

Answer = Prediction | Skipped


@dataclass(frozen=True)
class Written:
    """What a call did.

    Attributes:
        folder: of the Parquet files.
        images: how many have a row now.
        before: of them, how many had one before.
        skipped: how many rows are errors.
    """

    folder: Path
    images: int
    before: int
    skipped: int

    def __str__(self) -> str:
        before = f", {self.before} of them from before" if self.before else ""
        return f"{plural(self.images, 'image')} in {self.folder}{before}"


def write(model: Path, images: Sequence[Path], folder: Path, answers: "Answers") -> Written:
    """Predict images that have no row yet and write their rows.

    The columns: `path`, `class`, `probability` (float32, of the class), `probabilities` (list of float32, in the order
    of `classes` in the files' metadata), `error` (why an image has none of these). Order is not kept.

    Args:
        model: what predicts; another model's rows are not added to.
        images: all of them, also those that have a row.
        folder: is made; or an earlier call's; a path or an address.
        answers: how images are predicted.

    Raises:
        InputError: the folder holds something else, or another model's predictions, or cannot be written.
        SetupError: pyarrow is missing, or the disk or the server does not take the files.
    """
    pyarrow, _ = import_pyarrow()
    folder = place(folder)
    about = {"model": _fingerprint(model), "classes": list(answers.predictor.classes)}
    done, skipped = _begin(folder, about, pyarrow)
    todo = [path for path in images if _name(path) not in done]
    schema = _schema(pyarrow, answers.predictor.classes)
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    try:
        for answer in track(answers.each(todo), "predicting", len(todo)):
            rows.append(_row(answer))
            skipped += isinstance(answer, Skipped)
            if len(rows) >= ROWS or time.monotonic() - began > SECONDS:
                _write_part(folder, rows, schema, pyarrow)
                rows, began = [], time.monotonic()
    finally:
        if rows:
            _write_part(folder, rows, schema, pyarrow)
    return Written(folder, len(images), len(images) - len(todo), skipped)


@dataclass(frozen=True)
class Answers:
    """Predicts images, here or on other machines.

    Attributes:
        model: the file or run folder.
        predictor: the same, opened.
        elsewhere: whether other machines do it; see `parallel.done_by`.
    """

    model: Path
    predictor: Predictor
    elsewhere: bool = False

    def each(self, images: Sequence[Path]) -> Iterator[Answer]:
        """Every image once; in their order where this machine does it."""
        if not self.elsewhere:
            yield from self.predictor.each(images)
            return
        for _, answer in self._elsewhere(images):
            yield answer

    def in_order(self, images: Sequence[Path]) -> Iterator[Answer]:
        """Every image once, in their order."""
        if not self.elsewhere:
            yield from self.predictor.each(images)
            return
        early: dict[int, Answer] = {}
        following = 0
        for position, answer in self._elsewhere(images):
            early[position] = answer
            while following in early:
                yield early.pop(following)
                following += 1

    def _elsewhere(self, images: Sequence[Path]) -> Iterator[tuple[int, Answer]]:
        classify = Classify.of(self.model, self.predictor)
        chunks = [range(at, min(at + AT_ONCE, len(images))) for at in range(0, len(images), AT_ONCE)]
        alone: list[range] = []
        for chunk, answers in _answered(classify, images, chunks):
            if isinstance(answers, str):  # one of them ends its worker; which one is found by asking for each alone
                alone += [range(position, position + 1) for position in chunk]
                continue
            yield from zip(chunk, answers, strict=True)
        for chunk, answers in _answered(classify, images, alone):
            (position,) = chunk
            yield position, Skipped(images[position], answers) if isinstance(answers, str) else answers[0]


def _answered(
    classify: "Classify", images: Sequence[Path], chunks: Sequence[range]
) -> Iterator[tuple[range, list[Answer] | str]]:
    jobs = [Job(tuple(str(images[position]) for position in chunk)) for chunk in chunks]
    if not jobs:
        return
    found = each_item(classify, jobs, title="", item_timeout=TIMEOUT, memory=None, anywhere=True)
    for number, result in found:
        yield chunks[number], result.value if result.value is not None else result.error or "nothing came back"


@dataclass(frozen=True)
class Job:
    """Images of one piece of work.

    Attributes:
        paths: as every machine sees them.
    """

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Classify:
    """Job -> an answer for each of its images; the model is kept from one call to the next.

    Attributes:
        model: a run folder or .keras file that every machine sees; for a .tflite, its name.
        content: of a .tflite.
        classes: in the order of the outputs.
    """

    model: str
    content: bytes | None
    classes: tuple[str, ...]
    kept: dict[str, Predictor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, model: Path, predictor: Predictor) -> "Classify":
        """For a model that has been opened."""
        content = model.read_bytes() if model.suffix.lower() == ".tflite" and model.is_file() else None
        return cls(str(model.absolute()), content, predictor.classes)

    def __call__(self, job: Job) -> list[Answer]:
        """Read and predict."""
        if not self.kept:
            self.kept["predictor"] = self._open()
        return list(self.kept["predictor"].each([place(path) for path in job.paths]))

    def _open(self) -> Predictor:
        if self.content is None:
            return predict.load(Path(self.model))
        from imgclf.models.litert import LiteModel

        lite = LiteModel(self.content, self.model, threads=1)
        return Predictor(Path(self.model), self.classes, lite.input_shape, lite.run)


def _row(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Skipped):
        return {"path": _name(answer.path), "error": answer.reason}
    return {"path": _name(answer.path), "class": answer.label, "probability": answer.probability,
            "probabilities": answer.scores}  # fmt: skip


def _schema(pyarrow: Any, classes: Iterable[str]) -> Any:
    fields = [
        ("path", pyarrow.string()), ("class", pyarrow.string()), ("probability", pyarrow.float32()),
        ("probabilities", pyarrow.list_(pyarrow.float32())), ("error", pyarrow.string()),
    ]  # fmt: skip
    return pyarrow.schema(fields, metadata={"classes": json.dumps(list(classes))})


def _write_part(folder: Path, rows: list[dict[str, Any]], schema: Any, pyarrow: Any) -> None:
    # the name says what is in it: the same rows written twice are one file
    digest = hashlib.blake2b("\n".join(row["path"] for row in rows).encode(), digest_size=8)
    table, sink = pyarrow.Table.from_pylist(rows, schema=schema), pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    _write(folder / f"part-{digest.hexdigest()}.parquet", sink.getvalue().to_pybytes())


def _write(path: Path, data: bytes) -> None:
    """Write a file or an object, as a whole or not at all."""
    if isinstance(path, Address):
        from imgclf.storage.returning import put

        put(path, data)
        return
    with runs.writing(path) as temporary:
        temporary.write_bytes(data)


def _begin(folder: Path, about: dict[str, Any], pyarrow: Any) -> tuple[set[str], int]:
    """Make the folder, or open an earlier call's; the paths that have a row, and how many rows are errors."""
    if isinstance(folder, Address):
        from imgclf.storage.mirror import require_writable
        from imgclf.storage.returning import require_permission

        require_writable(folder)
        require_permission(folder)
    there = _files_in(folder)
    if there is None:
        _write(folder / ABOUT, json.dumps(about, indent=2).encode())
        return set(), 0
    if ABOUT not in there:
        raise InputError(f"{folder} is there and holds no predictions of imgclf", "name a new folder with --out")
    with contextlib.suppress(ValueError):
        if runs.read_json(there[ABOUT]) != about:
            raise InputError(f"{folder} holds the predictions of another model", "name a new folder with --out")

    def columns(file: Path) -> Any:
        return pyarrow.parquet.read_table(pyarrow.BufferReader(file.read_bytes()), columns=["path", "error"])

    done: set[str] = set()
    errors = 0
    parts = [file for name, file in sorted(there.items()) if name.startswith("part-") and name.endswith(".parquet")]
    for table in side_by_side(columns, parts):
        done.update(table.column("path").to_pylist())
        errors += len(table) - table.column("error").null_count
    return done, errors


def _files_in(folder: Path) -> dict[str, Path] | None:
    """What lies in a folder, by name; None if there is no such folder, which in a bucket is one without objects."""
    try:
        return {file.name: file for file in folder.iterdir()}
    except (FileNotFoundError, Missing):
        return None
    except NotADirectoryError:
        raise InputError(f"{folder} is a file", "name a new folder with --out") from None


def _fingerprint(model: Path) -> str:
    """A hash of the file, or of the model of a run."""
    file = model / runs.MODEL if model.is_dir() else model
    digest = hashlib.blake2b(digest_size=16)
    with file.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _name(path: Path) -> str:
    r"""A path as Parquet's UTF-8 can hold it: bytes of a name that are none are written as \udcXX."""
    return str(path).encode("utf-8", "backslashreplace").decode()
