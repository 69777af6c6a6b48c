"""The promises of the API as JSON Schemas: the request and the response of each endpoint.

They restate the vendor's OpenAPI document and are stricter: a field that the document does not
name is an error here. `vendor` checks responses against the document itself.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from invoicefs.sandbox import Endpoint

_FOLDER = Path(__file__).parent


def check_response(endpoint: Endpoint, answer: object) -> None:
    """Raise `jsonschema.ValidationError` unless this is the JSON of a good response."""
    _validator(f"{endpoint.value}.answer.json").validate(answer)


def check_request(
    endpoint: Endpoint, path: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> None:
    """Raise `jsonschema.ValidationError` unless the API would accept this request.

    `path` has no gateway prefix, and the names of `headers` are in lower case, as in
    `invoicefs.sandbox.Call`.
    """
    request = {"path": path, "query": dict(query), "headers": dict(headers)}
    _validator(f"{endpoint.value}.request.json").validate(request)


def response_schema(endpoint: Endpoint) -> Any:
    """The schema of a response."""
    return _read(f"{endpoint.value}.answer.json")


@cache
def _validator(file_name: str) -> Draft202012Validator:
    headers = Resource.from_contents(_read("headers.json"))
    registry: Registry[Any] = Registry().with_resource("headers.json", headers)
    return Draft202012Validator(_read(file_name), registry=registry)


def _read(file_name: str) -> Any:
    return json.loads((_FOLDER / file_name).read_bytes())
