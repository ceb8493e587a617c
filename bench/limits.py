#!/usr/bin/env python3
"""
What this machine can do at best: in-memory TLS handshakes and records with the ssl module and with pyOpenSSL.

Prints JSON lines; C{--openssl} adds the primitives by C{openssl speed}. Run it with each Python of interest.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable

import peer
from OpenSSL import SSL

CA = peer.make_cas()
BLOCK = b"x" * 65536


def cost(work: Callable[[], object], seconds: float = 1.5) -> float:
    """CPU microseconds of one *work*."""
    work()
    count, cpu, began = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        work()
        count += 1
    return round((time.process_time() - cpu) / count * 1e6, 1)


def standard_pair() -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A client and a server of the ssl module, the handshake done."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = STANDARD_CLIENT.wrap_bio(there, back, server_hostname="proxy.bench.test")
    server = STANDARD_SERVER.wrap_bio(back, there, server_side=True)
    todo = [client, server]
    while todo:
        for end in list(todo):
            try:
                end.do_handshake()
                todo.remove(end)
            except ssl.SSLWantReadError:
                pass
    return client, server


def pyopenssl_pair() -> tuple[SSL.Connection, SSL.Connection]:
    """The same with pyOpenSSL."""
    client, server = SSL.Connection(PYOPENSSL_CLIENT), SSL.Connection(PYOPENSSL_SERVER)
    client.set_connect_state()
    server.set_accept_state()
    todo = [client, server]
    while todo:
        for end, other in ((client, server), (server, client)):
            if end in todo:
                try:
                    end.do_handshake()
                    todo.remove(end)
                except SSL.WantReadError:
                    pass
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(end.bio_read(65536))
    return client, server


def standard_block() -> Callable[[], None]:
    client, server = standard_pair()

    def move() -> None:
        client.write(BLOCK)
        got = 0
        while got < len(BLOCK):
            got += len(server.read(65536))

    return move


def pyopenssl_block() -> Callable[[], None]:
    client, server = pyopenssl_pair()

    def move() -> None:
        client.sendall(BLOCK)  # send() stops after one record, as partial writes are on
        server.bio_write(client.bio_read(1 << 17))
        got = 0
        while got < len(BLOCK):
            got += len(server.recv(65536))

    return move


STANDARD_SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
STANDARD_SERVER.load_cert_chain(CA / "proxy.pem", CA / "proxy.key")
STANDARD_CLIENT = ssl.create_default_context(cafile=str(CA / "origin.pem"))
PYOPENSSL_SERVER, PYOPENSSL_CLIENT = SSL.Context(SSL.TLS_SERVER_METHOD), SSL.Context(SSL.TLS_CLIENT_METHOD)
PYOPENSSL_SERVER.use_certificate_file(str(CA / "proxy.pem"))
PYOPENSSL_SERVER.use_privatekey_file(str(CA / "proxy.key"))
PYOPENSSL_CLIENT.load_verify_locations(str(CA / "origin.pem"))
PYOPENSSL_CLIENT.set_verify(SSL.VERIFY_PEER)

ENGINES = (
    ("ssl module", ssl.OPENSSL_VERSION, standard_pair, standard_block),
    ("pyOpenSSL", SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode(), pyopenssl_pair, pyopenssl_block),
)
SPEEDS = ("-evp aes-256-gcm -bytes 16384", "-evp chacha20-poly1305 -bytes 16384", "ecdsap256 ecdhx25519 rsa2048")


def main() -> None:
    if "--openssl" in sys.argv:
        for words in SPEEDS:
            command = ["openssl", "speed", "-mr", "-seconds", "1", *words.split()]
            out = subprocess.run(command, capture_output=True, text=True).stdout
            print(json.dumps({"openssl speed": words, "out": [line for line in out.splitlines() if "+F" in line]}))
    for what, library, pair, block in ENGINES:
        figures = {"handshake_us_both_sides": cost(pair), "us_per_64KiB_encrypt_decrypt": cost(block())}
        print(json.dumps({"what": what, "python": sys.version.split()[0], "library": library, **figures}), flush=True)


if __name__ == "__main__":
    main()
