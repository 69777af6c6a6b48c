"""Which module may import which: two rules that let the package be read from top to bottom.

Modules import only their own layer and permitted earlier layers, without cycles; and every
third-party library is imported in exactly one place, so that its exceptions and quirks stay there.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = "invoicefs"

LAYERS: Mapping[str, set[str]] = {
    layer: set(below.split())
    for layer, below in {
        "words": "",
        "credentials": "words",
        "api": "words credentials",
        "scheduling": "words",
        "store": "words",
        "library": "words scheduling",
        "kernel": "words library",
        "mount": "words credentials api scheduling store library kernel",
        "sandbox": "",
        "cli": "words credentials api store mount sandbox",
    }.items()
}
"""The layers in order, each with the layers that it may import.

``words`` are the modules directly in the package. `__main__` belongs to the command line.
"""


LAZY = {
    ("cli.demo", "cli.demo_tour"),
    ("cli.login", "cli.login_attempts"),
    ("cli.mount", "mount.lifecycle"),
    ("credentials.profiles", "credentials.env_files"),
    ("mount.lifecycle", "mount.first_request"),
    ("mount.lifecycle", "mount.serving"),
    ("credentials.certificates", "cryptography"),
    ("credentials.vesconfig", "yaml"),
    ("kernel.libfuse", "kernel.fuse_binding"),
    ("sandbox.pdfs", "fpdf"),
    ("api.connections", "socks"),
}
"""Imports that are made only where they are needed: they are slow, or may be missing."""

IMPORTER = {
    "requests": "api.transport",
    "urllib3": "api.connections",
    "socks": "api.connections",
    "diskcache": "store.disk_cache",
    "cryptography": "credentials.certificates",
    "yaml": "credentials.vesconfig",
    "fusepy": "kernel.fuse_binding",
    "fuse": "kernel.fuse_binding",  # the other name of the same library
    "click": "cli",
    "fpdf": "sandbox.pdfs",
}
"""The one module, or package, that imports a third-party library."""


class Import(NamedTuple):
    """An import of a module or a library by a module."""

    importer: str
    imported: str
    is_lazy: bool


def modules(package: Path) -> dict[str, ast.Module]:
    """The parsed modules by their names below the package."""
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): ast.parse(path.read_bytes())
        for path in sorted(package.rglob("*.py"))
    }


def home_of(importer: str) -> str:
    """Return the package of a module if `IMPORTER` names that package, else the module."""
    package = importer.partition(".")[0]
    return package if package in IMPORTER.values() else importer


def imports_of(name: str, tree: ast.AST, known: set[str]) -> Iterator[Import]:
    """Yield what a module imports; of other packages, only the top-level name."""
    for node, is_lazy in import_nodes(tree, is_lazy=False):
        for imported in imported_by(name, node, known):
            yield Import(name, imported, is_lazy)


def import_nodes(
    node: ast.AST, *, is_lazy: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """All imports below a node, and whether they are made only by functions or type checkers."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, is_lazy
    is_lazy = is_lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    is_lazy = is_lazy or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    for child in ast.iter_child_nodes(node):
        yield from import_nodes(child, is_lazy=is_lazy)


