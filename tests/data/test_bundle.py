import io
import os
import struct
import sys
import tarfile
import time
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgclf.data import bundle, members
from imgclf.data.bundle import extract, holds_images, is_bundle, open_bundle
from imgclf.data.filenames import MAX_NAME, safe_name, within_depth
from imgclf.data.scan import scan
from imgclf.data.unpack import unpack
from imgclf.errors import InputError, SetupError
from tests.conftest import imgclf_here

posix = pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not have")


def png(level: int = 0) -> bytes:
    content = io.BytesIO()
    Image.new("L", (4, 4), level).save(content, "PNG")
    return content.getvalue()


PHOTOS = {"photos/cat/1.png": png(1), "photos/cat/2.png": png(2), "photos/dog/1.png": png(3)}


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename, info.compress_type = name, method  # as it is, also what ZipInfo would mend
            archive.writestr(info, content)
    return path


def tarred(path: Path, files: dict[str, bytes], packing: str = "", extra: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, f"w:{packing}") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nothing_left(folder: Path) -> bool:
    return not list(folder.glob(".*")) and not (folder / "out").exists()


# --- what an archive is


@pytest.mark.parametrize("packing, suffix", [("", ".tar"), ("gz", ".tar.gz"), ("gz", ".TGZ"), ("bz2", ".tar.bz2"),
                                             ("xz", ".tar.xz")])  # fmt: skip
def test_tars_of_every_packing(tmp_path, packing, suffix):
    path = tarred(tmp_path / f"set{suffix}", PHOTOS, packing)
    assert is_bundle(path)
    assert tree(open_bundle(path, tmp_path / "cache")) == PHOTOS


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_every_packing(tmp_path, method):
    assert tree(open_bundle(zipped(tmp_path / "set.zip", PHOTOS, method), tmp_path / "cache")) == PHOTOS


@pytest.mark.parametrize("make", [zipped, tarred, lambda path, files: tarred(path, files, "gz")])
def test_the_content_tells_what_an_archive_is_whatever_its_name(tmp_path, make):
    for name in ("download", "wrong.zip", "wrong.tar.xz"):
        path = make(tmp_path / name, PHOTOS)
        assert is_bundle(path)
        assert extract(path, tmp_path / f"{name} out") == 3


def test_a_tar_that_begins_like_something_else(tmp_path):
    assert extract(tarred(tmp_path / "set", {"BZhang/1.png": png(), "other/1.png": png()}), tmp_path / "out") == 2
    zip_in_tar = zipped(tmp_path / "inner.zip", PHOTOS).read_bytes()
    path = tarred(tmp_path / "set.tar", {**PHOTOS, "photos/last.zip": zip_in_tar})
    assert extract(path, tmp_path / "out 2") == 3


def test_other_files_are_no_archives(tmp_path):
    (tmp_path / "a.jpg").write_bytes(png())
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "b.gz").write_bytes(b"\x1f\x8b no gzip")
    (tmp_path / "folder.zip").mkdir()
    assert not any(is_bundle(path) for path in tmp_path.iterdir())
    assert not is_bundle(tmp_path / "absent.zip")


# --- what is taken


