#!/bin/sh
# Starts a Docker Engine for the lab, or installs one. Does nothing if one answers; prints each step before it is taken.
# As root, or with sudo. DOCKER_LOG and DOCKER_PID are the paths of log and PID file of a dockerd without systemd.
set -eu

LOG=${DOCKER_LOG:-/var/log/sparkfleet-dockerd.log}
PID=${DOCKER_PID:-/run/sparkfleet-dockerd.pid}
SYSTEMD=${SYSTEMD_DIR:-/run/systemd/system}
WAIT=${DOCKER_WAIT:-60}
PATH=$PATH:/usr/sbin:/sbin

say() { echo "docker: $*"; }
fail() { echo "docker: $*" >&2; exit 1; }
answers() { docker info >/dev/null 2>&1; }
# The directory alone proves nothing: programs create it in containers and small machines without systemd.
systemd_runs() { [ -d "$SYSTEMD" ] && as_root systemctl show --property=Version >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "this needs root, and there is no sudo: $*"
  fi
}

install_engine() {
  command -v apt-get >/dev/null || fail "no Docker Engine here and no apt-get: install one (https://docs.docker.com/engine/install/), then run again"
  say "installing the distribution's Docker Engine: apt-get install docker.io debootstrap"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends docker.io debootstrap iptables >/dev/null
}

start_engine() {
  if systemd_runs; then
    say "starting it: systemctl start docker"
    as_root systemctl start docker
  else
    say "starting it: dockerd (no systemd here; log in $LOG, process id in $PID)"
    as_root sh -c 'setsid dockerd --pidfile "$2" >"$1" 2>&1 </dev/null &' sh "$LOG" "$PID"
  fi
}

wait_for_engine() {
  left=$WAIT
  until answers; do
    left=$((left - 1))
    if [ "$left" -le 0 ]; then
      if systemd_runs; then fail "it does not answer after $WAIT s; journalctl -u docker says why"; fi
      as_root tail -n 15 "$LOG" >&2 || true
      fail "it does not answer after $WAIT s; $LOG says why"
    fi
    sleep 1
  done
  say "it answers"
}

if answers; then exit 0; fi

[ "$(uname -s)" = Linux ] || fail "no Docker Engine answers: start Docker Desktop (or colima), then run again"

# A daemon that this user may not access counts as missing.
if [ "$(id -u)" != 0 ] && command -v sudo >/dev/null && sudo -n docker info >/dev/null 2>&1; then
  fail "a Docker Engine runs, but $(id -un) may not use it: sudo usermod -aG docker $(id -un), then log in again"
fi

if ! command -v dockerd >/dev/null; then install_engine; fi
if ! answers; then start_engine; fi
wait_for_engine
