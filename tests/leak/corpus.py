"""
Text with secrets in known places, and with what only looks like them, made by a seeded generator.

Every secret has right check digits, written by code of its own here, not by the code that is tested. Decoys are what
fills real documents: orders, phones, dates, UUIDs, dumps, base 64, prices, logs, source code.
"""

from __future__ import annotations

import base64
import json
import random
import string
import uuid
import zlib
from collections.abc import Callable
from typing import NamedTuple

ALNUM = string.ascii_letters + string.digits


class Placed(NamedTuple):
    """A secret and where its first byte is in the document."""

    detector: str
    offset: int
    text: str


def digits(chance: random.Random, count: int) -> str:
    return "".join(chance.choices(string.digits, k=count))


def shaped(chance: random.Random, shape: str) -> str:
    """A text with a random digit for each C{#}."""
    return "".join(chance.choice(string.digits) if character == "#" else character for character in shape)


def letters(chance: random.Random, count: int, of: str = ALNUM) -> str:
    return "".join(chance.choices(of, k=count))


def try_last(body: str, right: Callable[[str], bool], last: str = string.digits) -> str:
    """Complete *body* with the character that makes it right."""
    return next((body + each for each in last if right(body + each)), "")


def luhn(number: str) -> bool:
    return sum(sum(divmod(int(digit) * (1 + at % 2), 10)) for at, digit in enumerate(reversed(number))) % 10 == 0


def again(make: Callable[[], str]) -> str:
    """Make until there is a right one: some beginnings have no check digit."""
    while not (made := make()):
        pass
    return made


def card(chance: random.Random) -> str:
    prefix, length = chance.choice(
        [("4", 16), ("51", 16), ("55", 16), ("2350", 16), ("34", 15), ("37", 15), ("6011", 16), ("3530", 16)]
    )
    number = try_last(prefix + digits(chance, length - len(prefix) - 1), luhn)
    style = chance.random()
    if style < 0.6:
        cuts = [4, 4, 4, 4] if length == 16 else [4, 6, 5]
        separator, at, parts = chance.choice(" -"), 0, []
        for cut in cuts:
            parts.append(number[at : at + cut])
            at += cut
        return separator.join(parts)
    return number


def iban(chance: random.Random) -> str:
    country, bank = chance.choice(
        [
            ("DE", digits(chance, 18)),
            ("NL", letters(chance, 4, string.ascii_uppercase) + digits(chance, 10)),
            ("FR", digits(chance, 23)),
            ("GB", letters(chance, 4, string.ascii_uppercase) + digits(chance, 14)),
            ("PL", digits(chance, 24)),
        ]
    )
    number = int("".join(str(int(character, 36)) for character in bank + country + "00"))
    text = f"{country}{98 - number % 97:02}{bank}"
    return text if chance.random() < 0.5 else " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def weigh(text: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(text, weights, strict=False))


def date(chance: random.Random) -> tuple[str, str, str]:
    return f"{chance.randrange(1940, 2005)}", f"{chance.randrange(1, 13):02}", f"{chance.randrange(1, 29):02}"


def steuer_id(chance: random.Random) -> str:
    def make() -> str:
        chosen = chance.sample(string.digits, 9)
        body = [*chosen, chance.choice(chosen)]
        chance.shuffle(body)
        if body[0] == "0":
            return ""

        def right(number: str) -> bool:
            product = 10
            for digit in number[:-1]:
                total = (int(digit) + product) % 10
                product = 2 * (total or 10) % 11
            return (11 - product) % 10 == int(number[-1])

        return try_last("".join(body), right)

    return again(make)


def nir(chance: random.Random) -> str:
    year, month, _ = date(chance)
    body = f"{chance.choice('12')}{year[2:]}{month}{chance.randrange(1, 96):02}{digits(chance, 3)}{digits(chance, 3)}"
    key = f"{97 - int(body) % 97:02}"
    return (
        f"{body[0]} {body[1:3]} {body[3:5]} {body[5:7]} {body[7:10]} {body[10:]} {key}"
        if chance.random() < 0.5
        else body + key
    )


def dni(chance: random.Random) -> str:
    number = digits(chance, 8)
    return number + "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]


