"""The command line as a user meets it: exit codes, streams, help, errors without tracebacks."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import sparkfleet.cli
from sparkfleet import data_files
from sparkfleet.cli import COMMANDS, cli, main
from sparkfleet.config.yaml_file import parse
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.errors import error_text
from sparkfleet.exit_codes import Code
from tests.unit.config.fleet_files import NANO, SMALL, FleetFiles
from tests.unit.lock.test_resolve import World

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; return exit code, stdout and stderr."""

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sparkfleet", *args])
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_help_names_every_command_without_importing_any(run: Run) -> None:
    program = (
        "import sys, sparkfleet.cli as c; c.cli(['-h'], standalone_mode=False); print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
        assert f"sparkfleet.cli.{name}" not in done.stdout.split()
    for heavy in ("pydantic", "yaml", "pyinfra", "httpx", "rich", "huggingface_hub"):
        assert heavy not in done.stdout.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_says_what_it_does(name: Any) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help


def test_a_mistyped_command_names_the_nearest(run: Run) -> None:
    code, out, err = run("chek")
    assert code == 64
    assert out == ""
    assert "Did you mean 'check'?" in err


def test_a_users_error_is_shown_on_stderr_without_a_traceback(
    run: Run, fleet: Callable[..., FleetFiles]
) -> None:
    fleet({"spark-01.yaml": "serv: x\n"})
    code, out, err = run("render", "inventories/lab.py", "spark-01")
    assert (code, out) == (1, "")
    assert err.startswith("inventories/lab/spark-01.yaml:1: unknown key 'serv' [yaml-unknown-key]\n")
    assert "Traceback" not in err


def test_each_diagnostic_of_a_text_has_its_code_once_at_the_end_of_its_first_line() -> None:
    rule = Diagnostic("b", "slow [BK-06] (and on 1 more)", code="BK-06")
    first = Diagnostic("a", "broken\n    engine log: x", "whole", "repair it", (rule,), code="test")
    assert error_text(SparkfleetError(first)) == (
        "a: broken [test]\n    engine log: x\n    expected: whole\n    do: repair it\n"
        "b: slow [BK-06] (and on 1 more)"
    )


def test_an_error_of_ours_is_short_and_says_how_to_report_it(
    run: Run, fleet: Callable[..., FleetFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet({})
    monkeypatch.delenv("SPARKFLEET_DEBUG", raising=False)
    monkeypatch.setattr("sparkfleet.config.load.fleet_paths", lambda _: 1 / 0)
    code, out, err = run("lock", "inventories/lab.py")
    assert (code, out) == (1, "")
    assert "internal error: ZeroDivisionError" in err
    assert "SPARKFLEET_DEBUG=1" in err
    assert "Traceback" not in err


def test_debugging_shows_the_traceback(
    run: Run, fleet: Callable[..., FleetFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet({})
    monkeypatch.setenv("SPARKFLEET_DEBUG", "1")
    monkeypatch.setattr("sparkfleet.config.load.fleet_paths", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("lock", "inventories/lab.py")


def test_an_interrupted_command_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sparkfleet.cli.cli, "main", interrupted)
    assert run("check", "x") == (130, "", "interrupted: no host was being changed\n")


def test_a_reader_that_leaves_early_is_no_noise() -> None:
    program = "from sparkfleet.cli import main; import sys; sys.argv = ['sparkfleet', 'schema']; main()"
    made = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert made.stdout is not None
    assert made.stderr is not None
    made.stdout.close()
    err = made.stderr.read()
    made.stderr.close()
    assert (made.wait(), err) == (0, b"")


def test_the_version_is_the_packages(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out == f"sparkfleet {sparkfleet.__version__} (knowledge {data_files.BUNDLED}, bundled)\n"


class TestCheck:
    def test_a_fleet_without_mistakes_is_summed_up(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet({"spark-01.yaml": f"serve: {SMALL}\n", "spark-02.yaml": f"serve: {NANO}\n"}).pin()
        assert run("check", "inventories/lab.py") == (
            0,
            "inventories/lab.py: 2 Sparks, 2 services: no errors, 0 warnings, 2 info findings (see --all)\n",
            "",
        )

    def test_files_and_flags_are_reported_in_one_run(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{max-modl-len: 5}}}}\n"})
        code, out, err = run("check", "inventories/lab.py")
        assert code == 1
        assert "inventories/lab/fleet.lock: the lock file does not exist" in err
        assert "inventories/lab/spark-01.yaml:1: vLLM 0.19.0 has no flag --max-modl-len" in err
        assert out.endswith("1 Spark, 1 service: 2 errors, 0 warnings\n")

    def test_only_broken_files_are_reported(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet({"spark-01.yaml": "serv: x\n"})
        code, out, err = run("check", "inventories/lab.py")
        assert code == 1
        assert "unknown key 'serv'" in err
        assert out == "inventories/lab.py: 1 error, 0 warnings\n"

    @pytest.mark.provokes("unknown-env")
    @pytest.mark.provokes("fleet-warning")
    def test_warnings_are_listed_and_no_failure(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        text = f"serve: {{recipe: {SMALL}, env: {{VLLM_NO_SUCH_THING: 1}}, flags: {{x-y: null}}}}\n"
        fleet({"spark-01.yaml": text}).pin()
        code, out, err = run("check", "inventories/lab.py")
        assert code == 0
        assert "warning: vLLM 0.19.0 does not read VLLM_NO_SUCH_THING" in err
        assert "warning: 'x-y: null' has no effect" in err
        assert "no errors, 2 warnings" in out

    def test_the_same_finding_on_many_sparks_is_reported_once(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        recipe = f"recipe: own\nextends: {SMALL}\nflags:\n  max-modl-len: 5\n"
        files = {f"spark-{n:03}.yaml": "serve: own\n" for n in range(30)}
        fleet({"recipes/own.yaml": recipe, **files}).pin()
        _, _, err = run("check", "inventories/lab.py")
        assert err.count("has no flag --max-modl-len") == 1
        assert "inventories/lab/recipes/own.yaml:4: " in err

    @pytest.mark.provokes("unknown-engine-version")
    def test_an_image_whose_engine_is_unknown_is_a_warning(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        fleet({"spark-01.yaml": f"serve: {{recipe: {NANO}, image: 'registry.test/some/image:1'}}\n"})
        _, _, err = run("check", "inventories/lab.py")
        assert "the vLLM release in registry.test/some/image:1" in err

    @pytest.mark.provokes("engine-is-fork")
    def test_flags_of_a_fork_are_left_to_its_own_parser(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        flags = "{gdn-decode-kernel: b12x, load-format: b12x, moe-backend: b12x}"
        env = "{VLLM_PLE_TABLE_MEMORY: disk}"
        image = "eugr/spark-vllm-b12x:latest"
        fleet(
            {"spark-01.yaml": f"serve: {{recipe: {SMALL}, image: '{image}', flags: {flags}, env: {env}}}\n"}
        )
        _, _, err = run("check", "inventories/lab.py", "--all")
        assert "eugr/spark-vllm-b12x is a fork of vLLM with flags of its own" in err
        assert "gdn-decode-kernel" not in err
        assert "[unknown-engine-version]" not in err

    def test_a_finding_in_a_shipped_recipe_is_at_the_first_line_that_chose_the_recipe(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        text = f"serve:\n  recipe: {NANO}\n  image: nvcr.io/nvidia/vllm:25.12.post1-py3\n"
        fleet({f"spark-0{n}.yaml": f"ssh: {{hostname: h{n}}}\n{text}" for n in (1, 2)})
        _, _, err = run("check", "inventories/lab.py")
        (line,) = [line for line in err.splitlines() if "--reasoning-parser" in line]
        assert line.startswith("inventories/lab/spark-01.yaml:2: ")
        assert f"(set in catalog/{NANO}.yaml:" in line
        assert line.endswith("(and on 1 more) [not-registered]")

    @pytest.mark.provokes("engine-release-unknown")
    def test_a_release_whose_flags_are_unknown_is_a_warning(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, image: 'vllm/vllm-openai:v0.99.0'}}\n"})
        _, _, err = run("check", "inventories/lab.py")
        assert "spark-01.yaml:1: warning: the flags of vLLM 0.99.0 are unknown here" in err
        assert "the image's own parser checks them" in err

    @pytest.mark.provokes("engine-too-old")
    def test_an_image_that_is_too_old_for_the_recipe_is_an_error(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        text = f"serve: {{recipe: {NANO}, image: 'nvcr.io/nvidia/vllm:25.12.post1-py3'}}\n"
        fleet({"spark-01.yaml": text})
        _, _, err = run("check", "inventories/lab.py")
        assert "the recipe needs vLLM >=0.17.1, and nvcr.io/nvidia/vllm:25.12.post1-py3 has 0.12.0" in err

    def test_an_image_of_unknown_version_is_a_warning(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, image: 'vllm/vllm-openai:nightly'}}\n"})
        _, _, err = run("check", "inventories/lab.py")
        assert "the vLLM release in vllm/vllm-openai:nightly is unknown" in err

    def test_the_rules_are_asked_and_name_themselves(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        text = f"serve: {{recipe: {SMALL}, flags: {{tensor-parallel-size: 2}}}}\n"
        fleet({"spark-01.yaml": text, "spark-02.yaml": text, "spark-03.yaml": text}).pin()
        code, _, err = run("check", "inventories/lab.py")
        assert code == 1
        (line,) = [line for line in err.splitlines() if "[BK-04]" in line]
        assert line.startswith("inventories/lab/spark-01.yaml:1: ")
        assert line.endswith("(and on 2 more)")

    def test_an_allowed_rule_is_silent_on_that_spark_alone(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        text = f"serve: {{recipe: {SMALL}, flags: {{tensor-parallel-size: 2}}}}\n"
        fleet({"spark-01.yaml": f"ignore_rules: {{BK-04: why}}\n{text}", "spark-02.yaml": text}).pin()
        _, _, err = run("check", "inventories/lab.py")
        assert "spark-02.yaml:1: " in err
        assert "spark-01.yaml" not in err

    def test_a_rule_is_not_allowed_without_a_reason(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet({"spark-01.yaml": f"serve: {SMALL}\nignore_rules: {{BK-07: ''}}\n"})
        code, _, err = run("check", "inventories/lab.py")
        assert code == 1
        assert (
            "lab/spark-01.yaml:2: 'ignore_rules.BK-07' is '' [yaml-invalid-value]\n    expected: a non-"
            in err
        )

    @pytest.mark.provokes("abbreviation")
    def test_a_short_flag_is_reported_where_it_is_written(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        fleet({"spark-01.yaml": f"serve:\n  recipe: {NANO}\n  flags:\n    max-num-s: 4\n"}).pin()
        _, _, err = run("check", "inventories/lab.py")
        assert "inventories/lab/spark-01.yaml:4: warning: --max-num-s is short for --max-num-seqs" in err

    def test_an_allowance_of_no_rule_is_a_warning(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet({"spark-01.yaml": f"ignore_rules: {{BK-4: why}}\nserve: {SMALL}\n"}).pin()
        code, _, err = run("check", "inventories/lab.py")
        assert code == 0
        assert "warning: ignore_rules: there is no rule BK-4" in err

    def test_remarks_are_counted_and_shown_when_asked_for(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        fleet({"spark-01.yaml": f"serve: {NANO}\n"}).pin()
        _, out, err = run("check", "inventories/lab.py")
        assert err == ""
        assert "(see --all)" in out
        _, out, err = run("check", "inventories/lab.py", "--all")
        assert "info: FlashInfer's autotuner" in err
        assert "(see --all)" not in out

    def test_findings_are_sorted_by_line_number(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        lines = "\n" * 9
        fleet({"spark-01.yaml": f"serve:\n  recipe: {NANO}\n  flags: {{max-num-seq: 4}}\n{lines}"
               "  env: {VLLM_LOGING_LEVEL: INFO}\n"}).pin()  # fmt: skip
        _, _, err = run("check", "inventories/lab.py")
        assert err.index("spark-01.yaml:3: ") < err.index("spark-01.yaml:13: ")

    def test_json_has_everything(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{max-modl-len: 5}}}}\n"})
        code, out, err = run("check", "inventories/lab.py", "--json")
        data = json.loads(out)
        assert (code, err) == (1, "")
        assert data["diagnostics"][0]["location"] == "inventories/lab/fleet.lock"
        assert data["diagnostics"][1]["code"] == "unknown-flag"


def test_a_missing_inventory_names_those_that_are_here(run: Run, fleet: Callable[..., FleetFiles]) -> None:
    fleet({"spark-01.yaml": "serve: null\n"}).inventory.touch()
    code, _, err = run("check")
    assert code == Code.COMMAND_LINE
    assert "Missing argument 'INVENTORY'. Here: inventories/lab.py." in err


class TestCatalog:
    def test_the_list_is_plain_lines_when_piped(self, run: Run) -> None:
        code, out, _ = run("catalog", "list")
        assert code == 0
        assert f"\n{SMALL}\t" in f"\n{out}"
        assert "\x1b" not in out

    def test_a_template_without_a_model_is_listed_with_all_alone(self, run: Run) -> None:
        _, usual, _ = run("catalog", "list")
        _, every, _ = run("catalog", "list", "--all")
        assert set(every.splitlines()) - set(usual.splitlines()) == {"baseline\t?\t?\t?\t?\tdocumented\t"}

    def test_a_gated_model_requires_a_token_of_the_hub(self, run: Run) -> None:
        _, out, _ = run("catalog", "list")
        assert "HF token" in out

    def test_the_list_is_filtered(self, run: Run) -> None:
        _, out, _ = run("catalog", "list", "--json", "--quantization", "MXFP4", "--max-gib", "20")
        assert SMALL in [recipe["recipe"] for recipe in json.loads(out)]
        for args in (
            ("--min-context", "9999999"),
            ("--max-gib", "0.5"),
            ("--modality", "smell"),
            ("--sparks", "0"),
        ):
            code, out, err = run("catalog", "list", *args)
            assert (code, len(out.splitlines())) == (0, 1), "the headings alone"
            assert err == "no recipe matches the filters\n"

    def test_a_recipe_is_shown_whole(self, run: Run) -> None:
        _, out, _ = run("catalog", "show", NANO)
        for text in (
            "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",
            "kv-cache-dtype: fp8",
            "vLLM >=0.17.1",
            "nano_v3",
        ):
            assert text in out

    def test_a_recipe_is_shown_with_its_status_limitations_and_links(self, run: Run) -> None:
        _, out, _ = run("catalog", "show", "gemma-4-26b-a4b-nvfp4")
        assert "  status        documented (by the source, not tested here)\n" in out
        assert "\nlimitations\n  - The checkpoint works with tensor-parallel-size 1 alone" in out
        assert "\nlinks\n  - https://vlaicu.io/posts/dgx-vllm/" in out
        _, out, _ = run("catalog", "show", "gemma-4-26b-a4b-nvfp4", "--json")
        assert json.loads(out)["status"] == "documented"

    def test_a_recipe_of_gguf_is_shown_with_its_engine_and_file(self, run: Run) -> None:
        _, out, _ = run("catalog", "show", "mistral-nemo-instruct-2407-gguf")
        assert "  engine        llamacpp" in out
        assert "  model file    *Q4_K_M.gguf" in out

    def test_a_recipe_as_json_is_a_recipe(self, run: Run) -> None:
        _, out, _ = run("catalog", "show", SMALL, "--json")
        assert json.loads(out)["model"] == "openai/gpt-oss-20b"

    @pytest.mark.provokes("recipe-unknown")
    def test_an_unknown_recipe_names_the_nearest(self, run: Run) -> None:
        code, _, err = run("catalog", "show", "gpt-os-20b")
        assert code == 1
        assert f"did you mean '{SMALL}'" in err

    def test_init_with_an_unknown_recipe_names_the_nearest(self, run: Run, tmp_path: Path) -> None:
        code, _, err = run("init", str(tmp_path / "fleet"), "--recipe", "gpt-os-20b", "--no-login")
        assert code == 1
        assert err.startswith("gpt-os-20b: unknown recipe [recipe-unknown]")
        assert f"did you mean '{SMALL}'" in err

    def test_a_fleets_own_recipes_are_listed_with_the_shipped_ones(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        fleet({"recipes/own.yaml": f"recipe: own\nextends: {SMALL}\n"})
        _, out, _ = run("catalog", "list", "--fleet", "inventories/lab.py")
        assert "\nown\t" in out
        _, out, _ = run("catalog", "show", "own", "--fleet", "inventories/lab.py")
        assert "inventories/lab/recipes/own.yaml" in out


class TestRules:
    def test_every_rule_is_listed_with_who_keeps_it(self, run: Run) -> None:
        _, out, _ = run("rules", "--json")
        listed = {rule["id"]: rule for rule in json.loads(out)}
        assert listed["BK-04"]["kept_by"] == "check"
        assert "loader" in listed["MEM-08"]["kept_by"]
        _, lines, legend = run("rules")
        assert "  dgx-vllm: F. Vlaicu, Dgx Vllm, 2026-06-20: https://vlaicu.io/posts/dgx-vllm/\n" in legend
        assert len(lines.splitlines()) == 1 + len(listed)


class TestSchema:
    @pytest.mark.parametrize("kind", ["host", "recipe", "group-data"])
    def test_is_json_schema_with_a_description_of_each_field(self, run: Run, kind: str) -> None:
        _, out, _ = run("schema", kind)
        data = json.loads(out)
        assert data["$schema"].endswith("2020-12/schema")
        assert data["additionalProperties"] is False


class TestRender:
    def test_docker_is_what_the_spark_gets(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet(
            {"spark-01.yaml": f"serve: {{recipe: {SMALL}, name: oss, flags: {{max-model-len: 64}}}}\n"}
        ).pin()
        code, out, _ = run("render", "inventories/lab.py", "spark-01")
        assert code == 0
        assert out.startswith("docker create --name oss \\\n  --label io.sparkfleet.generation=")
        assert "  --mount type=bind,source=/home/nvidia/vllm,target=/models \\\n" in out
        assert "  --max-model-len 64 \\\n" in out
        assert out.endswith("docker start oss\n")

    def test_compose_is_yaml_with_the_same_command(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        text = f"serve: {{recipe: {SMALL}, name: oss, env: {{PRICE: '$5: on'}}}}\nssh: {{user: me}}\n"
        fleet({"spark-01.yaml": text}).pin()
        _, out, _ = run("render", "inventories/lab.py", "spark-01", "--format", "compose")
        service = parse(out.encode(), "compose.yaml").data["services"]["oss"]
        assert service["environment"]["PRICE"] == "$$5: on"
        assert service["command"][:4] == ["vllm", "serve", "openai/gpt-oss-20b", "--served-model-name"]
        assert service["volumes"][0]["source"] == "/home/me/vllm"
        assert service["restart"] == "no"
        assert "labels" not in service

    def test_systemd_is_the_unit_with_its_path(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, name: oss}}\n"}).pin()
        _, out, _ = run("render", "inventories/lab.py", "spark-01", "--format", "systemd")
        assert out.startswith("# /etc/systemd/system/sparkfleet-oss.service\n# Written by sparkfleet.")

    def test_json_is_what_the_spark_keeps(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, name: oss}}\n"}).pin()
        _, out, _ = run("render", "inventories/lab.py", "spark-01", "--format", "json", "--home", "/h")
        (made,) = json.loads(out)
        assert made["service"] == "oss"
        assert any("source=/h/vllm," in word for word in made["definition"])

    @pytest.mark.provokes("image-entrypoint-unknown")
    def test_an_image_of_unknown_entrypoint_is_refused(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
        files.pin()
        image = f"nvcr.io/nvidia/vllm:26.05-py3@sha256:{'e' * 64}"
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, image: '{image}'}}\n"})
        code, _, err = run("render", "inventories/lab.py", "spark-01")
        assert code == 1
        assert "the entrypoint of nvcr.io/nvidia/vllm:26.05-py3 is unknown" in err

    def test_an_unknown_spark_names_the_nearest(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet({"spark-01.yaml": "serve: null\n"})
        code, _, err = run("render", "inventories/lab.py", "spark-1")
        assert code == 1
        assert "did you mean 'spark-01'?" in err

    def test_what_is_not_pinned_is_named_and_the_rest_is_rendered(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        fleet({"spark-01.yaml": f"serve: {SMALL}\n"}).pin()
        text = f"serve:\n  - {SMALL}\n  - {{recipe: {NANO}, name: nano}}\nignore_rules: {{MEM-08: small}}\n"
        fleet({"spark-01.yaml": text})
        code, out, err = run("render", "inventories/lab.py", "spark-01")
        assert code == 1
        assert out.startswith(f"docker create --name {SMALL} ")
        assert "nano" not in out
        assert "inventories/lab/spark-01.yaml:3: the service 'nano' is not pinned" in err
        assert "do: sparkfleet lock inventories/lab.py\n" in err

    def test_an_idle_spark_needs_no_lock_file(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet({"spark-01.yaml": "serve: null\n"})
        assert run("render", "inventories/lab.py", "spark-01")[0] == 0


class TestLock:
    @pytest.fixture(autouse=True)
    def _world(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World()
        monkeypatch.setattr("sparkfleet.lock.images.resolve", self.world.image)
        monkeypatch.setattr("sparkfleet.lock.hub.Hub.resolve", lambda _, *args: self.world.resolve(*args))

    def test_pins_what_is_missing_and_says_so(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
        code, out, err = run("lock", "inventories/lab.py")
        assert (code, err) == (0, "")
        assert out.splitlines()[-1] == "inventories/lab/fleet.lock: 2 pinned, 2 changes"
        assert files.load(need_lock=True).hosts[0].services[0].weights.revision == f"{1:040x}"

    def test_twice_changes_nothing(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
        run("lock", "inventories/lab.py")
        before = (files.directory / "fleet.lock").read_bytes()
        self.world.turn = 2
        assert run("lock", "inventories/lab.py") == (
            0,
            "inventories/lab/fleet.lock: 2 pinned, no changes\n",
            "",
        )
        assert (files.directory / "fleet.lock").read_bytes() == before

    def test_an_update_shows_old_and_new_and_what_it_means(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        fleet({"spark-01.yaml": f"serve: {{recipe: {NANO}, name: nano}}\n"})
        self.world.turn = 19
        run("lock", "inventories/lab.py")
        self.world.turn = 12
        code, out, _ = run("lock", "inventories/lab.py", "--update", "nvcr.io/*")
        assert code == 0
        assert "~ nvcr.io/nvidia/vllm:26.04-py3  sha256:000000000000 (engine 0.19.0, " in out
        assert "\n    ! nano: --reasoning-parser: vLLM 0.12.0 has no 'nemotron_v3'" in out

    def test_another_tag_of_the_same_image_shows_what_it_means(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        text = "serve: {{recipe: {}, name: nano, image: 'nvcr.io/nvidia/vllm:{}'}}\n"
        files = fleet({"spark-01.yaml": text.format(NANO, "26.04-py3")})
        self.world.turn = 19
        run("lock", "inventories/lab.py")
        (files.directory / "spark-01.yaml").write_text(text.format(NANO, "25.12.post1-py3"))
        self.world.turn = 12
        code, out, _ = run("lock", "inventories/lab.py", "--json")
        assert code == 0
        changes = {change["key"]: change for change in json.loads(out)["changes"]}
        assert changes["nvcr.io/nvidia/vllm:26.04-py3"]["notes"] == []
        notes = changes["nvcr.io/nvidia/vllm:25.12.post1-py3"]["notes"]
        assert notes[0].startswith("! nano: --reasoning-parser: vLLM 0.12.0 has no 'nemotron_v3'")

    def test_an_image_that_moved_to_an_unknown_release_says_that_nothing_is_known(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
        run("lock", "inventories/lab.py")
        self.world.turn, self.world.vllm = 2, ""
        _, out, _ = run("lock", "inventories/lab.py", "--update", "nvcr.io/*")
        assert "\n    its vLLM version is unknown" in out

    def test_an_error_that_concerns_no_pin_is_shown_and_does_not_prevent_them(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        flags = "flags: {gpu-memory-utilization: 0.8}"
        files = fleet(
            {
                "spark-01.yaml": f"serve:\n- {{recipe: {SMALL}, name: aa, {flags}}}\n"
                f"- {{recipe: {SMALL}, name: bb, {flags}}}\n"
            }
        )
        code, out, err = run("lock", "inventories/lab.py")
        assert code == 0
        assert "spark-01.yaml:1: warning: the services request 160 % of the Spark's memory" in err
        assert out.splitlines()[-1] == "inventories/lab/fleet.lock: 2 pinned, 2 changes"
        assert [one.code for one in files.diagnostics(need_lock=True)] == ["memory-overcommitted"]

    def test_with_an_error_that_concerns_a_pin_nothing_is_written_or_removed(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
        run("lock", "inventories/lab.py")
        before = (files.directory / "fleet.lock").read_bytes()
        (files.directory / "spark-01.yaml").write_text(f"serve: {{recipe: {SMALL}x}}\n")
        assert run("lock", "inventories/lab.py")[0] == 1
        assert (files.directory / "fleet.lock").read_bytes() == before

    def test_one_failure_is_reported_and_the_rest_is_written(
        self, run: Run, fleet: Callable[..., FleetFiles]
    ) -> None:
        files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
        self.world.broken = {"openai/gpt-oss-20b"}
        code, out, err = run("lock", "inventories/lab.py")
        assert code == 1
        assert "openai/gpt-oss-20b is broken" in err
        assert out.endswith("1 pinned, 1 change, 1 not resolved\n")
        assert "nvcr.io/nvidia/vllm:26.04-py3" in (files.directory / "fleet.lock").read_text()

    def test_nothing_pinned_writes_no_file(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
        self.world.broken = {"openai/gpt-oss-20b", "nvcr.io/nvidia/vllm:26.04-py3"}
        assert run("lock", "inventories/lab.py")[0] == 1
        assert not (files.directory / "fleet.lock").exists()

    def test_json_has_old_and_new(self, run: Run, fleet: Callable[..., FleetFiles]) -> None:
        fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
        _, out, _ = run("lock", "inventories/lab.py", "--json")
        changes = {change["key"]: change for change in json.loads(out)["changes"]}
        assert changes["openai/gpt-oss-20b"]["old"] is None
        assert changes["openai/gpt-oss-20b"]["new"]["weights"]["revision"] == f"{1:040x}"
