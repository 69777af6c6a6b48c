"""The promises in tests/README.md: each sentence names its tests, and they quote it.

A test quotes with ``@pytest.mark.promise("...")``. The sentences are the items of the lists in the
section "Promises", each with its tests in brackets; markup and line breaks do not count.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TESTS_README = (REPOSITORY / "tests" / "README.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SECTION = r"^## {}\n(.*?)^## "
ITEM = re.compile(r"^- (.*(?:\n  .*)*)", re.MULTILINE)
TESTS = re.compile(r" \[((?:test_\w+(?:, )?)+)\]$")


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("`", "")).strip()


def items(page: str, heading: str) -> list[str]:
    section = re.search(SECTION.format(heading), page, re.DOTALL | re.MULTILINE)
    assert section, f"there is no section {heading}"
    return [plain(item) for item in ITEM.findall(section[1])]


@cache
def promises() -> dict[str, set[str]]:
    """The sentences, and the tests that are named after each."""
    found = {}
    for item in items(TESTS_README, "Promises"):
        tests = TESTS.search(item)
        sentence = item[: tests.start()] if tests else item
        found[sentence] = set(tests[1].split(", ")) if tests else set()
    return found


@cache
def quotes() -> dict[str, set[str]]:
    """The sentences that tests quote, and the names of those tests."""
    found: dict[str, set[str]] = {}
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        for name, quote in quotes_of(path):
            found.setdefault(quote, set()).add(name)
    return found


def quotes_of(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if ast.unparse(decorator).startswith("pytest.mark.promise("):
                    yield node.name, quoted_by(decorator)


def quoted_by(decorator: ast.expr) -> str:
    assert isinstance(decorator, ast.Call)
    return plain(str(ast.literal_eval(decorator.args[0])))


@pytest.mark.parametrize("promise", promises())
def test_each_promise_names_the_tests_that_quote_it(promise: str) -> None:
    tests = promises()[promise]
    assert tests
    assert tests == quotes().get(promise)


@pytest.mark.parametrize("promise", items(README, "What you can rely on"))
def test_each_item_of_the_readme_is_a_promise(promise: str) -> None:
    assert promise in promises()


@pytest.mark.parametrize("quote", quotes())
def test_each_quote_is_a_promise(quote: str) -> None:
    assert quote in promises(), quotes()[quote]


@pytest.mark.parametrize("promise", promises())
def test_each_promise_is_one_sentence(promise: str) -> None:
    assert promise.endswith(".")
    assert ". " not in promise
