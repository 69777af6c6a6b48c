"""Reads ``~/.vesconfig``, the configuration of the vendor's command ``vesctl``.

The only importer of ``yaml``, which is in the extra ``vesconfig``.
"""

import sys
from pathlib import Path

from invoicefs.credentials.secret_files import read_file
from invoicefs.errors import UserError

_FIRST_OF_LIST = "server-urls"


def read_vesconfig(file: Path) -> dict[str, str]:
    """Return the texts in the file by their keys; of the list ``server-urls``, the first one.

    Returns an empty dict if the file is missing. Raises `UserError` if it cannot be used.
    """
    try:
        content = read_file(file, f"the file {file}")
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return {}
        raise
    try:
        import yaml
    except ImportError:
        raise UserError(
            f"{file} needs another package: {sys.executable} -m pip install pyyaml, "
            "or apt install python3-yaml (or give --url and --token-file)."
        ) from None
    try:
        # This loader only knows texts, lists and mappings; tags cannot create anything else.
        found = yaml.load(content, Loader=yaml.BaseLoader)  # noqa: S506 -- it does less than the safe one
    except (yaml.YAMLError, RecursionError):  # RecursionError for deep nesting like [[[[
        raise UserError(f"The file {file} is not YAML: fix it, or give --url.") from None
    if not isinstance(found, dict):
        return {}
    urls = found.get(_FIRST_OF_LIST)
    if isinstance(urls, list):
        found[_FIRST_OF_LIST] = urls[0] if urls else None
    return {
        key: text
        for key, text in found.items()
        if isinstance(key, str) and isinstance(text, str) and text
    }
