"""The texts of a window, and the key presses and clicks of its user."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.mount.support.programs import eventually, run

_VISIBLE_LABELS = Path(__file__).with_name("visible_labels.py")
_SYSTEMS_PYTHON = "/usr/bin/python3"
PATIENCE_S = 100.0
"""Limit for a window: on a busy machine programs wait 25 s for a service that starts late."""

_ICON_PX = 34  # width left of a name that contains the icon in all file managers


@dataclass(frozen=True)
class Label:
    """A text in a window, and the rectangle that it fills."""

    text: str
    x_px: int
    y_px: int
    width_px: int
    height_px: int

    @property
    def middle_px(self) -> tuple[int, int]:
        return self.x_px + self.width_px // 2, self.y_px + self.height_px // 2

    def is_beside(self, other: "Label") -> bool:
        """Whether it is to the right of the other one, on the same line."""
        above, below = other.y_px, other.y_px + other.height_px
        return self.x_px > other.x_px and above <= self.middle_px[1] <= below


@dataclass(frozen=True)
class Page:
    """The texts that a window showed at one moment."""

    labels: tuple[Label, ...]

    @property
    def texts(self) -> set[str]:
        return {label.text for label in self.labels}

    def label(self, text: str) -> Label:
        """Return the smallest label with this text: the whole line has the same text."""
        return min(
            (label for label in self.labels if label.text == text),
            key=lambda label: label.width_px * label.height_px,
        )

    def beside(self, text: str) -> tuple[str, ...]:
        """Return the texts to the right of this one, on the same line."""
        first = self.label(text)
        right = (label for label in self.labels if label.is_beside(first))
        return tuple(label.text for label in sorted(right, key=lambda label: label.x_px))


@dataclass(frozen=True)
class Window:
    """A window, with its number and the title that it had when it was found."""

    number: str
    title: str
    environment: Mapping[str, str]

    def press(self, *keys: str) -> None:
        """Press keys; their effect may depend on the last click."""
        self._xdotool("key", *keys)

    def click(self, label: Label, times: int = 1) -> None:
        """Click on a text, which also moves the keyboard focus there."""
        where = map(str, label.middle_px)
        click = ("click", "--repeat", str(times), "1")
        self._xdotool("mousemove", "--window", self.number, *where, *click)

    def wait_for(self, text: str) -> Page:
        """Wait until it shows a text of its first page and has stopped changing."""

        def stable_page() -> Page | None:
            page = read_page(self.title, self.environment)
            if page != read_page(self.title, self.environment):
                return None
            if text in page.texts:
                return page
            self.press("End", "Home")  # Thunar may show the middle of a folder first
            return None

        page = eventually(stable_page, PATIENCE_S)
        assert page
        return page

    def icon(self, label: Label) -> bytes:
        """The pixels to the left of a text."""
        area = f"{_ICON_PX}x{label.height_px}+{label.x_px - _ICON_PX}+{label.y_px}"
        picture = ("import", "-window", self.number, "-crop", area, "rgb:-")
        return run(*picture, env=self.environment).good().out

    def _xdotool(self, *argv: str) -> None:
        in_front = ("windowactivate", "--sync", self.number)
        run("xdotool", *in_front, *argv, env=self.environment).good()


def read_page(title: str, environment: Mapping[str, str]) -> Page:
    """Return the texts in the window with this title; some may be missing while it changes."""
    program = (_SYSTEMS_PYTHON, "-W", "ignore", _VISIBLE_LABELS, title)
    lines = run(*program, env=environment, timeout_s=PATIENCE_S).good().lines
    return Page(tuple(Label(*json.loads(line)) for line in lines))
