"""Command lines made from sound ones by damage, and which findings the argument parser itself has, too."""

import random

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm import schema

LINES = (
    "m --max-model-len 65536 --max-num-seqs 4 --gpu-memory-utilization 0.85 --kv-cache-dtype fp8",
    "m --port 8000 --served-model-name a b --enable-prefix-caching --no-enable-chunked-prefill -tp 2",
    "m --tool-call-parser qwen3_coder --enable-auto-tool-choice --reasoning-parser qwen3 -q modelopt",
    "m --max_model_len=64K --max_num_batched_tokens 8k --dtype auto --enforce-eager --seed 1",
    "m --tensor-parallel-size 1 --pipeline-parallel-size=1 --max-num-seqs 8 --async-scheduling",
    "m --compilation-config.cudagraph_mode NONE --compilation_config.pass_config.eliminate_noops true",
    'm --allowed-origins ["*"] --max-lora-rank 16 --lora-modules a=b --uvicorn-log-level info',
    "m -O3 --distributed-executor-backend ray --nnodes 2 --attention-backend TRITON_MLA --middleware x",
    "m --limit-mm-per-prompt.image=2 --load-format fastsafetensors --moe-backend marlin --trust-remote-code",
)
ODD = ("8K", "1.5K", "1.5k", "-1", "true", "None", "", "auto", "a b", "0.5", "-x")
TAIL = ("--tool-call-parsr=x", "--foo", "-e", "-t", "-d", "-qfp8", "-O.level=3", "--x.y", "-tp=4")
JSON = ('{"method":"mtp","num_speculative_tokens":2}', '{"method":', "[]", "{}", "x")


def damage(args: list[str], known: schema.Schema, rng: random.Random) -> list[str]:
    args = list(args)
    at = rng.randrange(len(args))
    some_flag = rng.choice([flag for flag in known.flags.values() if flag.kind != "help"])
    match rng.randrange(14):
        case 0:
            args[at] = args[at][:-1] or "x"
        case 1:
            del args[at]
        case 2:
            args.insert(at, args[at])
        case 3:
            args.insert(at, rng.choice(ODD))
        case 4:
            args[at] = args[at].replace("-", "_", rng.randrange(1, 4))
        case 5:
            args.insert(at, some_flag.name)
        case 6:
            args += [some_flag.name, rng.choice(["1", "x", *map(str, some_flag.choices or ())])]
        case 7:
            args.append(f"{some_flag.name}={rng.choice(['1', 'x', '', '{}'])}")
        case 8:
            args += [rng.choice(["--speculative-config", "-sc", "--compilation-config"]), rng.choice(JSON)]
        case 9:
            args.append(some_flag.name[: rng.randrange(3, len(some_flag.name) + 1)])
        case 10:
            options = [*some_flag.negatives, *some_flag.aliases, some_flag.name]
            args.insert(at, rng.choice(options))
        case 11:
            args = [*rng.choice([["serve"], ["vllm", "serve"], ["--"]]), *args]
        case 12:
            first, second = rng.randrange(len(args)), rng.randrange(len(args))
            args[first], args[second] = args[second], args[first]
        case 13:
            args.append(rng.choice(TAIL))
    return args


def generated(known: schema.Schema, count: int) -> list[list[str]]:
    """Return that many lines for a release; the same ones every time."""
    rng = random.Random(known.version)
    lines: list[list[str]] = []
    while len(lines) < count:
        args = rng.choice(LINES).split()
        for _ in range(rng.randrange(1, 4)):
            args = damage(args, known, rng) or args
        lines.append(args)
    return lines


PARSER_CODES = {
    "unknown-flag",
    "ambiguous",
    "missing-value",
    "no-value-allowed",
    "bad-type",
    "bad-choice",
    "bad-json",
    "stray-words",
    "serve-repeated",
    "model-not-first",
    "two-models",
}
"""Findings that the argument parser itself has, too; the rest is refused later, by the engine."""


def is_the_parsers(finding: Diagnostic, known: schema.Schema) -> bool:
    if finding.code == "json-not-object":
        return known.flags[finding.location].type == "config"
    return finding.code in PARSER_CODES
