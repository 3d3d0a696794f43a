"""The registry of diagnostic codes: for each code its cause and its remedy, one line each.

``docs/reference/errors.md`` is generated from it. Every ``Diagnostic`` names one of these codes, the id of a
lint rule (``sparkfleet rules``), or the id of a failure pattern (``docs/reference/symptoms.md``), where a log
shows the cause. A code is stable: a program may depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """One kind of diagnostic."""

    cause: str
    remedy: str


FILES = {
    "cluster-hosts-invalid": Code(
        "A cluster file lists fewer than two hosts, a host twice, a host of another cluster, or a ring of "
        "other than three hosts.",
        "Correct `hosts:` in the cluster file.",
    ),
    "cluster-too-small": Code(
        "The recipe needs more Sparks than the service has.",
        "Add hosts to the cluster file, or choose a smaller recipe.",
    ),
    "command-not-installed": Code(
        "A command belongs to a distribution that is not installed.", "Run the `pip install` of the message."
    ),
    "socks-support-missing": Code(
        "An environment variable names a SOCKS proxy, and the Python package for one is not installed.",
        "Install it, or unset the variable, as the message says.",
    ),
    "term-unknown": Code(
        "`sparkfleet explain` does not know the term.",
        "Use the similar term that the message names, or search docs/reference.",
    ),
    "cluster-unknown": Code("No cluster file has this name.", "Use one of the names that the message lists."),
    "file-name-invalid": Code(
        "A file in the fleet's directory has a name that cannot be used, or does not end with `.yaml`.",
        "Rename the file as the message shows.",
    ),
    "file-exists": Code(
        "A file that would be written exists with another content.",
        "Edit the file, choose another directory, or move the file away.",
    ),
    "edit-not-possible": Code(
        "`serve:` of a host file has a layout to which no service can be added without changing other lines.",
        "Add the service of the message with an editor.",
    ),
    "template-edited": Code(
        "A file of a fleet directory was edited by its owner, and its template changed in this version.",
        "Add what you need of the shown difference, then run `sparkfleet upgrade --keep FILE`; "
        "`--replace FILE` drops your edits.",
    ),
    "template-record-invalid": Code(
        "`.sparkfleet.json`, the record of a fleet directory's templates, cannot be read.",
        "Restore it from version control, or remove it and run `sparkfleet upgrade`.",
    ),
    "templates-newer": Code(
        "The templates of the fleet directory are those of a newer sparkfleet than the installed one.",
        "Install that version or a newer one.",
    ),
    "flag-duplicate": Code("A flag is set under two spellings of its name.", "Remove one of them."),
    "flag-reserved": Code(
        "A flag is set that sparkfleet sets itself.", "Remove it, and use the field that the message names."
    ),
    "fleet-empty": Code(
        "The fleet's directory has no host file.", "Write `inventories/FLEET/HOST.yaml` for each Spark."
    ),
    "host-option": Code(
        "An option that names a Spark cannot be read, or names one twice.",
        "Write `--host [NAME=][USER@]ADDRESS[:PORT]`, for example `--host spark-01=nvidia@192.168.1.21`.",
    ),
    "fleet-warning": Code(
        "The files are valid, but a line has no effect, or two clusters share a network.",
        "Remove or correct the line that the message names.",
    ),
    "fleet-unknown": Code(
        "The inventory does not exist.",
        "Check the path: `inventories/<fleet>.py`. `sparkfleet init` writes a new fleet.",
    ),
    "gate-expectation-mismatch": Code(
        "`gate: {expect: ...}` is set for an embedding, or `expect_dimensions` for another task.",
        "Remove it, or change the task.",
    ),
    "gate-task-unsupported": Code(
        "`gate: {task: ...}` names a task that the readiness gate cannot request from this engine.",
        "Use one of the tasks that the message lists.",
    ),
    "group-data-failed": Code(
        "A Python file in `group_data/` is invalid or raised an exception.",
        "Run the file by itself: `python3 FILE`.",
    ),
    "group-data-not-found": Code(
        "The command runs in another directory than the one that has `group_data/`.",
        "Change to the directory that has `inventories/` and `group_data/`.",
    ),
    "host-address-duplicate": Code(
        "Two host files have the same address and port.", "Correct `ssh:` in one of them."
    ),
    "host-unknown": Code("No host file has this name.", "Use one of the names that the message lists."),
    "image-entrypoint-unknown": Code(
        "The image's entrypoint is not known, or does not start the engine.",
        "Run `sparkfleet lock`, or choose another image.",
    ),
    "image-name-invalid": Code(
        "An image name has neither tag nor digest, or is not an image name.",
        "Write `registry/name:tag`, or `registry/name@sha256:...`.",
    ),
    "memory-overcommitted": Code(
        "The services of one Spark reserve more GPU memory than it has.",
        "Set `gpu-memory-utilization` in the flags of each service, or serve fewer models.",
    ),
    "package-range-invalid": Code(
        "An entry of `packages:` is not a package name with a version range.",
        'Write `name: ">=1.0"`, or `name: ""` for any version.',
    ),
    "parallelism-invalid": Code(
        "The parallel sizes in the flags do not fit the number of Sparks or the model.",
        "Choose sizes whose product is the number of Sparks and that divide the model's heads and layers.",
    ),
    "port-conflict": Code("Two services of one Spark have the same port.", "Change or remove one `port:`."),
    "recipe-extends-invalid": Code(
        "`extends:` of a recipe names an unknown recipe, or a recipe extends itself.",
        "Name an existing recipe (`sparkfleet catalog list`).",
    ),
    "recipe-name-invalid": Code(
        "`recipe:` in a recipe is not the name of its file.", "Use the same name for both."
    ),
    "recipe-name-taken": Code(
        "A recipe of the fleet has the name of a shipped recipe.",
        "Rename it, and extend the shipped one with `extends:`.",
    ),
    "recipe-unknown": Code("No recipe has this name.", "`sparkfleet catalog list` shows all of them."),
    "resource-invalid": Code(
        "An entry below `prepare:` is not valid.", "Correct the entry as the message says."
    ),
    "secret-command-failed": Code(
        "The command that prints a secret failed, or printed nothing.", "Run the command by itself."
    ),
    "mount-target-taken": Code(
        "A mount has the target of another one, or of sparkfleet's own mounts (`/models`, `/compile-cache`).",
        "Give it another target, or set `models_dir` or `cache_dir`.",
    ),
    "secret-exposed": Code(
        "A flag or variable would put a secret where others can read it.",
        "Remove it. The hub's token comes from `hf_token` in group_data.",
    ),
    "secret-file-unreadable": Code(
        "The file of a secret cannot be read, or is empty.", "Write the secret into the file."
    ),
    "secret-not-entered": Code(
        "A secret must be entered, but there is no terminal, or nothing was entered.",
        "Run the command in a terminal, or declare `env:NAME`, `file:PATH` or `command:COMMAND`.",
    ),
    "service-incomplete": Code(
        "A service has no recipe and lacks `model:` or `image:`.",
        "Name a recipe, or set both `model:` and `image:`.",
    ),
    "service-name-reserved": Code(
        "A service has a name that cannot be used for a container.", "Set another `name:`."
    ),
    "service-name-taken": Code(
        "Two services of one Spark have the same name.", "Add `name:` to one of them."
    ),
    "stage-seed-required": Code(
        "A cluster needs a derived image, but `stage: {seed: none}` lets every Spark build its own.",
        "Set `stage: {seed: auto}` in group_data.",
    ),
    "tokenizer-missing": Code(
        "The flags name the tokenizer of another repository, which is not downloaded.",
        "Remove the flag, or mount the files and give their path.",
    ),
    "variable-reserved": Code(
        "A variable of a cluster's service has one value for all Sparks, where each needs its own.",
        "Remove it: sparkfleet sets it on each Spark.",
    ),
    "variable-name-invalid": Code(
        "A key of `env:` is not the name of an environment variable.", "Use letters, digits and `_`."
    ),
    "yaml-duplicate-key": Code("A key appears twice in one mapping.", "Remove one of them."),
    "yaml-empty": Code("A YAML file is empty.", "Fill or remove the file."),
    "yaml-invalid-key": Code("A key is not a non-empty string.", "Write a name before the colon."),
    "yaml-invalid-value": Code(
        "A value has the wrong type, or is out of range.", "Change it to what the message expects."
    ),
    "yaml-missing-key": Code("A required key is missing.", "Add the key."),
    "yaml-syntax": Code(
        "The file is not valid YAML.", "Check indentation, colons and quotes of this line and the one before."
    ),
    "yaml-unknown-key": Code(
        "A key is not known here, or was renamed.", "Use the key that the message names, or remove it."
    ),
    "yaml-unreadable": Code(
        "The file cannot be read: missing permission, too large, not UTF-8, or with control characters.",
        "Save it as plain UTF-8 text.",
    ),
    "yaml-unsupported": Code(
        "The file uses aliases, tags, several documents or very deep nesting.",
        "Write each value out; share settings by a recipe with `extends:`.",
    ),
}
"""What is wrong in the files that a user writes."""

LOCK = {
    "lock-content-differs": Code(
        "The hub has a file of a locked commit in another size or with other content than fleet.lock says.",
        "Correct the entry: `sparkfleet lock INVENTORY --update MODEL`. If it stays the same, a proxy or "
        "mirror changes the content.",
    ),
    "lock-entry-missing": Code("An image, model or package is not in fleet.lock.", "Run `sparkfleet lock`."),
    "lock-image-unresolved": Code(
        "An image cannot be pinned: its registry does not answer, refuses, or has no arm64 image.",
        "Check the image's name, the network and `docker login`.",
    ),
    "lock-invalid": Code(
        "fleet.lock has an entry that cannot be used.", "Remove it and run `sparkfleet lock`."
    ),
    "lock-missing": Code("The fleet has no fleet.lock.", "Run `sparkfleet lock`."),
    "lock-model-unresolved": Code(
        "A model cannot be pinned: the hub does not answer, or refuses the token.",
        "Check the repository's name, the network, `hf_token`, and whether its licence is accepted.",
    ),
    "lock-packages-unresolved": Code(
        "Python packages that an image lacks cannot be pinned.",
        "Correct the version ranges in `packages:`, or check access to the package index.",
    ),
    "lock-update-unknown": Code(
        "`sparkfleet lock --update` names nothing in this fleet.",
        "Name an image, a repository, a recipe or a service of the fleet.",
    ),
    "lock-version-unsupported": Code(
        "fleet.lock was written by another version of sparkfleet.", "Update sparkfleet, or lock again."
    ),
    "mirror-download-failed": Code(
        "An image, model or package cannot be downloaded into the offline mirror.",
        "Correct what the message names and run `sparkfleet mirror` again: it resumes.",
    ),
    "mirror-incomplete": Code(
        "The offline mirror lacks files that this fleet.lock names.",
        "Run `sparkfleet mirror` where registry, hub and package index can be reached.",
    ),
}
"""Pinning, and the offline mirror."""

CONNECTION = {
    "registry-credentials-unreadable": Code(
        "Credentials for a registry exist, but their file or their helper cannot be read.",
        "Correct the file, or run the helper by hand, as the message says.",
    ),
    "confirmation-required": Code(
        "A run would change hosts, and there is no terminal to confirm it.",
        "Add `-y` to go ahead, or `--dry` to see the plan.",
    ),
    "connection-lost": Code(
        "The SSH connection ended during a run.",
        "Run again: operations that started continue on the host, and the next run follows them.",
    ),
    "login-shell-silent": Code(
        "The login shell did not run the command, or printed something other than the probe's response.",
        "Use a login whose shell runs commands.",
    ),
    "python-missing": Code("python3 is not installed on the Spark.", "`sudo apt-get install python3`"),
    "contract-newer": Code(
        "A file on the host, or a message, was written by a newer version of sparkfleet.",
        "Update sparkfleet on the operator's machine.",
    ),
    "contract-shape": Code(
        "A file on the host, or a message, does not have the fields that it should have.",
        "Follow the hint of the message; for the response of the probe, run again with `-vvv`.",
    ),
    "ssh-forwarding-denied": Code(
        "The Spark's SSH server does not allow port forwarding, which an offline mirror needs.",
        "Set `AllowTcpForwarding yes` in sshd_config.",
    ),
    "ssh-host-key-changed": Code(
        "The SSH host key differs from the one in known_hosts.",
        "Compare it on the Spark's own console; if it is right, remove the old one as the message shows.",
    ),
    "ssh-host-key-unknown": Code(
        "The SSH host key is not in known_hosts.", "Run the ssh command that the message shows, and compare."
    ),
    "ssh-login-refused": Code(
        "The SSH server refused the login.", "Run `ssh-copy-id`, or correct `ssh:` in the host file."
    ),
    "ssh-name-unresolved": Code(
        "The Spark's host name could not be resolved.", "Set `ssh: {hostname: ADDRESS}` in the host file."
    ),
    "ssh-unreachable": Code(
        "No SSH server answers at the Spark's address.", "Run the ssh command that the message shows."
    ),
    "sudo-denied": Code(
        "sudo asks for a password that is not declared, or refuses it.",
        "Declare `ssh: {sudo_password: ask}`, set SPARKFLEET_SUDO_PASSWORD, or allow sudo without one.",
    ),
}
"""Between the operator's machine and a Spark."""

