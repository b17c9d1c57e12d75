"""What to do next: concrete advice from the facts of a run, each with the number of images behind it. Imports facts.

One function per kind of advice, listed in `KINDS` (those about groups, probabilities and more images are in
`further_advice.py`); each looks at the facts and says something, or nothing. The weights
order them: above 80 the figures cannot be used as they are, 50 to 80 much can be won, below 50 it is worth a try.
"""

import shlex
from collections.abc import Callable
from math import ceil

from imgclf.evaluation.metrics import Z95, wilson
from imgclf.report.facts import HistoryRow, ReportFacts
from imgclf.report.further_advice import FURTHER
from imgclf.report.reading import still_improving
from imgclf.report.wording import Advice, Command, Name, images, percent, points, span

MOST = 6  # more is no longer read
WIDE = 0.05  # width of the accuracy's interval from which more test images are advised, 0..1
WANTED = 0.02  # what they should bring it to, to either side
FEWER = 5  # times fewer training images than the largest class
GAP = 0.05  # between training and validation accuracy that is more than usual
FEW_OF_A_CLASS = 5  # test images, below which a class's recall says nothing
WEAK = 0.1  # recall below the accuracy
LEAST_PAIR = 3  # images that a pair must have been mixed up in
SURE = 0.95  # probability from which a mistake looks like a wrong label
LEAST_SURE = 3  # such mistakes
LOSS = 0.005  # of accuracy that an exported file may lose unmentioned


def advise(facts: ReportFacts) -> tuple[Advice, ...]:
    """What to do next, most urgent first.

    Args:
        facts: of the run.

    Returns:
        At most `MOST` pieces of advice; none where nothing stands out.
    """
    found = [advice for kind in KINDS if (advice := kind(facts)) is not None]
    return tuple(sorted(found, key=lambda advice: -advice.weight)[:MOST])


def no_better_than_guessing(facts: ReportFacts) -> Advice | None:
    """The interval of the accuracy reaches down to what the largest class alone would give."""
    m = facts.metrics
    at = max(range(len(m.per_class)), key=lambda index: m.per_class[index].support)
    guess = m.per_class[at].support / m.n
    if m.accuracy_low > guess:
        return None
    return Advice(100, "Do not use this model yet", (
        f"It is right on {m.correct:,} of {images(m.n, 'test image')} ({percent(m.accuracy)}); always answering ",
        Name(facts.classes[at]), f" would be right on {m.per_class[at].support:,} ({percent(guess)}), which its "
        f"interval ({span(m.accuracy_low, m.accuracy_high)}) does not exclude. Check that the folders hold what their "
        "names say: ", Command(f"imgclf check {shlex.quote(facts.data_path)}"),
    ))  # fmt: skip


def few_test_images(facts: ReportFacts) -> Advice | None:
    """The accuracy is known only roughly."""
    m = facts.metrics
    width = m.accuracy_high - m.accuracy_low
    if width < WIDE:
        return None
    p = min(max(m.accuracy, 0.05), 0.95)  # of a perfect score on few images nothing follows for many
    enough = _rounded(Z95**2 * p * (1 - p) / WANTED**2)
    return Advice(min(90.0, 25 + 300 * width), "Test on more images", (
        f"{images(m.n, 'test image')} {'leaves' if m.n == 1 else 'leave'} the accuracy open from "
        f"{span(m.accuracy_low, m.accuracy_high)}, so another model has to be {100 * width / 2:.0f} points better "
        f"before this could show it. About {enough:,} would bring that down to {100 * WANTED:.0f}"
        + ("." if facts.folds else ", or use all images for testing: "),
        *(() if facts.folds else (Command(f"imgclf train {shlex.quote(facts.data_path)} --folds 5"),)),
    ))  # fmt: skip


