"""Where results go beside the log: an HTTP endpoint (webhook) and an MQTT topic."""
