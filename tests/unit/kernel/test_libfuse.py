"""Finding fusepy, under both names of its module and beside other projects with one of them.

The programs run without the installed packages (``-S``): the modules are those of a folder.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
SAYS = """
from invoicefs.errors import UserError
from invoicefs.kernel.libfuse import load_binding
try:
    print(load_binding().fuse.__file__)
except UserError as error:
    print(error)
"""
OF_ANOTHER_PROJECT = {
    "python3-fuse": "__version__ = '1.0.5'\nclass Fuse: pass\n",
    "python3-fuse without its other modules": "from fuseparts._fuse import main\n",
    "python3-fuse without its library": "raise ImportError('libfuse.so.2: no such file')\n",
}


def install_fusepy(folder: Path, name: str) -> None:
    """Copy the module of fusepy, which is one file, under a name."""
    spec = find_spec("fusepy") or find_spec("fuse")
    assert spec is not None
    assert spec.origin is not None
    shutil.copy(spec.origin, folder / f"{name}.py")


def said(folder: Path, **variables: str) -> str:
    """Return what is printed where only the modules of a folder are installed."""
    environment = {**os.environ, **variables, "PYTHONPATH": f"{folder}:{REPOSITORY}"}
    command = [sys.executable, "-S", "-c", SAYS]
    return subprocess.run(
        command, env=environment, capture_output=True, check=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("name", ["fuse", "fusepy"])
def test_fusepy_is_found_under_both_names(tmp_path: Path, name: str) -> None:
    install_fusepy(tmp_path, name)

    assert said(tmp_path) == str(tmp_path / f"{name}.py")


@pytest.mark.parametrize("other", OF_ANOTHER_PROJECT.values(), ids=OF_ANOTHER_PROJECT)
def test_fusepy_is_found_beside_another_project(tmp_path: Path, other: str) -> None:
    install_fusepy(tmp_path, "fusepy")
    (tmp_path / "fuse.py").write_text(other)

    assert said(tmp_path) == str(tmp_path / "fusepy.py")


@pytest.mark.parametrize("other", OF_ANOTHER_PROJECT.values(), ids=OF_ANOTHER_PROJECT)
@pytest.mark.parametrize("name", ["fuse.py", "fusepy.py"])
def test_another_project_is_named_and_what_to_install(
    tmp_path: Path, other: str, name: str
) -> None:
    (tmp_path / name).write_text(other)

    words = said(tmp_path)

    assert words.startswith(f"{tmp_path / name} does not belong to fusepy")
    assert "pip install --force-reinstall fusepy, or apt install python3-fusepy" in words


def test_a_folder_without_a_module_is_not_mistaken_for_fusepy(tmp_path: Path) -> None:
    (tmp_path / "fuse").mkdir()

    assert said(tmp_path).startswith(f"{tmp_path / 'fuse'} does not belong to fusepy")


def test_a_missing_fusepy_is_named_and_how_to_install_it(tmp_path: Path) -> None:
    words = said(tmp_path)

    assert words.startswith("The Python library fusepy is missing.")
    assert "pip install" in words


@pytest.mark.parametrize("name", ["fuse", "fusepy"])
@pytest.mark.parametrize("library", ["libc.so.6", "missing.so"])
def test_a_wrong_libfuse_is_not_blamed_on_fusepy(tmp_path: Path, name: str, library: str) -> None:
    install_fusepy(tmp_path, name)

    assert said(tmp_path, FUSE_LIBRARY_PATH=library).startswith("libfuse 2 cannot be loaded: ")
