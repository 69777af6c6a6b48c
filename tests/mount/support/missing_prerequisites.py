"""Machines without some prerequisite, simulated by a module that Python runs at startup."""

from pathlib import Path

from tests.mount.support.mounts import CHECKOUT


def python_path_with(folder: Path, *changes: str) -> str:
    """Return a ``PYTHONPATH`` with which these statements run before the command."""
    (folder / "sitecustomize.py").write_text("\n".join(changes), encoding="utf-8")
    return f"{folder}:{CHECKOUT}"


NO_LIBFUSE = ("import ctypes.util", "ctypes.util.find_library = lambda name: None")
ONLY_LIBFUSE3 = (
    "import ctypes.util",
    "ctypes.util.find_library = lambda name: 'libfuse3.so.3' if name == 'fuse' else None",
)
OTHER_FUSE = (
    "import sys, importlib.machinery, importlib.util",
    "spec = importlib.machinery.ModuleSpec('fuse', None, origin='/usr/lib/fuse.py')",
    "sys.modules.update(fusepy=None, fuse=importlib.util.module_from_spec(spec))",
)
NO_FUSERMOUNT = (
    "import shutil",
    "which = shutil.which",
    "shutil.which = lambda name, *args, **more:"
    " None if name.startswith('fusermount') else which(name, *args, **more)",
)
NO_DEVICE = (
    "import os, pathlib",
    "exists = pathlib.Path.exists",
    "pathlib.Path.exists = lambda path: str(path) != '/dev/fuse' and exists(path)",
)
NO_USER_ALLOW_OTHER = (
    "import pathlib",
    "read_text = pathlib.Path.read_text",
    "pathlib.Path.read_text = lambda path, *args, **more:"
    " '' if str(path) == '/etc/fuse.conf' else read_text(path, *args, **more)",
)
CLOSED_DEVICE = (
    "import os",
    "access = os.access",
    "os.access = lambda path, *args, **more:"
    " str(path) != '/dev/fuse' and access(path, *args, **more)",
)
