"""
Keys and tokens of the common services, private keys, and passwords beside the word for them.

What a service puts into its tokens to be recognised is the pattern; where it puts in a check sum or a structure, that
is checked. Formats are those the services document, or use where they document nothing; samples and placeholders in
documentation (C{AKIAIOSFODNN7EXAMPLE}, C{xxxx}) are none.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Final

from sslintercept.leak.checksum import crc_base62
from sslintercept.leak.detector import SURE, Detector

_URL: Final = rb"0-9A-Za-z_-"
_BASE64: Final = rb"0-9A-Za-z+/="
_WEAK: Final = 40
_FAIR: Final = 60
_PLACEHOLDERS: Final = (
    b"example",
    b"changeme",
    b"change_me",
    b"password",
    b"placeholder",
    b"redacted",
    b"xxxx",
    b"....",
)
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LEAST_BITS: Final = 3.0
"""bits a character of a token, at least: 20 random ones of base 62 have about 4"""


def bits(text: bytes) -> float:
    """Entropy of the characters of *text*, in bits a character (Shannon, 1948)."""
    counts = [text.count(character) for character in {*text}]
    return math.log2(len(text)) - sum(count * math.log2(count) for count in counts) / len(text)


def _placeholder(text: bytes) -> bool:
    low = text.lower()
    return any(word in low for word in _PLACEHOLDERS)


def random(text: bytes) -> int:
    """A token without a check sum: whether it looks like chance made it."""
    return SURE if bits(text) >= _LEAST_BITS and not _placeholder(text) else 0


def github(text: bytes) -> int:
    """C{ghp_}, 30 characters, and their CRC-32."""
    return SURE if crc_base62(text[4:34]) == text[34:] else 0


def aws_secret(text: bytes) -> int:
    """40 characters of base 64, which hex and paths are too: they lack one of the kinds, or have few different ones."""
    kinds = (
        any(48 <= character < 58 for character in text),
        any(65 <= character < 91 for character in text),
        any(97 <= character < 123 for character in text),
    )
    return _WEAK if all(kinds) and bits(text) >= 4.2 and not _placeholder(text) else 0


def jwt(text: bytes) -> int:
    """The header is JSON and names an algorithm (RFC 7519 5, RFC 7515 4.1.1)."""
    head = text.split(b".", 1)[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return 0
    return SURE if isinstance(header, dict) and isinstance(header.get("alg"), str) else 0


def pypi(text: bytes) -> int:
    """A macaroon of version 2 whose location is a package index."""
    body = text[5:][: len(text[5:]) // 4 * 4]
    macaroon = base64.urlsafe_b64decode(body)
    return SURE if macaroon[:2] == b"\x02\x01" and macaroon[3:11] in (b"pypi.org", b"test.pyp") else 0


def password(text: bytes) -> int:
    """
    What stands behind the word is a password, not a word of a language or the name of a variable.

    Digits or signs among letters, and not all the same.
    """
    others = text.translate(None, _LETTERS)
    if len(others) == len(text) or not others.translate(None, b"_.-") or bits(text) < 2.5 or _placeholder(text):
        return 0
    return _FAIR


def _token(
    name: str, title: str, mark: bytes, *, prefix: int, edge: bytes = _URL, whole: bytes = b"", source: str = ""
) -> Detector:
    return Detector(name, title, mark, whole, edge, edge, check=random, front=prefix, source=source)


_WORDS: Final = (
    rb"(?:[Pp]ass[Ww](?:or)?d|PASSW(?:OR)?D|pwd|PWD|[Ss]ecret(?:[_-]?[Kk]ey)?|SECRET(?:_KEY)?|[Aa]pi[_-]?[Kk]ey|API_?KEY|"
    rb"[Aa]ccess[_-]?[Tt]oken|ACCESS_TOKEN|[Aa]uth[_-]?[Tt]oken|AUTH_TOKEN|[Pp]asswort|[Kk]ennwort|[Cc]ontrase\xc3\xb1a)"
    rb"[\"']? ?[:=]"
)
"""what is written in front of a password"""

DETECTORS: Final = (
    Detector(
        "private-key",
        "private key (PEM, OpenSSH, PGP)",
        rb"-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----",
        rb"-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----"
        rb"(?:[ \t]{0,8}(?:\\[rn]|[\r\n]){1,4}(?:[A-Za-z-]{1,24}: ?[^\r\n\\]{0,80}(?:\\[rn]|[\r\n]){1,4}){0,3}"
        rb"|[ \t]{1,8})([0-9A-Za-z+/=]{16,80})",
        before=b"-",
        after=b"",
        front=0,
        source="RFC 7468 10 and 11, RFC 1421 4.4, PROTOCOL.key of OpenSSH, RFC 9580 6.2.1",
    ),
    Detector(
        "putty-key",
        "private key (PuTTY)",
        rb"PuTTY-User-Key-File-[123]: [a-z0-9@.-]{4,40}",
        before=b"",
        after=b"",
        front=0,
        source="PuTTY manual, appendix C",
    ),
    _token(
        "aws-key-id", "AWS access key ID", rb"(?:AKIA|ASIA)[A-Z2-7]{16}", prefix=4, source="AWS IAM, unique ID prefixes"
    ),
    Detector(
        "aws-secret",
        "AWS secret access key",
        rb"[0-9A-Za-z/+]{40}",
        before=_BASE64,
        after=_BASE64,
        check=aws_secret,
        most=_WEAK,
        near=("aws_secret", "secret_access", "secretaccess", "secret access", "aws", "akia", "asia"),
        near_score=90,
        source="AWS IAM, access keys",
    ),
    Detector(
        "github-token",
        "GitHub token",
        rb"gh[pousr]_[0-9A-Za-z]{36}",
        before=_URL,
        after=_URL,
        check=github,
        front=3,
        source="GitHub, authentication token formats: CRC-32 in base 62",
    ),
    _token(
        "github-pat",
        "GitHub fine-grained token",
        rb"github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}",
        prefix=9,
        source="GitHub, token prefixes",
    ),
    _token(
        "gitlab-token",
        "GitLab token",
        rb"gl(?:pat|dt|rt|ptt|ft|soat|agent|oas|cbt|imt)-[0-9A-Za-z_-]{20}",
        whole=rb"gl(?:pat|dt|rt|ptt|ft|soat|agent|oas|cbt|imt)-[0-9A-Za-z_-]{20,300}(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?",
        edge=_URL,
        prefix=5,
        source="GitLab, token prefixes",
    ),
    _token(
        "slack-token",
        "Slack token",
        rb"xox[abceoprs]-[0-9A-Za-z]{1,12}-[0-9A-Za-z-]{8}",
        whole=rb"xox[abceoprs]-[0-9A-Za-z]{1,12}-[0-9A-Za-z-]{8,200}",
        prefix=4,
        source="Slack, token types",
    ),
    _token(
        "slack-webhook",
        "Slack webhook",
        rb"hooks\.slack\.com/(?:services|workflows)/[A-Z0-9]{8,12}/",
        whole=rb"hooks\.slack\.com/(?:services|workflows)/([A-Z0-9]{8,12}/[A-Z0-9]{8,20}/[0-9A-Za-z]{16,40})",
        edge=rb"0-9A-Za-z",
        prefix=2,
        source="Slack, incoming webhooks",
    ),
    _token(
        "stripe-key",
        "Stripe key",
        rb"(?:[sr]k_(?:live|test)|whsec)_[0-9A-Za-z]{16}",
        whole=rb"(?:[sr]k_(?:live|test)|whsec)_[0-9A-Za-z]{16,250}",
        prefix=6,
        source="Stripe, API keys",
    ),
    _token("google-key", "Google API key", rb"AIza[0-9A-Za-z_-]{35}", prefix=4, source="Google Cloud, API keys"),
    _token(
        "google-oauth-secret",
        "Google OAuth client secret",
        rb"GOCSPX-[0-9A-Za-z_-]{28}",
        prefix=6,
        source="Google Cloud",
    ),
    _token(
        "anthropic-key",
        "Anthropic API key",
        rb"sk-ant-[a-z]{3,8}[0-9]{2}-[0-9A-Za-z_-]{32}",
        whole=rb"sk-ant-[a-z]{3,8}[0-9]{2}-[0-9A-Za-z_-]{32,200}",
        prefix=5,
        source="Anthropic",
    ),
    _token(
        "openai-key",
        "OpenAI API key",
        rb"sk-(?:proj-|svcacct-|admin-)?[0-9A-Za-z_-]{20}",
        whole=rb"sk-(?:proj-|svcacct-|admin-)?[0-9A-Za-z_-]{20,120}T3BlbkFJ[0-9A-Za-z_-]{20,120}",
        prefix=2,
        source="OpenAI: its name in base 64 in the middle",
    ),
    Detector(
        "npm-token",
        "npm token",
        rb"npm_[0-9A-Za-z]{36}",
        before=_URL,
        after=_URL,
        check=github,
        front=3,
        source="npm, access token format: as GitHub's",
    ),
    Detector(
        "pypi-token",
        "PyPI token",
        rb"pypi-AgE[0-9A-Za-z_-]{40}",
        rb"pypi-AgE[0-9A-Za-z_-]{40,500}",
        before=_URL,
        after=_URL,
        check=pypi,
        front=4,
        source="PyPI: a macaroon",
    ),
    Detector(
        "jwt",
        "JSON Web Token",
        rb"ey[JI][0-9A-Za-z_-]{12}",
        rb"ey[JI][0-9A-Za-z_-]{12,200}\.ey[JI][0-9A-Za-z_-]{8,16}",
        before=rb"0-9A-Za-z_-",
        after=b"",
        check=jwt,
        front=3,
        source="RFC 7519",
    ),
    Detector(
        "azure-account-key",
        "Azure connection string",
        rb"(?:AccountKey|SharedAccessKey)=[0-9A-Za-z+/]{40}",
        rb"(?:AccountKey|SharedAccessKey)=([0-9A-Za-z+/]{43,86}={1,2})",
        before=rb"0-9A-Za-z",
        after=rb"0-9A-Za-z+/=",
        check=random,
        source="Azure Storage, connection strings",
    ),
    _token("sendgrid-key", "SendGrid key", rb"SG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}", prefix=2, source="SendGrid"),
    _token("huggingface-token", "Hugging Face token", rb"hf_[0-9A-Za-z]{34}", prefix=2, source="Hugging Face"),
    _token("digitalocean-token", "DigitalOcean token", rb"do[por]_v1_[0-9a-f]{64}", prefix=5, source="DigitalOcean"),
    _token(
        "telegram-token", "Telegram bot token", rb"[0-9]{8,10}:AA[0-9A-Za-z_-]{33}", prefix=2, source="Telegram Bot API"
    ),
    Detector(
        "url-password",
        "password in a URL",
        rb"[a-z][a-z0-9+]{2,12}://[^\s:/@\"'<>{}$]{1,40}:[^\s:/@\"'<>{}$]{3}",
        rb"[a-z][a-z0-9+]{2,12}://[^\s:/@\"'<>{}$]{1,40}:([^\s:/@\"'<>{}$]{3,80})(?=@[0-9A-Za-z])",
        before=rb"0-9A-Za-z+",
        after=b"",
        score=_FAIR,
        source="RFC 3986 3.2.1",
    ),
    Detector(
        "password",
        "password or secret beside the word for it",
        _WORDS,
        _WORDS + rb" ?[\"']?([^\s\"'<>(){}\[\],;&$`\\]{8,80})",
        before=b"",
        after=rb"(\[{",
        check=password,
        source="entropy of what follows",
    ),
)
