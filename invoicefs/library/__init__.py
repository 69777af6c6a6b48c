"""The centre: what exists, what it looks like, and its bytes."""
