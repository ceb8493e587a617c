"""
What taking parts apart costs: CPU for a megabyte, by format. And what rules of YARA cost.

    .venv/bin/python bench/unpack.py

A megabyte of what comes in, and of what comes out where that is more. The task runs here and not in a worker process;
at the end: what a job costs beside its task, and a process its start. The best of the rounds counts.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from urllib.parse import quote_plus

import yara_x
from backports import zstd
from twisted.internet.defer import Deferred

from sslintercept.testing.loop import RealLoop
from sslintercept.unpack.task import unpack
from sslintercept.worker.pool import Limits, Workers
from sslintercept.worker.wire import Job

ROUNDS = 3
SIZE = 2**20
JOB = Job(seconds=300.0, memory=2**30, answer=2**27)
TYPES = "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'/>"


def prose() -> str:
    chance = random.Random(1)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(1, 10))) for _ in range(5000)]
    return " ".join(chance.choices(words, k=SIZE // 4))[:SIZE]


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def pdf(lines: list[str]) -> bytes:
    """Pages of forty lines."""
    pages = [lines[at : at + 40] for at in range(0, len(lines), 40)]
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, page in enumerate(pages):
        stream = ("BT /F1 9 Tf 12 TL 50 700 Td " + " ".join(f"({line}) Tj T*" for line in page) + " ET").encode()
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream))
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def formats() -> Iterator[tuple[str, bytes, str]]:
    text = prose()
    raw = text.encode()
    lines = [text[at : at + 90] for at in range(0, SIZE, 90)]
    files = {f"{number}.txt": raw[at : at + 20_000] for number, at in enumerate(range(0, SIZE, 20_000))}
    yield "zip, deflate", zipped(files), ""
    yield "zip, stored", zipped(files, zipfile.ZIP_STORED), ""
    yield (
        "zip of 5000 files",
        zipped({f"{number}": raw[number * 200 : number * 200 + 200] for number in range(5000)}),
        "",
    )
    yield "tar", tarred(files), ""
    yield "gzip", gzip.compress(raw), ""
    yield "bzip2", bz2.compress(raw), ""
    yield "xz", lzma.compress(raw), ""
    yield "zstd", zstd.compress(raw), ""
    paragraphs = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in lines)
    document = f"<w:document xmlns:w='w'><w:body>{paragraphs}</w:body></w:document>"
    yield "docx", zipped({"[Content_Types].xml": TYPES.encode(), "word/document.xml": document.encode()}), ""
    rows = "".join(
        f"<row>{''.join(f'<c><v>{row * 1000 + cell}</v></c>' for cell in range(10))}</row>" for row in range(5000)
    )
    sheet = f"<worksheet><sheetData>{rows}</sheetData></worksheet>".encode()
    yield "xlsx", zipped({"[Content_Types].xml": TYPES.encode(), "xl/worksheets/sheet1.xml": sheet}), ""
    yield "pdf", pdf(lines), ""
    yield "rtf", b"{\\rtf1\\ansi " + "".join(f"\\b {line}\\b0\\par\n" for line in lines).encode() + b"}", ""
    yield "ole", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + text.encode("utf-16-le"), ""
    page = "".join(
        f"<p class=x>{line[:40]} <a href='/x?y=z'>{line[40:60]}</a> &amp; <b>{line[60:]}</b></p>\n" for line in lines
    )
    yield "html", b"<!doctype html><html>" + page.encode(), "text/html"
    yield "xml", b"<?xml version='1.0'?><a>" + "".join(f"<b c='d'>{line}</b>" for line in lines).encode() + b"</a>", ""
    yield "json", json.dumps([{"name": line, "number": len(line)} for line in lines]).encode(), "application/json"
    yield (
        "form",
        "&".join(f"a{n}={quote_plus(line)}" for n, line in enumerate(lines[:9000])).encode(),
        ("application/x-www-form-urlencoded"),
    )
    part = b"--q\r\nContent-Disposition: form-data; name=a; filename=a.bin\r\n\r\n%b\r\n"
    yield "multipart", b"".join(part % content for content in files.values()) + b"--q--\r\n", "multipart/form-data"
    attached = b"--q\r\nContent-Type: application/x-y\r\nContent-Transfer-Encoding: base64\r\n\r\n%b\r\n"
    yield (
        "mail",
        b"Content-Type: multipart/mixed; boundary=q\r\n\r\n"
        + b"".join(attached % base64.encodebytes(content) for content in files.values())
        + b"--q--\r\n",
        "message/rfc822",
    )


def least(work: Callable[[], object]) -> float:
    """Milliseconds of CPU."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        best = min(best, time.process_time() - begun)
    return best * 1e3


def processes() -> None:
    """What comes on top of a task, in time on the clock."""
    loop = RealLoop()
    workers = Workers(loop.handler, 1, Limits())

    def run(content: bytes) -> float:
        begun = time.perf_counter()
        asked: Deferred[object] = workers.run("sslintercept.testing.tasks:echo", {}, content)  # type: ignore[assignment]
        loop.wait_for(asked)
        return (time.perf_counter() - begun) * 1e3

    print(f"{'start of a process':28}{run(b''):10.1f} ms")
    print(f"{'a job without content':28}{min(run(b'') for _ in range(50)):10.2f} ms")
    print(f"{'a job that echoes 1 MB':28}{min(run(bytes(10**6)) for _ in range(10)):10.2f} ms")
    closed: Deferred[object] = workers.close()  # type: ignore[assignment]
    loop.wait_for(closed)


def rules() -> None:
    """Rules of YARA: two strings and a pattern each."""
    content = {"prose": prose().encode(), "random": random.Random(2).randbytes(SIZE)}
    names = ("rules of YARA", "compile", "kept", "load", *content)
    print("".join(f"{name:>14}" if name == names[0] else f"{name:>12}" for name in names))
    for count in (10, 1000, 5000):
        compiler = yara_x.Compiler()
        begun = time.process_time()
        compiler.add_source(
            "\n".join(
                f'rule r{n} {{ strings: $a = "some string number {n}" $b = {{ {n % 256:02x} {n >> 8:02x} ?? 41 42 }} '
                f"$c = /foo{n}[a-f]+bar/ condition: 2 of them }}"
                for n in range(count)
            )
        )
        out = io.BytesIO()
        compiler.build().serialize_into(out)
        compiled = time.process_time() - begun
        kept = out.getvalue()
        begun = time.process_time()
        loaded = yara_x.Rules.deserialize_from(io.BytesIO(kept))
        loading = time.process_time() - begun
        scanner = yara_x.Scanner(loaded)
        costs = [least(lambda data=data, scanner=scanner: scanner.scan(data)) for data in content.values()]
        row = "".join(f"{cost / 1.048576:>9.2f} ms" for cost in costs)
        print(f"{count:>14}{compiled:>10.2f} s{len(kept) / 1e6:>9.2f} MB{loading:>10.2f} s{row}", flush=True)


def main() -> None:
    print("ms of CPU for a megabyte of what comes in, and of what comes in or out, whichever is more")
    for name, content, media_type in formats():
        items = list(unpack({"media_type": media_type}, content, JOB))
        assert not items[-1].meta["notes"] or name == "ole", (name, items[-1].meta)
        out = sum(len(item.content) for item in items)
        cost = least(
            lambda content=content, media_type=media_type: list(unpack({"media_type": media_type}, content, JOB))
        )
        size = len(content) / 1e6
        print(f"{name:28}{cost / size:10.1f}{cost / max(size, out / 1e6):10.1f}", flush=True)
    processes()
    rules()


if __name__ == "__main__":
    main()
