import json

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm.check import check_env, check_flags
from sparkfleet.engines.vllm.schema import Flag, JsonClass, Schema, load, versions

NEW = load("0.33.0")


def found(line: str, version: str = "0.33.0", *, exact: bool = True) -> list[Diagnostic]:
    return list(check_flags(line.split(), load(version), exact))


def the_one(line: str, version: str = "0.33.0", *, exact: bool = True) -> Diagnostic:
    (finding,) = found(line, version, exact=exact)
    return finding


# What the documents that this project started from got wrong; each as they have it.


@pytest.mark.provokes("serve-repeated")
@pytest.mark.parametrize("line", ["vllm serve nvidia/X --port 8000", "serve nvidia/X"])
def test_vllm_serve_written_into_the_command_is_an_error(line: str) -> None:
    finding = the_one(line)
    assert (finding.severity, finding.code) == ("error", "serve-repeated")


@pytest.mark.parametrize("version", ["0.19.0", "0.24.0", "0.33.0"])
def test_a_flag_that_never_was_is_an_error_with_what_does_it_today(version: str) -> None:
    finding = the_one("m --speculative-disable-by-batch-size 32", version)
    assert (finding.severity, finding.code) == ("error", "unknown-flag")
    assert "in no release from 0.10.1.1" in finding.message
    assert "num_speculative_tokens_per_batch_size" in finding.hint


def test_an_environment_variable_that_never_was_has_no_effect() -> None:
    (finding,) = check_env(["VLLM_FP8_MOE_BACKEND"], NEW)
    assert (finding.severity, finding.code) == ("warning", "unknown-env")
    assert "--moe-backend" in finding.hint


@pytest.mark.parametrize(
    ("version", "known"), [("0.19.0", True), ("0.23.0", True), ("0.24.0", False), ("0.33.0", False)]
)
def test_an_environment_variable_is_known_until_the_release_that_dropped_it(
    version: str, known: bool
) -> None:
    findings = check_env(["VLLM_USE_FLASHINFER_MOE_FP4", "VLLM_FLASHINFER_MOE_BACKEND"], load(version))
    assert (findings == ()) is known


# Flags


@pytest.mark.provokes("bad-json", "model-not-first", "two-models")
@pytest.mark.parametrize(
    ("line", "version", "code", "text", "remedy"),
    [
        ("m --swap-space 4", "0.19.0", "unknown-flag", "up to 0.17.1", "V1 engine"),
        ("m --moe-backend marlin", "0.16.0", "unknown-flag", "from 0.17.1", "image with vLLM 0.17.1"),
        ("m --max-modl-len 1", "0.33.0", "unknown-flag", "no flag --max-modl-len", "--max-model-len"),
        ("m --zzz 1", "0.33.0", "unknown-flag", "--zzz", "remove it"),
        ("m --max-num-s 4", "0.33.0", "ambiguous", "--max-num-scheduled-tokens, --max-num-seqs", "in full"),
        ("m --enforce-eager=true", "0.33.0", "no-value-allowed", "--no-enforce-eager", "alone"),
        ("m --aggregate-engine-logging=1", "0.33.0", "no-value-allowed", "takes no value", "alone"),
        ("m --seed", "0.33.0", "missing-value", "needs a value", "add a value"),
        ("m --served-model-name", "0.33.0", "missing-value", "needs a value", ""),
        ("m --max-num-seqs four", "0.33.0", "bad-type", "'four' is not a whole number", ""),
        ("m --max-model-len 1.5K", "0.33.0", "bad-type", "'1.5K'", "64K"),
        ("m --gpu-memory-utilization x", "0.33.0", "bad-type", "is not a number", ""),
        ("m --kv-cache-dtype fp9", "0.30.0", "bad-choice", "'fp9'", "fp8"),
        ("m --kv-cache-dtype nvfp4", "0.19.0", "bad-choice", "(it is from 0.20.0)", "0.20.0 or later"),
        ("m --dtype qqq", "0.33.0", "bad-choice", "'qqq'", "one of auto, bfloat16"),
        ("m --max-lora-rank 3", "0.33.0", "bad-choice", "'3'", "one of 1, 8, 16"),
        ("m --speculative-config {", "0.33.0", "bad-json", "not JSON", "as a mapping"),
        ("m --speculative-config []", "0.33.0", "json-not-object", "not a list", "mapping"),
        ('m --speculative-config "x"', "0.33.0", "json-not-object", "not text", "mapping"),
        ("m --speculative-config true", "0.33.0", "json-not-object", "not true or false", "mapping"),
        ("m -cc 3", "0.33.0", "json-not-object", "not 3", "mapping"),
        ("m --tool-call-parser gemma5", "0.33.0", "not-registered", "no 'gemma5'", "gemma4"),
        ("m --tool-call-parser poolside_v1", "0.19.0", "not-registered", "from 0.21.0", "0.21.0 or later"),
        ("m --reasoning-parser GptOss", "0.33.0", "not-registered", "up to 0.10.1.1", "one of "),
        ("m --quantization modelopt_mixd", "0.33.0", "not-registered", "modelopt_mixd", "modelopt_mixed"),
        ("m --attention-backend TRITON_MLAA", "0.33.0", "not-registered", "TRITON_MLAA", "TRITON_MLA"),
        ("m --enable-auto-tool-choice", "0.33.0", "needs-other-flag", "needs --tool-call-parser", "recipe"),
        ("m --lora-modules a=b x", "0.33.0", "bad-json", "'x' is neither NAME=PATH", "name=path"),
        ("m --lora-modules []", "0.33.0", "bad-json", "'[]'", "name=path"),
        (
            "--served-model-name a --port 1 m",
            "0.33.0",
            "model-not-first",
            "its first argument",
            "model first",
        ),
        ("m --model other", "0.33.0", "two-models", "m and --model other", "remove --model"),
        ("m --model m", "0.33.0", "two-models", "m and --model m", "remove --model"),
        ("m stray", "0.33.0", "stray-words", "stray", "remove them"),
    ],
)
def test_what_the_engine_would_refuse_is_an_error(
    line: str, version: str, code: str, text: str, remedy: str
) -> None:
    finding = the_one(line, version)
    assert (finding.severity, finding.code) == ("error", code)
    assert text in finding.message
    assert remedy in finding.hint


