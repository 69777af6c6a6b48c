"""A TCP proxy that delays everything, like a long line; as a program.

    python -m tests.bench.delaying_proxy PORT DELAY_S

Prints the port on which it listens, and forwards to PORT; both are on the loopback interface.
Whatever arrives is sent on DELAY_S later, in both directions. A handshake of TCP takes a round
trip: what a client sends within the first 2 * DELAY_S is treated as if sent at their end, because
the kernel has completed the handshake with the proxy itself. There is no limit of the bandwidth,
no slow start, and nothing is lost. It exits at the end of stdin.
"""

import asyncio
import sys
from asyncio import Queue, StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager
from selectors import SelectSelector

from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import started

_HOST = "127.0.0.1"
_CHUNK_BYTES = 1024 * 1024
_BACKLOG = 1024


@contextmanager
def running_proxy(port: int, delay_s: float) -> Iterator[int]:
    """Start the program, and yield the port on which it listens."""
    argv = (sys.executable, "-m", "tests.bench.delaying_proxy", str(port), str(delay_s))
    with started(*argv, cwd=CHECKOUT) as program:
        line = program.line()
        assert line, f"the proxy ended: {program.end().err}"
        yield int(line)


async def _forward(
    reader: StreamReader, writer: StreamWriter, delay_s: float, established_s: float
) -> None:
    """Send on everything, and at last the end of the stream, `delay_s` after it has arrived.

    It counts as arrived at `established_s` at the earliest.
    """
    chunks = Queue[tuple[float, bytes]]()
    async with asyncio.TaskGroup() as both:
        both.create_task(_read(reader, chunks, delay_s, established_s))
        both.create_task(_write(chunks, writer))


async def _read(
    reader: StreamReader, chunks: Queue[tuple[float, bytes]], delay_s: float, established_s: float
) -> None:
    data = b"any"
    while data:
        data = await reader.read(_CHUNK_BYTES)
        arrived_s = max(asyncio.get_running_loop().time(), established_s)
        chunks.put_nowait((arrived_s + delay_s, data))


async def _write(chunks: Queue[tuple[float, bytes]], writer: StreamWriter) -> None:
    while True:
        due_s, data = await chunks.get()
        await asyncio.sleep(due_s - asyncio.get_running_loop().time())
        if not data:
            writer.write_eof()
            return
        writer.write(data)


async def _serve(port: int, delay_s: float) -> None:
    loop = asyncio.get_running_loop()

    async def converse(reader: StreamReader, writer: StreamWriter) -> None:
        established_s = loop.time() + 2 * delay_s
        far_reader, far_writer = await asyncio.open_connection(_HOST, port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_forward(reader, far_writer, delay_s, established_s))
                both.create_task(_forward(far_reader, writer, delay_s, established_s))
        except* OSError:
            pass  # one of them has hung up
        finally:
            for end in (writer, far_writer):
                end.close()

    server = await asyncio.start_server(converse, _HOST, 0, backlog=_BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await loop.run_in_executor(None, sys.stdin.read)


def main(port: int, delay_s: float) -> None:
    """Forward connections until stdin ends."""
    # epoll would round each delay up to whole milliseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(SelectSelector())) as runner:
        runner.run(_serve(port, delay_s))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
