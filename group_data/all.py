"""Settings of every fleet. ``sparkfleet`` takes the fields of docs/reference/group-data.md; the rest is pyinfra's."""

import sparkfleet.ssh as _ssh

ssh_paramiko_connect_kwargs = {"transport_factory": _ssh.without_delay}

sparkfleet = {
    "hf_token": "env:HF_TOKEN",
}
