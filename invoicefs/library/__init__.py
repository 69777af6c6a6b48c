"""The core: namespaces and invoices, their attributes, and the content of PDFs."""
