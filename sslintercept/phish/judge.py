"""
Is it phishing? Observations in, a score with reasons out.

Each reason has a weight; the sum, from 0 to 100, is the score. A reason counts once, with the first thing that gave it
or the weightiest. The weights are in L{WEIGHTS} and L{LIKENESS}: one strong sign (a domain that is drawn like a
brand's, a program behind the extension of a document) should tag, two should do for quarantine. They were set by hand;
tests/phish/test_corpus.py shows what they come to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from sslintercept.phish.attachment import words
from sslintercept.phish.dmarc import Auth, domain_of
from sslintercept.phish.domain import cleaned, mixed, registrable
from sslintercept.phish.lookalike import Brands, How, Likeness
from sslintercept.phish.observed import Attachment, End, Form, Head, Link, Observation, Page, Script, Text
from sslintercept.phish.place import place
from sslintercept.phish.spf import Result
from sslintercept.sites.key import address_of

MOST: Final = 100
"""the highest score"""
MOST_REASONS: Final = 24
"""reasons that are told"""
MOST_HOSTS: Final = 200
"""hosts that a mail leads to whose likeness is looked at; one that leads to more is read as one that hides something"""
MOST_SAMPLES: Final = 4
"""texts in which L{LURES} are looked for"""
MOST_SHOWN: Final = 80
"""characters of what a mail says that a reason repeats"""

WEIGHTS: Final = {
    "listed": (80, "leads to what is listed"),
    "listed-sender": (70, "its sender is listed"),
    "display-brand": (40, "its sender is named like a brand, and is none"),
    "display-address": (35, "its sender is named by another address"),
    "several-senders": (25, "it has several senders"),
    "reply-elsewhere": (15, "replies go to another organization"),
    "dmarc-reject": (50, "its sender's domain has not authenticated it, and wants such mail refused"),
    "dmarc-quarantine": (35, "its sender's domain has not authenticated it, and wants such mail apart"),
    "dmarc-fail": (20, "its sender's domain has not authenticated it"),
    "brand-unproven": (40, "it says to be from a brand, and nothing proves it"),
    "spf-fail": (15, "its sender's domain does not send from there"),
    "signature-broken": (10, "its signature is not good"),
    "authentic": (-25, "its sender's domain is one that is known, and has authenticated it"),
    "brand-mismatch": (50, "a link shows a brand, and leads elsewhere"),
    "link-mismatch": (20, "a link shows one host, and leads to another"),
    "link-login": (30, "a link has a user name in front of its host"),
    "link-address": (20, "a link leads to a bare address"),
    "mixed-script": (35, "a host is written in several alphabets"),
    "link-data": (35, "a link has a page in itself"),
    "refresh": (25, "it goes somewhere else by itself"),
    "mail-form": (25, "it has a form"),
    "mail-password": (55, "it asks for a password"),
    "form-mail": (25, "a form sends what is typed by mail"),
    "login-unknown": (25, "a password is asked for where none usually is"),
    "login-away": (25, "a password goes to another organization"),
    "login-clear": (20, "a password goes in the clear"),
    "login-address": (25, "a password is asked for at a bare address"),
    "brand-page": (40, "a login with a brand's name is not the brand's"),
    "brand-images": (20, "a login with a brand's pictures is not the brand's"),
    "smuggling": (45, "a script makes a file in the browser"),
    "smuggling-mail": (75, "a script in a mail makes a file"),
    "hidden-script": (15, "a script is hidden from readers"),
    "lure": (10, "it presses for something to be done"),
    "unreadable": (40, "it could not be read to its end"),
    # attachments
    "double-extension": (60, "an attachment hides its extension"),
    "bidi": (60, "an attachment's name is written backwards"),
    "padding": (45, "an attachment hides the end of its name"),
    "program": (50, "a program is attached"),
    "script": (50, "a script is attached"),
    "shortcut": (45, "a shortcut is attached"),
    "disk-image": (35, "a disk image is attached"),
    "macro": (35, "a document with macros is attached"),
    "encrypted": (15, "an encrypted file is attached"),
    "encrypted-told": (40, "an encrypted file is attached, and its password is in the text"),
    "contains-program": (45, "a program is in an archive"),
    "contains-archive": (10, "an archive is in an archive"),
    "other-type": (30, "an attachment is of another type than its name says"),
    "html": (20, "a page is attached"),
}
"""reasons: what each is worth, and what it means"""

LIKENESS: Final = {
    How.SCRIPT: (65, "is drawn like"),
    How.ALIKE: (60, "looks like"),
    How.INSIDE: (65, "begins with the whole of"),
    How.TYPO: (45, "is one key from"),
    How.LABEL: (40, "begins with the name of"),
    How.BAIT: (45, "has the name of"),
    How.WORD: (30, "has the name of"),
    How.SUFFIX: (30, "has another ending than"),
    How.NEAR: (20, "is close to"),
    How.PART: (15, "has in it the name of"),
}
"""what it is worth that a host looks like a brand's, by how; a mistyped short name is often a word"""

