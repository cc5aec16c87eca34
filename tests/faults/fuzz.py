"""Mutated inputs of every kind: each is used or refused in a sentence."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.common import Place, complaints
from tests.support.commands import ROOT, run_of

ALLOWED = (0, 1, 2, 75)
RENAMED = "renamed"  # a file that says that a tensor was
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2.5, 1e308, 10**30, 10**400, float("nan"), float("inf"), "", " ", "a",
    "\ud800", "\x00", "\x1b[31mred\x1b[0m", "\u2028", "\ufeff", "../../x", "~", "{}", "{reference}",
    "=1+1", "<s>9</s>", "né", "a" * 100_000, [], {}, [[]], [1, "a"], {"a": {"b": []}}, "9" * 5000,
    "auto", "llama", "none",
)  # fmt: skip
PIECES: tuple[bytes, ...] = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\n\n", b'"', b",", b"{", b"}", b"[",
    b"[" * 60_000, b"\\ud800", b"\\", b"1e999", b"NaN", b"-", b"9" * 5000, b"\x1b[2J",
    b"\xe2\x80\xa8", b"=", b"'''", b"#", b"\t", b" " * 1000, b"null", b"0x" + b"f" * 6000,
    b"<" * 3000,
)  # fmt: skip


def trial(place: Place, rng: random.Random) -> list[str]:
    kinds: list[Callable[[Place, random.Random, Path], list[str]]]
    kinds = [_data, _data, _script, _toml, _toml, _model, _model, _answers, _answers, _csv, _words]
    make = rng.choice(kinds)
    with place.fresh() as cwd:
        words = make(place, rng, cwd)
        ended = place.run(cwd, words)
        found = complaints(ended, ALLOWED)
        if ended.status == 0 and (cwd / RENAMED).exists() and "--dry-run" not in words:
            found.append("a tensor of the model has another name, and the answer is a table")
        return [f"{make.__name__[1:]} ({words[0]}): {text}" for text in found]


# --- mutations -------------------------------------------------------------------------------


def mutated(rng: random.Random, content: bytes) -> bytes:
    """Bytes changed, cut, repeated, or with something put among them, one to four times."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, end = sorted((rng.randint(0, len(content)), rng.randint(0, len(content))))
        end = min(end, at + int(2 ** rng.uniform(0, 10)))
        before, after, piece = content[:at], content[end:], rng.choice(PIECES)
        flipped = bytes(byte ^ 1 << rng.randrange(8) for byte in content[at : at + 1])
        content = rng.choice((
            before + flipped + content[at + 1 :],
            before + piece + content[at:],
            before + piece + after,
            before + after,
            content[:end] + content[at:],
            before,
            before + rng.randbytes(end - at) + after,
        ))  # fmt: skip
    return content


