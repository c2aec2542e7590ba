"""Certificates of a cluster's own for the connections between its nodes, by openssl."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ich_ray.errors import SurroundingsError

DAYS = 2


def make_certificates(folder: Path, addresses: Sequence[str]) -> None:
    """Make an authority, and one certificate that it signs for all nodes.

    Args:
        folder: Made if absent; receives `ca.crt`, `node.crt` and `node.key`.
        addresses: Of the nodes; Ray checks that a certificate names whom it talks to.

    Raises:
        SurroundingsError: There is no openssl, or it fails.
    """
    if shutil.which("openssl") is None:
        raise SurroundingsError("there is no openssl to make certificates with: install it")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = ",".join(f"IP:{address}" for address in ("127.0.0.1", *addresses))
    (folder / "node.ext").write_text(f"subjectAltName={names}\n")
    new = "req -new -newkey rsa:2048 -nodes"
    for line in (
        f"{new} -x509 -days {DAYS} -subj /CN=ich-ray -keyout ca.key -out ca.crt",
        f"{new} -subj /CN=node -keyout node.key -out node.csr",
        f"x509 -req -days {DAYS} -in node.csr -CA ca.crt -CAkey ca.key -CAcreateserial "
        "-extfile node.ext -out node.crt",
    ):
        done = subprocess.run(
            ["openssl", *line.split()], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SurroundingsError(f"openssl {line} failed: {done.stderr.strip()}")


def tls_environment(folder: Path) -> Mapping[str, str]:
    """Return what Ray's processes need in their environment to use the certificates."""
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_CA_CERT": str(folder / "ca.crt"),
        "RAY_TLS_SERVER_CERT": str(folder / "node.crt"),
        "RAY_TLS_SERVER_KEY": str(folder / "node.key"),
    }