LURES: Final = (
    *("verify your account", "confirm your identity", "account will be suspended", "unusual activity", "act now"),
    *("password expires", "within 24 hours", "immediately", "final notice", "mailbox is full", "payment failed"),
    *("konto gesperrt", "konto best\u00e4tigen", "umgehend", "innerhalb von 24 stunden", "letzte mahnung"),
    *("v\u00e9rifiez votre compte", "compte suspendu", "imm\u00e9diatement", "dans les 24 heures"),
    *("verifique su cuenta", "cuenta suspendida", "inmediatamente", "en 24 horas"),
    *("verifica il tuo account", "account sospeso", "immediatamente", "entro 24 ore"),
)
"""what presses; one of them is nothing, two count"""

USUAL: Final = words(
    "com net org info biz edu gov eu de uk fr nl it es pl ch at be se no dk fi cz jp cn in br au ca us io co app dev"
)
"""last labels by which a bare word is taken for a host"""

Known = Callable[[str], bool]
"""whether a host, in A-labels, is one where logins are normal, and whose mails are"""
Lookup = Callable[[str, str, int, str], str | None]
"""why a site is listed, by scheme, host, port (0: none said) and target; C{None} if it is not"""


class Reason(NamedTuple):
    """
    Why.

    @ivar name: one of L{WEIGHTS}, or C{sender-alike}, C{link-alike}, C{host-alike}.
    @ivar where: the part it is in: C{head}, C{body}, C{page}, the name of an attachment.
    """

    name: str
    weight: int
    text: str
    where: str = ""


class Score(NamedTuple):
    """0 to 100, and why, the weightiest reason first."""

    total: int
    reasons: tuple[Reason, ...]


NOTHING: Final = Score(0, ())


