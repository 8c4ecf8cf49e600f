"""Write golden values for the subword tokenisers: what Hugging Face's BERT and GPT-2 tokenisers make of some texts.

    python tests/golden/make_tokenizers.py

Needs `transformers` (5.x was used). The vocabularies are small ones, trained here on sentences of the embedded data and
kept in the file beside the expected ids, so that the tests need neither this script nor `transformers`.
"""

import json
import tempfile
from pathlib import Path

from transformers import BertTokenizer, GPT2Tokenizer

from minidl.data import BPETokenizer, WordPieceTokenizer, rt_polarity

TEXTS = [
    "Hello, WORLD! Élan vital — naïve café", "the lord's   films\tare\n good…", "日本 x²", "[MASK] this [SEP] a", "",
    "a" * 120, "unfortunately the story and the actors are served with a hack script .", "It's 100% \"fun\" (really)!?",
]


def in_order(tokenizer):
    ids = tokenizer.backend.get_vocab()
    return sorted(ids, key=ids.get)


def main():
    sentences = rt_polarity("all").texts
    wordpiece = WordPieceTokenizer.train(sentences, vocab_size=700)
    bpe = BPETokenizer.train(sentences, vocab_size=600, specials=("<|endoftext|>",))
    model = json.loads(bpe.backend.to_str())["model"]
    merges = [" ".join(pair) for pair in model["merges"]]
    found = {"texts": TEXTS, "wordpiece": {"vocabulary": in_order(wordpiece)},
             "bpe": {"vocabulary": model["vocab"], "merges": merges}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "vocab.txt").write_text("\n".join(in_order(wordpiece)) + "\n", encoding="utf-8")
        for lower in (True, False):
            bert = BertTokenizer(str(folder / "vocab.txt"), do_lower_case=lower)
            found["wordpiece"]["lower" if lower else "cased"] = [list(bert(text)["input_ids"]) for text in TEXTS]
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
        gpt2 = GPT2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
        found["bpe"]["ids"] = [list(gpt2(text)["input_ids"]) for text in TEXTS]
    path = Path(__file__).with_name("tokenizers.json")
    path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    print(path, f"{path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
