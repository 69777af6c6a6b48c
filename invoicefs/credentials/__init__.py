"""Credentials for the API: their sources, secret files, tokens and certificates."""
