"""The frozen prefix: computed once a sample, and the training is the same as without it, to the last bit."""

import hashlib
import threading

import numpy as np
import pytest

import minidl
from minidl import kernels, nn, ops, optim
from minidl.data.loader import DataLoader, TensorDataset
from minidl.models import create_model
from minidl.models.bert import BertModel
from minidl.models.text import RecurrentClassifier
from minidl.tensor import Tensor, no_grad
from minidl.train import Callback, Trainer
from minidl.transfer import FrozenPrefix, freeze, frozen_prefix, rehead, unfreeze

COUNT, CLASSES = 22, 3
RNG = np.random.default_rng(5)
IMAGES = RNG.standard_normal((COUNT, 3, 8, 8)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, COUNT)


def plain():
    model = nn.Sequential({
        "body": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                              nn.Dropout(0.3), nn.Conv2d(4, 6, 3), nn.ReLU()),
        "head": nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(24, 8), nn.BatchNorm1d(8),
                              nn.Linear(8, CLASSES)),
    })
    freeze(model, "body")
    return model


class Skip(nn.Module):
    """Two values cross from the frozen part to the trained one, one of them used on both sides."""

    def __init__(self):
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.trained, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, CLASSES)
        freeze(self, "first", "second")

    def forward(self, x):
        early = ops.relu(self.first(x))
        late = self.second(early)
        return self.head((self.trained(late) + early * 2).mean((2, 3)))


class Tied(nn.Module):
    """The frozen layer and the trained one have the same weight, which is trained: nothing is frozen but the bias."""

    def __init__(self):
        self.body, self.first, self.second = nn.Linear(192, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, CLASSES)
        freeze(self, "body", "first.bias")

    def forward(self, x):
        return self.head(self.second(ops.tanh(self.first(ops.tanh(self.body(x.reshape(x.shape[0], -1)))))))


class Branching(nn.Module):
    """Looks at numbers, and does one thing or the other."""

    def __init__(self):
        self.a, self.b, self.head = nn.Linear(192, 6), nn.Linear(192, 6), nn.Linear(6, CLASSES)
        freeze(self, "a", "b")

    def forward(self, x):
        x = ops.flatten(x, 1)
        y = self.a(x)
        return self.head(ops.tanh(y) if float(y.array[0, 0]) > 0 else ops.relu(self.b(x)))


def moving():
    return freeze(plain(), "body", batchnorm="train")


def residual():
    model = create_model("resnet20", num_classes=CLASSES)
    return freeze(model, "conv1", "bn1", "layer1", "layer2")


class Sentence(nn.Module):
    def __init__(self):
        self.bert = BertModel(vocab_size=30, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                              intermediate_size=12, max_position_embeddings=9)
        self.head = nn.Linear(8, CLASSES)
        freeze(self, "bert")

    def forward(self, ids, mask):
        return self.head(self.bert(ids, mask).last_hidden_state[:, 0])


def words():
    return freeze(RecurrentClassifier(20, CLASSES, 6, 5), "embedding", "recurrent")


def sequences(padded):
    ids = RNG.integers(1, 20, (COUNT, 7))
    lengths = RNG.integers(1, 8, COUNT) if padded else np.full(COUNT, 7)
    ids[np.arange(7) >= lengths[:, None]] = 0
    return ids, lengths


IDS, LENGTHS = sequences(padded=True)
TEXTS = (IDS, (np.arange(7) < LENGTHS[:, None]).astype(np.int64), LABELS)
TEXTS_AND_LENGTHS = (IDS, LENGTHS, LABELS)
NETWORKS = {
    "plain": (plain, (IMAGES, LABELS)), "moving": (moving, (IMAGES, LABELS)),
    "skip": (Skip, (IMAGES, LABELS)), "tied": (Tied, (IMAGES, LABELS)),
    "branching": (Branching, (IMAGES, LABELS)), "residual": (residual, (IMAGES, LABELS)),
    "bert": (Sentence, TEXTS), "recurrent": (words, TEXTS_AND_LENGTHS),
}


def digest(model):
    return hashlib.sha256(b"".join(value.array.tobytes() for value in model.state_dict().values())).hexdigest()


def unseen(data):
    """Nine samples to validate with: others than those that are trained on."""
    inputs, *rest = (part[:9] for part in data)
    changed = np.where(inputs > 0, 20 - inputs, 0) if inputs.dtype.kind == "i" else inputs * np.float32(0.5)
    return changed, *rest


