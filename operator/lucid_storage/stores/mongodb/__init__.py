"""MongoDB: the port that kinds speak to, our types, and the adapter over PyMongo."""

import importlib.util
import sys

# PyMongo tries PyOpenSSL first (pymongo/ssl_support.py) and imports cryptography.x509 for it before it finds that
# PyOpenSSL is not there: 8 MiB, and 50 ms of every worker's start. Where it is missing we say so at once; the standard
# library's TLS is used either way.
if importlib.util.find_spec("OpenSSL") is None:
    sys.modules.setdefault("pymongo.pyopenssl_context", None)  # type: ignore[arg-type]