def printable(text: str) -> str:
    """What a mail says, short and without what a terminal might act upon."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:MOST_SHOWN])


class _Judge:
    """Reasons as they gather."""

    def __init__(self, brands: Brands, known: Known, lookup: Lookup) -> None:
        self.brands, self.known, self.lookup = brands, known, lookup
        self.reasons: dict[str, Reason] = {}
        self.hosts: set[str] = set()
        """where it leads"""
        self.home = ""
        """the organization that it is from"""

    def add(self, name: str, detail: str = "", where: str = "") -> None:
        """A reason of L{WEIGHTS}, with what it is about."""
        weight, text = WEIGHTS[name]
        self._keep(Reason(name, weight, f"{text}: {printable(detail)}" if detail else text, printable(where)))

    def _keep(self, reason: Reason) -> None:
        old = self.reasons.get(reason.name)
        if old is None or old.weight < reason.weight:
            self.reasons[reason.name] = reason

    def score(self) -> Score:
        reasons = sorted(self.reasons.values(), key=lambda reason: -reason.weight)
        total = sum(reason.weight for reason in reasons)
        return Score(max(0, min(MOST, total)), tuple(reasons[:MOST_REASONS]))

    # hosts

    def trusted(self, host: str) -> bool:
        """Whether nothing is to be said of a host: a brand's own, an ally, one that is known."""
        brands = self.brands
        return brands.owner(host) is not None or brands.ally(host) or self.known(host)

    def said(self, host: str) -> bool:
        """Whether a host is of the organization that it is from, and what that looks like was said already."""
        return "sender-alike" in self.reasons and registrable(host) == self.home

    def alike(self, name: str, host: str, where: str) -> None:
        """Whether a host looks like a brand's."""
        if not host or self.known(host):
            return
        likeness = self.brands.find(host)
        if likeness is not None:
            self._keep(_alike(name, likeness, where))
        if (label := mixed(host)) is not None and not self.brands.ally(host):
            self.add("mixed-script", label, where)

    # mails

    def head(self, head: Head) -> None:
        domain = domain_of(head.sender)
        self.home = registrable(domain)
        if head.senders > 1:
            self.add("several-senders", where="head")
        if domain:
            self.alike("sender-alike", domain, "head")
            if (why := self.lookup("", domain, 0, "/")) is not None:
                self.add("listed-sender", why, "head")
        shown = domain_of(_address_in(head.display))
        if shown and registrable(shown) != self.home:
            self.add("display-address", head.display, "head")
        elif not self.trusted(domain) and (named := self.brands.named(head.display)) is not None:
            self.add("display-brand", f"{head.display} ({named})", "head")
        reply = domain_of(head.reply)
        if reply and registrable(reply) != self.home:
            self.alike("sender-alike", reply, "head")
            if not head.listed and not self.trusted(reply):
                self.add("reply-elsewhere", reply, "head")

    def auth(self, auth: Auth) -> None:
        """What is known of its origin."""
        ours = self.trusted(auth.domain)
        proven = auth.dmarc is Result.PASS or auth.aligned_dkim or (auth.aligned_spf and auth.spf is Result.PASS)
        if auth.dmarc is Result.FAIL:
            name = {"reject": "dmarc-reject", "quarantine": "dmarc-quarantine"}.get(auth.policy, "dmarc-fail")
            self.add(name, auth.domain, "head")
        elif auth.spf is Result.FAIL and not proven:
            self.add("spf-fail", auth.spf_domain, "head")
        if auth.dkim in (Result.FAIL, Result.PERMERROR) and not proven:
            self.add("signature-broken", where="head")
        unsure = Result.TEMPERROR in (auth.dmarc, auth.spf, auth.dkim)
        if self.brands.owner(auth.domain) is not None and not proven and not unsure:
            self.add("brand-unproven", auth.domain, "head")
        elif ours and proven:
            self.add("authentic", auth.domain, "head")

    def attachment(self, seen: Attachment, told: bool) -> None:
        for sign in seen.signs:
            if sign in WEIGHTS:
                self.add("encrypted-told" if sign == "encrypted" and told else sign, seen.name, seen.name)

    # both

    def link(self, link: Link, mail: bool) -> None:
        if link.kind == "data":
            self.add("link-data", link.shown, link.part)
            return
        host = link.host
        if (why := self.lookup(link.scheme, host, link.port, link.target)) is not None:
            self.add("listed", why, link.part)
        if link.kind in ("image", "style") or not mail:
            return  # what pages show of others, and lead to, is not theirs
        if host not in self.hosts and len(self.hosts) >= MOST_HOSTS:
            self.add("unreadable", f"it leads to more than {MOST_HOSTS} hosts", link.part)
            return
        self.hosts.add(host)
        if not self.said(host):
            self.alike("link-alike", host, link.part)
        if link.login:
            self.add("link-login", host, link.part)
        if _public(host):
            self.add("link-address", host, link.part)
        if link.kind == "refresh":
            self.add("refresh", host, link.part)
        shown = _host_in(link.shown)
        if shown and registrable(shown) != registrable(host) and registrable(host) != self.home:
            if self.brands.owner(shown) is not None and not self.trusted(host):
                self.add("brand-mismatch", f"{shown} leads to {host}", link.part)
            elif not self.trusted(host):
                self.add("link-mismatch", f"{shown} leads to {host}", link.part)

    def mail_form(self, form: Form) -> None:
        if form.password:
            self.add("mail-password", form.host, form.part)
        elif form.fields or form.host or form.mail:
            self.add("mail-form", form.host, form.part)
        if form.mail:
            self.add("form-mail", where=form.part)
        if not self.said(form.host):
            self.alike("link-alike", form.host, form.part)

    def script(self, script: Script, mail: bool) -> None:
        signs = set(script.signs)
        makes = bool(signs & {"blob", "save"}) and bool(signs & {"download", "save"})
        carries = "large" in signs
        if mail and (makes or (carries and signs & {"blob", "download", "decode"})):
            self.add("smuggling-mail", where=script.part)
        elif makes and carries and "decode" in signs:
            self.add("smuggling", where=script.part)
        if "hidden" in signs:
            self.add("hidden-script", where=script.part)

    def page(self, host: str, scheme: str, seen: Sequence[Observation]) -> None:
        """A page that somebody is shown."""
        if self.trusted(host):
            return
        self.home = registrable(host)
        self.alike("host-alike", host, "page")
        forms = [each for each in seen if isinstance(each, Form)]
        if any(form.mail and (form.password or form.fields) for form in forms):
            self.add("form-mail", where="page")
        logins = [form for form in forms if form.password]
        if not logins:
            return
        if not _inside(host):
            self.add("login-unknown", host, "page")
        if _public(host):
            self.add("login-address", host, "page")
        for form in logins:
            if form.host and registrable(form.host) != self.home and not self.trusted(form.host):
                self.add("login-away", form.host, "page")
            if "http" in (form.scheme, scheme if not form.scheme else "") and not _inside(host):
                self.add("login-clear", form.host or host, "page")
        for each in seen:
            if isinstance(each, Page) and (named := self.brands.named(each.title)) is not None:
                self.add("brand-page", f"{each.title} ({named})", "page")
            elif (
                isinstance(each, Link)
                and each.kind in ("image", "style")
                and (owner := self.brands.owner(each.host)) is not None
            ):
                self.add("brand-images", owner, "page")


