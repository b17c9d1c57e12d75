"""A folder with one of each defect, and what must not change of it."""

import hashlib
import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.drawing import save, texture


def changed(image):
    """A small square painted over: nearly the same, but not quite."""
    copy = image.copy()
    copy[24:34, 60:70] = 240
    return copy


def grain(seed, low, high, side=96, height=None):
    return np.random.default_rng(seed).integers(low, high, (side if height is None else height, side, 3), np.uint8)


def fingerprint(root):
    """Every name below a folder with what must not change of it."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 (strings)
            status = os.lstat(path)
            data = b"" if not os.path.isfile(path) else Path(path).read_bytes()  # noqa: PTH113
            found[path] = (status.st_mode, status.st_mtime_ns, status.st_size, hashlib.sha256(data).hexdigest())
    return found


def make_defects(root):
    """Fill a folder of classes with one of each defect; three classes have 24 whole pictures each."""
    seeds = iter(range(10_000))
    for label in ("cat", "dog", "emu"):
        for number in range(24):
            save(texture(next(seeds)), root / label / f"{number:02}.png")
    whole = (root / "cat/00.png").read_bytes()
    (root / "cat/broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    (root / "cat/empty.png").write_bytes(b"")
    (root / "cat/truncated.png").write_bytes(whole[: len(whole) // 2])
    save(texture(next(seeds)), root / "cat/really.jpg", format="PNG")
    (root / "dog/drawing.jpg").write_text('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>')
    (root / "dog/photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    (root / "dog/raw.nef").write_bytes(b"MM\0*raw")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(texture(next(seeds)), root / "dog/sideways.png", exif=exif)
    save(texture(next(seeds)), root / "dog/unusual.webp", lossless=True)
    (root / "emu/.hidden").mkdir()
    save(texture(0), root / "emu/.hidden/not read.png")
    (root / "emu/Thumbs.db").write_bytes(b"junk")
    (root / "emu/labels.csv").write_text("no image")
    (root / "empty class/deep").mkdir(parents=True)
    (root / "unread").mkdir()
    (root / "unread/page.jpg").write_text("<html>not found</html>")
    for label in ("lone", "Sea Lion", "sea_lion", "test"):
        for _ in range(1 if label == "lone" else 20):
            save(texture(next(seeds)), root / label / f"{next(seeds)}.png")
    save(texture(next(seeds), 20), root / "cat/very small.png")
    save(texture(next(seeds), 300), root / "cat/very large.png")
    save(texture(next(seeds), 150), root / "cat/larger.png")
    save(texture(next(seeds), 48, 192), root / "cat/tall.png")
    dark = grain(0, 0, 60)
    save(dark, root / "dog/dark.png")
    bright = grain(1, 244, 256)
    bright[::6, ::6] = (0, 60, 0)  # 3 % of it, so that it is sharp
    save(bright, root / "dog/bright.png")
    save(texture(0, fastest=1.5), root / "dog/blurred.png")
    checks = (np.indices((96, 96, 1)).sum(0) % 2).astype(np.uint8)
    save(checks * np.array([255, 200, 255], np.uint8), root / "emu/plain.png")
    save(texture(next(seeds), colour=False), root / "emu/grey.png")
    pairs = {name: texture(5000 + number) for number, name in enumerate(
        ("exact within", "exact across", "near within", "same across", "near across"))}  # fmt: skip
    for name, image in pairs.items():
        save(image, root / "cat" / f"{name}.png")
    save(pairs["exact within"], root / "cat/exact within 2.png", compress_level=1)
    save(pairs["exact across"], root / "dog/exact across.png")
    save(changed(pairs["near within"]), root / "cat/near within 2.png")
    save(np.asarray(Image.fromarray(pairs["same across"]).resize((90, 90))), root / "emu/same across.png")
    save(changed(pairs["near across"]), root / "emu/near across.png")
    save(texture(next(seeds)), root / "outside.png")
    if sys.platform == "linux":
        (root / "dog/gone.png").symlink_to(root / "dog/absent.png")
        for form in ("NFC", "NFD"):
            for _ in range(11):
                save(texture(next(seeds)), root / unicodedata.normalize(form, "café") / f"{next(seeds)}.png")
    return root
