"""Files in the format of systemd's EnvironmentFile: how they are read, changed and written."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicefs.credentials.env_files import parse_assignments, replace_assignments
from invoicefs.errors import UserError


def parsed(text: str) -> dict[str, str]:
    return {item.name: item.value for item in parse_assignments(text, "the file")}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("A=", ""),
        ("  A = b c \t", "b c"),
        ("A=b#c ;d", "b#c ;d"),
        ("A=b'c\"d", "b'c\"d"),
        ("A=b\\ ", "b "),
        ("A=b\\\\ ", "b\\"),
        ("A=b\\\nc", "bc"),
        ("A=' b '", " b "),
        ("A='b\\n\"'", 'b\\n"'),
        ('A="b\\"\\\\\\$\\`\\n"', 'b"\\$`\\n'),
        ('A="b\\\nc"', "bc"),
        ("A='b\nc'", "b\nc"),
        ("A='b' \"c\"d e", "bcd e"),
        ("A=b\r\nB=c\r\n", "b"),
        ("A=x\nA=b\n", "b"),
        ("# x\n ; y='\n\n\tA=b", "b"),
    ],
)
def test_a_value_is_read_as_systemd_reads_it(text: str, value: str) -> None:
    assert parsed(text)["A"] == value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("secret", 1),
        ("A=b\n\n# c\nsecret\n", 4),
        ("A='b\nc'\nexport SECRET=secret", 3),
        ("\r\nA='secret", 2),
        ('A="secret\\"', 1),
        ("1A=secret", 1),
    ],
)
def test_an_invalid_line_is_named_by_its_number_only(text: str, number: int) -> None:
    with pytest.raises(UserError, match=f"^Line {number} of the file is not") as raised:
        parse_assignments(text, "the file")

    assert "secret" not in str(raised.value)
    assert "secret" not in repr(parse_assignments("A=secret", "the file"))


def test_only_the_named_assignments_are_replaced() -> None:
    text = "# mine\nURL=a\nTOKEN='b\nc'\nNAMESPACE=system   \n; end\nTOKEN=d"

    changed = replace_assignments(text, ["TOKEN", "OTHER"], {"URL": "x"}, "the file")

    assert changed == "# mine\nURL=x\nNAMESPACE=system   \n; end\n"


def test_new_assignments_are_added_at_the_end() -> None:
    assert replace_assignments("", [], {"A": "b"}, "") == "A=b\n"
    assert replace_assignments("# no line feed", [], {"A": "b"}, "") == "# no line feed\nA=b\n"


VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), min_size=1)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_every_value_is_read_as_it_was_written(first: str, second: str) -> None:
    text = replace_assignments("# c\n", [], {"A": first, "B": second}, "the file")

    assert parsed(text) == {"A": first, "B": second}


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
@pytest.mark.parametrize(
    "value", ["a b", "it's", '"', "\\", "$HOME", "`id`", "a\nb", "'\\$`\"\\n'"]
)
def test_a_shell_reads_a_written_value_in_the_same_way(tmp_path: Path, value: str) -> None:
    file = tmp_path / "x.env"
    file.write_text(replace_assignments("", [], {"A": value}, "the file"))

    result = subprocess.run(
        ["sh", "-c", '. "$0"; printf %s "$A"', file],
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert result.stdout.decode() == value
