"""Files of weights, read as data: what enters is a path from anywhere, what leaves is named tensors or one
``BadFile``.

Promised for every format (safetensors, GGUF, HDF5, PyTorch, npz): nothing in the file is executed; every
size that the file declares is held against the bytes that are there before anything is allocated for it; a
file that is truncated, damaged or hostile ends in a ``BadFile`` whose one sentence names the file, the
fault and the way out.
"""

from cutaway.networks.files.gguf_file import GgufHeader, validate_gguf
from cutaway.networks.files.reading import LIMIT_BYTES
from cutaway.networks.files.tensors import READERS, format_of, read_tensors

__all__ = ["LIMIT_BYTES", "READERS", "GgufHeader", "format_of", "read_tensors", "validate_gguf"]
