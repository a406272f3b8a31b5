"""The connection to one Elasticsearch cluster: the official client, lean, with errors in our words."""

from __future__ import annotations

import warnings
from contextlib import AbstractAsyncContextManager
from ssl import create_default_context
from urllib.parse import unquote, urlsplit

from elastic_transport import NodeConfig
from elasticsearch import AsyncElasticsearch, ElasticsearchWarning

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.stores.elasticsearch.direct import DirectNode
from lucid_storage.stores.elasticsearch.errors import answering

MAX_CONNECTIONS = 4
REQUEST_SECONDS = 10.0
CALL_SECONDS = 20.0


class ElasticConnection:
    """Dials lazily and never retries by itself, since the engine has its own back-off.

    `subject` begins the sentences about this cluster: label, host and port, never the login. A URL without a
    port means 9200 for http and 443 for https. Raises RefusedError(SecretInvalid) when the URL or the CA
    cannot be used.
    """

    def __init__(
        self, url: str, label: str, *, api_key: str | None = None, ca_path: str | None = None
    ) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")  # or the resolver's error would be no OSError
        except ValueError as error:
            raise _unusable(label) from error
        if parts.scheme not in {"http", "https"} or not host:
            raise _unusable(label)
        port = port or (443 if parts.scheme == "https" else 9200)
        login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self.subject = f"Elasticsearch ({label}) at {f'[{host}]' if ':' in host else host}:{port}"
        # The server's deprecation notes would be printed between the lines of the JSON log.
        warnings.filterwarnings("ignore", category=ElasticsearchWarning)
        try:
            self.client = AsyncElasticsearch(
                [
                    NodeConfig(
                        scheme=parts.scheme,
                        host=host,
                        port=port,
                        path_prefix=parts.path.rstrip("/"),
                        connections_per_node=MAX_CONNECTIONS,
                        # The client's own context does not compare the certificate with an address.
                        ssl_context=create_default_context(cafile=ca_path)
                        if parts.scheme == "https"
                        else None,
                    )
                ],
                node_class=DirectNode,
                basic_auth=None if api_key else login,
                api_key=api_key,
                request_timeout=REQUEST_SECONDS,
                max_retries=0,
                retry_on_timeout=False,
                meta_header=False,
            )
        except (ValueError, OSError) as error:
            raise _unusable(label) from error

    def answering(self) -> AbstractAsyncContextManager[None]:
        """Bounds one call of the port and turns its errors into ours."""
        return answering(self.subject, CALL_SECONDS)

    async def close(self) -> None:
        await self.client.close()


def _unusable(label: str) -> RefusedError:
    return RefusedError(
        f"The connection of Elasticsearch ({label}) cannot be used; write https://user:password@host:port "
        "with special characters of the password percent-encoded, and check the CA file.",
        reason=Reason.SECRET_INVALID,
    )
