"""Which images belong together and must share a part. May import similar (its values) and imageset.

Copies of a file, files with the same pixels, nearly the same pictures, and whatever the user has put into one group.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from imgclf.data.imageset import ImageFile
from imgclf.data.similar import Pair, star_groups

# A chain of look-alikes may bind more than it should. Beyond this many pictures, and this share of all, what is not
# alike one and the same picture is let go; a film of 1,000 frames then becomes a few dozen scenes. `leaks` names what
# is torn by that.
GIANT = (50, 0.05)


def bonds(images: Sequence[ImageFile], pairs: Sequence[Pair] = ()) -> list[tuple[int, ...]]:
    """Partition images into units that must not be torn apart.

    Args:
        images: inspected.
        pairs: of nearly the same pictures, as `find_pairs` gives them.

    Returns:
        Indices of the images of each unit, ascending; images on their own are units of one. Sorted by first index.
    """
    alike = _alike(images, pairs)
    return _components(len(images), [*alike, *_equal(images, lambda image: image.group)])


def contradictions(images: Sequence[ImageFile], pairs: Sequence[Pair] = ()) -> list[tuple[int, ...]]:
    """Indices of the images of each picture that lies in several classes, so that one of its labels must be wrong."""
    units = _components(len(images), _alike(images, [pair for pair in pairs if pair.same]))
    return [unit for unit in units if len({images[index].label for index in unit}) > 1]


def doubted(images: Sequence[ImageFile], pairs: Sequence[Pair] = ()) -> list[tuple[int, ...]]:
    """The units that hold a picture with several labels, so that no measure could be taken of them."""
    unsure = {index for unit in contradictions(images, pairs) for index in unit}
    return [unit for unit in bonds(images, pairs) if not unsure.isdisjoint(unit)]


def kin(images: Sequence[ImageFile], pairs: Sequence[Pair] = ()) -> dict[str, set[str]]:
    """What each picture is the same as or nearly: its name (`identity`) -> names, its own among them."""
    related = {identity(image): {identity(image)} for image in images}
    for pair in pairs:
        if pair.first in related and pair.second in related:
            related[pair.first].add(pair.second)
            related[pair.second].add(pair.first)
    return related


def identity(image: ImageFile) -> str:
    """What a picture is known by: its pixels, or the bytes of its file where these were not looked at."""
    return image.pixels or image.key


def _alike(images: Sequence[ImageFile], pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Edges between images that are copies or nearly the same, without chains of pairs that would bind too much."""
    edges = _edges(images, pairs)
    most = max(GIANT[0], GIANT[1] * len(images))
    inside = {images[index].pixels for unit in _components(len(images), edges) if len(unit) > most for index in unit}
    if not inside or not pairs:
        return edges
    stars = star_groups([pair for pair in pairs if pair.first in inside])
    kept = {frozenset((group[0], other)) for group in stars for other in group[1:]}
    scenes = [pair for pair in pairs if pair.first not in inside or frozenset((pair.first, pair.second)) in kept]
    return _edges(images, scenes)


def _equal(images: Sequence[ImageFile], value_of: Callable[[ImageFile], str]) -> Iterator[tuple[int, int]]:
    """Edges between images of the same value; an empty value binds nothing."""
    first: dict[str, int] = {}
    for index, image in enumerate(images):
        value = value_of(image)
        if value and first.setdefault(value, index) != index:
            yield first[value], index


def _edges(images: Sequence[ImageFile], pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    place: dict[str, int] = {}
    for index, image in enumerate(images):
        place.setdefault(image.pixels, index)
    near = [(place[pair.first], place[pair.second]) for pair in pairs if pair.first in place and pair.second in place]
    return [*_equal(images, lambda image: image.key), *_equal(images, lambda image: image.pixels), *near]


def _components(count: int, edges: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(list(edges), np.intp).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, numbers = connected_components(graph, directed=False)
    units: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(numbers.tolist()):
        units[number].append(index)
    return [tuple(unit) for unit in units.values()]
