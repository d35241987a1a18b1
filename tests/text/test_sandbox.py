"""Hostile templates: escapes into Python, and bombs of time and memory."""

from __future__ import annotations

import resource
import sys
import time

import pytest

from lmstack.core import FormatError, LmstackError, Message
from lmstack.text import ChatTemplate

MESSAGES = [Message("user", "hello"), Message("assistant", "hi")]

# Published payloads (llama-cpp-python CVE-2024-34359, sglang CVE-2026-5760, LiteLLM
# GHSA-46cm-pfwv-cgf8) and the usual list of Jinja escapes.
ESCAPES = {
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "subscript": "{{ ''['__class__']['__base__'] }}",
    "attr filter": "{{ '' | attr('__class__') }}",
    "map attr": "{{ messages | map('attr', '__class__') | list }}",
    "map attribute": "{{ ['x'] | map(attribute='__class__') | list }}",
    "sort attribute": "{{ ['x', 'y'] | sort(attribute='__class__') }}",
    "lipsum globals": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "cycler globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "joiner globals": "{{ joiner.__init__.__globals__ }}",
    "namespace globals": "{{ namespace.__init__.__globals__ }}",
    "self context": "{{ self._TemplateReference__context.cycler.__init__.__globals__.os }}",
    "self globals": "{{ self.__init__.__globals__ }}",
    "function globals": "{{ raise_exception.__globals__ }}",
    "function code": "{{ strftime_now.__code__ }}",
    "loop": "{% for m in messages %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "macro": "{% macro f() %}{% endmacro %}{{ f.__init__.__globals__ }}",
    "macro func": "{% macro f() %}{% endmacro %}{{ f._func.__globals__ }}",
    "generator frame": "{{ (messages | map('upper')).gi_frame }}",
    "type mro": "{{ dict.mro() }}",
    "dict subclasses": "{{ dict.__subclasses__() }}",
    "str format": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "str format_map": "{{ '{x.__class__}'.format_map({'x': messages}) }}",
    "format filter": "{{ '%s' | format(messages.__class__) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os.system('id') }}",
    "from import": "{% from 'os' import system %}",
    "extends": "{% extends '/etc/passwd' %}",
    "change list": "{{ messages.append(1) }}",
    "change dict": "{{ messages[0].update({'role': 'system'}) }}",
    "change dict item": "{{ messages[0].pop('role') }}",
    "config": "{{ config.__class__.__init__.__globals__ }}",
    "request": "{{ request.application.__globals__.__builtins__.__import__('os') }}",
    "builtins": "{{ __builtins__.open('/etc/passwd').read() }}",
    "environment": "{{ environment.from_string('x') }}",
    "context": "{{ context.environment }}",
    "strftime": "{{ strftime_now('%Y' * 100) }}",
}


@pytest.mark.parametrize("payload", ESCAPES.values(), ids=ESCAPES.keys())
def test_escape_is_stopped_and_nothing_leaks(payload):
    with pytest.raises(LmstackError) as caught:
        ChatTemplate(payload).render(MESSAGES)
    assert "root:" not in str(caught.value)
    assert "uid=" not in str(caught.value)


def test_escape_says_that_the_template_tried_what_it_may_not():
    with pytest.raises(FormatError, match="may not"):
        ChatTemplate("{{ ''.__class__ }}").render(MESSAGES)