def trained(build, data, cache, epochs=4, optimizer=optim.Adam, loader=None, prepare=None, validation=True, fits=1,
            **options):
    """The trainer and all that two equal trainings have in common."""
    minidl.seed(3)
    model = build()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer(model.named_parameters(), lr=0.01),
                      frozen_cache=cache)
    if prepare:
        prepare(model, options)
    figures = []
    for _ in range(fits):
        history = trainer.fit(loader() if loader else data, unseen(data) if validation else None,
                              epochs, progress=False, **{"batch_size": 5} | ({} if loader else options))
        figures.append({name: history[name] for name in history if name != "seconds"})
    return trainer, (digest(model), figures)


def assert_same(build, data, cache="auto", served=True, **options):
    _, expected = trained(build, data, False, **options)
    trainer, found = trained(build, data, cache, **options)
    assert found == expected
    assert (trainer.prefix.served > 0) == served
    return trainer


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_the_same_to_the_last_bit_and_starts_behind_the_frozen_part(name):
    assert_same(*NETWORKS[name])


def test_word_vectors_alone_are_not_worth_keeping():
    trainer = assert_same(lambda: freeze(RecurrentClassifier(20, CLASSES, 6, 5), "embedding"), TEXTS_AND_LENGTHS,
                          served=False)
    assert not trainer.prefix.kept and not trainer.prefix.why_not


def test_nothing_is_kept_before_a_frozen_layer_that_comes_last():
    trainer = assert_same(lambda: freeze(nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.Linear(6, CLASSES)), "2"),
                          (IMAGES, LABELS), served=False)
    assert not trainer.prefix.kept and not trainer.prefix.samples


@pytest.mark.parametrize("options", [
    {"optimizer": optim.SGD, "accumulate": 3}, {"optimizer": optim.RMSprop, "shuffle": False, "clip_norm": 0.5},
    {"optimizer": optim.AdamW, "batch_size": 22}, {"batch_size": 20}, {"fits": 3, "epochs": 2},
], ids=str)
def test_it_is_the_same_in_every_kind_of_training(options):
    assert_same(plain, (IMAGES, LABELS), **options)


@pytest.mark.parametrize("size", [1, 21])
def test_it_is_the_same_where_a_batch_holds_one_sample(size):
    assert_same(Skip, (IMAGES, LABELS), batch_size=size)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_it_is_the_same_on_every_backend_and_number_of_threads(threads, backend):
    before = minidl.get_num_threads()
    try:
        minidl.set_num_threads(threads)
        with minidl.use_backend(backend):
            assert_same(plain, (IMAGES, LABELS))
    finally:
        minidl.set_num_threads(before)


@pytest.mark.parametrize("name, shape, options", [
    ("lenet5", (1, 28, 28), {}), ("alexnet", (3, 63, 63), {"hidden": 48}), ("vgg11_bn", (3, 32, 32), {"hidden": 48}),
    ("resnet18", (3, 32, 32), {}), ("inception_v3", (3, 75, 75), {"aux_logits": False}),
    ("mobilenet_v2", (3, 32, 32), {}), ("efficientnet_lite0", (3, 32, 32), {}),
])
def test_every_family_of_the_zoo_gives_the_same_outputs_for_batches_put_together_anew(name, shape, options):
    model = create_model(name, num_classes=CLASSES, **options)
    freeze(model)
    rehead(model, 4)
    model.train()
    prefix = FrozenPrefix(model)
    images = RNG.standard_normal((6, *shape)).astype(np.float32)
    for order in ((0, 1, 2), (3, 4, 5), (5, 2, 0), (4, 3, 1), (1, 5, 3), (0, 2, 4)):
        minidl.seed(1)
        expected = model(Tensor(images[list(order)])).array
        minidl.seed(1)
        np.testing.assert_array_equal(prefix(Tensor(images[list(order)])).array, expected)
    assert prefix.served == (3 if name != "inception_v3" else 1), str(prefix)  # the third one was compared


def test_the_frozen_part_is_computed_once_a_sample(monkeypatch):
    calls = []
    convolve = kernels.conv2d
    monkeypatch.setattr(kernels, "conv2d", lambda *args, **options: calls.append(1) or convolve(*args, **options))
    trained(plain, (IMAGES[:20], LABELS[:20]), "auto", epochs=5, shuffle=False, validation=False)
    assert len(calls) == 2 * 4  # two convolutions, four batches that come again as they were
    calls.clear()
    trained(plain, (IMAGES[:20], LABELS[:20]), "auto", epochs=5, validation=False)
    assert len(calls) == 2 * (4 + 1)  # and one that shows that batches may be put together anew


