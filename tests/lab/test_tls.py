"""An engine that serves HTTPS is proven, watched and changed like any other."""

from __future__ import annotations

from sparkfleet_lab.keys import certificates
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine

STARTS = "/var/lib/sparkfleet/services/nano/starts.json"
MODELS = "curl -sS --fail --max-time 10 --cacert /srv/tls/ca.pem --resolve spark.example:8000:127.0.0.1"


def test_an_engine_with_a_certificate_passes_its_gate_over_https(
    fleet: FleetDirectory, spark: Machine
) -> None:
    made = certificates(("spark.example",), ())
    texts = {"ca": made.authority, "key": made.key, "crt": made.certificate}
    spark.sh("mkdir -p /srv/tls")
    for name, text in texts.items():
        spark.sh(f"cat > /srv/tls/{name}.pem <<'END'\n{text}END")
    nano = {
        "recipe": "nemotron-3-nano-30b-a3b-nvfp4",
        "name": "nano",
        "flags": {"ssl-certfile": "/tls/crt.pem", "ssl-keyfile": "/tls/key.pem"},
        "container": {"mounts": [{"source": "/srv/tls", "target": "/tls", "read_only": True}]},
    }
    fleet.host("spark-01", {"serve": [nano]})
    fleet.lock()
    fleet.run().expect(0)
    assert '"nano"' in spark.sh(f"{MODELS} https://spark.example:8000/v1/models")
    assert not spark.ok("curl -sS --fail --max-time 5 http://127.0.0.1:8000/v1/models")
    fleet.plan().expect(0)
    # The supervisor asks over HTTPS, too: it forgets its starts when the engine answers.
    spark.sh("systemctl restart sparkfleet-nano.service")
    spark.sh(f"timeout 90 sh -c 'while test -e {STARTS}; do sleep 1; done'")
