"""Host files after public reports of Spark owners, each with what `check` must say of it before `lock`.

Line 1 of each file says it. The table below has every error and warning, and nothing else may be
reported; infos only where they are what is expected.
"""

import shutil
from pathlib import Path

import pytest

from sparkfleet import engines
from sparkfleet.cli.check_report import diagnostics
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.inventory import read_fleet

CASES = Path(__file__).parents[2] / "fixtures" / "config_cases"

E, W, INFO = "error", "warning", "info"
Expected = tuple[int, str, str, tuple[str, ...]]
"""Line, severity, code, and parts of the message, the expectation or the hint."""
Row = list[Expected]

UNKNOWN_VLLM = (W, "unknown-engine-version", ("the image's own parser checks them",))

TABLE: dict[str, Row] = {
    "b02": [
        (18, E, "GATE-03", ("disable-log-stats", "token counter")),
        (23, E, "H-03", ("HF_HOME", "/app/.cache/huggingface", "models_dir")),
    ],
    "b06": [
        (5, E, "image-name-invalid", ("'vllm-node'", "docker build", "docker push")),
        (5, INFO, "engine-is-fork", ("vllm-node",)),
        (15, E, "MEM-04", ("0.945",)),
        (22, W, "P-02", ("minimax_m2_optthink_reasoning_parser.py", "mount")),
    ],
    "b07": [
        (8, E, "flag-reserved", ("'model'", "the field 'model:'")),
        (9, E, "flag-reserved", ("'host'",)),
        (10, W, "H-15", ("download-dir", "remove it")),
        (11, W, "Q-07", ("MXFP4",)),
        (12, E, "unknown-flag", ("--mxfp4-backend",)),
        (13, E, "unknown-flag", ("--mxfp4-layers",)),
        (22, E, "GATE-03", ("disable-log-stats",)),
        (23, E, "unknown-flag", ("--disable-log-requests", "--enable-log-requests")),
        (27, E, "secret-exposed", ("VLLM_API_KEY", "gateway")),
    ],
    "b10": [
        (9, W, "CTX-06", ("VLLM_SPARSE_INDEXER_MAX_LOGITS_MB=64",)),
        (10, W, "SD-10", ("10 sequences",)),
        (23, E, "BK-04", ("one", "clusters/")),
    ],
    "b11": [
        (5, *UNKNOWN_VLLM),
        (12, W, "MEM-14", ("10 sequences",)),
    ],
    "b12": [(7, E, "BK-04", ("2 GPUs", "clusters/"))],
    "b17": [
        (21, W, "CTX-03", ("8192", "32768")),
        (13, E, "flag-duplicate", ("'O3'", "'-O'", "optimization-level")),
        (22, E, "P-02", ("--config /cfg/my.yaml", "mount")),
    ],
    "b20": [
        (6, E, "service-name-reserved", ("'a'",)),
        (7, E, "yaml-unknown-key", ("command", "packages")),
        (8, E, "yaml-unknown-key", ("entrypoint", "'flags'")),
        (9, E, "yaml-unknown-key", ("env_file", "under 'env'")),
        (11, E, "yaml-unknown-key", ("privileged", "cap_add")),
        (12, E, "yaml-unknown-key", ("restart", "systemd unit")),
        (13, E, "yaml-invalid-value", ("ports", "network: host", "'port'")),
        (15, E, "yaml-unknown-key", ("container.entrypoint", "'flags'")),
        (17, E, "yaml-unknown-key", ("healthcheck", "readiness gate")),
        (20, E, "yaml-unknown-key", ("logging", "bounded")),
    ],
    "b21": [(7, E, "secret-exposed", ("api-key", "gateway"))],
    "b23": [],
    "b24": [],
    "b25": [(8, E, "P-02", ("nano_v3_reasoning_parser.py", "{snapshot}"))],
    "b27": [(8, INFO, "CFG-01", ("--config", "neither checked nor compared"))],
    "b29": [
        (8, E, "no-value-allowed", ("--enable-chunked-prefill", "false without quotes")),
        (8, E, "no-value-allowed", ("--enforce-eager", "true without quotes")),
        (8, W, "BK-07", ("--enforce-eager",)),
        (8, E, "bad-type", ("'0,8'", "write 0.8")),
        (8, E, "unknown-flag", ("--swap-space",)),
    ],
    "b31": [],
    "b33": [],
    "b34": [
        (8, E, "P-02", ("/adapters/sql", "mount")),
        (8, E, "P-16", ("--enable-lora",)),
    ],
    "b35": [(6, E, "H-03", ("HF_HOME", "/root/.cache/huggingface", "models_dir"))],
    "b37": [
        (4, E, "GATE-01", ("headless",)),
        (4, E, "GATE-02", ("--uds", "port 8000")),
        (4, E, "P-02", ("--ssl-certfile /x.crt", "mount")),
    ],
    "b38": [(7, E, "BK-04", ("2 GPUs", "clusters/"))],
    "b39": [
        (6, E, "variable-reserved", ("VLLM_HOST_IP", "each Spark")),
        *((6, W, "fleet-warning", (name,)) for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME=wlan0")),
        *((6, W, "fleet-warning", (name,)) for name in ("NCCL_IB_DISABLE", "MASTER_ADDR")),
    ],
    "b42": [
        (11, E, "secret-exposed", ("OPENAI_API_KEY",)),
        (12, W, "unknown-env", ("VLLM_ATTENTION_BACKEND",)),
        (14, E, "BK-16", ("NVIDIA_VISIBLE_DEVICES",)),
        (15, E, "secret-exposed", ("http_proxy",)),
    ],
    "b45": [(8, E, "not-registered", ("B12X_MLA_SPARSE", "did you mean 'FLASHMLA_SPARSE'"))],
    "b46": [
        (5, *UNKNOWN_VLLM),
        (5, W, "BK-17", ("dgx-spark-playbooks#107",)),
    ],
    "b49": [(4, W, "P-18", ("mxbai-embed-large-v1", "gate: {task: embedding}"))],
    "n07": [
        (5, E, "yaml-invalid-value", ("port", "at most 65535")),
        (6, E, "yaml-invalid-value", ("reserve_gib", "smaller")),
        (7, E, "bad-type", ("'.inf'", "a number")),
    ],
    "n08": [
        (5, E, "yaml-invalid-value", ("port", "without the leading zero: 8000")),
        (8, E, "yaml-invalid-value", ("port", "without the leading zero: 17500")),
    ],
    "n24": [(4, E, "yaml-invalid-value", ("flags", "max-model-len: 8192"))],
    "n25": [
        (4, E, "yaml-invalid-value", ("env", "VLLM_LOGGING_LEVEL: DEBUG")),
        (7, E, "yaml-invalid-value", ("flags", "max-model-len: 8192")),
    ],
    "n27": [
        (7, E, "mount-target-taken", ("/models", "model store", "models_dir: /x")),
        (8, E, "mount-target-taken", ("/models/hub", "staged models")),
        (10, E, "mount-target-taken", ("a second mount at /p",)),
    ],
    "n33": [
        (8, E, "yaml-invalid-value", ("timeout", "at least 1")),
        (9, E, "MEM-04", ("-0.2",)),
        (9, E, "MEM-01", ("--max-num-seqs 0",)),
        (13, E, "bad-type", ("'20%'", "write 0.2")),
        (13, E, "bad-type", ("'2.5'",)),
        (13, E, "bad-type", ("'131,072'", "write 131072")),
    ],
    "n38": [
        (5, W, "fleet-warning", ("port 22", "SSH")),
        (7, W, "fleet-warning", ("port 22", "SSH")),
        (7, E, "port-conflict", ("'p1'",)),
    ],
}  # fmt: skip

ARGS = {
    "b10": "--tensor-parallel-size 2 --pipeline-parallel-size 1",
    "b17": '--middleware a.b.C --middleware d.e.F --allowed-origins ["*"]',
    "b23": "--served-model-name qwen3 gpt-4o",
    "b24": '--lora-modules sql=yard1/llama-2-7b-sql-lora-test {"name":"b","path":"/models/adapters/b",'
    '"base_model_name":"x"}',
    "b33": '--lora-modules {"name":"sql","path":"/adapters/sql","base_model_name":"llama"} {"name":"chat",',
    "b45": "--attention-config.use_fp4_indexer_cache true",
}
"""Case -> what the engine gets."""


def test_each_case_has_a_row() -> None:
    assert set(TABLE) == {path.stem for path in CASES.glob("*.yaml")}


@pytest.mark.provokes("flag-duplicate", "mount-target-taken", "variable-reserved")
@pytest.mark.parametrize("case", TABLE)
def test_check_says_of_a_case_what_is_expected(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "inventories" / "lab"
    further = CASES / f"{case}.d"
    if further.is_dir():
        shutil.copytree(further, directory)
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(CASES / f"{case}.yaml", directory / "spark-01.yaml")
    loaded = read_fleet(Path("inventories/lab.py"))
    found = [one for one in (*loaded.diagnostics, *diagnostics(loaded)) if one.code != "lock-missing"]
    rest = [one for one in found if one.severity != INFO]
    for line, severity, code, parts in TABLE[case]:
        matching = [one for one in found if _fits(one, line, severity, code, parts)]
        assert matching, f"{case}: no {severity} {code} in line {line} with {parts} among\n{_text(found)}"
        rest = [one for one in rest if one is not matching[0]]
    assert not rest, f"{case}: not expected:\n{_text(rest)}"
    if case in ARGS:
        (service,) = loaded.fleet.hosts[0].services
        assert ARGS[case] in " ".join(engines.get(service.engine).args(service))


def _fits(found: Diagnostic, line: int, severity: str, code: str, parts: tuple[str, ...]) -> bool:
    return (found.place[1], found.severity, found.code) == (line, severity, code) and all(
        part in str(found) for part in parts
    )


def _text(found: list[Diagnostic]) -> str:
    return "\n".join(f"{one} [{one.code}]" for one in found)
