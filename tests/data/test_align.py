import numpy as np
import pytest
from PIL import Image

from imgclf.data.align import agreement, details, halved
from imgclf.data.similar import LEAST, NEAR, SAME
from tests.data.drawing import texture

SIDE = 160


def grey(image):
    return np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BILINEAR))


def pictures(seeds):
    return [Image.fromarray(texture(seed, SIDE)) for seed in seeds]


def compared(first, second, least=LEAST):
    found = agreement(np.stack([grey(each) for each in first]), np.stack([grey(each) for each in second]), least)
    return found.correlation, found.worst


SEEDS = range(12)


def test_a_picture_agrees_with_itself():
    correlation, worst = compared(pictures(SEEDS), pictures(SEEDS))
    assert correlation == pytest.approx(1, abs=1e-3)
    assert worst.max() < 0.01


def test_different_pictures_do_not_agree():
    correlation, worst = compared(pictures(SEEDS), pictures(seed + 100 for seed in SEEDS))
    assert correlation.max() < 0.5
    assert np.isinf(worst).all()


def test_crops_are_found_whatever_their_place():
    whole = [Image.fromarray(texture(seed, SIDE, fastest=3)) for seed in range(30)]
    cuts = np.random.default_rng(0).integers(0, SIDE * 9 // 100, (30, 4))
    cropped = [image.crop((left, top, SIDE - right, SIDE - bottom))
               for image, (left, top, right, bottom) in zip(whole, cuts.tolist(), strict=True)]  # fmt: skip
    ways = compared(whole, cropped), compared(cropped, whole)
    assert np.maximum(ways[0][0], ways[1][0]).min() > NEAR
    assert np.median(np.minimum(ways[0][1], ways[1][1])) < 0.75 * SAME


def test_light_and_contrast_do_not_matter():
    dimmed = [image.point(lambda value: int(0.6 * value + 20)) for image in pictures(SEEDS)]
    correlation, worst = compared(pictures(SEEDS), dimmed)
    assert correlation.min() > 0.98
    assert worst.max() < 1


@pytest.mark.parametrize("place", [(10, 10), (80, 90), (110, 20)])
def test_a_change_in_one_place_shows_in_the_worst_square(place):
    changed = pictures(SEEDS)
    for image in changed:
        image.paste((240, 240, 240), (*place, place[0] + 30, place[1] + 30))
    correlation, worst = compared(pictures(SEEDS), changed)
    assert np.mean(correlation > NEAR) >= 0.75
    assert worst.min() > 2 * SAME


def test_a_pair_that_is_given_up_keeps_its_coarse_correlation():
    first, second = pictures([1, 2, 3]), pictures([1, 200, 3])
    correlation, worst = compared(first, second, (0.9, 0.9))
    assert np.isfinite(worst).tolist() == [True, False, True]
    assert correlation[1] < 0.9
    everything, all_worst = compared(first, second, (-1, -1))
    assert np.isfinite(all_worst).all()
    assert everything[[0, 2]] == pytest.approx(correlation[[0, 2]], abs=1e-4)


def test_a_flat_picture_agrees_with_nothing():
    flat = np.full((2, 64, 64), 90, np.uint8)
    found = agreement(flat, np.stack([grey(image) for image in pictures([1, 2])]), (-1, -1))
    assert found.correlation == pytest.approx(0, abs=1e-3)
    assert np.isfinite(found.worst).all()


def test_details_and_halves_by_hand():
    images = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), "edge")
    expected = [[[images[n, y, x] - padded[n, y : y + 3, x : x + 3].mean() for x in range(8)] for y in range(8)]
                for n in range(2)]  # fmt: skip
    assert details(images, 1) == pytest.approx(np.array(expected), abs=1e-5)
    assert halved(images)[1, 2, 3] == pytest.approx(images[1, 4:6, 6:8].mean(), abs=1e-6)
