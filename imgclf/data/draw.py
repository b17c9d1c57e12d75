"""Parts drawn for units of images: stratified, seeded, by content. May import bonds, similar (its values), imageset."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imgclf.data.bonds import bonds, doubted
from imgclf.data.imageset import ImageFile, Part
from imgclf.data.similar import Pair

Counts = Mapping[str, Counter[str]]  # part to class to number of images


@dataclass(frozen=True)
class Draw:
    """The drawing of parts for units of images.

    Attributes:
        labels: the class of each image.
        units: indices of images that share a part, in the order in which they are drawn.
        trained: units that hold a picture with several labels.
        shares: part to share, in the order in which single images fill them.
        rest: the part that takes what is left.
    """

    labels: tuple[str, ...]
    units: tuple[tuple[int, ...], ...]
    trained: frozenset[tuple[int, ...]]
    shares: Mapping[str, float]
    rest: str

    @classmethod
    def of(  # noqa: D102 (the attributes say it)
        cls, images: Sequence[ImageFile], pairs: Sequence[Pair], shares: Mapping[str, float], seed: int,
        rest: str = "train",
    ) -> "Draw":  # fmt: skip
        def rank(unit: tuple[int, ...]) -> bytes:
            return min(_rank(images[index].key, seed) for index in unit)

        units = tuple(sorted(bonds(images, pairs), key=rank))
        trained = frozenset(doubted(images, pairs))
        return cls(tuple(image.label for image in images), units, trained, shares, rest)

    def parts(self, fixed: Mapping[int, Part], sizes: Mapping[str, int], follow: bool = True) -> list[str]:
        """The part of every image.

        Args:
            fixed: the images that keep the part they have.
            sizes: images of each class that the shares are of.
            follow: whether what belongs together with a fixed image goes to its part; else to the rest.
        """
        targets = self._targets(sizes)
        parts: dict[int, str] = dict(fixed)
        taken: dict[str, Counter[str]] = {part: Counter() for part in targets}
        for index, part in fixed.items():
            taken[part][self.labels[index]] += 1
        free: list[tuple[int, ...]] = []
        for unit in self.units:
            known = {fixed[index] for index in unit if index in fixed}
            if known or unit in self.trained:
                known_part = known.pop() if follow and len(known) == 1 else self.rest
                self._put([index for index in unit if index not in fixed], known_part, parts, taken)
            else:
                free.append(unit)
        for unit in free:
            if len(unit) > 1:
                self._put(unit, self._fitting(unit, targets, taken), parts, taken)
        singles = [unit for unit in free if len(unit) == 1]
        goals = self._goals(Counter(self.labels[index] for (index,) in singles), targets, taken)
        for unit in singles:
            label = self.labels[unit[0]]
            open_ = (part for part in self.shares if taken[part][label] < goals[part][label])
            self._put(unit, next(open_, self.rest), parts, taken)
        self._mend(free, parts)
        return [parts[index] for index in range(len(self.labels))]

    def _drawn(self, part: str) -> bool:
        return part == self.rest or self.shares.get(part, 0.0) > 0

    def _put(self, unit: Sequence[int], part: str, parts: dict[int, str], taken: dict[str, Counter[str]]) -> None:
        for index in unit:
            parts[index] = part
            taken[part][self.labels[index]] += 1

    def _targets(self, sizes: Mapping[str, int]) -> dict[str, Counter[str]]:
        """How many images of each class each part should have."""
        targets: dict[str, Counter[str]] = {part: Counter() for part in (*self.shares, self.rest)}
        for label, size in sizes.items():
            left = size - 1  # at least one is left for the rest
            numbers = {}
            for part, share in self.shares.items():
                numbers[part] = min(left, max(int(size * share + 0.5), int(share > 0)))
                left -= numbers[part]
            empty = [part for part, share in self.shares.items() if share > 0 and not numbers[part]]
            for part in empty:
                largest = max(numbers, key=lambda name: numbers[name])
                if numbers[largest] > 1:
                    numbers[part], numbers[largest] = 1, numbers[largest] - 1
            numbers[self.rest] = size - sum(numbers.values())
            self._even_out(numbers, size)
            for part, number in numbers.items():
                targets[part][label] = number
        return targets

    def _goals(self, singles: Mapping[str, int], targets: Counts, taken: Counts) -> Counts:
        """Targets that single images can reach: what a large unit took beyond one is missing in all others alike."""
        goals = {part: Counter(numbers) for part, numbers in targets.items()}
        for label, number in singles.items():
            lacking = {part: targets[part][label] - taken[part][label] for part in goals}
            open_ = [part for part, lack in lacking.items() if lack > 0]
            for _ in range(sum(lacking[part] for part in open_) - number):
                part = max((part for part in open_ if goals[part][label] > taken[part][label]),
                           key=lambda part: (goals[part][label] - 1) / targets[part][label])  # fmt: skip
                goals[part][label] -= 1
        return goals

    def _even_out(self, numbers: dict[str, int], size: int) -> None:
        """Bring every part to within one image of its share, where the roundings of many parts have added up."""
        shares = {**self.shares, self.rest: 1 - sum(self.shares.values())}
        over = {part: number - size * shares[part] for part, number in numbers.items() if self._drawn(part)}
        while max(map(abs, over.values())) > 1.001:
            able = [part for part in over if numbers[part] > 1]
            if not able:
                return
            most, least = max(able, key=lambda part: over[part]), min(over, key=lambda part: over[part])
            if over[most] - over[least] <= 1:
                return
            for part, step in ((most, -1), (least, 1)):
                numbers[part] += step
                over[part] += step

    def _fitting(self, unit: Sequence[int], targets: Counts, taken: Counts) -> str:
        """The part that a unit of several images brings nearest to its numbers (least sum of squares, in shares)."""
        numbers = Counter(self.labels[index] for index in unit)

        def cost(part: str) -> float:
            total = 0.0
            for label, number in numbers.items():
                over = taken[part][label] - targets[part][label]
                total += number * (number + 2 * over) / max(targets[part][label], 0.5)
            return total

        candidates = [part for part in targets if self._drawn(part)]
        return min(candidates, key=lambda part: (cost(part), candidates.index(part)))

    def _mend(self, free: Sequence[tuple[int, ...]], parts: dict[int, str]) -> None:
        """Give the rest an image of every class, and every part one at all, where large units have left it empty."""
        for wanted in (self.rest, *(part for part in self.shares if self._drawn(part))):
            present = {self.labels[index] for index, part in parts.items() if part == wanted}
            for label in sorted(set(self.labels)):
                if label in present or (present and wanted != self.rest):
                    continue
                mine = [unit for unit in free if any(self.labels[index] == label for index in unit)]
                movable = [unit for unit in mine if wanted == self.rest or self._spares(unit, parts)]
                if movable:
                    smallest = min(movable, key=len)
                    parts.update(dict.fromkeys(smallest, wanted))
                    present.update(self.labels[index] for index in smallest)

    def _spares(self, unit: Sequence[int], parts: Mapping[int, str]) -> bool:
        """Whether the part that a unit is in keeps an image of each of its classes without it."""
        part = parts[unit[0]]
        left = Counter(self.labels[index] for index, where in parts.items() if where == part)
        left.subtract(self.labels[index] for index in unit)
        return all(left[self.labels[index]] > 0 for index in unit)


def _rank(key: str, seed: int) -> bytes:
    return hashlib.blake2b(key.encode(), key=str(seed).encode()[:64], digest_size=16).digest()
