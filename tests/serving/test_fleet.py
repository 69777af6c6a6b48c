"""A fleet of mounts behind the HTTP cache that the package ships a configuration of nginx for."""

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

import pytest

from invoicefs.sandbox import (
    Answer,
    Endpoint,
    Exchange,
    Fault,
    RateLimit,
    SampleInvoice,
    Sandbox,
    faults,
    plain_pdf,
)
from tests.mount.support.mounts import Mount, Mounts, permissions
from tests.mount.support.planted_secrets import check, traces_of_files
from tests.mount.support.programs import Ended, eventually, run
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant
from tests.serving.fleet import Fleet, copies_of, ended_together
from tests.serving.nginx_cache import TENANT_HOST, HttpCache, http_cache
from tests.support.certificates import Authority

MOUNTS = 10
TOKEN = "Tok3n+planted/Tok3n=planted"
INVOICES = tuple(invoice(number, 1000 + 10_000 * (number % 5)) for number in range(60))
TENANT = tenant(*INVOICES)
FIRST, SECOND = INVOICES[:2]
LISTS = ("/api/web/namespaces", f"/api/web/namespaces/{NAMESPACE}/usage/invoices/custom_list")
PDF_OF_FIRST = f"/api/web/namespaces/{NAMESPACE}/usage/invoice_pdf?name={FIRST.name}"
ALLOWED = {"Authorization": f"APIToken {TOKEN}"}
DRAFT = replace(FIRST, active=True, status="STATUS_PENDING")


@pytest.fixture
def sandbox(authority: Authority) -> Iterator[Sandbox]:
    """An API server with a certificate for the host name of the tenant."""
    tls = authority.issue("tenant", hosts=[f"DNS:{TENANT_HOST}"]).for_server()
    with Sandbox(TENANT, TOKEN, tls=tls) as sandbox:
        yield sandbox


@pytest.fixture
def cache(sandbox: Sandbox, tmp_path: Path, authority: Authority) -> Iterator[HttpCache]:
    with http_cache(sandbox, tmp_path, authority) as cache:
        yield cache


@pytest.fixture
def fleet(sandbox: Sandbox, cache: HttpCache, tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet(sandbox, cache, tmp_path)) as fleet:
        yield fleet


def path_in(mount: Mount, sample: SampleInvoice) -> Path:
    return mount / NAMESPACE / file_name(sample)


def read(mount: Mount, sample: SampleInvoice) -> Ended:
    return run("cat", path_in(mount, sample))


def content_of(sample: SampleInvoice) -> bytes:
    content = sample.content()
    assert content is not None
    return content


@pytest.mark.promise(
    "Ten mounts that copy a tenant through the HTTP cache at the same time make at most "
    "1.5 requests per invoice in all, including those for lists."
)
@pytest.mark.parametrize("count", [20, len(INVOICES)])
def test_ten_mounts_copy_everything_for_at_most_one_and_a_half_requests_per_invoice(
    sandbox: Sandbox, fleet: Fleet, tmp_path: Path, count: int
) -> None:
    sandbox.tenant = tenant(*INVOICES[:count])
    sandbox.latency_s = 0.05
    sandbox.inject(Fault(forbid_caching))
    mounts = [mount for _, mount in fleet.mounted(MOUNTS)]

    copies = copies_of(mounts, tmp_path)

    assert copies == [contents(sandbox.tenant)] * MOUNTS
    assert sandbox.count() <= 1.5 * count


def forbid_caching(exchange: Exchange) -> None:
    """Respond as a gateway does that wants no response cached."""
    headers = {"Cache-Control": "no-store", "Set-Cookie": "a=b", "Vary": "*", "Expires": "0"}
    exchange.answer(replace(exchange.honest, headers=headers))


@pytest.mark.promise(
    "Under a rate limit of 10 requests a second, ten mounts behind the HTTP cache copy "
    "every invoice."
)
def test_ten_mounts_copy_everything_under_a_rate_limit(
    sandbox: Sandbox, fleet: Fleet, tmp_path: Path
) -> None:
    sandbox.throttle(RateLimit(per_second=10, burst=1))
    mounts = [mount for _, mount in fleet.mounted(MOUNTS)]

    assert copies_of(mounts, tmp_path) == [contents(TENANT)] * MOUNTS


