"""The rounds of a comparison, and their results."""

import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from time import monotonic

from tests.bench.contestants import INVOICEFS, Contestant, Filesystem, missing_part
from tests.bench.rows import Values
from tests.bench.scenarios import Scenario, scenarios
from tests.bench.stage import Stage

_FAILURES = (AssertionError, OSError, TimeoutExpired)


@dataclass
class Comparison:
    """The results so far, and the excluded contestants: a failed scenario is not repeated."""

    contestants: Sequence[Contestant]
    results: defaultdict[str, defaultdict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    excluded: dict[tuple[str, str], str] = field(default_factory=dict)

    def compare(self, stage: Stage, chosen: Sequence[Scenario], rounds: int) -> None:
        """Let all contestants take their turns in each of the rounds.

        Every second round is in reverse order, so that no contestant is always the first.
        """
        for number in range(rounds):
            for scenario in chosen:
                for contestant in in_order(tuple(scenario.runs), number):
                    if number < scenario.max_rounds.get(contestant, rounds):
                        _report(f"round {number + 1} of {rounds}: {scenario.name}: {contestant}")
                        self._take_turn(stage, scenario, contestant)

    @property
    def notes(self) -> list[str]:
        """A sentence for each contestant that is excluded from a scenario."""
        return [
            f"{contestant} is excluded from `{scenario}`: {reason}"
            for (contestant, scenario), reason in self.excluded.items()
        ]

    def _take_turn(self, stage: Stage, scenario: Scenario, contestant: str) -> None:
        turn = (contestant, scenario.name)
        missing = missing_part(self._known(contestant))
        if missing:
            self.excluded[turn] = missing
        if turn in self.excluded:
            return
        began_s = monotonic()
        try:
            self._note(contestant, scenario.runs[contestant](stage))
        except _FAILURES as error:
            self.excluded[turn] = reason(error, stage.folder)
        _report(f"  {self.excluded.get(turn, f'{monotonic() - began_s:.1f} s')}")

    def _known(self, name: str) -> Contestant:
        (contestant,) = [candidate for candidate in self.contestants if candidate.name == name]
        return contestant

    def _note(self, contestant: str, values: Values) -> None:
        for row, value in values.items():
            self.results[contestant][row].append(value)


def reason(error: Exception, folder: Path) -> str:
    """Return why a contestant is excluded, in one line without the folders of this run."""
    if isinstance(error, TimeoutExpired):
        return f"{error.cmd[0]} takes longer than {error.timeout:g} s"
    first_line = str(error).partition("\n")[0]
    return re.sub(rf"{re.escape(str(folder))}[^\s\"']*/", "", first_line)


def in_order(names: Sequence[str], number: int) -> Sequence[str]:
    """Return the order of the contestants in a round."""
    return names[::-1] if number % 2 else names


def scenarios_for(
    rows: Sequence[str], subjects: Sequence[Filesystem] = (INVOICEFS,)
) -> list[Scenario]:
    """Return the scenarios that measure these rows, for these revisions of invoicefs."""
    return [scenario for scenario in scenarios(subjects) if set(rows) & set(scenario.rows)]


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
