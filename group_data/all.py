"""Settings of every fleet: ``sparkfleet`` (docs/reference/group-data.md), and settings of pyinfra."""

import sparkfleet.ssh as _ssh

ssh_paramiko_connect_kwargs = {"transport_factory": _ssh.without_delay}

sparkfleet = {
    "hf_token": "env:HF_TOKEN",
}
