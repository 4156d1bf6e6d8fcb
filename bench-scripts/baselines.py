"""Baselines of a gate: figures under a key of all that decides them, and what became of each.

A file holds a baseline for each key: {"schema", "unit", "baselines": [{"key": {part: text}, "figures": {cell: {engine:
instructions per message}}}]}. Kept: it is written whole or not at all, and to renew one key leaves all others as they
were. Deliberately absent: measuring. Tested by its examples: python3 -m doctest bench-scripts/baselines.py
"""

import json

from interleaved import CannotMeasure
from kernel_sources import write_atomically

SCHEMA = "ringsock-instructions/1"
# A change to the programs may move how many messages a turn happens to take, and figures with it, by some tenths.
RISE_MAX = 0.01


def read(path):
    """The baselines in a file, none if there is no file; CannotMeasure if it holds something else.

    Each is {"key": {...}, "figures": {cell: {engine: instructions per message}}}.
    """
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise CannotMeasure(f"{path} is no JSON ({error}): restore it from git") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise CannotMeasure(f"{path} is not of {SCHEMA}: restore it from git, or name another file")
    return document["baselines"]


def write(path, baselines):
    """Writes a file of baselines, over an older one.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "x.json"
    ...     write(path, [{"key": {"k": 1}, "figures": {}}])
    ...     read(path)
    [{'key': {'k': 1}, 'figures': {}}]
    """
    document = {"schema": SCHEMA, "unit": "instructions per message", "baselines": baselines}
    write_atomically(path, json.dumps(document, indent=1) + "\n")
    path.chmod(0o644)


def figures_for(baselines, key):
    """
    >>> baselines = [{"key": {"qemu": "7"}, "figures": {"c": {"uring": 1}}}]
    >>> figures_for(baselines, {"qemu": "7"}), figures_for(baselines, {"qemu": "8"})
    ({'c': {'uring': 1}}, None)
    """
    return next((it["figures"] for it in baselines if it["key"] == key), None)


def renewed(baselines, key, figures):
    """The baselines with these figures for this key, and those of all other keys as they were.

    >>> old = [{"key": {"k": 1}, "figures": "a"}, {"key": {"k": 2}, "figures": "b"}]
    >>> renewed(old, {"k": 2}, "c") == [{"key": {"k": 1}, "figures": "a"}, {"key": {"k": 2}, "figures": "c"}]
    True
    """
    return [it for it in baselines if it["key"] != key] + [{"key": key, "figures": figures}]


def unknown(baselines, key):
    """Which part of the key no baseline has as it is here, by the nearest of them.

    >>> unknown([{"key": {"kernel": "6.12.1", "qemu": "7"}}], {"kernel": "6.12.2", "qemu": "7"})
    'kernel is 6.12.2, in the nearest baseline 6.12.1'
    >>> unknown([], {"kernel": "6.12.2"})
    'there are no baselines'
    """
    if not baselines:
        return "there are no baselines"
    differing = [[part for part in key if it["key"].get(part) != key[part]] for it in baselines]
    nearest = min(range(len(baselines)), key=lambda index: len(differing[index]))
    of_nearest = baselines[nearest]["key"]
    return "; ".join(f"{part} is {key[part]}, in the nearest baseline {of_nearest.get(part)}" for part in differing[nearest])


def changes(before, after):
    """(cell, engine, before, after, kind) of every figure that is here or there.

    `kind`: rose and fell by more than the bound, held, new, gone.

    >>> kinds = lambda *pair: [it[-1] for it in changes(*({"c": figures} for figures in pair))]
    >>> kinds({"a": 1000, "b": 1000, "c": 1000}, {"a": 1010, "b": 1010.1, "c": 989})
    ['held', 'rose', 'fell']
    >>> kinds({"a": 1000}, {"b": 5})
    ['gone', 'new']
    """
    rows = []
    for cell in dict.fromkeys([*before, *after]):
        olds, news = before.get(cell, {}), after.get(cell, {})
        for engine in dict.fromkeys([*olds, *news]):
            old, new = olds.get(engine), news.get(engine)
            if old is None or new is None:
                kind = "new" if old is None else "gone"
            else:
                rose, fell = new > old * (1 + RISE_MAX), new < old * (1 - RISE_MAX)
                kind = "rose" if rose else "fell" if fell else "held"
            rows.append((cell, engine, old, new, kind))
    return rows


def row_text(cell, engine, old, new, kind):
    """
    >>> row_text("64x64Bx1", "uring", 12000.0, 12240.0, "rose")
    '  64x64Bx1     uring        12,000.0 ->  12,240.0   +2.00 %  ROSE'
    """
    show = lambda figure: "-" if figure is None else f"{figure:,.1f}"
    share = "" if old is None or new is None else f"{100 * (new / old - 1):+.2f} %"
    return f"  {cell:<11}  {engine:<11}  {show(old):>8} -> {show(new):>9}  {share:>8}  {kind.upper() if kind == 'rose' else kind}"
