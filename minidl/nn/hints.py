"""What people who come from Keras, TensorFlow or PyTorch ask for, and what it is called here.

Only looked at when something is not found or not accepted, to say so in the message of the error.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from minidl.errors import did_you_mean

LAYERS = {
    "Activation": "nn.ReLU(), nn.Sigmoid(), nn.Softmax(dim=1) and so on, each a layer of its own",
    "Add": "x + y in forward()",
    "Average": "(x + y) / 2 in forward()",
    "BatchNormalization": "nn.BatchNorm2d(num_features) behind a convolution, nn.BatchNorm1d behind nn.Linear",
    "BinaryCrossentropy": "nn.BCEWithLogitsLoss()",
    "CategoricalCrossentropy": "nn.CrossEntropyLoss()",
    "Concatenate": "minidl.cat([x, y], dim=1) in forward()",
    "Dense": "nn.Linear(in_features, out_features)",
    "Huber": "nn.HuberLoss()",
    "Input": "nothing: a network takes the shape of what it is called with; the first layer names its input channels "
             "or features",
    "InputLayer": "nothing: the first layer names its input channels or features",
    "KLDivergence": "nn.KLDivLoss()",
    "Lambda": "code in forward() of a Module of your own",
    "LayerNormalization": "nn.LayerNorm(normalized_shape)",
    "LazyConv2d": "nn.Conv2d(in_channels, out_channels, kernel_size)",
    "LazyLinear": "nn.Linear(in_features, out_features)",
    "MeanAbsoluteError": "nn.L1Loss()",
    "MeanSquaredError": "nn.MSELoss()",
    "Model": "a class of your own, class Net(nn.Module) with __init__ and forward, or nn.Sequential",
    "Normalization": "minidl.data.transforms.Normalize on the data",
    "Rescaling": "x / 255 on the data, as minidl.data does for images",
    "Reshape": "nn.Unflatten(1, sizes)",
    "SimpleRNN": "nn.RNN(input_size, hidden_size)",
    "SparseCategoricalCrossentropy": "nn.CrossEntropyLoss()",
    "TimeDistributed": "the layer itself: nn.Linear works on the last axis",
    "ZeroPadding2D": "padding= of nn.Conv2d, or nn.functional.pad",
}
for _dims in ("1D", "2D"):
    _n = _dims[0]
    LAYERS |= {
        f"Conv{_dims}": f"nn.Conv{_n}d(in_channels, out_channels, kernel_size)",
        f"Conv{_dims}Transpose": f"nn.ConvTranspose{_n}d(in_channels, out_channels, kernel_size)",
        f"Convolution{_dims}": f"nn.Conv{_n}d(in_channels, out_channels, kernel_size)",
        f"DepthwiseConv{_dims}": f"nn.Conv{_n}d(channels, channels, kernel_size, groups=channels)",
        f"MaxPooling{_dims}": f"nn.MaxPool{_n}d(kernel_size)",
        f"MaxPool{_dims}": f"nn.MaxPool{_n}d(kernel_size)",
        f"AveragePooling{_dims}": f"nn.AvgPool{_n}d(kernel_size)",
        f"AvgPool{_dims}": f"nn.AvgPool{_n}d(kernel_size)",
        f"GlobalAveragePooling{_dims}": f"nn.AdaptiveAvgPool{_n}d(1) and nn.Flatten()",
        f"GlobalMaxPooling{_dims}": f"nn.AdaptiveMaxPool{_n}d(1) and nn.Flatten()",
        f"UpSampling{_dims}": "nn.Upsample(scale_factor)",
        f"SpatialDropout{_dims}": f"nn.Dropout{'2d' if _n == '2' else ''}(p)",
        f"MaxPooling{_n}d": f"nn.MaxPool{_n}d(kernel_size)",
        f"AveragePooling{_n}d": f"nn.AvgPool{_n}d(kernel_size)",
    }

METHODS = {
    "add": "nn.Sequential(first, second, …), or append(module)",
    "add_metric": "Trainer(model, loss, optimizer, metrics=[…])",
    "compile": "minidl.train.Trainer(model, loss, optimizer, metrics)",
    "count_params": "sum(p.numel() for p in model.parameters()), or model.summary()",
    "evaluate": "minidl.train.Trainer(model, loss).evaluate(data)",
    "fit": "minidl.train.Trainer(model, loss, optimizer).fit(data)",
    "from_config": "minidl.transfer.build(structure)",
    "get_config": "minidl.structure(model) for the whole network, config() for one layer",
    "get_layer": "get_submodule('path') by dotted path, or model[0] in a Sequential; the architecture is "
                 "minidl.structure(model)",
    "get_weights": "state_dict()",
    "input_shape": "model.summary((N, C, H, W)), which needs the shape of the input",
    "layers": "children(), or named_modules() with their paths",
    "load_weights": "minidl.load(path, model)",
    "output": "minidl.transfer.features(model, 'path') for what a layer gives, headless(model) for the features under "
              "the head",
    "output_shape": "model.summary((N, C, H, W)), which needs the shape of the input",
    "pop": "minidl.transfer.headless(model), which leaves the head out",
    "predict": "minidl.train.Trainer(model, loss).predict(data), or model(x) under no_grad()",
    "save": "minidl.save(model, path)",
    "save_weights": "minidl.save(model, path)",
    "set_weights": "load_state_dict(state)",
    "to_json": "json.dumps(minidl.structure(model))",
    "trainable_variables": "parameters()",
    "trainable_weights": "parameters()",
    "weights": "parameters(), or state_dict()",
}

ARGUMENTS = {
    "alpha": "it is called negative_slope",
    "activation": "an activation is a layer of its own, such as nn.ReLU()",
    "batch_input_shape": "there is no input_shape: the first argument says how many channels or features come in",
    "data_format": "images are (N, C, H, W)",
    "dilation_rate": "it is called dilation",
    "filters": "the numbers of channels are in_channels and out_channels",
    "input_dim": "the first argument says how many features come in",
    "input_shape": "there is no input_shape: the first argument says how many channels or features come in",
    "kernel_initializer": "see minidl.nn.init",
    "kernel_regularizer": "weight_decay is an option of the optimiser",
    "learning_rate": "it is called lr",
    "name": "a module is called what the attribute is called that holds it",
    "pool_size": "it is called kernel_size",
    "rate": "it is called p",
    "return_sequences": "recurrent layers return all steps and the last state: (output, hidden)",
    "strides": "it is called stride",
    "units": "the numbers are in_features and out_features, or hidden_size",
    "use_bias": "it is called bias",
}


NO_TENSOR = ("inplace", "dim", "p", "alpha", "negative_slope", "kernel_size", "output_size", "start_dim", "approximate",
             "beta", "reduction", "in_features", "num_parameters", "num_features", "size")


def missing_layer(room: str, name: str, known: Iterable[str]) -> AttributeError:
    """The error for a name that `minidl.nn`, its `functional` or `minidl.optim` do not have."""
    known = sorted(n for n in known if not n.startswith("_"))
    if name in LAYERS and not name.startswith("__"):
        hint = f"; that is {LAYERS[name]}"
    else:
        alike = [n for n in known if n.lower() == name.lower()]
        hint = f"; did you mean '{alike[0]}'?" if alike else did_you_mean(name, known)
    return AttributeError(f"module '{room}' has no attribute '{name}'{hint}")


def missing_attribute(owner: Any, name: str) -> AttributeError:
    """The error for an attribute that a module does not have."""
    if name in METHODS:
        hint = f", which is Keras' word; use {METHODS[name]}"
    else:
        hint = did_you_mean(name, [n for n in dir(owner) if not n.startswith("_")])
    return AttributeError(f"{type(owner).__name__} has no attribute '{name}'{hint}")


def check_arguments(cls: type, args: tuple, options: dict[str, Any]) -> None:
    """Raise TypeError with the layer's public name for arguments that its constructor does not take."""
    if cls.__init__ is object.__init__ and (args or options):  # type: ignore[misc]
        called = "" if args and not hasattr(args[0], "grad_fn") else f"; it is called when made: {cls.__name__}()(x)"
        raise TypeError(f"{cls.__name__} takes no arguments, got {len(args) + len(options)}{called}")
    code = getattr(cls.__init__, "__code__", None)  # type: ignore[misc]
    if code is None or code.co_flags & 12:  # *args or **options
        return
    names = code.co_varnames[1:code.co_argcount + code.co_kwonlyargcount]
    positional = names[:code.co_argcount - 1]
    takes = ", ".join(name for name in names if name not in ("device", "dtype", "generator"))
    for name in options:
        if name not in names:
            hint = f": {ARGUMENTS[name]}" if name in ARGUMENTS else did_you_mean(name, names)
            hint += "" if hint.endswith("?") else ";"
            raise TypeError(f"{cls.__name__} has no argument '{name}'{hint} it takes ({takes})")
    if args and hasattr(args[0], "grad_fn") and names and names[0] in NO_TENSOR:
        raise TypeError(f"{cls.__name__} is a layer, to be made before it is called: {cls.__name__}(…)(x), or the "
                        "function of that name in nn.functional")
    given_twice = [name for name in positional[:len(args)] if name in options]
    if given_twice:
        place = positional.index(given_twice[0])
        raise TypeError(f"{cls.__name__}: '{given_twice[0]}' is given twice, by position ({args[place]!r}) and by name "
                        f"({options[given_twice[0]]!r}); the order is ({takes})")
    if len(args) > len(positional):
        raise TypeError(f"{cls.__name__} takes at most {len(positional)} arguments ({takes}), got {len(args)}")


def warn_of_trainable(owner: Any, value: Any) -> None:
    """Setting Keras' switch on a layer of minidl does nothing: say what does."""
    cure = ("minidl.unfreeze(model, 'path.*') or layer.requires_grad_(True)" if value else
            "minidl.freeze(model, 'path.*') or layer.requires_grad_(False)")
    warnings.warn(f"{type(owner).__name__}.trainable = {value!r} does nothing, it is Keras' word: use {cure}",
                  stacklevel=3)