def bsn(chance: random.Random) -> str:
    return again(
        lambda: try_last(
            str(chance.randrange(10_000_000, 99_999_999)), lambda n: weigh(n, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0
        )
    )


def pesel(chance: random.Random) -> str:
    year, month, day = date(chance)
    month = f"{int(month) + 20:02}" if int(year) > 1999 else month
    return try_last(
        year[2:] + month + day + digits(chance, 4), lambda n: weigh(n, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0
    )


def nino(chance: random.Random) -> str:
    first, second = letters(chance, 1, "ABCEHJLMPRSTWXY"), letters(chance, 1, "ACEHJLMPRSWXY")
    return shaped(chance, f"{first}{second} ## ## ## {chance.choice('ABCD')}")


def nhs(chance: random.Random) -> str:
    number = again(
        lambda: try_last(
            str(chance.randrange(400_000_000, 799_999_999)),
            lambda n: weigh(n, (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0,
        )
    )
    return f"{number[:3]} {number[3:6]} {number[6:]}"


def ssn(chance: random.Random) -> str:
    return f"{chance.randrange(1, 665):03}-{chance.randrange(1, 99):02}-{chance.randrange(1, 9999):04}"


def ahv(chance: random.Random) -> str:
    number = try_last("756" + digits(chance, 9), lambda n: weigh(n, (1, 3) * 6 + (1,)) % 10 == 0)
    return f"{number[:3]}.{number[3:7]}.{number[7:11]}.{number[11:]}"


def cpf(chance: random.Random) -> str:
    body = digits(chance, 9)
    for _ in range(2):
        body += str(weigh(body, tuple(range(len(body) + 1, 1, -1))) * 10 % 11 % 10)
    return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"


def resident(chance: random.Random) -> str:
    body = f"{chance.choice(['110105', '310104', '440301'])}{''.join(date(chance))}{digits(chance, 3)}"
    return body + "10X98765432"[sum(int(digit) * (2 ** (17 - at) % 11) for at, digit in enumerate(body)) % 11]


def personnummer(chance: random.Random) -> str:
    year, month, day = date(chance)
    number = try_last(year[2:] + month + day + digits(chance, 3), luhn)
    return f"{number[:6]}-{number[6:]}"


def hetu(chance: random.Random) -> str:
    year, month, day = date(chance)
    born, serial = day + month + year[2:], f"{chance.randrange(2, 899):03}"
    return (
        f"{born}{'-' if int(year) < 2000 else 'A'}{serial}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(born + serial) % 31]}"
    )


def base62_crc(text: str) -> str:
    number, found = zlib.crc32(text.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        found = (string.digits + string.ascii_uppercase + string.ascii_lowercase)[digit] + found
    return found


def github(chance: random.Random) -> str:
    body = letters(chance, 30)
    return f"gh{chance.choice('pousr')}_{body}{base62_crc(body)}"


def npm(chance: random.Random) -> str:
    body = letters(chance, 30)
    return f"npm_{body}{base62_crc(body)}"


def pypi(chance: random.Random) -> str:
    macaroon = (
        b"\x02\x01\x08pypi.org\x02\x24" + str(uuid.UUID(int=chance.getrandbits(128))).encode() + chance.randbytes(60)
    )
    return "pypi-" + base64.urlsafe_b64encode(macaroon).decode().rstrip("=")


def jwt(chance: random.Random) -> str:
    parts = [json.dumps({"alg": "RS256", "typ": "JWT"}), json.dumps({"sub": digits(chance, 10), "iat": 1516239022})]
    head = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{base64.urlsafe_b64encode(chance.randbytes(32)).decode().rstrip('=')}"


def private_key(chance: random.Random) -> str:
    kind = chance.choice(["RSA ", "EC ", "OPENSSH ", "", "ENCRYPTED ", "DSA "])
    body = base64.b64encode(chance.randbytes(300)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


def secret(chance: random.Random) -> str:
    word = chance.choice(["password", "passwd", "pwd", "api_key", "apiKey", "secret", "auth_token", "DB_PASSWORD"])
    value = (
        letters(chance, chance.randint(9, 24), ALNUM + "!#%*+-_?")
        + digits(chance, 1)
        + letters(chance, 1, string.ascii_letters)
    )
    return f"{word}{chance.choice([' = ', ': ', '='])}{chance.choice([chr(34), ''])}{value}"


URLSAFE = ALNUM + "_-"
SECRETS: dict[str, tuple[Callable[[random.Random], str], tuple[str, ...]]] = {
    "card": (card, ("Visa card ", "Kreditkarte: ", "credit card no. ", "paid with Mastercard ", "card_number=")),
    "iban": (iban, ("", "IBAN ", "pay to ", "Konto: ")),
    "de-tax-id": (steuer_id, ("Steuer-ID ", "IdNr. ", "steuerliche Identifikationsnummer: ")),
    "fr-nir": (nir, ("n° de sécurité sociale ", "NIR ")),
    "es-dni": (dni, ("DNI ", "NIF: ")),
    "nl-bsn": (bsn, ("BSN ", "burgerservicenummer: ")),
    "pl-pesel": (pesel, ("PESEL ", "PESEL: ")),
    "uk-nino": (nino, ("NI number ", "National Insurance no: ")),
    "uk-nhs": (nhs, ("NHS ", "NHS number: ", "patient ")),
    "us-ssn": (ssn, ("SSN ", "social security number: ")),
    "ch-ahv": (ahv, ("AHV ", "")),
    "br-cpf": (cpf, ("CPF ", "")),
    "cn-resident-id": (resident, ("身份证号码: ", "")),
    "se-personnummer": (personnummer, ("personnummer ", "")),
    "fi-hetu": (hetu, ("hetu ", "")),
    "github-token": (github, ("token ", "https://x:", "GITHUB=")),
    "github-pat": (lambda chance: f"github_pat_{letters(chance, 22)}_{letters(chance, 59)}", ("", "token ")),
    "gitlab-token": (lambda chance: f"glpat-{letters(chance, 20, URLSAFE[:-1])}", ("", "PRIVATE-TOKEN: ")),
    "aws-key-id": (lambda chance: "AKIA" + letters(chance, 16, string.ascii_uppercase + "234567"), ("key ", "id = ")),
    "aws-secret": (lambda chance: letters(chance, 40, ALNUM + "/+"), ("aws_secret_access_key = ", "SecretAccessKey: ")),
    "slack-token": (
        lambda chance: f"xoxb-{digits(chance, 12)}-{digits(chance, 12)}-{letters(chance, 24)}",
        ("", "bot "),
    ),
    "stripe-key": (lambda chance: f"sk_live_{letters(chance, 24)}", ("", "stripe: ")),
    "google-key": (lambda chance: f"AIza{letters(chance, 35, URLSAFE[:-1])}", ("", "key=")),
    "openai-key": (lambda chance: f"sk-{letters(chance, 20)}T3BlbkFJ{letters(chance, 20)}", ("", "Bearer ")),
    "anthropic-key": (lambda chance: f"sk-ant-api03-{letters(chance, 93)}AA", ("", "x-api-key: ")),
    "npm-token": (npm, ("", "_authToken=")),
    "pypi-token": (pypi, ("", "token: ")),
    "jwt": (jwt, ("Bearer ", "session=")),
    "private-key": (private_key, ("\n",)),
    "password": (secret, ("\n", "  ", "export ")),
}


def word(chance: random.Random) -> str:
    return letters(chance, chance.randint(2, 10), "aeiounrstlmdhcgkbpf")


def prose(chance: random.Random, count: int) -> str:
    return " ".join(word(chance) for _ in range(count))


def code(chance: random.Random) -> str:
    name = f"{word(chance)}_{word(chance)}"
    return chance.choice(
        [
            f"def {name}(password: str, token=None) -> int:\n    return hash(password) % {digits(chance, 9)}\n",
            f'{name} = {{"secret": settings.secret_key, "id": {digits(chance, 11)}}}\n',
            f"password = getpass.getpass('Password: ')\nsecret = os.environ['{name.upper()}']\n",
            f"#define {name.upper()} 0x{letters(chance, 16, '0123456789abcdef')}ULL\n",
            f"api_key: str = Field(default=..., description='key of {name}')\n",
            f"if (user.password !== confirm.password) throw new Error('{name}');\n",
        ]
    )


DECOYS: dict[str, Callable[[random.Random], str]] = {
    "digits": lambda chance: digits(chance, chance.randint(6, 24)),
    "sixteen digits": lambda chance: digits(chance, 16),
    "order": lambda chance: f"order {chance.randrange(10**9, 10**16)} of {chance.randrange(10**6)}",
    "phone": lambda chance: shaped(chance, f"+{chance.randrange(1, 99)} ### ### ####"),
    "phone in groups": lambda chance: shaped(chance, "(###) ###-####, ###-###-####"),
    "uuid": lambda chance: str(uuid.UUID(int=chance.getrandbits(128))),
    "hex dump": lambda chance: " ".join(chance.randbytes(2).hex() for _ in range(16)),
    "digest": lambda chance: chance.randbytes(chance.choice([16, 20, 32])).hex(),
    "time": lambda chance: shaped(chance, "20##-01-1#T1#:2#:3#.######Z 16########### 2024####T######"),
    "base 64": lambda chance: base64.b64encode(chance.randbytes(chance.randint(20, 300))).decode(),
    "url": lambda chance: f"https://{word(chance)}.test/{word(chance)}/{digits(chance, 12)}?id={letters(chance, 22)}",
    "prices": lambda chance: " ".join(f"{chance.randrange(10**4)}.{digits(chance, 2)}" for _ in range(6)),
    "coordinates": lambda chance: f"{chance.random() * 90:.15f}, {chance.random() * 180:.15f}",
    "address": lambda chance: ".".join(str(chance.randrange(256)) for _ in range(4)),
    "table": lambda chance: ";".join(digits(chance, chance.randint(1, 13)) for _ in range(8)),
    "sample": lambda chance: chance.choice(
        ["AKIAIOSFODNN7EXAMPLE", "ghp_" + "x" * 36, "password=<your password>", "xoxb-your-token"]
    ),
    "code": code,
}


def document(seed: int, *, secrets: int = 40, decoys: int = 160) -> tuple[str, list[Placed]]:
    """A document of about 20 kB, and what is in it."""
    chance = random.Random(seed)
    names = [*chance.choices(list(SECRETS), k=secrets), *[""] * decoys]
    chance.shuffle(names)
    text, placed = "", []
    for name in names:
        text += f"{prose(chance, chance.randint(8, 20))} "
        if name:
            make, before = SECRETS[name]
            made = make(chance)
            text += chance.choice(before)
            placed.append(Placed(name, len(text.encode()), made))
            text += made
        else:
            text += chance.choice(list(DECOYS.values()))(chance)
        text += chance.choice([" ", "\n", ", ", ".\n"])
    return text, placed
