"""The stack of profiles: what may be pushed and popped, and that nobody gets past a layer."""

from __future__ import annotations

from typing import NoReturn

import pytest

from sslintercept.errors import StageError
from sslintercept.profile.chain import MAX_PROFILES, ProfileChain
from sslintercept.profile.profile import FOLLOWS, Bytes, Profile, Stage
from sslintercept.profile.ssl import SslProfile
from sslintercept.testing.loop import Loop
from tests.support import HalfClosing, Stages, joined, push_server, push_upstream, read_all


class Layer(Profile):
    """A layer without work of its own."""

    def __init__(self, chain: ProfileChain, lower: Profile | None) -> None:
        super().__init__(chain, lower)
        self.wrote: list[bytes] = []

    def write(self, data: Bytes, above: Profile | None = None) -> None:
        if above is not self.upper:
            self.refuse()
        self.wrote.append(bytes(data))
        if self.lower is not None:
            self.lower.write(data, self)

    def untouched(self) -> bool:
        return not self.wrote


def chain_of(layers: int) -> ProfileChain:
    chain = ProfileChain()
    chain.base(Layer(chain, None))
    for _ in range(layers):
        chain.push(Layer)
    return chain


def test_every_stage_but_the_last_leads_somewhere_and_all_lead_to_the_end() -> None:
    """T3.2, the table."""
    assert set(FOLLOWS) == set(Stage)
    assert all(Stage.DEAD in after for stage, after in FOLLOWS.items() if stage is not Stage.DEAD)
    assert not FOLLOWS[Stage.DEAD]


def test_a_stage_that_cannot_follow_is_refused() -> None:
    chain = chain_of(0)
    with pytest.raises(StageError, match="transfer cannot become pre-transfer"):
        chain.top.enter(Stage.PRE_TRANSFER)
    assert chain.top.stage is Stage.TRANSFER


def test_a_layer_without_a_base_and_a_second_base_are_refused_without_side_effects() -> None:
    """T3.11"""
    chain = ProfileChain()
    assert str(chain) == "nothing"
    with pytest.raises(StageError, match="without a base"):
        chain.push(Layer)
    assert chain.profiles == []
    base = Layer(chain, None)
    chain.base(base)
    with pytest.raises(StageError, match="second base"):
        chain.base(Layer(chain, None))
    assert chain.profiles == [base]
    assert chain.top is base


def test_a_chain_does_not_grow_for_ever() -> None:
    chain = chain_of(MAX_PROFILES - 1)
    with pytest.raises(StageError, match="too long"):
        chain.push(Layer)
    assert len(chain.profiles) == MAX_PROFILES


def test_a_layer_that_cannot_be_made_leaves_the_chain_as_it_was(loop: Loop) -> None:
    """T3.11"""
    vc, peer = loop.pair()
    session = HalfClosing()
    vc.attach(session)
    before = (list(vc.profiles), vc.top, vc.write, vc.top.deliver, vc.top.ended)

    def unusable(level: int) -> NoReturn:
        raise ValueError("the certificate and its key do not match")

    def make(chain: ProfileChain, lower: Profile) -> SslProfile:
        return SslProfile(chain, lower, unusable, server=True, broke=vc.tls_broke)

    with pytest.raises(ValueError, match="do not match"):
        vc.push_ssl(make)
    assert (list(vc.profiles), vc.top, vc.write, vc.top.deliver, vc.top.ended) == before
    peer.send(b"still here")
    loop.pump()
    assert session.got == b"still here"
    vc.write(b"and back")
    assert read_all(peer) == b"and back"
    vc.close()


def test_the_stack_can_be_printed(loop: Loop) -> None:
    """T3.1"""
    server, client = joined(loop)
    assert (type(server), str(server)) == (type(client), "tcp")
    push_server(server)
    assert str(server) == "tcp + ssl"
    push_upstream(client).begin()
    loop.pump()
    assert str(server) == str(client) == "tcp + tls1.3"
    push_server(server)
    push_upstream(client).begin()
    loop.pump()
    assert str(server) == str(client) == "tcp + tls1.3 + tls1.3"
    server.close()
    client.close()


