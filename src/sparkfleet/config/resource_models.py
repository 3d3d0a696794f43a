"""``prepare:`` as a user writes it, in group_data for a fleet and in a host file for one Spark.

``None`` means "not said here"; what is said nowhere is left as it is. In mappings a key with ``null`` takes
away what the fleet's group_data says.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sparkfleet.config.base import HostPath, Model, TokenSource

LOGIN_USER = "@login"
"""Stands for the user who logs in on the Spark."""

UserName = Annotated[str, Field(pattern=r"^(@login|[a-z_][a-z0-9_-]{0,31})$")]
FileMode = Annotated[str, Field(pattern=r"^[0-7]{4}$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/[^,:\s]+$")]
SysctlName = Annotated[str, Field(pattern=r"^[a-z]\w*(\.[\w-]+)+$")]
Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]
PackagePattern = Annotated[str, Field(pattern=r"^[a-z0-9*?][a-z0-9.+*?-]*$")]
Registry = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*(:[0-9]+)?$")]


class DirectorySpec(Model):
    """A directory on the Spark."""

    owner: UserName = Field(LOGIN_USER, description="@login is the user who logs in on the Spark.")
    group: str | None = Field(
        None, description="Default: the owner's own for a new directory; else it stays as it is."
    )
    mode: FileMode = Field("0755", description="In four octal digits.")
    own: int | None = Field(
        None,
        ge=1,
        description="Give what is inside to the owner, too, where that is at most so many entries. "
        "Without it they are only told of.",
    )


class FileSpec(Model):
    """A file on the Spark."""

    content: str | None = Field(None, description="The whole text.")
    source: str | None = Field(
        None,
        description="Instead of content: a file on the operator's machine, ~ or from the current directory.",
    )
    owner: UserName = Field("root", description="@login is the user who logs in on the Spark.")
    group: str | None = Field(None, description="Default: the owner's own group.")
    mode: FileMode = Field("0644", description="In four octal digits.")


class LoginSpec(Model):
    """root's `docker login` at a registry."""

    user: str = Field("$oauthtoken", description="The default is what NGC wants with an API key.")
    password: TokenSource = Field(
        description="Where it comes from: env:NAME, file:PATH or command:WORDS. Never the password."
    )
    helper: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+$",
        description="docker-credential-NAME of the Spark keeps it; default: root's config.json, mode 0600.",
    )


class GpuSpec(Model):
    """What nvidia-smi is told at every boot."""

    power_limit_w: int | None = Field(None, ge=1, description="nvidia-smi -pl.")
    clocks_mhz: tuple[int, int] | None = Field(None, description="Least and most: nvidia-smi -lgc.")
    persistence: bool | None = Field(None, description="nvidia-smi -pm.")


class CachesSpec(Model):
    """Which compile caches of former images are removed; those of services here are always kept."""

    max_age_days: int | None = Field(None, ge=1, description="Not written to for so many days.")
    max_gib: float | None = Field(None, gt=0, description="The oldest go until all take no more than this.")


class PrepareSpec(Model):
    """What is made of the Spark itself, beside what its services need."""

    offline: bool | None = Field(
        None,
        description="true: the Spark reaches neither registry nor hub, and the preflight does not try.",
    )
    docker: Literal["check", "install"] | None = Field(
        None,
        description="check (default): Docker and the NVIDIA container toolkit must be there. install: what "
        "is missing of them comes from the Spark's own package sources. Never removed again.",
    )
    docker_users: tuple[UserName, ...] | None = Field(None, description="Members of the group docker.")
    valve_users: tuple[UserName, ...] | None = Field(
        None, description="Who may run spark-valve, and nothing else by this, with sudo and no password."
    )
    directories: dict[HostPath, DirectorySpec | None] | None = Field(
        None, description="Path -> owner and mode. For models_dir and cache_dir, too."
    )
    files: dict[AbsolutePath, FileSpec | None] | None = Field(
        None, description="Path -> file. Sudoers, units and sysctl.d are tested before they are put in place."
    )
    sysctls: dict[SysctlName, str | int | None] | None = Field(
        None, description="As vm.swappiness: 10. Now and, by /etc/sysctl.d/90-sparkfleet.conf, at boot."
    )
    packages: tuple[Package, ...] | None = Field(
        None, description="Installed from the Spark's own package sources."
    )
    hold: tuple[PackagePattern, ...] | None = Field(
        None, description="Installed packages that no upgrade touches (apt-mark hold), as nvidia-driver-*."
    )
    swap: Literal["leave", "off"] | None = Field(
        None, description="off: none now, and none at boot (lines in fstab become comments)."
    )
    earlyoom: Literal["leave", "install", "forbid"] | None = Field(
        None, description="install: installed and running; forbid: stopped and not started at boot."
    )
    gpu: GpuSpec | None = Field(None, description="Power limit, clocks, persistence mode.")
    logins: dict[Registry, LoginSpec | None] | None = Field(
        None, description="Registry -> login, as nvcr.io. Removed when it is no longer declared."
    )
    keep_hf_token: bool | None = Field(
        None,
        description="true: hf_token of group_data stays on the Spark, in ~/.cache/huggingface/token (0600). "
        "Otherwise it is there in memory, for the time of a download.",
    )
    old_caches: CachesSpec | None = Field(None, description="What is removed of old compile caches.")