@pytest.mark.parametrize("make", [zipped, tarred])
def test_only_what_scan_would_take_is_extracted(tmp_path, make):
    junk = ["__MACOSX/cat/._1.png", "cat/.DS_Store", "cat/Thumbs.db", ".git/1.png", "cat/notes.txt", "cat/inner.zip",
            "cat/no_image", "cat/raw.dng"]  # fmt: skip
    taken = {"./cat/1.png": png(), "cat/deep/photo": png(), "dog//2.JPG": b"", "dog/strange.name": png(5)}
    path = make(tmp_path / "set", {**dict.fromkeys(junk, b"no image at all"), **taken, "cat/raw.dng": png()})
    assert extract(path, tmp_path / "out") == 4
    expected = {"cat/1.png": png(), "cat/deep/photo": png(), "dog/2.JPG": b"", "dog/strange.name": png(5)}
    assert tree(tmp_path / "out") == expected
    assert sorted(image.path.name for image in scan(tmp_path / "out").images) == sorted(
        Path(name).name for name in expected
    )


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_without_images_says_so_and_leaves_nothing(tmp_path, make):
    path = make(tmp_path / "set.zip", {"data_batch_1": b"no image", "readme.txt": b""})
    assert not holds_images(path)
    with pytest.raises(InputError, match="holds no images"):
        extract(path, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_names_of_windows_and_of_macos(tmp_path):
    path = zipped(tmp_path / "set.zip", {"set\\cat\\1.png": png(), "set\\dog\\1.png": png()})
    raw = "set/caf\u00e9/1.png".encode()
    content = zipped(tmp_path / "mac.zip", {"x" * len(raw): png(), "set/tea/1.png": png()}).read_bytes()
    (tmp_path / "mac.zip").write_bytes(content.replace(b"x" * len(raw), raw))  # UTF-8 without the flag that says so
    assert set(tree(open_bundle(path, tmp_path))) == {"set/cat/1.png", "set/dog/1.png"}
    assert set(tree(open_bundle(tmp_path / "mac.zip", tmp_path))) == {"set/caf\u00e9/1.png", "set/tea/1.png"}


# --- names


@pytest.mark.parametrize("make", [zipped, tarred])
def test_the_same_name_twice_overwrites_nothing(tmp_path, make):
    names = ["cat/1.png", "cat/1.png/2.png", "cat/./1.png", "cat//1.png", "dog/1.png"]
    extract(make(tmp_path / "set", {name: png(level) for level, name in enumerate(names)}), tmp_path / "out")
    assert sorted(tree(tmp_path / "out").values()) == sorted(png(level) for level in range(5))
    assert {"cat/1.png", "cat/1~3.png", "cat/1~4.png", "cat/1~2.png/2.png"} < set(tree(tmp_path / "out"))


def test_names_that_are_one_in_another_form_or_case_stay_distinct(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    files = {f"{composed}/{composed}.png": png(1), f"{decomposed}/{decomposed}.png": png(2), "Tea/a.png": png(3),
             "Tea/A.png": png(4), "tea/a.png": png(5)}  # fmt: skip
    extract(tarred(tmp_path / "set", files), tmp_path / "out")
    found = scan(tmp_path / "out")
    assert sorted(image.path.read_bytes() for image in found.images) == sorted(files.values())
    per_class = found.counts()[""]
    assert per_class[composed] == 2, "one class in two Unicode forms"
    assert per_class["Tea"] == 2 and sum(per_class.values()) == 5


def test_a_file_system_that_tells_no_case_gets_numbers(tmp_path, monkeypatch):
    real = os.path.lexists
    monkeypatch.setattr(
        bundle.os.path, "lexists",
        lambda path: real(path) or Path(path).name.casefold() in {item.name.casefold() for item in
                                                                  Path(path).parent.iterdir()},
    )  # fmt: skip
    extract(tarred(tmp_path / "set", {"Cat/a.png": png(1), "Cat/A.png": png(2), "cat/a.png": png(3)}), tmp_path / "out")
    assert tree(tmp_path / "out") == {"Cat/a.png": png(1), "Cat/A~2.png": png(2), "cat~2/a.png": png(3)}


@posix  # unless long paths are turned on there
def test_long_and_deep_names_are_shortened_and_stay_distinct(tmp_path):
    deep = "/".join(["cat", *("d" * 50 for _ in range(200))])
    names = [f"cat/{'ü' * 300}1.png", f"cat/{'ü' * 300}2.png", f"{deep}/1.png", f"{deep}/x/1.png", "dog/1.png"]
    extract(tarred(tmp_path / "set", {name: png(level) for level, name in enumerate(names)}), tmp_path / "out")
    found = scan(tmp_path / "out")
    assert sorted(image.path.read_bytes() for image in found.images) == sorted(png(level) for level in range(5))
    assert found.counts()[""] == {"cat": 4, "dog": 1}
    assert all(image.path.suffix == ".png" for image in found.images)


@posix
def test_names_that_are_no_text_become_text(tmp_path):
    extract(tarred(tmp_path / "set", {"caf\udce9/1.png": png(1), "tea/1.png": png(2)}), tmp_path / "out")
    assert all(name.encode("utf-8") for name in tree(tmp_path / "out"))
    assert len(scan(tmp_path / "out").classes) == 2


components = st.text(min_size=1, max_size=300).filter(lambda name: name not in (".", ".."))


@settings(deadline=None)
@given(components, st.booleans())
def test_a_safe_name_is_a_name_and_safe_again(name, windows):
    safe = safe_name(name, windows)
    assert safe and not set(safe) & set("/\0")
    assert len(safe.encode("utf-8")) <= MAX_NAME
    assert safe == safe_name(safe, windows) == unicodedata.normalize("NFC", safe)
    if windows:
        assert not set(safe) & set('\\:*?"<>|\n\t') and safe == safe.rstrip(" .")


@pytest.mark.parametrize(
    "name, windows, elsewhere",
    [("cat.jpg", "cat.jpg", "cat.jpg"), ("what?", "what_", "what?"), ("a:b", "a_b", "a:b"), ("etc. ", "etc__", "etc. "),
     ("con", "_con", "con"), ("NUL.png", "_NUL.png", "NUL.png"), ("cafe\u0301", "caf\u00e9", "caf\u00e9")],
)  # fmt: skip
def test_safe_names_by_hand(name, windows, elsewhere):
    assert (safe_name(name, windows=True), safe_name(name, windows=False)) == (windows, elsewhere)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40).map(tuple))
