"""``python -m invoicefs`` is the ``invoicefs`` command."""

from invoicefs.cli import main

if __name__ == "__main__":
    main()
