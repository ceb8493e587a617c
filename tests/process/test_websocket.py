"""The library websockets as client and as server, with compression, through a running proxy that opens their TLS."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from tests.process.origins import BODY_NAME, Certificates
from tests.process.running import Proxy


@pytest.fixture
def server(certificates: Certificates) -> Iterator[int]:
    """The port of a server that says everything again, until it is told to close."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            if message == "close":
                connection.close(4321, "as you like")
            connection.send(message)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.files[BODY_NAME])
    with serve(echo, "127.0.0.1", 0, ssl=context) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield made.socket.getsockname()[1]
        finally:
            made.shutdown()
            thread.join()


def client(gateway: Proxy, port: int, compression: str | None) -> ClientConnection:
    context = ssl.create_default_context(cafile=gateway.ca)
    proxy = f"http://{gateway.ports[0]}"
    return connect(f"wss://{BODY_NAME}:{port}/chat", ssl=context, proxy=proxy, compression=compression)


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_of_every_size_come_back_as_they_were(gateway: Proxy, server: int, compression: str | None) -> None:
    with client(gateway, server, compression) as connection:
        assert connection.response is not None
        assert ("Sec-WebSocket-Extensions" in connection.response.headers) is (compression is not None)
        for size in (0, 1, 125, 126, 65535, 65536, 300_000):
            for message in ("ü" * size, bytes(size)):
                connection.send(message)
                assert connection.recv(timeout=20) == message
        connection.send(["in ", "three ", "pieces"])
        assert connection.recv(timeout=20) == "in three pieces"
        assert connection.ping().wait(20)
    line = gateway.logged(lambda line: line["type"] == "connection" and "websocket" in line["stack"])
    assert line["error"] is None


def test_a_code_to_close_with_arrives(gateway: Proxy, server: int) -> None:
    with client(gateway, server, "deflate") as connection:
        connection.send("close")
        with pytest.raises(ConnectionClosedError, match=r"4321 \(private use\) as you like"):
            connection.recv(timeout=20)
