"""A desktop without a monitor: an X server, a message bus, a window manager."""

from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path

from tests.desktop.window import PATIENCE_S, Window, read_page
from tests.mount.support.programs import (
    LIMIT_S,
    Argument,
    Running,
    eventually,
    missing,
    run,
    started,
)


class Screen:
    """The session of one user, with an empty home; closing it ends all of its programs.

    File managers start further programs, such as thumbnailers, through the message bus: these end
    with the bus.
    """

    def __init__(self, home: Path, runtime: Path) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        # With animations, Nautilus on a busy machine would only draw its loading spinner.
        gtk_settings = home / ".config/gtk-4.0/settings.ini"
        gtk_settings.parent.mkdir(parents=True, exist_ok=True)
        gtk_settings.write_text("[Settings]\ngtk-enable-animations=false\n")
        self._running = ExitStack()
        self._environment = {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "GSETTINGS_BACKEND": "keyfile",  # keeps the settings of GNOME in a file in the home
            "GSK_RENDERER": "cairo",  # OpenGL without a graphics card is slow
        }
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._environment["DISPLAY"] = self._display()
            bus = self.start("dbus-daemon", "--session", "--print-address", "--nofork")
            self._environment["DBUS_SESSION_BUS_ADDRESS"] = bus.line()
            self.start("openbox")
            # GTK checks only at the start of a program whether an accessibility client is present.
            read_page("", self._environment)
            on_failure.pop_all()

    def start(self, *argv: Argument) -> Running:
        """Start a program of the session."""
        quietly = ("sh", "-c", 'exec "$@" 2> /dev/null', "sh")  # warnings would fill a pipe
        return self._running.enter_context(started(*quietly, *argv, env=self._environment))

    def run(self, *argv: Argument, timeout_s: float = LIMIT_S) -> str:
        """Run a program of the session, which must succeed; return its stdout."""
        return run(*argv, env=self._environment, timeout_s=timeout_s).good().text

    def wait_for_window(self, pattern: str) -> Window:
        """Wait for a window whose title matches a pattern with wildcards."""
        return eventually(lambda: self._windows(pattern), PATIENCE_S)[0]

    @property
    def thumbnails(self) -> list[Path]:
        """The thumbnails of files that were made in this session."""
        return list((self.home / ".cache/thumbnails").glob("*/*.png"))

    def close(self) -> None:
        """End the programs, the last started first."""
        self._running.close()

    def _windows(self, pattern: str) -> list[Window]:
        found = run("xdotool", "search", "--onlyvisible", "--name", ".", env=self._environment)
        numbers = found.lines if found.code == 0 else []  # status 1 if there is no window
        titles = {number: self._title(number) for number in numbers}
        return [
            Window(number, title, self._environment)
            for number, title in titles.items()
            if fnmatchcase(title, pattern)
        ]

    def _title(self, window: str) -> str:
        """Return the title of a window; empty if it has just been closed."""
        return run("xdotool", "getwindowname", window, env=self._environment).text.rstrip("\n")

    def _display(self) -> str:
        """Start an X server, which chooses a free display number and prints it on stdout."""
        server = self.start(
            *("Xvfb", "-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp")
        )
        number = server.line()
        if not number:
            missing("the program Xvfb is missing")
        return f":{number}"
