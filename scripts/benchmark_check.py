"""How fast the dataset doctor is: images a second for each of its steps, on a folder of images.

    python scripts/benchmark_check.py photos [--repeat 3]

Everything runs in a cache of its own, so that nothing is known beforehand. Steps are repeated in turn, and the median
counts: other work on the machine then meets all of them.
"""

import argparse
import hashlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

from imgclf import pixels, progress
from imgclf.data.imageset import ImageSet
from imgclf.data.inspect import ENOUGH_SIDE, inspect
from imgclf.data.known import Known
from imgclf.data.looks import look
from imgclf.data.scan import scan
from imgclf.data.shortcuts import find_shortcuts
from imgclf.data.similar import find_pairs
from imgclf.data.split import assign_parts
from imgclf.data.stage import stage
from imgclf.workers import parallel


def hash_file(path: str) -> str:
    return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()


def decode_file(path: str) -> bool:
    try:
        pixels.read(Path(path), ENOUGH_SIDE)
    except pixels.UnreadableImage:
        return False
    return True


def look_at_file(path: str) -> bool:
    try:
        decoded = pixels.read(Path(path), ENOUGH_SIDE)
    except pixels.UnreadableImage:
        return False
    look(decoded.pixels, 0)
    return True


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def steps(folder: Path, images: ImageSet, scratch: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every step with what it does; what one needs of another is made in between."""
    paths = [str(image.path) for image in images.images]
    yield "scan", partial(scan, folder)
    own = import_module(Path(__file__).stem)  # workers know this file by its name, not as __main__
    for name, work in (("hash", own.hash_file), ("decode", own.decode_file), ("decode, measure", own.look_at_file)):
        yield name, partial(parallel.map_items, work, paths, title=name)
    with Known.open(scratch / "cache") as known:
        yield "inspect, first time", partial(inspect, images, known=known)
        inspected = inspect(images, known=known)
        yield "inspect, second time", partial(inspect, images, known=known)
        yield "find nearly the same pictures", partial(find_pairs, inspected.usable, known)
        yield "find shortcuts", partial(find_shortcuts, inspected.usable, known)
        pairs = find_pairs(inspected.usable, known)
    yield "split", partial(assign_parts, inspected, pairs=pairs)
    yield "stage at 224 px", partial(stage, assign_parts(inspected, pairs=pairs), scratch / "stage", (224, 224))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    progress.set_quiet(True)
    images = scan(arguments.data)
    paths = [str(image.path) for image in images.images]
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(arguments.repeat):
            for name, work in steps(arguments.data, images, Path(scratch) / str(turn)):
                seconds.setdefault(name, []).append(timed(work))
    print(f"{arguments.data}: {len(paths)} files, {parallel.cpu_count()} processors, median of {arguments.repeat}")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"  {name:<30} {middle:8.2f} s  {len(paths) / middle:10.0f} images/s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"  largest process: {peak[0] / 1024:.0f} MB itself, {peak[1] / 1024:.0f} MB of a worker")


if __name__ == "__main__":
    main()