def test_depth_keeps_the_top_and_the_file(parts):
    bounded = within_depth(parts)
    assert bounded == parts if len(parts) <= 13 else len(bounded) == 13
    assert (bounded[:11], bounded[-1]) == (parts[:11], parts[-1])


# --- what is refused


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", ["../evil.png", "cat/../../evil.png", "/tmp/evil.png", "C:/evil.png", "c:\\evil.png",
                                  "..\\evil.png", "\\\\host\\share\\evil.png", "cat/../1.png"])  # fmt: skip
def test_names_that_lead_out_are_refused(tmp_path, make, name):
    inside = tmp_path / "a/b/c"
    inside.mkdir(parents=True)
    path = make(tmp_path / "set.zip", {**PHOTOS, name: png()})
    with pytest.raises(InputError, match="leads out of the archive"):
        extract(path, inside / "out")
    assert sorted(item.name for item in tmp_path.rglob("*")) == ["a", "b", "c", "set.zip"]


def test_a_name_with_a_nul_is_refused(tmp_path):
    path = zipped(tmp_path / "set.zip", {**PHOTOS, "cat/1.pngX.txt": png()})
    path.write_bytes(path.read_bytes().replace(b"1.pngX", b"1.png\0"))
    with pytest.raises(InputError, match="leads out of the archive"):
        extract(path, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_links_and_devices_of_a_tar_are_left_out_with_a_warning(tmp_path, capsys):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(9))
    path = tarred(tmp_path / "set.tar", PHOTOS, extra=(
        special("photos/cat/link.png", tarfile.SYMTYPE, str(secret)), special("photos/out", tarfile.SYMTYPE, ".."),
        special("photos/cat/hard.png", tarfile.LNKTYPE, "photos/cat/1.png"),
        special("photos/cat/null.png", tarfile.CHRTYPE), special("photos/cat/disk.png", tarfile.BLKTYPE),
        special("photos/cat/pipe.png", tarfile.FIFOTYPE), special("photos/.hidden", tarfile.SYMTYPE, "/"),
    ))  # fmt: skip
    extract(path, tmp_path / "out")
    assert tree(tmp_path / "out") == PHOTOS
    assert not [item for item in (tmp_path / "out").rglob("*") if item.is_symlink()]
    assert "links and devices are left out (6)" in capsys.readouterr().err


