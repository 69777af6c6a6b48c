"""PDFs, listings and records on disk."""
