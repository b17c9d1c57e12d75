import pickle
from pathlib import Path

import pytest

from imgclf.errors import InputError
from imgclf.storage.places import Address, Found, is_address, place, require_here, shown


def test_an_address_is_handled_like_a_path() -> None:
    image = place("s3://bucket/photos/a cat/1.JPG")
    root = place("s3://bucket/photos")

    assert isinstance(image, Address)
    assert (image.name, image.suffix, image.parent.name) == ("1.JPG", ".JPG", "a cat")
    assert str(image.relative_to(root)) == "a cat/1.JPG"
    assert root / "a cat" / "1.JPG" == image
    assert str(root / image.relative_to(root)) == image.as_posix() == "s3://bucket/photos/a cat/1.JPG"
    assert image.is_relative_to(root) and not root.is_relative_to(image)
    assert not image.resolve().is_relative_to(Path.cwd())
    assert sorted([image, root]) == [root, image]


def test_what_a_listing_said_goes_along_to_another_process() -> None:
    image = Address("s3:/bucket/1.jpg")
    image.found = Found(12, "tag")

    again = pickle.loads(pickle.dumps(image))

    assert again == image and isinstance(again, Address) and again.found == Found(12, "tag")


def test_paths_stay_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s3:").mkdir()
    (Path("s3:") / "photos").mkdir()

    for text in ("photos", "/photos", "C:/photos", "a::b", "s3:/photos", "x:/y", "photos://".rstrip("/")):
        assert not isinstance(place(text), Address), text
    assert place("file:///photos") == Path("/photos")
    assert not is_address("C:\\photos") and is_address("gs://b")


def test_what_pathlib_has_made_of_an_address_is_one_again() -> None:
    assert str(place(Path("s3://bucket/photos"))) == "s3://bucket/photos"


def test_a_folder_within_an_archive() -> None:
    folder = place("zip://in/ner::s3://bucket/a.zip")

    assert str(folder / "cat" / "1.jpg") == "zip://in/ner/cat/1.jpg::s3://bucket/a.zip"
    assert str((folder / "cat").relative_to(folder)) == "cat"
    with pytest.raises(InputError, match="does not say in which file"):
        place("zip://photos")
    with pytest.raises(InputError, match="goes through simplecache"):
        place("simplecache::s3://bucket/a")


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("https://me:secret@host/photos.zip", "https://host/photos.zip"),
        ("https://host/photos.zip?X-Amz-Signature=secret", "https://host/photos.zip"),
        ("https://host/photos.zip#secret", "https://host/photos.zip"),
        ("ftp://me:secret@host/photos", "ftp://host/photos"),
        ("abfs://box@account.dfs.core.windows.net/photos", "abfs://box@account.dfs.core.windows.net/photos"),
    ],
)
def test_secrets_are_used_and_not_shown(given: str, written: str) -> None:
    address = place(given)

    assert isinstance(address, Address)
    assert str(address) == shown(given) == written
    assert "secret" not in repr(address) and address.full == given


def test_a_run_folder_is_on_this_computer() -> None:
    with pytest.raises(InputError, match="is an address"):
        require_here(Path("s3://bucket/run"), "the run folder")
