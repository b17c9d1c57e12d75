"""What the probabilities and the gate of a model are worth, in sentences for page and model card. Imports facts."""

from collections.abc import Iterator

from imgclf.report.facts import ReportFacts
from imgclf.report.sureness import Share, Sureness, error_by_chance
from imgclf.report.wording import Name, images, percent, span

BEYOND = 2.0  # standard deviations above chance from which an error is called one

Pieces = tuple[str, ...]


def sure_lines(facts: ReportFacts) -> tuple[Pieces, ...]:
    """A sentence or two each on honesty, temperature, threshold and gate, as far as there are any.

    Args:
        facts: of the run.

    Returns:
        Lines of pieces, of which some are a `Name`.
    """
    found = facts.sureness or Sureness()
    return tuple(
        line for kind in (_honesty, _temperature, _threshold, _known, _rejected) for line in kind(facts, found)
    )


def _honesty(facts: ReportFacts, found: Sureness) -> Iterator[Pieces]:
    m = facts.metrics
    mean, spread = error_by_chance(m.reliability)
    sure = sum(each.n * each.confidence for each in m.reliability) / m.n
    if m.ece <= mean + BEYOND * spread:
        verdict = "it means what it says, as far as so many images can tell"
    else:
        verdict = "it is too sure of itself" if sure > m.accuracy else "it is less sure than it could be"
    yield (
        f"On {images(m.n, 'test image')} the model gave its answers {percent(sure)} on the average and was right on "
        f"{percent(m.accuracy)}. Group by group that is off by {100 * m.ece:.1f} points (expected calibration error; "
        f"about {100 * mean:.1f} would be seen by chance alone): {verdict}.",
    )


def _temperature(facts: ReportFacts, found: Sureness) -> Iterator[Pieces]:
    if found.temperature is None:
        yield ("The probabilities were not calibrated.",)
        return
    does = "less" if found.temperature > 1 else "more"
    text = (f"The logits are divided by a temperature of {found.temperature:.2f}, found on the validation images: it "
            f"makes the model {does} sure and leaves its answers as they are.")  # fmt: skip
    if found.ece_before is not None and found.ece_after is not None:
        where = (f"On {images(found.n, 'validation image')}, those it was found on," if facts.folds
                 else f"On {images(found.n, 'test image')}")  # fmt: skip
        text += (f" {where} the calibration error was {100 * found.ece_before:.1f} points before and is "
                 f"{100 * found.ece_after:.1f} after.")  # fmt: skip
    yield (text,)


def _threshold(facts: ReportFacts, found: Sureness) -> Iterator[Pieces]:
    if found.threshold is not None:
        yield (
            Name(found.threshold_class), f" is named from a probability of {percent(found.threshold)} on "
            f"({found.threshold_rule}, chosen on {images(found.threshold_n, 'validation image')}). The model's outputs "
            "are moved so that this lies at one half, so they are no longer plain probabilities.",
        )  # fmt: skip


def _known(facts: ReportFacts, found: Sureness) -> Iterator[Pieces]:
    if found.coverage is not None:
        asked = "" if found.coverage_asked is None else (
            f" ({percent(found.coverage_asked)} of the validation images was asked for)")  # fmt: skip
        part = "validation image" if facts.folds else "test image"
        yield (f"It may say unknown. {_share(found.coverage, part)} stayed known{asked}; the accuracy does not count "
               "the gate.",)  # fmt: skip


def _rejected(facts: ReportFacts, found: Sureness) -> Iterator[Pieces]:
    if found.rejected is not None:
        yield (f"{_share(found.rejected, 'image')} of no class (in the folder _unknown) were called unknown.",)
    elif found.coverage is not None:
        yield ("How many strange images it catches was not measured: there were none in a folder _unknown beside the "
               "classes.",)  # fmt: skip


def _share(found: Share, noun: str) -> str:
    return (f"{found.hits:,} of {images(found.n, noun)} ({percent(found.share)}, 95\u00a0% interval "
            f"{span(*found.interval)})")  # fmt: skip