@pytest.mark.provokes("stray-words")
def test_a_flag_and_its_value_in_one_word_are_distinguished() -> None:
    (finding,) = check_flags(["m", "--max-model-len auto"], NEW)
    assert finding.code == "stray-words"
    assert "two arguments" in finding.hint


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("m --tensor-parallel 2", "abbreviation", "short for --tensor-parallel-size"),
        ("m --port 1 --port 2", "duplicate", "set twice"),
        ("--port 1", "no-model", "would serve"),
        ('m -cc {"cudagraph_mode":"nix"}', "json-unknown-name", "'nix' is not a name"),
    ],
)
def test_what_is_not_what_it_seems_is_a_warning(line: str, code: str, text: str) -> None:
    finding = the_one(line)
    assert (finding.severity, finding.code) == ("warning", code)
    assert text in finding.message


@pytest.mark.provokes("not-built-in")
def test_a_value_that_only_a_plugin_can_know_is_a_warning() -> None:
    finding = the_one("m --tokenizer-mode mine")
    assert (finding.severity, finding.code) == ("warning", "not-built-in")
    assert "'mine'" in finding.message


@pytest.mark.provokes("deprecated")
def test_a_flag_that_vllm_calls_deprecated_is_worth_knowing() -> None:
    assert the_one("m --disable-cascade-attn").severity == "info"


@pytest.mark.parametrize(
    "line",
    [
        "org/model --max-model-len 65536 --max-num-seqs 4 --gpu-memory-utilization 0.85 --kv-cache-dtype fp8",
        "m --tool-call-parser qwen3_coder --enable-auto-tool-choice --reasoning-parser qwen3",
        "m --reasoning-parser nano_v3 --reasoning-parser-plugin /plugin.py",
        "m --tool-call-parser mine --tool-parser-plugin /p.py --no-enable-auto-tool-choice",
        'm --speculative-config {"method":"mtp","num_speculative_tokens":2,"moe_backend":"marlin"}',
        "m --port 1 --port 1",
        "m --middleware a --middleware b",
        "m --attention-backend triton_mla",
        "m --attention-backend auto",
        "m --quantization None",
        "--served-model-name a --model m",
        "--served-model-name a --model=m",
        'm --lora-modules a=b {"name":"c","path":"d"}',
        'm -cc {"cudagraph_mode":"full_and_piecewise","mode":3}',
        'm -cc {"mode":"3"}',
        "--model m",
        "m --moe-backend Flashinfer-Cutlass",
        "m --max-model-len auto --seed -1",
        'm --hf-overrides {"rope_parameters":{"rope_type":"yarn"}}',
    ],
)
def test_sound_lines_have_no_findings(line: str) -> None:
    assert found(line) == []