def imported_by(name: str, node: ast.Import | ast.ImportFrom, known: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield module_named(alias.name, known)
        return
    origin = node.module or ""
    if node.level:
        parent = [PACKAGE, *name.split(".")][: -node.level]
        origin = ".".join([*parent, *filter(None, [origin])])
    for alias in node.names:
        inner = f"{origin}.{alias.name}"
        yield module_named(
            inner if inner in {f"{PACKAGE}.{name}" for name in known} else origin, known
        )


def module_named(dotted: str, known: set[str]) -> str:
    """Return the name in the tables above for the dotted name in an import statement."""
    first, _, below = dotted.partition(".")
    if first != PACKAGE:
        return first
    package = f"{below}.__init__".lstrip(".")
    return package if package in known else below


def all_imports(package: Path = REPOSITORY / PACKAGE) -> set[Import]:
    parsed = modules(package)
    return {found for name, tree in parsed.items() for found in imports_of(name, tree, set(parsed))}


IMPORTS = all_imports()
MODULES = set(modules(REPOSITORY / PACKAGE))
INNER = {(item.importer, item.imported) for item in IMPORTS if item.imported in MODULES}
OUTER = {
    (home_of(item.importer), item.imported)
    for item in IMPORTS
    if item.imported not in MODULES and item.imported not in sys.stdlib_module_names
}


def layer_of(module: str) -> str:
    """Return the layer of a module."""
    layer, _, below = module.partition(".")
    if below:
        return layer
    return "cli" if module == "__main__" else "words"


def test_every_layer_has_a_row() -> None:
    assert set(LAYERS) == {layer_of(module) for module in MODULES}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_may_import_only_layers_before_it(layer: str) -> None:
    order = list(LAYERS)

    assert set(order[: order.index(layer)]) >= LAYERS[layer]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_it_may(layer: str) -> None:
    """Modules of one layer may import each other as long as there is no cycle."""
    imported = {layer_of(below) for above, below in INNER if layer_of(above) == layer}

    assert imported <= LAYERS[layer] | {layer}


def test_there_are_no_cycles() -> None:
    graph: TopologicalSorter[str] = TopologicalSorter()
    for importer, imported in INNER:
        graph.add(importer, imported)

    graph.prepare()  # raises CycleError


def test_only_the_demo_imports_the_sandbox() -> None:
    importers = {
        importer
        for importer, imported in INNER
        if imported.startswith("sandbox.") and not importer.startswith("sandbox.")
    }

    assert importers == {"cli.demo_tour"}


def test_each_third_party_library_is_imported_by_exactly_one_module() -> None:
    assert sorted(OUTER) == sorted((importer, library) for library, importer in IMPORTER.items())


@pytest.mark.parametrize(("importer", "imported"), sorted(LAZY))
def test_slow_and_optional_imports_are_made_only_where_they_are_needed(
    importer: str, imported: str
) -> None:
    assert Import(importer, imported, is_lazy=True) in IMPORTS
    assert Import(importer, imported, is_lazy=False) not in IMPORTS


def test_nothing_is_imported_by_a_computed_name() -> None:
    """The rules above are read from import statements, so there must be no other way."""
    for name, tree in modules(REPOSITORY / PACKAGE).items():
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not called & {"__import__", "import_module", "importlib.import_module"}, name


def test_no_module_has_more_than_350_lines() -> None:
    lines = {
        path: len(path.read_text().splitlines()) for path in (REPOSITORY / PACKAGE).rglob("*.py")
    }

    assert {path: count for path, count in lines.items() if count > 350} == {}


# The rules hold for a running program, too


def loaded_by(program: str) -> set[str]:
    """The modules of a process that has run this program."""
    result = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
        text=True,
    )
    return set(result.stdout.split())


def test_the_command_line_starts_without_anything_heavy() -> None:
    loaded = loaded_by("import invoicefs.cli")

    assert not loaded & {"requests", "urllib3", "diskcache", "sqlite3", "fusepy", "fuse", "fpdf"}


def test_every_other_module_can_be_imported_where_libfuse_and_fpdf_are_missing() -> None:
    others = sorted(MODULES - {"kernel.fuse_binding"})
    dotted = [f"{PACKAGE}.{name}".removesuffix(".__init__") for name in others]

    loaded = loaded_by(
        "import sys, importlib; sys.modules.update(fusepy=None, fuse=None, fpdf=None);"
        f"[importlib.import_module(name) for name in {dotted}]"
    )

    assert loaded >= set(dotted)


# The import scanner itself

BESIDE = {"__init__", "errors", "model", "sandbox.__init__", "sandbox.pdfs"}


@pytest.mark.parametrize(
    ("importer", "statement", "found"),
    [
        ("model", "import os.path, requests.adapters", {("os", False), ("requests", False)}),
        ("model", "import invoicefs.errors as e", {("errors", False)}),
        ("model", "import invoicefs", {("__init__", False)}),
        (
            "model",
            "from invoicefs import errors, __version__",
            {("errors", False), ("__init__", False)},
        ),
        ("model", "from invoicefs.errors import NotFound", {("errors", False)}),
        ("model", "from . import errors", {("errors", False)}),
        ("model", "from .errors import NotFound", {("errors", False)}),
        ("model", "from invoicefs.sandbox import pdfs", {("sandbox.pdfs", False)}),
        ("model", "from invoicefs.sandbox import Sandbox", {("sandbox.__init__", False)}),
        ("sandbox.pdfs", "from ..errors import NotFound", {("errors", False)}),
        ("sandbox.pdfs", "from . import Sandbox", {("sandbox.__init__", False)}),
        ("model", "from invoicefs.gone import x", {("gone", False)}),
        ("model", "def f():\n  import fuse", {("fuse", True)}),
        ("model", "class C:\n  def m(self):\n    from fpdf import FPDF", {("fpdf", True)}),
        ("model", "class C:\n  import fuse", {("fuse", False)}),
        ("model", "try:\n  import fuse\nexcept OSError:\n  fuse = None", {("fuse", False)}),
        ("model", "if T:\n  from requests import Session", {("requests", False)}),
    ],
)
def test_every_form_of_an_import_is_seen(
    importer: str, statement: str, found: set[tuple[str, bool]]
) -> None:
    seen = imports_of(importer, ast.parse(statement), BESIDE)

    assert {(item.imported, item.is_lazy) for item in seen} == found
