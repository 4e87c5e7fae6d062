"""Who may ask what: bearer tokens with access groups, kept as hashes in one file."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from polypath.core.config import Config, describe
from polypath.core.errors import CorruptError, InvalidInput, UnknownName
from polypath.core.files import read_json, write_json

log = logging.getLogger(__name__)
METRICS = "metrics"  # whose tokens may read /metrics, which names every task


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Args:
        name: of the token; None where the server has no tokens.
        groups: access groups; a task may be used by those who are in all groups that `System.access` names.
    """

    name: str | None
    groups: frozenset[str] = frozenset()


NOBODY = Caller(None)


class TokenEntry(Config):
    """One token: its name, the sha256 of the token, and its access groups.

    A token is 256 random bits, so that a plain hash cannot be searched; no salt or slow hash is needed.
    """

    name: str = Field(min_length=1, max_length=100)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    groups: tuple[str, ...] = ()
    created: str = ""


class TokensFile(Config):
    """The tokens of a server. Holds no token, only hashes."""

    tokens: tuple[TokenEntry, ...] = ()


class Tokens:
    """The tokens in a file; read again when the file changes.

    Args:
        path: a file that `polypath token` wrote.

    Raises:
        CorruptError: no such file, or not a file of tokens.
        InvalidInput: it holds no token.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._stamp = stamp(self.path)
        self._entries = read_tokens(self.path).tokens
        if not self._entries:
            raise InvalidInput(f"{path}: holds no token; make one with: polypath token --file {path} --name NAME")

    def caller(self, token: str) -> Caller | None:
        """Who the token belongs to, or None. Compares with every entry in constant time, so that time says nothing."""
        given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        found: Caller | None = None
        for entry in self._entries:
            if hmac.compare_digest(given, entry.sha256):
                found = Caller(entry.name, frozenset(entry.groups))
        return found

    def refresh(self) -> bool:
        """Read the file again where it changed; says whether. One that cannot be read leaves the tokens as they are."""
        now = stamp(self.path)
        if now == self._stamp:
            return False
        self._stamp = now
        try:
            self._entries = read_tokens(self.path).tokens
        except CorruptError as error:
            log.error("%s; the tokens stay as they were", error)
            return False
        return True


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced: time, size and place; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_tokens(path: str | Path) -> TokensFile:
    """The tokens in a file.

    Raises:
        CorruptError: missing, not JSON, or not a file of tokens.
    """
    try:
        return TokensFile.model_validate(read_json(Path(path)))
    except ValidationError as error:
        said = "; ".join(describe(problem) for problem in error.errors()[:3])
        raise CorruptError(f"{path} is no file of tokens: {said}") from error


def create_token(path: str | Path, name: str, groups: Iterable[str] = ()) -> str:
    """Add a token to the file and return it: it is shown this once, the file holds its hash.

    Args:
        path: the file; made where it is missing, readable by its owner only.
        name: who gets it; unique in the file.
        groups: access groups; none for public tasks only.

    Raises:
        InvalidInput: the name is taken or empty.
    """
    path = Path(path)
    held = read_tokens(path) if path.exists() else TokensFile()
    if name in [entry.name for entry in held.tokens]:
        raise InvalidInput(f"token {name!r} is already in {path}; choose another name or remove it with --remove")
    token = secrets.token_urlsafe(32)
    entry = TokenEntry.of(
        {
            "name": name,
            "sha256": hashlib.sha256(token.encode()).hexdigest(),
            "groups": tuple(sorted(set(groups))),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "token",
    )
    _write(path, TokensFile(tokens=(*held.tokens, entry)))
    return token


def remove_token(path: str | Path, name: str) -> None:
    """Take a token out of the file; a running server refuses it from its next look at the file on.

    Raises:
        UnknownName: no such token.
    """
    held = read_tokens(path)
    names = [entry.name for entry in held.tokens]
    if name not in names:
        raise UnknownName("token", name, names)
    _write(Path(path), TokensFile(tokens=tuple(entry for entry in held.tokens if entry.name != name)))


def _write(path: Path, tokens: TokensFile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, tokens.model_dump(mode="json"))
    path.chmod(0o600)
