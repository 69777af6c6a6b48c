"""The physical limit of what is measured: how fast an API of this latency can answer."""

PARALLEL = 8
"""The number of requests in flight: the default of ``--parallel``, and what others are given."""

LATENCY_S = 0.05
SHORT_LATENCY_S = 0.005  # here the CPU decides
LONG_LATENCY_S = 2.0


def limit_s(requests: int, latency_s: float = LATENCY_S) -> float:
    """Return n*l/p, the seconds that n requests take if `PARALLEL` are always in flight."""
    return requests * latency_s / PARALLEL
