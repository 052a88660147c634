"""Routes of inspection, on a model without a network."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import GOOD, Brightness, encoded, picture

Clients = Callable[..., Any]
BAD, FINE = encoded(picture(spot=255)), encoded(picture())


def test_a_bad_image(model: Brightness, client_of: Clients) -> None:
    found = client_of(model).post("/v1/inspect", content=BAD).json()
    assert (found["model"], found["verdict"], found["score"], found["threshold"]) == ("plate", "bad", 1, 0.5)
    assert (found["height"], found["width"], found["id"], found["map"]) == (40, 56, None, None)
    (finding,) = found["findings"]
    wanted = {"x": 20, "y": 10, "width": 8, "height": 8, "area": 64, "peak": 1.0, "width_mm": None}
    assert {key: finding[key] for key in wanted} == wanted
    assert found["ms"] > 0


def test_a_good_image_as_a_form(model: Brightness, client_of: Clients) -> None:
    found = client_of(model).post("/v1/inspect", files={"image": ("a/b.png", FINE)}).json()
    assert (found["verdict"], found["findings"], found["file"]) == ("good", [], "a/b.png")
    assert found["score"] == pytest.approx(20 / 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_formats_are_told_by_content(model: Brightness, client_of: Clients, kind: str) -> None:
    headers = {"content-type": "image/png"}
    answer = client_of(model).post("/v1/inspect", content=encoded(picture(spot=255), kind), headers=headers)
    assert answer.json()["verdict"] == "bad"


def test_maps(model: Brightness, client_of: Clients) -> None:
    client = client_of(model)
    tiff = base64.b64decode(client.post("/v1/inspect?map=tiff", content=BAD).json()["map"])
    with Image.open(io.BytesIO(tiff)) as image:
        values = np.asarray(image)
    np.testing.assert_array_equal(values, (picture(spot=255).max(2) / 255).astype(np.float32))
    png = base64.b64decode(client.post("/v1/inspect?map=png", content=BAD).json()["map"])
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.size) == ("PNG", (56, 40))
        assert np.ptp(np.asarray(image)[12:16, 22:26].astype(int), axis=2).min() > 20  # coloured


def test_findings_can_be_asked_for_by_area_and_in_millimetres(client_of: Clients) -> None:
    client = client_of(Brightness(), min_area=65, pixels_per_mm=4.0)
    assert client.post("/v1/inspect", content=BAD).json()["findings"] == []
    (finding,) = client.post("/v1/inspect?min_area=64", content=BAD).json()["findings"]
    assert (finding["width_mm"], finding["area_mm2"]) == (2, 4)
    assert client.post("/v1/inspect?min_area=0", content=BAD).status_code == 422


def test_models_side_by_side(client_of: Clients) -> None:
    client = client_of(Brightness("first"), Brightness("second", None))
    assert client.post("/v1/inspect", content=BAD).json()["model"] == "first"
    found = client.post("/v1/inspect?model=second", content=BAD).json()
    assert (found["model"], found["verdict"], found["threshold"]) == ("second", None, None)
    first, second = client.get("/v1/models").json()["models"]
    assert (first["name"], first["threshold"], first["expected_false_alarm_rate"]) == (
        "first", 0.5, pytest.approx(GOOD.expected_rate),
    )  # fmt: skip
    assert (second["name"], second["threshold"], second["threshold_source"]) == ("second", None, None)


@pytest.mark.parametrize("name", ["../plate", "plate/../plate", "/etc/passwd", "plate%00", "none", ""])
def test_names_are_looked_up_and_nothing_else(model: Brightness, client_of: Clients, name: str) -> None:
    answer = client_of(model).post(f"/v1/inspect?model={name}", content=BAD)
    assert answer.status_code == 404
    assert "expected one of plate" in answer.json()["detail"]


def test_a_batch_keeps_its_order_and_goes_on_after_a_bad_file(model: Brightness, client_of: Clients) -> None:
    files = [("image", ("1.png", BAD)), ("image", ("2.png", b"nothing")), ("image", ("3.png", FINE))]
    first, second, third = client_of(model).post("/v1/inspect/batch", files=files).json()["results"]
    assert (first["file"], first["verdict"]) == ("1.png", "bad")
    assert second == {
        "detail": "inspect: image: expected PNG, JPEG, BMP, TIFF, WEBP, got 7 bytes that are none of them"
    }
    assert (third["file"], third["verdict"]) == ("3.png", "good")


def test_batches_are_limited(model: Brightness, client_of: Clients) -> None:
    client = client_of(model, max_images=2)
    files = [("image", ("1.png", FINE))] * 3
    assert client.post("/v1/inspect/batch", files=files).status_code == 413
    assert client.post("/v1/inspect/batch", files={"other": FINE}).status_code == 422
    assert client.post("/v1/inspect/batch", content=FINE).status_code == 415
    assert client.post("/v1/inspect", files=files[:2]).status_code == 422


def test_limits_of_size(model: Brightness, client_of: Clients) -> None:
    client = client_of(model, max_bytes=3000, max_pixels=40 * 56)
    assert client.post("/v1/inspect", content=FINE).status_code == 200
    assert client.post("/v1/inspect", content=b"x" * 3001).status_code == 413

    def chunks() -> Any:
        yield from [b"x" * 1000] * 4

    assert client.post("/v1/inspect", content=chunks()).status_code == 413  # of a length not announced
    form = {"image": ("a.png", b"x" * 3001)}
    assert client.post("/v1/inspect", files=form).status_code == 413
    answer = client.post("/v1/inspect", content=encoded(picture(41, 56)))
    assert (answer.status_code, "41" in answer.json()["detail"]) == (422, True)


def test_other_types_are_refused(model: Brightness, client_of: Clients) -> None:
    client = client_of(model)
    assert client.post("/v1/inspect", json={"image": "x"}).status_code == 415
    assert client.post("/v1/inspect", content=b"").status_code == 415
    assert client.post("/v1/inspect", content=encoded(picture(), "GIF")).status_code == 415
    answer = client.post("/v1/inspect", content=b"--x", headers={"content-type": "multipart/form-data"})
    assert answer.status_code == 400
    truncated = client.post("/v1/inspect", content=encoded(picture(spot=255))[:-40])
    assert truncated.status_code == 422
    assert "/" not in truncated.json()["detail"]  # no path of the server


def test_a_full_queue_is_refused_with_a_time(model: Brightness, client_of: Clients) -> None:
    client = client_of(model, queue_images=2, batch_images=1, batch_wait=0.0)
    model.gate.clear()
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/v1/inspect", content=BAD)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: client.get("/v1/models").json()["models"][0]["waiting"] == 2)
    refused = client.post("/v1/inspect", content=BAD)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    model.gate.set()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert b'thfr_refused_requests_total{status="503"} 1.0' in client.get("/metrics").content


def test_an_answer_that_takes_too_long(model: Brightness, client_of: Clients) -> None:
    client = client_of(model, timeout=0.2, batch_images=1)
    model.gate.clear()
    answer = client.post("/v1/inspect", content=BAD)
    assert (answer.status_code, answer.json()) == (504, {"detail": "the answer took too long"})
    model.gate.set()
    assert client.post("/v1/inspect", content=BAD).status_code == 200


def test_an_error_of_the_model_ends_one_request_only(model: Brightness, client_of: Clients) -> None:
    client = client_of(model)
    model.fail = RuntimeError("out of memory")
    assert client.post("/v1/inspect", content=BAD).status_code == 500
    model.fail = None
    assert client.post("/v1/inspect", content=BAD).status_code == 200


def test_the_token(model: Brightness, client_of: Clients) -> None:
    client = client_of(model, token="a-long-secret-token", hosts=("*",))
    for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
    for given in ("Bearer wrong", "Basic a-long-secret-token", "Bearer", "Bearer a-long-secret-tokén"):
        headers = {"authorization": given.encode("latin-1")}
        assert client.post("/v1/inspect", content=BAD, headers=headers).status_code == 401
    headers = {"authorization": "Bearer a-long-secret-token"}
    assert client.post("/v1/inspect", content=BAD, headers=headers).status_code == 200
    assert client.get("/healthz").json()["status"] == "ok"


def test_names_that_others_resolve_to_this_machine(model: Brightness, client_of: Clients) -> None:
    client = client_of(model)
    assert client.get("/healthz", headers={"host": "attacker.example"}).status_code == 400
    assert client.get("/healthz", headers={"host": "localhost:8008"}).status_code == 200


def test_what_curl_sends(model: Brightness, client_of: Clients) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}  # of curl --data-binary
    answer = client_of(model).post("/v1/inspect", content=BAD, headers=headers)
    assert (answer.status_code, answer.json()["verdict"]) == (200, "bad")


def test_metrics(model: Brightness, client_of: Clients) -> None:
    client = client_of(model)
    for body in (BAD, FINE, FINE):
        client.post("/v1/inspect", content=body)
    text = client.get("/metrics").text
    assert 'thfr_inspections_total{model="plate",verdict="bad"} 1.0' in text
    assert 'thfr_inspections_total{model="plate",verdict="good"} 2.0' in text
    assert 'thfr_batch_images_count{model="plate"} 3.0' in text


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
