"""An embedded API server with sample invoices, for the demo, the tests and the benchmarks.

An example in which the first two downloads fail::

    with Sandbox() as sandbox:
        sandbox.inject(Fault(faults.status(503), Endpoint.PDF, times=2))
        use(sandbox.url, sandbox.token)
        print(sandbox.calls)
"""

from invoicefs.sandbox import faults
from invoicefs.sandbox.answers import Answer
from invoicefs.sandbox.calls import Call, Endpoint
from invoicefs.sandbox.exchange import Exchange, Sent
from invoicefs.sandbox.faults import Behaviour, Fault
from invoicefs.sandbox.pdfs import plain_pdf
from invoicefs.sandbox.rate_limit import RateLimit
from invoicefs.sandbox.sample import sample_tenant
from invoicefs.sandbox.server import SAMPLE_TOKEN, Sandbox
from invoicefs.sandbox.tenant import OMITTED, SampleInvoice, SampleNamespace, SampleTenant

__all__ = [
    "OMITTED",
    "SAMPLE_TOKEN",
    "Answer",
    "Behaviour",
    "Call",
    "Endpoint",
    "Exchange",
    "Fault",
    "RateLimit",
    "SampleInvoice",
    "SampleNamespace",
    "SampleTenant",
    "Sandbox",
    "Sent",
    "faults",
    "plain_pdf",
    "sample_tenant",
]