@pytest.mark.promise("The HTTP cache serves a PDF only to a token that the API has given it to.")
def test_a_wrong_or_missing_token_gets_nothing_from_the_cache(
    sandbox: Sandbox, fleet: Fleet, cache: HttpCache
) -> None:
    ((_, mount),) = fleet.mounted(1)
    read(mount, FIRST).good()
    (call,) = (call for call in sandbox.calls if call.endpoint is Endpoint.PDF)
    version = {"X-Invoicefs-Version": call.headers["x-invoicefs-version"]}
    sandbox.forget_calls()

    def status_with(authorization: dict[str, str]) -> int:
        return cache.status_of(call.target, {**version, "Accept-Encoding": "gzip", **authorization})

    assert status_with(ALLOWED) == 200
    assert not sandbox.calls  # it is in the cache
    assert status_with({"Authorization": f"APIToken {TOKEN}x"}) == 401
    assert status_with({}) == 401
    assert len(sandbox.calls) == 1  # about the wrong token; a missing one is refused at once
    wrong = fleet.machine({"INVOICEFS_TOKEN": "wrong"})
    assert "401" in wrong.command("mount", wrong.new_path()).err


@pytest.mark.parametrize("target", [PDF_OF_FIRST, *LISTS])
def test_nothing_reaches_the_tenant_that_is_not_in_the_key(
    sandbox: Sandbox, cache: HttpCache, target: str
) -> None:
    """Otherwise a request could change what others get from the cache."""
    headers = {
        **ALLOWED,
        "X-Invoicefs-Version": "1",
        "Cache-Control": "max-age=0",
        "X-Forwarded-Host": "elsewhere.example",
        "Cookie": "a=b",
        "Range": "bytes=0-9",
    }
    another_request = b"GET /api/web/namespaces HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n"
    for _ in range(2):
        cache.status_of(target, headers, body=another_request)

    assert sandbox.calls
    for call in sandbox.calls:
        assert call.headers.keys() <= {
            *("accept", "authorization", "host", "user-agent", "x-invoicefs-version")
        }
        assert call.headers["host"] == TENANT_HOST


@pytest.mark.promise(
    "A list that the HTTP cache has is bypassed by `invoicefs refresh` and when a new invoice is "
    "opened by its name, and what they list replaces it."
)
@pytest.mark.parametrize("way", ["refresh", "open"])
def test_a_new_invoice_is_seen_at_once_although_the_list_is_cached(
    sandbox: Sandbox, fleet: Fleet, way: str
) -> None:
    sandbox.tenant = tenant(FIRST)
    (machine, mount), (_, other) = fleet.mounted(2)
    run("ls", other / NAMESPACE).good()
    if way == "refresh":
        assert run("ls", mount / NAMESPACE).good().lines == [file_name(FIRST)]
    sandbox.tenant = tenant(FIRST, SECOND)

    if way == "refresh":
        machine.command("refresh", mount.path).good()
    else:
        read(mount, SECOND).good()

    assert sorted(run("ls", mount / NAMESPACE).good().lines) == sorted(
        map(file_name, (FIRST, SECOND))
    )
    ((_, late),) = fleet.mounted(1)
    assert len(run("ls", late / NAMESPACE).good().lines) == 2


def test_a_request_without_a_version_is_not_cached(sandbox: Sandbox, cache: HttpCache) -> None:
    """Another client may get a draft, which must not be served for the final invoice."""
    for _ in range(2):
        assert cache.status_of(PDF_OF_FIRST, ALLOWED) == 200
    assert sandbox.count(Endpoint.PDF) == 2


