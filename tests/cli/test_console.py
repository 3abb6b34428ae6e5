import io
import logging

from rich.console import Console

from shapewright.cli.console import ConsoleHandler, print_rows, start_log


def handler_on(terminal):
    handler = ConsoleHandler()
    handler.console = Console(file=io.StringIO(), force_terminal=terminal, width=100, soft_wrap=True)
    return handler


def record(text, level=logging.INFO, progress=None):
    made = logging.LogRecord("shapewright", level, "", 0, text, (), None)
    if progress is not None:
        made.progress = progress
    return made


def printed(handler):
    return handler.console.file.getvalue()


def test_without_a_terminal_there_is_one_line_a_report_and_none_between():
    handler = handler_on(False)
    handler.emit(record("step 50  loss 0.1", progress=0.25))
    handler.emit(record("step 51  loss 0.1", logging.DEBUG, progress=0.26))
    assert printed(handler) == " 25%  step 50  loss 0.1\n"


def test_messages_and_warnings_are_lines():
    handler = handler_on(False)
    handler.emit(record("hello [bold]x[/bold]"))
    handler.emit(record("look out", logging.WARNING))
    assert printed(handler) == "hello [bold]x[/bold]\nwarning: look out\n"


def test_on_a_terminal_a_bar_moves_and_stops():
    handler = handler_on(True)
    handler.emit(record("step 51", logging.DEBUG, progress=0.5))
    assert handler._bar is not None
    assert handler._bar.tasks[0].completed == 0.5
    handler.emit(record("step 100", progress=1.0))
    assert handler._bar is None
    assert "step 100" in printed(handler)


def test_a_bar_cut_off_is_taken_away_at_the_end():
    handler = handler_on(True)
    handler.emit(record("step 51", progress=0.5))
    handler.close()
    assert handler._bar is None


def test_the_log_is_shown_once(monkeypatch):
    logger = logging.getLogger("shapewright")
    monkeypatch.setattr(logger, "handlers", [])
    start_log()
    start_log()
    assert len(logger.handlers) == 1


def test_rows_are_aligned(capsys):
    print_rows([("a", 1.23456789), ("long", ["x", 2]), ("b", None)])
    assert capsys.readouterr().out == "a     1.2346\nlong  x 2\nb     None\n"
