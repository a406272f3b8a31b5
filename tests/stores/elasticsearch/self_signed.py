"""A self-signed certificate for 127.0.0.1, as its own CA."""

import subprocess
from pathlib import Path


def certificate(folder: Path, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """Paths of a new certificate for the address `host`, and of its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    options = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
    ]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            *options,
            "-addext",
            f"subjectAltName=IP:{host}",
            "-out",
            cert,
            "-keyout",
            key,
        ],
        check=True,
        capture_output=True,
    )
    return cert, key
