r"""The text of TARS templates and server configurations: read, joined, written.

One item a line, trimmed of spaces, tabs, CR and LF:

    # a comment              skipped, as is an empty line; # elsewhere is text
    <name>                   opens a domain; the rest of the line is ignored
    </name>                  closes it: the same name, the innermost domain that is open
    key=value                split at the first = that has no backslash before it, both sides trimmed, then unescaped
    key                      the same as key=

Escapes are \\, \r, \n, \t and \=; any other one, also a backslash at the end, is an error. A domain that occurs again
under the same parent is merged with the first; a key that occurs again takes the last value and moves to the end. So
to join texts is to read one after the other into the same tree.

Source: the class TC_Config of the C++ framework, which reads and writes what every TARS server is configured with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

_BLANK: Final = " \t\r\n"
"""What lines and both sides of a = are trimmed of; no other white space is."""

_SHOWN: Final = 60
"""Characters of a line that go into an error's text."""

_SPLIT: Final = re.compile(r"(?<!\\)=")
_ESCAPED: Final = re.compile(r"\\(.?)", re.DOTALL)
_UNESCAPE: Final = {"\\": "\\", "r": "\r", "n": "\n", "t": "\t", "=": "="}
_ESCAPE: Final = str.maketrans({"\\": "\\\\", "\r": "\\r", "\n": "\\n", "\t": "\\t", "=": "\\="})


class ConfigTextError(ValueError):
    """Text that does not follow the grammar, or a tree that it has no form for: the line (0: none), and why."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}" if self.line else self.reason


@dataclass(slots=True)
class Domain:
    """A domain: its keys in the order in which they are written, and the domains in it in the order first seen.

    The root is one without a name.
    """

    keys: dict[str, str] = field(default_factory=dict)
    domains: dict[str, Domain] = field(default_factory=dict)

    def put(self, key: str, value: str) -> None:
        """Set a key; one that is there moves to the end."""
        self.keys.pop(key, None)
        self.keys[key] = value

    def enter(self, name: str) -> Domain:
        """The domain of this name, made if it is not there."""
        return self.domains.setdefault(name, Domain())


def read(text: str, onto: Domain | None = None) -> Domain:
    """The tree of a text; with ``onto``, that tree with the text on top of it. Raises ConfigTextError.

    After an error the tree has what came before it.
    """
    root = Domain() if onto is None else onto
    opened: list[tuple[str, int]] = []
    domains = [root]
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(_BLANK)
        if not line or line.startswith("#"):
            continue
        if not line.startswith("<"):
            domains[-1].put(*_key_and_value(line, number))
            continue
        tag, closed, _ = line[1:].partition(">")
        if not closed:
            raise ConfigTextError(number, f"expected > after the name of a domain, got {_shown(line)}")
        if not tag.startswith("/"):
            opened.append((tag, number))
            domains.append(domains[-1].enter(tag))
            continue
        if not opened:
            raise ConfigTextError(number, f"</{_shown(tag[1:])}> closes a domain, but none is open")
        name, began = opened.pop()
        if name != tag[1:]:
            raise ConfigTextError(
                number, f"expected </{_shown(name)}>, which was opened in line {began}, got <{_shown(tag)}>"
            )
        domains.pop()
    if opened:
        name, began = opened[-1]
        raise ConfigTextError(began, f"<{_shown(name)}> is never closed")
    return root


def write(root: Domain) -> str:
    """The text of a tree: domains at the top by name, inner ones in their order, keys before domains.

    Keys of the root are not written. Raises ConfigTextError for a name, key or value that would be read as another.
    """
    lines: list[str] = []
    # A stack, as texts may nest deeper than calls. An entry is a domain to open, or a line that closes one.
    waiting: list[tuple[int, str, Domain | None]] = [
        (0, name, root.domains[name]) for name in sorted(root.domains, reverse=True)
    ]
    while waiting:
        level, name, domain = waiting.pop()
        indent = "  " * level
        if domain is None:
            lines.append(f"{indent}</{name}>")
            continue
        if ">" in name or "\n" in name or name.startswith("/"):
            raise ConfigTextError(0, f"a domain can't be called {_shown(name)!r}")
        lines.append(f"{indent}<{name}>")
        lines += [f"{indent}  {_line(key, value)}" for key, value in domain.keys.items()]
        waiting.append((level, name, None))
        waiting += [(level + 1, inner, domain.domains[inner]) for inner in reversed(domain.domains)]
    return "".join(f"{line}\n" for line in lines)


def join(texts: Iterable[str]) -> str:
    """One text of several, each on top of those before it: the last one's value of a key wins.

    Raises ConfigTextError, whose ``line`` counts in the text that is at fault.
    """
    root = Domain()
    for text in texts:
        read(text, root)
    return write(root)


def _key_and_value(line: str, number: int) -> tuple[str, str]:
    found = _SPLIT.search(line)
    sides = (line[: found.start()], line[found.end() :]) if found else (line, "")
    try:
        key, value = (_ESCAPED.sub(_unescaped, side.strip(_BLANK)) for side in sides)
    except KeyError as error:
        what = f"\\{error.args[0]} is no escape" if error.args[0] else "a backslash at the end"
        raise ConfigTextError(number, f"{what} in {_shown(line)}; there are \\\\ \\r \\n \\t and \\=") from None
    return key, value


def _unescaped(match: re.Match[str]) -> str:
    return _UNESCAPE[match[1]]


def _line(key: str, value: str) -> str:
    for text in (key, value):
        if "<" in text or ">" in text:
            raise ConfigTextError(0, f"< and > can't be in a key or value: {_shown(f'{key}={value}')}")
        if text.strip(" ") != text:
            raise ConfigTextError(0, f"a space at either end would be lost: {_shown(f'{key}={value}')!r}")
    if key.startswith("#"):
        raise ConfigTextError(0, f"the key {_shown(key)} would be read as a comment")
    written = key.translate(_ESCAPE)
    if key and not value:
        return written
    # An = after a backslash, an escaped one too, does not split; and where there is nothing, an = still makes a key.
    return f"{written}{' ' if key.endswith(chr(92)) else ''}={value.translate(_ESCAPE)}"


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
