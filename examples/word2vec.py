"""word2vec on film reviews and text messages: a vector for each word, learnt from the words around it.

Skip-gram with negative sampling (Mikolov et al. 2013). No label is used, and only the training texts of the two data
sets, so that `text_lstm.py` may start from these vectors and be tested on the rest.
"""

# %%
import argparse
import json
import time
from pathlib import Path

import minidl
from minidl import optim, transfer
from minidl.data import SkipGrams, WordTokenizer, rt_polarity, sms_spam
from minidl.models import SkipGram, nearest

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="three passes through the tenth of the texts that is embedded")
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--dimension", type=int, default=100, help="numbers in a vector")
parser.add_argument("--window", type=int, default=5, help="how far apart two words of a pair may be")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output", type=Path, default=Path("runs/word2vec"))
options = parser.parse_args()
minidl.seed(options.seed)
options.output.mkdir(parents=True, exist_ok=True)

# %% Data: sentences as word ids; words that occur once are unknown, and 0000 stands for every number of four digits
reviews, messages = rt_polarity("train"), sms_spam("train")
if options.quick:
    reviews, messages = reviews.balanced(min(800, len(reviews))), messages.balanced(0.1 if messages.complete else 1.0)
print(reviews, messages, sep="\n")
texts = reviews.texts + messages.texts
tokenizer = WordTokenizer.train(texts, min_frequency=2, zero_digits=True)
pairs = SkipGrams(tokenizer.encode_batch(texts), len(tokenizer), 512 if options.quick else 4096, options.window,
                  ignore=(tokenizer.pad_id, tokenizer.unk_id))

# %% Training: a word shall go with the word near it, and not with five drawn from all texts
model = SkipGram(len(tokenizer), options.dimension)
optimizer = optim.Adam(model.parameters(), lr=5e-3)
started = time.perf_counter()
for epoch in range(3 if options.quick else options.epochs):
    losses = []
    for center, words in pairs:
        loss = model(center, words)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"pass {epoch + 1}: mean loss {sum(losses) / len(losses):.3f}, {len(losses)} steps, "
          f"{time.perf_counter() - started:.0f} s")
seconds = time.perf_counter() - started

# %% The nearest words by angle, among the 3,000 most frequent (the vocabulary is in the order of frequency)
vectors = model.center_vectors.weight.numpy()
words = tokenizer.vocabulary.tokens[:3000]
for word in ("funny", "bad", "movie", "script", "actor", "comedy", "free", "call", "love", "tomorrow"):
    if word in words:
        found = nearest(vectors[: len(words)], words.index(word), 6)
        print(f"{word:>9}: " + ", ".join(f"{words[row]} {cosine:.2f}" for row, cosine in found))

# %% Kept: the vectors, and beside them the tokeniser whose ids are their rows
vectors[[tokenizer.pad_id, tokenizer.unk_id]] = 0
facts = {"dimension": options.dimension, "window": options.window, "seed": options.seed, "texts": len(texts)}
transfer.save_tensors({"embedding.weight": vectors}, options.output / "vectors.safetensors",
                      {"word2vec": json.dumps(facts)})
tokenizer.save(options.output / "words.json")
print(f"{len(tokenizer):,} vectors of {options.dimension} numbers from {len(texts):,} texts in {seconds:.0f} s, seed "
      f"{options.seed}: {options.output / 'vectors.safetensors'}")
