"""Shared material: a small drawn set of photos, one tiny training on it, and the real images where they are."""

import contextlib
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Two processes of tests share two cores; with threads of their own for tiny tensors each waits for the other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser

# Started in the background, a shell may have Ctrl-C ignored, and every child would inherit that.
with contextlib.suppress(ValueError):  # not in the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(os.environ.get("IMGCLF_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests measure out of the user's cache."""
    os.environ["IMGCLF_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", autouse=True)
def nothing_left_over() -> Iterator[None]:
    """Give back what the networks of a module took; left to Python, a process of the suite grows to 5 GB."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
        gc.collect()


def draw(label: int, seed: int, side: int = 48) -> Image.Image:
    """A bright disc (0), bar (1) or frame (2) on noise: learnable in a few epochs, whatever colour and place."""
    rng = np.random.default_rng((label, seed))
    picture = rng.integers(0, 90, (side, side, 3)).astype(np.uint8)
    y, x = np.mgrid[:side, :side] - rng.integers(side // 3, 2 * side // 3, (2, 1, 1))
    radius = rng.integers(side // 6, side // 4)
    shapes = (
        x**2 + y**2 < radius**2,
        (abs(x) < radius // 3) & (abs(y) < 2 * radius),
        (np.maximum(abs(x), abs(y)) < radius) & (np.maximum(abs(x), abs(y)) > radius * 0.6),
    )
    picture[shapes[label]] = rng.integers(150, 256, 3)
    return Image.fromarray(picture)


def write_photos(root: Path, classes: tuple[str, ...], each: int) -> Path:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            draw(label, number).save(root / name / f"{name} {number}.png")
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 small pictures, one of them unreadable, one sideways, and some junk."""
    root = write_photos(tmp_path_factory.mktemp("data") / "photos", ("bar & co", "disc", "frame"), 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(1, 100).save(root / "disc" / "sideways.jpg", exif=exif)
    (root / "disc" / "broken.jpg").write_bytes((root / "disc" / "sideways.jpg").read_bytes()[:300])
    (root / "disc" / "Thumbs.db").write_bytes(b"junk")
    return root


@pytest.fixture(scope="session")
def two_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 14 small pictures."""
    return write_photos(tmp_path_factory.mktemp("data") / "two", ("disc", "frame"), 14)


TINY = ["--backbone", "tiny", "--image-size", "32", "--epochs", "6", "--batch-size", "8", "--augment", "none"]
FORMATS = ["--formats", "float32,float16,dynamic,int8"]


def imgclf(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "imgclf", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **environment}, check=False, timeout=600,
    )  # fmt: skip


def until(happened: Callable[[], object], process: "subprocess.Popen[Any]") -> None:
    """Wait until something has happened, or the process that is to bring it about has ended."""
    while not happened():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            return


def imgclf_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which has TensorFlow already: what `imgclf` does in a third of the time."""
    from imgclf.cli.main import run
    from imgclf.progress import set_quiet

    words = [str(argument) for argument in arguments]
    code, out, err = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            set_quiet(False)  # --quiet lasts as long as the process
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def training(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One training of the tiny network through the command line: the run folder and what was printed."""
    out = tmp_path_factory.mktemp("runs") / "first"
    done = imgclf("train", photos, "--out", out, *TINY, *FORMATS)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.fixture
def run(training: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    """The run folder of `training`; to be read only."""
    return training[0]


@pytest.fixture
def run_copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run folder, to be changed at will."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests, each of which opens pages of its own; mark them `needs_chromium` and `browser`."""
    chromium = Browser(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real images and weights, unpacked; tests with it are marked `shared`."""
    unpack = SHARED / "unpack.py"
    if not unpack.is_file():
        pytest.skip(f"needs the real images of {SHARED} (environment variable IMGCLF_SHARED)")
    place = tmp_path_factory.mktemp("shared")
    subprocess.run([sys.executable, unpack, place], check=True)
    return place
