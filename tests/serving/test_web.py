"""A mount as a web folder, with the examples `nginx.conf`, `Caddyfile` and `apache.conf`."""

from xml.etree import ElementTree

import pytest

from invoicefs.sandbox import Endpoint, Fault, Sandbox, faults
from tests.mount.support.programs import eventually, run
from tests.mount.support.tenants import NAMESPACE, file_name, tenant
from tests.serving.folder import CONTENTS, DRAFT, FINAL, LONG, SHORT, TENANT, ServedFolder
from tests.serving.web_servers import WebServer, apache, caddy, nginx

FOLDER = f"/{NAMESPACE}/"
DRAFT_PATH = FOLDER + file_name(DRAFT)
ALWAYS_REFRESH = "--list-ttl=0s"
BY_EVERY_SERVER = pytest.mark.parametrize("server", [nginx, caddy, apache])


@pytest.mark.promise(
    "nginx, Caddy and Apache serve a mount with `--fetch on-stat` as a web folder: the first "
    "response has the true length and exactly the server's bytes."
)
@pytest.mark.tenant(TENANT)
@BY_EVERY_SERVER
def test_a_web_server_sends_never_opened_invoices_exactly(
    served: ServedFolder, port: int, sandbox: Sandbox, server: WebServer
) -> None:
    first, second, *others = sorted(CONTENTS)
    with server(served, served.mount(), port) as client:
        head = client.request("HEAD", FOLDER + first)
        part = client.request("GET", FOLDER + second, Range="bytes=100-299")
        whole = {name: client.request("GET", FOLDER + name) for name in others}
        index = client.request("GET", FOLDER).body.decode()
    assert (head.status, head.length) == (200, len(CONTENTS[first]))
    assert (part.status, part.body) == (206, CONTENTS[second][100:300])
    for name, answer in whole.items():
        assert (answer.status, answer.headers["content-type"]) == (200, "application/pdf")
        assert (answer.length, answer.body) == (len(CONTENTS[name]), CONTENTS[name])
    assert all(f'{name}"' in index for name in CONTENTS)
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)


@pytest.mark.promise(
    "After a draft has become final, browsers get the new content from a web server, because they "
    "ask each time and its ETag is another one."
)
@pytest.mark.tenant(tenant(DRAFT))
@BY_EVERY_SERVER
def test_a_web_server_sends_a_changed_draft_with_a_new_etag(
    served: ServedFolder, port: int, sandbox: Sandbox, server: WebServer
) -> None:
    with server(served, served.mount(ALWAYS_REFRESH), port) as client:
        old = client.request("GET", DRAFT_PATH)
        assert old.body == LONG
        assert old.headers["cache-control"] == "private, no-cache"
        etag = old.headers["etag"]
        assert client.request("GET", DRAFT_PATH, If_None_Match=etag).status == 304
        sandbox.tenant = tenant(FINAL)

        def is_new() -> bool:
            new = client.request("GET", DRAFT_PATH, If_None_Match=etag)
            assert (new.status, new.body) in [(304, b""), (200, SHORT)]
            return new.status == 200 and new.headers["etag"] != etag

        eventually(is_new)  # the mount notices a moment later that the file was closed


@pytest.mark.promise(
    "A web server sends the cached copy of an expired draft, all of it, while the API fails."
)
@pytest.mark.tenant(tenant(DRAFT))
@BY_EVERY_SERVER
def test_a_web_server_sends_the_cached_draft_while_the_api_fails(
    served: ServedFolder, port: int, sandbox: Sandbox, server: WebServer
) -> None:
    mount = served.mount("--active-ttl=1s")
    with server(served, mount, port) as client:
        assert client.request("GET", DRAFT_PATH).body == LONG
        sandbox.inject(Fault(faults.status(503), Endpoint.PDF))
        requests = sandbox.count(Endpoint.PDF)

        def has_expired() -> bool:
            run("stat", mount / NAMESPACE / file_name(DRAFT)).good()
            return sandbox.count(Endpoint.PDF) > requests

        eventually(has_expired)
        for _ in range(3):
            answer = client.request("GET", DRAFT_PATH)
            assert (answer.status, answer.length, answer.body) == (200, len(LONG), LONG)


@pytest.mark.promise(
    "A client that is still receiving a draft from a web server when it changes gets all of the "
    "old one."
)
@pytest.mark.tenant(tenant(DRAFT))
@BY_EVERY_SERVER
def test_a_slow_client_gets_all_of_a_draft_that_becomes_shorter(
    served: ServedFolder, port: int, sandbox: Sandbox, server: WebServer
) -> None:
    mount = served.mount(ALWAYS_REFRESH)
    with server(served, mount, port) as client, client.slow_get(DRAFT_PATH) as response:
        sandbox.tenant = tenant(FINAL)
        for _ in range(3):
            run("stat", mount / NAMESPACE / file_name(DRAFT)).good()
        assert response.read() == LONG


@pytest.mark.promise(
    "An invoice that cannot be downloaded is an error of the web server, never a short or empty "
    "PDF."
)
@pytest.mark.tenant(TENANT)
@BY_EVERY_SERVER
def test_a_web_server_refuses_what_the_api_refuses(
    served: ServedFolder, port: int, sandbox: Sandbox, server: WebServer
) -> None:
    statuses = dict(zip(sorted(CONTENTS), (404, 403, 500), strict=False))
    for name, status in statuses.items():
        fault = faults.status(status)
        sandbox.inject(Fault(fault, Endpoint.PDF, name=name.removesuffix(".pdf")))
    with server(served, served.mount(), port) as client:
        for name in statuses:
            refused = client.request("GET", FOLDER + name)
            assert refused.status >= 400
            assert b"%PDF" not in refused.body


@pytest.mark.promise(
    "The examples for web servers show invoices only to those who know a password, and let nobody "
    "change anything."
)
@pytest.mark.tenant(TENANT)
@BY_EVERY_SERVER
def test_a_web_server_shows_strangers_nothing_and_refuses_changes(
    served: ServedFolder, port: int, server: WebServer
) -> None:
    path = FOLDER + min(CONTENTS)
    with server(served, served.mount(), port) as client:
        for address in (FOLDER, path):
            assert client.with_password("wrong").request("GET", address).status == 401
        for method in ("PUT", "DELETE", "MKCOL", "MOVE", "LOCK", "PROPPATCH"):
            refused = client.request(method, path, "new", Destination=FOLDER + "other.pdf")
            assert refused.status in (403, 405)


@pytest.mark.promise("As a network drive of Apache (WebDAV), the folder shows true sizes.")
@pytest.mark.tenant(TENANT)
def test_apache_shows_true_sizes_over_webdav(served: ServedFolder, port: int) -> None:
    with apache(served, served.mount(), port) as client:
        answer = client.request("PROPFIND", FOLDER, Depth="1")
    assert answer.status == 207
    sizes = {
        str(response.findtext("{DAV:}href")).rpartition("/")[2]: int(size)
        for response in ElementTree.fromstring(answer.body)  # noqa: S314 - from our own server
        if (size := response.findtext(".//{DAV:}getcontentlength"))
    }
    assert sizes == {name: len(pdf) for name, pdf in CONTENTS.items()}