PLAN = {
    "apt-conflict": Code(
        "apt would remove packages to install others.", "Install them by hand if you agree."
    ),
    "apt-package-unavailable": Code("apt cannot install a package.", "Check the package sources."),
    "artifact-source-missing": Code(
        "No host of this run has the image or model, and none may download it.",
        "Run without `--limit`, declare an offline mirror, or allow one host to download.",
    ),
    "cluster-image-differs": Code(
        "The members of a cluster have different images or arguments.",
        "Lock again, and stage the image on every member.",
    ),
    "cluster-members-differ": Code(
        "Members of a cluster have different kernels, boot parameters, drivers, firmware or GPU clocks.",
        "Make them equal, as the message says; `sparkfleet status --preflight` compares all properties.",
    ),
    "machine-id-shared": Code(
        "Several hosts have the same /etc/machine-id, as some Sparks left the factory (CVE-2026-24218).",
        "Remove it on each of them, run `sudo systemd-machine-id-setup`, and reboot when nothing serves.",
    ),
    "ssh-host-key-shared": Code(
        "Several hosts have the same SSH host key, as some Sparks left the factory (CVE-2026-24218).",
        "Remove the keys on each of them, run `sudo ssh-keygen -A`, and renew the entries in known_hosts.",
    ),
    "change-waits": Code(
        "A change depends on another one on the same host, which is blocked: it takes its port or its "
        "memory, or the host must be prepared first.",
        "Resolve what blocks the other one, then run again. All that does not depend on it has been done.",
    ),
    "cluster-member-not-ready": Code(
        "One member of a cluster cannot change, so none of them does.",
        "Resolve what the message says of that member, then run again.",
    ),
    "container-name-taken": Code(
        "A container that sparkfleet does not manage has the service's name.",
        "Rename or remove that container, or choose another `name:`.",
    ),
    "container-renamed": Code(
        "The service's container was renamed by hand.", "Rename it back with `docker rename`."
    ),
    "device-missing": Code(
        "A declared device does not exist on the host.", "Correct `devices:` of the service."
    ),
    "disk-full": Code(
        "A file system has too little room for images and models.", "Free space, or run `sparkfleet prune`."
    ),
    "docker-not-prepared": Code(
        "Docker is declared and not installed yet.", "Run `deploys/prepare.py` first."
    ),
    "docker-restart-blocked": Code(
        "Docker has to be restarted, which would stop running containers.", "Stop them, then run again."
    ),
    "docker-unavailable": Code(
        "The Docker daemon is missing, down or does not answer.",
        "Start Docker, or declare `prepare: {docker: install}`.",
    ),
    "fabric-in-use": Code(
        "An engine uses the links that change.", "Restart it if it hangs after the change."
    ),
    "fabric-twin-missing": Code(
        "A cage shows one netdev instead of two: half of the bandwidth.", "Check the cable and the card."
    ),
    "fabric-link-is-management": Code(
        "A fabric link carries the SSH connection or the default route.",
        "Reach the Spark over another address.",
    ),
    "fabric-network-conflict": Code(
        "The fabric's network or addresses are already in use, or are too few.",
        "Choose another `fabric: {network: ...}`.",
    ),
    "fabric-no-carrier": Code(
        "A fabric link has no carrier, or no link exists: the card is powered only with a cable plugged in.",
        "Plug the cable in at both ends; if no link appears, reboot the host with the cable plugged in.",
    ),
    "filesystem-read-only": Code(
        "A file system that has to be written is mounted read-only.", "Remount it; see `dmesg` for the cause."
    ),
    "gpu-toolkit-missing": Code(
        "The NVIDIA container toolkit is not installed.",
        "Install nvidia-container-toolkit, or declare `prepare: {docker: install}`.",
    ),
    "host-changed-since-plan": Code(
        "The host changed between the plan and the run.", "Run again: the new plan shows the difference."
    ),
    "host-state-unreadable": Code(
        "Something on the host could not be read.", "Correct what the message names, then run again."
    ),
    "memory-insufficient": Code(
        "The weights of the service need more memory than the Spark has, or than became available.",
        "Stop what else uses memory, or serve a smaller model.",
    ),
    "netplan-file-conflict": Code(
        "Another netplan file configures the fabric's links.", "Move that file away, as the message shows."
    ),
    "netplan-missing": Code("netplan is not installed.", "`sudo apt-get install netplan.io`"),
    "port-exchange": Code(
        "Services of one host exchange their ports: none of them becomes free before the others change.",
        "Give one of them an unused port, run, then declare the intended port.",
    ),
    "port-in-use": Code(
        "Another program or container uses the service's port.", "Stop it, or change `port:`."
    ),
    "rdma-missing": Code(
        "A fabric link has no RDMA device.", "Load the driver, or declare `fabric: {tcp: true}`."
    ),
    "resource-conflict": Code(
        "The host does not accept a declared resource: something is in its place, or the value is refused.",
        "Move it away, or change the declaration.",
    ),
    "rollout-in-progress": Code(
        "Another rollout is in progress on this Spark.", "Run again: the run follows it to its end."
    ),
    "service-not-found": Code(
        "A command names a service that is not on the host, or that never passed its readiness gate there.",
        "`sparkfleet status` lists the services of each host; `sparkfleet apply` rolls out what is declared.",
    ),
    "systemd-unavailable": Code(
        "systemd is not the init system.", "Use DGX OS, or another system with systemd."
    ),
    "weights-missing": Code(
        "The model of a generation is not on the Spark any more, or has lost files.",
        "Declare it in the host file and run `deploys/serve.py`, which fetches what is missing.",
    ),
    "weights-corrupt": Code(
        "Files of a model differ from fleet.lock.", "Run `deploys/stage.py`: it fetches these files again."
    ),
}
"""Why a plan cannot be carried out."""

