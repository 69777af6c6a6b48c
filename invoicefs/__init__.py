"""invoicefs: the billing invoices of an F5 Distributed Cloud tenant as a read-only folder."""

__version__ = "0.1.0"
