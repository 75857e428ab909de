"""What went wrong in user code, as bounded text.

User code raises anything: exceptions whose ``str()`` raises, messages of 100 MB, causes that
form a ring, 100,000 frames of recursion, groups of groups. `describe` always gives an answer, of at
most some 200 KB; what is left out is counted. It never keeps the exception.

The traceback begins in the user's code: frames of the engine above it are not shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

from prs_dask.attempts.records import AttemptError

__all__ = ["UserCode", "describe", "warm_up"]

MAX_MESSAGE = 16 * 1024  # characters: at most 64 KiB of UTF-8
MAX_TRACEBACK = 64 * 1024
MAX_PROCESS_OUTPUT = 16 * 1024
_MAX_CHAIN = 10  # exceptions shown of a chain: half of them from each end
_MAX_FRAMES = 60
_MAX_GROUP, _MAX_DEPTH = 10, 4
_MAX_CLASSES, _MAX_NAME = 40, 200
_FRAMES_OF_OURS = tuple(
    os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), package) + os.sep
    for package in ("entry_script", "worker_process", "output", "datasets")
)
_START_PATH = tuple(sys.path)

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


class UserCode(NamedTuple):
    """Which files are the user's.

    Parameters
    ----------
    folder
        The source folder; empty where only an object is sent.
    files
        Further files, as they stand in code objects: the script, the notebook cell of an object.
    """

    folder: str = ""
    files: tuple[str, ...] = ()

    def name_of(self, filename: str) -> str | None:
        """How a file of the user's is shown, relative to the source folder; None for others'."""
        if self.folder and filename.startswith(self.folder + os.sep):
            return filename[len(self.folder) + 1 :]
        return os.path.basename(filename) if filename in self.files else None

    def is_a_lone_script(self) -> bool:
        """Whether nothing but the script itself was sent."""
        try:
            return bool(self.folder) and len([n for n in os.listdir(self.folder) if n != "__pycache__"]) == 1
        except OSError:
            return False


def describe(error: BaseException, user_code: UserCode) -> AttemptError:
    """The exception as text; never raises, whatever the exception does.

    Parameters
    ----------
    error
        What was caught.
    user_code
        Tells the user's frames from others'.
    """
    limit = sys.getrecursionlimit()
    if limit < 1000:  # user code may have set less than formatting needs
        sys.setrecursionlimit(1000)
    try:
        warm_up()
        if isinstance(error, MemoryError):
            _free_what_frames_hold(error)
        return AttemptError(
            _name(error),
            _cut(_message(error) + _hint(error, user_code), MAX_MESSAGE),
            _cut("".join(_text(error, set(), 0)), MAX_TRACEBACK),
            _safely(lambda: _where(error, user_code), ""),
            _safely(lambda: _process_output(error), ""),
            _safely(lambda: _classes(error), ""),
        )
    except BaseException:
        # Out of memory again, or something nobody thought of: the least that is worth telling.
        return AttemptError(_name(error), _cut(_message(error), 1000))
    finally:
        if limit < 1000:
            sys.setrecursionlimit(limit)


def warm_up() -> None:
    """Import what `describe` needs, found where it was when the process began.

    User code may have emptied ``sys.path``, or have a ``traceback.py`` of its own.
    """
    if "traceback" not in sys.modules:
        path = sys.path[:]
        sys.path[:] = _START_PATH
        try:
            import traceback  # noqa: F401
        except BaseException:  # noqa: S110 - it has done worse: failures will have no traceback
            pass
        finally:
            sys.path[:] = path


def _safely(make: Callable[[], str], otherwise: str) -> str:
    try:
        return make()
    except BaseException:
        return otherwise


def _name(error: BaseException) -> str:
    return _safely(lambda: _of_type("__name__", type(error)), "exception")


def _of_type(attribute: str, one: type) -> Any:
    """As Python itself knows it: a metaclass may have made something else of it."""
    return type.__dict__[attribute].__get__(one)


def _classes(error: BaseException) -> str:
    """Its class and those that this is derived from."""
    described = []
    for one in _of_type("__mro__", type(error))[:_MAX_CLASSES]:
        module, name = _of_type("__module__", one), _of_type("__qualname__", one)
        described.append(f"{module if type(module) is str else ''}:{name}"[:_MAX_NAME].replace("\n", " "))
    return "\n".join(described)


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        code = _safely(lambda: _bounded(repr(error.code)), "...")
        return f"sys.exit({code}) was called; what it printed stands in the stderr of the process"
    try:
        return _bounded(str(error))
    except BaseException as inner:
        return f"<its message cannot be shown: str() of {_name(error)} raised {_name(inner)}>"


def _bounded(text: str) -> str:
    """A plain str of at most MAX_MESSAGE characters; subclasses of str lose their own methods."""
    return _cut(str.__getitem__(text, slice(None)), MAX_MESSAGE)


def _cut(text: str, most: int) -> str:
    """``text``, its middle left out where it is longer than ``most`` characters."""
    length = str.__len__(text)
    if length <= most:
        return text
    note = f"\n... [{length - most + 80:,} characters left out] ...\n"
    head = (most - 80) * 2 // 3
    tail = most - 80 - head
    return text[:head] + note + text[length - tail :]


def _hint(error: BaseException, user_code: UserCode) -> str:
    if isinstance(error, ImportError | FileNotFoundError) and user_code.is_a_lone_script():
        return (
            "\n(source_directory is not set: only the entry script itself was sent. "
            "Set source_directory to the folder that also holds what it imports or opens.)"
        )
    return ""


def _free_what_frames_hold(error: BaseException) -> None:
    import traceback

    traceback.clear_frames(error.__traceback__)


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    for one in _frames(trace):
        filename = one.tb_frame.f_code.co_filename
        if not filename.startswith(_FRAMES_OF_OURS) and not filename.startswith("<frozen importlib"):
            return one
    return None


def _where(error: BaseException, user_code: UserCode) -> str:
    if isinstance(error, SyntaxError) and error.filename and (name := user_code.name_of(error.filename)):
        return f"{name}:{error.lineno}"
    found = ""
    for trace in _frames(error.__traceback__):
        code = trace.tb_frame.f_code
        name = user_code.name_of(code.co_filename)
        if name is not None:
            found = f"{name}:{trace.tb_lineno} in {code.co_name}"
    return found


def _text(error: BaseException, seen: set[int], depth: int) -> Iterator[str]:
    """Traceback and message of an exception and of what led to it, the oldest first."""
    chain = [(error, "")]
    while len(chain) < 10_000:
        seen.add(id(error))
        if error.__cause__ is not None:
            following, connection = error.__cause__, _CAUSE
        elif error.__context__ is not None and not error.__suppress_context__:
            following, connection = error.__context__, _CONTEXT
        else:
            break
        if id(following) in seen:
            break
        chain.append((following, connection))
        error = following
    chain.reverse()
    half = _MAX_CHAIN // 2
    for place, (one, connection) in enumerate(chain):
        if place < half or place >= len(chain) - half:
            yield from _one(one, seen, depth)
            yield connection
        elif place == half:
            yield f"\n... [{len(chain) - 2 * half} chained exceptions left out] ...\n\n"


def _one(error: BaseException, seen: set[int], depth: int) -> Iterator[str]:
    import traceback

    trace = _without_ours(error.__traceback__)
    if trace is not None:
        yield "Traceback (most recent call last):\n"
        yield from _stack(trace)
    if isinstance(error, SyntaxError):
        yield from traceback.format_exception_only(error)
    else:
        message = _message(error)
        yield f"{_qualified_name(error)}: {message}\n" if message else f"{_qualified_name(error)}\n"
        for note in _notes(error):
            yield f"{note}\n"
    if isinstance(error, BaseExceptionGroup):
        if depth >= _MAX_DEPTH:
            yield "... [deeper groups left out] ...\n"
            return
        for number, one in enumerate(error.exceptions[:_MAX_GROUP], 1):
            yield f"  +---------------- {number} ----------------\n"
            if id(one) in seen:
                continue
            for text in _text(one, seen, depth + 1):
                yield "".join(f"  | {line}" for line in text.splitlines(keepends=True))
        if len(error.exceptions) > _MAX_GROUP:
            yield f"  ... [{len(error.exceptions) - _MAX_GROUP} exceptions of the group left out] ...\n"


def _stack(trace: TracebackType) -> Iterator[str]:
    import traceback

    count = sum(1 for _ in _frames(trace))
    if count <= _MAX_FRAMES:
        yield from traceback.extract_tb(trace).format()
        return
    half = _MAX_FRAMES // 2
    yield from traceback.extract_tb(trace, half).format()
    yield f"  ... [{count - 2 * half:,} frames left out] ...\n"
    for place, one in enumerate(_frames(trace)):
        if place == count - half:
            yield from traceback.extract_tb(one).format()


def _qualified_name(error: BaseException) -> str:
    kind = type(error)
    module = _safely(lambda: str(kind.__module__), "")
    name = _safely(lambda: str(kind.__qualname__), _name(error))
    return name if module in ("builtins", "__main__", "") else f"{module}.{name}"


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", None)
    if not isinstance(notes, list | tuple):
        return []
    return [_note(note) for note in notes[:20]]


def _note(note: object) -> str:
    return _safely(lambda: _bounded(str(note)), "<a note that cannot be shown>")


def _process_output(error: BaseException) -> str:
    """Captured stdout and stderr of the subprocess that failed, also where it is only the cause."""
    subprocess = sys.modules.get("subprocess")
    if subprocess is None:
        return ""
    one: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if one is None:
            return ""
        if isinstance(one, subprocess.CalledProcessError | subprocess.TimeoutExpired):
            parts = (("stdout", one.stdout), ("stderr", one.stderr))
            return "".join(f"--- {name} ---\n{_captured(data)}\n" for name, data in parts if data)
        one = one.__cause__ or one.__context__
    return ""


def _captured(data: Any) -> str:
    if isinstance(data, bytes | bytearray | memoryview):
        data = bytes(data)
        if len(data) > 8 * MAX_PROCESS_OUTPUT:  # decode no more than can be shown
            half = 4 * MAX_PROCESS_OUTPUT
            data = data[:half] + b"\n... [%d bytes left out] ...\n" % (len(data) - 2 * half) + data[-half:]
        data = data.decode("utf-8", "backslashreplace")
    return _cut(str(data), MAX_PROCESS_OUTPUT)
