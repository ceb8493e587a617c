"""
Mails and pages made with a seed: what people get, and what phishers send.

Nothing of the judge is used here; the kinds follow what field reports tell of phishing, with those that are hard to
see among them. Made texts are kinder than real ones.
"""

from __future__ import annotations

import random
import zipfile
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO
from typing import Final, NamedTuple

from sslintercept.phish.dmarc import Auth
from sslintercept.phish.spf import Result
from tests.phish.build import mail

BRANDS: Final = (
    *("paypal.com", "microsoft.com", "amazon.com", "netflix.com", "dhl.com", "apple.com", "google.com", "dropbox.com"),
    *("linkedin.com", "example-bank.com", "chase.com", "wellsfargo.com", "docusign.com", "facebook.com", "ups.com"),
    *("instagram.com", "whatsapp.com", "adobe.com", "sparkasse.de", "postbank.de"),
)
NAMES: Final = ("Alice", "Bob", "Carol", "Dieter", "Eva", "Farid", "Grete", "Hiro", "Ines", "Jon")
_WORDS = (
    "the meeting report budget plan garden holiday train ticket project team offer price sample window kitchen music "
    "school letter office summer delivery order number question answer week month morning street river paper"
)
WORDS: Final = _WORDS.split()
HOSTS: Final = (
    "news",
    "blog",
    "garden",
    "shop",
    "studio",
    "club",
    "verein",
    "praxis",
    "music",
    "travel",
    "school",
    "bikes",
)
TLDS: Final = ("com", "net", "org", "de", "fr", "co.uk", "info", "io")


class Sample(NamedTuple):
    """A mail, or with C{url} a page."""

    kind: str
    content: bytes
    url: str = ""
    auth: Auth | None = None


def text(chance: random.Random, count: int = 40) -> str:
    return " ".join(chance.choices(WORDS, k=count)).capitalize() + "."


def site(chance: random.Random) -> str:
    """A host that nobody imitates."""
    return f"{chance.choice(WORDS)}{chance.choice(('-', ''))}{chance.choice(HOSTS)}.{chance.choice(TLDS)}"


def person(chance: random.Random) -> str:
    return f"{chance.choice(NAMES)} {chance.choice(WORDS).capitalize()}"


def name_of(brand: str) -> str:
    return brand.partition(".")[0].replace("-", " ").title()


def alike(chance: random.Random, brand: str) -> str:
    """A host that looks like a brand's, made as phishers make them."""
    core, _, suffix = brand.partition(".")
    ways: list[Callable[[], str]] = [
        lambda: f"{core}-{chance.choice(('login', 'secure', 'support', 'verify', 'account'))}.{chance.choice(TLDS)}",
        lambda: f"{chance.choice(('login', 'secure', 'my'))}-{core}.{chance.choice(TLDS)}",
        lambda: f"{core}.{suffix}.{site(chance)}",
        lambda: f"{core}.{site(chance)}",
        lambda: f"{core}.{chance.choice([each for each in TLDS if each != suffix])}",
        lambda: (
            f"{core[:2]}{core[3]}{core[2]}{core[4:]}.{suffix}"
            if len(core) > 7 and core[2] != core[3]
            else f"{core}24.com"
        ),
        lambda: f"{core.replace('l', '1').replace('o', '0').replace('m', 'rn')}-info.{suffix}",
        lambda: f"{core.replace('a', chr(0x430)).replace('e', chr(0x435)).replace('o', chr(0x43E))}.{site(chance)}",
    ]
    return chance.choice(ways)()


def letter(chance: random.Random, links: list[tuple[str, str]], image: str = "") -> str:
    paragraphs = "".join(f"<p>{text(chance, 25)} <a href='{href}'>{shown}</a></p>" for href, shown in links)
    picture = f"<img src='{image}'>" if image else ""
    return f"<html><body>{picture}<p>{text(chance)}</p>{paragraphs}<p>{text(chance)}</p></body></html>"


