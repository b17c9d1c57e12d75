import random

import pytest

from imgclf.search.front import TrialRow, choose_winner, pareto_front, score


def row(number, right, megabytes=1.0, milliseconds=1.0, *, n=100, loss=0.5, state="done", network="net"):
    return TrialRow(number, state, network, {}, right, n, loss, megabytes, milliseconds, 1.0, 1)


def test_the_score_orders_by_accuracy_first_and_by_loss_second():
    rng = random.Random(0)
    results = [(rng.randint(0, 60), rng.choice([0.0, 0.1, 1.0, 30.0, 1e9])) for _ in range(200)]
    by_score = sorted(results, key=lambda found: score(found[0] / 60, found[1], 60))
    assert by_score == sorted(results, key=lambda found: (found[0], -found[1]))


def test_the_front_is_what_no_other_beats():
    rows = [
        row(1, 95, 4.0, 7.0),
        row(2, 90, 1.0, 2.0),
        row(3, 89, 1.0, 2.0),  # beaten by 2
        row(4, 90, 1.0, 3.0),  # beaten by 2
        row(5, 80, 1.0, 1.0),  # the fastest
        row(6, 90, 1.0, 2.0, loss=0.4),  # as 2, with a lower loss
        row(7, 99, 0.1, 0.1, state="pruned"),
        row(8, 99, None, None, state="failed"),
    ]
    assert [found.number for found in pareto_front(rows)] == [1, 6, 5]


def test_every_trial_is_on_the_front_or_beaten_by_one_of_it():
    rng = random.Random(1)
    rows = [row(n, rng.randint(80, 90), rng.choice([1, 2, 3]), rng.choice([1, 2, 3])) for n in range(60)]
    front = pareto_front(rows)
    for each in rows:
        assert any(
            best.right >= each.right and best.megabytes <= each.megabytes and best.milliseconds <= each.milliseconds
            for best in front
        )
    places = {(-each.right, each.megabytes, each.milliseconds) for each in rows}
    for best in front:
        place = (-best.right, best.megabytes, best.milliseconds)
        assert not any(
            other != place and all(map(float.__le__, map(float, other), map(float, place))) for other in places
        )


# Wilson's interval of 90 of 100 begins at 0.8256: a standard error of it is 0.038.
@pytest.mark.parametrize(
    ("prefer", "wanted"),
    [("accuracy", 2), ("size", 3), ("latency", 4)],
)
def test_the_winner_is_small_within_the_noise(prefer, wanted):
    rows = [
        row(1, 90, 4.0, 7.0),
        row(2, 87, 2.0, 6.0),
        row(3, 84, 1.0, 5.0),
        row(4, 83, 3.0, 1.0),
        row(5, 70, 0.1, 0.1),
    ]
    choice = choose_winner(rows, prefer)
    assert choice.winner.number == wanted
    assert "trial 1" in choice.why and "100 validation images" in choice.why


def test_where_every_image_is_right_there_is_noise_too():
    assert choose_winner([row(1, 60, 4.0, n=60), row(2, 59, 1.0, n=60)]).winner.number == 2
    assert choose_winner([row(1, 60, 4.0, n=60), row(2, 57, 1.0, n=60)]).winner.number == 1


def test_there_is_no_winner_without_a_finished_trial():
    assert choose_winner([row(1, 90, state="pruned"), row(2, 0, state="failed")]) is None
