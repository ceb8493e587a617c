"""Conversations as they are held, and how tests play them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sslintercept.dialogue.watcher import Part, Terms, Watcher, Wires
from sslintercept.testing.gate import Does, Gates, ScriptedGate
from sslintercept.testing.talk import PLAIN, Talk, in_pieces

Script = list[tuple[str, bytes]]
Make = Callable[[Wires, Terms], Watcher]


def said(script: Iterable[tuple[str, bytes]], who: str) -> bytes:
    """Everything one side says."""
    return b"".join(data for speaker, data in script if speaker == who)


def every_cut(script: Script) -> Iterable[Script]:
    """The script whole, in single bytes, in threes, and with every speech cut once at every place in turn."""
    yield script
    yield in_pieces(script, 1)
    yield in_pieces(script, 3)
    for at, (who, data) in enumerate(script):
        for cut in range(1, len(data)):
            yield [*script[:at], (who, data[:cut]), (who, data[cut:]), *script[at + 1 :]]


def played(make: Make, script: Script, terms: Terms = PLAIN) -> Talk:
    """Play a script in every way; all ways must be alike. The last one is returned."""
    talk = None
    before = None
    for version in every_cut(script):
        talk = Talk(make, terms).plays(version)
        found = (
            talk.server,
            talk.client,
            talk.refused,
            talk.unseen,
            talk.upgraded,
            talk.users,
            [(kept.part, kept.content, kept.whole) for kept in talk.parts],
        )
        assert before is None or found == before
        before = found
    assert talk is not None
    return talk


def passes(make: Make, script: Script, terms: Terms = PLAIN) -> Talk:
    """The same, for a conversation that passes byte for byte."""
    talk = played(make, script, terms)
    assert talk.refused is None
    assert talk.unseen is None
    assert talk.server == said(script, "C")
    assert talk.client == said(script, "S")
    return talk


def gated(
    make: Make,
    script: Script,
    does: Does,
    instead: bytes = b"",
    terms: Terms = PLAIN,
    *,
    category: str = "malware",
    wants: Callable[[Part], bool] = lambda part: True,
) -> tuple[Talk, list[ScriptedGate]]:
    """Play a script in every way through gates that decide at once, and later; all ways must be alike."""
    talk = None
    before = None
    gates = Gates(does)
    for later in (False, True):
        for version in every_cut(script):
            gates = Gates(does, instead, later=later, category=category, wants=wants)
            talk = Talk(make, terms, wants=gates)
            for who, data in version:
                talk.plays([(who, data)])
                while gates.decide():
                    pass
            found = (talk.server, talk.client, talk.refused, talk.error is None, talk.cut, talk.unseen, talk.holds)
            # How much comes before an early refusal hangs on the cuts.
            came = [(g.part, g.content, g.whole, g.aborted) for g in gates.all if does is not Does.EARLY]
            assert before is None or (found, came) == before, (later, version)
            before = found, came
    assert talk is not None
    return talk, gates.all
