"""Rows as JSON to an MQTT topic, with quality of service 1: at least once."""

from __future__ import annotations

import threading
import urllib.parse
from typing import Any

from thfr.errors import InputError
from thfr.extras import require

_SECONDS = 10.0
_PORTS = {"mqtt": 1883, "mqtts": 8883}


class Mqtt:
    """Connects on first use and again whenever the broker has gone.

    Args:
        url: ``mqtt://[USER@]HOST[:PORT]/TOPIC``, or ``mqtts://`` for TLS.
        password: of USER.

    Raises:
        InputError: another kind of URL, or the package is absent.
    """

    def __init__(self, url: str, password: str | None = None) -> None:
        paho = require("--mqtt:", "mqtt", "paho.mqtt.client")
        parts, topic = urllib.parse.urlsplit(url), ""
        try:
            port = parts.port or _PORTS.get(parts.scheme, 0)
            topic = urllib.parse.unquote(parts.path[1:])
        except ValueError:
            port = 0
        if parts.scheme not in _PORTS or not parts.hostname or not port or parts.password:
            raise InputError(
                "--mqtt: expected mqtt://[USER@]HOST[:PORT]/TOPIC (or mqtts://), without a password, got "
                f"{parts.scheme or '?'}://{parts.hostname or '?'}"
            )
        if not topic or "#" in url or parts.query or any(sign in topic for sign in "#+\0"):
            raise InputError(
                f"--mqtt: expected a topic without # and +, mqtt://HOST/line/1 say, got {topic!r}"
            )
        self._paho, self._topic, self._address = paho, topic, (parts.hostname, port)
        self.name = f"{parts.scheme}://{parts.hostname}:{port}/{topic}"
        self._answered = threading.Event()
        self._refusal = "no answer"
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        if parts.scheme == "mqtts":
            self._client.tls_set()
        if parts.username:
            self._client.username_pw_set(urllib.parse.unquote(parts.username), password)
        self._client.reconnect_delay_set(1, 30)
        self._running = False

    def deliver(self, body: bytes) -> None:
        if not self._running:
            self._client.connect(*self._address, keepalive=30)
            self._client.loop_start()
            self._running = True
        if not self._answered.wait(_SECONDS) or not self._client.is_connected():
            raise ConnectionError(f"not connected: {self._refusal}")
        sent = self._client.publish(self._topic, body, qos=1)
        if sent.rc != self._paho.MQTT_ERR_SUCCESS:
            raise ConnectionError(self._paho.error_string(sent.rc))
        sent.wait_for_publish(_SECONDS)
        if not sent.is_published():
            raise ConnectionError("the broker has not acknowledged it")

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        if self._running:
            self._client.loop_stop()

    def _connected(self, _: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            self._answered.set()

    def _disconnected(self, _: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        if self._answered.is_set():  # else it was refused, for a reason that is known
            self._refusal = str(reason)
        self._answered.clear()