RUN = {
    "cluster-rank-alone": Code(
        "A rollout of one rank was requested without the other ranks of its cluster.",
        "Run `deploys/serve.py`, which changes all ranks together.",
    ),
    "artifact-source-not-ready": Code("The host that is to send an artifact is not ready.", "Run again."),
    "dpkg-locked": Code(
        "Another process (an update, a desktop's package manager) uses dpkg or apt, and did not end in time.",
        "Wait for the process that the message names, then run again.",
    ),
    "docker-install-failed": Code("Docker cannot be installed or started.", "See the log that is named."),
    "fabric-change-failed": Code(
        "The fabric's links could not be configured; the old configuration is active again.",
        "Check cables and addresses, then run again.",
    ),
    "fabric-link-differs": Code(
        "A link does not have its address, MTU or RDMA state after the change.",
        "See `networkctl` or `nmcli` on the Spark for what else configures the link.",
    ),
    "fabric-link-not-measured": Code(
        "`sparkfleet fabric bench` could not measure a link.",
        "Check the cable and the link's state on both Sparks, then run again.",
    ),
    "fabric-management-lost": Code(
        "The change of links took the management network down.",
        "Check which netdev carries the SSH connection.",
    ),
    "fabric-mtu-too-large": Code(
        "Another Spark answers to small packets only: the MTU is smaller there or on the way.",
        "Set the switch to jumbo frames, or declare a smaller `fabric: {mtu: ...}`.",
    ),
    "fabric-not-confirmed": Code(
        "The operator did not open a new connection after the change of links.",
        "Check the network, then run again.",
    ),
    "fabric-other-end-failed": Code(
        "The Spark at the other end of a link could not be configured.",
        "Resolve its failure, then run again.",
    ),
    "fabric-peer-silent": Code(
        "Another Spark does not answer over a link.", "Check cable, switch and the other Spark."
    ),
    "flags-rejected-by-image": Code(
        "The engine in the image rejects the flags; the running engine was not touched.",
        "Correct the flags; `sparkfleet check` names the closest one.",
    ),
    "host-change-failed": Code(
        "A change of the host's configuration failed.", "Follow the hint, then run again."
    ),
    "hub-refused": Code(
        "The hub refuses a model to this token, limits its requests, or does not have the files.",
        "Accept the model's licence, correct `hf_token` or `model:`, or wait, as the message says.",
    ),
    "item-not-removed": Code(
        "An item of `sparkfleet prune` remains: something uses it, or it is in no place of such items.",
        "End what uses it, or remove it by hand, then prune again.",
    ),
    "job-lost": Code(
        "A program on the host ended without a result, for example because of a reboot.",
        "Run again: the run follows or continues the operation that has begun.",
    ),
    "run-stopped": Code(
        "With `--serial`, a Spark was not changed because a rollout on another one failed before.",
        "Resolve that failure, then run again.",
    ),
    "operation-failed": Code("An operation on a host failed.", "Follow the hint, then run again."),
    "restore-failed": Code(
        "A service that ran before a failed rollout does not serve again.",
        "Resolve what the message names, then run again: the plan shows what runs.",
    ),
    "restore-unproven": Code(
        "A service was restarted after a failed rollout, and no readiness gate proves that it answers.",
        "Send it a request; `sparkfleet status` shows its container and unit.",
    ),
    "service-unknown": Code(
        "The Spark has no service of this name, or several where none was named.",
        "Use one of the names that the message lists.",
    ),
    "ask-failed": Code(
        "A service gave no answer to `sparkfleet ask`, or serves a task that answers no question.",
        "Read its log: `sparkfleet logs INVENTORY HOST/SERVICE`.",
    ),
    "log-missing": Code(
        "There is no such log on the Spark: the service has no instance, or no rollout is kept.",
        "Run the command of the message; `docker logs` and `journalctl` on the Spark show what is there.",
    ),
    "programs-outdated": Code(
        "The programs on the Spark are missing, or older than this sparkfleet.",
        "Run `deploys/prepare.py`, which replaces them without touching an engine.",
    ),
    "rollback-unavailable": Code(
        "There is no such generation of the service to roll back to, or its cluster has other members now.",
        "Run `sparkfleet history` to see the generations that are kept.",
    ),
    "journal-unwritable": Code(
        "The directory of a rollout cannot be written.", "Make its file system writable: space, mount, disk."
    ),
    "rollout-failed": Code(
        "A rollout failed for a reason without a code of its own.",
        "Follow the hint. The message says whether the previous generation serves again.",
    ),
    "rollout-interrupted": Code(
        "A restart of the Spark or of the rollout's program interrupted the rollout.", "Run again."
    ),
    "runtime-refused": Code(
        "The runtime refused a request, for example to create the service's container.",
        "Read its message, and correct `container:` of the service.",
    ),
    "staging-failed": Code(
        "An image or model could not be fetched; the running engine was not touched.",
        "Follow the hint, then run again: downloads resume.",
    ),
    "transfer-too-slow": Code(
        "A hub, registry, package index or another Spark sent less than 16 KiB/s for 10 minutes (`hf`: 3 "
        "hours). The running engine was not touched.",
        "Check the network between the Spark and the sender, then run again: completed data is kept.",
    ),
    "unit-masked": Code(
        "The service's systemd unit is masked.", "Run `sudo systemctl unmask UNIT` on the host."
    ),
    "unit-not-managed": Code(
        "A systemd unit with the name of a service was not written by sparkfleet.",
        "Move the file away, then run again.",
    ),
    "user-deploy-failed": Code("`user_deploy.py` raised an exception.", "Correct the file."),
}
"""What went wrong during a run."""

