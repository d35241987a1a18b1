"""What a document says of itself: front matter, and names and dates in one form for all formats.

Front matter is a subset of YAML between ``---`` lines (scalars, lists, quotes, folded text) or
TOML between ``+++`` lines. ``access`` fails closed: where it cannot be read, the document is not.
Does not run tags or anchors of YAML; a key whose value is a mapping is left out.
"""

from __future__ import annotations

import datetime
import email.utils
import re
import tomllib
from collections.abc import Mapping
from typing import NoReturn

from lmstack.rag.documents import ProblemError
from lmstack.rag.filters import Value

__all__ = ["iso_date", "matter_span", "normalized", "read_matter"]

_YAML = re.compile(
    r"\ufeff?---[ \t]*\r?\n(?=(?:[ \t]*(?:#[^\n]*)?\n)*(?:[A-Za-z_][\w.-]*|\"[^\"\n]+\")[ \t]*:)"
    r"(.*?\n)---[ \t]*(?:\r?\n|$)",
    re.DOTALL,
)
_TOML = re.compile(r"\ufeff?\+\+\+[ \t]*\r?\n(.*?\n)\+\+\+[ \t]*(?:\r?\n|$)", re.DOTALL)
# Labels in front matter that never ends would otherwise be prose, and the document open to all.
_UNCLOSED = re.compile(
    r"\ufeff?(?:---|\+\+\+)[ \t]*\r?\n(?:[^\n]*\n){0,40}?[\"']?(?:access|labels?)[\"']?[ \t]*[:=]",
    re.I,
)
_KEY = re.compile(r"(?:\"([^\"]+)\"|'([^']+)'|([A-Za-z_][\w .-]*?))[ \t]*:(?:[ \t]+(.*)|[ \t]*)$")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_INTEGER, _DECIMAL = re.compile(r"[-+]?\d{1,15}"), re.compile(r"[-+]?\d{1,15}\.\d{1,15}")
_NAMES = {
    "authors": "author",
    "by": "author",
    "creator": "author",
    "created": "date",
    "pubdate": "date",
    "published": "date",
    "updated": "modified",
    "lastmod": "modified",
    "last_modified": "modified",
    "last-modified": "modified",
    "keywords": "tags",
    "tag": "tags",
    "revision": "version",
    "replaces": "supersedes",
    "label": "access",
    "labels": "access",
    "lang": "language",
    "summary": "description",
}
_LISTS = frozenset(("tags", "access", "supersedes"))
_DATES = frozenset(("date", "modified"))
_FORMATS = ("%d %B %Y", "%B %d, %Y", "%B %d %Y", "%d %b %Y", "%b %d, %Y", "%Y/%m/%d", "%d.%m.%Y")
_ISO = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d))?(?![\d])")
_FOLDED = ("|", ">", "|-", ">-")
MAX_FIELDS, MAX_VALUE, MAX_ITEMS = 100, 1_000, 200


def matter_span(text: str) -> tuple[int, str, str]:
    """Where the front matter of ``text`` ends (0: it has none), its kind and its content; raises
    `ProblemError` if it names access labels but has no end."""
    for kind, pattern in (("yaml", _YAML), ("toml", _TOML)):
        match = pattern.match(text)
        if match:
            return match.end(), kind, match.group(1)
    if _UNCLOSED.match(text):
        _closed()
    return 0, "", ""


def read_matter(kind: str, content: str) -> dict[str, Value]:
    """The fields in front matter, with names and dates in their one form."""
    if kind == "toml":
        try:
            return normalized(tomllib.loads(content.replace("\r\n", "\n")))
        except (tomllib.TOMLDecodeError, RecursionError):
            if re.search(r"^\s*(access|labels?)\s*=", content, re.M):
                _closed()
            return {}
    return normalized(_yaml(content))


def _closed() -> NoReturn:
    raise ProblemError(
        "format",
        "has front matter whose access labels cannot be read",
        "write them as a list: access: [hr, board]",
    )


