"""The output of ``invoicefs list --csv``, opened by LibreOffice Calc."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, invoice, tenant

_CONVERSION_S = 110.0  # the first start of LibreOffice creates a profile
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_CSV = "CSV:44,34,76"  # commas, double quotes and UTF-8, which its import dialogue also suggests

AMOUNTS = {
    ("EUR", "123456789"): 1234567.89,
    ("JPY", "300"): 300.0,
    ("BHD", "-1234567"): -1234.567,
    ("USD", "5"): 0.05,
}


@pytest.mark.promise(
    "The CSV of `invoicefs list` opens in LibreOffice Calc with the right numbers."
)
def test_calc_reads_names_dates_and_amounts(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    names = ['plain "quoted", comma', "Zürich 請求書", "=1+1", "@SUM(1)"]
    invoices = [
        replace(invoice(number, name=name), currency=currency, amount=amount)
        for number, (name, (currency, amount)) in enumerate(zip(names, AMOUNTS, strict=True))
    ]
    sandbox.tenant = tenant(*invoices)
    mount = mounts.mount()
    file = tmp_path / "invoices.csv"
    file.write_bytes(mounts.command("list", "--csv", mount.path).good().out)

    header, *rows = cells_in_calc(file)

    columns = [header.index(name) for name in ("namespace", "period_start", "amount", "currency")]
    assert [[row[column] for column in columns] for row in rows] == [
        [NAMESPACE, f"2020-{number:02}-01", amount, currency]
        for number, ((currency, _), amount) in enumerate(AMOUNTS.items(), start=1)
    ]
    shown = [row[header.index("invoice")] for row in rows]
    assert shown == [*names[:2], *(f"'{formula}" for formula in names[2:])]


def cells_in_calc(file: Path) -> list[list[object]]:
    """Return the cells of a CSV file as Calc understands them: numbers, dates and texts."""
    home = file.parent / "home"
    run(
        *("soffice", "--headless", f"-env:UserInstallation={home.as_uri()}"),
        *(f"--infilter={_CSV}", "--convert-to", "fods", "--outdir", file.parent, file),
        env={"HOME": str(home)},
        timeout_s=_CONVERSION_S,
    ).good()
    rows = ET.parse(file.with_suffix(".fods")).iter(f"{_TABLE}table-row")  # noqa: S314 -- our own
    return [[_value(cell) for cell in row for _ in range(_repeated(cell))] for row in rows]


def _repeated(cell: ET.Element) -> int:
    return int(cell.get(f"{_TABLE}number-columns-repeated", "1"))


def _value(cell: ET.Element) -> object:
    match cell.get(f"{_OFFICE}value-type"):
        case "float":
            return float(cell.attrib[f"{_OFFICE}value"])
        case "date":
            return cell.attrib[f"{_OFFICE}date-value"]
        case _:
            return "".join(cell.itertext()).strip()
