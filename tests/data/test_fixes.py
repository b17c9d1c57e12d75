from dataclasses import replace
from pathlib import Path

import pytest

from imgclf.data.fixes import apply_decided, apply_undecided
from imgclf.data.suspects import Suspect
from imgclf.errors import InputError
from tests.data.drawing import image_set, picture


def suspect(image, suggested="b", confidence=0.9, action="", new_label="", key=None, path=None):
    where = path or image.path.absolute()
    return Suspect(where, image.label, suggested, confidence, action, new_label, image.key if key is None else key)


def labels(images):
    return {image.path.name: image.label for image in images.images}


IMAGES = image_set([picture(f"{label}{number}", label, "train" if number else "test") for label in "abc"
                    for number in range(3)])  # fmt: skip
A0, A1, A2, *_ = IMAGES.images


def test_decisions_hold_in_every_part():
    fixed = apply_decided(IMAGES, [suspect(A0, action="relabel", new_label="c"), suspect(A1, action="exclude"),
                                   suspect(A2, action="keep")])  # fmt: skip
    found = labels(fixed.images)
    assert (found["a0.jpg"], "a1.jpg" in found, found["a2.jpg"]) == ("c", False, "a")
    assert (fixed.relabelled, fixed.excluded, fixed.unknown) == (1, 1, 0)


def test_what_nobody_decided_changes_training_images_only():
    rows = [suspect(A0), suspect(A1), suspect(A2, confidence=0.5)]
    assert apply_decided(IMAGES, rows).images.images == IMAGES.images
    fixed = apply_undecided(IMAGES, rows)
    found = labels(fixed.images)
    assert (found["a0.jpg"], found["a1.jpg"], "a2.jpg" in found) == ("a", "b", False)
    assert (fixed.relabelled, fixed.excluded) == (1, 1)


def test_a_moved_folder_is_known_by_content_and_the_very_file_goes_first():
    moved = suspect(A1, action="exclude", path=Path("/elsewhere/a1.jpg"))
    assert "a1.jpg" not in labels(apply_decided(IMAGES, [moved]).images)
    kept = apply_decided(IMAGES, [suspect(A1, action="keep"), moved])
    assert "a1.jpg" in labels(kept.images)
    detour = suspect(A1, action="exclude", key="", path=Path("photos/../photos/train/a/a1.jpg").absolute())
    assert "a1.jpg" not in labels(apply_decided(IMAGES, [detour]).images)


def test_a_new_class_is_made_and_a_slip_of_the_pen_is_said():
    named = image_set(
        [replace(image, label={"a": "shirt", "b": "hat", "c": "dress"}[image.label]) for image in IMAGES.images]
    )
    first = named.images[0]
    fixed = apply_decided(named, [suspect(first, action="relabel", new_label="sock")])
    assert fixed.images.classes == ("dress", "hat", "shirt", "sock")
    with pytest.raises(InputError, match="did you mean 'shirt'"):
        apply_decided(named, [suspect(first, action="relabel", new_label="shrit")])


def test_a_suggestion_among_classes_that_are_left_out_excludes():
    assert apply_undecided(IMAGES, [suspect(A1, suggested="left out")]).excluded == 1


def test_corrections_of_other_images_are_an_error():
    with pytest.raises(InputError, match="none of the 1 correction names an image"):
        apply_decided(IMAGES, [Suspect(Path("/x.jpg"), "a", "b", 0.9, "exclude", "", "0" * 32)])
