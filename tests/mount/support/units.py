"""The units in ``invoicefs/share``, and what systemd runs for them.

Only what these units use is understood: see systemd.unit(5), systemd.service(5), systemd.exec(5).
"""

import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import Ended, run

_SHARE = CHECKOUT / "invoicefs/share"
_REFERENCE = re.compile(r"\$\$|\$\{(\w+)\}")


def values(unit: str, key: str) -> list[str]:
    """Return all values of a key, in whichever section."""
    (path,) = _SHARE.rglob(unit)
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if not line.startswith("#")]
    return [value for name, _, value in pairs if name == key]


def value(unit: str, key: str) -> str:
    """Return the only value of a key."""
    (found,) = values(unit, key)
    return found


class UserService:
    """A service of a user with this home, for a profile with these variables."""

    def __init__(
        self, unit: str, home: Path, profile: str, variables: Mapping[str, str], /
    ) -> None:
        self._unit = unit
        self._specifiers = {"%h": str(home), "%i": profile}
        defaults = (self._specified(pair).split("=", 1) for pair in values(unit, "Environment"))
        merged = {**dict(defaults), **variables}
        unset = {name for line in values(unit, "UnsetEnvironment") for name in line.split()}
        self.environment = {name: text for name, text in merged.items() if name not in unset}

    def commands(self, key: str) -> list[list[str]]:
        """Return the command lines of ``ExecStart`` or a similar key.

        Their programs are found in ``ExecSearchPath``.
        """
        folders = self._specified(value(self._unit, "ExecSearchPath"))
        found = []
        for line in values(self._unit, key):
            program, *arguments = (self._specified(word) for word in shlex.split(line))
            path = shutil.which(program, path=folders)
            assert path, f"{program} is in none of the folders {folders}"
            found.append([path, *map(self._expanded, arguments)])
        return found

    def run(self) -> list[Ended]:
        """Run the commands of a oneshot service up to the first that fails; return all that ran."""
        good = {0, *map(int, value(self._unit, "SuccessExitStatus").split())}
        ran: list[Ended] = []
        for argv in (*self.commands("ExecStartPre"), *self.commands("ExecStart")):
            ran.append(run(*argv, env=self.environment, cwd=Path("/")))
            if ran[-1].code not in good:
                break
        return ran

    def _specified(self, text: str) -> str:
        for specifier, meaning in self._specifiers.items():
            text = text.replace(specifier, meaning)
        return text

    def _expanded(self, word: str) -> str:
        """Replace ``$$`` and ``${NAME}``; a variable that is not set is empty."""
        return _REFERENCE.sub(lambda found: self._value_of(found[1]) if found[1] else "$", word)

    def _value_of(self, name: str) -> str:
        return self.environment.get(name, "")
