"""Pages: the parts of a manifest that grow with the system, in files that are written once.

What a manifest lists (components, tasks, history, and whatever lists or mappings the network's plan holds) is cut into
pages of 64 entries. A full page is a file of its own, `pages/<2>/<sha256>.json`, named by the hash of its text; the
manifest names its pages and holds the entries of the last, unfinished one itself. So a save writes what is new, and the
snapshots of a system share the pages that they have in common.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from polypath.core.config import Config
from polypath.core.errors import CorruptError, Unreadable
from polypath.core.files import write_atomically

PAGE = 64
LISTED = ("components", "tasks", "history")
_ADDRESS = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Section:
    """The entries of a part of a manifest: its values, and of a mapping their keys.

    Apart from each other, for a save compares all of them with those of the save before, and pairs would have to be
    made first.
    """

    keys: Sequence[str] | None
    values: Sequence[Any]

    @classmethod
    def of(cls, value: Mapping[str, Any] | Sequence[Any]) -> Section:
        """Of a mapping or a list, in its order."""
        return cls(list(value), list(value.values())) if isinstance(value, Mapping) else cls(None, value)

    def part(self, start: int, end: int) -> Section:
        """The entries from `start` to before `end`."""
        return Section(None if self.keys is None else tuple(self.keys[start:end]), tuple(self.values[start:end]))

    def starts_with(self, parts: Sequence[Section]) -> bool:
        """Whether the first entries are those of the parts one after the other."""
        values = list(chain.from_iterable(part.values for part in parts))
        if self.values[: len(values)] != values:
            return False
        return self.keys is None or list(self.keys[: len(values)]) == list(
            chain.from_iterable(part.keys or () for part in parts)
        )

    def plain(self) -> list[Any]:
        """JSON: of a mapping, [key, value] of every entry."""
        values = [_plain(value) for value in self.values]
        return values if self.keys is None else [list(pair) for pair in zip(self.keys, values, strict=True)]


@dataclass(frozen=True)
class Page:
    """One page of a section: its address and the entries in it."""

    sha256: str
    entries: Section


class Pages:
    """The `pages/` folder of a system; remembers which entries lie where, so that what did not change is left alone.

    Args:
        folder: the system's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pages"
        self._laid: dict[str, list[Page]] = {}
        self._addresses: dict[str, frozenset[str]] = {}

    def path(self, sha256: str) -> Path:
        """Where a page is."""
        return self.folder / sha256[:2] / f"{sha256}.json"

    # ---- reading ----------------------------------------------------------------------------------------------

    def filled(self, head: Mapping[str, Any], where: Path) -> dict[str, Any]:
        """The whole manifest of a head: the entries of its pages put in.

        Args:
            head: as read.
            where: from which file, for messages.

        Raises:
            CorruptError: a page is missing or not what its name promises; names it.
        """
        found = dict(head)
        listed = found.pop("pages", {})
        if not isinstance(listed, dict) or not isinstance(found.get("plan", {}), dict):
            raise CorruptError(f"{where} is damaged: its pages or its plan are not what a manifest has there")
        if not listed:
            return found
        found["plan"] = dict(found.get("plan", {}))
        for section, pages in listed.items():
            if not _well_formed(pages):
                raise CorruptError(f"{where} is damaged: its pages of {section} are not [address, number of entries]")
            entries = [entry for sha256, _ in pages for entry in self._read(str(sha256))]
            room, _, key = section.rpartition(".")
            holder = found["plan"] if room else found
            rest = holder.get(key)
            if isinstance(rest, dict):
                holder[key] = {**{name: value for name, value in entries}, **rest}
            elif isinstance(rest, list):
                holder[key] = [*entries, *rest]
            else:
                raise CorruptError(f"{where} is damaged: it names pages of {section}, which it does not have")
        return found

    def remember(self, head: Mapping[str, Any], sections: Mapping[str, Section]) -> None:
        """Take what was just read as what lies in the pages.

        Args:
            head: as read.
            sections: section -> its entries, as `sections_of` gives them for the whole manifest.
        """
        self._laid = {}
        for section, pages in head.get("pages", {}).items():
            entries, start, laid = sections[section], 0, []
            for sha256, count in pages:
                laid.append(Page(sha256, entries.part(start, start + count)))
                start += count
            self._laid[section] = laid

    def _read(self, sha256: str) -> list[Any]:
        path = self.path(sha256)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            raise CorruptError(f"{path} is missing; restore it from a copy of the system") from None
        except OSError as error:
            raise Unreadable(f"{path} cannot be read ({error})") from error
        if hashlib.sha256(text).hexdigest() != sha256:
            raise CorruptError(f"{path} was changed: its text is not what its name says; restore it from a copy")
        entries: list[Any] = json.loads(text)
        return entries

    def named(self, head: Path) -> list[str]:
        """Addresses of the pages that a manifest file names; none where it cannot be read."""
        try:
            text = head.read_bytes()
            listed = _last_line(text) or json.loads(text).get("pages", {})
            return [sha256 for pages in listed.values() for sha256, _ in pages]
        except (AttributeError, OSError, RecursionError, TypeError, ValueError):
            return []

    def addresses(self, pages: Iterable[str]) -> set[str]:
        """Everything that looks like an address in these pages, and theirs; a page that is gone names nothing.

        Raises:
            OSError: a page is there and cannot be read: what it names must not be taken for nobody's.
        """
        found: set[str] = set()
        for sha256 in pages:
            if sha256 not in self._addresses:
                try:
                    text = self.path(sha256).read_bytes()
                except FileNotFoundError:
                    continue
                self._addresses[sha256] = addresses_in(text)
            found |= self._addresses[sha256]
            found.add(sha256)
        return found

    # ---- writing ----------------------------------------------------------------------------------------------

    def laid(self, sections: Mapping[str, Section]) -> Layout:
        """Which entries go into which page; pages that did not change are those that lie there already."""
        pages = {section: self._cut(section, entries) for section, entries in sections.items()}
        return Layout({section: cut for section, cut in pages.items() if cut})

    def write(self, layout: Layout, made: list[Path]) -> None:
        """Write the new pages that are not there, whole; their files go into `made`, each before it is written."""
        for sha256, text in layout.texts.items():
            path = self.path(sha256)
            if not path.exists() or path.read_bytes() != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.append(path)
                write_atomically(path, lambda file, text=text: file.write(text))  # type: ignore[misc]

    def settle(self, layout: Layout) -> None:
        """The layout is on disk: the next save starts from it."""
        self._laid = layout.pages
        for sha256, text in layout.texts.items():
            self._addresses[sha256] = addresses_in(text)

    def forget(self) -> None:
        """Remember nothing: the next save looks at every page."""
        self._laid = {}

    def _cut(self, section: str, entries: Section) -> list[Page]:
        old, cut, at = self._laid.get(section, []), [], 0
        if entries.starts_with([page.entries for page in old]):  # the usual case: what is new lies at the end
            old, cut, at = [], list(old), sum(len(page.entries.values) for page in old)
        for number, page in enumerate(old):
            size = len(page.entries.values)
            if entries.part(at, at + size) == page.entries:
                cut.append(page)
                at += size
                continue
            until = _found_again(entries, at, old[number + 1 :])
            if until is None:
                break
            cut += [self._page(entries.part(start, min(start + PAGE, until))) for start in range(at, until, PAGE)]
            at = until
        full = range(at, at + (len(entries.values) - at) // PAGE * PAGE, PAGE)
        return cut + [self._page(entries.part(start, start + PAGE)) for start in full]

    def _page(self, entries: Section) -> Page:
        text = _text(entries.plain()).encode()
        return Fresh(hashlib.sha256(text).hexdigest(), entries, text)


@dataclass(frozen=True)
class Fresh(Page):
    """A page that was made just now, with its text."""

    text: bytes


class Layout:
    """Pages of every section that has any."""

    def __init__(self, pages: dict[str, list[Page]]) -> None:
        self.texts = {page.sha256: page.text for cut in pages.values() for page in cut if isinstance(page, Fresh)}
        self.pages = {section: [Page(page.sha256, page.entries) for page in cut] for section, cut in pages.items()}

    def paged(self, section: str) -> int:
        """How many entries of a section lie in pages."""
        return sum(len(page.entries.values) for page in self.pages.get(section, ()))

    @property
    def addresses(self) -> list[str]:
        """Of all pages."""
        return [page.sha256 for cut in self.pages.values() for page in cut]

    def listed(self) -> dict[str, list[list[Any]]]:
        """As the manifest names them: section -> [address, number of entries] of every page."""
        return {
            section: [[page.sha256, len(page.entries.values)] for page in cut] for section, cut in self.pages.items()
        }


def sections_of(fields: Mapping[str, Any]) -> dict[str, Section]:
    """Section -> entries of everything in a manifest that may grow with the system."""
    plan = {f"plan.{key}": value for key, value in fields["plan"].items() if isinstance(value, dict | list)}
    found = {**{key: fields[key] for key in LISTED}, **plan}
    return {key: Section.of(value) for key, value in found.items()}


def head_text(fields: Mapping[str, Any], sections: Mapping[str, Section], layout: Layout) -> str:
    """The manifest file: every value on a line, of sections the entries that lie in no page.

    Args:
        fields: of the manifest, in order.
        sections: of the manifest, see `sections_of`.
        layout: what lies in pages.
    """
    rest = {name: held.part(layout.paged(name), len(held.values)).plain() for name, held in sections.items()}

    def section(name: str, value: Any) -> str:
        plain = rest[name]
        lines = (f"{_text(k)}: {_text(v)}" for k, v in plain) if isinstance(value, dict) else map(_text, plain)
        return _block(lines, "{}" if isinstance(value, dict) else "[]")

    def plan(values: Mapping[str, Any]) -> str:
        held = {key: section(f"plan.{key}", v) if f"plan.{key}" in rest else _text(v) for key, v in values.items()}
        return _block((f"{_text(key)}: {text}" for key, text in held.items()), "{}")

    made: dict[str, Callable[[Any], str]] = {"plan": plan}
    made |= {name: (lambda value, name=name: section(name, value)) for name in LISTED}  # type: ignore[misc]
    lines = [
        f"{_text(key)}: {made.get(key, lambda value: _text(_plain(value)))(value)}" for key, value in fields.items()
    ]
    if layout.pages:
        lines.append(f'"pages": {_text(layout.listed())}')
    return _block(lines, "{}") + "\n"


def addresses_in(text: bytes) -> frozenset[str]:
    """Everything in a text that looks like an address."""
    return frozenset(held.decode() for held in _ADDRESS.findall(text))


def _last_line(head: bytes) -> dict[str, Any] | None:
    """The pages that a manifest file names where `head_text` writes them; None where they do not stand there."""
    _, found, line = head.rpartition(b'\n"pages": ')
    try:
        listed = json.loads(line.rstrip(b"\n}") + b"}") if found else None
    except ValueError:
        return None
    return listed if isinstance(listed, dict) and all(map(_well_formed, listed.values())) else None


def _well_formed(pages: Any) -> bool:
    return isinstance(pages, list) and all(
        isinstance(page, list)
        and len(page) == 2
        and isinstance(page[1], int)
        and _ADDRESS.fullmatch(str(page[0]).encode())
        for page in pages
    )


def _found_again(entries: Section, at: int, later: Sequence[Page]) -> int | None:
    """Where in `entries`, from `at` on, one of the later pages begins; None where none of them is found."""
    for page in later:
        known, held = (
            (entries.values, page.entries.values) if entries.keys is None else (entries.keys, page.entries.keys)
        )
        if held:
            try:
                return known.index(held[0], at)
            except ValueError:
                continue
    return None


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Config) else value


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _block(lines: Iterable[str], brackets: str) -> str:
    body = ",\n".join(lines)
    return f"{brackets[0]}\n{body}\n{brackets[1]}" if body else brackets