def one_class_has_fewer(facts: ReportFacts) -> Advice | None:
    """One class has many times fewer training images than the largest."""
    counts = facts.counts.get("train", {})
    if len(counts) < 2 or min(counts.values()) == 0:
        return None
    smallest, largest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    times = counts[largest] / counts[smallest]
    if times < FEWER:
        return None
    entry = facts.metrics.per_class[facts.classes.index(smallest)]
    weak = entry.recall is not None and entry.recall < facts.metrics.accuracy
    hits = 0 if entry.recall is None else round(entry.recall * entry.support)
    found = f"; the model found {hits} of its {images(entry.support, 'test image')}" if entry.support else ""
    weigh = () if facts.settings.get("balance") == "weights" else (
        " Until there are more, ", Command("--balance weights"), " makes each of them count more.")  # fmt: skip
    return Advice((50 if weak else 30) + min(times, 20), "Collect more of the smallest class", (
        Name(smallest), f" has {images(counts[smallest], 'training image')}, ", Name(largest), f" has "
        f"{counts[largest]:,}, {times:.0f} times as many{found}.", *weigh,
    ))  # fmt: skip


def learned_by_heart(facts: ReportFacts) -> Advice | None:
    """At the kept epoch the training accuracy is above all that the validation accuracy may be."""
    kept, n = facts.kept, facts.images_of("val")
    if kept is None or kept.val_accuracy is None or not n:
        return None
    gap = kept.accuracy - kept.val_accuracy
    if gap < GAP or kept.accuracy <= wilson(round(kept.val_accuracy * n), n)[1]:
        return None
    return Advice(min(75.0, 30 + 200 * gap), "Make it harder to learn by heart", (
        f"In the kept epoch {percent(kept.accuracy)} of {images(facts.images_of('train'), 'training image')} were "
        f"right and {percent(kept.val_accuracy)} of {images(n, 'validation image')}, {100 * gap:.0f} points fewer. "
        "More training images help most; or vary them more: ", Command(_stronger(facts)),
    ))  # fmt: skip


def train_longer(facts: ReportFacts) -> Advice | None:
    """The last epoch was the best."""
    last = still_improving(facts.history)
    if last is None:
        return None
    option = "--fine-tune-epochs" if last.stage.startswith("fine-tune") else "--epochs"
    before = _before(facts, last)
    return Advice(45, "Train longer", (
        f"The validation loss ({images(facts.images_of('val'), 'image')}) was still falling when training ended: "
        f"{before.val_loss:.3f}, then {last.val_loss:.3f} in the last epoch, the {_ordinal(last.epoch)}. Try ",
        Command(f"{option} {2 * last.epoch}"), ".",
    ))  # fmt: skip


def weak_class(facts: ReportFacts) -> Advice | None:
    """The class with the lowest recall, where that is well below the accuracy."""
    m = facts.metrics
    entries = [(entry.recall, at) for at, entry in enumerate(m.per_class)
               if entry.recall is not None and entry.support >= FEW_OF_A_CLASS]  # fmt: skip
    if len(entries) < 2:
        return None
    recall, at = min(entries)
    if recall > m.accuracy - WEAK:
        return None
    entry = m.per_class[at]
    found = round(recall * entry.support)
    low, high = wilson(found, entry.support)
    row = [number if index != at else 0 for index, number in enumerate(m.confusion[at])]
    most = max(range(len(row)), key=row.__getitem__)
    more = "" if high > m.accuracy else ", by more than chance"
    return Advice(35 + 100 * (m.accuracy - recall) * (1 if more else 0.5), "Work on the weakest class", (
        "Of ", images(entry.support, "test image"), " of ", Name(facts.classes[at]), f" {found} were found "
        f"({percent(recall)}, 95\u00a0% interval {span(low, high)}), fewer than of the others{more}. "
        f"{row[most]} of the {entry.support - found} others were taken for ", Name(facts.classes[most]),
        ". Add training images like those that it misses.",
    ), ((at, most),))  # fmt: skip


