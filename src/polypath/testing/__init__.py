"""The exam for methods: the laws every method keeps, and tiny suites to try them on.

    from polypath.testing import examine
    examine(lambda: MyMethod(width=2, epochs=2))

Every law is a function of a `Candidate` whose docstring is its statement; it returns quietly or raises `LawBroken`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from polypath.core.examples import Suite
from polypath.testing.exam import Candidate, Factory, Law, LawBroken, sit
from polypath.testing.life import law_removed_is_in_no_file, law_renamed_keeps_every_bit
from polypath.testing.storage import (
    law_loaded_continues_identically,
    law_removed_can_return,
    law_removed_is_gone,
    law_save_and_load,
    law_store_never_overwrites,
)
from polypath.testing.structure import (
    law_components_partition_the_state,
    law_costs_are_counted,
    law_extract_is_bit_identical,
    law_forward_many_equals_forward,
    law_fused_is_close,
    law_off_path_cannot_influence,
    law_plan_is_json,
    law_restore_and_assign_reproduce,
    law_trainable_stays_on_the_path,
)
from polypath.testing.suites import tiny_features, tiny_images
from polypath.testing.training import (
    law_isolation_as_declared,
    law_killed_runs_resume,
    law_no_global_state_is_changed,
    law_one_task_agrees,
    law_same_seed_same_system,
)

LAWS: dict[str, Law] = {
    law.__name__.removeprefix("law_"): law
    for law in (
        law_components_partition_the_state,
        law_plan_is_json,
        law_restore_and_assign_reproduce,
        law_extract_is_bit_identical,
        law_fused_is_close,
        law_forward_many_equals_forward,
        law_off_path_cannot_influence,
        law_trainable_stays_on_the_path,
        law_costs_are_counted,
        law_isolation_as_declared,
        law_no_global_state_is_changed,
        law_same_seed_same_system,
        law_killed_runs_resume,
        law_save_and_load,
        law_loaded_continues_identically,
        law_store_never_overwrites,
        law_removed_is_gone,
        law_removed_can_return,
        law_removed_is_in_no_file,
        law_renamed_keeps_every_bit,
    )
}


def examine(
    factory: Factory,
    suite: Suite | None = None,
    *,
    seed: int = 0,
    laws: Iterable[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Apply every law to a method; returns the names of the laws, all of which it keeps.

    Learns about ten times, so the method should be configured tiny: two epochs, a few channels.

    Args:
        factory: makes the method, freshly configured: `lambda: MyMethod(width=2, epochs=2)`.
        suite: three tasks or more; None takes `tiny_images()`, `tiny_features()` is there for methods on tables.
        seed: of everything random.
        laws: names in `LAWS`; None applies all.
        settings: of the runs; one CPU thread in float32 unless said otherwise.

    Raises:
        LawBroken: lists every law that was broken and what was found.
        UnknownName: no law of that name.
    """
    return sit(LAWS, Candidate(factory, suite, seed=seed, settings=settings), laws)


__all__ = [
    "LAWS",
    "Candidate",
    "Law",
    "LawBroken",
    "examine",
    "tiny_features",
    "tiny_images",
    *(law.__name__ for law in LAWS.values()),
    "law_one_task_agrees",
]
