"""Log lines: JSON where a program reads them, plain text on a terminal.

What libraries log through `logging` looks the same.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

READING = "reading"
"""The `event` of the line of a flow that has found its partitions; a supervisor waits for it."""
FIRST = ("timestamp", "level", "flow", "event")


def configure(form: str, level: str, stream: TextIO | None = None, **always: Any) -> None:
    """Send every log line of this process to `stream` (stderr), with the fields `always`.

    `form` is json, text, or auto: text on a terminal, else json.
    """
    out = stream or sys.stderr
    as_text = form == "text" or (form == "auto" and out.isatty())

    def with_always(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {**always, **event}

    before: list[Processor] = [
        with_always,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # a trace as text: the form with every local variable would print passwords
        structlog.processors.format_exc_info,
    ]
    console = structlog.dev.ConsoleRenderer(
        colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    after: list[Processor] = (
        [console] if as_text else [ordered, structlog.processors.JSONRenderer(default=str)]
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *after],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def ordered(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put first what a person looks for first."""
    return {**{name: event[name] for name in FIRST if name in event}, **event}
