"""
Who may come in: names and passwords for RFC 1929, from a file.

One user a line, C{name:scrypt:N:r:p:salt:hash} (RFC 7914; salt and hash in base64), as L{make_line} writes it. Empty
lines and lines that begin with C{#} are left out. A password is hashed off the reactor's thread, and a name that nobody
has costs as much as one that somebody has.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.errors import ConfigError, LimitError
from sslintercept.net.flow import host_key

MAX_FILE: Final = 4 * 1024 * 1024
"""bytes of the file"""
MAX_USERS: Final = 10_000
MAX_TEXT: Final = 255
"""bytes of a name, and of a password (RFC 1929 2)"""
MAX_MEMORY: Final = 64 * 1024 * 1024
"""bytes that one hash may need"""
MAX_BLOCKS: Final = 16
"""the highest p: how often that memory is gone through"""
MAX_WAITING: Final = 64
"""logins being verified at once"""
MAX_OF_A_HOST: Final = 8
"""and of one client's host (L{sslintercept.net.flow.host_key}): who guesses must not keep the others out"""
SALT: Final = range(8, 65)
HASH: Final = range(16, 65)
"""bytes of a salt, and of a hash"""

FORM: Final = "name:scrypt:N:r:p:salt:hash"

Run: TypeAlias = "Callable[[Callable[[], bool]], Deferred[bool]]"
"""Calls a function on another thread, for example C{deferToThread}."""


class Cost(NamedTuple):
    """How dear a hash is: its memory is 128 N r bytes, gone through p times (RFC 7914 2)."""

    n: int = 1 << 14
    r: int = 8
    p: int = 1


class Secret(NamedTuple):
    """What is kept of a password."""

    cost: Cost
    salt: bytes
    hash: bytes

    def __repr__(self) -> str:
        return "Secret(...)"

    def fits(self, password: bytes) -> bool:
        """Whether C{password} is the one; takes some 50 ms, whatever the answer."""
        return hmac.compare_digest(self.hash, _hashed(password, self.salt, self.cost, len(self.hash)))


class Users:
    """
    The users of one file.

    @param run: see L{Run}.
    """

    def __init__(self, secrets: Mapping[str, Secret], run: Run) -> None:
        self._secrets = dict(secrets)
        self._run = run
        self._waiting: Counter[str] = Counter()
        (cost, length), _ = Counter((one.cost, len(one.hash)) for one in secrets.values()).most_common(1)[0]
        self._nobody = Secret(cost, os.urandom(16), os.urandom(length))

    @classmethod
    def load(cls, path: Path, run: Run) -> tuple[Users, list[str]]:
        """
        Read the file; with warnings for whoever runs this.

        @raise ConfigError: it cannot be read, a line is wrong, or there is no user in it.
        """
        try:
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                raw = file.read(MAX_FILE + 1)
        except OSError as error:
            raise ConfigError(
                f"cannot be read ({error.strerror})", where=str(path), remedy="see [socks] users"
            ) from None
        if len(raw) > MAX_FILE:
            raise ConfigError(f"more than {MAX_FILE} bytes", where=str(path), remedy="see [socks] users")
        secrets: dict[str, Secret] = {}
        for number, line in enumerate(raw.splitlines(), 1):
            if not line.strip() or line.startswith(b"#"):
                continue
            try:
                name, secret = _read(line)
                if name in secrets:
                    raise ValueError("the name is there twice")
                if len(secrets) >= MAX_USERS:
                    raise ValueError(f"more than {MAX_USERS} users")
            except ValueError as error:
                raise ConfigError(str(error), where=f"{path}:{number}", remedy=f"write {FORM}") from None
            secrets[name] = secret
        if not secrets:
            raise ConfigError(
                "nobody is in it, so nobody could log in",
                where=str(path),
                remedy=f"write {FORM}, or unset [socks] users",
            )
        warnings = []
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            warnings.append(f"{path}: every user of this machine can open it; take the rights of others away")
        if len({secret.cost for secret in secrets.values()}) > 1:
            warnings.append(
                f"{path}: N, r and p differ, so the time of a login tells who is known; use the same in all"
            )
        return cls(secrets, run), warnings

    def verify(self, name: bytes, password: bytes, host: str) -> Deferred[bool]:
        """
        Whether this name has this password. Whoever cancels does not wait any longer; the thread goes on.

        @param host: the client's address.
        @raise LimitError: too many logins wait already, of all or of this client.
        """
        if self._waiting.total() >= MAX_WAITING:
            raise LimitError("too many logins at once", where="[socks] users", remedy="try again")
        key = host_key(host)
        if self._waiting[key] >= MAX_OF_A_HOST:
            raise LimitError("too many logins of this client at once", where="[socks] users", remedy="try again")
        try:
            known = self._secrets.get(name.decode("utf-8"))
        except UnicodeDecodeError:
            known = None
        secret = known or self._nobody
        answer: Deferred[bool] = Deferred()
        self._waiting[key] += 1

        def done(fits: bool | Failure) -> None:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
            if answer.called:
                return
            if isinstance(fits, Failure):
                answer.errback(fits)
            else:
                answer.callback(fits and known is not None)

        self._run(lambda: secret.fits(password)).addBoth(done)
        return answer


