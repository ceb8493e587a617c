"""The name C{sslintercept} for C{twistd}; nothing else."""

from twisted.application.service import ServiceMaker

sslintercept = ServiceMaker("sslintercept", "sslintercept.tap", "TLS-intercepting secure web gateway", "sslintercept")
