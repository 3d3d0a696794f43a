"""What a container runs: the engine's own arguments."""

from __future__ import annotations

from sparkfleet.probe.observed import ContainerSeen


def engine_words_seen(container: ContainerSeen) -> tuple[str, ...]:
    """Return the words after ``vllm serve`` of entrypoint and command together; all words where it is not
    said.
    """
    words = [*(container.config.get("Entrypoint") or ()), *(container.config.get("Cmd") or ())]
    for index, word in enumerate(words):
        if word == "serve" and index and words[index - 1].rsplit("/", 1)[-1] == "vllm":
            return tuple(words[index + 1 :])
    return tuple(words)
