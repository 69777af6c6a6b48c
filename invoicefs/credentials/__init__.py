"""Who we are to the API: the credential sources, secret files, tokens and certificates."""