@pytest.mark.provokes("no-model")
def test_a_default_model_that_is_not_known_is_not_made_up() -> None:
    (finding,) = check_flags([], Schema("1", {"--port": Flag("--port")}))
    assert "its own default" in finding.message


@pytest.mark.provokes("missing-value")
def test_a_number_of_values_is_counted() -> None:
    known = Schema("1", {"--pair": Flag("--pair", nargs=2)})
    (finding,) = check_flags(["m", "--pair", "a"], known)
    assert finding.message == "--pair needs 2 values"
    assert check_flags(["m", "--pair", "a", "b"], known) == ()


@pytest.mark.provokes("bad-type")
def test_a_boolean_that_is_a_value_says_what_it_takes() -> None:
    (finding,) = check_flags(["m", "--log", "maybe"], Schema("1", {"--log": Flag("--log", type="bool")}))
    assert finding.hint == "give true or false"


# Nested configs


@pytest.mark.provokes("json-bad-choice")
@pytest.mark.parametrize(
    ("json", "version", "code", "text", "remedy"),
    [
        ('{"method":"dflash"}', "0.19.0", "json-bad-choice", "(it is from 0.20.0)", "one of ngram"),
        ('{"method":"dflsh"}', "0.33.0", "json-bad-choice", "'dflsh'", "dflash"),
        ('{"num_speculative_tokens":"x"}', "0.33.0", "json-bad-type", "'x'", "a whole number"),
        ('{"num_speculative_tokens":1.5}', "0.33.0", "json-bad-type", "1.5", "a whole number"),
        ('{"num_speculative_tokens":[2]}', "0.33.0", "json-bad-type", "[2]", "a whole number"),
        ('{"model":3}', "0.33.0", "json-bad-type", "3", "text or null"),
        ('{"disable_by_batch_size":4}', "0.19.0", "json-unknown-key", "up to 0.16.0", "per_batch_size"),
        ('{"moe_backend":"marlin"}', "0.18.1", "json-unknown-key", "from 0.19.0", "remove it"),
        ('{"num_speculativ_tokens":4}', "0.33.0", "json-unknown-key", "", "num_speculative_tokens"),
        ('{"zzz":4}', "0.33.0", "json-unknown-key", "", "its keys are"),
    ],
)
def test_keys_and_values_of_a_speculative_config_are_checked(
    json: str, version: str, code: str, text: str, remedy: str
) -> None:
    (finding,) = check_flags(["m", "--speculative-config", json], load(version))
    assert (finding.severity, finding.code) == ("error", code)
    assert text in finding.message
    assert remedy in finding.hint


@pytest.mark.parametrize(
    "json",
    [
        '{"num_speculative_tokens":"3","model":null}',
        '{"num_speculative_tokens":3.0}',
        '{"rejection_sample_method":"standard","synthetic_acceptance_rates":[0.5,"1"]}',
        '{"enforce_eager":"true"}',
        '{"draft_load_config":{"anything":1}}',
    ],
)
def test_values_that_vllm_would_read_are_no_findings(json: str) -> None:
    assert check_flags(["m", "--speculative-config", json], NEW) == ()


@pytest.mark.provokes("json-bad-type")
@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('m -cc {"custom_ops":"x"}', "is not a list"),
        ('m -cc {"custom_ops":[1]}', "is not a list"),
        ('m --kv-transfer-config {"kv_connector_extra_config":[]}', "is not a mapping"),
        ('m --eplb-config {"use_async":"maybe"}', "true or false"),
        ('m --ec-transfer-config {"ec_buffer_size":"much"}', "a number"),
        ('m --compilation-config {"debug_dump_path":1}', "a path or null"),
        ('m --kernel-config {"ir_op_priority":3}', "a mapping"),
    ],
)
def test_every_kind_of_nested_value_is_checked(line: str, text: str) -> None:
    finding = the_one(line)
    assert finding.code == "json-bad-type"
    assert text in finding.message


