"""What a training needs to go on, as a file."""

import errno
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgclf import runs
from imgclf.errors import InputError, SetupError
from imgclf.training import checkpoint
from imgclf.training.checkpoint import FACTS, FILE, GROUPS, Progress, load, save
from imgclf.training.epoch import METRICS, Epoch

ROW = Epoch("fine-tune", 1, dict.fromkeys(METRICS, 0.25), dict.fromkeys(METRICS, 0.1), 1e-3, 2.5)
DECIDED: dict[str, Any] = {"decided": {"epochs": 3, "backbone": "tiny"}, "history": [], "notes": ["grün"]}


def arrays() -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    return {
        "model": [rng.normal(size=(3, 4)).astype(np.float32) for _ in range(11)],  # 10 comes after 9, not after 1
        "optimizer": [np.array(7, np.int64), np.float32(0.1)],
        "metrics": [],
        "average": [np.zeros((0, 2), np.float32)],
        "best": [np.array([1, 2], np.uint32)],
        "members": [],
    }


def progress(**changes: Any) -> Progress:
    return replace(Progress("fine-tune", 1, 5, 0.1, 1, 0, (ROW,), arrays()), **changes)


@pytest.mark.parametrize("best_loss", [0.1, float("inf"), 1 / 3])
def test_what_is_saved_is_loaded(best_loss: float, tmp_path: Path) -> None:
    given = progress(best_loss=best_loss)
    save(tmp_path / "new" / "checkpoints", given, DECIDED)
    found = load(tmp_path / "new" / "checkpoints")
    assert found is not None and found.facts == DECIDED
    assert replace(found.progress, arrays={}) == replace(given, arrays={})
    assert list(found.progress.arrays) == list(GROUPS)
    for group in GROUPS:
        for one, other in zip(found.progress.arrays[group], given.arrays[group], strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype and one.shape == other.shape
    save(tmp_path / "new" / "checkpoints", progress(step=6), DECIDED)
    found = load(tmp_path / "new" / "checkpoints")
    assert found is not None and found.progress.step == 6
    assert [file.name for file in (tmp_path / "new" / "checkpoints").iterdir()] == [FILE]


def test_an_epoch_that_diverged_is_kept_as_it_is(tmp_path: Path) -> None:
    row = replace(ROW, val=dict.fromkeys(METRICS, float("nan")))
    save(tmp_path, progress(rows=(row,), best_loss=float("inf")), DECIDED)
    found = load(tmp_path)
    assert found is not None and np.isnan(found.progress.rows[0].val["loss"])


def test_where_there_is_none_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path) is None and load(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", ["empty", "half", "text", "no facts", "no rows", "a group is short", "a bit"])
def test_a_damaged_file_is_named(damage: str, tmp_path: Path) -> None:
    save(tmp_path, progress(), DECIDED)
    file = tmp_path / FILE
    content = file.read_bytes()
    if damage == "empty":
        file.write_bytes(b"")
    elif damage == "half":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        file.write_text("not a checkpoint")
    elif damage == "a bit":
        where = content.index(arrays()["model"][3].tobytes()) + 5
        file.write_bytes(content[:where] + bytes([content[where] ^ 64]) + content[where + 1 :])
    else:
        with np.load(file) as parts:
            named = dict(parts)
        if damage == "no facts":
            del named[FACTS]
        elif damage == "a group is short":
            del named["model/3"]
        else:
            told = json.loads(named[FACTS].tobytes())
            del told["progress"]["rows"]
            named[FACTS] = np.frombuffer(json.dumps(told).encode(), np.uint8)
        with file.open("wb") as stream:
            np.savez(stream, **named)
    with pytest.raises(InputError, match=f"{FILE} is damaged") as caught:
        load(tmp_path)
    assert "--overwrite" in str(caught.value)


def test_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(runs, "SCHEMA", runs.SCHEMA + 1)
        save(tmp_path, progress(), DECIDED)
    with pytest.raises(InputError, match="is of another version of imgclf"):
        load(tmp_path)


class Trap:
    """Whoever unpickles it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_nothing_in_the_file_is_executed(tmp_path: Path) -> None:
    save(tmp_path, progress(), DECIDED)
    trap = np.empty(1, object)
    trap[0] = Trap(tmp_path / "sprung")
    stream = io.BytesIO()
    np.save(stream, trap, allow_pickle=True)
    with zipfile.ZipFile(tmp_path / FILE) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    for victim in ("model/0.npy", f"{FACTS}.npy"):
        with zipfile.ZipFile(tmp_path / FILE, "w") as new:
            for name, content in parts.items():
                new.writestr(name, stream.getvalue() if name == victim else content)
        with pytest.raises(InputError, match="is damaged"):
            load(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, progress(), DECIDED)

    def full(file: Any, **named: Any) -> None:
        file.write(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(checkpoint.np, "savez", full)
        with pytest.raises(SetupError, match="the disk is full"):
            save(tmp_path, progress(step=9), DECIDED)
    found = load(tmp_path)
    assert found is not None and found.progress.step == 5
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
