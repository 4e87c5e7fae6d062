"""`polypath add`: new tasks for a system, and what that did to the old ones."""

from __future__ import annotations

from polypath.cli.changes import (
    Files,
    Groups,
    MethodName,
    Proof,
    Settings,
    all_or_nothing,
    prepared,
    read_and_shown,
    show_change,
)
from polypath.cli.show import AsJson, SystemFolder, note
from polypath.cli.systems import folder_of


def add(
    folder: SystemFolder,
    files: Files,
    overrides: Settings = None,
    method: MethodName = None,
    group: Groups = None,
    proof: Proof = True,
    as_json: AsJson = False,
) -> None:
    """Learn new tasks in a system, without the data of the old ones, and prove or measure what that did to them.

    Methods that train all tasks jointly need the data of the old ones too, in the same file; they say which.
    Nothing changes if it fails or is stopped.
    """
    from polypath import lifecycle

    where = folder_of(folder)
    known, settings = prepared(where, overrides, method)
    with all_or_nothing(where):
        suite = read_and_shown(files, as_json)
        done = lifecycle.add(where, suite, proof=proof, groups=group, **settings)
    event = done.system.history[-1]
    idle = [name for name in suite.names if name in known and name not in event.tasks]
    if idle:
        note(f"Known already, not learned again: {', '.join(idle)} (polypath update learns known tasks again).")
    new = [name for name in suite.names if name not in known]
    show_change(done, where, f"Added {', '.join(new)} to {where} ({event.isolation}).", as_json, new)
