"""NFS-Ganesha, which serves a mount as the export ``/invoices``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.mount.support.mounts import Mount
from tests.mount.support.programs import Argument, Ended, run
from tests.serving.examples import install
from tests.serving.folder import ServedFolder
from tests.serving.running_server import HOST, MEMBER, serving


@dataclass(frozen=True)
class NfsClient:
    """A client in user space: it needs no NFS in the kernel, and keeps nothing between runs."""

    port: int

    def run(self, program: str, path: str, *arguments: Argument) -> Ended:
        """Run ``nfs-ls``, ``nfs-cat`` or ``nfs-cp`` with a path of the export."""
        url = f"nfs://{HOST}/invoices/{path}?nfsport={self.port}&version=4"
        return run(program, *arguments, url)

    def sizes(self, path: str) -> dict[str, int]:
        """Return the sizes of the files in a folder."""
        lines = [line.split() for line in self.run("nfs-ls", path).good().lines]
        return {fields[-1]: int(fields[-2]) for fields in lines}

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        return self.run("nfs-cat", path).good().out


@contextmanager
def ganesha(
    served: ServedFolder, mount: Mount, port: int, clients: str = HOST
) -> Iterator[NfsClient]:
    """Run Ganesha for the given clients."""
    folder = served.new_folder("ganesha")
    changes = {
        "/srv/invoices": str(mount.path),
        "Anonymous_Gid = GID": f"Anonymous_Gid = {MEMBER.gid}",
        f"Clients = {HOST}": f"Clients = {clients}",
        "NFS_CORE_PARAM {": f"NFS_CORE_PARAM {{ NFS_Port = {port}; Bind_addr = {HOST};",
        "NFSV4 {": f"NFSV4 {{ RecoveryRoot = {folder};",
    }
    config, log = install("ganesha.conf", folder, changes), folder / "log"
    program = ("ganesha.nfsd", "-F", "-f", config, "-L", log, "-p", folder / "pid")
    with serving(*program, port=port, log=log):
        yield NfsClient(port)
