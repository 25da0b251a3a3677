"""The half of the HDF5 reader that runs in a process of its own: HDF5 in, safetensors out.

The HDF5 library is C code with a history of crashes on hostile files, so the parent lets it run here, with
bounds on memory and time, and treats a crash as an answer. Run by path, isolated (``python -I``): it
imports neither cutaway nor torch. It follows no link out of the file, loads no filter plug-ins, and reads
only arrays of numbers.

    python -I hdf5_child.py SOURCE TARGET MOST_BYTES      exit 0 done, 3 refused (one line on stderr)
"""

import os
import sys

MOST_DATASETS = 100_000
MOST_DEPTH = 64
REFUSED = 3
NO_MODULE = 4


class Refused(Exception):
    """The file asks for something that is not done; the message ends the sentence 'The file ...'."""


def bound_resources(most_bytes: int) -> None:
    """Let the operating system enforce what hostile sizes could break, where it can."""
    try:
        import resource
    except ImportError:  # not on this system; the parent's timeout remains
        return
    memory = 2 * most_bytes + 2**31  # the arrays, their copy in the output, and the interpreter
    for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, 600), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        bounded = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bounded, hard))


def numeric_datasets(group, prefix="", depth=0):
    """All datasets of numbers below a group, with their paths; hard links only."""
    import h5py

    if depth > MOST_DEPTH:
        raise Refused("nests its groups in a circle or deeper than weights do")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise Refused(f"links out of itself at {prefix + name!r}")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from numeric_datasets(item, f"{prefix}{name}/", depth + 1)
        elif isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf" and item.shape is not None:
            if item.is_virtual or item.external:
                raise Refused(f"takes the numbers of {prefix + name!r} from another file")
            yield prefix + name, item


def read_arrays(source: str, most_bytes: int) -> dict:
    """The arrays of an HDF5 file by path, their declared sizes checked before the first is read."""
    import h5py
    import numpy as np

    with h5py.File(source, "r") as file:
        datasets: dict[str, h5py.Dataset] = {}
        needed = 0
        for name, dataset in numeric_datasets(file):
            datasets[name] = dataset
            needed += int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
            if len(datasets) > MOST_DATASETS:
                raise Refused("holds more arrays than weights do")
            if needed > most_bytes:
                raise Refused(f"declares {needed} bytes of numbers, more than the limit or its own size allows")
        return {name: np.ascontiguousarray(dataset[()]) for name, dataset in datasets.items()}


def main(source: str, target: str, most_bytes: str) -> int:
    """Convert one file; the exit code."""
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # no filter plug-ins: they are shared libraries
    bound_resources(int(most_bytes))
    try:
        import h5py  # noqa: F401
        from safetensors.numpy import save_file
    except ImportError as error:
        sys.stderr.write(str(error))
        return NO_MODULE
    try:
        arrays = read_arrays(source, int(most_bytes))
        native = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}
        save_file(native, target)
    except Refused as error:
        sys.stderr.write(str(error))
        return REFUSED
    except Exception as error:
        sys.stderr.write("cannot be read as HDF5 (" + " ".join(str(error).split())[:160] + ")")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
