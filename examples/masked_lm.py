"""A small BERT reads sentences without labels, guessing hidden words: does it need fewer labels then? (masked words)

Word pieces and weights are learnt here, from rt-polarity's own training sentences: a seventh of the pieces is hidden,
and guessed. Then 100, 500 or 5,000 labels fine-tune the network, beside one from scratch with the same labels and
steps. On so little text the two are level; bert_finetune.py shows what much text brings. Needs 'minidl[text,plot]'.
"""

# %%
import argparse
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import minidl
import minidl.nn.functional as F
from minidl import nn, optim, transfer
from minidl.data import BucketBatchSampler, DataLoader, SequenceDataset, WordPieceTokenizer, rt_polarity
from minidl.models import BertForMaskedLM, BertModel, SentenceEncoder
from minidl.tensor import Tensor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="few steps, one seed, 100 labels")
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--epochs", type=int, default=10, help="of pre-training")
parser.add_argument("--steps", type=int, default=300, help="of every fine-tuning")
options = parser.parse_args()
seeds, steps, budgets = (1, 20, (100,)) if options.quick else (options.seeds, options.steps, (100, 500, 5000))

output = Path("runs/masked_lm")
output.mkdir(parents=True, exist_ok=True)

# %% Sentences as pieces of words, learnt from the training sentences
sentences, test = rt_polarity("train"), rt_polarity("test")
tokenizer = WordPieceTokenizer.train(sentences.texts, vocab_size=2000)
MASK, FIRST = tokenizer.token_to_id("[MASK]"), 5  # five special pieces come first


def encoded(texts) -> SequenceDataset:
    return SequenceDataset(tokenizer.encode_batch(texts.texts, max_length=64), texts.labels, tokenizer.pad_id)


def new_bert() -> BertModel:
    return BertModel(len(tokenizer), 128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512,
                     max_position_embeddings=64, initializer_range=0.05, hidden_dropout_prob=0.0,
                     attention_probs_dropout_prob=0.0, add_pooling_layer=False)


def train(model: nn.Module, batches: list, loss_of, label: str) -> None:
    """A step for each batch: AdamW, warm-up for a tenth of the steps, then down to nothing."""
    n, warmup = len(batches), max(1, len(batches) // 10)
    optimizer = optim.AdamW(model.train().parameters(), lr=2e-3, weight_decay=0.01)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda i: min((i + 1) / warmup, (n - i) / (n - warmup + 1)))
    with tqdm(batches, desc=label, unit="step", leave=False, disable=None) as bar:
        for ids, _lengths, labels in bar:
            optimizer.zero_grad()
            loss = loss_of(model, ids.numpy(), labels)
            loss.backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def guessing(model: nn.Module, ids: np.ndarray, labels: Tensor) -> Tensor:
    """The loss of guessing pieces chosen at random: most are hidden, some exchanged, some left as they are."""
    draw = minidl.random.generator()
    chosen = (draw.random(ids.shape) < 0.15) & (ids >= FIRST)
    chosen[0, 1] = True  # one at least
    fate, others = draw.random(ids.shape), draw.integers(FIRST, len(tokenizer), ids.shape)
    shown = np.where(chosen & (fate < 0.8), MASK, np.where(chosen & (fate > 0.9), others, ids))
    return F.cross_entropy(model(shown, ids != tokenizer.pad_id, chosen), Tensor(ids[chosen]))


def batches_of(data: SequenceDataset, count: int) -> list:
    loader, batches = DataLoader(data, batch_sampler=BucketBatchSampler(data.lengths, 32)), []
    while len(batches) < count:
        batches += list(loader)
    return batches[:count]


# %% Pre-training once a seed, then every number of labels from both starts
unlabelled, test_ids, results = encoded(sentences), tokenizer.encode_batch(test.texts, max_length=64), []
for seed in range(seeds):
    minidl.seed(seed)
    started, pretrained = time.perf_counter(), BertForMaskedLM(new_bert())
    count = 20 if options.quick else options.epochs * len(unlabelled) // 32
    train(pretrained, batches_of(unlabelled, count), guessing, f"seed {seed}, guessing words")
    print(f"seed {seed}: pre-trained in {time.perf_counter() - started:.0f} s")
    transfer.save_tensors(pretrained.bert.state_dict(), output / f"bert-{seed}.safetensors")
    for labels in budgets:
        few, row = encoded(sentences.balanced(labels, np.random.default_rng(seed))), {"labels": labels}
        for start in ("scratch", "pre-trained"):
            minidl.seed(100 + seed)
            bert = new_bert()
            if start == "pre-trained":
                bert.load_state_dict(transfer.load_tensors(output / f"bert-{seed}.safetensors"))
            model = nn.Sequential(SentenceEncoder(bert), nn.Linear(128, 2))
            train(model, batches_of(few, steps),
                  lambda model, ids, labels: F.cross_entropy(model(ids), labels), f"{labels:,} labels, {start}")
            scores = model[1](Tensor(model[0].embed(test_ids))).numpy()
            row[start] = (scores.argmax(axis=1) == test.labels).mean()
        results.append(row)

# %% The table and the picture: mean and standard deviation over the seeds
print(f"\n{len(test):,} test sentences, {steps} steps each, mean and standard deviation of {seeds} seeds\n")
print("| labels | from scratch | pre-trained on hidden words | difference in points |\n| ---: | ---: | ---: | ---: |")
table = {start: np.array([[row[start] for row in results if row["labels"] == labels] for labels in budgets])
         for start in ("scratch", "pre-trained")}  # budgets, seeds
for labels, scratch, better in zip(budgets, *table.values()):
    print(f"| {labels:,} | {scratch.mean():.2%} ± {scratch.std(ddof=seeds > 1):.2%} | {better.mean():.2%} ± "
          f"{better.std(ddof=seeds > 1):.2%} | {100 * (better - scratch).mean():+.2f} |")
axes = (figure := Figure(layout="constrained")).subplots()
for start, values in table.items():
    axes.errorbar(budgets, values.mean(axis=1), values.std(axis=1), marker="o", capsize=3, label=start)
axes.set(xscale="log", xlabel="labels", ylabel="test accuracy", title="Reviews told apart after guessing hidden words")
axes.legend()
figure.savefig(output / "accuracy.png", dpi=120)