ENGINE = {
    "abbreviation": Code("A flag is abbreviated.", "Write the flag in full."),
    "ambiguous": Code("An abbreviated flag may stand for several flags.", "Write the flag in full."),
    "bad-choice": Code("A flag has a value that its engine does not offer.", "Use one of the values listed."),
    "bad-flag-value": Code("A flag has a value of the wrong type.", "Correct the value."),
    "bad-json": Code("The value of a flag is not valid JSON.", "Correct the value, or write a mapping."),
    "bad-type": Code("The value of a flag has the wrong type.", "Correct the value."),
    "deprecated": Code("A flag is deprecated.", "See the release notes of the engine."),
    "deprecated-flag": Code("A flag is deprecated.", "Use the flag that replaces it."),
    "duplicate": Code("A flag is given twice.", "Keep one."),
    "exits-at-once": Code("A flag makes the engine print something and exit.", "Remove the flag."),
    "json-bad-choice": Code("A key of a JSON flag has a value that is not offered.", "Use a listed value."),
    "json-bad-type": Code("A key inside a JSON flag has a value of the wrong type.", "Correct the value."),
    "json-not-object": Code("A JSON flag is not a mapping.", "Write it as a mapping."),
    "json-unknown-key": Code("A JSON flag has an unknown key.", "Use the key that the message names."),
    "json-unknown-name": Code("A JSON flag names something unknown.", "Use a name that the message lists."),
    "missing-value": Code("A flag has no value.", "Give a value, or remove the flag."),
    "model-not-first": Code("The command line does not begin with the model.", "Write the model first."),
    "needs-other-flag": Code("A flag has no effect without another one.", "Add the flag that is named."),
    "no-model": Code("The command line names no model.", "Name the model."),
    "no-value-allowed": Code("A switch has a value.", "Write `true`, or the flag alone."),
    "not-built-in": Code("A value is only known to a plugin.", "Check that the image has the plugin."),
    "not-registered": Code("A parser or backend of this name is not in the engine.", "Use a listed name."),
    "model-too-large": Code(
        "The model file and its KV cache need more memory than is left for engines.",
        "Lower `ctx-size`, or choose a smaller quantization.",
    ),
    "rule-unknown": Code(
        "`ignore_rules` names a rule that does not exist.", "Correct the name; `sparkfleet rules` lists them."
    ),
    "engine-too-old": Code("The recipe needs a newer engine than the image has.", "Choose a newer image."),
    "secret-in-argv": Code("A flag has a secret that every user of the host can read.", "Remove the flag."),
    "serve-repeated": Code("The command repeats `serve`.", "Begin with the model."),
    "stray-words": Code("The command line has arguments that belong to no flag.", "Remove them."),
    "two-models": Code("The model is given twice.", "Remove `--model`."),
    "unknown-env": Code("The engine does not read this variable.", "Correct its name, or remove it."),
    "unknown-flag": Code("The engine does not have this flag.", "Use the closest flag, or remove it."),
    "engine-is-fork": Code(
        "The image has a fork of the engine, whose flags only the image itself knows.",
        "No action needed: the image's own parser checks the flags before a running engine stops.",
    ),
    "engine-release-unknown": Code(
        "The flags of this engine release are not bundled; those of the nearest known release are checked.",
        "No action needed: the image's own parser checks the flags before a running engine stops.",
    ),
    "unknown-engine-version": Code("The engine's version in the image is unknown.", "Run `sparkfleet lock`."),
}
"""What an engine's check says of flags, variables and files. `ignore_rules` silences each."""

