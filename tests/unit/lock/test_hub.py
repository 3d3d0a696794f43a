"""Pinning models against a hub that answers, refuses, lies, hangs."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.lock import hub as hub_module
from sparkfleet.lock.errors import HubError
from sparkfleet.lock.hub import Hub
from sparkfleet_lab.standins import hub as standin
from sparkfleet_lab.standins import tiny_gguf

FIRST, SECOND = "1" * 40, "2" * 40
REPO = "org/model"
CONFIG = {"architectures": ["X"], "num_hidden_layers": 4, "vision_config": {"a": 1}, "auto_map": {"b": "c"}}


@pytest.fixture
def served(tmp_path: Path) -> Any:
    """A hub with one repository of two commits, one gated, one without weights."""
    files = {
        "config.json": json.dumps(CONFIG),
        "hf_quant_config.json": json.dumps(
            {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["a"]}}
        ),
        "model-00001-of-00002.safetensors": "x" * 100,
        "model-00002-of-00002.safetensors": "y" * 50,
        "consolidated.safetensors": "z" * 150,
        "original/model.safetensors": "o",
        "pytorch_model.bin": "b",
        "README.md": "r",
        "LICENSE": "l",
        "tokenizer.json": "{}",
        "chat_template.jinja": "{{ x }}",
        "nano_parser.py": "pass",
        ".gitattributes": "g",
        "assistant/model.safetensors": "draft",
    }
    write(tmp_path, REPO, FIRST, files)
    write(tmp_path, REPO, SECOND, {**files, "config.json": json.dumps({**CONFIG, "num_hidden_layers": 5})})
    meta(tmp_path, REPO, {"main": SECOND, "v1": FIRST})
    write(tmp_path, "org/gated", FIRST, files)
    meta(tmp_path, "org/gated", {"main": FIRST}, gated="manual")
    write(tmp_path, "org/gguf", FIRST, {"model.gguf": "g", "config.json": "{}"})
    meta(tmp_path, "org/gguf", {"main": FIRST})
    write(tmp_path, "org/tiny-GGUF", FIRST, {"README.md": "r"})
    (tmp_path / "org/tiny-GGUF" / FIRST / "tiny.gguf").write_bytes(tiny_gguf.file("Q4_K_M"))
    meta(tmp_path, "org/tiny-GGUF", {"main": FIRST})
    (tmp_path / "tokens.json").write_text(
        json.dumps(
            {"hf_yes": {"name": "a", "accepted": ["org/gated"]}, "hf_no": {"name": "b", "accepted": []}}
        )
    )
    server = standin.Hub(("127.0.0.1", 0), tmp_path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def write(root: Path, repo: str, commit: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / repo / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def meta(root: Path, repo: str, refs: dict[str, str], gated: str | bool = False) -> None:
    (root / repo / "meta.json").write_text(json.dumps({"refs": refs, "gated": gated}))


def test_the_dimensions_of_a_gguf_model_are_those_of_the_files_header(served: standin.Hub) -> None:
    locked = Hub(served.endpoint).resolve("org/tiny-GGUF", "", "llamacpp", "*.gguf")
    config = dict(locked.weights.config)
    assert (config["num_hidden_layers"], config["max_position_embeddings"]) == (1, tiny_gguf.CONTEXT)
    described = Hub(served.endpoint).resolve("org/gguf", "", "llamacpp", "*.gguf")
    assert described.weights.config == ()


def resolve(served: standin.Hub, repo: str = REPO, revision: str = "", token: str = "") -> Any:
    return Hub(served.endpoint, token).resolve(repo, revision)


def refusal(served: standin.Hub, repo: str = REPO, revision: str = "", token: str = "") -> HubError:
    with pytest.raises(HubError) as error:
        resolve(served, repo, revision, token)
    assert error.value.diagnostic.hint
    return error.value


def test_a_repository_becomes_its_commit(served: standin.Hub) -> None:
    assert resolve(served).weights.revision == SECOND


@pytest.mark.parametrize("revision", ["v1", FIRST])
def test_a_branch_tag_or_commit_becomes_the_commit_that_it_means(served: standin.Hub, revision: Any) -> None:
    locked = resolve(served, revision=revision)
    assert locked.weights.revision == FIRST
    assert locked.requested == revision


def test_only_what_an_engine_loads_is_kept_and_weights_once(served: standin.Hub) -> None:
    assert [file.path for file in resolve(served).weights.files] == [
        "assistant/model.safetensors",
        "chat_template.jinja",
        "config.json",
        "hf_quant_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "nano_parser.py",
        "tokenizer.json",
    ]


def test_files_have_size_and_the_names_that_a_cache_gives_them(served: standin.Hub) -> None:
    files = {file.path: file for file in resolve(served).weights.files}
    weights = files["model-00001-of-00002.safetensors"]
    assert weights.size == 100
    assert weights.sha256 == weights.blob == hashlib.sha256(b"x" * 100).hexdigest()
    parser = files["nano_parser.py"]
    assert parser.sha256 == ""
    assert parser.blob == hashlib.sha1(b"blob 4\0pass").hexdigest()


def test_the_values_of_the_config_are_kept_without_unused_ones(served: standin.Hub) -> None:
    assert dict(resolve(served).weights.config) == {
        "architectures": ["X"],
        "num_hidden_layers": 5,
        "hf_quant_config": {"quant_algo": "NVFP4"},
    }


def test_params_json_stands_in_for_a_missing_config(served: standin.Hub, tmp_path: Path) -> None:
    write(
        tmp_path, "org/mistral", FIRST, {"params.json": '{"n_layers": 40}', "consolidated.safetensors": "c"}
    )
    meta(tmp_path, "org/mistral", {"main": FIRST})
    locked = resolve(served, "org/mistral")
    assert dict(locked.weights.config) == {"n_layers": 40}
    assert [file.path for file in locked.weights.files] == ["consolidated.safetensors", "params.json"]


def test_weights_of_an_older_format_are_taken_where_there_are_no_others(
    served: standin.Hub, tmp_path: Path
) -> None:
    write(tmp_path, "org/old", FIRST, {"pytorch_model.bin": "b", "config.json": "{}", "original/x.pth": "p"})
    meta(tmp_path, "org/old", {"main": FIRST})
    files = [file.path for file in resolve(served, "org/old").weights.files]
    assert files == ["config.json", "pytorch_model.bin"]


def test_a_repository_without_weights_is_refused(served: standin.Hub) -> None:
    assert "has no weights that vLLM loads" in refusal(served, "org/gguf").diagnostic.message


def test_a_repository_that_is_not_there_says_so(served: standin.Hub) -> None:
    assert "org/none does not exist on" in refusal(served, "org/none").diagnostic.message


def test_a_name_that_is_none_says_so(served: standin.Hub) -> None:
    assert "not a valid repository name" in refusal(served, "a/b/c").diagnostic.message


def test_a_revision_that_is_not_there_says_so(served: standin.Hub) -> None:
    assert refusal(served, revision="v9").diagnostic.message == f"{REPO} has no revision 'v9'"


def test_a_gated_repository_without_a_token_says_where_to_accept(served: standin.Hub) -> None:
    error = refusal(served, "org/gated")
    assert error.diagnostic.message == "org/gated is gated, and there is no token"
    assert f"{served.endpoint}/org/gated" in error.diagnostic.hint
    assert "hf_token" in error.diagnostic.hint


def test_a_gated_repository_whose_licence_was_not_accepted_says_so(served: standin.Hub) -> None:
    assert "has not accepted its licence" in refusal(served, "org/gated", token="hf_no").diagnostic.message


def test_a_gated_repository_is_pinned_with_the_right_token(served: standin.Hub) -> None:
    assert resolve(served, "org/gated", token="hf_yes").weights.gated


def test_a_wrong_token_is_named_and_never_shown(served: standin.Hub) -> None:
    error = refusal(served, token="hf_wrong")
    assert "does not know the token" in error.diagnostic.message
    assert f"{served.endpoint}/settings/tokens" in error.diagnostic.hint
    assert "hf_wrong" not in error.diagnostic.message + error.diagnostic.hint


def test_the_environments_token_is_not_used_unasked(
    served: standin.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert resolve(served).weights.revision == SECOND


def test_a_rate_limit_says_so(served: standin.Hub) -> None:
    served.faults.set([standin.Fault(status=429)])
    assert "rate limit of" in refusal(served).diagnostic.message


def test_a_failing_hub_says_so(served: standin.Hub) -> None:
    served.faults.set([standin.Fault(status=500)])
    assert "responded with HTTP 500" in refusal(served).diagnostic.message


def test_a_config_that_arrives_changed_is_refused(served: standin.Hub) -> None:
    served.faults.set([standin.Fault(path=r"config\.json", corrupt=True)])
    assert "does not match the hub's hash" in refusal(served).diagnostic.message


def test_a_hub_that_hangs_is_given_up(served: standin.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "TIMEOUT_S", 0.2)
    served.faults.set([standin.Fault(path="/resolve/", slow_bytes_per_s=10)])
    assert "no response from" in refusal(served).diagnostic.message


def test_a_hub_that_is_not_there_says_so() -> None:
    with pytest.raises(HubError, match="cannot be reached"):
        Hub("http://127.0.0.1:1").resolve(REPO, "")


def test_the_environments_hub_is_used_unless_another_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://there/")
    assert Hub().url == "http://there"
    assert Hub("http://here").url == "http://here"


def test_a_config_that_is_no_json_object_is_refused(served: standin.Hub, tmp_path: Path) -> None:
    write(tmp_path, "org/odd", FIRST, {"config.json": "[]", "model.safetensors": "m"})
    meta(tmp_path, "org/odd", {"main": FIRST})
    assert "Input should be an object" in refusal(served, "org/odd").diagnostic.message


def test_base_and_rank_of_a_lora_adapter_are_kept(served: standin.Hub, tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": "org/model", "r": 32, "target_modules": ["q"]}
    files = {"adapter_config.json": json.dumps(config), "adapter_model.safetensors": "a"}
    write(tmp_path, "org/lora", FIRST, files)
    meta(tmp_path, "org/lora", {"main": FIRST})
    locked = resolve(served, "org/lora")
    assert dict(locked.weights.config) == config
    assert [file.path for file in locked.weights.files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
