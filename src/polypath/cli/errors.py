"""What a user sees when something is wrong: one message on standard error and an exit code, never a trace."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from polypath.core.errors import Cancelled, PolypathError

WRONG, STOPPED = 2, 130  # 130 = 128 + SIGINT, what shells report for a program that Ctrl-C ended


class Commands(TyperGroup):
    """The group of all commands; turns errors into messages, for the console and for tests alike."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Args:
            ctx: of the whole command line; `--debug` lets errors pass.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("Stopped.", err=True)
            raise typer.Exit(STOPPED) from None
        except Exception as error:
            said = message(error)
            if said is None or ctx.params.get("debug"):
                raise
            typer.echo(said if isinstance(error, Cancelled) else f"Error: {said}", err=True)
            raise typer.Exit(STOPPED if isinstance(error, Cancelled) else WRONG) from None


def message(error: Exception) -> str | None:
    """What to tell a user about an error; None where it is a mistake of ours and the trace is what helps."""
    if isinstance(error, PolypathError):
        return str(error)
    if isinstance(error, OSError) and error.errno != errno.EPIPE:  # a closed pipe (| head) is no error
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    if type(error).__name__ == "ValidationError" and type(error).__module__.startswith("pydantic"):
        from polypath.core.config import describe

        return "; ".join(describe(problem) for problem in error.errors())  # type: ignore[attr-defined]
    return None


@contextmanager
def resumable(out: Path, words: Sequence[str], claimed: str) -> Iterator[None]:
    """Inside the block Ctrl-C ends with the exact command that goes on.

    Args:
        out: the run's folder.
        words: the command, without --resume.
        claimed: file in `out` that is there once the run has begun.
    """
    try:
        yield
    except (Cancelled, KeyboardInterrupt) as stop:
        if not (out / claimed).exists():
            raise Cancelled("Stopped before anything was written; run the same command again.") from stop
        command = shlex.join(["polypath", *words, "--resume"])
        raise Cancelled(f"Stopped. What is finished is in {out}. Go on with:\n  {command}") from stop
