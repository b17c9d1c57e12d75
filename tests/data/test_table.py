import csv
import io
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclf.data.inspect import inspect
from imgclf.data.table import read_table
from imgclf.errors import InputError


def table(tmp_path: Path, content: str | bytes, *files: str) -> Path:
    """A table beside (not decoded) files."""
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not read by the table")
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def listed(found):
    return [(image.path.relative_to(found.root).as_posix(), image.label) for image in found.images]


def test_paths_and_labels_beside_the_table(tmp_path):
    found = read_table(table(tmp_path, "path,label\nb.jpg,dog\nx/a.jpg,cat\na.jpg,dog\n", "a.jpg", "b.jpg", "x/a.jpg"))
    assert (found.root, found.classes, found.has_parts, found.ignored) == (tmp_path, ("cat", "dog"), False, {})
    assert listed(found) == [("x/a.jpg", "cat"), ("a.jpg", "dog"), ("b.jpg", "dog")]
    assert {(image.part, image.group, image.verdict) for image in found.images} == {("", "", "unchecked")}


def test_parts_and_groups_sorted_by_part_class_and_path(tmp_path):
    rows = "a.jpg,cat,Testing,p1\nb.jpg,cat,VAL,p2\nc.jpg,dog,training,p1\nd.jpg,cat,, p3 \ne.jpg,cat,validation,\n"
    names = [f"{letter}.jpg" for letter in "abcde"]
    found = read_table(table(tmp_path, "path,label,split,group\n" + rows, *names))
    assert found.has_parts
    assert [(image.path.name, image.part, image.group) for image in found.images] == [
        ("d.jpg", "train", "p3"),  # in a table with parts, a row without one is for training
        ("c.jpg", "train", "p1"),
        ("b.jpg", "val", "p2"),
        ("e.jpg", "val", ""),
        ("a.jpg", "test", "p1"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_forms_that_spreadsheets_write(tmp_path, encoding, newline, delimiter):
    rows = [["Note", " Class ", "Filename"], ["x", "café", "a.jpg"], ["", "té", "b.jpg"], ["", "", ""]]
    content = newline.join(delimiter.join(row) for row in rows) + newline * 2
    found = read_table(table(tmp_path, content.encode(encoding), "a.jpg", "b.jpg"))
    assert listed(found) == [("a.jpg", "café"), ("b.jpg", "té")]


@pytest.mark.parametrize("path", ["path", "FILE", "filename", "image", "Image Path", "filepath"])
@pytest.mark.parametrize("label", ["Label", "class", "category"])
def test_the_names_that_people_give_columns(tmp_path, path, label):
    content = f"{label},id,{path},subset,patient\ncat,1,a.jpg,train,x\ndog,2,b.jpg,test,y\n"
    found = read_table(table(tmp_path, content, "a.jpg", "b.jpg"))
    assert [(image.label, image.part, image.group) for image in found.images] == [
        ("cat", "train", "x"),
        ("dog", "test", "y"),
    ]


def test_of_two_columns_of_a_kind_the_plainer_name_is_taken(tmp_path):
    found = read_table(table(tmp_path, "image,class,path,label\n7,0,a.jpg,cat\n8,1,b.jpg,dog\n", "a.jpg", "b.jpg"))
    assert listed(found) == [("a.jpg", "cat"), ("b.jpg", "dog")]


def test_quoted_names_hold_commas_quotes_and_line_breaks(tmp_path):
    content = 'path,label\n"a, b.jpg","cat ""tom"""\nc.jpg, "dog, big"\n5" disc.jpg,"two\nlines"\n'
    names = ["a, b.jpg", "c.jpg"] + ([] if sys.platform == "win32" else ['5" disc.jpg'])
    found = read_table(table(tmp_path, content, *names))
    assert found.classes == ('cat "tom"', "dog, big", "two lines")
    assert found.images[0].path == tmp_path / "a, b.jpg"


letters = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
labels = letters.map(lambda text: unicodedata.normalize("NFC", text.strip())).filter(bool)
ONE_LINE_LABELS = st.lists(labels, min_size=2, max_size=6, unique_by=lambda text: " ".join(text.splitlines()))


@settings(max_examples=60, deadline=None)
@given(ONE_LINE_LABELS, st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]))
def test_any_label_comes_back_as_it_was_written(tmp_path_factory, names, delimiter, newline):
    folder = tmp_path_factory.mktemp("table")
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([("path", "label"), *((f"{number}.jpg", name) for number, name in enumerate(names))])
    found = read_table(table(folder, text.getvalue(), *(f"{number}.jpg" for number in range(len(names)))))
    expected = [" ".join(name.splitlines()) for name in names]  # a class has one line in the files of a model
    assert {int(image.path.stem): image.label for image in found.images} == dict(enumerate(expected))
    assert found.classes == tuple(sorted(set(expected)))