_DOUBLE = "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}"
BOMBS = {
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "loop of loops over text": "{% for a in 'x' * 9999 %}{% for b in 'x' * 9999 %}{% endfor %}"
    "{% endfor %}",
    "lazy loops": "{% for a in range(9999) | map('string') %}"
    "{% for b in range(9999) | map('string') %}{% endfor %}{% endfor %}",
    "filtered loop": "{% for a in range(99999) if a < 0 %}{% endfor %}" * 60,
    "range": "{{ range(10 ** 10) | list }}",
    "text times number": "{{ 'x' * 10 ** 10 }}",
    "number times text": "{{ 10 ** 10 * 'x' }}",
    "list times number": "{{ [0] * 10 ** 9 }}",
    "folded at compile time": "{{ 'x' * 9999999999 }}",
    "power": "{{ 10 ** 10 ** 10 }}",
    "power of powers": "{{ 999999 ** 64 ** 64 }}",
    "repeated squares": "{% set ns = namespace(n=9) %}{% for i in range(60) %}"
    "{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "plus doubles": _DOUBLE + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "tilde doubles": _DOUBLE + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "join doubles": _DOUBLE + "{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
    "method join doubles": _DOUBLE + "{% set ns.s = ''.join([ns.s, ns.s]) %}{% endfor %}",
    "list doubles": _DOUBLE.replace("'xxxxxxxx'", "[1]")
    + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "block doubles": _DOUBLE + "{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}"
    "{% endfor %}",
    "filter block doubles": _DOUBLE + "{% set t %}{% filter upper %}{{ ns.s }}{{ ns.s }}"
    "{% endfilter %}{% endset %}{% set ns.s = t %}{% endfor %}",
    "replace multiplies": "{% set a = 'x' * 9999 %}{{ a.replace('x', a) }}",
    "replace of nothing": "{% set a = 'x' * 9999 %}{{ a | replace('', a) }}",
    "replace by name": "{% set a = 'x' * 9999 %}{{ a | replace(s='x', new=a) }}",
    "join separator": "{{ range(9999) | join('x' * 9999) }}",
    "indent": "{{ 'a\\nb' | indent(10 ** 9) }}" + "{{ ('\\n' * 99999) | indent('x' * 9999) }}",
    "json indent": "{{ messages | tojson(indent=10 ** 9) }}",
    "center": "{{ 'x'.center(10 ** 9) }}",
    "ljust": "{{ 'x'.ljust(10 ** 9) }}",
    "zfill": "{{ 'x'.zfill(10 ** 9) }}",
    "expandtabs": "{{ '\\t'.expandtabs(10 ** 9) }}",
    "percent width": "{{ '%999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (999999999, 1) }}",
    "format width": "{{ '{:>999999999}'.format(1) }}",
    "center filter": "{{ 'x' | center(10 ** 9) }}",
    "macro recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macro tree": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "recursive loop": "{% for a in [messages] recursive %}{{ loop(messages) }}{% endfor %}",
    "much printed": "{% for a in range(99999) %}" + "y" * 20_000 + "{% endfor %}",
    "printed value": "{% set a = 'x' * 99999 %}{% for b in range(99999) %}{{ a }}{% endfor %}",
    "slices": "{% set a = 'x' * 9999999 %}{% for b in range(99999) %}"
    "{% set c = a[1:] %}{% endfor %}",
    "searches": "{% set a = 'x' * 9999999 %}{% for b in range(99999) %}{{ 'y' in a }}{% endfor %}",
    "comparisons": "{% set a = 'x' * 9999999 %}{% set d = 'x' * 9999999 %}"
    "{% for b in range(99999) %}{{ a == d }}{% endfor %}",
    "print of a list of one text": "{% set a = 'x' * 999999 %}{{ [a] * 9999 }}",
    "json of a list of one text": "{% set a = 'x' * 999999 %}{{ ([a] * 9999) | tojson }}",
    "case of a list of one text": "{% set a = 'x' * 999999 %}{{ ([a] * 9999) | upper }}",
    "tilde with a list": "{% set a = 'x' * 999999 %}{{ 'y' ~ [a] * 9999 }}",
    "lists in lists": "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
    "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "lists compared": "{% set a = ['x' * 9999999] %}{% set d = ['x' * 9999999] %}"
    "{% for b in range(99999) %}{{ a == d }}{% endfor %}",
    "tests": "{% set a = 'x' * 9999999 %}{% for b in range(99999) %}{{ a is lower }}{% endfor %}",
    "select": "{% set a = ['x' * 9999999] %}{% set d = 'x' * 9999999 %}"
    "{% for b in range(99999) %}{{ a | select('equalto', d) | list | length }}{% endfor %}",
    "join of a lazy range": "{{ range(99999) | map('string') | join('x' * 9999) }}",
    "deep nesting": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "deep list": "{{ " + "[" * 20_000 + "]" * 20_000 + " }}",
    "deep blocks": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
}


@pytest.mark.parametrize("payload", BOMBS.values(), ids=BOMBS.keys())
def test_bomb_is_stopped_soon_and_small(payload):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.thread_time()
    with pytest.raises(FormatError):
        ChatTemplate(payload).render(MESSAGES)
    assert time.thread_time() - start < 5
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 300e6
