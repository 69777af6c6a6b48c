"""Each sentence of README's "What to expect" is held by a test that quotes it.

A test quotes with ``@pytest.mark.promise("...")``. The sentences are the items of the lists in that
section; markup and line breaks do not count.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SECTION = re.compile(r"^## What to expect\n(.*?)^## ", re.DOTALL | re.MULTILINE)
ITEM = re.compile(r"^- (.*(?:\n  .*)*)", re.MULTILINE)


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("`", "")).strip()


def promises() -> list[str]:
    """The sentences of README."""
    match = SECTION.search((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert match, "README has lost its section"
    return [plain(item) for item in ITEM.findall(match[1])]


def quotes() -> Iterator[tuple[str, str]]:
    """What tests quote, each with the name of the test."""
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    if ast.unparse(decorator).startswith("pytest.mark.promise("):
                        yield node.name, quoted_by(decorator)


def quoted_by(decorator: ast.expr) -> str:
    assert isinstance(decorator, ast.Call)
    return plain(str(ast.literal_eval(decorator.args[0])))


@pytest.mark.parametrize("promise", promises())
def test_each_promise_is_quoted_by_a_test(promise: str) -> None:
    assert promise in {quote for _, quote in quotes()}


@pytest.mark.parametrize(("name", "quote"), [*quotes()])
def test_each_quote_is_a_promise(name: str, quote: str) -> None:
    assert quote in promises(), name


@pytest.mark.parametrize("promise", promises())
def test_each_promise_is_one_sentence(promise: str) -> None:
    assert promise.endswith(".")
    assert ". " not in promise
