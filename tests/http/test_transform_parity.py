"""
A transform that changes nothing changes nothing: the same story with and without stages, seen from both ends.

A story is what a client and an origin do to each other through the gateway, in steps. What either of them sees must
not depend on stages in between; where it may, L{excuse} says so, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sslintercept.rule.match import parse_with
from sslintercept.testing.gateway import MemoryGateway
from sslintercept.testing.loop import checked_loop
from sslintercept.testing.peer import Peer
from sslintercept.transform.arrange import Bounds
from sslintercept.transform.message import Message
from sslintercept.transform.processor import Entry, Transformer, TransformProcessor
from sslintercept.transform.select import CONDITIONS_OF_MESSAGES
from sslintercept.transform.stage import Later, Output, Transform

PAGE = b"a page"
"""stands for the text of the gateway's own pages, which differs from connection to connection"""
SMALL = 4096
"""bytes of the kernel's buffers in a story where somebody stands still"""


@dataclass(frozen=True)
class Ask:
    """A request: its body is chunked, or has a length, or there is none."""

    method: bytes = b"GET"
    minor: int = 1
    connection: bytes = b""
    size: int | None = None
    chunk: int = 0
    """bytes in a chunk, 0 for a body with a length"""
    expect: bool = False

    def head(self, at: int) -> bytes:
        lines = [b"%b http://origin.test/%d HTTP/1.%d" % (self.method, at, self.minor), b"Host: origin.test"]
        if self.connection:
            lines.append(b"Connection: " + self.connection)
        if self.expect:
            lines.append(b"Expect: 100-continue")
        return b"\r\n".join(lines) + b"\r\n" + framed(self.size, self.chunk)

    @property
    def body(self) -> bytes:
        return coded(self.size or 0, self.chunk) if self.size is not None else b""


@dataclass(frozen=True)
class Reply:
    """
    A response, and what becomes of its connection.

    @ivar cut: bytes of the body after which the connection ends, though there is more.
    @ivar early: it comes at the first sight of a body that is not whole.
    @ivar dies: the first time the request comes, the connection ends instead.
    """

    status: int = 200
    size: int = 5
    chunk: int = 0
    until_close: bool = False
    close: bool = False
    after: str = "keep"
    cut: int | None = None
    cut_by: str = "close"
    early: bool = False
    dies: str = ""
    informational: bool = False

    def head(self) -> bytes:
        raw = b"HTTP/1.1 103 Early Hints\r\n\r\n" if self.informational else b""
        raw += b"HTTP/1.1 %d Of course\r\nX-Origin: yes\r\n" % self.status
        if self.close:
            raw += b"Connection: close\r\n"
        return raw + (b"\r\n" if self.bodiless or self.until_close else framed(self.size, self.chunk))

    @property
    def bodiless(self) -> bool:
        return self.status in (204, 304)

    @property
    def ends(self) -> bool:
        """Whether its connection ends sooner or later."""
        return bool(self.dies) or self.after != "keep" or self.cut is not None or self.close or self.until_close

    def body(self, method: bytes) -> bytes:
        if self.bodiless or method == b"HEAD":
            return b""
        return bytes_of(self.size) if self.until_close else coded(self.size, self.chunk)


@dataclass(frozen=True)
class Story:
    """
    @ivar client_cuts: where what the client sends is cut; C{origin_cuts}: the same of each response.
    @ivar end: what the client does after so many pieces: nothing, C{finish}, C{close}, C{reset}.
    @ivar client_still: it does not read before this step; C{origin_still}: the same of the origin.
    @ivar at_once: the pieces of a response, and the end of its connection, come in one turn.
    """

    asks: tuple[Ask, ...] = (Ask(),)
    replies: tuple[Reply, ...] = (Reply(),)
    client_cuts: tuple[int, ...] = ()
    origin_cuts: tuple[int, ...] = ()
    end: str = ""
    end_after: int = 0
    client_still: int = 0
    origin_still: int = 0
    at_once: bool = False


