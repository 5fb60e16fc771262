"""Who are you? A client says of itself who it is and how much it has, before it is asked again."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from foundation.data.cache import own_secret
from foundation.messages.content import Content, Received
from foundation.messages.gather import printable
from foundation.messages.participants import Gathered, Introduce, Participant
from foundation.messages.records import InvalidContent
from foundation.settings.configuration import member_files

from .ask import ask_nodes
from .evaluation import held_out_counts
from .question import Question, Request, Site

_SHARED = ("client_app", "strategies", "questions", "generation", "foundation")


def code_fingerprint(values: Mapping[str, Any]) -> str:
    """Return a hash of the sources that server and clients share, 16 hexadecimal digits.

    Simulated clients import from the folder their SuperLink was started in, before the app that was
    submitted. The files of members of a user's own count, too; a ConfigurationError if one is not
    here.
    """
    digest = _digest_of_shared().copy()
    for name, file in member_files(values):
        digest.update(name.encode())
        digest.update(_content(file))
    return digest.hexdigest()[:16]


@cache
def _digest_of_shared() -> "hashlib._Hash":
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for name in _SHARED:
        for file in sorted((root / name).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(_content(file))
    return digest


def _content(file: Path) -> bytes:
    return file.read_bytes().replace(b"\r\n", b"\n")


# Tables are as long as the largest index.
_MOST_CLIENTS = 10**6
_MOST_SAMPLES = 10**10
_MOST_CLASSES = 100_000
_LONGEST_NAME = 60
_LONGEST_DIGEST = 64


def tell(site: Site, asked: Received) -> Content:
    """Say who this is, and how many images it trains on and holds out.

    By class only where the run's configuration says that the server is to know exactly: a noised
    answer is given once, and when it is asked for.
    """
    told = site.configuration.exact_counts_told
    by_class = {"label-counts": list(map(int, site.data().label_counts()))} if told else {}
    return Content(
        numbers={
            "num-examples": len(site.data()),
            "partition-id": site.partition_id,
            "num-partitions": site.num_partitions,
            "held-out": held_out_counts(site),
            **by_class,
        },
        settings={"site-name": site.name, **_digest(site)},
    )


def _digest(site: Site) -> dict[str, str]:
    """Return what says whether a real site's images are still the same, and nothing else.

    Its key stays at the site: nobody else can compute it for images that he guesses.
    """
    key = b"" if site.num_partitions else own_secret()
    return {"digest": site.data().digest(key) + site.held_out().digest(key)} if key else {}


question = Question("describe", tell)


@dataclass(frozen=True)
class DescriptionRequest(Request[Participant, Mapping[int, Participant]]):
    """Ask nodes who they are.

    A client that runs other code than the ``fingerprint`` says refuses; empty: none is compared.
    ``columns`` says in how many columns clients tell their images: the number of classes, or 1
    where the server may not know the classes; None: in any number.
    """

    fingerprint: str = ""
    columns: int | None = None

    asks = question

    def content(self) -> Content:
        return Content(settings={"fingerprint": self.fingerprint})

    def checked(self, who: Participant, reply: Received) -> Participant:
        num_examples = reply.whole_number("num-examples", 1, _MOST_SAMPLES - 1)
        labels = self._by_class(reply, "label-counts")
        if labels and sum(labels) != num_examples:
            raise InvalidContent(
                f"its label counts sum to {sum(labels)}, but it claims {num_examples} images"
            )
        return Participant(
            reply.whole_number("partition-id", -1, _MOST_CLIENTS - 1),
            who.node_id,
            num_examples,
            self._by_class(reply, "held-out"),
            printable(str(reply.setting("site-name", "")))[:_LONGEST_NAME].strip(),
            labels,
            printable(str(reply.setting("digest", "")))[:_LONGEST_DIGEST],
            reply.whole_number("num-partitions", 0, _MOST_CLIENTS),
        )

    def pooled(self, answers: Mapping[int, Participant]) -> Mapping[int, Participant]:
        return answers

    def _by_class(self, reply: Received, name: str) -> tuple[int, ...]:
        """Return images by class; empty if they are not told."""
        told = reply.counted(name)
        if told > _MOST_CLASSES or (told and self.columns is not None and told != self.columns):
            raise InvalidContent(f"it claims {name} of {told} classes")
        return tuple(reply.whole_numbers(name, told, _MOST_SAMPLES)) if told else ()


def introducing(request: DescriptionRequest, agreement: Mapping[str, Any]) -> Introduce:
    """Return the function by which :class:`Participants` meets nodes."""

    def introduce(grid: Grid, nodes: Sequence[int], timeout: float) -> Gathered[Participant]:
        # Nobody has an index yet: a node goes by its own id.
        known = {node: Participant(node, node, 0) for node in nodes}
        return ask_nodes(grid, request, known, {n: n for n in nodes}, agreement, timeout)

    return introduce