START = {
    "cluster-rank-silent": Code(
        "Another rank of the cluster does not report, or cannot be reached over the fabric.",
        "Ping the other Sparks' fabric addresses; `deploys/fabric.py` repairs the links.",
    ),
    "container-disappeared": Code(
        "The service's container was removed by another process.", "Run again: the plan creates it."
    ),
    "container-recreated": Code(
        "The service's container is not the promoted one: it was recreated by hand, or a rollout runs.",
        "Run `deploys/serve.py`: the plan shows and repairs it.",
    ),
    "container-start-failed": Code(
        "The runtime could not start the engine's container.", "Read the runtime's message."
    ),
    "engine-unsupported": Code(
        "The programs on the Spark do not know the engine, or this way to start it on several Sparks.",
        "Run `deploys/prepare.py` with the sparkfleet that declares it: it updates the programs.",
    ),
    "engine-does-not-stop": Code(
        "A running engine does not end, not even after SIGKILL.", "Run `nvidia-smi` on the Spark; reboot it."
    ),
    "engine-ended": Code(
        "The engine ended, and neither its log nor the kernel's shows a known cause.",
        "Read its log in the evidence that the message names.",
    ),
    "gate-answer-wrong": Code(
        "The model's answer to the gate's prompt is not the expected one.",
        "Check weights, quantization and kernels, or declare `gate: {prompt: ..., expect: ...}`.",
    ),
    "gate-api-key-missing": Code(
        "The engine requires an API key that the readiness gate does not find.",
        "Set the key by the flag or variable that the message names.",
    ),
    "gate-drafts-not-accepted": Code(
        "Speculative decoding is declared, but no draft token was accepted.",
        "Use a drafter for this model and revision.",
    ),
    "gate-name-mismatch": Code(
        "The engine serves another model name than the declared one.",
        "Check what else answers on this port, and which setting overrides the name.",
    ),
    "gate-no-answer": Code(
        "The engine lists its models, but does not answer the gate's request in time or without an error.",
        "Read the engine's log in the evidence; another backend or image may help.",
    ),
    "gate-not-ready": Code(
        "The engine was not ready within the gate's time.",
        "If its log shows that it was still loading, raise `gate: {timeout: ...}`.",
    ),
    "gate-task-unsupported": Code(
        "The readiness gate has no request of the declared task to this engine.", "Declare another task."
    ),
    "gate-tokens-not-counted": Code(
        "The engine's token counter is missing or did not move: another process may have answered.",
        "Enable the engine's metrics; check what else listens on the port.",
    ),
    "image-missing": Code(
        "What the service runs from is not on the Spark.", "Run `deploys/stage.py`, which fetches it."
    ),
    "memory-floor": Code(
        "Available memory fell below the floor, so the engine was killed before the Spark stopped answering.",
        "Lower `gpu-memory-utilization`, `max-model-len` or `max-num-seqs`, or stop what else uses memory.",
    ),
    "killed-by-memory-limit": Code(
        "The kernel killed the engine because its container reached its memory limit.",
        "Raise or remove `container: {memory: ...}` of the service.",
    ),
    "rdma-not-used": Code(
        "The ranks exchange data by TCP although RDMA is declared.",
        "Run `sparkfleet fabric bench`, or accept TCP with `fabric: {tcp: true}`.",
    ),
    "starts-crash-host": Code(
        "Several starts within an hour ended before the engine answered, with the engine or the whole Spark.",
        "Deploy another generation, or remove the file that the message names and start the unit.",
    ),
    "mount-missing": Code(
        "A directory that the container mounts is missing, or its disk is not mounted.",
        "Mount the disk, or create the directory.",
    ),
    "runtime-restarted": Code(
        "dockerd or containerd was restarted while the engine started.",
        "Run again, when nobody upgrades Docker.",
    ),
    "unit-failed": Code(
        "systemd could not start, enable or take over a unit.", "Run `journalctl -u UNIT` on the host."
    ),
}
"""Why an engine does not start, or does not pass its gate. A cause that its log shows has a pattern's id."""

