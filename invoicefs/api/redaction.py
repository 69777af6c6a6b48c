"""Redaction and escaping of text from outside, for people and logs. Pure functions."""

import re

_BLANKS = re.compile(r"\s+")
_MESSAGE_CHARACTERS = 200


def hidden(text: str, secret: str) -> str:
    """Return the text with asterisks in place of a secret, however it is percent-encoded."""
    if not secret or (secret not in text and "%" not in text):
        return text
    forms = (f"(?:{re.escape(character)}|(?i:%{ord(character):02x}))" for character in secret)
    return re.sub("".join(forms), "***", text)


def on_one_line(text: str) -> str:
    """Return a server's message for people: printable, on one line, of limited length."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return _BLANKS.sub(" ", printable).strip()[:_MESSAGE_CHARACTERS]


def escaped(text: str) -> str:
    """Return the text with escapes in place of characters that are not printable.

    Control and format characters end lines, move cursors and reverse text; lone surrogates cannot
    be written at all.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