def judge(
    observations: Iterable[Observation],
    brands: Brands,
    known: Known,
    lookup: Lookup,
    auth: Auth | None = None,
    *,
    host: str = "",
    scheme: str = "",
) -> Score:
    """
    Judge a mail, or a page.

    @param auth: what is known of a mail's origin.
    @param host: where a page is from; empty for a mail. C{scheme} likewise.
    """
    seen = list(observations)
    host = cleaned(host)
    mail = not host
    found = _Judge(brands, known, lookup)
    told = any(isinstance(each, Text) and each.password for each in seen)
    samples: list[str] = []
    for each in seen:
        if isinstance(each, Head):
            found.head(each)
        elif isinstance(each, Link):
            found.link(each, mail)
        elif isinstance(each, Script):
            found.script(each, mail)
        elif isinstance(each, Attachment):
            found.attachment(each, told)
        elif isinstance(each, Text):
            samples += [each.sample] if len(samples) < MOST_SAMPLES else []
        elif isinstance(each, End) and each.cut:
            found.add("unreadable", ", ".join(each.cut))
        elif isinstance(each, Form) and mail:
            found.mail_form(each)
    if not seen or not isinstance(seen[-1], End):
        found.add("unreadable")
    if auth is not None and mail:
        found.auth(auth)
    if mail:
        text = " ".join(samples).lower()
        lures = [lure for lure in LURES if lure in text]
        if len(lures) > 1:
            found.add("lure", ", ".join(lures), "body")
    else:
        found.page(host, scheme, seen)
    return found.score()


def _alike(name: str, likeness: Likeness, where: str) -> Reason:
    weight, words = LIKENESS[likeness.how]
    return Reason(name, weight, f"{printable(likeness.shown)} {words} {likeness.brand}", printable(where))


def _address_in(display: str) -> str:
    """What looks like an address in a display name; empty without one."""
    for word in display.split():
        local, at, domain = word.strip("<>()\"',;").partition("@")
        if local and at and "." in domain:
            return f"{local}@{domain}"
    return ""


def _host_in(shown: str) -> str:
    """The host that the text of a link shows, if the text is a URL, or a host by itself; empty if not."""
    text = shown.strip()
    if not text or " " in text or "@" in text.partition("/")[0]:
        return ""
    if not text.lower().startswith(("http://", "https://")):
        text = f"http://{text}"
    host = place(text).host
    if "." not in host or not text.isascii():
        return ""
    # A word with a dot is a host where people would take it for one: "report.pdf" is none.
    usual = host.startswith("www.") or host.rpartition(".")[2] in USUAL
    return host if usual or "://" in shown or address_of(host) is not None else ""


def _public(host: str) -> bool:
    """Whether it is an address that anybody may have."""
    return address_of(host) is not None and not _private(host)


def _inside(host: str) -> bool:
    """Whether it is of one's own net: a bare word, or a private address."""
    return ("." not in host.strip(".") and ":" not in host) or (address_of(host) is not None and _private(host))


def _private(host: str) -> bool:
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return address.is_private or address.is_loopback or address.is_link_local