def test_labels_in_two_unicode_forms_are_one_class(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    found = read_table(table(tmp_path, f"path,label\na.jpg,{composed}\nb.jpg,{decomposed}\nc.jpg,tea\n",
                             "a.jpg", "b.jpg", "c.jpg"))  # fmt: skip
    assert found.classes == (composed, "tea")


def test_paths_may_be_absolute_or_come_from_windows(tmp_path):
    content = f"path,label\n{tmp_path / 'x/a.jpg'},cat\nx\\b.jpg,dog\n./x/../x/c.jpg,dog\n"
    found = read_table(table(tmp_path, content, "x/a.jpg", "x/b.jpg", "x/c.jpg"))
    assert [image.path.resolve().name for image in found.images] == ["a.jpg", "c.jpg", "b.jpg"]
    assert all(image.path.is_file() for image in found.images)


def test_images_in_another_folder(tmp_path):
    (tmp_path / "tables").mkdir()
    path = table(tmp_path / "tables", "path,label\na.jpg,cat\nb.jpg,dog\n", "b.jpg")
    table(tmp_path / "photos", "", "a.jpg", "b.jpg")
    found = read_table(path, tmp_path / "photos")
    assert found.root == tmp_path / "photos"
    assert [image.path for image in found.images] == [tmp_path / "photos/a.jpg", tmp_path / "tables/b.jpg"]
    with pytest.raises(InputError, match="there is no folder"):
        read_table(path, tmp_path / "absent")


def test_a_few_missing_files_stay_for_inspect_to_name(tmp_path):
    path = table(tmp_path, "path,label\na.jpg,cat\nb.jpg,dog\nc.jpg,dog\nd.jpg,dog\n", "a.jpg", "b.jpg")
    found = inspect(read_table(path), workers=0)
    reasons = {image.path.name: image.reason for image in found.images}
    assert reasons["c.jpg"] == reasons["d.jpg"] == "cannot be opened (No such file or directory)"
    assert len(found.images) == 4


def test_many_missing_files_mean_a_wrong_folder(tmp_path):
    rows = "".join(f"pics/{number}.jpg,{'cat' if number % 2 else 'dog'}\n" for number in range(9))
    path = table(tmp_path, "path,label\n" + rows, *(f"pics/{number}.jpg" for number in range(4)))
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError) as caught:
        read_table(path, tmp_path / "other")
    assert caught.value.what == (
        f"5 of the 9 files that {path} names are not there (pics/4.jpg, pics/5.jpg, pics/6.jpg, ...); "
        f"looked in {tmp_path} and {tmp_path / 'other'}"
    )


def test_a_row_that_occurs_twice_counts_once(tmp_path):
    content = f"path,label\na.jpg,cat\n./a.jpg,cat\n{tmp_path / 'a.jpg'},cat\nb.jpg,dog\n"
    assert listed(read_table(table(tmp_path, content, "a.jpg", "b.jpg"))) == [("a.jpg", "cat"), ("b.jpg", "dog")]


@pytest.mark.parametrize(
    "content, what",
    [
        ("path,label\na.jpg,cat\n\nb.jpg,dog\na.jpg,dog\n", "rows 2 and 5 of * give a.jpg the label 'cat' and 'dog'"),
        ("path,label,split\na.jpg,cat,val\nb.jpg,dog,\na.jpg,cat,test\n", "rows 2 and 4 of * give a.jpg the part"),
        ("path,label,group\na.jpg,cat,1\nb.jpg,dog,\na.jpg,cat,2\n", "rows 2 and 4 of * give a.jpg the group '1'"),
        ("path,label\na.jpg,cat\nb.jpg, \n", "row 3 of * has no label"),
        ("path,label\na.jpg,cat\nb.jpg\n", "row 3 of * has no label"),
        ("path,label\na.jpg,cat\n,dog\n", "row 3 of * has no path"),
        ("path,label,split\na.jpg,cat,train\nb.jpg,dog,holdout\n", "row 3 of * is in the part 'holdout'"),
        ("path,label,split\na.jpg,cat,val\nb.jpg,dog,test\n", "no row of * is for training"),
        ("path,label\na, b.jpg,cat\n", "row 2 of * has 3 cells, its header 2"),
        ("path,label\na.jpg,cat\nb.jpg,cat\n", "* holds only one class ('cat')"),
        ("path,label\n", "* has no rows below its header"),
        ("path,label\n , \n", "* has no rows below its header"),
        ("", "* is empty"),
        ("\n\n", "* is empty"),
        ('"path,label\na.jpg,cat\n', "* cannot be read after row 0 (unexpected end of data)"),
        ('path,label\na.jpg,"cat\nb.jpg,dog\n', "* cannot be read after row 1 (unexpected end of data)"),
        ("a.jpg,cat\nb.jpg,dog\n", "* has no column path and no column label; its first row is 'a.jpg', 'cat'"),
        ("path,cat,dog\na.jpg,1,0\nb.jpg,0,1\n", "* has no column label; its first row is 'path', 'cat', 'dog'"),
        ("path,path,label\na.jpg,b.jpg,1\n", "* has two columns called 'path'"),
        (",".join(["label", *map(str, range(784))]), "* has no column path; its first row is 'label', '0', '1', '2', "
         "'3', '4', '5', '6' and 777 more"),
        ("path,label\na.jpg,caf\xe9\n".encode("latin-1"), "* is not UTF-8 (line 2)"),
        (b"path,label\na\0.jpg,cat\n", "* is not a text file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_row(tmp_path, content, what):
    path = table(tmp_path, content, "a.jpg", "b.jpg")
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert caught.value.what.startswith(what.replace("*", str(path)))
    assert caught.value.fix


def test_tables_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_table(tmp_path / "labels.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path)