def confused_pair(facts: ReportFacts) -> Advice | None:
    """The pair of classes that is mixed up most often."""
    m = facts.metrics
    counts = {
        (a, b): m.confusion[a][b] + m.confusion[b][a]
        for a in range(len(m.confusion)) for b in range(a) if m.confusion[a][b] + m.confusion[b][a] >= LEAST_PAIR
    }  # fmt: skip
    if not counts:
        return None
    a, b = max(counts, key=lambda pair: (counts[pair], -pair[0], -pair[1]))
    if m.confusion[a][b] < m.confusion[b][a]:
        a, b = b, a
    both, wrong = counts[max(a, b), min(a, b)], m.n - m.correct
    back = f", {m.confusion[b][a]} the other way round" if m.confusion[b][a] else ""
    return Advice(30 + 60 * both / wrong, f"Look at {images(both, 'mixed-up image')}", (
        f"{m.confusion[a][b]} of {images(m.per_class[a].support, 'test image')} of ", Name(facts.classes[a]),
        " were taken for ", Name(facts.classes[b]), f"{back}: {both} of all {wrong} mistakes. If you "
        "cannot tell them apart yourself, write down where one class ends and the other begins and sort them again, or "
        "make one class of both.",
    ), ((a, b), (b, a)))  # fmt: skip


def likely_label_errors(facts: ReportFacts) -> Advice | None:
    """Mistakes that the model is very sure of."""
    wrong = facts.mistakes
    sure = sum(image.probability >= SURE for image in wrong)
    if sure < LEAST_SURE:
        return None
    data, run = shlex.quote(facts.data_path), shlex.quote(facts.run_path)
    return Advice(28 + 30 * sure / len(wrong), "Look for wrong labels", (
        f"In {sure} of {images(len(wrong), 'mistake')} the model was at least {100 * SURE:.0f}\u00a0% sure of another "
        "class: such images often lie in the wrong folder, and then training images do too. ",
        Command(f"imgclf check {data} --run {run} --csv suspects.csv"), " lists them, ",
        Command("imgclf review suspects.csv"), " goes through them.",
    ))  # fmt: skip


def exports_lose_accuracy(facts: ReportFacts) -> Advice | None:
    """A mobile file that is less accurate than the model."""
    losing = [row for row in facts.exports if row.n and (row.fault or row.drop > LOSS)]
    if not losing:
        return None
    worst = max(losing, key=lambda row: (row.suggested, row.drop))
    shipped = next((row for row in facts.exports if row.suggested), None)
    instead = (
        "" if shipped is None or worst.suggested else f"The {shipped.format} file loses {points(shipped.drop)} of it."
    )
    weight = 85 if shipped is None else 70 if worst.suggested else 26 + min(20, 100 * worst.drop)
    why = f" and is not to be shipped ({worst.fault})" if worst.fault and not worst.drop else ""
    title = f"Do not ship the {worst.format} file" if worst.fault else f"Prefer another file to {worst.format}"
    return Advice(weight, "Mind what the mobile file loses" if worst.suggested else title, (
        "On ", images(worst.n, "image"), " ", Name(worst.name), f" is {points(worst.drop)} less accurate than the "
        f"model{why}. ", instead or "Compare the formats: ", *(() if instead else (
            Command(f"imgclf export {shlex.quote(facts.run_path)} --formats float16,dynamic,int8"),)),
    ))  # fmt: skip


KINDS: tuple[Callable[[ReportFacts], Advice | None], ...] = (
    no_better_than_guessing, few_test_images, one_class_has_fewer, learned_by_heart, train_longer, weak_class,
    confused_pair, likely_label_errors, exports_lose_accuracy, *FURTHER,
)  # fmt: skip


def _stronger(facts: ReportFacts) -> str:
    """The next stronger recipe of augmentation."""
    order = ("none", "shift", "light", "medium", "strong")
    now = facts.settings.get("augment", "light")
    at = order.index(now) if now in order else 2
    return "--augment " + order[max(at + 1, 3)] if at + 1 < len(order) else "--mix mixup"


def _before(facts: ReportFacts, row: HistoryRow) -> HistoryRow:
    return facts.history[facts.history.index(row) - 1]


def _rounded(number: float) -> int:
    """A count rounded up to two digits: nobody collects 753 images."""
    step: int = 10 ** max(0, len(str(ceil(number))) - 2)
    return ceil(number / step) * step


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
