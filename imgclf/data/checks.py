"""The checks of the dataset doctor: one row per finding. May import findings and diagnosis.

To add one: a function in `findings`, and its row in `CHECKS`.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from imgclf.data import findings
from imgclf.data.diagnosis import LEVELS, Diagnosis, Finding, Item, Level
from imgclf.data.findings import Facts


class Check(NamedTuple):
    """One row: what is looked for, how bad it is, and what people are told."""

    kind: str
    level: Level
    title: str
    why: str
    fix: str
    find: Callable[[Facts], Iterable[Item]]


def diagnose(facts: Facts) -> Diagnosis:
    """Run every check; the worst findings come first, equals in the order of the table."""
    found = []
    for check in CHECKS:
        items = tuple(check.find(facts))
        if items:
            title = f"{check.title}: {len(items)}"
            found.append(Finding(check.kind, check.level, title, check.why, check.fix, items))
    return Diagnosis(facts.images, tuple(sorted(found, key=lambda finding: LEVELS.index(finding.level))))


MEASURED_TWICE = "a model that has seen them in training knows them by heart, so the accuracy looks better than it is"

CHECKS: tuple[Check, ...] = (
    Check("contradictory-labels", "error", "The same picture in several classes",
          "one of the labels must be wrong, and the network is taught a contradiction",
          "keep it in the right class only; until then imgclf only trains on these, unless parts of your own hold them",
          findings.contradictory),
    Check("leaks", "error", "The same or nearly the same picture in several parts", MEASURED_TWICE,
          "use --drop-leaks to leave the training copies out, or remove the parts and let imgclf split",
          findings.leaking),
    Check("torn-groups", "error", "Groups that are in several parts",
          "what is measured has its like in the training, so the accuracy looks better than it is",
          "give all images of a group one part, or leave the parts out and let imgclf split", findings.torn),
    Check("empty-classes", "error", "Classes without an image that can be read",
          "the network cannot learn a class that it never sees", "add images or remove the folder",
          findings.empty_classes),
    Check("untrained-classes", "error", "Classes without a training image",
          "a class that the network never saw is always taken for another one",
          "add images to train/, or use --exclude-classes",
          findings.untrained),
    Check("unreadable", "error", "Files that cannot be read",
          "these images are lost, and other programs stop at them", "replace or delete them; imgclf leaves them out",
          findings.unreadable),
    Check("shortcuts", "warning", "Classes that can be told by something other than their content",
          "the network may learn how a class was photographed instead of what it shows, and fail elsewhere",
          "take images of all classes in the same way, with the same camera", findings.shortcuts),
    Check("unsupported", "warning", "Files in formats that are not read", "these images are left out",
          "convert them to JPEG or PNG; HEIC photos need pip install 'imgclf[heic]'", findings.unsupported),
    Check("left-out", "warning", "Files and folders outside of every class", "they are not used",
          "move them into the folder of their class", findings.left_out),
    Check("class-names", "warning", "Class names that are nearly the same",
          "a slip of the pen may have split one class, and some computers take such names for one folder",
          "rename or merge the folders", findings.clashing_names),
    Check("classes-like-parts", "warning", "Classes that are named like parts",
          "train, val and test usually hold class folders", "if these are parts, put class folders into each of them",
          findings.classes_like_parts),
    Check("unmeasured-classes", "warning", "Classes that validation or test lacks",
          "how well they are recognized is not known", "add images of them to val/ and test/", findings.unmeasured),
    Check("single-image-classes", "warning", "Classes with a single image",
          "it can be learned or measured, not both", "add images, or use --exclude-classes", findings.single),
    Check("tiny-classes", "warning", f"Classes with fewer than {findings.TINY_CLASS} images",
          "a handful of test images measures nothing", "add images; 100 a class is a good start", findings.tiny),
    Check("imbalance", "warning", "Very uneven classes",
          "a network that always answers with the largest class looks good",
          "judge by macro F1 and not by accuracy; try --loss focal; add images of the small classes",
          partial(findings.imbalance, findings.IMBALANCE[1], float("inf"))),
    Check("near-across-classes", "warning", "Nearly the same picture in two classes",
          "all is well if they differ in just what the label means, as a face with and without a mask; imgclf keeps "
          "them in one part", "compare each pair; where nothing tells the two apart, keep one",
          findings.scenes_across_classes),
    Check("duplicates", "warning", "The same picture several times in a class",
          "copies teach nothing and count double; imgclf keeps them in one part", "delete all but one",
          findings.copies),
    Check("small", "warning", "Very small images", "there is little in them to see",
          "replace them by larger ones", findings.small),
    Check("stretched", "warning", "Very long or tall images",
          "every image is stretched to a square; what is in these is squeezed", "crop them to what matters",
          partial(findings.by_looks, findings.stretched)),
    Check("dark", "warning", "Dark images", "little can be seen in them", "take them again or delete them",
          partial(findings.by_looks, findings.dark)),
    Check("bright", "warning", "Overexposed images", "little can be seen in them", "take them again or delete them",
          partial(findings.by_looks, findings.bright)),
    Check("blurred", "warning", "Blurred images", "fine details are lost",
          "keep them only if the images in use will be like that too",
          partial(findings.by_looks, findings.blurred)),
    Check("plain", "warning", "Nearly empty images", "an even colour says nothing about a class",
          "delete them, unless they are meant", findings.plain),
    Check("near-duplicates", "note", "Nearly the same picture several times in a class",
          "trained on in one and measured in another, they make the accuracy look better than it is; imgclf keeps them "
          "in one part", "nothing; you may delete copies that teach nothing new", findings.near_copies),
    Check("imbalance", "note", "Uneven classes", "the larger ones weigh more in the accuracy",
          "judge by macro F1; add images of the small classes", partial(findings.imbalance, *findings.IMBALANCE)),
    Check("rotated", "note", "Photos that are stored sideways (EXIF)",
          "most other tools train on them as they are stored", "nothing: imgclf turns them upright",
          partial(findings.repaired, findings.is_rotated)),
    Check("wrong-extension", "note", "Files that are named like another format",
          "other programs go by the name and fail",
          "nothing: imgclf goes by the content; rename them for other programs",
          partial(findings.repaired, findings.is_misnamed)),
    Check("unusual", "note", "Images in unusual forms", "most other tools misread or refuse some of them",
          "nothing: imgclf brings them into plain RGB in a copy", partial(findings.repaired, findings.is_unusual)),
    Check("odd-colours", "note", "Grey images among coloured ones, or the other way round",
          "where one class has more of them, the network may go by the colour", "nothing, if all classes have them",
          findings.other_colours),
    Check("odd-size", "note", "Images of quite another size than most", "they may come from another source",
          "nothing, if they show the same things", findings.odd_size),
    Check("large", "note", "Very large images", "they take long to read", "nothing: they are shrunk once",
          partial(findings.by_looks, findings.large)),
    Check("ignored", "note", "Files that are not images, and hidden ones", "they are passed over", "nothing",
          findings.ignored),
)  # fmt: skip
