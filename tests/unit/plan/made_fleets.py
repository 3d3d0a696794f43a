"""Generated fleets for tests of prune: Sparks with models, images, caches and records, managed or not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.state import StagedItem
from sparkfleet.desired_state import Host, ImageRef, Service, Weights
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.stored import (
    Stored,
    StoredBlob,
    StoredCache,
    StoredContainer,
    StoredEvidence,
    StoredGeneration,
    StoredImage,
    StoredRepository,
    StoredRevision,
    StoredService,
)
from tests.unit.plan.fake_spark import fresh

HUB = "/home/nvidia/vllm/hub"
CACHES = "/home/nvidia/vllm-compile-cache"
REPOS = ("org/a", "org/b", "org/c")
REVISIONS = tuple(digit * 40 for digit in "123")
DIGESTS = tuple(f"sha256:{digit * 64}" for digit in "456789")
BLOBS = ("w1", "w2", "w3", "c1", "c2")


def root(repo: str) -> str:
    return f"{HUB}/models--{repo.replace('/', '--')}"


def snapshot(repo: str, revision: str) -> str:
    return f"{root(repo)}/snapshots/{revision}"


def image_ref(digest: str) -> str:
    return f"registry.example/vllm@{digest}"


@dataclass(frozen=True)
class Pick:
    """A model at a commit in an image: what a service is, as far as disks go."""

    repo: str
    revision: str
    digest: str


picks = st.builds(Pick, st.sampled_from(REPOS), st.sampled_from(REVISIONS), st.sampled_from(DIGESTS))


def service(pick: Pick, number: int) -> Service:
    image = ImageRef("registry.example/vllm", "1", pick.digest)
    return Service(f"s{number}", "", 8000 + number, image, Weights(pick.repo, pick.revision), f"s{number}")


def generation(pick: Pick, number: int, name: str = "") -> StoredGeneration:
    return StoredGeneration(
        id=f"g{number}",
        image=f"registry.example/vllm:1@{pick.digest}",
        model=pick.repo,
        revision=pick.revision,
        names=(pick.repo,),
        promoted_at=float(number),
        path=f"/var/lib/sparkfleet/services/{name}/generations/{number}-g{number}.json" if name else "",
        bytes=100,
        uses=(snapshot(pick.repo, pick.revision),),
        caches=(f"{CACHES}/{pick.digest[7:19]}",),
    )


@st.composite
def stored_services(draw: st.DrawFn, name: str) -> StoredService:
    history = draw(st.lists(picks, max_size=4))
    generations = tuple(generation(pick, number, name) for number, pick in enumerate(history))
    serving = bool(generations) and draw(st.booleans())
    current = replace(generations[-1], path="") if serving else None
    replaced = (
        tuple(generation(draw(picks), 90 + n) for n in range(draw(st.integers(0, 1)))) if current else ()
    )
    return StoredService("b" if current else "", current, replaced, generations)


@st.composite
def repositories(draw: st.DrawFn, repo: str) -> StoredRepository:
    blobs = {
        name: StoredBlob(draw(st.integers(1, 9)), draw(st.sampled_from(["", f"{HUB}/blobs/aa/{name}"])))
        for name in BLOBS
    }
    revisions = tuple(
        StoredRevision(
            revision,
            snapshot(repo, revision),
            tuple(draw(st.lists(st.sampled_from(BLOBS), min_size=1, unique=True))),
            changed=draw(st.floats(1, 1000)),
        )
        for revision in draw(st.lists(st.sampled_from(REVISIONS), unique=True))
    )
    return StoredRepository(repo, root(repo), revisions, blobs)


@st.composite
def stored(draw: st.DrawFn) -> Stored:
    images = tuple(
        StoredImage(
            f"sha256:{digest[7:][::-1]}",
            (image_ref(digest), *draw(st.sampled_from([(), ("mine:latest",)]))),
            draw(st.integers(1, 99)),
        )
        for digest in draw(st.lists(st.sampled_from(DIGESTS), unique=True))
    )
    repos = tuple(draw(repositories(repo)) for repo in draw(st.lists(st.sampled_from(REPOS), unique=True)))
    paths = [one.path for repository in repos for one in repository.revisions]
    containers = tuple(
        StoredContainer(
            f"c{number}",
            f"c{number}",
            image.id,
            tuple(draw(st.lists(st.sampled_from(paths), max_size=2))) if paths else (),
        )
        for number, image in enumerate(draw(st.lists(st.sampled_from(images), max_size=2)) if images else ())
    )
    names = [digest[7:19] for digest in DIGESTS] + ["theirs"]
    folders = draw(st.lists(st.sampled_from(names), unique=True))
    refs = [ref for image in images for ref in image.refs if "@" in ref]
    return Stored(
        images,
        repos,
        tuple(StoredCache(name, f"{CACHES}/{name}", 7, 50.0) for name in folders),
        containers,
        {
            name: draw(stored_services(name))
            for name in draw(st.lists(st.sampled_from(["x", "y"]), unique=True))
        },
        tuple(
            StoredEvidence(f"e{n}", f"/var/lib/sparkfleet/rollouts/e{n}/evidence", 3, 9.0) for n in range(2)
        ),
        {ref: StagedItem(5, 20.0) for ref in draw(st.lists(st.sampled_from(refs), unique=True))}
        if refs
        else {},
        {path: StagedItem(5, 20.0) for path in draw(st.lists(st.sampled_from(paths), unique=True))}
        if paths
        else {},
    )


@st.composite
def sparks(draw: st.DrawFn, number: int, unknown: bool) -> tuple[Host, Observed | Diagnostic]:
    declared = tuple(service(pick, n) for n, pick in enumerate(draw(st.lists(picks, max_size=2))))
    host = Host(f"spark-{number}", declared)
    if unknown and draw(st.integers(0, 3)) == 0:
        return host, Diagnostic(host.name, "no route to host", code="test")
    return host, replace(fresh(host), stored=draw(stored()))


@st.composite
def fleets(draw: st.DrawFn, *, unknown: bool = True) -> list[tuple[Host, Observed | Diagnostic]]:
    """Return one to three Sparks; some cannot be reached."""
    return [draw(sparks(number, unknown)) for number in range(draw(st.integers(1, 3)))]