def archive(name: str, encrypted: bool = False) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(name, b"x" * 100)
    content = bytearray(made.getvalue())
    if encrypted:
        content[content.find(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def proven(domain: str) -> Auth:
    return Auth(domain, Result.PASS, domain, True, Result.PASS, True, Result.PASS, "reject")


# -- what people get -------------------------------------------------------------------------------------------------


def ham_person(chance: random.Random) -> Sample:
    sender = f"{person(chance)} <someone@{site(chance)}>"
    return Sample("person", mail(text(chance, 80), sender=sender, subject=text(chance, 4)))


def ham_newsletter(chance: random.Random) -> Sample:
    """With a tracker of somebody else's behind its links."""
    home, tracker = site(chance), f"click.{site(chance)}"
    links = [
        (f"https://{tracker}/{number}", chance.choice(("Read more", text(chance, 3), home))) for number in range(8)
    ]
    html = letter(chance, links, f"https://{tracker}/p.gif")
    content = mail(
        text(chance),
        html,
        f"{home.partition('.')[0].title()} <news@{home}>",
        text(chance, 5),
        List_Unsubscribe=f"<https://{home}/out>",
        Reply_To=f"answers@{home}",
    )
    return Sample("newsletter", content, auth=proven(home))


def ham_brand(chance: random.Random) -> Sample:
    """What a brand really sends: resets of passwords, receipts, warnings."""
    brand = chance.choice(BRANDS)
    links = [
        (f"https://www.{brand}/{number}", chance.choice((f"www.{brand}", "Reset password"))) for number in range(4)
    ]
    html = letter(chance, links, f"https://www.{brand}/logo.png")
    words = "We saw unusual activity. Your password expires within 24 hours."
    sender = f"{name_of(brand)} <service@{chance.choice(('', 'mail.'))}{brand}>"
    return Sample("brand", mail(words, html, sender, "Your account"), auth=proven(brand))


def ham_attachment(chance: random.Random) -> Sample:
    name, kind, content = chance.choice(
        (
            ("report.pdf", "application/pdf", b"%PDF-1.7 ..."),
            ("photo.jpg", "image/jpeg", b"\xff\xd8\xff\xe0"),
            ("minutes.v2.docx", "application/octet-stream", archive("[Content_Types].xml")),
            ("sources.tar.gz", "application/gzip", b"\x1f\x8b\x08"),
            ("pictures.zip", "application/zip", archive("a.jpg")),
            ("budget.xlsm", "application/octet-stream", archive("xl/vbaProject.bin")),
            ("safe.zip", "application/zip", archive("a.pdf", encrypted=True)),
        )
    )
    sender = f"{person(chance)} <someone@{site(chance)}>"
    return Sample("attachment", mail(text(chance), sender=sender, attachments=[(name, kind, content)]))


def ham_list(chance: random.Random) -> Sample:
    home = site(chance)
    content = mail(
        text(chance, 100) + f" https://{site(chance)}/thread https://{site(chance)}/x",
        sender=f"{person(chance)} via {home} <list@{home}>",
        Reply_To=f"someone@{site(chance)}",
        List_Id=f"<list.{home}>",
    )
    return Sample("list", content)


def ham_shop(chance: random.Random) -> Sample:
    """Talks of brands without being one: we take PayPal, your parcel comes with DHL."""
    home = site(chance)
    brand = chance.choice(BRANDS)
    links = [(f"https://{home}/order", "Your order"), (f"https://www.{brand}/track", name_of(brand))]
    words = f"Your parcel comes with {name_of(brand)}."
    content = mail(words, letter(chance, links, f"https://{home}/x.png"), f"Shop <orders@{home}>", "Your order")
    return Sample("shop", content, auth=proven(home))


NAMESAKES: Final = (
    *("apple-orchard.com", "chase-legal.com", "ups-and-downs.org", "amazonas-reisen.de", "adobe-houses.com"),
    *("dhla.org", "pineapple.com", "appleton.com", "purchase.com", "googol.com", "netflicks.info", "microscope.com"),
    *(
        "chaste.org",
        "phase.com",
        "apply.com",
        "postbote.de",
        "amazing.com",
        "facebooks.net",
        "drop-box.info",
        "chess.com",
    ),
)
"""innocent hosts whose names are like brands' or have them in them"""


def ham_namesake(chance: random.Random) -> Sample:
    """From a house that happens to be called like a brand, or nearly."""
    home = chance.choice(NAMESAKES)
    html = letter(chance, [(f"https://www.{home}/{number}", text(chance, 2)) for number in range(3)])
    return Sample("namesake", mail(text(chance), html, f"{person(chance)} <hello@{home}>"), auth=proven(home))


# -- what phishers send ----------------------------------------------------------------------------------------------


def phish_alike(chance: random.Random) -> Sample:
    """From a domain that looks like a brand's, with a link there."""
    brand = chance.choice(BRANDS)
    host = alike(chance, brand)
    html = letter(chance, [(f"https://{host}/login", "Verify now")], f"https://www.{brand}/logo.png")
    ascii_host = host.encode("idna").decode()
    return Sample("alike", mail("Verify your account.", html, f"{name_of(brand)} <service@{ascii_host}>", "Action"))


def phish_quiet(chance: random.Random) -> Sample:
    """The same without naming itself."""
    host = alike(chance, chance.choice(BRANDS)).encode("idna").decode()
    html = letter(chance, [(f"https://{host}/{chance.randrange(10**6)}", "Open")])
    return Sample("quiet", mail("You have a document.", html, f"{person(chance)} <x@{site(chance)}>"))


def phish_display(chance: random.Random) -> Sample:
    """From anywhere, named like a brand."""
    brand = chance.choice(BRANDS)
    html = letter(chance, [(f"https://{site(chance)}/wp-content/x.php", "Log in")])
    sender = f"{name_of(brand)} {chance.choice(('Service', 'Security', 'Team'))} <info@{site(chance)}>"
    return Sample("display", mail("Please verify.", html, sender, "Important"))


def phish_link(chance: random.Random) -> Sample:
    """A link that shows a brand and leads elsewhere."""
    brand = chance.choice(BRANDS)
    html = letter(chance, [(f"http://{site(chance)}/{chance.randrange(10**6)}", f"https://www.{brand}/login")])
    return Sample("link", mail("Please verify.", html, f"Support <support@{site(chance)}>", "Important"))


def phish_spoof(chance: random.Random) -> Sample:
    """In a brand's own name, which has not authenticated it."""
    brand = chance.choice(BRANDS)
    html = letter(chance, [(f"http://{site(chance)}/x", "Log in")])
    auth = Auth(brand, Result.FAIL, brand, True, Result.NONE, False, Result.FAIL, "reject")
    return Sample("spoof", mail("Verify.", html, f"{name_of(brand)} <service@{brand}>", "Important"), auth=auth)


def phish_form(chance: random.Random) -> Sample:
    form = (
        f"<html><form action='https://{site(chance)}/s.php'><input name=user><input type=password name=p></form></html>"
    )
    sender = f"{person(chance)} <x@{site(chance)}>"
    page = [("invoice.html", "text/html", form.encode())]
    return Sample("form", mail("Please see the invoice.", sender=sender, attachments=page))


def phish_smuggle(chance: random.Random) -> Sample:
    data = b64encode(chance.randbytes(3000)).decode()
    script = (
        f"<html><script>var d='{data}';var b=new Blob([Uint8Array.from(atob(d),c=>c.charCodeAt(0))]);var a="
        "document.createElement('a');a.href=URL.createObjectURL(b);a.download='scan.zip';a.click()</script></html>"
    )
    sender = f"{person(chance)} <x@{site(chance)}>"
    return Sample(
        "smuggle", mail("See attached.", sender=sender, attachments=[("scan.html", "text/html", script.encode())])
    )


def phish_file(chance: random.Random) -> Sample:
    name, content = chance.choice(
        (
            ("invoice.pdf.exe", b"MZ\x90"),
            ("scan\u202efdp.scr", b"MZ\x90"),
            ("order.js", b"var x"),
            ("order.pdf.lnk", b"L\0\0\0\x01\x14\x02\0"),
            ("order.zip", archive("order.vbs")),
            ("fax.doc", b"MZ\x90"),
            ("fax.pdf" + " " * 30 + ".com", b"MZ\x90"),
        )
    )
    sender = f"{person(chance)} <x@{site(chance)}>"
    attached = [(name, "application/octet-stream", content)]
    return Sample("file", mail("Please see attached.", sender=sender, attachments=attached))


def phish_locked(chance: random.Random) -> Sample:
    sender = f"{person(chance)} <x@{site(chance)}>"
    attached = [("invoice.zip", "application/zip", archive("invoice.doc", encrypted=True))]
    words = f"The archive password is: {chance.randrange(1000, 9999)}"
    return Sample("locked", mail(words, sender=sender, attachments=attached))


def phish_boss(chance: random.Random) -> Sample:
    """Nothing but words: a stranger who claims to be the boss. Hard to see."""
    sender = f"{person(chance)} <ceo.office@{site(chance)}>"
    words = "I am in a meeting. I need you to buy gift cards immediately and send me the codes."
    return Sample("boss", mail(words, sender=sender, subject="Quick task", Reply_To=f"boss@{site(chance)}"))


def phish_plain(chance: random.Random) -> Sample:
    """From a stolen account, with a link to a page that was broken into. Hard to see."""
    home = site(chance)
    html = letter(chance, [(f"https://{site(chance)}/share/{chance.randrange(10**6)}", "Open the document")])
    return Sample("plain", mail("I have shared a document.", html, f"{person(chance)} <x@{home}>"), auth=proven(home))


# -- pages -----------------------------------------------------------------------------------------------------------


def page(body: str, title: str) -> bytes:
    return f"<!doctype html><html><head><title>{title}</title></head><body>{body}</body></html>".encode()


def ham_article(chance: random.Random) -> Sample:
    home, brand = site(chance), chance.choice(BRANDS)
    body = "".join(f"<p>{text(chance)} <a href='https://{site(chance)}/'>{text(chance, 3)}</a></p>" for _ in range(20))
    title = f"{name_of(brand)} in the news" if chance.random() < 0.3 else text(chance, 5)
    return Sample("article", page(body + f"<img src='https://{site(chance)}/x.jpg'>", title), f"https://www.{home}/a")


def ham_login(chance: random.Random) -> Sample:
    """Somebody's own login; also with a brand's button."""
    home = site(chance)
    body = "<form method=post action=/login><input name=user><input type=password name=pass></form>"
    if chance.random() < 0.5:
        body += f"<a href='https://www.{chance.choice(BRANDS)}/oauth'>Sign in with another account</a>"
    return Sample("login", page(body, f"Sign in - {home}"), f"https://{home}/login")


def ham_app(chance: random.Random) -> Sample:
    """An application that makes files to be downloaded."""
    body = (
        "<script>function save(t){var b=new Blob([t]);var a=document.createElement('a');a.href=URL.createObjectURL(b);"
    )
    body += "a.download='table.csv';a.click()}</script><button onclick='save(x)'>Export</button>"
    return Sample("app", page(body, text(chance, 3)), f"https://{site(chance)}/app")


def ham_real(chance: random.Random) -> Sample:
    brand = chance.choice(BRANDS)
    body = f"<img src='https://static.{brand}/logo.svg'><form action='/in'><input type=password></form>"
    return Sample("real", page(body, f"{name_of(brand)}: Log in"), f"https://www.{brand}/login")


def phish_clone(chance: random.Random) -> Sample:
    """A brand's login on a host that looks like its."""
    brand = chance.choice(BRANDS)
    host = alike(chance, brand)
    body = f"<img src='https://www.{brand}/logo.png'><form action='post.php'><input type=password></form>"
    return Sample("clone", page(body, f"{name_of(brand)} - Log in"), f"https://{host}/")


def phish_broken_into(chance: random.Random) -> Sample:
    """The same on a site that was broken into, sent on to somewhere else."""
    brand = chance.choice(BRANDS)
    body = f"<form action='https://{site(chance)}/x.php'><input name=email><input type=password></form>"
    return Sample("broken-into", page(body, f"Sign in to {name_of(brand)}"), f"https://{site(chance)}/wp-admin/x/")


def phish_drop(chance: random.Random) -> Sample:
    data = b64encode(chance.randbytes(4000)).decode()
    body = f"<script>var b=new Blob([atob('{data}')]);var a=document.createElement('a');a.download='x.iso';"
    body += "a.href=URL.createObjectURL(b);a.click()</script>"
    return Sample("drop", page(body, "Document"), f"https://{site(chance)}/d/")


def phish_bare(chance: random.Random) -> Sample:
    """A login without any brand in words, only in pictures. Hard to see."""
    body = "<img src='data:image/png;base64,AAAA'><form action='x.php'><input type=password></form>"
    return Sample("bare", page(body, "Sign in"), f"https://{site(chance)}/x/")


HAM: Final = (
    *(ham_person, ham_newsletter, ham_brand, ham_attachment, ham_list, ham_shop, ham_namesake),
    *(ham_article, ham_login, ham_app, ham_real),
)
PHISH: Final = (
    *(
        phish_alike,
        phish_quiet,
        phish_display,
        phish_link,
        phish_spoof,
        phish_form,
        phish_smuggle,
        phish_file,
        phish_locked,
    ),
    *(phish_clone, phish_broken_into, phish_drop),
)
HARD: Final = (phish_boss, phish_plain, phish_bare)
"""kinds that this way of looking does not see"""
