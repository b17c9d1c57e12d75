"""suspects.csv as it is written, and as people and spreadsheets give it back."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclf.data.suspects import SUSPECT_COLUMNS, Suspect, read_suspects, with_decisions, write_suspects
from imgclf.errors import InputError

KEY = "0123456789abcdef" * 2


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "suspects.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    suspects = (
        Suspect(tmp_path / "photos" / "cat" / "1.jpg", "cat", "dog", 0.9375, "relabel", "fox", KEY),
        Suspect(tmp_path / "photos" / "dog, old" / 'a "b"; c.jpg', "dog, old", "", 0.0, "exclude"),
        Suspect(tmp_path.parent / "elsewhere" / " two\nlines .jpg", "Röcke", "cat", 1.0),
    )
    path = tmp_path / "lists" / "suspects.csv"
    write_suspects(path, suspects)
    assert read_suspects(path) == suspects
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == ",".join(SUSPECT_COLUMNS) == "path,label,suggested,confidence,action,new_label,key"
    assert lines[1] == f"../photos/cat/1.jpg,cat,dog,0.9375,relabel,fox,{KEY}"
    assert list(path.parent.iterdir()) == [path]


# letters that file systems allow, and that tables, lines and encodings stumble over
NAMES = st.text(st.sampled_from("ab,;\"'\t\n\r \udcff\ufeffé=％"), min_size=1, max_size=6).filter(str.strip)
ROWS = st.lists(
    st.builds(
        Suspect,
        path=NAMES.map(lambda name: Path(f"photos/{name}").absolute()),
        label=NAMES, suggested=NAMES, confidence=st.integers(0, 1000).map(lambda n: n / 1000),
        action=st.sampled_from(["", "keep", "exclude"]), key=st.sampled_from(["", KEY]),
    ),
    max_size=4, unique_by=lambda row: row.path,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_any_name_survives(rows: list[Suspect], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    write_suspects(path, rows)
    assert read_suspects(path) == tuple(rows)


def test_table_and_images_can_be_moved_together(tmp_path: Path) -> None:
    write_suspects(tmp_path / "a" / "suspects.csv", [Suspect(tmp_path / "a" / "photos" / "1.jpg", "cat")])
    (tmp_path / "a").rename(tmp_path / "b")
    (suspect,) = read_suspects(tmp_path / "b" / "suspects.csv")
    assert suspect.path == tmp_path / "b" / "photos" / "1.jpg"


def test_path_is_the_users_own_also_where_it_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    try:
        (tmp_path / "photos").symlink_to(tmp_path / "store", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    write_suspects(tmp_path / "suspects.csv", [Suspect(tmp_path / "photos" / "1.jpg", "cat")])
    assert read_suspects(tmp_path / "suspects.csv")[0].path == tmp_path / "photos" / "1.jpg"


def test_relative_path_of_the_table_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    suspects = (Suspect(tmp_path / "1.jpg", "cat"),)
    write_suspects(Path("suspects.csv"), suspects)
    assert read_suspects(Path("suspects.csv")) == suspects


@pytest.mark.parametrize(
    "text",
    [
        "path,label,suggested,confidence,action,new_label,key\n1.jpg,cat,dog,0.5,relabel,fox,\n",
        b"\xef\xbb\xbf" + b"path;label;suggested;confidence;action;new_label;key\r\n1.jpg;cat;dog;0,5;relabel;fox;\r\n",
        "new_label,action,confidence,suggested,label,path\nfox,relabel,.5,dog,cat,1.jpg\n",
        "path\tlabel\tsuggested\tconfidence\taction\tnew_label\n1.jpg\tcat\tdog\t50 %\tRelabel\tfox\n",
        ' Path , LABEL,suggested,confidence,action,new_label,\n"1.jpg",cat,dog,0.5," RELABEL ", fox ,\n,,,,,,\n\n',
        "path,label,suggested,confidence,action,new_label,key\n1.jpg,cat,dog,0.5,relabel,fox,1.23457E+31",
    ],
    ids=["as written", "Excel in Europe", "other order", "tabs", "by hand", "key taken for a number"],
)  # fmt: skip
def test_what_editing_does_to_a_table_is_understood(tmp_path: Path, text: str | bytes) -> None:
    expected = Suspect(tmp_path / "1.jpg", "cat", "dog", 0.5, "relabel", "fox", "")
    assert read_suspects(table(tmp_path, text)) == (expected,)


def test_a_suggestion_or_an_action_is_needed_and_no_other_table_is_taken(tmp_path: Path) -> None:
    for more in ("action", "suggested"):
        text = f"label,path,{more}\ncat,1.jpg,\n"
        assert read_suspects(table(tmp_path, text)) == (Suspect(tmp_path / "1.jpg", "cat"),)
    assert read_suspects(table(tmp_path, "path,label\n")) == ()
    with pytest.raises(InputError, match="neither a column suggested nor a column action"):
        read_suspects(table(tmp_path, "path,label,split\n1.jpg,cat,train\n"))


def test_a_second_list_keeps_what_was_decided(tmp_path: Path) -> None:
    earlier = [Suspect(tmp_path / "a", "cat", "dog", 0.9, "keep"), Suspect(tmp_path / "b", "cat", "dog", 0.9),
               Suspect(tmp_path / "gone", "cat", "dog", 0.9, "exclude")]  # fmt: skip
    new = [Suspect(tmp_path / name, "cat", "emu", 0.7) for name in "abc"]
    merged = with_decisions(new, earlier)
    assert [(each.path.name, each.action) for each in merged] == [
        ("a", "keep"),
        ("b", ""),
        ("c", ""),
        ("gone", "exclude"),
    ]


@pytest.mark.parametrize(
    ("suspect", "outcome"),
    [
        (Suspect(Path("a"), "cat", "dog", 0.8), ("relabel", "dog")),
        (Suspect(Path("a"), "cat", "dog", 0.79), ("exclude", "")),
        (Suspect(Path("a"), "cat"), ("keep", "")),
        (Suspect(Path("a"), "cat", "dog", 0.9, "keep"), ("keep", "")),
        (Suspect(Path("a"), "cat", "dog", 0.9, "relabel", "emu"), ("relabel", "emu")),
    ],
)
def test_what_training_does_with_a_row(suspect: Suspect, outcome: tuple[str, str]) -> None:
    assert suspect.outcome == outcome


def test_relabel_without_a_class_takes_the_suggested_one(tmp_path: Path) -> None:
    (suspect,) = read_suspects(table(tmp_path, "path,label,suggested,action\n1.jpg,cat,dog,relabel\n"))
    assert suspect.new_label == "dog"


def test_new_label_counts_only_with_relabel(tmp_path: Path) -> None:
    (suspect,) = read_suspects(table(tmp_path, "path,label,action,new_label\n1.jpg,cat,exclude,dog\n"))
    assert (suspect.action, suspect.new_label) == ("exclude", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label,action\n1.jpg,cat,\n2.jpg,cat,delete\n", "row 3 has the unknown action 'delete'; expected keep"),
        ("path,label,action\n1.jpg,cat,relabel\n", "row 2 says relabel, but not to which class; write"),
        ("path,label,new_label\n1.jpg,cat,dog\n", "row 2 has a new_label but no action; write relabel"),
        ("path,label\n1.jpg,cat\n\n2.jpg,cat\n./1.jpg,dog\n", "row 5 has the same path as row 2; leave one"),
        ("path,label\n ,cat\n", "row 2 has no path; write"),
        ("path,label,confidence\n1.jpg,cat,sure\n", "row 2 has the confidence 'sure'; expected a number from 0 to 1"),
        ("path,label,confidence\n1.jpg,cat,nan\n", "row 2 has the confidence 'nan'"),
        ("path,label,confidence\n1.jpg,cat,93\n", "row 2 has the confidence '93'"),
        ("path,label\na,b.jpg,cat\n", "has 3 cells, its header 2; put"),
        (
            "path,suggested\n1.jpg,cat\n",
            "has no column label; its first row is 'path', 'suggested'; expected a table with the columns path,label",
        ),
        ("", "is empty"),
        ("path,label\n" + "x" * 200_000 + ",cat\n", "cannot be read after row 1"),
    ],
)
def test_what_cannot_be_meant_is_said_by_file_and_row(tmp_path: Path, text: str, said: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_suspects(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_missing_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*gone\.csv"):
        read_suspects(tmp_path / "gone.csv")