@pytest.mark.promise("Behind the HTTP cache, a draft that becomes final is right in every mount.")
def test_a_draft_that_becomes_final_is_right_everywhere(sandbox: Sandbox, fleet: Fleet) -> None:
    """Half of the mounts have read the draft, and half come later."""
    changed = replace(DRAFT, pdf=plain_pdf("changed draft", 1500))
    final = replace(FIRST, pdf=plain_pdf("final", 2000))

    sandbox.tenant = tenant(DRAFT)
    early = fleet.mounted(MOUNTS // 2)
    assert_all_read(early, DRAFT)
    sandbox.tenant = tenant(changed)
    refresh(early)
    assert_all_read(early, changed)
    sandbox.tenant = tenant(final)
    late = fleet.mounted(MOUNTS - len(early))
    assert_all_read(late, final)
    refresh(early)
    assert_all_read(early, final)


def refresh(machines: list[tuple[Mounts, Mount]]) -> None:
    for machine, mount in machines:
        machine.command("refresh", mount.path).good()


def assert_all_read(machines: list[tuple[Mounts, Mount]], sample: SampleInvoice) -> None:
    ended = ended_together([("cat", path_in(mount, sample)) for _, mount in machines])
    assert [program.good().out for program in ended] == [content_of(sample)] * len(machines)


def cut_without_a_length(exchange: Exchange) -> None:
    """Send half a body whose end only the end of the connection shows."""
    half = exchange.honest.body[: len(exchange.honest.body) // 2]
    headers: dict[str, str | None] = {"Content-Length": None, "Connection": "close"}
    exchange.answer(Answer(200, half, headers))
    exchange.hang_up()


FAILURES = [
    *(faults.status(status) for status in (401, 403, 404, 409, 429, 500, 503, 504)),
    *(faults.html(), faults.redirect("https://elsewhere.example/")),
    *(faults.cut(), faults.wrong_length(10), faults.reset(), cut_without_a_length),
]


@pytest.mark.promise("The HTTP cache keeps no error, and no response that was cut short.")
def test_a_failure_is_not_cached(sandbox: Sandbox, fleet: Fleet) -> None:
    failing = INVOICES[: len(FAILURES)]
    for sample, failure in zip(failing, FAILURES, strict=True):
        sandbox.inject(Fault(failure, Endpoint.PDF, name=sample.name, times=1))
    (_, early), (_, late) = fleet.mounted(2, "--read-ahead", "0")

    for sample in failing:
        assert read(early, sample).out in (b"", content_of(sample))
    statuses = {call.status for call in sandbox.calls}
    assert statuses >= {200, 302, 401, 403, 404, 409, 429, 500, 503, 504}
    for sample in failing:
        assert read(late, sample).good().out == content_of(sample)


@pytest.mark.promise("The HTTP cache keeps no error, and no response that was cut short.")
@pytest.mark.parametrize("target", LISTS)
def test_a_failed_list_is_not_cached(sandbox: Sandbox, cache: HttpCache, target: str) -> None:
    for number, failure in enumerate(FAILURES):
        sandbox.forget_calls()
        sandbox.inject(Fault(failure, times=1))
        for _ in range(2):
            with suppress(OSError, HTTPException):  # of a response that was cut short
                cache.status_of(f"{target}?limit={number}", ALLOWED)
        assert sandbox.count() == 2
        assert sandbox.calls[1].status == 200


@pytest.mark.promise(
    "An unusable response that an HTTP cache has stored is replaced by the next request of a mount."
)
def test_an_unusable_response_in_the_cache_is_replaced(sandbox: Sandbox, fleet: Fleet) -> None:
    """To nginx it is JSON like any other."""
    sandbox.inject(Fault(faults.not_a_pdf(), Endpoint.PDF, times=1))
    (_, early), (_, late) = fleet.mounted(2)

    assert "Input/output error" in read(early, FIRST).err
    assert eventually(lambda: read(early, FIRST).out) == content_of(FIRST)
    assert read(late, FIRST).good().out == content_of(FIRST)
    assert sandbox.count(Endpoint.PDF) == 2


@pytest.mark.promise("The HTTP cache sends tokens only to a tenant whose certificate is valid.")
@pytest.mark.parametrize("fault", ["authority", "name"])
def test_a_tenant_that_cannot_be_verified_gets_no_token(
    sandbox: Sandbox, fleet: Fleet, authority: Authority, tmp_path: Path, fault: str
) -> None:
    other = Authority(tmp_path / "other") if fault == "authority" else authority
    host = "elsewhere.example" if fault == "name" else TENANT_HOST
    ((_, mount),) = fleet.mounted(1)
    run("ls", mount / NAMESPACE).good()
    sandbox.go_away()
    sandbox.tls = other.issue("other", hosts=[f"DNS:{host}"]).for_server()
    sandbox.come_back()
    sandbox.forget_calls()

    ended = read(mount, FIRST)

    assert "Input/output error" in ended.err
    assert ended.out == b""
    assert not sandbox.calls


@pytest.mark.promise("A token can be renewed under mounts that share the HTTP cache.")
def test_a_renewed_token_has_a_cache_of_its_own(
    sandbox: Sandbox, fleet: Fleet, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    machines = fleet.mounted(2, "--token-file", str(token))
    read(machines[0][1], FIRST).good()

    sandbox.token = "renewed"
    token.write_text(sandbox.token)

    for sample in (FIRST, SECOND):
        assert_all_read(machines, sample)
    counts = [sandbox.count(Endpoint.PDF, name=sample.name) for sample in (FIRST, SECOND)]
    assert counts == [2, 1]  # the second one was first requested with the renewed token


@pytest.mark.promise("Neither the files nor the log of the HTTP cache contain a token.")
def test_neither_the_cache_nor_its_log_has_a_token(fleet: Fleet, cache: HttpCache) -> None:
    ((_, mount),) = fleet.mounted(1)
    read(mount, FIRST).good()

    assert {mode for name, mode in permissions(cache.content).items()} == {
        *("drwx------", "-rw-------")
    }
    check([*traces_of_files(cache.content), *traces_of_files(cache.logs)], TOKEN.encode())
