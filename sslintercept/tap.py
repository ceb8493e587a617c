"""C{twistd sslintercept}: options, and the service they make."""

from __future__ import annotations

import os
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage

from sslintercept.config.reader import find
from sslintercept.errors import InterceptError
from sslintercept.load import load
from sslintercept.supervise import WORKER, die


class Options(usage.Options):
    """What follows C{sslintercept} on the command line."""

    synopsis = "[--config FILE]"
    longdesc = "A secure web gateway that sees into TLS. The commented settings are in etc/sslintercept.ini."
    optParameters: ClassVar = [
        ["config", "c", None, "the ini file (default: etc/sslintercept.ini, /etc/sslintercept/sslintercept.ini)"]
    ]


def makeService(options: Options) -> IService:
    """Read the settings and make the service (IServiceMaker)."""
    from twisted.internet import reactor

    from sslintercept.service import make_service

    try:
        path = find(options["config"]).absolute()
        settings = load(path)
        worker = os.environ.get(WORKER)
        return make_service(settings, reactor, int(worker) if worker else None)
    except InterceptError as error:
        die(str(error))