def make_line(name: str, password: str, cost: Cost | None = None) -> str:
    """
    The line for a user, without its newline.

    @raise ValueError: the name or the password cannot be used.
    """
    cost = cost or Cost()
    _check_name(name)
    _check_cost(cost)
    secret = password.encode("utf-8")
    if not 0 < len(secret) <= MAX_TEXT:
        raise ValueError(f"a password has 1 to {MAX_TEXT} bytes")
    salt = os.urandom(16)
    texts = (base64.b64encode(raw).decode("ascii") for raw in (salt, _hashed(secret, salt, cost, 32)))
    return ":".join((name, "scrypt", *map(str, cost), *texts))


def _hashed(password: bytes, salt: bytes, cost: Cost, length: int) -> bytes:
    n, r, p = cost
    # OpenSSL counts a little more than 128 N r.
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=2 * MAX_MEMORY, dklen=length)


def _read(line: bytes) -> tuple[str, Secret]:
    """
    The user of one line.

    @raise ValueError: what is wrong with it; nothing of the line is in the text.
    """
    try:
        parts = line.decode("utf-8").split(":")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if len(parts) != 7 or parts[1] != "scrypt":
        raise ValueError("not a user's line")
    name, _, *numbers, salt, secret = parts
    _check_name(name)
    if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in numbers):
        raise ValueError("N, r and p are not numbers")
    cost = Cost(*map(int, numbers))
    _check_cost(cost)
    return name, Secret(cost, _decoded(salt, "salt", SALT), _decoded(secret, "hash", HASH))


def _check_name(name: str) -> None:
    if (
        not 0 < len(name.encode("utf-8")) <= MAX_TEXT
        or not name.isprintable()
        or name[0] == "#"
        or {":", " "} & {*name}
    ):
        raise ValueError(f"a name has 1 to {MAX_TEXT} visible bytes, no colon in it and no # before it")


def _check_cost(cost: Cost) -> None:
    n, r, p = cost
    if n < 2 or n & (n - 1) or not r or n >= 1 << 16 * r or 128 * n * r > MAX_MEMORY or not 0 < p <= MAX_BLOCKS:
        raise ValueError(
            f"N is no power of 2 that r allows, or the hash needs more than {MAX_MEMORY} bytes or {MAX_BLOCKS} rounds"
        )


def _decoded(text: str, what: str, sizes: range) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) not in sizes:
        raise ValueError(f"the {what} is not {sizes[0]} to {sizes[-1]} bytes in base64")
    return raw
