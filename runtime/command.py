"""What all commands share: an error is one line and exit code 2, Ctrl-C is 130, any name can be printed."""

from __future__ import annotations

import errno
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from moksori.runtime import plugins
from moksori.runtime.errors import MoksoriError

INTERRUPTED = 130  # what shells expect after Ctrl-C
MEMORY = re.compile(r"([\d.]+)\s*([kmgt]?)i?b?", re.IGNORECASE)
PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Failure(click.ClickException):
    """Ends the command with one line on stderr and exit code 2."""

    exit_code = 2


class Command(click.Command):
    """A click command that never shows a traceback for what a person can mend.

    ``extra`` names the optional dependencies it needs; its heavy imports belong inside the command's function.
    """

    def __init__(self, *args: Any, extra: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.extra = extra

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise Failure(f"{error.format_message().rstrip('.')} (see {ctx.info_name} --help)") from error

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(
                    errors="replace"
                )  # a console's code page may lack letters of a file's name
        try:
            with shown_warnings():
                plugins.load(self.extra)
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            ctx.exit(INTERRUPTED)
        except ModuleNotFoundError as error:
            if not self.extra or (error.name or "moksori").startswith("moksori"):
                raise
            raise Failure(f'needs {error.name}: pip install "moksori[{self.extra}]"') from error
        except (MoksoriError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            raise Failure(sentence(error)) from error


def sentence(error: MoksoriError | OSError) -> str:
    """An error as one line; Python's own file errors as "name: reason"."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{click.format_filename(error.filename)}: {error.strerror}"
    return " ".join(str(error).split())


class Bytes(click.ParamType[int]):
    """An amount of memory such as 4G, 800M or 1.5GiB."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = MEMORY.fullmatch(str(value).strip())
        if match is None or match[1].count(".") > 1 or not any(map(str.isdigit, match[1])):
            self.fail(f"'{value}' is not an amount of memory; write 4G or 800M", param, ctx)
        return round(float(match[1]) * PREFIXES[match[2].lower()])


@contextmanager
def shown_warnings() -> Iterator[None]:
    """While entered, warnings that the package logs go to stderr, one line each."""
    handler, logger = _Echo(logging.WARNING), logging.getLogger("moksori")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Echo(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"Warning: {record.getMessage()}", err=True)