def _yaml(content: str) -> dict[str, object]:
    found: dict[str, object] = {}
    key = ""
    items: list[str] | None = None
    for line in content.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _KEY.match(line)
        if match and not line[0].isspace():
            key = (match[1] or match[2] or match[3]).strip()
            value = match[4] or ""
            items = None
            found[key] = _scalar_or_list(value.strip())
        elif key and stripped.startswith("- ") and found[key] in ("", None, items):
            items = items if items is not None else []
            items.append(_unquoted(_without_comment(stripped[2:])))
            found[key] = items
        elif key and line[0].isspace():
            _go_on(found, key, stripped)
        else:
            found[key or "?"] = None
    return {name: None if value in _FOLDED else value for name, value in found.items()}


def _go_on(found: dict[str, object], key: str, line: str) -> None:
    """A further line of a value: folded text, or a mapping, which is not read."""
    value = found[key]
    if value in _FOLDED:
        found[key] = line
    elif isinstance(value, str) and value and not _KEY.match(line):
        found[key] = f"{value} {line}"
    elif not value or not _KEY.match(line):
        found[key] = None


def _scalar_or_list(value: str) -> object:
    value = _without_comment(value)
    if value.startswith("[") and value.endswith("]"):
        items = [item.strip() for item in _split(value[1:-1]) if item.strip()]
        nested = any(item[0] not in "'\"" and set(item) & set("[]{}") for item in items)
        return None if nested else [_unquoted(item) for item in items]
    if value[:1] in ("{", "&", "*", "!", "[", "%", "@", "`"):
        return None
    return _unquoted(value)


def _split(text: str) -> list[str]:
    return re.findall(r"\"[^\"]*\"|'[^']*'|[^,]+", text)


def _without_comment(value: str) -> str:
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        return value[: end + 1] if end > 0 else value
    return re.split(r"\s#", value, maxsplit=1)[0].strip()


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def normalized(found: Mapping[str, object]) -> dict[str, Value]:
    """Fields by their usual names: ``author``, ``date``, ``modified``, ``tags``, ``version``,
    ``supersedes``, ``access``, ``language``; others as they are, if they are simple values."""
    fields: dict[str, Value] = {}
    for key, value in found.items():
        name = key.strip().lower().replace(" ", "_")
        name = _NAMES.get(name, name)
        if not _NAME.fullmatch(name) or len(name) > 100 or len(fields) >= MAX_FIELDS:
            continue
        simple = _simple(name, value)
        if simple is not None and simple not in ("", ()):
            fields[name] = simple
        elif name == "access":
            _closed()
    return fields


def _simple(name: str, value: object) -> Value | None:
    if name in _LISTS and isinstance(value, str):
        value = re.split(r"\s*[,;]\s*", value)
    if isinstance(value, list | tuple):
        texts = [_text(item) for item in value]
        if None in texts or len(texts) > MAX_ITEMS:
            return None
        if name == "author":
            return ", ".join(filter(None, texts))
        return tuple(text for text in texts if text)
    if isinstance(value, datetime.date):  # and datetime
        value = value.isoformat()
    if name in _LISTS:
        text = _text(value)
        return (text,) if text else None
    if name in _DATES:
        return iso_date(str(value)) or None
    if name == "language":
        code = str(value)[:2].lower()
        return code if code.isalpha() and not str(value)[2:3].isalpha() else None
    if name in ("version", "title", "author"):
        return _text(value)
    return _typed(value)


def _text(value: object) -> str | None:
    if isinstance(value, str | int | float):
        return " ".join(str(value).split())[:MAX_VALUE]
    return None


def _typed(value: object) -> Value | None:
    if isinstance(value, bool | int | float):
        return value if abs(value) < 2**53 else None
    if not isinstance(value, str):
        return None
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if _INTEGER.fullmatch(value):
        return int(value)
    if _DECIMAL.fullmatch(value):
        return float(value)
    if _ISO.match(value):
        return iso_date(value) or _text(value)
    return _text(value)


def iso_date(text: str) -> str:
    """A date in one of the usual ways of writing as ``YYYY-MM-DD``; empty if it is none."""
    text = text.strip()[:100]
    match = _ISO.match(text)
    if match:
        year, month, day = match.groups()
        text = f"{year}-{month}-{day or '01'}"
        try:
            return datetime.date.fromisoformat(text).isoformat()
        except ValueError:
            return ""
    for form in _FORMATS:
        try:
            return datetime.datetime.strptime(text, form).date().isoformat()
        except ValueError:
            continue
    try:
        return email.utils.parsedate_to_datetime(text).date().isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""
