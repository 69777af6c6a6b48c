"""Output on a terminal: it never moves the cursor and can be encoded in every locale."""

import io
import sys

import pytest

from invoicefs.cli.output import counted, print_lines


@pytest.mark.promise("Text from a server cannot forge a line of the log, nor move a cursor.")
@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("system/a\nsystem/b", r"system/a\nsystem/b"),
        ("\x1b[2J\x07\r", r"\x1b[2J\x07\r"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("invoice\u202efdp.exe\u2066", r"invoice\u202efdp.exe\u2066"),
        ("\u2028\u200b\ufeff", r"\u2028\u200b\ufeff"),
        ("\udcff", r"\udcff"),
        ("Büro 日本 👍", "Büro 日本 👍"),
    ],
)
@pytest.mark.parametrize("is_error", [False, True])
def test_control_characters_are_printed_as_escapes(
    capsys: pytest.CaptureFixture[str], line: str, printed: str, is_error: bool
) -> None:
    print_lines(line, err=is_error)

    assert capsys.readouterr() == (("", f"{printed}\n") if is_error else (f"{printed}\n", ""))


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("ascii", r"\xe4 \u2713 \udce4"),
        ("iso8859-1", r"ä \u2713 \udce4"),
        ("utf-8", r"ä ✓ \udce4"),
    ],
)
def test_characters_missing_in_the_locale_are_printed_as_escapes(
    monkeypatch: pytest.MonkeyPatch, encoding: str, printed: str
) -> None:
    sent = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(sent, encoding))
    print_lines("ä ✓ \udce4")

    assert sent.getvalue().decode(encoding) == f"{printed}\n"


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 invoices"), (1, "1 invoice"), (2, "2 invoices")]
)
def test_one_thing_is_not_printed_in_the_plural(count: int, words: str) -> None:
    assert counted(count, "invoice") == words
