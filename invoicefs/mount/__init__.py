"""The life of a mount, from its checks to its end."""