def bytes_of(size: int) -> bytes:
    """Content in which each place differs from its neighbours."""
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def coded(size: int, chunk: int) -> bytes:
    """The content as it goes over the wire."""
    body = bytes_of(size)
    if not chunk:
        return body
    pieces = [body[at : at + chunk] for at in range(0, size, chunk)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def framed(size: int | None, chunk: int) -> bytes:
    """The framing field, and the end of a head."""
    if size is None:
        return b"\r\n"
    return b"Transfer-Encoding: chunked\r\n\r\n" if chunk else b"Content-Length: %d\r\n\r\n" % size


def cut_at(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The pieces between these places."""
    marks = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(marks) if a < b]


# what either end sees


@dataclass
class Seen:
    """A message as its receiver reads it."""

    start: bytes
    body: bytes
    whole: bool
    fields: list[tuple[bytes, bytes]] = field(repr=False)

    @property
    def page(self) -> bool:
        return self.body == PAGE

    @property
    def framing(self) -> list[bytes]:
        return [name for name, _ in self.fields if name in (b"content-length", b"transfer-encoding")]

    @property
    def essence(self) -> tuple[bytes, bytes, bool]:
        return self.start, self.body, self.whole


def read(data: bytes, at: int, bodiless: Callable[[bytes], bool], *, closed: bool | None) -> tuple[Seen, int] | None:
    """
    Read the message that begins at a place; give it and where it ends.

    @param bodiless: whether a message with this start line has no body, whatever its fields say.
    @param closed: the end of the connection may end a body, and has come in order, or not; C{None}: it may not.
    """
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        return None
    start, *lines = data[at:end].split(b"\r\n")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    known, at = dict(fields), end + 4
    body, whole = b"", True
    if bodiless(start):
        pass
    elif known.get(b"transfer-encoding") == b"chunked":
        body, whole, at = unchunk(data, at)
    elif b"content-length" in known or closed is None:
        size = int(known.get(b"content-length", b"0"))
        body = data[at : at + size]
        whole, at = len(body) == size, at + len(body)
    else:
        body, whole, at = data[at:], closed, len(data)
    if b"proxy-status" in known and b"x-origin" not in known:
        body = PAGE
    return Seen(start, body, whole, fields), at


def unchunk(data: bytes, at: int) -> tuple[bytes, bool, int]:
    """The content of chunks, whether it is whole, and where it ends."""
    body = b""
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return body, False, len(data)
        size, at = int(data[at:end], 16), end + 2
        if not size:
            return body, data[at : at + 2] == b"\r\n", at + 2
        body += data[at : at + size]
        if len(data) < at + size + 2:
            return body, False, len(data)
        at += size + 2


def answers_of(client: Peer, asks: Sequence[Ask]) -> list[Seen]:
    """The final responses that the client reads."""
    data, at, found = bytes(client.got), 0, list[Seen]()
    while at < len(data):
        method = asks[len(found)].method if len(found) < len(asks) else b"GET"

        def bodiless(start: bytes, method: bytes = method) -> bool:
            return method == b"HEAD" or start[9:12] in (b"204", b"304") or start[9:10] == b"1"

        read_one = read(data, at, bodiless, closed=client.ended and not client.was_cut)
        if read_one is None:
            assert client.ended, "half a head is all that comes"
            break
        seen, at = read_one
        if seen.start[9:10] != b"1":
            found.append(seen)
    return found


class Origin:
    """
    Plays the origin's part, connection by connection.

    @ivar requests: those that came whole, in the order of their coming.
    @ivar plans: what it is going to do on each connection.
    @ivar deaf: those whose end is near, so that nothing more is heard there.
    @ivar answered: those whose request was answered before it was whole.
    @ivar died: the replies that were an end of the connection instead, once.
    """

    def __init__(self, story: Story) -> None:
        self.story = story
        self.requests: list[Seen] = []
        self.plans: dict[Peer, list[Callable[[], object]]] = {}
        self.deaf: set[Peer] = set()
        self.answered: set[Peer] = set()
        self.died: set[int] = set()

    def __call__(self, peer: Peer) -> None:
        """Something has come, or ended."""
        plan = self.plans.setdefault(peer, [])
        while peer not in self.deaf and (found := read(bytes(peer.got), peer.used, lambda _: False, closed=None)):
            seen, end = found
            at = int(seen.start.split(b" ")[1][1:])
            reply = self.story.replies[at]
            method = seen.start.split(b" ")[0]
            if not seen.whole:
                if reply.early and seen.body and peer not in self.answered:
                    self.answered.add(peer)
                    self._reply(peer, plan, reply, method)
                return
            peer.used = end
            self.requests.append(seen)
            if peer in self.answered:
                self.answered.remove(peer)
                continue
            if reply.dies and at not in self.died:
                self.died.add(at)
                self.deaf.add(peer)
                plan.append(getattr(peer, reply.dies))
                return
            self._reply(peer, plan, reply, method)

    def _reply(self, peer: Peer, plan: list[Callable[[], object]], reply: Reply, method: bytes) -> None:
        head, body = reply.head(), reply.body(method)
        data, after = head + body, reply.after
        if reply.cut is not None and body:
            data, after = data[: len(head) + reply.cut % len(body)], reply.cut_by
        elif after == "keep" and (reply.close or reply.until_close):
            after = "close"
        for piece in cut_at(data, self.story.origin_cuts):
            plan.append(lambda piece=piece: peer.send(piece))  # type: ignore[misc]  # bound for this turn
        if after != "keep":
            self.deaf.add(peer)
            plan.append(getattr(peer, after))

    def step(self) -> bool:
        """Do the next thing on each connection; false if there is none."""
        moved = False
        for peer, plan in self.plans.items():
            if peer.sock.fileno() < 0 or peer.vc.dead:
                plan.clear()
            if plan:
                moved = True
            for do in plan if self.story.at_once else plan[:1]:
                do()
            del plan[: len(plan) if self.story.at_once else 1]
        return moved


@dataclass
class View:
    """What both ends saw, and whether the client's connection is still open."""

    answers: list[Seen]
    requests: list[Seen]
    open: bool


def play(story: Story, ini: str, transformers: Sequence[Transformer] = ()) -> View:
    """Play the story through a gateway of its own."""
    with checked_loop() as loop:
        gateway = MemoryGateway(loop, ini)
        if transformers:
            match = parse_with(CONDITIONS_OF_MESSAGES, "")
            entries = [Entry(f"t{at}", match, each) for at, each in enumerate(transformers)]
            gateway.proxy.transforms = TransformProcessor(entries, Bounds(200.0, 1 << 40), gateway.handler)
        origin = Origin(story)
        listening = gateway.origin("origin.test:80", origin)
        listening.buffer = SMALL if story.origin_still else None
        client = gateway.client(buffer=SMALL if story.client_still else None)
        pieces: list[bytes] = []
        for at, ask in enumerate(story.asks):
            whole = ask.head(at) + ask.body
            pieces += [ask.head(at), ask.body] if ask.expect and ask.body else [whole]
        places, begun = [], 0
        for piece in pieces[:-1]:
            begun += len(piece)
            places += [begun] if story.client_cuts else []
        said = cut_at(b"".join(pieces), [*places, *story.client_cuts])
        step = 0

        def turn() -> bool:
            nonlocal step
            client.reading = step >= story.client_still
            for peer in listening.peers:
                peer.reading = step >= story.origin_still
            step += 1
            gateway.pump()
            moved = origin.step()
            gateway.pump()
            return moved

        for number, piece in enumerate(said):
            if story.end and number >= story.end_after:
                break
            client.send(piece)
            turn()
        if story.end and not client.ended and not client.vc.dead:
            getattr(client, story.end)()
        while turn() or step <= max(story.client_still, story.origin_still):
            pass
        view = View(answers_of(client, story.asks), origin.requests, not client.ended)
        if not client.ended:
            client.close()
        gateway.pump()
        return view


# what may differ


def excuse(story: Story, at: int, plain: Seen | None, changed: Seen | None) -> str:
    """
    Why the client's answer at this place may be another with stages, and everything that comes after it;
    empty if it may not.
    """
    ask, reply = story.asks[at], story.replies[at]
    same = plain is not None and changed is not None and plain.essence == changed.essence
    resets = any(each.cut is not None and each.cut_by == "reset" for each in story.replies[at:])
    if story.client_still and resets and not (plain and changed and plain.whole and changed.whole):
        return "a reset is handed on, and takes from a client that stands still what it has not read"
    nothing = plain and not plain.whole and (not plain.body or story.at_once)
    if nothing and changed and changed.start[9:12] == b"502":
        return "a head waits for the first byte behind it, so that of a response without one there is a page"
    before = any(each.ends for each in story.replies[:at])
    if ask.size is not None and (before or reply.ends) and plain and changed:
        if plain.page and (not changed.page or (before and reply.dies)):
            return "a request that waits for its body's first byte gets another connection when its own is lost"
        if changed.page and not plain.page and not ask.size:
            return "what has gone into a stage is not sent again, even if it is nothing"
    if reply.early and ask.size:
        if story.end:
            return "an early answer whose head waits is not answered yet when the client breaks off"
        if same:
            return "of an early answer whose head waits the upload may end first, and then the connection stays"
    if same and ask.minor == 0 and (reply.chunk or reply.until_close):
        return "an end that comes in the first turn gives a length, so that HTTP/1.0 need not close"
    return ""


def compare(story: Story, plain: View, changed: View) -> None:
    """Hold what was seen with stages against what was seen without."""
    for seen in (*changed.answers, *changed.requests):
        assert len(seen.framing) <= 1
    if story.end in ("close", "reset"):
        # Nobody reads; how soon that is noticed is a matter of turns.
        few, many = sorted((essences(plain.requests), essences(changed.requests)), key=len)
        assert many[: len(few)] == few
        assert len(many) - len(few) <= 1
        return
    for at in range(len(story.asks)):
        a = plain.answers[at] if at < len(plain.answers) else None
        b = changed.answers[at] if at < len(changed.answers) else None
        if excuse(story, at, a, b):
            return
        if a is None or b is None:
            assert a is b is None, (at, a, b)
        else:
            assert a.essence == b.essence, at
    assert essences(plain.requests) == essences(changed.requests)
    assert plain.open == changed.open


def essences(messages: Sequence[Seen]) -> list[tuple[bytes, bytes, bool]]:
    return [each.essence for each in messages]


# the stages


class Witness(Transform):
    """Passes everything on, and writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def begin(self, output: Output) -> None:
        super().begin(output)
        self.heard.append("begin")

    def expect(self, length: int) -> None:
        self.heard.append("expect")
        self.output.expect(length)

    def write(self, data: bytes) -> Later:
        assert data
        self.heard.append("write")
        self.output.write(data)
        return None

    def finish(self) -> Later:
        self.heard.append("finish")
        self.output.finish()
        return None

    def abort(self, reason: Exception) -> None:
        self.heard.append("abort")


class Witnesses(Transformer):
    """Gives a witness for each message."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Witness] = []

    def transform(self, message: Message) -> Witness:
        self.given.append(Witness())
        return self.given[-1]


NULL = "[transform:{}]\nuse = null\n"
VARIANTS = {
    "null": NULL.format("n"),
    "three": "".join(NULL.format(name) for name in "abc"),
    "reader": "[transform:d]\nuse = digest\n",
    "witness": "",
}

# the stories

SIZES = st.sampled_from([0, 1, 5, 300, 5000]) | st.integers(0, 20_000)
CHUNKS = st.sampled_from([0, 0, 1000, 7, 100_000])
PLACES = st.lists(st.integers(0, 30_000), max_size=6).map(tuple)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    minor = draw(st.sampled_from([1, 1, 1, 0]))
    connection = draw(st.sampled_from([b"", b"", b"", b"keep-alive", b"keep-alive", b"close"]))
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"POST"]))
    if method in (b"GET", b"HEAD"):
        return Ask(method, minor, connection)
    size = draw(SIZES)
    chunk = draw(CHUNKS) if minor else 0
    return Ask(method, minor, connection, size, chunk and max(chunk, size // 50, 1), minor == 1 and draw(st.booleans()))


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    size, rare = draw(SIZES), st.sampled_from([False, False, False, True])
    chunk = draw(CHUNKS)
    status = draw(st.sampled_from([200, 200, 200, 404, 204, 304]))
    chunk = chunk and max(chunk, size // 50, 1)
    if draw(st.sampled_from([True, True, False])):
        return Reply(status, size, chunk)
    return Reply(
        status,
        size,
        chunk,
        draw(rare),
        draw(rare),
        draw(st.sampled_from(["keep", "keep", "keep", "close", "finish", "reset"])),
        draw(st.none() | st.integers(0, 20_000)) if draw(rare) else None,
        draw(st.sampled_from(["close", "reset", "finish"])),
        draw(st.booleans()),
        draw(st.sampled_from(["", "", "", "", "close", "reset"])),
        draw(rare),
    )


@st.composite
def stories(draw: st.DrawFn) -> Story:
    count = draw(st.integers(1, 3))
    return Story(
        tuple(draw(asks()) for _ in range(count)),
        tuple(draw(replies()) for _ in range(count)),
        draw(PLACES),
        draw(PLACES),
        draw(st.sampled_from(["", "", "", "", "finish", "close", "reset"])),
        draw(st.integers(0, 6)),
        draw(st.sampled_from([0, 0, 0, 4, 9])),
        draw(st.sampled_from([0, 0, 0, 4, 9])),
        draw(st.booleans()),
    )


@settings(max_examples=2 * settings().max_examples)
@given(stories(), st.sampled_from([*VARIANTS, "witness"]))
def test_stages_that_change_nothing_change_nothing(story: Story, variant: str) -> None:
    witnesses = [Witnesses(), Witnesses()] if variant == "witness" else []
    compare(story, play(story, ""), play(story, VARIANTS[variant], witnesses))
    for stage in (stage for each in witnesses for stage in each.given):
        assert stage.heard[:1] in ([], ["begin"])
        assert [each for each in stage.heard if each in ("finish", "abort")] == stage.heard[1:][-1:]
        assert stage.heard.count("begin") <= 1
