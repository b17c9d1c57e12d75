"""The part below the cut: computed once per image and view, kept in the store. May import TensorFlow, models/, data/.

The cut (docs/design.md, section 4) splits the network: below it everything is frozen, above it everything trains. What
is below one cut may itself be computed from what is below a lower one: pixels, a block, the pooled features.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from typing import Any, Protocol, TypeGuard

import keras
import numpy as np
from numpy.typing import NDArray

from imgclf.cut.elsewhere import extract
from imgclf.cut.engine import BATCH, LITERT, build_engine
from imgclf.cut.pixel_source import Pixels
from imgclf.cut.room import LIMIT_VARIABLE, make_room
from imgclf.cut.store import Rows, Space
from imgclf.errors import SetupError
from imgclf.models.build import input_tensors, output_tensor
from imgclf.models.convert import to_tflite
from imgclf.progress import Bar
from imgclf.workers import parallel

Array = NDArray[np.float32]
Positions = NDArray[np.int64]

NO_MATTER = ("name", "trainable", "initializer", "regularizer", "constraint", "seed")  # ends of settings of layers
SAMPLE = 8  # images that an engine is chosen by
LIBRARIES = (
    "tensorflow",
    "keras",
    "keras-cv",
    "ai-edge-litert",
    "pillow",
)  # another version may compute another activation


class Source(Protocol):
    """Something that gives inputs of a network for images and views."""

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the inputs, besides image and view."""

    @property
    def count(self) -> int:
        """Number of images."""

    def keys(self, view: int) -> list[str]:
        """A name for each image in that view."""

    def batches(self, view: int, positions: Positions) -> Iterator[Array]:
        """Inputs float32 `(n, ...)` of some images, BATCH at a time."""


class Activations:
    """What a frozen network makes of images and views; itself a source for the next network.

    Attributes:
        shape: of one image's activations.
        computed: how many were computed; the others were in the store.
        engine: what computed them; "" where none was needed.
        seconds: how long it took.
    """

    def __init__(self, source: Source, space: Space, rows: dict[int, Rows]) -> None:
        self._source, self._space, self._rows = source, space, rows
        self.shape = space.shape
        self.computed, self.engine, self.seconds = 0, "", 0.0

    @property
    def count(self) -> int:
        """Number of images."""
        return self._source.count

    @property
    def views(self) -> tuple[int, ...]:
        """The views there are."""
        return tuple(self._rows)

    @property
    def identity(self) -> dict[str, Any]:
        """Of the space, which stands for everything below it."""
        return {"space": self._space.name, "engine": self._space.about().get("engine", self.engine)}

    def keys(self, view: int) -> list[str]:
        """Those of the source."""
        return self._source.keys(view)

    def take(self, view: int, positions: Positions) -> Array:
        """Activations float32 `(n, ...)` of some images in one view."""
        return self._rows[view].take(positions)

    def batches(self, view: int, positions: Positions) -> Iterator[Array]:
        """As `take`, BATCH at a time."""
        for at in range(0, len(positions), BATCH):
            yield self.take(view, positions[at : at + BATCH])

    def array(self, view: int = 0) -> Array:
        """All images of one view."""
        return self.take(view, np.arange(self.count))


@dataclass(frozen=True)
class Wanted:
    """One computation: what of.

    Attributes:
        source: of the inputs.
        views: which of them.
    """

    source: Source
    views: Sequence[int]


