"""
C{phishing}: is this mail, or this page, phishing?

    [inspect:phishing]
    use = phishing
    brands = paypal.com, example-bank.com
    allies = paypal.me
    known = *.example.com, category:banking
    tag = 40
    quarantine = 70
    refuse = 90

Mails (SMTP, LMTP, POP3, IMAP) and pages of HTML are taken whole, read in a worker, and judged here
(L{sslintercept.phish.judge}): a score from 0 to 100 with reasons. From C{tag} on a mail is marked, in a field and in
its subject, and a page in a field; from C{quarantine} and C{refuse} on it does not pass.

Limits. What is longer than 8 MiB (mails) or 2 MiB (pages) is judged by its beginning. SMTP only: C{check_sender} asks
SPF, DKIM and DMARC, unless the client has logged in or has a private address, for then it is one of ours that sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final, Protocol

from twisted.internet.defer import Deferred

from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.config.units import Unit
from sslintercept.errors import ConfigError
from sslintercept.inspect.inspector import Inspector, Look
from sslintercept.inspect.part import Part
from sslintercept.inspect.verdict import MOST_EVIDENCE, PHISHING, Act, Evidence, Verdict
from sslintercept.phish.auth import Done, Workers, authenticate
from sslintercept.phish.dmarc import Auth, domain_of, from_results
from sslintercept.phish.domain import cleaned
from sslintercept.phish.judge import Score, judge
from sslintercept.phish.lookalike import Brands
from sslintercept.phish.names import MailNames, Resolver
from sslintercept.phish.observed import Head, all_parsed
from sslintercept.phish.place import place
from sslintercept.phish.read import TASK
from sslintercept.phish.tag import marks
from sslintercept.rule.match import Hosts
from sslintercept.sites.listing import Listing
from sslintercept.sites.look import Sites

MOST_MAIL: Final = 8 * 1024 * 1024
"""bytes of a mail that are read"""
MOST_PAGE: Final = 2 * 1024 * 1024
"""bytes of a page that are read"""
PATIENCE: Final = 10.0
"""seconds for all questions to name servers about one mail"""
PAGES: Final = frozenset(("text/html", "application/xhtml+xml"))
MAILS: Final = frozenset(("smtp", "lmtp", "pop3", "imap"))
CATEGORY: Final = "category:"
"""how an item of C{known} begins that is a category of lists"""
WHERE: Final = "phishing"


class Clock(Protocol):
    """L{sslintercept.net.handler.NetHandler}, as far as it is asked here."""

    def seconds(self) -> float: ...


class Engines(Protocol):
    """What it needs of the gateway."""

    @property
    def workers(self) -> Workers: ...
    @property
    def sites(self) -> Sites:
        """The lists as they are now."""

    @property
    def dns(self) -> Resolver | None:
        """Whom to ask; C{None} if mails cannot be authenticated."""

    @property
    def handler(self) -> Clock:
        """The set of watched sockets, whose clock deadlines are of."""


def _known(text: str) -> str:
    if not text.lower().startswith(CATEGORY):
        Hosts((text,))
    elif not text[len(CATEGORY) :].strip():
        raise ValueError("a category without a name")
    return text


def _threshold() -> Unit[int]:
    """A score from which on something is done; C{off} is 0."""
    return units.word_or("off", 0, units.integer(0, 100))


HOST: Final = units.host()


@dataclass(frozen=True, slots=True)
class PhishingOptions:
    """Of C{phishing}."""

    brands: tuple[str, ...] | None = setting(
        units.listed(HOST, 1000), None, "domains that phishers imitate", example="paypal.com, example-bank.com"
    )
    allies: tuple[str, ...] | None = setting(
        units.listed(HOST), None, "hosts that may look like brands, with all below them", example="paypal.me"
    )
    known: tuple[str, ...] | None = setting(
        units.listed(units.unit(_known, "a host as rules have it, or category:NAME")),
        None,
        "hosts where logins are normal and whose mails are: names, *.example.com, networks, category:NAME of lists",
        example="*.example.com, category:banking",
    )
    bad: tuple[str, ...] = setting(
        units.listed(units.token()), "phishing, malware", "categories of lists that count as bad; * for any"
    )
    check_sender: bool = setting(units.switch(), "on", "ask SPF, DKIM and DMARC about mails in SMTP")
    trusted_authserv: tuple[str, ...] | None = setting(
        units.listed(units.token()),
        None,
        "servers whose Authentication-Results are believed",
        example="mx.example.com",
    )
    tag: int = setting(_threshold(), "40", "score from which on it is marked; off or 0 for never")
    quarantine: int = setting(_threshold(), "70", "score from which on it does not pass, and a copy is kept")
    refuse: int = setting(_threshold(), "90", "score from which on it does not pass")
    subject: str = setting(
        units.phrase(100, "at most 100 bytes"), "[SUSPICIOUS]", "what a marked mail has in front of its subject"
    )


class PhishingInspector(Inspector):
    """Looks at mails and pages."""

    Options = PhishingOptions

    def __init__(self, options: PhishingOptions, engines: Engines) -> None:
        """@raise ConfigError: a brand is no domain that can be registered, or an item is no host."""
        super().__init__(options)
        self.settings = options
        self.keeps = bool(options.quarantine)
        self.engines = engines
        known = options.known or ()
        self._bad = frozenset(word.lower() for word in options.bad)
        self._good = frozenset(
            word[len(CATEGORY) :].strip().lower() for word in known if word.lower().startswith(CATEGORY)
        )
        try:
            self.brands = Brands(options.brands or (), options.allies or ())
            self._hosts = Hosts([word for word in known if not word.lower().startswith(CATEGORY)])
        except ValueError as error:
            raise ConfigError(str(error), where=WHERE, remedy="correct brands, allies or known") from None

    def look(self, part: Part) -> Look | None:
        """Look at a mail, or at a page that comes in."""
        if part.kind == "message" and part.carrier in MAILS:
            return PhishingLook(self, part, MOST_MAIL)
        if part.carrier == "http" and part.kind == "body" and not part.leaves and part.status == 200:
            page = part.media_type in PAGES or (part.media_type in ("", "text/plain") and part.sniffed == "text/html")
            if page and not self.known(_host_of(part)):
                return PhishingLook(self, part, MOST_PAGE)
        return None

    # for its looks

    def known(self, host: str) -> bool:
        """Whether logins at a host, and mails from it, are normal."""
        if self._hosts.find(host) is not None:
            return True
        return bool(self._good) and any(
            listing.category.lower() in self._good for listing in self.engines.sites.all_of_host(host)
        )

    def listed(self, scheme: str, host: str, port: int, target: str) -> str | None:
        """Why a site is bad."""
        sites = self.engines.sites
        if scheme:
            found = sites.all_of_url(scheme, host, port or None, target.encode("utf-8", "replace"))
        else:
            found = sites.all_of_host(host)
        for listing in found:
            if "*" in self._bad or listing.category.lower() in self._bad:
                return _told(listing)
        return None

    def act(self, score: int) -> Act | None:
        """What a score comes to."""
        settings = self.settings
        if settings.refuse and score >= settings.refuse:
            return Act.BLOCK
        if settings.quarantine and score >= settings.quarantine:
            return Act.QUARANTINE
        if settings.tag and score >= settings.tag:
            return Act.TAG
        return None

    async def score(self, part: Part, content: bytes) -> Score:
        """
        Read, ask, and judge.

        @raise EngineError: no worker could read it.
        """
        if part.kind == "message":
            seen = all_parsed([item.meta for item in await self._run({"kind": "mail"}, content)])
            auth = await self._auth(part, content, next((each for each in seen if isinstance(each, Head)), None))
            return judge(seen, self.brands, self.known, self.listed, auth)
        meta: dict[str, object] = {"kind": "page", "url": part.url[:4096], "charset": (part.charset or "utf-8")[:64]}
        seen = all_parsed([item.meta for item in await self._run(meta, content)])
        scheme = place(part.url).scheme
        return judge(seen, self.brands, self.known, self.listed, host=_host_of(part), scheme=scheme)

    async def _run(self, meta: dict[str, object], content: bytes) -> Sequence[Done]:
        return await self.engines.workers.run(TASK, meta, content)

    async def _auth(self, part: Part, content: bytes, head: Head | None) -> Auth | None:
        """What is known of a mail's origin, from a server that is believed or from asking ourselves."""
        if head is None:
            return None
        settings, facts = self.settings, part.facts
        if settings.trusted_authserv and (domain := domain_of(head.sender)):
            told = from_results(domain, head.results, settings.trusted_authserv)
            if told is not None:
                return told
        resolver = self.engines.dns
        asked = settings.check_sender and resolver is not None and part.carrier == "smtp" and len(content) < MOST_MAIL
        if not asked or resolver is None or part.user or facts.user or facts.login or not _outside(facts.client.host):
            return None
        names = MailNames(resolver, self.engines.handler.seconds, PATIENCE)
        return await authenticate(head, content, facts.client.host, part.sender, "", names, self.engines.workers)


