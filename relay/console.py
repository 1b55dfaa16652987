"""What commands print: for people with rich, for machines one JSON document. Progress and warnings go to stderr."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from outbox.redact import printable


class Bar:
    """One progress bar, moved to absolute positions."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._is_away = False

    def at(self, completed: int, total: int | None = None) -> None:
        if self._is_away:
            self._progress.start()
            self._is_away = False
        self._progress.update(self._task, completed=completed, total=total)

    def go_away(self) -> None:
        """Until it is moved again: what is printed now may be on the same terminal."""
        if not self._is_away:
            self._progress.stop()
            self._is_away = True


class Printer:
    """Prints results on standard output, as text or as JSON."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        # Without emoji: `:b:` in an error would be taken for one.
        self._errors = Console(stderr=True, highlight=False, emoji=False)
        self._bar: Bar | None = None

    def record(self, values: Mapping[str, Any], title: str) -> None:
        """One object: a two-column table, or a JSON object."""
        if self.as_json:
            self._write(_as_json(values) + "\n")
            sys.stdout.flush()
            return
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column()
        table.add_column(overflow="fold")
        for name, value in values.items():
            # As Text: what comes from a database must not be read as markup.
            table.add_row(name.replace("_", " "), Text(_in_words(value)))
        self._clear_the_way()
        Console(highlight=False).print(table)

    def stream(self, name: str, items: Iterable[tuple[str, Mapping[str, Any]]], last: Mapping[str, Any]) -> None:
        """Many objects in constant memory: a line of text each, or one JSON object with them in the list ``name``.

        ``last`` is read after all items and printed as `record` does, or as the rest of the JSON object.
        """
        # Before anything is printed: what cannot be read at all leaves no half a document behind.
        coming = iter(items)
        first = list(islice(coming, 1))
        if self.as_json:
            self._write(f'{{"{name}": [')
        for number, (line, item) in enumerate(chain(first, coming)):
            self._write((", " if number else "") + _as_json(item) if self.as_json else printable(line) + "\n")
        if self.as_json:
            rest = _as_json(last)[1:]
            self._write("]" + (", " if last else "") + rest + "\n")
        elif last:
            self.record(last, "Summary")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """A word on what happens now; nothing for machines."""
        if not self.as_json:
            self._errors.print(text, markup=False)

    def warn(self, text: str) -> None:
        self._errors.print(f"warning: {printable(text)}", style="yellow", markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, label: str, total: int | None = None) -> Iterator[Bar]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        hidden = self.as_json or not (sys.stderr.isatty() and self._errors.is_interactive)
        with Progress(
            *columns,
            console=self._errors,
            disable=hidden,
            transient=True,
            # It would send what is printed to its own console, and results to where the bar is.
            redirect_stdout=False,
            redirect_stderr=False,
        ) as progress:
            self._bar = Bar(progress, progress.add_task(label, total=total))
            try:
                yield self._bar
            finally:
                self._bar = None

    def _write(self, text: str) -> None:
        self._clear_the_way()
        sys.stdout.write(text)

    def _clear_the_way(self) -> None:
        if self._bar is not None and sys.stdout.isatty():
            self._bar.go_away()


def _in_words(value: Any) -> str:
    """A list has a line for each of its items; nothing else that a row holds may begin a new one."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    if isinstance(value, list):
        return "\n".join(map(_in_words, value))
    return "-" if value is None else printable(str(value))


def _as_json(values: Mapping[str, Any]) -> str:
    """What JSON has no word for, such as a blob or infinity, is said as text."""
    try:
        return json.dumps(dict(values), default=str, allow_nan=False)
    except ValueError:
        said = {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        return json.dumps(said, default=str, allow_nan=False)
