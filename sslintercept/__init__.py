"""sslintercept: see into TLS inside tunnels, decide, and pass it on safely."""

__version__ = "0.1.0"
