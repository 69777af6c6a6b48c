"""The vendor's API over HTTP: requests, answers, and what can go wrong between them."""