PREFLIGHT = {
    "architecture-unsupported": Code("The host is not arm64.", "Use a DGX Spark: its images are arm64."),
    "clock-skew": Code(
        "The host's clock differs from the operator's.", "Run `sudo timedatectl set-ntp true` on the host."
    ),
    "docker-outdated": Code("Docker is older than what sparkfleet supports.", "Update Docker."),
    "driver-mismatch": Code(
        "The GPU driver is too old for the image, or works with it only in a compatibility mode.",
        "Update the driver, or choose an older image.",
    ),
    "driver-flavour": Code(
        "The GPU driver has the proprietary kernel modules; a GB10 needs the open ones "
        "(https://github.com/Start9Labs/start-technologies/pull/3693).",
        "Run `sudo apt-get install nvidia-driver-580-open`, then reboot.",
    ),
    "gpu-container-failed": Code(
        "A container cannot use the GPU.",
        "Run `sudo nvidia-ctk runtime configure --runtime=docker`, then restart Docker.",
    ),
    "gpu-power-limited": Code(
        "The GPU is busy at 30 W or less: its power supply negotiated too little, or the engine hangs "
        "(https://github.com/Blackwellboy/model-serving-minefield/pull/55).",
        "Unplug the power supply at both ends for a minute; a reboot does not help. Restart a hung engine.",
    ),
    "gpu-unexpected": Code("The GPU is not a GB10.", "Check that the recipes fit this GPU."),
    "gpu-unresponsive": Code(
        "The GPU driver does not respond.", "Run `nvidia-smi`; after a driver update, reboot the host."
    ),
    "network-profile-waits": Code(
        "NetworkManager asks for an address by DHCP on a link of a QSFP cage, where it gets none.",
        "Disable IPv4 in that profile, or declare the fabric, which gives the link its address.",
    ),
    "kernel-memory-reserved": Code(
        "The kernel counts memory that it reserved for Kexec HandOver (KHO) as contiguous memory, which "
        "neither RDMA nor the GPU driver can use (https://github.com/NVIDIA/NV-Kernels/pull/590, "
        "https://github.com/MiaAI-Lab/DeepSeek-v4-Flash-DSpark-2x-DGX-Spark/issues/259).",
        "Run `sudo apt-get install nvidia-spark-grub-kho`, which boots with `kho=off`, then reboot.",
    ),
    "kernel-option-needless": Code(
        "A 6.17 kernel is booted with `kho=off`; slow links were reported for it "
        "(https://github.com/MiaAI-Lab/DeepSeek-v4.1-Flash-DGX-Sparks/issues/14).",
        "Remove the option, then reboot.",
    ),
    "memory-fragmented": Code(
        "Almost no free memory is in large blocks, so the GPU driver may get none "
        "(https://github.com/FujitsuPolycom/sparkring/issues/173, "
        "https://github.com/MiaAI-Lab/DeepSeek-v4.1-Flash-DGX-Sparks/issues/23).",
        "Run again, since memory is compacted before each start; or stop the engine and run "
        "`sudo spark-valve`. If that does not help, reboot.",
    ),
    "network-unreachable": Code(
        "The host cannot reach a registry or the hub.",
        "Fix name resolution, routes, proxy or certificates, or declare `prepare: {offline: true}`.",
    ),
    "oom-killer-active": Code(
        "A user-space OOM killer runs, which would kill the engine first.", "Disable its unit."
    ),
    "os-outdated": Code("The host does not run a current DGX OS.", "Update the system."),
    "package-source-missing": Code(
        "NVIDIA's package sources name an address that does not exist "
        "(https://github.com/timothystewart6/techno-tim.github.io/pull/371).",
        "Correct the address as the message shows, then run `sudo apt-get update`.",
    ),
    "preflight-incomplete": Code(
        "A check could not be carried out.", "Read the message, then run the preflight again."
    ),
    "storage-driver-slow": Code(
        "Docker's storage driver copies whole files.", "Move Docker's data to ext4 or xfs for overlay2."
    ),
    "sudoers-invalid": Code("`visudo -c` rejects a file.", "Correct it with `sudo visudo -f FILE`."),
    "swap-in-use": Code(
        "Much memory is swapped out, which slows engines down.", "Free memory, then empty the swap."
    ),
    "unmanaged-engine": Code(
        "Another container or unit, not managed by sparkfleet, starts an engine.", "Stop and disable it."
    ),
}
"""What the preflight finds on a host, beside codes of a plan."""

