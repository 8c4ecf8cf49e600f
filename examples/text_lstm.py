"""LSTM and GRU read film reviews (good or bad?) and text messages (spam?), from random and from word2vec's vectors.

Every run has the same words, the same network and the same training; only the word vectors at the start differ. The
epoch is chosen on the validation part, the test part is looked at once, at the end.
"""

# %%
import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import minidl
from minidl import nn, optim, transfer
from minidl.data import BucketBatchSampler, DataLoader, SequenceDataset, WordTokenizer, rt_polarity, sms_spam
from minidl.models import RecurrentClassifier
from minidl.train import F1, BestWeights, Trainer, accuracy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="four epochs on a part of the texts, small batches")
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--seeds", type=int, default=1)
parser.add_argument("--labels", type=int, help="train on so many labelled texts only (default: all)")
parser.add_argument("--vectors", type=Path, help="folder that word2vec.py wrote (default: run it now)")
parser.add_argument("--output", type=Path, default=Path("runs/text_lstm"))
options = parser.parse_args()
options.output.mkdir(parents=True, exist_ok=True)
epochs, seeds, size = (4, 1, 16) if options.quick else (options.epochs, options.seeds, 50)

# %% Word vectors: word2vec.py learns them from the training texts, without labels
folder = options.vectors or options.output / "word2vec"
if options.vectors is None:
    command = [sys.executable, str(Path(__file__).with_name("word2vec.py")), "--output", str(folder)]
    subprocess.run(command + ["--quick"] * options.quick, check=True)
tokenizer = WordTokenizer.load(folder / "words.json")
vectors = transfer.load_tensors(folder / "vectors.safetensors")["embedding.weight"]
tokenizer.vocabulary.check_weights(vectors, str(folder / "vectors.safetensors"))


def batches(texts, size: int, shuffle: bool) -> DataLoader:
    """Batches of texts of similar length: ids (N, T), lengths (N,), labels (N,)."""
    dataset = SequenceDataset(tokenizer.encode_batch(texts.texts), texts.labels, tokenizer.pad_id, max_length=60)
    return DataLoader(dataset, batch_sampler=BucketBatchSampler(dataset.lengths, size, shuffle))


def run(parts, recurrent: str, start: str, seed: int) -> dict:
    """Train one network and measure it."""
    minidl.seed(seed)
    train, validation, test = (batches(part, size if number == 0 else 256, number == 0)
                               for number, part in enumerate(parts))
    model = RecurrentClassifier(len(tokenizer), 2, vectors.shape[1], 100, recurrent=recurrent, pool="max")
    if start == "word2vec":
        model.load_embeddings(vectors * (model.embedding.weight.numpy().std() / vectors.std()))
    optimizer = optim.Adam(model.named_parameters(), lr=1e-3)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=[accuracy, F1()])
    started = time.perf_counter()
    history = trainer.fit(train, validation, epochs, [BestWeights("validation_accuracy")], progress=False)
    seconds = time.perf_counter() - started
    measured = trainer.evaluate(test)
    return {"recurrent": recurrent, "start": start, "seed": seed, "seconds": seconds, "accuracy": measured["accuracy"],
            "f1": measured["f1"], "validation": history["validation_accuracy"]}


# %% Both data sets, both layers, both starts
results = []
bar = tqdm(total=8 * seeds, unit="run")
for load in (rt_polarity, sms_spam):
    parts = [load(part) for part in ("train", "validation", "test")]
    if options.labels:
        parts[0] = parts[0].balanced(min(1.0, options.labels / len(parts[0])), np.random.default_rng(0))
    if options.quick:
        parts = [part.select(np.arange(0, len(part), -(-len(part) // 800))) for part in parts]
    for recurrent in ("lstm", "gru"):
        for start in ("random", "word2vec"):
            for seed in range(seeds):
                bar.set_description(f"{load.__name__}, {recurrent}, {start}, seed {seed}")
                results.append({"data": load.__name__, **run(parts, recurrent, start, seed)})
                bar.update()
bar.close()
transfer.write_text(options.output / "results.json", json.dumps(results, indent=2))

# %% The table: test accuracy and F1 of the second class, mean and standard deviation over the seeds
print("\n| data | layer | word vectors | validation after 1 epoch | test accuracy | test F1 | seconds |\n"
      "| --- | --- | --- | ---: | ---: | ---: | ---: |")
for first in results[::seeds]:
    rows = [row for row in results if all(row[key] == first[key] for key in ("data", "recurrent", "start"))]
    cells = [f"{mean(row['validation'][0] for row in rows):.2%}"]
    for key in ("accuracy", "f1"):
        values = [row[key] for row in rows]
        cells.append(f"{mean(values):.2%}" + (f" ± {stdev(values):.2%}" if len(values) > 1 else ""))
    print(f"| {first['data']} | {first['recurrent'].upper()} | {first['start']} | {' | '.join(cells)} | "
          f"{mean(row['seconds'] for row in rows):.0f} |")

# %% The picture: accuracy on the validation part after each epoch
figure = Figure(figsize=(9, 3.5), layout="constrained")
for axes, name in zip(figure.subplots(1, 2), ("rt_polarity", "sms_spam")):
    for recurrent, colour in (("lstm", "tab:blue"), ("gru", "tab:orange")):
        for start, style in (("random", ":"), ("word2vec", "-")):
            curves = [row["validation"] for row in results
                      if (row["data"], row["recurrent"], row["start"]) == (name, recurrent, start)]
            axes.plot(range(1, epochs + 1), np.mean(curves, axis=0), style, color=colour, marker=".",
                      label=f"{recurrent.upper()}, {start} vectors")
    axes.set(title=name, xlabel="epoch", ylabel="validation accuracy")
    axes.grid(alpha=0.3)
axes.legend()
figure.savefig(options.output / "curves.png")