def test_writing_through_a_link_does_not_work(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(special("photos", tarfile.SYMTYPE, str(outside)))
        for name, content in PHOTOS.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    extract(path, tmp_path / "out")
    assert tree(tmp_path / "out") == PHOTOS
    assert not list(outside.iterdir())


def test_links_in_a_zip_are_left_out(tmp_path, capsys):
    path = zipped(tmp_path / "set.zip", PHOTOS)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("photos/cat/link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    extract(path, tmp_path / "out")
    assert tree(tmp_path / "out") == PHOTOS
    assert "links and devices are left out (1)" in capsys.readouterr().err


def test_encrypted_zips_are_refused(tmp_path):
    path = zipped(tmp_path / "set.zip", PHOTOS)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(mark, at + 4)
    path.write_bytes(content)
    with pytest.raises(InputError, match="is encrypted"):
        extract(path, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_a_way_of_packing_that_python_does_not_know(tmp_path):
    path = zipped(tmp_path / "set.zip", PHOTOS)
    content = path.read_bytes()
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.find(mark)
        content = content[: at + offset] + struct.pack("<H", 9) + content[at + offset + 2 :]  # deflate64
    path.write_bytes(content)
    with pytest.raises(InputError, match="packed in a way that cannot be read"):
        extract(path, tmp_path / "out")


# --- bombs, with limits lowered to what a test can bear


@pytest.fixture
def low_limits(monkeypatch):
    monkeypatch.setattr(members, "RATIO_FROM", 1_000_000)
    monkeypatch.setattr(members, "MAX_RATIO", 20)


ZEROS = bytes(8_000_000)


def test_a_zip_bomb_is_stopped_while_it_is_written(tmp_path, low_limits):
    path = zipped(tmp_path / "set.zip", {**PHOTOS, "cat/1.bmp": ZEROS})
    assert path.stat().st_size < 20_000
    with pytest.raises(InputError, match=r"unpacks to more than 0\.001 GB"):
        extract(path, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_a_zip_bomb_that_claims_little_is_stopped_too(tmp_path, low_limits):
    path = zipped(tmp_path / "set.zip", {**PHOTOS, "cat/1.bmp": ZEROS})
    lying = path.read_bytes().replace(struct.pack("<I", len(ZEROS)), struct.pack("<I", 1000))
    path.write_bytes(lying)
    with pytest.raises(InputError, match="is damaged"):
        extract(path, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_files_that_share_their_bytes_are_counted_each(tmp_path, low_limits):
    single = zipped(tmp_path / "single.zip", {f"cat/{number:03}.bmp": bytes(200_000) for number in range(20)})
    with pytest.raises(InputError, match="unpacks to more than"):
        extract(single, tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("name", ["cat/1.bmp", "notes.txt", "cat/unknown"])
def test_a_tar_bomb_is_stopped_even_where_it_is_passed_over(tmp_path, low_limits, packing, name):
    path = tarred(tmp_path / "set.tar", {"cat/1.png": png(), name: ZEROS, "dog/1.png": png()}, packing)
    with pytest.raises(InputError, match="unpacks to more than"):
        extract(path, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "MAX_READ", 1_000_000)
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w:gz") as archive:
        info = special("././@PaxHeader", tarfile.XHDTYPE)
        info.size = len(ZEROS)
        archive.addfile(info, io.BytesIO(ZEROS))
        archive.addfile(tarfile.TarInfo("cat/1.png"))
    with pytest.raises(InputError, match="a piece of 8000000 bytes"):
        extract(path, tmp_path / "out")


def test_large_sets_that_hardly_shrink_are_no_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "RATIO_FROM", 1000)
    noise = {f"{label}/{number}.png": os.urandom(5000) for label in "ab" for number in range(20)}
    assert extract(zipped(tmp_path / "set.zip", noise), tmp_path / "out") == 40
    assert extract(tarred(tmp_path / "set.tgz", noise, "gz"), tmp_path / "out 2") == 40


@pytest.mark.parametrize("make", [zipped, tarred])
def test_too_many_files_or_folders(tmp_path, make, monkeypatch):
    path = make(tmp_path / "set", {f"cat/{number}.txt": b"" for number in range(30)} | PHOTOS)
    monkeypatch.setattr(members, "MAX_MEMBERS", 32)
    with pytest.raises(InputError, match="holds more than 32 files"):
        extract(path, tmp_path / "out")
    monkeypatch.setattr(members, "MAX_MEMBERS", 33)
    assert extract(path, tmp_path / "fits") == 3
    monkeypatch.setattr(bundle, "MAX_FOLDERS", 3)
    with pytest.raises(InputError, match="holds more than 3 folders"):
        extract(path, tmp_path / "out")


def test_a_disk_with_too_little_room(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "KEEP_FREE", 1 << 62)
    with pytest.raises(SetupError, match="too little room"):
        open_bundle(zipped(tmp_path / "set.zip", PHOTOS), tmp_path / "cache")
    assert not list((tmp_path / "cache/bundles").iterdir())


# --- damage


@pytest.mark.parametrize("packing", ["zip", "", "gz", "bz2", "xz"])
def test_an_archive_that_is_cut_short_is_one_error_wherever_it_is_cut(tmp_path, packing):
    files = {f"{label}/{number}.png": os.urandom(600) for label in ("cat", "dog") for number in range(4)}
    path = tmp_path / "set"
    _ = zipped(path, files) if packing == "zip" else tarred(path, files, packing)
    content = path.read_bytes()
    # a plain tar ends in blocks of zeros, of which the first is enough
    end = len(content.rstrip(b"\0")) if packing == "" else len(content)
    cuts = {*range(0, end, end // 40), end - 1, *(range(512, end, 512) if packing == "" else ())}
    for cut in cuts:
        (tmp_path / "cut.zip").write_bytes(content[:cut])
        with pytest.raises(InputError, match="is damaged"):
            extract(tmp_path / "cut.zip", tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("packing", ["zip", "gz", "bz2", "xz", ""])
def test_a_flipped_byte_is_an_error_or_does_no_harm(tmp_path, packing):
    files = {f"{label}/{number}.png": os.urandom(300) for label in ("cat", "dog") for number in range(2)}
    path = tmp_path / "set"
    _ = zipped(path, files) if packing == "zip" else tarred(path, files, packing)
    content = path.read_bytes()
    damaged = 0
    for at in range(0, len(content), max(1, len(content) // 60)):
        (tmp_path / "bad.zip").write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        try:
            extract(tmp_path / "bad.zip", tmp_path / f"out {at}")
        except InputError:
            damaged += 1
    assert damaged > 5
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_header_in_the_middle_of_a_tar_is_no_end(tmp_path):
    path = tarred(tmp_path / "set.tar", PHOTOS)
    content = bytearray(path.read_bytes())
    at = content.find(b"photos/dog")
    content[at + 148] ^= 1  # its checksum
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        extract(path, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04", b"\x1f\x8b\x08", bytes(2000)])
def test_what_is_called_an_archive_and_is_none(tmp_path, content):
    path = tmp_path / "set.zip"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"set\.zip is damaged or no archive|set\.zip holds no images"):
        open_bundle(path, tmp_path / "cache")
    assert not list((tmp_path / "cache/bundles").iterdir())


# --- the cache


def test_an_archive_is_unpacked_once_and_again_when_it_changes(tmp_path):
    path = zipped(tmp_path / "my photos.v2.zip", PHOTOS)
    first = open_bundle(path, tmp_path / "cache")
    assert first.parent == tmp_path / "cache/bundles" and first.name.startswith("my photos-")
    (first / "photos/cat/1.png").write_bytes(b"a mark that shows that nothing was written again")
    assert open_bundle(path, tmp_path / "cache") == first
    assert (first / "photos/cat/1.png").read_bytes().startswith(b"a mark")
    os.utime(path, (1, 1))
    assert tree(open_bundle(path, tmp_path / "cache")) == PHOTOS
    (tmp_path / "other").mkdir()
    same_name = zipped(tmp_path / "other" / path.name, {"a/1.png": png()})
    assert open_bundle(same_name, tmp_path / "cache") not in (first, open_bundle(path, tmp_path / "cache"))


def test_the_cache_folder_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "mine"))
    assert open_bundle(zipped(tmp_path / "set.zip", PHOTOS)).is_relative_to(tmp_path / "mine")


def test_interrupting_leaves_nothing(tmp_path, monkeypatch):
    path = zipped(tmp_path / "set.zip", PHOTOS)

    def interrupt(room: object, size: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle.Room, "take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_bundle(path, tmp_path / "cache")
    monkeypatch.undo()
    assert not list((tmp_path / "cache/bundles").iterdir())
    assert tree(open_bundle(path, tmp_path / "cache")) == PHOTOS


def test_what_a_kill_left_is_removed_after_a_day(tmp_path):
    place = tmp_path / "cache/bundles"
    for name, age in ((".old.x.part", 25), (".running.x.part", 23)):
        (place / name / "images").mkdir(parents=True)
        os.utime(place / name, (time.time() - age * 3600,) * 2)
    folder = open_bundle(zipped(tmp_path / "set.zip", PHOTOS), tmp_path / "cache")
    assert {item.name for item in place.iterdir()} == {".running.x.part", folder.name}


def test_another_process_that_was_faster(tmp_path, monkeypatch):
    path = zipped(tmp_path / "set.zip", PHOTOS)
    real = bundle._write

    def late(archive: Path, folder: Path) -> int:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/theirs").write_bytes(b"")
        return real(archive, folder)

    monkeypatch.setattr(bundle, "_write", late)
    extract(path, tmp_path / "out")
    assert set(tree(tmp_path / "out")) == {"theirs"}
    assert not list(tmp_path.glob(".*"))


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(SetupError, match="IMGCLF_CACHE"):
        open_bundle(zipped(tmp_path / "set.zip", PHOTOS), tmp_path / "cache")
    with pytest.raises(InputError, match="there is no file"):
        open_bundle(tmp_path / "absent.zip", tmp_path / "cache")


# --- imgclf data unpack


@pytest.mark.parametrize("make", [zipped, tarred, lambda path, files: tarred(path, files, "gz")])
def test_unpack_makes_class_folders_without_what_is_around_them(tmp_path, make):
    made = unpack([make(tmp_path / "set.zip", PHOTOS)], tmp_path / "out")
    assert set(tree(tmp_path / "out")) == {"cat/1.png", "cat/2.png", "dog/1.png"}
    assert (made.counts, made.classes, made.shape) == ({"": 3}, ("cat", "dog"), None)
    assert str(made) == f"{tmp_path / 'out'}: 3 images, 2 classes: cat, dog"


def test_unpack_keeps_ready_made_parts(tmp_path):
    files = {f"x/{part}/{label}/1.png": png() for part in ("train", "test") for label in ("cat", "dog")}
    made = unpack([zipped(tmp_path / "set.zip", files)], tmp_path / "out")
    assert made.counts == {"train": 2, "test": 2}
    assert str(made) == f"{tmp_path / 'out'}: 4 images (2 train, 2 test), 2 classes: cat, dog"


def test_the_command_unpacks_and_says_what_is_next(tmp_path):
    archive, out = zipped(tmp_path / "photos.zip", PHOTOS), tmp_path / "out"
    done = imgclf_here("data", "unpack", archive, "--out", out)
    assert (done.returncode, done.stdout) == (
        0,
        f"{out}: 3 images, 2 classes: cat, dog\nnext: imgclf train {out}\n",
    )
    again = imgclf_here("data", "unpack", archive, "--out", out)
    assert again.returncode == 2 and "is already there" in again.stderr


def test_what_unpack_cannot_take_is_said_and_leaves_nothing(tmp_path):
    photos = zipped(tmp_path / "set.zip", PHOTOS)
    one_class = zipped(tmp_path / "one.zip", {"cat/1.png": png()})
    leading_out = zipped(tmp_path / "out.zip", {"../1.png": png()})
    (tmp_path / "cut.zip").write_bytes(photos.read_bytes()[:-30])
    for archives, names, what in (
        ([photos, one_class], None, r"set\.zip holds class folders, and is not the only"),
        ([photos], ["a", "b"], r"set\.zip holds class folders, which have names"),
        ([one_class], None, r"one\.zip holds only one class"),
        ([leading_out], None, "leads out of the archive"),
        ([tmp_path / "cut.zip"], None, r"cut\.zip is damaged"),
    ):
        with pytest.raises(InputError, match=what):
            unpack(archives, tmp_path / "out", names)
        assert nothing_left(tmp_path)