KNOWLEDGE = {
    "knowledge-content-invalid": Code(
        "A file of an update cannot be read by this sparkfleet, or a pattern does not match its own samples.",
        "Use an update that was made for this sparkfleet. The former knowledge stays in use.",
    ),
    "knowledge-damaged": Code(
        "A file of the stored update is missing or was changed.",
        "Run `sparkfleet knowledge reset`, then `sparkfleet knowledge update` again.",
    ),
    "knowledge-format-unknown": Code(
        "The update was made for a newer or older sparkfleet.",
        "Install that sparkfleet, or use another update.",
    ),
    "knowledge-hash-mismatch": Code(
        "The update is not the one that `--sha256` pins.",
        "Compare the hash with the one that was published with it.",
    ),
    "knowledge-hash-required": Code(
        "An update has no valid `--sha256`, so nothing shows that it is the published one.",
        "Pass the hash that was published with it.",
    ),
    "knowledge-not-newer": Code(
        "The update is as old as the knowledge in use, or older.",
        "No action needed; to use an older update, run `sparkfleet knowledge reset` first.",
    ),
    "knowledge-path-invalid": Code(
        "The update has a file that is no data file of sparkfleet: code, a link, or a path outside.",
        "Do not use it; ask where you got it from.",
    ),
    "knowledge-unreadable": Code(
        "The update cannot be downloaded or opened, is truncated, or lacks a file.", "Fetch it again."
    ),
}
"""What `sparkfleet knowledge` refuses."""

LAB = {
    "lab-argument-invalid": Code("A name, number or host of the lab is invalid.", "Use one that is listed."),
    "lab-failed": Code(
        "A command of the lab failed.", "Read the output, then run `sparkfleet lab up` again."
    ),
    "lab-not-up": Code("No complete lab runs.", "Run `sparkfleet lab down`, then `sparkfleet lab up`."),
    "lab-requirement-missing": Code(
        "The machine lacks what the lab needs: Docker, privileges, root or packages.",
        "Install what the message names.",
    ),
}
"""What goes wrong in the lab (the distribution sparkfleet-lab)."""

AREAS = {
    "Files of the fleet": FILES,
    "Lock file and offline mirror": LOCK,
    "Checks of an engine": ENGINE,
    "Connection": CONNECTION,
    "Plan": PLAN,
    "Run": RUN,
    "Start of an engine": START,
    "Preflight": PREFLIGHT,
    "Knowledge": KNOWLEDGE,
    "Lab": LAB,
}
"""All codes by area, in the order of the reference page."""

CODES: dict[str, Code] = {name: code for area in AREAS.values() for name, code in area.items()}
