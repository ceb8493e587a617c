"""What worker processes say of parts, as far as it is believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from sslintercept.inspect.apart import Apart, pieces
from sslintercept.inspect.pieces import Piece
from sslintercept.worker.wire import Item, Job
from tests.inspect.material import upload, zipped
from tests.inspect.support import a_part

GOOD: dict[str, Any] = {
    "kind": "member",
    "name": "a.txt",
    "path": ["x.zip", "a.txt"],
    "depth": 2,
    "media_type": "Text/Plain",
    "charset": "utf-8",
    "encrypted": False,
    "notes": [],
}


def end(*notes: str, places: object = None) -> Item:
    return Item({"kind": "end", "notes": list(notes), "members": 1, "places": places}, b"")


class Here:
    """Workers that do it at once, in this process."""

    def __init__(self) -> None:
        self.metas: list[dict[str, object]] = []

    def run(self, task: str, meta: dict[str, object], content: Sequence[bytes]) -> Deferred[list[Item]]:
        from sslintercept.unpack.task import unpack

        assert task == "sslintercept.unpack.task:unpack"
        self.metas.append(meta)
        return succeed(list(unpack(meta, b"".join(content), Job(60.0, 1 << 30, 1 << 30))))


def taken(content: bytes, **more: object) -> Sequence[Piece]:
    found: list[Sequence[Piece]] = []
    Apart(Here())(a_part(**more), [content]).addCallback(found.append)  # type: ignore[arg-type]  # a stand-in
    return found[0]


def test_a_piece_is_what_is_said_of_it() -> None:
    (found,) = pieces([Item(GOOD, b"content"), end()])
    assert found == Piece(("x.zip", "a.txt"), "member", "a.txt", "text/plain", "utf-8", b"content")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"kind": "elephant"}, None),
        ({"kind": 7}, None),
        ({"kind": ["member"]}, None),
        ({"path": "x"}, ((), "a.txt")),
        ({"path": [1, "b"]}, (("b",), "a.txt")),
        ({"name": None}, (("x.zip", "a.txt"), "")),
    ],
    ids=str,
)
def test_nothing_is_believed_that_is_not_of_its_kind(wrong: dict[str, object], expected: object) -> None:
    found = pieces([Item({**GOOD, **wrong}, b"")])
    assert [(each.path, each.name) for each in found] == ([] if expected is None else [expected])


def test_what_the_end_says_is_told_once_and_where_it_was_first() -> None:
    told = Item({**GOOD, "notes": ["lies"]}, b"x")
    places = [["lies", GOOD["path"]], ["lies", []], ["depth", ["x.zip", "deep.zip"]], "rubbish", [1, 2], ["time"]]
    found = pieces([told, end("lies", "depth", "time", places=places)])
    assert [(each.path, each.notes) for each in found] == [
        (("x.zip", "a.txt"), ()),
        (("x.zip", "a.txt"), ("lies",)),
        (("x.zip", "deep.zip"), ("depth",)),
        ((), ("time",)),
    ]


def test_a_real_archive_and_a_real_form_are_taken_apart() -> None:
    found = taken(zipped({"a.txt": b"one", "b.zip": zipped({"c.txt": b"two"})}), sniffed="application/zip")
    contents = {each.path: each.content for each in found}
    assert (contents["a.txt",], contents["b.zip", "c.txt"]) == (b"one", b"two")
    kind, body = upload([("file", "a.bin", "application/octet-stream", b"MZ")], {"title": "one"})
    found = taken(body, media_type="multipart/form-data", content_type=kind)
    assert [(each.kind, each.name, each.content) for each in found] == [
        ("field", "title", b"one"),
        ("field", "a.bin", b"MZ"),
    ]


def test_the_boundary_is_that_of_the_head_and_not_what_looks_like_one() -> None:
    kind, body = upload([("file", "a.bin", "application/octet-stream", b"MZ")])
    found = taken(b"--fake\r\n\r\n" + body, media_type="multipart/form-data", content_type=kind)
    assert ("a.bin", b"MZ") in [(each.name, each.content) for each in found]
