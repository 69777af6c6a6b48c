"""The vendor's OpenAPI document, if available; it is not part of this repository."""

import json
import os
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from invoicefs.sandbox import Endpoint

_BESIDE = Path(__file__).parents[3].parent / "shared/api/f5xc-invoices.openapi.json"
PATH = Path(os.environ.get("INVOICEFS_VENDOR_OPENAPI") or _BESIDE)

_NAMESPACE_PATH = "/api/web/namespaces/{namespace}"
_PATHS = {
    Endpoint.NAMESPACES: "/api/web/namespaces",
    Endpoint.INVOICES: f"{_NAMESPACE_PATH}/usage/invoices/custom_list",
    Endpoint.PDF: f"{_NAMESPACE_PATH}/usage/invoice_pdf",
}


class VendorDocument:
    """What the document says about the three endpoints."""

    def __init__(self) -> None:
        self._document = json.loads(PATH.read_bytes())

    def check_response(self, endpoint: Endpoint, answer: object) -> None:
        """Raise `jsonschema.ValidationError` unless the document allows this response."""
        content = self._operation(endpoint)["responses"]["200"]["content"]
        reference = content["application/json"]["schema"]
        Draft202012Validator({**self._document, **reference}).validate(answer)

    def query_names(self, endpoint: Endpoint) -> set[str]:
        """The parameters that a query may have."""
        parameters = self._operation(endpoint)["parameters"]
        return {parameter["name"] for parameter in parameters if parameter["in"] == "query"}

    def schema(self, name: str) -> Any:
        """One of the named schemas."""
        return self._document["components"]["schemas"][name]

    def _operation(self, endpoint: Endpoint) -> Any:
        return self._document["paths"][_PATHS[endpoint]]["get"]