def test_the_trainer_says_once_what_is_kept(capsys):
    model = plain()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.named_parameters()))
    trainer.fit((IMAGES, LABELS), epochs=4)
    said = [line for line in capsys.readouterr().out.splitlines() if "frozen prefix" in line]
    assert said == [str(trainer.prefix)] == ["frozen prefix: 6 x 2 x 2 float32 after conv2d, kept for 22 samples, 0.0 "
                                             "MB in memory; trained from head.2 on"]
    unfreeze(model)
    trainer.fit((IMAGES, LABELS), epochs=2)
    said = [line for line in capsys.readouterr().out.splitlines() if "frozen prefix" in line]
    assert said == ["frozen prefix: dropped, because frozen weights changed or were unfrozen"]


class At(Callback):
    """Does something to the model at the end of an epoch, or of a batch."""

    def __init__(self, model, action, epoch=2, step=None):
        self.model, self.action, self.epoch, self.step, self.now = model, action, epoch, step, 0

    def on_epoch_begin(self, trainer, epoch):
        self.now = epoch

    def on_epoch_end(self, trainer, epoch, row):
        if self.step is None and epoch == self.epoch:
            self.action(self.model)

    def on_batch_end(self, trainer, step, loss):
        if step == self.step and self.now == self.epoch:
            self.action(self.model)


def one_bit(model):
    model.body[0].weight.array.reshape(-1).view(np.uint8)[17] ^= 1


def replaced(model):
    model.body[0].weight.data = model.body[0].weight.array * 2


def statistics(model):
    model.body[1].running_mean.array[1] += 1


@pytest.mark.parametrize("action", [one_bit, replaced, statistics, lambda model: unfreeze(model, "body.5"), unfreeze,
                                    lambda model: freeze(model, "head.2"),
                                    lambda model: freeze(model, "body", batchnorm="train")])
@pytest.mark.parametrize("step", [None, 2])
def test_changed_or_unfrozen_weights_take_effect_at_the_next_batch(action, step):
    def prepare(model, options):
        options["callbacks"] = [At(model, action, epoch=3, step=step)]

    trainer = assert_same(plain, (IMAGES, LABELS), prepare=prepare, epochs=6)
    if action is unfreeze:
        assert not trainer.prefix.kept and not trainer.prefix.nbytes


def test_what_was_made_with_weights_that_changed_is_dropped():
    model = plain()
    prefix = FrozenPrefix(model)
    prefix(Tensor(IMAGES))
    size = prefix.nbytes
    for action in (one_bit, replaced, statistics):
        action(model)
        prefix(Tensor(IMAGES[:11]))
        assert prefix.nbytes == size // 2, action
    unfreeze(model)
    prefix(Tensor(IMAGES))
    assert prefix.nbytes == prefix.budget.used_memory == 0


def test_inputs_that_are_augmented_are_noticed_in_the_second_epoch(capsys):
    class Noisy:
        def __init__(self):
            self.generator = np.random.default_rng(0)

        def __iter__(self):
            for start in range(0, 20, 5):
                batch = slice(start, start + 5)
                yield IMAGES[batch] + self.generator.random((5, 1, 1, 1), np.float32), LABELS[batch]

    trainer = assert_same(plain, (IMAGES, LABELS), served=False, loader=Noisy, validation=False, epochs=4)
    assert not trainer.prefix.nbytes
    trainer.fit(Noisy(), epochs=3)
    said = [line for line in capsys.readouterr().out.splitlines() if "augmented" in line]
    assert said == ["frozen prefix: not kept any more, the inputs do not come again (are they augmented?)"]


def test_runs_of_one_epoch_over_new_inputs_each_do_not_fill_the_memory_for_ever():
    trainer, _ = trained(plain, (IMAGES, LABELS), "auto", epochs=1, validation=False)
    for seed in range(4):
        trainer.fit((IMAGES + np.float32(seed + 1), LABELS), progress=False)
    assert not trainer.prefix.nbytes
    trainer.prefix.begin()
    assert trainer.fit((IMAGES, LABELS), epochs=3, progress=False) and not trainer.prefix.nbytes


