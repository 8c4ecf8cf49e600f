"""A small GPT learns to write Shakespeare, character by character, and carries what it learnt to another text.

nanoGPT's recipe for a processor (4 layers, 128 wide, 12 blocks of 64 characters a step), whose page reports a loss of
1.88, with a head of its own: tied to the embeddings, as there, the loss was 0.02 higher. Then the network goes on with
a little of another text, film reviews, beside one from scratch with the same characters and steps.
"""

# %%
import argparse
import math
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import minidl
import minidl.nn.functional as F
from minidl import nn, optim, transfer
from minidl.data import CharTokenizer, rt_polarity, tinyshakespeare
from minidl.models import GPT
from minidl.tensor import Tensor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="one layer, 150 steps")
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--characters", type=int, default=20_000, help="of the other text, to learn from")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output", type=Path, default=Path("runs/shakespeare_gpt"))
options = parser.parse_args()
options.output.mkdir(parents=True, exist_ok=True)
steps = 150 if options.quick else options.steps
BLOCK, BATCH = 64, 12

# %% Two texts, one alphabet
plays, plays_held_out = tinyshakespeare("train"), tinyshakespeare("validation")
print(repr(plays))
reviews = "\n".join(np.random.default_rng(0).permutation(rt_polarity("all").texts))
reviews, reviews_held_out = reviews[:options.characters], reviews[options.characters:][:50_000]
tokenizer = CharTokenizer.train([str(plays), str(plays_held_out), reviews, reviews_held_out])


def network() -> GPT:
    return GPT(len(tokenizer), BLOCK, n_layer=1 if options.quick else 4, n_head=4, n_embd=128, bias=False, tied=False)


def loss_on(model: GPT, ids: np.ndarray, blocks: int | None = None) -> float:
    """The mean loss of a character in the text, which is read in blocks: the first `blocks` of them, or all."""
    rows = ids[:(len(ids) - 1) // BLOCK * BLOCK + 1]
    x, y = rows[:-1].reshape(-1, BLOCK)[:blocks], rows[1:].reshape(-1, BLOCK)[:blocks]
    model.eval()
    with minidl.no_grad():
        sums = [F.cross_entropy(model(x[i:i + 50]).reshape(-1, len(tokenizer)), Tensor(y[i:i + 50].reshape(-1)),
                                reduction="sum").item() for i in range(0, len(x), 50)]
    model.train()
    return sum(sums) / y.size


def train(model: GPT, text: str, held_out: str, steps: int, lr: float, label: str) -> list[tuple[int, float]]:
    """Make that many steps; the loss on the held-out text, from time to time and at the end."""
    ids, held_out_ids = np.array(tokenizer.encode(text)), np.array(tokenizer.encode(held_out))
    draw = np.random.default_rng(options.seed)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                            lr=lr, betas=(0.9, 0.99))
    warmup = steps // 20
    schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / warmup if step < warmup else
                                           0.55 + 0.45 * math.cos(math.pi * (step - warmup) / (steps - warmup)))
    curve = []
    with tqdm(total=steps, desc=label, unit="step", disable=None) as bar:
        for step in range(1, steps + 1):
            places = draw.integers(0, len(ids) - BLOCK, BATCH)[:, None] + np.arange(BLOCK)  # N, T
            loss = F.cross_entropy(model(ids[places]).reshape(-1, len(tokenizer)), Tensor(ids[places + 1].reshape(-1)))
            optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.3f}", lr=f"{schedule.get_last_lr()[0]:.1e}", refresh=False)
            bar.update()
            if step % (steps // 10) == 0:
                curve.append((step, loss_on(model, held_out_ids, None if step == steps else 100)))
    return curve


def sample(model: nn.Module, begin: str, count: int = 300) -> str:
    ids, draw = [tokenizer.encode(begin)], np.random.default_rng(1)
    return tokenizer.decode(model.generate(ids, count, temperature=0.8, top_k=20, generator=draw)[0])


# %% Pre-training on the plays
minidl.seed(options.seed)
model = network()
started = time.perf_counter()
curves = {"Shakespeare": train(model, str(plays), str(plays_held_out), steps, 1e-3, "Shakespeare")}
seconds = time.perf_counter() - started
transfer.save(model, options.output / "shakespeare.safetensors", provenance=plays.source)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {steps} steps, seed {options.seed}: validation loss "
      f"{curves['Shakespeare'][-1][1]:.3f} after {seconds:.0f} s\n\n{sample(model, 'KING')}\n")

# %% The other text: from the plays, and from scratch, with the same steps
minidl.seed(options.seed)
curves["reviews, from scratch"] = train(network(), reviews, reviews_held_out, steps // 4, 1e-3, "scratch")
tuned = transfer.load(options.output / "shakespeare.safetensors")
curves["reviews, from Shakespeare"] = train(tuned, reviews, reviews_held_out, steps // 4, 5e-4, "fine-tuning")
print(f"{sample(tuned, 'the film ', 200)}\n")
print(f"| {len(reviews):,} characters of reviews, {steps // 4} steps | held-out loss |\n| --- | ---: |")
for name in ("from scratch", "from Shakespeare"):
    print(f"| {name} | {curves[f'reviews, {name}'][-1][1]:.3f} |")

# %% The curves
figure = Figure(layout="constrained")
axes = figure.subplots()
for name, curve in curves.items():
    axes.plot(*zip(*curve), marker="o", markersize=3, label=name)
axes.set(xlabel="step", ylabel="loss of a character, held-out text", title="A character GPT")
axes.legend()
figure.savefig(options.output / "curves.png", dpi=120)