def compute(model: Any, what: str, wanted: Sequence[Wanted], bar: Bar | None = None) -> list[Activations]:
    """Run a frozen network over what the store does not have yet.

    Args:
        model: functional, one input and one output.
        what: the network and the cut, for `imgclf cache info`.
        wanted: the images of each part, with the views; their sources must be of one kind.
        bar: told of every image done, those that were there already among them.

    Returns:
        The activations of each.

    Raises:
        InputError: the limit of the store is no number.
        SetupError: another process removed from the store what this one needs.
    """
    start = time.perf_counter()
    shape = tuple(int(side) for side in model.output_shape[1:])
    # maps are many and large, and half the bits are plenty for them; vectors are few and exact
    identity = {
        "network": fingerprint(model), "source": wanted[0].source.identity,
        "versions": [metadata.version(name) for name in LIBRARIES],
    }  # fmt: skip
    space = Space(identity, shape, "float16" if len(shape) > 1 else "float32")

    def look_up() -> dict[tuple[int, int], Rows]:
        return {(number, view): space.find(item.source.keys(view))
                for number, item in enumerate(wanted) for view in item.views}  # fmt: skip

    found = look_up()
    missing, engine = sum(len(rows.missing) for rows in found.values()), ""
    if missing:
        make_room(missing * space.row_bytes)
        found = look_up()  # what was there may have had to go
        missing = sum(len(rows.missing) for rows in found.values())
    todo = {place: np.array(rows.missing) for place, rows in found.items() if rows.missing}
    if bar is not None:
        bar.update(sum(map(len, found.values())) - missing)
    if todo:
        engine = _compute(model, what, space, [(wanted[number].source, view, positions)
                                               for (number, view), positions in todo.items()], bar)  # fmt: skip
    results = []
    for number, item in enumerate(wanted):
        rows = {view: space.find(item.source.keys(view)) if (number, view) in todo else found[number, view]
                for view in item.views}  # fmt: skip
        if any(view.missing for view in rows.values()):
            raise SetupError(f"activations were removed from {space.folder.parent} while they were computed",
                             f"allow more with {LIMIT_VARIABLE}, in gigabytes")  # fmt: skip
        result = Activations(item.source, space, rows)
        result.computed = sum(len(positions) for (of, _), positions in todo.items() if of == number)
        result.engine, result.seconds = engine, time.perf_counter() - start
        results.append(result)
    return results


def _compute(
    model: Any, what: str, space: Space, jobs: list[tuple[Source, int, Positions]], bar: Bar | None
) -> str:  # fmt: skip
    # read apart and to its end: the thread that tunes a dataset holds up the end of one that is left half read, by 20 s
    source, view, positions = jobs[0]
    sample = np.concatenate(list(source.batches(view, positions[:SAMPLE])))
    known = str(space.about().get("engine", ""))
    engine = build_engine(model, sample, known, space.network)
    space.describe(what=what, engine=engine.name)
    images = [(source, view, positions) for source, view, positions in jobs if _can_travel(source, view)]
    if engine.name == LITERT and parallel.is_elsewhere() and len(images) == len(jobs):
        found = extract(space.network(lambda: to_tflite(model)), images)
    else:
        keys = [key for source, view, positions in jobs for key in _picked(source.keys(view), positions)]
        inputs = chain.from_iterable(source.batches(view, positions) for source, view, positions in jobs)
        found = _with_keys(keys, engine.map(inputs))
    done = 0
    with space.writing() as writer:
        for names, rows in found:
            writer.add(names, rows)
            done += len(rows)
            if bar is not None:
                bar.update(len(rows))
    total = sum(len(positions) for _, _, positions in jobs)
    assert done == total, f"{done} images of {total} were computed"
    return engine.name


def _can_travel(source: Source, view: int) -> TypeGuard[Pixels]:
    """Whether another machine can make the same inputs: it has the files, not this machine's store."""
    return isinstance(source, Pixels) and (view == 0 or source.by_image)


def _with_keys(keys: list[str], batches: Iterable[Array]) -> Iterator[tuple[list[str], Array]]:
    done = 0
    for rows in batches:
        yield keys[done : done + len(rows)], rows
        done += len(rows)


def _picked(names: list[str], positions: Positions) -> list[str]:
    return [names[position] for position in positions]


def fingerprint(model: Any) -> str:
    """A hash of what a network computes: its operations, how they hang together, every weight; 32 hexadecimal digits.

    Names do not count: Keras numbers some of them by what else the process has built.
    """
    digest = hashlib.blake2b(digest_size=16)
    numbers: dict[int, int] = {}
    for number, operation in enumerate(model.operations):
        inputs = [numbers.get(id(tensor), -1) for tensor in input_tensors(operation)]
        config = {} if isinstance(operation, keras.Model) else operation.get_config()
        facts = {key: value for key, value in sorted(config.items()) if not key.endswith(NO_MATTER)}
        digest.update(f"{type(operation).__name__} {inputs} {facts}".encode())
        if isinstance(operation, keras.Model):
            digest.update(fingerprint(operation).encode())
        numbers[id(output_tensor(operation))] = number
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).data)
    return digest.hexdigest()
