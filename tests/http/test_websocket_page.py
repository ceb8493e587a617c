"""The page about WebSocket: its example does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sslintercept.facts import Side
from sslintercept.transform.processor import talks
from tests.http.test_websocket import TEXT, Begin, begin
from tests.support import loop
from tests.websocket.reference import KEY, frame

__all__ = ["begin", "loop"]

PAGE = Path(__file__).parents[2] / "docs" / "websocket.md"


def test_the_example_takes_card_numbers_out_and_tells_the_client(begin: Begin) -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    transformer = names["RedactCards"]()
    assert talks(transformer)
    talk = begin(transformer.messages(None))
    said = talk.say(frame(TEXT, b"pay with 4111111111111111 now", key=KEY))
    assert talk.heard(said, Side.UPSTREAM) == [("content", b"pay with **** now")]
    assert talk.client.take() == frame(TEXT, b"a card number was taken out")
    assert talk.say(frame(TEXT, b"4111111111111111"), by=Side.UPSTREAM) == frame(TEXT, b"4111111111111111")
    assert talk.say(frame(TEXT, b"pay", key=KEY)) == frame(TEXT, b"pay", key=KEY)
    talk.client.close()