class Mixed(nn.Module):
    """The frozen part sets each sample beside the others of its batch."""

    def __init__(self):
        self.body, self.head = nn.Linear(192, 6), nn.Linear(6, CLASSES)
        freeze(self, "body")

    def forward(self, x):
        y = self.body(ops.flatten(x, 1))
        return self.head(y - y.mean(0, keepdim=True))


def test_samples_that_mix_are_noticed_and_the_cache_steps_back():
    trainer = assert_same(Mixed, (IMAGES, LABELS))
    assert [kept.name for kept in trainer.prefix.kept.values()] == ["linear"]


class Seq(nn.Module):
    """The frozen part's result lies time first."""

    def __init__(self):
        self.body, self.lstm, self.head = nn.Linear(24, 6), nn.LSTM(6, 4), nn.Linear(4, CLASSES)
        freeze(self, "body")

    def forward(self, x):
        x = self.body(x.reshape(-1, 8, 24)).transpose(0, 1)
        return self.head(self.lstm(x)[0][-1])


def test_what_does_not_lie_by_samples_is_kept_in_the_step_before():
    trainer = assert_same(Seq, (IMAGES, LABELS))
    assert [kept.name for kept in trainer.prefix.kept.values()] == ["linear"]


class Writing(nn.Module):
    """Changes a value of the frozen part in place, from its tenth call on or from the first."""

    def __init__(self, late=False):
        self.late, self.calls = late, 0
        self.body, self.head = nn.Linear(192, 6), nn.Linear(6, CLASSES)
        freeze(self, "body")

    def forward(self, x):
        y = self.body(ops.flatten(x, 1))
        self.calls += 1
        z = y * 2
        if not self.late or self.calls > 17:
            y += 1
        return self.head(ops.tanh(y) + z)


@pytest.mark.parametrize("late", [False, True])
def test_a_network_that_changes_a_tensor_in_place_is_left_alone(late):
    trainer = assert_same(lambda: Writing(late), (IMAGES, LABELS), served=late)
    assert trainer.prefix.why_not == "the network changes a tensor in place"


class OwnNoise(nn.Module):
    """Random numbers for each sample, made by hand within the frozen part."""

    def __init__(self):
        self.body, self.more, self.head = nn.Linear(192, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)
        freeze(self, "body", "more")

    def forward(self, x):
        noise = minidl.random.generator().random((len(x), 6), np.float32)
        return self.head(self.more(self.body(ops.flatten(x, 1)) + Tensor(noise)))


class Attending(OwnNoise):
    def forward(self, x):
        y = self.body(ops.flatten(x, 1)).reshape(len(x), 3, 2)
        return self.head(self.more(ops.flatten(ops.scaled_dot_product_attention(y, y, y, None, dropout_p=0.5), 1)))


@pytest.mark.parametrize("network", [OwnNoise, Attending])  # what comes before the random numbers is kept
def test_random_numbers_in_the_frozen_part_are_part_of_what_a_value_depends_on(network):
    assert_same(network, (IMAGES, LABELS))


class Noise(nn.Module):
    """Random numbers in the frozen part: by dropout that was left on, and made by hand."""

    def __init__(self):
        self.body, self.more, self.head = nn.Linear(192, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)
        freeze(self, "body", "more")

    def forward(self, x):
        y = self.more(ops.dropout(self.body(ops.flatten(x, 1)), 0.5))
        return self.head(y + Tensor(minidl.random.generator().random(6, np.float32)))


def test_what_is_random_is_drawn_anew_each_time():
    trainer = assert_same(Noise, (IMAGES, LABELS))
    assert [kept.name for kept in trainer.prefix.kept.values()] == ["linear"]


def test_the_layout_of_what_is_kept_is_that_of_what_was_computed():
    model = nn.Sequential(nn.Linear(6, 6))
    freeze(model)
    head = nn.Parameter(np.ones((4, 5), np.float32))

    class Turned(nn.Module):
        def __init__(self):
            self.body, self.weight, self.seen = model, head, []

        def forward(self, x):
            y = self.body(x).transpose(1, 2)[:, ::-1]
            self.seen.append(y.array.strides)
            return y[:, 1] * self.weight[0]

    network = Turned()
    prefix = FrozenPrefix(network)
    x = RNG.standard_normal((4, 5, 6)).astype(np.float32)
    first, second = prefix(Tensor(x)), prefix(Tensor(x))
    np.testing.assert_array_equal(first.array, second.array)
    assert prefix.served == 1 and network.seen[0] == network.seen[1] == (120, -4, 24)


