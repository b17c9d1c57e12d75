"""Advice from what is kept for the report: probabilities, groups of images, more images. Imports facts and wording."""

from collections.abc import Callable

from imgclf.report.facts import ReportFacts
from imgclf.report.sureness import error_by_chance
from imgclf.report.wording import Advice, Command, Name, images, percent, span

DISHONEST = 0.05  # calibration error that is worth a word, 0..1, where it is more than chance
BEYOND = 2.0  # standard deviations above what chance gives
WORTH = 0.005  # of accuracy that twice the images should bring


def dishonest_probabilities(facts: ReportFacts) -> Advice | None:
    """The probabilities are further from the truth than chance explains, also with their temperature."""
    m, found = facts.metrics, facts.sureness
    if m.ece < DISHONEST or (found is not None and found.threshold is not None):
        return None  # a threshold moves the probabilities on purpose
    mean, spread = error_by_chance(m.reliability)
    if m.ece <= mean + BEYOND * spread:
        return None
    sure = sum(each.n * each.confidence for each in m.reliability) / m.n
    calibrated = found is not None and found.temperature is not None
    then = (
        "A temperature from the validation images is in them already; the test images may be of another kind than "
        "these. Do not show the probability to people as a promise, and choose limits by trying."
        if calibrated else "Let the training calibrate them: "
    )  # fmt: skip
    return Advice(30 + min(30, 200 * m.ece), "Do not take the probabilities at their word", (
        f"On {images(m.n, 'test image')} the model says {percent(sure)} on the average and is right on "
        f"{percent(m.accuracy)}; bin by bin it is off by {100 * m.ece:.1f} points, where chance would give "
        f"{100 * mean:.1f}. {then}", *(() if calibrated else (Command("--calibrate"),)),
    ))  # fmt: skip


def weak_group(facts: ReportFacts) -> Advice | None:
    """A group of images on which the model is worse by more than chance."""
    weak = [each for each in facts.slices if each.weak]
    if not weak:
        return None
    worst = weak[0]
    others = len(weak) - 1
    more = (
        f" {others} other {'group is' if others == 1 else 'groups are'} weak, too (Groups of images)." if others else ""
    )
    return Advice(40 + 100 * (worst.rest - worst.accuracy), "Add images of the weak group", (
        f"Of {images(worst.n, 'test image')} with {worst.property} ", Name(worst.group), f" {worst.right} were right "
        f"({percent(worst.accuracy)}, 95\u00a0% interval {span(worst.accuracy_low, worst.accuracy_high)}), elsewhere "
        f"{percent(worst.rest)}; were it no worse, so large a difference would have a chance of {worst.p:.2g}. Add "
        f"training images like these, or see to it that the app takes others.{more}",
    ))  # fmt: skip


def more_images(facts: ReportFacts) -> Advice | None:
    """What twice the training images would bring, where the curve says that it is something."""
    found = facts.learning
    if found is None or found.gain < WORTH or found.gain_low <= 0:
        return None
    now = facts.images_of("train")
    before = " (before fine-tuning)" if facts.tuned else ""
    return Advice(min(60.0, 30 + 500 * found.gain), "Collect more training images", (
        f"Twice the photos would bring about {100 * found.gain:+.1f} points ({100 * found.gain_low:.1f} to "
        f"{100 * found.gain_high:.1f}): heads{before} on an eighth, a quarter, half and all of "
        f"{images(now, 'training image')} were measured on {images(found.n, 'validation image')}, and the line was "
        "carried on, which rather promises too much.",
    ))  # fmt: skip


FURTHER: tuple[Callable[[ReportFacts], Advice | None], ...] = (dishonest_probabilities, weak_group, more_images)
