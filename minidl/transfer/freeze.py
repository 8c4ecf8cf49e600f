"""Freezing: what is frozen gets no gradient and does not change in any other way either.

A frozen module stays in evaluation mode whatever `model.train()` says, so BatchNorm keeps and uses its stored
statistics and dropout is off. Optimisers ask each parameter at every step whether it is trainable; so freezing and
unfreezing take effect at the next step, in the middle of training too.
"""

from __future__ import annotations

from collections.abc import Iterable

from minidl.nn.module import Module, Parameter
from minidl.transfer.ledger import ledger_of
from minidl.transfer.patterns import check_model, every_module, matching, nothing_matches


def freeze(model: Module, *patterns: str | Module | Parameter, batchnorm: str = "eval") -> Module:
    """Freeze the parts of `model` that the patterns name, all of it if there are none, and return it.

    A pattern is matched against the paths of modules ("features.*", "0") and the names of parameters ("*.bias"); a
    module or parameter itself may be given instead. A module that matches is frozen with everything below it: its
    parameters get no gradient, it and its children stay in evaluation mode. A parameter that matches is frozen;
    a module all of whose own parameters are frozen counts as frozen itself.

    batchnorm: "eval" keeps the statistics of frozen BatchNorm layers; with "train" they normalise by the batch and go
    on following the data, while their weight and bias stay frozen.

    The ledger (`transfer.ledger(model)`) hashes every tensor meanwhile; in a loop that freezes at every step,
    `requires_grad_(False)` on parameters costs nothing.
    Raises ValueError for a pattern that matches nothing, with the nearest names; then nothing is frozen.
    """
    if batchnorm not in ("eval", "train"):
        raise ValueError(f"freeze: batchnorm must be 'eval' or 'train', not {batchnorm!r}")
    modules, parameters = _select("freeze", model, patterns)
    frozen = {id(module): module for top in modules for module in top.modules()}
    for parameter in (*parameters, *(p for top in modules for p in top.parameters())):
        parameter.requires_grad = False
        parameter.grad = None
    chosen = {id(parameter) for parameter in parameters}
    for module in model.modules():
        own = [parameter for _, parameter in module._own(False)]
        if chosen.intersection(map(id, own)) and not any(parameter.requires_grad for parameter in own):
            frozen[id(module)] = module
    for module in frozen.values():
        module.frozen = not (batchnorm == "train" and _follows_statistics(module))
    ledger_of(model).note_state("freeze", _named(model, patterns, batchnorm))
    return model


def unfreeze(model: Module, *patterns: str | Module | Parameter) -> Module:
    """Make the parts of `model` that the patterns name trainable again (see `freeze`), and return it.

    They return to the mode that `train()` or `eval()` asked for last. No optimiser needs to be told.
    """
    modules, parameters = _select("unfreeze", model, patterns)
    for top in modules:
        for module in top.modules():
            module.frozen = False
    for parameter in (*parameters, *(p for top in modules for p in top.parameters())):
        parameter.requires_grad = True
    release_containers(model)
    ledger_of(model).note_state("unfreeze", _named(model, patterns))
    return model


def frozen(model: Module) -> int:
    """How many of the model's parameters (single numbers) are frozen."""
    check_model("frozen", model)
    return sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)


def trainable(model: Module) -> int:
    """How many of the model's parameters (single numbers) are trainable."""
    check_model("trainable", model)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def release_containers(model: Module) -> None:
    """Take the mark of freezing from modules in which something has become trainable."""
    for module in model.modules():
        if module.frozen and not _is_wholly_frozen(module):
            module.frozen = False


def _is_wholly_frozen(module: Module) -> bool:
    """Whether a module that was frozen still is: neither its own parameters nor a child came free."""
    own = [parameter for _, parameter in module._own(False)]
    if own:
        return not any(parameter.requires_grad for parameter in own)
    children = list(module.children())
    return not children or not any(parameter.requires_grad for parameter in module.parameters())


def _follows_statistics(module: Module) -> bool:
    return "running_mean" in module._buffer_names


def _named(model: Module, patterns: Iterable, batchnorm: str = "eval") -> str:
    """What was named, in words for the ledger."""
    paths = {id(value): name for name, value in (*every_module(model), *model._every_name())}
    words = [pattern if isinstance(pattern, str) else paths[id(pattern)] or "all" for pattern in patterns] or ["all"]
    return ", ".join(words) + ("; BatchNorm follows the data" if batchnorm == "train" else "")


def _select(verb: str, model: Module, patterns: Iterable) -> tuple[list[Module], list[Parameter]]:
    """The modules and the parameters that the patterns mean; raises before anything is changed."""
    all_modules, all_parameters = dict(every_module(model)), dict(model._every_name())
    modules: list[Module] = []
    parameters: list[Parameter] = []
    for pattern in patterns or (model,):
        if isinstance(pattern, Module):
            if not any(module is pattern for module in all_modules.values()):
                raise ValueError(f"{verb}: the {type(pattern).__name__} given is not part of this model")
            modules.append(pattern)
        elif isinstance(pattern, Parameter):
            if not any(parameter is pattern for parameter in all_parameters.values()):
                raise ValueError(f"{verb}: the parameter of shape {pattern.shape} given is not part of this model")
            parameters.append(pattern)
        elif isinstance(pattern, str):
            found = [all_modules[path] for path in matching(pattern, all_modules)]
            named = [all_parameters[name] for name in matching(pattern, all_parameters)]
            if not found and not named:
                raise ValueError(nothing_matches(pattern, [*all_modules, *all_parameters], verb))
            modules += found
            parameters += named
        else:
            raise TypeError(f"{verb}: give patterns, modules or parameters one by one, not a {type(pattern).__name__}"
                            + (f": {verb}(model, *patterns)" if isinstance(pattern, (list, tuple)) else ""))
    return modules, parameters
