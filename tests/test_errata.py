"""Every wrong program of `examples/errata/` is refused or warned of, in words that name the mistake and the cure."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("errata_gallery", ROOT / "examples" / "errata" / "__main__.py")
gallery = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gallery)

SAYS = {
    "A2_convolution_is_no_matrix_product": ("ShapeError", r"matmul: \(8, 1, 3, 3\) @ \(1, 28, 28\).*conv2d\(images"),
    "A2_distillation_index_clash": ("UserWarning", r"mse_loss: .*\(8, 10\).*\(8, 1\).*every pair.*the same shape"),
    "A2_rnn_without_its_state": ("ShapeError", r"RNN.*\(T, N, I\).*not \(8,\).*RNNCell"),
    "A2_update_by_hand": ("TypeError", r"parameter 'weight'.*nn\.Parameter.*copy_"),
    "L01_no_preprocessing": ("TrainingWarning", r"0 to 255.*trained on 0 to 1: give model\.preprocess\(images\)"),
    "L02_pooling_of_class_scores": ("ShapeError", r"\(2, 1000\).*class scores.*features\(model, path\) or headless"),
    "L02_trainable": ("UserWarning", r"trainable = False does nothing.*minidl\.freeze\(model"),
    "L03_pools_missing": ("ShapeError", r"^fc1 .*65536 features.*expects 4096: two 2x2 pools .*missing.*"
                                        r"maps \(64, 32, 32\), 4096 would be \(64, 8, 8\)"),
    "L03_view_into_the_batch": ("ShapeError", r"16 rows for each target.*view\(-1.*x\.flatten\(1\)"),
    "L04_zero_grad_forgotten": ("UserWarning", r"not cleared since the last step.*zero_grad\(\) before backward"),
    "L06_activation_argument": ("TypeError", r"^Conv2d has no argument 'activation'.*nn\.ReLU\(\).*in_channels"),
    "L06_conv2D": ("AttributeError", r"no attribute 'MaxPooling2d'; that is nn\.MaxPool2d"),
    "L06_kernel_size_twice": ("TypeError", r"'kernel_size' is given twice.*the order is \(in_channels, out_channels"),
    "L07_never_scaled": ("TrainingWarning", r"0 to 255.*images / 255"),
    "L07_no_channel_axis": ("ShapeError", r"\(64, 28, 28\).*without a channel axis give x\[:, None\]"),
    "L09_head_of_the_other_task": ("ShapeError", r"'3\.weight' has shape \(10, 5408\).*number of classes.*rehead"),
    "L11_binary_loss_for_ten_classes": ("ShapeError", r"\(32, 1600\), target \(32,\).*class labels.*cross_entropy"),
    "L12_backward_through_the_cut": ("RuntimeError", r"does not depend on anything.*no_grad"),
    "L12_dense_layer_on_maps": ("ShapeError", r"\(32, 64, 5, 5\).*not flattened: x\.flatten\(1\), or nn\.Flatten"),
    "L12_trainable_after_the_cut": ("UserWarning", r"trainable = True does nothing.*minidl\.unfreeze\(model"),
    "L14_get_layer": ("AttributeError", r"'get_layer'.*get_submodule.*minidl\.structure\(model\)"),
    "L14_get_submodule_by_number": ("TypeError", r"a dotted path.*got 0.*model\[0\]"),
    "L15_structure_is_not_knowledge": ("UntrainedWarning", r"never trained: 3\.weight.*train them first"),
    "L16_labels_that_are_one_hot": ("TypeError", r"one-hot: use target\.argmax\(1\)"),
    "L16_model_that_was_never_saved": ("FileNotFoundError", r"no such file.*written first.*minidl\.save"),
    "L17_softmax_before_the_loss": ("UserWarning", r"takes logits.*result of softmax already.*leave the softmax out"),
    "L17_undefined_sizes": ("TypeError", r"Linear: in_features must be an integer, not None"),
    "L19_test_set_as_validation_set": ("TrainingWarning", r"is the test set, 'mnist test'.*train\.split"),
    "W1_learning_rate_too_high": ("FloatingPointError", r"^epoch \d+, step 1: the loss is inf at learning rate 0\.1 .*"
                                                        r"mse_loss made inf.*a lower learning rate"),
}


def test_every_script_is_listed():
    assert [path.stem for path in gallery.SCRIPTS] == sorted(SAYS)


@pytest.fixture(autouse=True)
def embedded_data(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDL_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("path", gallery.SCRIPTS, ids=lambda path: path.stem)
def test_the_mistake_is_named(path):
    kind, words = SAYS[path.stem]
    said, message = gallery.said_of(path)
    assert said == kind
    assert re.search(words, message), message


def test_the_gallery_shows_every_script_with_its_cure():
    text = (ROOT / "docs" / "errata.md").read_text()
    for path in gallery.SCRIPTS:
        wrong, cure, _ = gallery.parts(path)
        assert f"(../examples/errata/{path.name}) | {wrong} | {SAYS[path.stem][0]}: " in text and f" | {cure} |" in text


def test_a_script_of_which_nothing_is_said_is_no_erratum(tmp_path):
    silent = tmp_path / "L00_silent.py"
    silent.write_text('"""Nothing."""\nimport minidl\nminidl.zeros(3)\n')
    with pytest.raises(AssertionError, match="L00_silent.py ran, and nothing was said"):
        gallery.said_of(silent)
