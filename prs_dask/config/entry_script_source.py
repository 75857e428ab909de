"""What an entry script's source tells without running it: is there a ``run`` to call?

The driver never imports user code. The syntax tree shows every way in which a module binds a name;
where it cannot (a star import, ``global run`` inside a function) the script is accepted, and the
worker process says what it misses. Definitions under ``if``, ``try``, ``with`` and loops count.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

__all__ = ["entry_script_fault"]


def entry_script_fault(path: Path) -> str | None:
    """Why this file cannot be an entry script, in words that follow its name; None: it can be."""
    if not path.exists():
        return "which does not exist"
    if not path.is_file():
        return "which is not a file"
    try:
        source = path.read_bytes()
    except OSError as error:
        return f"which cannot be read ({error.strerror})"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, str(path))
    except SyntaxError as error:
        return f"which is not valid Python: line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"which cannot be read as Python ({type(error).__name__}: {error})"
    return _fault_of_run(tree)


def _fault_of_run(tree: ast.Module) -> str | None:
    statements = list(_executed(tree.body))
    if any(_binds_unknown_names(statement) for statement in statements):
        return None
    binding = [statement for statement in statements if "run" in _names_bound(statement)]
    if not binding:
        return "which has no function run at its top level"
    if len(binding) > 1:
        return None
    definition = binding[0]
    if isinstance(definition, ast.AsyncFunctionDef):
        return f"whose run (line {definition.lineno}) is async; it has to be a plain function"
    if isinstance(definition, ast.FunctionDef) and not definition.decorator_list:
        return _fault_of_parameters(definition)
    return None


def _executed(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported, without the bodies of functions and classes."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for part in ast.iter_child_nodes(statement):
            if isinstance(part, ast.stmt):
                yield from _executed([part])
            elif isinstance(part, (ast.ExceptHandler, ast.match_case)):
                yield from _executed(part.body)


def _binds_unknown_names(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return any(alias.name == "*" for alias in statement.names)
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return any(isinstance(node, ast.Global) and "run" in node.names for node in ast.walk(statement))
    return False


def _names_bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    if isinstance(statement, ast.Import):
        return {alias.asname for alias in statement.names if alias.asname}
    if isinstance(statement, ast.AnnAssign) and statement.value is None:
        return set()
    return {name for part in ast.iter_child_nodes(statement) for name in _names_stored(part)}


def _names_stored(node: ast.AST) -> Iterator[str]:
    """Names that an expression or a target binds in the module; comprehensions and lambdas keep theirs."""
    if isinstance(node, (ast.stmt, ast.ExceptHandler, ast.match_case)):
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.comprehension):
            yield from (one.target.id for one in ast.walk(part) if isinstance(one, ast.NamedExpr))
        elif not isinstance(node, ast.Lambda):
            yield from _names_stored(part)


def _fault_of_parameters(run: ast.FunctionDef) -> str | None:
    arguments = run.args
    positional = len(arguments.posonlyargs) + len(arguments.args)
    needed = positional - len(arguments.defaults)
    if positional == 0 and arguments.vararg is None:
        return f"whose run (line {run.lineno}) takes no mini_batch"
    if needed > 2:
        return f"whose run (line {run.lineno}) needs {needed} arguments; it gets mini_batch, and mini_batch_context"
    if any(default is None for default in arguments.kw_defaults):
        return f"whose run (line {run.lineno}) needs keyword arguments, which nobody gives it"
    return None
