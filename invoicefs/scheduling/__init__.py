"""How requests are made: bounded, shared, retried and paced."""
