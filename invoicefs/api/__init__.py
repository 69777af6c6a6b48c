"""The vendor's API over HTTP: requests, responses and failures."""
