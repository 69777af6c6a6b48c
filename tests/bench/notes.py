"""What the printed table means, and how each contestant was measured."""

from tests.bench.limits import LATENCY_S, PARALLEL
from tests.bench.tenant import ARCHIVE, COUNTS, OTHERS, PDF_BYTES, SMALL

EXPLANATION = f"""\
Medians of alternating rounds; the archive has {COUNTS[ARCHIVE]} invoices of \
{PDF_BYTES // 1000} kB, and each request has a latency of {LATENCY_S * 1000:.0f} ms. `6.3x` \
is 6.3 times what invoicefs takes: more than 1x is in favour of invoicefs. Numbers without x \
or a unit are counts, or the ratio of two rows. The \
column `limit` is the reverse: `1.5x` means that invoicefs takes 1.5 times as long as is possible \
with {PARALLEL} requests in flight at all times, or 1.5 times as long as a single request."""
NOTES = (
    "The pipelines are `curl | jq -r .pdf | base64 -d` for each name that `curl | jq` lists. All "
    "filesystems but invoicefs and fsspec.fuse get plain files from a server of the same latency.",
    f"client, {PARALLEL} threads: a thread pool over the Python package f5xc-py-substrate. Neither "
    "the start of the pipelines nor that of the mounts is included.",
    "rclone mount: `--vfs-cache-mode full --dir-cache-time 24h --read-only`. With "
    "`--http-no-head`, every size is 0 and copies are empty, so only listings are measured; "
    "without it, 100 000 files take 100 000 requests.",
    "httpdirfs: `--cache`. Its archive and `ls -l`, sequential curl and the `rsync -a` of rclone "
    "mount run in one round only, because they are slow.",
    "fsspec.fuse: on an fsspec filesystem for this API, which keeps everything it has read in "
    "memory.",
    "CPU time per invoice: that of all processes of the mount during the copy at 5 ms.",
    f"{len(SMALL)} small namespaces: of {COUNTS[SMALL[0]]} invoices each; the limit includes the "
    "request for each listing.",
    "TLS: the requests have no latency, but a proxy delays all that is sent, so that a round trip "
    f"takes {LATENCY_S * 1000:.0f} ms, including that of the TCP handshake. It limits no "
    "bandwidth and has no slow start, so a real line is slower for all.",
    f"Elsewhere: {len(OTHERS)} namespaces that have never been listed, and the first open of an "
    "invoice in each, during a copy of another namespace; the limit is the time of one request. "
    "At 2 s in one round only.",
    "`ls -l` and `rsync -a` of 100 000, and 300 000 to 100 000: in one round only. Nothing is "
    "downloaded: `rsync` compares with files that have the sizes, times and modes that the mount "
    "shows, so it transfers nothing.",
    "Warm rows: all downloads come before, without latency. The 1 000 files of `cp` have 100 kB "
    "each, the 10 000 of `rsync` 1 kB, and `rsync` transfers none of them again.",
    "Warm `stat`: all other filesystems let the kernel cache attributes for 1 s, so most calls do "
    "not reach them; invoicefs answers each, so that a program sees a new size at once.",
    "40 opens: invoicefs with `--parallel 40`, so that all wait for the API at the same time.",
)
