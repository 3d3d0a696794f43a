"""The workload of a generation as a Spark keeps it: argv of ``docker create``."""

from __future__ import annotations

from itertools import pairwise

from sparkfleet.contract.generation import LABEL_GENERATION, Generation
from sparkfleet.runtimes.base import BindMount, Limits, Workload, is_cdi_name


def workload_of(generation: Generation) -> Workload:
    """Return what the recorded ``docker create`` of a generation runs."""
    create = generation.definition
    end = create.index(generation.image) if generation.image in create else len(create)
    options = list(pairwise(create[:end]))

    def values(option: str) -> tuple[str, ...]:
        return tuple(value for name, value in options if name == option)

    return Workload(
        service=generation.service,
        generation=generation.id,
        argv=create[end + 1 :],
        environment=_pairs(values("--env")),
        mounts=tuple(_mount(text) for text in values("--mount")),
        devices=tuple(one.partition(":")[0] for one in values("--device") if not is_cdi_name(one)),
        gpus="".join(values("--gpus")[:1]),
        limits=Limits("".join(values("--memory")[:1]), _pairs(values("--ulimit"))),
        ports=(generation.port,),
        image=generation.image,
        definition=("--label", f"{LABEL_GENERATION}={generation.id}", *create),
        identity=(generation.image, *create),
    )


def _pairs(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    split = (text.partition("=") for text in texts)
    return tuple((name, value) for name, _, value in split)


def _mount(text: str) -> BindMount:
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    return BindMount(fields.get("source", ""), fields.get("target", ""), "readonly" in fields)
