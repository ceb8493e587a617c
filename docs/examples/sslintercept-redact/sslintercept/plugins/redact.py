"""What C{use = redact} means."""

from sslintercept_redact import Redact

from sslintercept.transform.plugin import TransformPlugin

redact = TransformPlugin("redact", Redact)
