"""The pickle inside a PyTorch file, interpreted as data: a small machine that builds values and can call
nothing.

``torch.load(weights_only=True)`` is not used, because its promise depends on the installed version (before
2.6 it could be made to run code, CVE-2025-32434) and, for the older file layout, it allocates whatever
storage sizes the pickle declares. This machine knows the opcodes of dictionaries, lists, numbers and
strings, and a closed set of names. A name outside the set ends the reading with a message that says what
the file wanted to run; nothing is ever imported.
"""

import mmap
import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

import torch

from cutaway.networks.files.reading import bad_file, is_shape

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip


@dataclass(frozen=True)
class StorageRef:
    """A flat run of numbers that lies elsewhere in the file."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor as the pickle describes it: a strided view of a storage, not yet read. ``offset`` in
    elements.
    """

    storage: StorageRef
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A permitted global; calling it is looked up in ``_CALLS``, never in Python's modules."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class _Mark:
    """The place on the stack where a tuple, list or dictionary begins."""


_MARK = _Mark()


def load_data(path: Path, source: BytesIO | mmap.mmap) -> Any:
    """The value of the pickle at the source's position, as dictionaries, lists, numbers and ``TensorRef``s.

    The source is left behind the pickle's last byte. Raises ``BadFile`` where the pickle asks to run code,
    and the parser's own errors where it is damaged (callers hold the net).
    """
    machine = _Machine(path)
    for opcode, argument, _ in pickletools.genops(cast(IO[bytes], source)):
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise ValueError("the pickle has no end")


class _Machine:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME"):
            do = "ask for a safetensors file; nothing was run"
            raise bad_file(self.path, f"uses the pickle instruction {opcode}, which no file of tensors needs", do)

    def since_mark(self) -> list[Any]:
        """Pop everything above the last mark, and the mark."""
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def tuple_of(self, size: int) -> None:
        items = [self.stack.pop() for _ in range(size)]
        self.stack.append(tuple(items[::-1]))

    def memoize(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def extend(self, items: Iterable[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise ValueError("the pickle appends to what is no list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise ValueError("the pickle sets items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in (str, int, float, bool, bytes, type(None)):
                raise ValueError(f"the pickle uses a {type(key).__name__} as a key")
            target[key] = value

    def find(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("the pickle looks up what is no name")
        if not _permitted(module, name):
            do = "nothing was run; ask for a safetensors file or a file with the state dict alone"
            raise bad_file(self.path, f"is a pickle that asks to run code ({module}.{name})", do)
        self.stack.append(_Name(module, name))

    def find_from_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.find(module, name)

    def call(self) -> None:
        arguments, callee = self.stack.pop(), self.stack.pop()
        function = _CALLS.get(str(callee)) if isinstance(callee, _Name) else None
        if function is None or type(arguments) is not tuple:
            wanted = str(callee) if isinstance(callee, _Name) else type(callee).__name__
            do = "nothing was run; ask for a safetensors file"
            raise bad_file(self.path, f"is a pickle that asks to run code ({wanted})", do)
        self.stack.append(function(*arguments))

    def build(self) -> None:
        """Attributes of a state dict (its ``_metadata``) are dropped; nothing else may carry any."""
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise ValueError("the pickle sets the state of what is no dictionary")

    def storage(self) -> None:
        kind, storage_type, key, _location, numel, *view = self.stack.pop()
        named = isinstance(storage_type, _Name) and storage_type.name in STORAGES
        if kind != "storage" or not named or type(key) is not str or not is_shape((numel,)) or any(view):
            raise ValueError("the pickle refers to a storage of an unknown kind")
        self.stack.append(StorageRef(key, STORAGES[storage_type.name], numel))


_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_LITERALS = _NUMBERS | _STRINGS | _TEXTS

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK, "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip

_ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "POP": lambda m, _: m.stack.pop(),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "LIST": lambda m, _: m.stack.append(m.since_mark()),
    "DICT": lambda m, _: (items := m.since_mark(), m.stack.append({}), m.set_items(items)),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "SETITEM": lambda m, _: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "PUT": lambda m, index: m.memoize(index),
    "BINPUT": lambda m, index: m.memoize(index),
    "LONG_BINPUT": lambda m, index: m.memoize(index),
    "MEMOIZE": lambda m, _: m.memoize(None),
    "GET": lambda m, index: m.stack.append(m.memo[index]),
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "GLOBAL": lambda m, names: m.find(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.find_from_stack(),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.storage(),
}


def _rebuild_v2(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    return _tensor_ref(storage, storage.dtype, offset, size, stride)


def _rebuild_v3(storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any) -> Any:
    kind = getattr(torch, dtype.name, None) if isinstance(dtype, _Name) else None
    if not isinstance(kind, torch.dtype):
        raise ValueError("the pickle gives a tensor an unknown type")
    return _tensor_ref(storage, kind, offset, size, stride)


def _tensor_ref(storage: Any, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> TensorRef:
    shaped = is_shape(size) and is_shape(stride) and is_shape((offset,)) and len(size) == len(stride)
    if not isinstance(storage, StorageRef) or not shaped:
        raise ValueError("the pickle describes an impossible tensor")
    return TensorRef(storage, dtype, offset, tuple(size), tuple(stride))


def _ordered_dict(*arguments: Any) -> dict[Any, Any]:
    """An ordered dictionary; pairs as an argument come from Python 2.

    The list of pairs is emptied, so that a hostile pickle cannot have the same long list copied again and
    again.
    """
    if not arguments:
        return {}
    found = {key: value for key, value in arguments[0] if type(key) in (str, int)}
    arguments[0].clear()
    return found


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _rebuild_v2,
    "torch._utils._rebuild_tensor_v2": _rebuild_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_v3,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch.Size": lambda *_: None,
    "torch.device": lambda *_: None,
}


def _permitted(module: Any, name: Any) -> bool:
    if f"{module}.{name}" in _CALLS:
        return True
    if module in ("torch", "torch.storage") and name in STORAGES:
        return True
    return module == "torch" and isinstance(getattr(torch, str(name), None), torch.dtype)