class PhishingLook(Look):
    """
    A look at one mail or page, which is taken whole.

    @param most: bytes that are kept.
    """

    def __init__(self, inspector: PhishingInspector, part: Part, most: int) -> None:
        self._inspector, self._part, self._most = inspector, part, most
        self._content = bytearray()
        self._asked: Deferred[Score] | None = None

    def write(self, data: bytes) -> None:
        self._content += data[: self._most - len(self._content)]

    def finish(self) -> None:
        content = bytes(self._content)
        self._content.clear()
        self._asked = Deferred.fromCoroutine(self._inspector.score(self._part, content))
        self._asked.addCallbacks(self._judged, self.broke, errbackArgs=(WHERE,))

    def abort(self) -> None:
        self.over = True
        self._content.clear()
        if self._asked is not None:
            self._asked.cancel()

    def _judged(self, score: Score) -> None:
        act = self._inspector.act(score.total)
        verdict = None if act is None else verdict_of(act, score, self._part)
        if verdict is not None and self._part.kind == "message":
            field = marks(verdict.score, [each.what for each in verdict.evidence])
            verdict = replace(verdict, marks=(field,), subject=self._inspector.settings.subject)
        self.tell(verdict)


def verdict_of(act: Act, score: Score, part: Part) -> Verdict:
    """A verdict, with a score's reasons as evidence."""
    evidence = tuple(
        Evidence(each.name, each.text, each.where or part.path, score=each.weight)
        for each in score.reasons[:MOST_EVIDENCE]
    )
    first = score.reasons[0]
    return Verdict(act, PHISHING, first.name, f"score {score.total}: {first.text}", evidence, score.total, "phishing")


def _outside(host: str) -> bool:
    """Whether an address is somebody else's: one of ours may send in our names."""
    try:
        return ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return False


def _host_of(part: Part) -> str:
    return place(part.url).host or cleaned(part.host)


def _told(listing: Listing) -> str:
    """Why it is listed, without where our files lie."""
    return str(listing._replace(file=listing.file.rpartition("/")[2]))
