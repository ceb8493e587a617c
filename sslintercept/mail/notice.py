"""What stands in the place of a message that IMAP does not give out."""

from __future__ import annotations

from sslintercept.dialogue.words import refusal


def notice(section: bytes, category: str, event: str) -> bytes:
    """
    A short mail, or for a C{section} of one its text.

    @param section: as in C{BODY[section]}; empty for the whole.
    """
    # "NO [CODE] words": a client reads the words here.
    words = refusal("imap", category, event).partition(b"] ")[2]
    text = b"This was withheld on its way by the gateway of your network.\r\n\r\n" + words
    if section:
        return text
    return (
        b"From: Gateway <postmaster@localhost>\r\n"
        b"Subject: Withheld: " + words + b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\n"
        b"Auto-Submitted: auto-generated\r\n"
        b"\r\n" + text
    )
