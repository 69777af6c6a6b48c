"""Prints the visible texts of a window with their positions, one line of JSON each.

    /usr/bin/python3 visible_labels.py TITLE

It uses the accessibility bus, so it runs with the system's Python, which has the bindings for that
(Debian: gir1.2-atspi-2.0 and python3-gi). Positions are in pixels, from the upper left corner of
the window.
"""

import json
import sys
from collections.abc import Iterator

import gi

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi, GLib  # noqa: E402 # after the version was chosen

_ROLES = {Atspi.Role.LABEL, Atspi.Role.TABLE_CELL}


def _children(node: Atspi.Accessible) -> Iterator[Atspi.Accessible]:
    for index in range(node.get_child_count()):
        child = node.get_child_at_index(index)
        if child is not None:
            yield child


def _is_nameless(node: Atspi.Accessible) -> bool:
    """Whether its name is just that of its class, the default of GTK 4."""
    return str(node.get_name()).startswith("Gtk")


def _print_labels(node: Atspi.Accessible) -> None:
    if not node.get_state_set().contains(Atspi.StateType.VISIBLE):  # GTK 4.8 knows no SHOWING
        return
    if node.get_role() in _ROLES and node.get_name() and not _is_nameless(node):
        place = node.get_component_iface().get_extents(Atspi.CoordType.WINDOW)
        if min(place.x, place.y, place.width) > 0:  # not scrolled out of view
            where = (place.x, place.y, place.width, place.height)
            text = node.get_name().replace("\xa0", " ")
            sys.stdout.write(json.dumps([text, *where]) + "\n")
    for child in _children(node):
        _print_labels(child)


def _print_windows(program: Atspi.Accessible, title: str) -> None:
    for window in _children(program):
        if window.get_name() == title:
            _print_labels(window)


def main() -> None:
    for program in _children(Atspi.get_desktop(0)):
        try:
            _print_windows(program, sys.argv[1])
        except GLib.Error:
            continue  # it has ended, or its window has changed meanwhile


if __name__ == "__main__":
    main()
