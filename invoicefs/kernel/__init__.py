"""The adapter to the kernel, on fusepy."""
