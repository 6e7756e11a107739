"""Hold a data set: a training and a test part of images with true labels, read on demand."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image with its true labels."""

    stem: str
    """Names the image; no other of its data set has the same."""
    image: NDArray[np.float32]
    """Stored values, not rescaled; shape (Y, X, C)."""
    labels: NDArray[np.int32]
    """Cells > 0, background 0, unknown -1; shape (Y, X)."""
    group: str
    """What the image belongs to, such as its tissue; "" where the data set has no groups."""


class LabelledImages(Sequence[LabelledImage]):
    """Labelled images that are read when asked for, and not kept.

    Iterating reads each image once, in order; that is the quickest way through a
    compressed file. A slice is such a sequence again and reads nothing.

    Parameters
    ----------
    stems, groups : sequences of str
        Of every image, known without reading its pixels.
    read : function
        Yields the images at the positions it is given, 0 <= position < ``len(stems)``.
    """

    def __init__(
        self,
        stems: Sequence[str],
        groups: Sequence[str],
        read: Callable[[Sequence[int]], Iterator[LabelledImage]],
    ) -> None:
        assert len(stems) == len(groups) == len(set(stems)), (len(stems), len(groups))
        self.stems, self.groups = tuple(stems), tuple(groups)
        self._read = read

    def __len__(self) -> int:
        return len(self.stems)

    def __iter__(self) -> Iterator[LabelledImage]:
        return self._read(range(len(self)))

    @overload
    def __getitem__(self, index: int) -> LabelledImage: ...

    @overload
    def __getitem__(self, index: slice) -> "LabelledImages": ...

    def __getitem__(self, index: int | slice) -> "LabelledImage | LabelledImages":
        positions = range(len(self))[index]
        if isinstance(positions, int):
            return next(self._read([positions]))
        return self.choose(positions)

    def in_group(self, group: str) -> "LabelledImages":
        """Return the images of one group; none where there is no such group."""
        return self.choose([at for at, name in enumerate(self.groups) if name == group])

    def choose(self, positions: Sequence[int]) -> "LabelledImages":
        """Return the images at these positions, in their order, without reading any."""
        return LabelledImages(
            [self.stems[at] for at in positions],
            [self.groups[at] for at in positions],
            lambda chosen: self._read([positions[at] for at in chosen]),
        )


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """A data set of any kind; each part has at least one image, no stem is in both."""

    name: str
    train: LabelledImages
    test: LabelledImages
    border: int = 0
    """Width, in pixels, of the rim that lies outside the field of interest. Where it is not 0,
    predicted and true labels pass `keep_field_of_interest` before they are scored."""
