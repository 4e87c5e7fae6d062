"""Everything that is wrong in a tasks.yaml, each mistake with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from polypath.core.errors import InvalidInput, PolypathError

Place = tuple[str | int, ...]  # ("tasks", 0, "target"): the key that is wrong; its beginning where that is not there


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Args:
        place: path of keys and positions in the file.
        text: one sentence.
    """

    place: Place
    text: str


class Mistakes(InvalidInput):
    """Several mistakes at once.

    Args:
        subject: name of the file or suite.
        problems: the mistakes.
        lines: line of every key of the file, where there is a file.
    """

    def __init__(self, subject: str, problems: Sequence[Problem], lines: Mapping[Place, int] | None = None) -> None:
        self.subject, self.problems = subject, tuple(problems)
        said = [(line_of(lines, p.place) if lines else None, p.text) for p in problems]
        texts = [
            text if line is None else f"line {line}: {text}" for line, text in sorted(said, key=lambda s: s[0] or 0)
        ]
        if len(texts) == 1:
            super().__init__(f"{subject}: {texts[0]}")
        else:
            super().__init__(f"{subject}: {len(texts)} problems:\n" + "\n".join(f"  - {text}" for text in texts))

    def with_lines(self, subject: str, lines: Mapping[Place, int]) -> Mistakes:
        """The same mistakes with the lines of a file."""
        return Mistakes(subject, self.problems, lines)


def line_of(lines: Mapping[Place, int], place: Place) -> int | None:
    """Line of a key, or of the nearest thing around it."""
    for end in range(len(place), -1, -1):
        if place[:end] in lines:
            return lines[place[:end]]
    return None


class Collected:
    """Mistakes as they are found; work goes on with what is right."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, place: Place, text: str) -> None:
        """Note one mistake."""
        self.problems.append(Problem(place, text))

    @contextmanager
    def at(self, place: Place, who: str = "") -> Iterator[list[PolypathError]]:
        """Errors of the block are noted at a place and end the block.

        Args:
            place: of the key the block is about.
            who: whose key it is, in front of the message.

        Yields:
            A list that holds the error afterwards, where there was one.
        """
        failed: list[PolypathError] = []
        try:
            yield failed
        except PolypathError as error:
            failed.append(error)
            text = str(error)
            self.add(place, text if not who or text.startswith(who) else f"{who}: {text}")

    def check(self, subject: str) -> None:
        """Raise `Mistakes` where any was noted."""
        if self.problems:
            raise Mistakes(subject, self.problems)
