"""
What a destination port lets expect, as data: the protocol, whether TLS stands around it, and who speaks first.

The port that counts is the one a client wants to reach: of CONNECT, of a SOCKS request, or of a redirected connection.
On a proxy's own port there is none. Who speaks first decides how to wait: where the server greets, a probe that waits
for the client would wait for ever, so the greeting must be relayed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class PortHint(NamedTuple):
    """What a port is for."""

    protocol: str
    """of the whole: C{smtp}, C{https}; C{http} and C{socks} stand for every version"""
    tls: bool = False
    """implicit TLS: it begins with the first byte"""
    server_first: bool = False
    """the server greets, in plain text or, with implicit TLS, inside of it"""
    carries: str = ""
    """the protocol inside of implicit TLS"""


def _greeting(protocol: str) -> PortHint:
    return PortHint(protocol, server_first=True)


def _over_tls(protocol: str, carries: str, server_first: bool = False) -> PortHint:
    return PortHint(protocol, True, server_first, carries)


_HTTP = PortHint("http")
_HTTPS = _over_tls("https", "http")
_SOCKS = PortHint("socks")
_SMTP = _greeting("smtp")
_VNC = _greeting("vnc")

PORTS: Final[Mapping[int, PortHint]] = MappingProxyType(
    {
        21: _greeting("ftp"),
        22: _greeting("ssh"),
        23: _greeting("telnet"),
        25: _SMTP,
        53: PortHint("dns"),
        80: _HTTP,
        110: _greeting("pop3"),
        119: _greeting("nntp"),
        143: _greeting("imap"),
        322: _over_tls("rtsps", "rtsp"),
        389: PortHint("ldap"),
        443: _HTTPS,
        445: PortHint("smb"),
        465: _over_tls("smtps", "smtp", server_first=True),
        554: PortHint("rtsp"),
        563: _over_tls("nntps", "nntp", server_first=True),
        587: _SMTP,
        636: _over_tls("ldaps", "ldap"),
        853: _over_tls("dot", "dns"),
        989: _over_tls("ftps-data", "ftp-data"),
        990: _over_tls("ftps", "ftp", server_first=True),
        992: _over_tls("telnets", "telnet", server_first=True),
        993: _over_tls("imaps", "imap", server_first=True),
        994: _over_tls("ircs", "irc"),
        995: _over_tls("pop3s", "pop3", server_first=True),
        1080: _SOCKS,
        1194: PortHint("openvpn"),
        1883: PortHint("mqtt"),
        2222: _greeting("ssh"),
        2525: _SMTP,
        3128: _HTTP,
        3269: _over_tls("ldaps", "ldap"),
        3306: _greeting("mysql"),
        3389: PortHint("rdp"),
        4190: _greeting("sieve"),
        4443: _HTTPS,
        5060: PortHint("sip"),
        5061: _over_tls("sips", "sip"),
        5222: PortHint("xmpp"),
        5223: _over_tls("xmpps", "xmpp"),
        5269: PortHint("xmpp"),
        5432: PortHint("postgresql"),
        5900: _VNC,
        5901: _VNC,
        5986: _HTTPS,
        6667: PortHint("irc"),
        6697: _over_tls("ircs", "irc"),
        6881: PortHint("bittorrent"),
        8000: _HTTP,
        8008: _HTTP,
        8080: _HTTP,
        8443: _HTTPS,
        8883: _over_tls("mqtts", "mqtt"),
        8888: _HTTP,
        9050: _SOCKS,
        9443: _HTTPS,
    }
)
"""The IANA registry of service names and ports, and what is customary."""


def hint_of(port: int | None) -> PortHint | None:
    """What C{port} is for; C{None} if nobody knows, or there is no port."""
    return None if port is None else PORTS.get(port)


def greets_first(port: int | None, *, secure: bool = False) -> bool:
    """
    Whether the server speaks first, so that its greeting must be relayed at once.

    @param secure: the question is about what is inside of TLS. There the server greets on the ports of implicit TLS
        only: after STARTTLS on a plain port the client goes on.
    """
    hint = hint_of(port)
    return hint is not None and hint.server_first and hint.tls is secure
