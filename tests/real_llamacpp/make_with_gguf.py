"""Write the lab's tiny model with the package gguf: ``python make_with_gguf.py FILE``."""

# mypy: ignore-errors
from __future__ import annotations

import sys

import numpy as np
from gguf import GGUFWriter

from sparkfleet_lab.standins import tiny_gguf


def main(path: str) -> None:
    writer = GGUFWriter(path, "llama")
    for key, kind, value in tiny_gguf.metadata("Q4_K_M", "tiny"):
        add = {
            tiny_gguf.STRING: writer.add_string,
            tiny_gguf.U32: writer.add_uint32,
            tiny_gguf.F32: writer.add_float32,
            tiny_gguf.BOOL: writer.add_bool,
        }.get(kind)
        if key == "general.architecture":
            continue
        if kind == tiny_gguf.ARRAY:
            writer.add_array(key, list(value[1]))
        else:
            add(key, value)
    for tensor in tiny_gguf.tensors(half=False):
        numbers = np.frombuffer(tensor.values, dtype="<f4").reshape(tensor.shape[::-1])
        writer.add_tensor(tensor.name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