def test_configs_within_configs_are_checked_too() -> None:
    finding = the_one('m --kernel-config {"ir_op_priority":{"rms_nrm":[]}}')
    assert (finding.code, finding.location) == ("json-unknown-key", "--kernel-config rms_nrm")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ({"tuple": ["int"]}, "anything"),
        ({"any": ["float", "null"]}, [1]),
        ({"set": []}, 3),
        ("SomeClass", 3),
        ("float", True),
    ],
)
def test_types_that_are_not_understood_are_let_through(kind: object, value: object) -> None:
    nested = JsonClass("C", {"key": {"type": kind}}, forbids_unknown=True)
    known = Schema("1", {"--c": Flag("--c", type="config", json_class="C")}, json_classes={"C": nested})
    codes = [f.code for f in check_flags(["m", "--c", json.dumps({"key": value})], known)]
    assert codes == (["json-bad-type"] if kind in ({"any": ["float", "null"]}, {"set": []}) else [])


def test_a_config_whose_keys_are_not_known_is_let_through() -> None:
    known = Schema("1", {"--c": Flag("--c", type="config", json_class="C")})
    assert check_flags(["m", "--c", '{"key": 1}'], known) == ()


def test_a_key_that_a_config_sets_itself_cannot_be_given() -> None:
    assert the_one('m --reasoning-config {"_enabled":true}').code == "json-unknown-key"


@pytest.mark.provokes("json-unknown-key")
def test_an_unknown_key_is_only_dropped_where_the_config_allows_others() -> None:
    finding = the_one('m --compilation-config {"zzz":1}', "0.10.1.1")
    assert finding.severity == (
        "error" if load("0.10.1.1").json_classes["CompilationConfig"].forbids_unknown else "warning"
    )


# Releases between two bundled ones


def test_what_both_neighbours_refuse_is_an_error_for_the_release_between_them() -> None:
    assert the_one("m --zzz 1", "0.30.0", exact=False).severity == "error"


def test_what_only_the_older_neighbour_refuses_is_a_warning() -> None:
    finding = the_one("m --dp-sync-interval 1", "0.29.0", exact=False)
    assert finding.severity == "warning"
    assert "vLLM 0.30.0 takes it" in finding.message


def test_what_only_the_newer_neighbour_refuses_is_a_warning() -> None:
    finding = the_one("m --calculate-kv-scales", "0.27.1", exact=False)
    assert finding.severity == "warning"
    assert "vLLM 0.27.1 took it" in finding.message


def test_beyond_the_newest_bundled_release_nothing_is_certain() -> None:
    finding = the_one("m --brand-new 1", versions()[-1], exact=False)
    assert finding.severity == "warning"
    assert "newest release known here" in finding.message


@pytest.mark.provokes("duplicate")
def test_a_warning_stays_one_for_the_release_between() -> None:
    assert the_one("m --port 1 --port 2", "0.30.0", exact=False).severity == "warning"


def test_the_schema_of_an_image_has_no_neighbours() -> None:
    known = Schema("0.31.0+nv26.10", dict(NEW.flags))
    assert check_flags(["m", "--zzz"], known, exact=False)[0].severity == "warning"
    assert check_flags(["m", "--zzz"], known)[0].severity == "error"


# Environment


def test_an_environment_variable_with_a_slip_of_the_pen_is_found() -> None:
    (finding,) = check_env({"VLLM_LOGGING_LEVLE": "DEBUG"}, NEW)
    assert finding.hint == "did you mean 'VLLM_LOGGING_LEVEL'?"


def test_other_programs_variables_are_none_of_our_business() -> None:
    assert check_env(["HF_HOME", "NCCL_DEBUG", "VLLM_LOGGING_LEVEL"], NEW) == ()


def test_a_variable_that_a_neighbour_reads_is_reported_as_unsure() -> None:
    (finding,) = check_env(["VLLM_PLE_CPU_OFFLOAD"], load("0.29.0"), exact=False)
    assert "vLLM 0.30.0 reads it" in finding.message
    assert "between" not in check_env(["VLLM_QQQ"], load("0.28.0"), exact=False)[0].message


def test_without_a_list_of_variables_nothing_is_reported() -> None:
    assert check_env(["VLLM_QQQ"], Schema("1", {})) == ()