def test_a_write_kept_from_before_a_push_is_refused_and_sends_nothing(loop: Loop) -> None:
    """The cheat: bytes of the application below the new layer, in the clear."""
    vc, peer = loop.pair()
    kept, base, base_write = vc.write, vc.top, vc.top.write
    push_server(vc)
    for cheat in (kept, base_write):
        with pytest.raises(StageError, match="past ssl"):
            cheat(b"plain bytes under the new layer")
    with pytest.raises(StageError):
        base.write(b"in the name of somebody else", Layer(vc, base))
    loop.pump()
    assert read_all(peer) == b""
    vc.abort()


def test_a_write_of_a_lower_tls_layer_kept_from_before_a_push_is_refused(loop: Loop) -> None:
    server, client = joined(loop)
    push_server(server)
    push_upstream(client).begin()
    loop.pump()
    kept = server.write
    session = HalfClosing()
    client.attach(session)
    push_server(server)
    with pytest.raises(StageError, match=r"past ssl was refused"):
        kept(b"past the upper layer")
    loop.pump()
    assert session.got == b""
    server.abort()
    client.abort()


def test_a_kept_write_works_again_after_the_layer_was_taken_away(loop: Loop) -> None:
    vc, peer = loop.pair()
    kept = vc.write
    push_server(vc)
    vc.pop()
    kept(b"plain again")
    assert read_all(peer) == b"plain again"


def test_a_held_wire_forbids_push_and_pop_until_it_is_given_back(loop: Loop) -> None:
    vc, peer = loop.pair()
    push_server(vc)
    vc.hold()
    with pytest.raises(StageError, match=r"push was refused while 1 wire"):
        push_server(vc)
    with pytest.raises(StageError, match=r"pop was refused while 1 wire"):
        vc.pop()
    vc.release()
    vc.pop()
    assert str(vc) == "tcp"
    vc.hold()(b"through the wire")
    assert read_all(peer) == b"through the wire"
    vc.release()


def test_a_wire_that_nobody_holds_cannot_be_given_back() -> None:
    chain = chain_of(1)
    with pytest.raises(StageError, match="nobody holds"):
        chain.release()
    assert chain.wires == 0


def test_the_base_cannot_be_popped() -> None:
    with pytest.raises(StageError, match="base"):
        chain_of(0).pop()


def test_a_layer_that_has_begun_cannot_be_popped(loop: Loop) -> None:
    vc, peer = loop.pair()
    push_upstream(vc).begin()
    with pytest.raises(StageError, match="bytes have gone through it"):
        vc.pop()
    assert str(vc) == "tcp + ssl"
    assert read_all(peer).startswith(b"\x16\x03")
    vc.abort()


def test_a_popped_layer_gives_the_bytes_back_to_the_session(loop: Loop) -> None:
    vc, peer = loop.pair()
    session = HalfClosing()
    vc.attach(session)
    stages = Stages(vc)
    profile = push_server(vc)
    vc.pop()
    assert stages.of[profile] == [Stage.PRE_TRANSFER, Stage.DEAD]
    peer.send(b"clear")
    loop.pump()
    assert session.got == b"clear"
    peer.close()
    loop.pump()
    assert session.events == ["made", "read lost"]
    vc.close()


def test_a_layer_without_its_own_rules_passes_questions_down() -> None:
    chain = chain_of(1)
    chain.write(b"data")
    chain.top.pause()
    chain.top.resume()
    chain.top.trim()
    chain.top.half_close()
    assert chain.pending() == 0
    assert chain.top.label == "profile"
    assert not Profile.untouched(chain.top)
    chain.kept_back()
    chain.opened()
    chain.top.pre_close()
    chain.top.pre_close()
    stages = [chain.top.stage]
    chain.top.die()
    chain.top.die()
    stages.append(chain.top.stage)
    assert stages == [Stage.PRE_CLOSE, Stage.DEAD]
