"""What the commands share on the screen: log lines, the progress bar, columns of text."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn


class ConsoleHandler(logging.Handler):
    """Show log records on stderr; on a terminal, records with a ``progress`` move a bar instead."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, or move the bar."""
        progress = getattr(record, "progress", None)
        text = record.getMessage()
        if progress is not None and self.console.is_terminal:
            self._move_bar(progress, text)
        elif progress is not None and record.levelno >= logging.INFO:
            self._print(f"{progress:4.0%}  {text}")
        elif progress is None:
            mark = "warning: " if record.levelno >= logging.WARNING else ""
            self._print(mark + text)

    def close(self) -> None:
        """Leave the bar where it stands."""
        self._stop_bar()
        super().close()

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False)

    def _move_bar(self, progress: float, text: str) -> None:
        if self._bar is None:
            columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %  {task.description}", markup=False))
            self._bar = Progress(*columns, console=self.console)
            self._task = self._bar.add_task(text, total=1.0)
            self._bar.start()
        self._bar.update(self._task, completed=progress, description=text)
        if progress >= 1.0:
            self._stop_bar()

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def start_log() -> None:
    """Show the package's log on stderr from now on."""
    logger = logging.getLogger("shapewright")
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        handler = ConsoleHandler()
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        if handler.console.is_terminal:
            logging.getLogger("shapewright.progress").setLevel(logging.DEBUG)


def print_rows(rows: Iterable[tuple[str, object]]) -> None:
    """Print labels and values in two columns."""
    texts = [(label, _text(value)) for label, value in rows]
    width = max((len(label) for label, _ in texts), default=0)
    for label, value in texts:
        print(f"{label:<{width}}  {value}", file=sys.stdout)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value)
    return str(value)
