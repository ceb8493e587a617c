"""A chain of stages: bytes in order, pace from end to end, one report, and every end told once (T6.1 to T6.7)."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from sslintercept.errors import MessageError
from sslintercept.testing.transform import Pipe, splits, transformed
from sslintercept.transform.stage import Null, Output, StageError, Transform
from sslintercept.transform.vconnection import HIGH_WATER, TransformVConnection

BODY = bytes(range(256)) * 40
"""10 240 bytes, each place different from its neighbours"""


class Double(Transform):
    """Every byte twice: changes the length."""

    def write(self, data: bytes) -> None:
        self.output.write(bytes(byte for one in data for byte in (one, one)))


class Append(Transform):
    """A line behind the body."""

    def finish(self) -> None:
        self.output.write(b"-- the end")
        self.output.finish()


class Drop(Transform):
    """Nothing of it."""

    def write(self, data: bytes) -> None:
        """Goes nowhere."""


class Whole(Transform):
    """Needs all before it gives anything, and knows the length then."""

    def begin(self, output: Output) -> None:
        super().begin(output)
        self.all = bytearray()

    def write(self, data: bytes) -> None:
        self.all += data

    def finish(self) -> None:
        self.output.expect(len(self.all))
        self.output.write(bytes(self.all))
        self.output.finish()


class Recorded(Transform):
    """Writes down what it hears."""

    def __init__(self, name: str, heard: list[str]) -> None:
        self.name, self.heard = name, heard

    def begin(self, output: Output) -> None:
        super().begin(output)
        self.heard.append(f"{self.name} begins")

    def write(self, data: bytes) -> None:
        self.output.write(data + self.name.encode())

    def finish(self) -> None:
        self.heard.append(f"{self.name} finishes")
        self.output.finish()

    def abort(self, reason: Exception) -> None:
        self.heard.append(f"{self.name} aborted: {type(reason).__name__}")


class Slow(Transform):
    """Answers later, with a Deferred for every call."""

    def __init__(self) -> None:
        self.waits: list[Deferred[None]] = []
        self.seen: list[bytes] = []

    def write(self, data: bytes) -> Deferred[None]:
        self.seen.append(data)
        self.output.write(data)
        self.waits.append(Deferred())
        return self.waits[-1]

    def finish(self) -> Deferred[None]:
        self.waits.append(Deferred())
        return self.waits[-1].addCallback(lambda _: self.output.finish())


class Broken(Transform):
    """Breaks on the byte given."""

    def __init__(self, on: bytes, error: Exception | None = None) -> None:
        self.on, self.error = on, error or ValueError("a defect")
        self.aborted = 0

    def write(self, data: bytes) -> None:
        if self.on in data:
            raise self.error
        self.output.write(data)

    def abort(self, reason: Exception) -> None:
        self.aborted += 1


class Head(Transform):
    """Only the first bytes; the rest is not wanted."""

    def __init__(self, size: int) -> None:
        self.left = size

    def write(self, data: bytes) -> None:
        self.output.write(data[: self.left])
        self.left -= min(self.left, len(data))
        if not self.left:
            self.output.finish()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 10_000_000])
@pytest.mark.parametrize("stages", [1, 3])
def test_a_null_chain_gives_back_what_it_gets_and_knows_how_much(size: int, stages: int) -> None:
    body = (BODY * (size // len(BODY) + 1))[:size]
    pipe = Pipe(*(Null() for _ in range(stages)), length=size)
    for at in range(0, size, 65536):
        pipe.write(memoryview(body)[at : at + 65536])
    pipe.finish()
    assert pipe.got == body
    assert pipe.announced == [size]
    assert pipe.ended == 1


@pytest.mark.parametrize("known", [True, False])
def test_every_split_of_a_body_gives_the_same(known: bool) -> None:
    body = BODY[:600]
    for pieces in splits(body):
        pipe = Pipe(Null(), Double(), Append(), length=len(body) if known else None)
        pipe.send(*pieces)
        assert pipe.got == bytes(byte for one in body for byte in (one, one)) + b"-- the end"
        assert len(pipe.announced) == pipe.ended == 1


def test_output_is_reported_once_before_it_is_read_and_in_the_turn_of_its_first_byte() -> None:
    pipe = Pipe(Null(), reading=False)
    assert not pipe.announced
    pipe.write(b"a")
    assert pipe.announced == [None]
    pipe.write(b"b")
    assert len(pipe.got) == 0
    pipe.read()
    assert pipe.got == b"ab"
    pipe.write(b"c")
    assert pipe.got == b"abc"
    pipe.finish()
    assert (pipe.announced, pipe.ended) == ([None], 1)


def test_a_body_that_is_there_as_a_whole_has_a_length_though_nobody_announced_one() -> None:
    pipe = Pipe(Double())
    pipe.chain.write(b"abc")
    pipe.chain.finish()
    pipe.loop.advance(0)
    assert pipe.announced == [6]


def test_an_empty_body_is_reported_too() -> None:
    pipe = Pipe(Drop())
    pipe.send()
    assert (pipe.announced, pipe.got, pipe.ended) == ([0], b"", 1)
    assert transformed(b"", Append()) == b"-- the end"


def test_a_stage_that_needs_all_announces_the_exact_length_late() -> None:
    pipe = Pipe(Whole())
    pipe.write(BODY, BODY)
    assert not pipe.announced
    pipe.finish()
    assert (pipe.announced, pipe.got) == ([2 * len(BODY)], BODY * 2)


def test_a_length_is_announced_through_stages_that_keep_it_and_no_further() -> None:
    assert announced(Null(), Null()) == [3]
    assert announced(Null(), Double()) == [None]
    assert announced(Double(), Null()) == [None]


def announced(*stages: Transform) -> list[int | None]:
    pipe = Pipe(*stages, length=3)
    pipe.write(b"abc")
    return pipe.announced


class Liar(Transform):
    """Announces one length and gives another."""

    def __init__(self, says: int, gives: int) -> None:
        self.says, self.gives = says, gives

    def write(self, data: bytes) -> None:
        self.output.expect(self.says)
        self.output.write(bytes(self.gives))


@pytest.mark.parametrize(("says", "gives"), [(3, 4), (3, 2), (0, 1)])
def test_a_stage_that_gives_another_length_than_it_announced_breaks_the_chain(says: int, gives: int) -> None:
    pipe = Pipe(Liar(says, gives))
    pipe.send(b"x")
    assert isinstance(pipe.error, StageError)
    assert "announced" in str(pipe.error)
    assert pipe.ended == 0
    assert len(pipe.got) <= says


def test_a_second_announcement_that_differs_breaks_the_chain() -> None:
    class Twice(Transform):
        def write(self, data: bytes) -> None:
            self.output.expect(5)
            self.output.expect(6)

    pipe = Pipe(Twice())
    pipe.write(b"x")
    assert isinstance(pipe.error, StageError)


def test_stages_work_in_order() -> None:
    heard: list[str] = []
    pipe = Pipe(Recorded("a", heard), Recorded("b", heard), Recorded("c", heard))
    pipe.send(b"1", b"2")
    assert pipe.got == b"1abc2abc"
    assert heard == ["c begins", "b begins", "a begins", "a finishes", "b finishes", "c finishes"]


@pytest.mark.parametrize("stages", [1, 3])
def test_a_reader_who_stands_still_stops_the_source_and_little_is_held(stages: int) -> None:
    pipe = Pipe(*(Null() for _ in range(stages)))
    pipe.stalled = True
    sent = 0
    while not pipe.stopped:
        pipe.write(BODY)
        sent += len(BODY)
    assert sent <= Pipe.high_water + 2 * len(BODY)
    pipe.drain()
    assert not pipe.stopped
    pipe.finish()
    assert (len(pipe.got), pipe.ended) == (sent, 1)


def test_output_that_nobody_reads_yet_stops_the_source() -> None:
    pipe = Pipe(Null(), reading=False)
    pipe.write(bytes(HIGH_WATER))
    assert not pipe.stopped
    pipe.write(b"x")
    assert pipe.stopped
    pipe.read()
    assert not pipe.stopped
    assert len(pipe.got) == HIGH_WATER + 1


def test_an_asynchronous_stage_holds_what_comes_and_its_source() -> None:
    slow = Slow()
    pipe = Pipe(Null(), slow, Append())
    pipe.write(b"a", memoryview(b"b"), b"c")
    assert pipe.stopped
    assert slow.seen == [b"a"]
    slow.waits[0].callback(None)
    assert (slow.seen, pipe.stopped) == ([b"a", b"b"], True)
    slow.waits[1].callback(None)
    assert (slow.seen, pipe.stopped) == ([b"a", b"b", b"c"], True)
    pipe.finish()
    assert pipe.ended == 0
    slow.waits[2].callback(None)
    assert (len(slow.waits), pipe.ended) == (4, 0)
    slow.waits[3].callback(None)
    assert (pipe.got, pipe.ended) == (b"abc-- the end", 1)
    assert not pipe.loop.getDelayedCalls()


def test_a_deferred_that_has_fired_costs_no_wait() -> None:
    class Ready(Transform):
        def write(self, data: bytes) -> Deferred[None]:
            self.output.write(data)
            return succeed(None)

    pipe = Pipe(Ready())
    pipe.write(b"a", b"b")
    assert (pipe.got, pipe.stopped) == (b"ab", False)


def test_a_deferred_that_fails_breaks_the_chain() -> None:
    class Failing(Transform):
        def write(self, data: bytes) -> Deferred[None]:
            return fail(MessageError("no", where="stage"))

    pipe = Pipe(Null(), Failing())
    pipe.write(b"a")
    assert isinstance(pipe.error, MessageError)


def test_a_stage_that_never_answers_is_given_up() -> None:
    slow = Slow()
    pipe = Pipe(slow, patience=30)
    pipe.write(b"a")
    pipe.loop.advance(29)
    assert pipe.error is None
    pipe.loop.advance(1)
    assert isinstance(pipe.error, StageError)
    assert "30 s" in str(pipe.error)
    slow.waits[0].callback(None)  # too late, and it must not matter
    assert pipe.ended == 0


def test_a_stage_that_never_finishes_is_given_up() -> None:
    class Silent(Transform):
        def finish(self) -> None:
            """Forgets to say that it has finished."""

    pipe = Pipe(Silent(), patience=30)
    pipe.send(b"a")
    pipe.loop.advance(30)
    assert isinstance(pipe.error, StageError)


def test_a_stage_is_not_blamed_for_a_reader_who_stands_still() -> None:
    slow = Slow()
    pipe = Pipe(slow, patience=30)
    pipe.stalled = True
    pipe.write(bytes(HIGH_WATER + 1))
    pipe.loop.pump([10] * 12)
    assert pipe.error is None
    pipe.drain()
    slow.waits[0].callback(None)
    pipe.finish()
    slow.waits[1].callback(None)
    assert pipe.ended == 1


class Paced(Transform):
    """A byte a second."""

    def __init__(self) -> None:
        self.kept = bytearray()
        self.ended = False
        self.pipe: Pipe | None = None

    def write(self, data: bytes) -> None:
        self.kept += data
        self.output.pause()
        self.next()

    def next(self) -> None:
        assert self.pipe is not None
        if self.kept:
            self.output.write(bytes(self.kept[:1]))
            del self.kept[:1]
            self.pipe.loop.later(1, self.next)
        else:
            self.output.resume()
            if self.ended:
                self.output.finish()

    def finish(self) -> None:
        self.output.finish()


def test_a_stage_may_hold_its_input_and_give_slowly_for_as_long_as_it_gives() -> None:
    paced = Paced()
    pipe = Pipe(paced, patience=5)
    paced.pipe = pipe
    pipe.send(b"0123456789", b"abcdef")
    assert pipe.stopped
    for _ in range(20):
        pipe.loop.advance(1)
    assert (pipe.got, pipe.ended, pipe.error) == (b"0123456789abcdef", 1, None)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_at_any_place_reaches_both_ends_and_lets_every_stage_go_once(place: int) -> None:
    heard: list[str] = []
    broken = Broken(b"!", MessageError("not this", where="stage"))
    stages: list[Transform] = [Recorded("a", heard), Recorded("b", heard)]
    stages.insert(place, broken)
    pipe = Pipe(*stages)
    pipe.write(b"fine")
    pipe.write(b"bad!")
    assert pipe.error is broken.error
    assert pipe.announced == [None]
    assert b"!" not in pipe.got
    before = pipe.got
    pipe.send(b"more")
    pipe.abort()
    assert (pipe.got, pipe.ended, broken.aborted) == (before, 0, 1)
    assert heard[2:] == ["a aborted: MessageError", "b aborted: MessageError"]


def test_a_defect_in_a_stage_is_logged_and_told_without_its_text() -> None:
    pipe = Pipe(Broken(b"x"))
    pipe.write(b"x")
    assert isinstance(pipe.error, StageError)
    assert "a defect" not in str(pipe.error)
    assert "Broken" in str(pipe.error)


def test_a_broken_chain_is_not_reported_ready_any_more() -> None:
    class Late(Transform):
        def write(self, data: bytes) -> None:
            self.output.write(data)
            raise MessageError("after its output", where="stage")

    pipe = Pipe(Late())
    pipe.write(b"x")
    assert (pipe.announced, pipe.got) == ([], b"")


@pytest.mark.parametrize("who", ["source", "reader"])
def test_either_end_may_leave_and_every_stage_hears_it_once(who: str) -> None:
    heard: list[str] = []
    pipe = Pipe(Recorded("a", heard), Recorded("b", heard), Recorded("c", heard))
    pipe.write(b"1")
    for _ in range(2):
        pipe.abort(MessageError("broke off", where="body")) if who == "source" else pipe.leave()
    why = "MessageError" if who == "source" else "Unwanted"
    assert heard[3:] == [f"{name} aborted: {why}" for name in "abc"]
    pipe.send(b"2")
    assert (pipe.got, pipe.ended, pipe.error) == (b"1abc", 0, None)


def test_a_stage_that_finishes_early_lets_those_before_it_go_and_its_source() -> None:
    heard: list[str] = []
    pipe = Pipe(Recorded("a", heard), Head(4), Append())
    pipe.write(b"12", b"34")
    assert pipe.got == b"12a3-- the end"
    assert (pipe.ended, pipe.detached, pipe.error) == (1, True, None)
    assert heard == ["a begins", "a aborted: Unwanted"]
    pipe.send(b"56")
    assert (pipe.got, pipe.ended) == (b"12a3-- the end", 1)


def test_a_stage_that_is_let_go_breaks_nothing_when_it_cancels_its_wait() -> None:
    class Asks(Transform):
        def write(self, data: bytes) -> Deferred[None]:
            self.asked: Deferred[None] = Deferred()
            self.output.write(data)
            return self.asked

        def abort(self, reason: Exception) -> None:
            self.asked.cancel()
            self.output.fail(ValueError("too late"))

    pipe = Pipe(Asks(), Head(1))
    pipe.write(b"12")
    assert (pipe.got, pipe.ended, pipe.error) == (b"1", 1, None)


def test_a_stage_hears_once_that_its_input_has_ended_and_must_finish_all_the_same() -> None:
    class Forgets(Transform):
        heard = 0

        def __init__(self, later: Deferred[None]) -> None:
            self.later = later

        def finish(self) -> Deferred[None]:
            self.heard += 1
            return self.later

    for later in (Deferred[None](), succeed(None)):
        stage = Forgets(later)
        pipe = Pipe(stage, patience=30)
        pipe.send(b"a")
        if not later.called:
            later.callback(None)
        assert (stage.heard, pipe.ended, pipe.error) == (1, 0, None)
        pipe.loop.advance(30)
        assert isinstance(pipe.error, StageError)


@pytest.mark.parametrize("breaks", [True, False])
def test_a_stage_that_ends_as_it_begins_leaves_those_before_it_out(breaks: bool) -> None:
    class Ends(Transform):
        def begin(self, output: Output) -> None:
            if breaks:
                raise MessageError("no", where="stage")
            output.finish()

    heard: list[str] = []
    pipe = Pipe(Recorded("a", heard), Ends(), Recorded("c", heard), length=1)
    pipe.send(b"x")
    assert heard == ["c begins", "c aborted: MessageError" if breaks else "c finishes"]
    assert (pipe.ended, pipe.error is not None, pipe.detached) == (0 if breaks else 1, breaks, not breaks)


def test_a_stage_that_ends_as_it_begins_hears_of_no_length() -> None:
    class Ends(Null):
        lengths: list[int] = []  # noqa: RUF012  # of this one test

        def begin(self, output: Output) -> None:
            output.finish()

        def expect(self, length: int) -> None:
            self.lengths.append(length)

    pipe = Pipe(Ends(), length=1)
    pipe.send(b"x")
    assert (Ends.lengths, pipe.ended) == ([], 1)


def test_a_stage_that_finishes_as_its_input_ends_detaches_nobody() -> None:
    pipe = Pipe(Null(), Append())
    pipe.send(b"a")
    assert (pipe.ended, pipe.detached) == (1, False)


def test_a_stage_that_fails_when_it_is_let_go_changes_nothing() -> None:
    class Sore(Transform):
        def abort(self, reason: Exception) -> None:
            raise ValueError("again")

    heard: list[str] = []
    pipe = Pipe(Sore(), Recorded("b", heard))
    pipe.abort()
    assert heard == ["b begins", "b aborted: ConnectionError"]


def test_a_stage_may_give_before_any_input_and_after_it_is_drained() -> None:
    class Early(Transform):
        def begin(self, output: Output) -> None:
            super().begin(output)
            output.write(b"first ")

    pipe = Pipe(Early(), Double())
    pipe.send(b"x")
    assert pipe.got == b"ffiirrsstt  xx"


def test_a_drained_stage_may_fill_its_output_again_before_its_source_goes_on() -> None:
    class Bursts(Transform):
        """Gives 40 KiB for each byte, as long as there is room."""

        def __init__(self) -> None:
            self.owed = 0

        def write(self, data: bytes) -> None:
            self.owed += len(data)
            self.drained()

        def drained(self) -> None:
            while self.owed and not self.output.full:
                self.owed -= 1
                self.output.write(bytes(40 * 1024))

    bursts = Bursts()
    pipe = Pipe(bursts, Null())
    pipe.stalled = True
    pipe.write(b"12345678")
    assert (bursts.owed, pipe.stopped) == (6, True)
    pipe.waiting = 0
    pipe._held_up = False
    pipe.chain.resumeProducing()  # room for some of it only
    assert (bursts.owed, pipe.stopped) == (4, True)
    pipe.drain()
    assert (bursts.owed, pipe.stopped) == (0, False)


def test_views_reach_only_stages_that_take_them_and_are_never_kept() -> None:
    kinds: list[type] = []

    class Looks(Transform):
        def write(self, data: bytes) -> None:
            kinds.append(type(data))
            self.output.write(data)

    class LooksAtViews(Looks):
        takes_views = True

    pipe = Pipe(LooksAtViews(), Looks(), reading=False)
    pipe.write(memoryview(b"abc"))
    assert kinds == [memoryview, bytes]
    pipe.read()
    assert pipe.got == b"abc"


def test_a_chain_without_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a stage"):
        TransformVConnection([], Pipe(Null()).loop, ready=print, failed=print)


def test_a_source_that_must_be_pulled_is_refused() -> None:
    pipe = Pipe(Null())
    with pytest.raises(ValueError, match="pushes"):
        pipe.chain.registerProducer(pipe, False)