@pytest.mark.parametrize("cache, served", [(300, False), (24 * 4 * 16, True), (10**6, True)])
def test_it_keeps_no_more_than_it_may(cache, served):
    trainer = assert_same(plain, (IMAGES, LABELS), cache=cache, served=served)
    assert trainer.prefix.nbytes <= cache and trainer.prefix.budget.used_memory <= cache


def test_a_file_takes_what_memory_does_not_and_never_has_a_name(tmp_path):
    trainer = assert_same(plain, (IMAGES, LABELS), cache=tmp_path)
    prefix = trainer.prefix
    assert "in a temporary file" in str(prefix) and prefix.budget.used_disk >= prefix.nbytes > 0
    assert not list(tmp_path.iterdir())
    prefix.budget.disk = 0
    prefix.close()
    assert not prefix.nbytes and prefix.budget.file is None
    assert assert_same(plain, (IMAGES, LABELS), cache=tmp_path).prefix.nbytes


@pytest.mark.parametrize("cache, kind", [(0, ValueError), (-5, ValueError), ("/no/such/folder", ValueError),
                                         (True, TypeError), (1.5, TypeError)])
def test_a_budget_that_makes_no_sense_is_refused(cache, kind):
    with pytest.raises(kind, match="frozen_cache"):
        Trainer(plain(), nn.CrossEntropyLoss(), frozen_cache=cache)


def test_an_own_loop_calls_it_instead_of_the_model():
    model, expected = plain(), plain()
    expected.load_state_dict(model.state_dict())
    loader = DataLoader(TensorDataset(IMAGES, LABELS), 4)
    with frozen_prefix(model) as network:
        for call, net in ((network, model), (expected, expected)):
            optimizer = optim.SGD(net.named_parameters(), lr=0.1)
            minidl.seed(8)
            for _ in range(3):
                for images, labels in loader:
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(call(images), labels).backward()
                    optimizer.step()
        assert network.served == 2 * len(loader) and network.samples == COUNT
    assert digest(model) == digest(expected) and not network.nbytes


def test_values_that_are_deferred_answer_like_tensors():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    freeze(model)
    seen = []

    class Looking(nn.Module):
        def __init__(self):
            self.body = model
            self.head = nn.Linear(6, CLASSES)

        def forward(self, x):
            y = self.body(x)
            seen.append((y.shape, y.size(1), y.dim(), y.ndim, y.numel(), len(y), y.dtype, y.requires_grad, y.is_leaf))
            return self.head(y.detach())

    prefix = FrozenPrefix(Looking())
    for _ in range(2):
        output = prefix(Tensor(IMAGES))
    assert prefix.served == 1 and seen[0] == seen[1] == ((22, 6), 6, 2, 2, 132, 22, np.float32, False, True)
    assert output.requires_grad


def test_evaluation_of_a_wholly_frozen_network_keeps_its_output():
    model = plain()
    freeze(model)
    prefix = FrozenPrefix(model.eval())
    with no_grad():
        outputs = [prefix(Tensor(IMAGES)).array for _ in range(3)]
    np.testing.assert_array_equal(outputs[0], outputs[2])
    assert prefix.served == 2 and [kept.shape for kept in prefix.kept.values()] == [(CLASSES,)]


def test_another_thread_computes_as_ever():
    model, found = plain(), []
    inside, go_on = threading.Event(), threading.Event()

    class Waiting(nn.Module):
        def __init__(self):
            self.model = model

        def forward(self, x):
            inside.set()
            assert go_on.wait(20)
            return self.model(x)

    prefix = FrozenPrefix(Waiting())
    thread = threading.Thread(target=lambda: prefix(Tensor(IMAGES)))
    thread.start()
    assert inside.wait(20)
    found = model.body(Tensor(IMAGES))
    go_on.set()
    thread.join()
    assert type(found) is Tensor and prefix.samples == COUNT


def test_an_error_in_the_network_leaves_nothing_switched_on():
    model = plain()
    prefix = FrozenPrefix(model)
    with pytest.raises(minidl.ShapeError):
        prefix(Tensor(IMAGES[:, :2]))
    assert type(model.body(Tensor(IMAGES))) is Tensor
    np.testing.assert_array_equal(prefix(Tensor(IMAGES)).shape, (COUNT, CLASSES))
