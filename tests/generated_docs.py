"""Writes the parts of docs/ that follow from the code: ``python -m tests.generated_docs``.

The code map (each module's first words, by package), the table of settings, the help of every
command and the list of benchmarks. ``tests/unit/test_readme.py`` fails where a file differs from
what this would write.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from stream.cli import cli
from stream.cli.worker import settings_rows

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("models", "stream", "testbed", "bench", "tests")
#: What is generated inside a page stands between these lines.
SETTINGS: Final = (
    "<!-- the table of settings: tests/generated_docs.py writes it -->",
    "<!-- end of the table -->",
)
BENCHMARKS: Final = (
    "<!-- the list of benchmarks: tests/generated_docs.py writes it -->",
    "<!-- end of the list -->",
)
_WIDTH: Final = 90

_MAP: Final = """\
# Map of the code

Each module with the first words of its docstring. Written by `python -m tests.generated_docs`; a
test fails when it is out of date. Why the code is built so: [architecture.md](architecture.md).
Where to change what: [changing.md](changing.md).
"""
_COMMANDS: Final = """\
# Commands

What `--help` prints for each command. Written by `python -m tests.generated_docs`; a test fails
when it is out of date. Settings come from the environment or a file:
[configuration.md](configuration.md).
"""


def code_map() -> str:
    """docs/code-map.md: a section a package, a row a module; test files are left out."""
    return "\n".join([_MAP, *(_section(folder) for folder in _folders())])


def _folders() -> Iterator[Path]:
    """The packages and sub-packages that hold a module, in the order of ``PACKAGES``."""
    for package in PACKAGES:
        for folder in (ROOT / package, *sorted((ROOT / package).rglob("*/"))):
            if next(_modules(folder), None):
                yield folder


def _modules(folder: Path) -> Iterator[Path]:
    """The modules that say something: no bare ``__init__``, and no test file."""
    for file in sorted(folder.glob("*.py")):
        module = ast.parse(file.read_text("utf-8"))
        if not file.name.startswith("test_") and len(module.body) > 1:
            yield file


def _section(folder: Path) -> str:
    lines = [f"## {folder.relative_to(ROOT)}/", ""]
    package = folder / "__init__.py"
    words = first_words(package) if package.is_file() else ""
    if words:
        lines += [words, ""]
    lines += ["| file | |", "| --- | --- |"]
    lines += [
        f"| `{file.name}` | {_cell(first_words(file))} |"
        for file in _modules(folder)
        if file != package or not words
    ]
    return "\n".join([*lines, ""])


def first_words(file: Path) -> str:
    """The first paragraph of the module's docstring as one line, '' without a docstring."""
    words = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    line = " ".join(words.split("\n\n")[0].split())
    return re.sub(r"``(.+?)``", r"`\1`", line).rstrip(":")


def _cell(words: str) -> str:
    return words.replace("|", "\\|")


def settings_table() -> str:
    """The table of docs/configuration.md."""
    rows = ["| variable | default | what it is |", "| --- | --- | --- |"]
    for variable, default, words in settings_rows():
        shown = f"`{default}`" if default else ""
        rows.append(f"| `{variable}` | {shown} | {_cell(words)} |")
    return "\n".join(rows)


def benchmarks_table() -> str:
    """The list of docs/benchmarks.md: every module of bench that can be run."""
    quick = ast.parse((ROOT / "bench/__main__.py").read_text("utf-8"))
    named = {node.value for node in ast.walk(quick) if isinstance(node, ast.Constant)}
    rows = ["| command | measures | in `make bench` |", "| --- | --- | --- |"]
    for file in sorted([*(ROOT / "bench").glob("*.py"), *(ROOT / "bench").glob("*/__main__.py")]):
        name = file.parent.name if file.name == "__main__.py" else file.stem
        if name != "bench" and "def main(" in file.read_text("utf-8"):
            ran = "yes" if name in named else ""
            rows.append(f"| `python -m bench.{name}` | {_cell(first_words(file))} | {ran} |")
    return "\n".join(rows)


def _page(name: str, marks: tuple[str, str], text: str) -> str:
    """A page of docs/ with ``text`` between the marks; the rest as it is written there.

    Raises ``ValueError`` where a mark is missing.
    """
    page = (ROOT / "docs" / name).read_text("utf-8")
    begin, end = marks
    before, after = page[: page.index(begin)], page[page.index(end) :]
    return f"{before}{begin}\n{text}\n{after}"


def commands(group: click.Context | None = None) -> Iterator[click.Context]:
    """Every command that does something, each in the context of the groups that it is in."""
    if group is None:
        width = {"terminal_width": _WIDTH, "max_content_width": _WIDTH}
        group = click.Context(cli, info_name="weft", **{**cli.context_settings, **width})
    assert isinstance(group.command, click.Group)
    for name in group.command.list_commands(group):
        command = group.command.get_command(group, name)
        assert command is not None
        inside = click.Context(command, parent=group, info_name=name)
        if isinstance(command, click.Group):
            yield from commands(inside)
        else:
            yield inside


def command_pages() -> str:
    """docs/commands.md."""
    parts = [_COMMANDS]
    for context in commands():
        shown = textwrap.dedent(context.get_help()).strip()
        parts.append(f"## {context.command_path}\n\n```text\n{shown}\n```\n")
    return "\n".join(parts)


def generated() -> dict[Path, str]:
    """Each generated file, and what it should hold."""
    docs = ROOT / "docs"
    return {
        docs / "code-map.md": code_map(),
        docs / "configuration.md": _page("configuration.md", SETTINGS, settings_table()),
        docs / "benchmarks.md": _page("benchmarks.md", BENCHMARKS, benchmarks_table()),
        docs / "commands.md": command_pages(),
    }


def main() -> None:
    """Writes them."""
    for file, text in generated().items():
        file.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
