"""Weights damaged in the hub's cache and in that of converted models, and conversions killed.

Both caches hold tiny models: the hub's in its own layout, whose blobs are named by their hash;
the other is made from a GGUF file in a Python package.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import time
from pathlib import Path

from tests.faults.common import Place, Shared, complaints, differences, ends_well, work
from tests.faults.flips import damage
from tests.faults.kills import kill
from tests.support.commands import Fault

COMMIT = "c" * 40  # as a hash looks
MODEL = 'name = "{name}"\nparameters = 100000\nrecipe = "tiny"\ntask = "words"\n[source]\n{source}'
CHUNKS = (
    "def chunk_paths():\n    from pathlib import Path\n    return [Path(__file__).parent / {!r}]\n"
)


def make(shared: Shared) -> None:
    """The registry's models `hubbed` and `packaged`, and what they are loaded from."""
    hub = shared.root / "hub/hub/models--some--tiny"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (hub / part).mkdir(parents=True)
    (hub / "refs/main").write_text(COMMIT)
    for file in shared.models["llama"].iterdir():
        content = file.read_bytes()
        name = hashlib.sha256(content).hexdigest()
        if file.suffix != ".safetensors":  # as git names what is not in its large storage
            name = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        (hub / "blobs" / name).write_bytes(content)
        (hub / "snapshots" / COMMIT / file.name).symlink_to(f"../../blobs/{name}")
    gguf = shared.package / "tiny.gguf"
    write_gguf(gguf)
    (shared.package / "tiny_weights.py").write_text(CHUNKS.format(gguf.name))
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    sources = {
        "hubbed": 'kind = "hub"\nrepo = "some/tiny"\n',
        "packaged": f'kind = "gguf-package"\npackage = "tiny-weights"\nmodule = "tiny_weights"\n'
        f'file = "{gguf.name}"\nsha256 = "{digest}"\n',
    }
    (shared.registry / "models").mkdir()
    for name, source in sources.items():
        text = MODEL.format(name=name, source=source)
        (shared.registry / "models" / f"{name}.toml").write_text(text)


def trial(place: Place, rng: random.Random) -> list[str]:
    name = rng.choice(("hubbed", "packaged"))
    words = ["run", "--models", name, "--registry", str(place.shared.registry)]
    words += ["--max-steps", "2", "--limit", "3"]
    other = [*words, "--seeds", "1"]
    peace, before = place.shared.peace(place, words), place.shared.peace(place, other)
    with place.fresh() as cwd:
        outside, cache = cwd.parent / "outside", cwd.parent / "cache"
        outside.mkdir()
        (outside / "canary").write_text("outside\n")
        pristine = place.shared.root / "hub" if name == "hubbed" else place.root / "cache"
        env = {"HF_HOME" if name == "hubbed" else "HARNESS_CACHE": str(cache)}
        if name == "packaged" and rng.random() < 0.4:
            return _killed_conversion(place, rng, cwd, cache, words, before.seconds)
        if name == "packaged":
            found = complaints(place.run(cwd, other, **env))  # converts
        else:
            shutil.copytree(pristine, cache, symlinks=True)
            found = complaints(place.run(cwd, other, **env)) if rng.random() < 0.5 else []
        targets = [p for p in cache.rglob("*") if p.is_file() and not p.name.endswith(".lock")]
        target = rng.choice(sorted(targets))
        called = target.name
        if target.parent.name == "blobs":
            links = [p for p in cache.rglob("snapshots/*/*") if p.resolve() == target]
            called = f"blob of {links[0].name}"
        harm, _ = damage(rng, target, cwd, outside)
        ended = place.run(cwd, words, **env)
        found += complaints(ended, (0, 1, 2))
        if not found and ended.status == 0 and (names := differences(work(cwd), peace.work)):
            found = [f"other results than undisturbed in {', '.join(names)}"]
        elif not found and name == "packaged":
            # What we made ourselves we can make again.
            found = ends_well(place, cwd, words, "once more", **env)
        elif not found and ended.status:
            shutil.rmtree(cache)
            shutil.copytree(pristine, cache, symlinks=True)
            found = ends_well(place, cwd, words, "with a whole cache again", **env)
        return [f"{name}: {called}, {harm}: {text}" for text in found]


def _killed_conversion(
    place: Place, rng: random.Random, cwd: Path, cache: Path, words: list[str], seconds: float
) -> list[str]:
    """A kill while the cache is written leaves nothing there that is not used."""
    env = {"HARNESS_CACHE": str(cache)}
    fault = Fault("call", "harness.models.convert:_convert") if rng.random() < 0.3 else None
    running = place.start(cwd, words, fault, **env)
    if fault is None:
        time.sleep(rng.uniform(0, seconds))
        kill(running)
    found = complaints(running.ended(), (0, -signal.SIGKILL))
    found += ends_well(place, cwd, words, "after a kill", **env)
    left = [p.name for p in cache.rglob(".*") if p.name.startswith((".making-", ".tmp-"))]
    if left:
        found.append("left behind in the cache: a folder of a killed conversion")
    return [f"packaged: {text}" for text in found]


def write_gguf(path: Path) -> None:
    """A llama of one layer with random weights, over single bytes."""
    import gguf
    import numpy as np
    from tokenizers import pre_tokenizers

    size = 32
    tokens = ["<eos>", "<bos>", "<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(2 * size)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(size // 4)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])  # the reader wants one
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    shapes = {"attn_q": (size, size), "attn_k": (size // 2, size), "attn_v": (size // 2, size)}
    shapes |= {"attn_output": (size, size), "ffn_gate": (2 * size, size)}
    shapes |= {"ffn_up": (2 * size, size), "ffn_down": (size, 2 * size)}
    named = {f"blk.0.{name}": shape for name, shape in shapes.items()}
    named |= {"token_embd": (len(tokens), size), "output": (len(tokens), size)}
    draw = np.random.default_rng(0)
    for name, shape in named.items():
        writer.add_tensor(f"{name}.weight", draw.normal(0, 0.05, shape).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
