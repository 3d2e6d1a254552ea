# A device, as the examples of Eclipse Paho's Python client write one. Says what it is told, publishes once, and ends with
# the PUBACK. Debian 12 has version 1.6, Debian 13 version 2.
import json
import sys
from urllib.parse import urlparse

import paho.mqtt.client as mqtt

settings = json.loads(sys.argv[1])
address = urlparse(settings["address"])
first = [mqtt.CallbackAPIVersion.VERSION1] if hasattr(mqtt, "CallbackAPIVersion") else []
client = mqtt.Client(
    *first, client_id=settings["clientId"], protocol=settings["version"],
    transport="websockets" if address.scheme == "ws" else "tcp")
if address.scheme == "ws":
    client.ws_set_options(path=address.path)
client.username_pw_set(settings["user"], settings["password"])


def on_connect(client, userdata, flags, code, *properties):
    if code != 0:
        sys.exit(f"CONNACK {code}")
    client.subscribe(settings["down"], qos=1)


def on_subscribe(client, userdata, mid, granted, *properties):
    code = granted[0]
    print("subscribed", getattr(code, "value", code), flush=True)


def on_message(client, userdata, message):
    print("message", message.qos, message.payload.hex(), flush=True)
    client.publish(settings["up"], settings["report"], qos=1)


def on_publish(client, userdata, mid):  # called with the PUBACK
    print("published", flush=True)
    client.disconnect()


client.on_connect, client.on_subscribe = on_connect, on_subscribe
client.on_message, client.on_publish = on_message, on_publish
client.connect(address.hostname, address.port, keepalive=60)
client.loop_forever(retry_first_connection=False)