def altered(rng: random.Random, value: Any) -> Any:
    """A JSON value with one place in it changed, added or taken away."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        way = rng.random()
        if way < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if way < 0.2:
            return {**value, str(rng.choice(ODD))[:200]: rng.choice(ODD)}
        return {**value, key: altered(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        way = rng.random()
        if way < 0.15:
            return value[:at] + value[at + 1 :]
        if way < 0.3:
            return [*value, value[at]]
        return [*value[:at], altered(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, int | float) and rng.random() < 0.4:
        return rng.choice(
            (
                value + 1,
                -value,
                value * 1000,
                value * 0.3 if abs(value) < 1e9 else 0,
                value * 2,
                str(value),
            )
        )
    return rng.choice(ODD)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _lines(rows: Any) -> bytes:
    return b"".join(_json(row) + b"\n" for row in (rows if isinstance(rows, list) else [rows]))


def _several(rng: random.Random, value: Any) -> Any:
    for _ in range(rng.choice((1, 1, 2, 5))):
        value = altered(rng, value)
    return value


# --- inputs ----------------------------------------------------------------------------------

ROWS = [
    {"instruction": f"say {i} {'x' * i}", "input": "" if i % 2 else "ctx", "output": f"<p>{i}</p>"}
    for i in range(12)
]


def _data(place: Place, rng: random.Random, cwd: Path) -> list[str]:
    rows = _several(rng, ROWS) if rng.random() < 0.5 else ROWS
    kind = rng.choice(("json", "jsonl", "csv", "parquet"))
    listed = rows if isinstance(rows, list) else [rows]
    if kind == "parquet":
        content = _parquet(rows if rows is not ROWS else listed)
    elif kind == "csv":
        text = io.StringIO()
        names = list(ROWS[0])
        writer = csv.writer(text, delimiter=rng.choice(",,,;\t"))
        writer.writerow(names)
        writer.writerows(
            [row.get(n) for n in names] if isinstance(row, dict) else [row] for row in listed
        )
        content = text.getvalue().encode("utf-8", "surrogatepass")
    else:
        content = _json(rows) if kind == "json" else _lines(listed)
    if rows is ROWS or rng.random() < 0.2:
        content = mutated(rng, content)
    (cwd / f"rows.{kind}").write_bytes(content)
    return [
        "run", "--models", "scripted", "--weights", f"scripted={place.shared.script}",
        "--tasks", "html_alpaca", "--data", f"html_alpaca=rows.{kind}", "--recipe", "tiny",
        "--registry", str(place.shared.registry), *(["--dry-run"] if rng.random() < 0.2 else []),
    ]  # fmt: skip


def _parquet(rows: Any) -> bytes:
    import pyarrow
    from pyarrow import parquet

    out = io.BytesIO()
    try:
        table = pyarrow.Table.from_pylist(rows)
        parquet.write_table(table, out)
    except Exception:  # values that no column holds together
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), out)
    return out.getvalue()


def _script(place: Place, rng: random.Random, cwd: Path) -> list[str]:
    rows = [
        {"arm": system, "id": id_, "text": text, "finish_reason": "stop"}
        for system, text in (("base", "<p>no</p>"), ("tuned", "{reference}"))
        for id_ in (None, "0", "test-0")
    ]
    content = _lines(_several(rng, rows)) if rng.random() < 0.6 else mutated(rng, _lines(rows))
    (cwd / "says.jsonl").write_bytes(content)
    return run_of(place.shared.registry, {"scripted": Path("says.jsonl")})


def _toml(place: Place, rng: random.Random, cwd: Path) -> list[str]:
    shutil.copytree(place.shared.registry, cwd / "registry")
    (cwd / "registry/models").mkdir(exist_ok=True)
    shipped = sorted((ROOT / "harness/config").glob("*/*.toml"))
    for file in shipped:
        if file.parent.name == "models":
            shutil.copy(file, cwd / "registry/models" / f"my-{file.name}")
    target = rng.choice(sorted((cwd / "registry").rglob("*.toml")))
    text = target.read_text()
    if target.name.startswith("my-"):
        text = text.replace('name = "', 'name = "my-', 1)
    if rng.random() < 0.5:
        lines = text.split("\n")
        at = rng.choice([i for i, line in enumerate(lines) if " = " in line])
        key, _, value = lines[at].partition(" = ")
        odd = rng.choice(ODD)
        choices = [f"{key} = {_toml_value(odd)}", f"{key}x = {value}", f"{key} = {value}\n" * 2]
        lines[at] = rng.choice([*choices, "", f"[{key}]", f"{key}.{key} = {value}"])
        content = "\n".join(lines).encode("utf-8", "surrogatepass")
    else:
        content = mutated(rng, text.encode())
    target.write_bytes(content)
    if target.parent.name == "models":
        more = ["--registry", "registry"]
        return rng.choice([
            ["list", "models", *more],
            ["doctor", *more],
            ["run", "--models", target.stem, "--dry-run", *more],
        ])  # fmt: skip
    run = run_of(Path("registry"), {"scripted": place.shared.script})
    if rng.random() < 0.3:
        llama = {"llama2-7b": place.shared.models["llama"]}
        run = run_of(Path("registry"), llama, "--max-steps", 1, "--limit", 2)
    kind = "tasks" if target.name == "task.toml" else "recipes"
    return rng.choice(
        [run, run, run, [*run, "--dry-run"], ["list", kind, "--registry", "registry"]]
    )


def _toml_value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return json.dumps(value, ensure_ascii=value != "\ud800")


def _model(place: Place, rng: random.Random, cwd: Path) -> list[str]:
    family = rng.choice(sorted(place.shared.models))
    shutil.copytree(place.shared.models[family], cwd / "model")
    target = rng.choice([*sorted((cwd / "model").iterdir()), cwd / "model/config.json"])
    content = target.read_bytes()
    if target.suffix == ".safetensors":
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        way = rng.random()
        if way < 0.2:
            name = rng.choice(sorted(header.keys() - {"__metadata__"}))
            new = _json({n if n != name else f"x.{n}": v for n, v in header.items()})
            (cwd / RENAMED).touch()
        elif way < 0.5:
            new = _json(_several(rng, header))
        else:
            new = mutated(rng, content[8 : 8 + size])
        length = (
            len(new) if way < 0.2 or rng.random() < 0.8 else rng.choice((0, 1, size, 2**40, 2**63))
        )
        content = struct.pack("<Q", length) + new + content[8 + size :]
        if way > 0.9:
            content = mutated(rng, target.read_bytes())
    elif rng.random() < 0.7:
        content = _json(_several(rng, json.loads(content)))
    else:
        content = mutated(rng, content)
    target.write_bytes(content)
    name = {"llama": "llama2-7b", "falcon": "falcon7b", "gemma3": "gemma3-270m"}[family]
    words = run_of(place.shared.registry, {name: Path("model")}, "--max-steps", 1, "--limit", 2)
    return [*words, *(["--dry-run"] if rng.random() < 0.1 else [])]


def _answers(place: Place, rng: random.Random, cwd: Path) -> list[str]:
    rows = [
        {
            "id": str(i),
            "prompt": f"say {i}",
            "prediction": f"```html\n<p>{i}<b>x</p>\n```",
            "reference": f"<p>{i}</p>",
            "finish_reason": "stop",
            "group": i // 2,
            "assertions": [{"kind": "count", "selector": "p", "count": 1}],
        }
        for i in range(6)
    ]
    for row in rows[1:]:
        if rng.random() < 0.5:
            row.pop(rng.choice(("assertions", "group", "finish_reason", "prompt")))
    plain = [{k: v for k, v in row.items() if k != "assertions"} for row in rows]
    (cwd / "good.jsonl").write_bytes(_lines(plain))
    rows = rng.choice((rows, plain))
    content = _lines(_several(rng, rows)) if rng.random() < 0.6 else mutated(rng, _lines(rows))
    (cwd / "odd.jsonl").write_bytes(content)
    more = ["--scorers", *rng.sample(("rouge", "validity", "answers", "exact_match"), 2)]
    return rng.choice([
        ["score", "--predictions", "odd.jsonl", *more],
        ["compare", "good.jsonl", "odd.jsonl", *more],
        ["compare", "odd.jsonl", "good.jsonl", *more],
    ])  # fmt: skip


def _csv(place: Place, rng: random.Random, cwd: Path) -> list[str]:
    good = (ROOT / "results/default/comparison.csv").read_bytes()
    rows = [line.split(b",") for line in good.splitlines()]
    if rng.random() < 0.5:
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = str(rng.choice(ODD)).encode("utf-8", "surrogatepass")
        odd = b"\r\n".join(b",".join(row) for row in rows)
    else:
        odd = mutated(rng, good)
    (cwd / "good.csv").write_bytes(good)
    (cwd / "odd.csv").write_bytes(odd)
    names = rng.sample(("good.csv", "odd.csv"), 2)
    return ["check", "--results", names[0], "--baseline", names[1]]


def _words(place: Place, rng: random.Random, cwd: Path) -> list[str]:
    """Command lines with words changed, repeated, left out or put in."""
    (cwd / "a.jsonl").write_bytes(_lines([{"prediction": "<p>1</p>", "reference": "<p>1</p>"}]))
    (cwd / "folder").mkdir()
    lines = [
        [*run_of(place.shared.registry, {"scripted": place.shared.script}), "--seeds", "0", "1",
         "--limit", "2", "--max-steps", "3", "--epochs", "1.5", "--precision", "fp32",
         "--quantization", "none", "--max-memory", "4GiB", "--results", "out", "--runs", "runs",
         "--set", "lora.r=4", "split.seed=1"],
        ["score", "--predictions", "a.jsonl", "--scorers", "exact_match", "--out", "out"],
        ["compare", "a.jsonl", "a.jsonl", "--text", "raw", "--no-clusters", "--out", "out"],
        ["list", rng.choice(("models", "runs", "tasks", "scorers")), "--registry", "folder"],
        ["check", "--results", "a.jsonl", "--baseline", "a.jsonl"],
        ["doctor", "--registry", "folder"],
    ]  # fmt: skip
    words = list(rng.choice(lines))
    pool = [*words, "a.jsonl", "folder", ".", "/", "/dev/null", "~", "a" * 300, "a/" * 1800,
            "\ud800", "x\ny", "-1", "1e9", "99999999999999999999", "--", "-h", "--version", "=",
            "x=", "=x", "scripted=folder", "words=a.jsonl", "html_alpaca=a.jsonl", "LLAMA2-7B",
            "lora.r=[", "lora=1", "text=x", "template=\udc80{}",
            "con", "", "\x1b[31m", "evaluate:folder", "a.jsonl:base", "..", "nan"]  # fmt: skip
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(1, len(words)) if len(words) > 1 else 0
        way = rng.random()
        if way < 0.5:
            words[at] = rng.choice(pool)
        elif way < 0.75:
            words.insert(at, rng.choice(pool))
        elif len(words) > 1:
            del words[at]
    return words
