"""
What may happen on a connection, as data: the participants and the steps that L{sslintercept.log.sequence} draws.

The first 37 steps are the deck's "Handle SSL from Blind Tunnel with SslProfileSM", in its order, with its participants
and its words ("request" stands for its GET). The others belong to the roads that the deck does not draw.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Participant(NamedTuple):
    """A column of the picture."""

    name: str
    kind: str
    """actor, entity or participant (PlantUML)"""
    title: tuple[str, ...]
    """its lines"""
    box: str


PARTICIPANTS: Final = (
    Participant("Client", "actor", ("Client",), "Client Side"),
    Participant("lvc", "entity", ("User Agent VConn", "ProbeSessionAccept"), "sslintercept"),
    Participant("lvcssl", "participant", ("Client", "SSL ProfileSM"), "sslintercept"),
    Participant("httpsm", "participant", ("HttpSM / HttpTunnel",), "sslintercept"),
    Participant("rvcssl", "participant", ("Server", "SSL ProfileSM"), "sslintercept"),
    Participant("rvc", "entity", ("Origin Server", "VConn"), "sslintercept"),
    Participant("Server", "participant", ("Origin Server",), "Server Side"),
)
BOXES: Final = {"Client Side": "#DDDDFF", "sslintercept": "#DDFFDD", "Server Side": "#DDDDFF"}

BOTH: Final = "<-->"
NOTE: Final = "note"
"""The arrow of a step that is a note over its two participants."""


class Step(NamedTuple):
    """What may happen, and how it is drawn."""

    name: str
    source: str
    target: str
    text: str
    when: str
    """When it is to be recorded."""
    arrow: str = "->"
    wakes: str = ""
    """the participant that lives from here on"""
    sleeps: str = ""
    """the participant that ends here"""
    note: str = ""
    """drawn above the arrow, over both ends"""
    more: tuple[tuple[str, str, str], ...] = ()
    """further arrows: source, target, text"""


DECK_STEPS: Final = (
    Step("accepted", "Client", "lvc", "TCP connect and Allocate VC", "a listener accepted the client", wakes="lvc"),
    Step("http_sm_made", "lvc", "httpsm", "Probe then new HttpSM", "the probe handed over to HTTP", wakes="httpsm"),
    Step("connect_received", "Client", "httpsm", "HTTP CONNECT", "the head of a CONNECT request is complete"),
    Step("connect_resolved", "httpsm", "httpsm", "Parse request then do OSDNS lookup", "its target has addresses"),
    Step("tcp_opened", "httpsm", "Server", "TCP connect", "a connection to the origin is being opened"),
    Step("established", "Server", "rvc", "Established then Allocate VC", "it is open", wakes="rvc"),
    Step("attached", "rvc", "httpsm", "Attach to HttpSM", "the state machine holds it"),
    Step("connect_response_built", "httpsm", "httpsm", "Build Response", "the answer to CONNECT is made"),
    Step(
        "connect_answered",
        "httpsm",
        "Client",
        "Send Response [HTTP/1.1 200 Connection Established]",
        "the answer to CONNECT was written",
    ),
    Step("hung", "rvc", "lvc", "Attach server_vc to client_vc", "the HttpSM of CONNECT ended", sleeps="httpsm"),
    Step("hello_received", "Client", "lvc", "TLS ClientHello", "a ClientHello is complete"),
    Step(
        "client_profile_attached",
        "lvc",
        "lvcssl",
        "Probe then attach SSL ProfileSM",
        "the client's chain got a TLS profile",
        wakes="lvcssl",
    ),
    Step("client_handshake", "Client", "lvcssl", "TLS Handshake", "the handshake with the client is done", arrow=BOTH),
    Step(
        "tls_request_received", "Client", "lvc", "HTTP request in TLS Tunnel", "first bytes in TLS, probe asked again"
    ),
    Step("request_decrypted", "lvc", "lvcssl", "Decrypted from TLS Tunnel", "right after, by the same call"),
    Step("request_returned", "lvcssl", "lvc", "HTTP request in plain", "right after, the probe has the plain bytes"),
    Step("http_sm_made", "lvc", "httpsm", "Probe then new HttpSM", "the probe handed over to HTTP", wakes="httpsm"),
    Step(
        "client_flow_open",
        "Client",
        "httpsm",
        "Data",
        "the state machine inside TLS took over the client's connection",
        arrow=BOTH,
        note="Data can flow between Client and HttpSM over the client_vc, decrypted and encrypted by SSL ProfileSM.",
    ),
    Step("request_parsed", "httpsm", "httpsm", "Parse request", "the head of a request is complete (not CONNECT)"),
    Step(
        "request_considered",
        "httpsm",
        "httpsm",
        "The request can be remapped, or looked up in the cache.",
        "rules and cache had their say about the request",
        arrow=NOTE,
    ),
    Step("resolved", "httpsm", "httpsm", "Do OSDNS lookup", "the request's host has addresses"),
    Step(
        "picked_up", "lvc", "httpsm", "Pickup server_vc from client_vc", "the hung connection was taken out of its slot"
    ),
    Step(
        "upstream_profile_attached",
        "httpsm",
        "rvcssl",
        "attach SSL ProfileSM",
        "the origin's chain got a TLS profile",
        wakes="rvcssl",
    ),
    Step("request_forwarded", "httpsm", "rvc", "Forward HTTP request", "the request's head was written to the chain"),
    Step(
        "upstream_handshake_started",
        "rvcssl",
        "rvc",
        "TLS handshake triggered by do_io_write()",
        "the origin's TLS profile entered pre-transfer",
    ),
    Step("upstream_hello_sent", "rvc", "Server", "TLS ClientHello", "our ClientHello was written"),
    Step(
        "upstream_handshake", "rvcssl", "Server", "TLS Handshake", "the handshake with the origin is done", arrow=BOTH
    ),
    Step(
        "upstream_flow_open",
        "httpsm",
        "Server",
        "Data",
        "the origin's TLS profile is in transfer and hands bytes to the state machine",
        arrow=BOTH,
        note="Data can flow between HttpSM and Server over the server_vc, decrypted and encrypted by SSL ProfileSM.",
    ),
    Step("request_sent", "rvc", "Server", "HTTP request in TLS Tunnel", "the request's head left through TLS"),
    Step("response_received", "Server", "rvc", "HTTP Response in TLS Tunnel", "the response's head is complete"),
    Step("response_decrypted", "rvc", "rvcssl", "Decrypted from TLS Tunnel", "right after, by the same call"),
    Step("response_parsed", "rvcssl", "httpsm", "Parse response hdr", "the response's head was read"),
    Step("response_built", "httpsm", "httpsm", "Build response", "the head for the client is made"),
    Step("response_tunnel_made", "lvc", "rvc", "Setup response HttpTunnel", "the body has its tunnel", arrow=NOTE),
    Step("response_head_forwarded", "httpsm", "lvcssl", "Forward HTTP RespHdr", "the head was written to the chain"),
    Step("response_head_sent", "lvcssl", "Client", "HTTP RespHdr in TLS Tunnel", "right after, by the same call"),
    Step(
        "body_relayed",
        "Server",
        "Client",
        "Data",
        "the response's body has ended (once a response, not once a chunk)",
        arrow="-->",
        note="Data can flow from Server to Client over the HttpTunnel, decrypted and encrypted by SSL ProfileSM(s).",
        more=(
            ("Server", "rvc", "Data in TLS Tunnel"),
            ("rvc", "rvcssl", "Decrypt data"),
            ("rvcssl", "lvcssl", "Forward data (with or without transform)"),
            ("lvcssl", "lvc", "Encrypt data"),
            ("lvc", "Client", "Data in TLS Tunnel"),
        ),
    ),
)
"""C{http_sm_made} stands in it twice: the probe does the same before and inside TLS."""

OTHER_STEPS: Final = (
    # the probe and the rules
    Step("probed", "lvc", "lvc", "Probe says", "a probe has its verdict; detail: the protocol and why", arrow=NOTE),
    Step(
        "greeting_relayed", "Server", "Client", "Greeting relayed, probe goes on", "a server-first origin spoke first"
    ),
    Step("decided", "lvc", "lvc", "Rule says", "the rules have an answer; detail: action and rule", arrow=NOTE),
    Step("learned_bypass", "lvc", "lvc", "Learned bypass", "a remembered rejection made it a tunnel", arrow=NOTE),
    Step("learned_rejection", "Client", "lvcssl", "Client rejects our certificate", "the client refused the leaf"),
    # other ways in
    Step("socks_received", "Client", "lvc", "SOCKS request", "a SOCKS request is complete; detail: its target"),
    Step("socks_answered", "lvc", "Client", "SOCKS reply", "the reply was written; detail: its code"),
    Step(
        "session_opened", "lvc", "Server", "TCP connect", "a connection for SOCKS, a fixed or original target is opened"
    ),
    # conversations that are read along
    Step("dialogue", "Client", "Server", "Conversation read along", "a watcher was put between the two", arrow=BOTH),
    Step("starttls", "Client", "Server", "TLS begins here", "both agreed on TLS in the middle of a conversation"),
    Step("part", "Client", "Server", "Message or file", "a message or a file begins; its kind and name", arrow=BOTH),
    # HTTP without TLS on one side
    Step("request_received", "Client", "httpsm", "HTTP request", "a request arrived outside of TLS"),
    Step("plain_request_sent", "rvc", "Server", "HTTP request", "its head left without TLS"),
    Step("plain_response_received", "Server", "rvc", "HTTP response", "a response's head arrived without TLS"),
    Step("plain_response_parsed", "rvc", "httpsm", "Parse response hdr", "and was read"),
    Step("plain_response_head_sent", "httpsm", "Client", "HTTP RespHdr", "the head left to the client without TLS"),
    Step("plain_body_relayed", "Server", "Client", "Data", "a response's body without TLS has ended", arrow="-->"),
    # more about requests
    Step("request_body_relayed", "Client", "Server", "Request body", "a request's body has ended", arrow="-->"),
    Step("continue_sent", "httpsm", "Client", "HTTP/1.1 100 Continue", "an interim response was written"),
    Step("pool_reused", "httpsm", "rvc", "Take kept connection", "a kept connection serves this request", wakes="rvc"),
    Step("pool_kept", "httpsm", "rvc", "Keep connection", "an upstream connection went to the pool", sleeps="rvc"),
    Step("retried", "httpsm", "httpsm", "Retry on a new connection", "a kept connection died before it answered"),
    Step("upgraded", "httpsm", "Client", "HTTP/1.1 101 Switching Protocols", "101 was written; detail: the protocol"),
    Step(
        "http_sm_ended",
        "httpsm",
        "httpsm",
        "HttpSM ends",
        "a state machine other than CONNECT's ended",
        sleeps="httpsm",
    ),
    # the slot between two state machines
    Step("slot_cleared", "rvc", "lvc", "Server_vc ended, clear the slot", "the hung connection ended", sleeps="rvc"),
    Step(
        "slot_dropped", "lvc", "rvc", "Close server_vc in the slot", "the hung connection is not needed", sleeps="rvc"
    ),
    # profiles and certificates
    Step(
        "server_first",
        "lvc",
        "rvcssl",
        "Attach SSL ProfileSM before the client is answered",
        "handshake order server-first: recorded instead of upstream_profile_attached",
        wakes="rvcssl",
    ),
    Step(
        "certificate_copied", "rvcssl", "lvcssl", "Names of the origin's certificate", "the leaf follows the origin's"
    ),
    Step("certificate_refused", "rvcssl", "httpsm", "Certificate refused", "the origin's certificate is not accepted"),
    Step("client_handshake_failed", "lvcssl", "Client", "TLS Handshake failed", "the handshake with the client failed"),
    Step(
        "upstream_handshake_failed", "Server", "rvcssl", "TLS Handshake failed", "the handshake with the origin failed"
    ),
    # the blind tunnel
    Step(
        "blind_tunnel",
        "lvc",
        "rvc",
        "Setup Bidirectional Blind Tunnel",
        "both connections were joined untouched; detail: why",
        arrow=NOTE,
    ),
    Step("replayed", "lvc", "Server", "Replay peeked bytes", "the bytes the probe had read were sent on; how many"),
    Step(
        "conversation",
        "lvc",
        "rvc",
        "WebSocket through stages",
        "messages go through stages after a 101; detail: their names",
        arrow=BOTH,
    ),
    Step(
        "conversation_ended",
        "lvc",
        "rvc",
        "WebSocket ends",
        "both connections of a conversation are gone; detail: messages each way",
        arrow=NOTE,
    ),
    Step("tunnel_ended", "lvc", "rvc", "Blind Tunnel ends", "a tunnel ended; detail: bytes each way", arrow=NOTE),
    # refusals and faults
    Step("blocked", "httpsm", "Client", "Send block page", "a rule's page was written; detail: status and rule"),
    Step("warned", "httpsm", "Client", "Send warning page", "a rule's warning was written; detail: status and rule"),
    Step("consented", "httpsm", "httpsm", "User continues", "a user has chosen to pass a warning; detail: the rule"),
    Step("dropped", "lvc", "Client", "Close without an answer", "refused where no protocol can say why; the reason"),
    Step("error", "lvc", "rvc", "Error", "something failed; detail: the error's kind", arrow=NOTE),
    Step(
        "error_answered", "httpsm", "Client", "Send error page", "our error page was written; detail: status and kind"
    ),
    Step(
        "waiting_answered",
        "httpsm",
        "Client",
        "Send waiting page",
        "a page was written that says how far an inspection is; detail: status and what it says",
    ),
    # closing
    Step("client_closed", "lvc", "Client", "Close", "the client's connection is gone; always the last", sleeps="lvc"),
    Step("note", "lvc", "rvc", "Note", "anything worth a line; detail: the words", arrow=NOTE),
)

STEPS: Final = {step.name: step for step in DECK_STEPS + OTHER_STEPS}
DECK: Final = tuple(step.name for step in DECK_STEPS)
"""The names of the 37 steps in order."""
