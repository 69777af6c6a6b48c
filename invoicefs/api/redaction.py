"""Words that come from outside, made fit for people and logs. Pure functions."""

import re

_BLANKS = re.compile(r"\s+")
_MESSAGE_CHARACTERS = 200


def hidden(text: str, secret: str) -> str:
    """The text with stars in the place of a secret, however that is percent-encoded in it."""
    if not secret or (secret not in text and "%" not in text):
        return text
    forms = (f"(?:{re.escape(character)}|(?i:%{ord(character):02x}))" for character in secret)
    return re.sub("".join(forms), "***", text)


def on_one_line(text: str) -> str:
    """What a server says, for people: printable, without line feeds, of bounded length."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return _BLANKS.sub(" ", printable).strip()[:_MESSAGE_CHARACTERS]


def escaped(text: str) -> str:
    """The text with escapes in the place of all that would not be seen as a character.

    Control and format characters end lines, move cursors and turn text around; lone surrogates
    cannot be written at all.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
