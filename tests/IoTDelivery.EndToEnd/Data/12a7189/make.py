#!/usr/bin/env python3
"""Makes iotdelivery.db with the host of commit 12a7189: make.py PATH/OF/IoTDelivery.Host.dll

kept    MQTT 3.1.1, session kept: m1 acknowledged, m2 received as packet 2 and not acknowledged, m3 waiting
asleep  a message that was due half a minute after it was accepted, and a wake-up row for it
later   a message that is due in decades, and a wake-up row for it
owing   a message whose PENDING a receiver never answered, and then the process was killed

All of it is 300 days old (libfaketime), so that what a test sees does not depend on the day it runs.
"""
import hashlib, hmac, http.server, json, os, shutil, signal, socket, sqlite3, struct, subprocess, sys, tempfile, threading
import time, urllib.request

DLL, HERE = os.path.abspath(sys.argv[1]), os.path.dirname(os.path.abspath(__file__))
FOLDER = tempfile.mkdtemp()
REST, MQTT, SECRET, STAMP = 18480, 18481, "device-secret-1", "2026010100"
AGED = {"LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "FAKETIME": "-300d", "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def start(*more):
    host = subprocess.Popen(["dotnet", DLL, f"--urls=http://127.0.0.1:{REST}", f"--Mqtt:Port={MQTT}", "--Api:Token=end-to-end-token",
                             "--Logging:LogLevel:Default=Warning", *more], cwd=FOLDER, env=os.environ | AGED)
    while True:
        try:
            ask("GET", "products")
            return host
        except OSError:
            time.sleep(0.1)


def ask(method, path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{REST}/v5/iot/p1/{path}", method=method, data=body and json.dumps(body).encode(),
                                     headers={"X-Auth-Token": "end-to-end-token", "Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"null")


def send(device, message, ttl=None):
    body = {"message_id": message, "message": f"content of {message}"}
    print(device, ask("POST", f"devices/{device}/messages", body if ttl is None else body | {"ttl": ttl}))


def text(t):
    return struct.pack(">H", len(t)) + t.encode()


def packet(header, body):
    length, rest = b"", len(body)
    while True:
        length += bytes([rest % 128 | (0x80 if rest > 127 else 0)])
        rest //= 128
        if rest == 0:
            return bytes([header]) + length + body


def read(wire):
    def exactly(n):
        got = b""
        while len(got) < n:
            got += wire.recv(n - len(got))
        return got

    header, length, shift = exactly(1)[0], 0, 0
    while True:
        part = exactly(1)[0]
        length |= (part & 0x7F) << shift
        shift += 7
        if part < 0x80:
            return header, exactly(length)


def next_id(wire):
    header, body = read(wire)
    assert header >> 4 == 3, header
    at = 2 + struct.unpack(">H", body[:2])[0]
    return struct.unpack(">H", body[at:at + 2])[0]


class Silent(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        time.sleep(60)


receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent)
receiver.daemon_threads = True
threading.Thread(target=receiver.serve_forever, daemon=True).start()

host = start("--Delivery:TtlUnit=10.00:00:00")
ask("POST", "products", {"product_id": "lamp", "name": "lamp", "device_type": "lamp", "protocol_type": "MQTT", "data_format": "json",
                         "service_capabilities": []})
for device in ["kept", "asleep", "later", "owing"]:
    ask("POST", "devices", {"device_id": device, "node_id": device, "product_id": "lamp", "auth_info": {"secret": SECRET}})

wire = socket.create_connection(("127.0.0.1", MQTT))
password = hmac.new(STAMP.encode(), SECRET.encode(), hashlib.sha256).hexdigest()
wire.sendall(packet(0x10, text("MQTT") + bytes([4, 0xC0]) + struct.pack(">H", 60) + text(f"kept_0_0_{STAMP}") + text("kept") + text(password)))
assert read(wire) == (0x20, b"\0\0")
wire.sendall(packet(0x82, b"\0\1" + text("$oc/devices/kept/sys/messages/down") + b"\1"))
assert read(wire)[0] == 0x90
send("kept", "m1")
assert next_id(wire) == 1
wire.sendall(packet(0x40, b"\0\1"))
time.sleep(0.5)
send("kept", "m2")
assert next_id(wire) == 2
wire.close()
time.sleep(1)
send("kept", "m3")
send("later", "later-1")
time.sleep(6)  # asleep, and the owed is paid
host.send_signal(signal.SIGTERM)
host.wait()

host = start("--Delivery:TtlUnit=00:00:06")
send("asleep", "asleep-1", ttl=5)
time.sleep(6)
host.send_signal(signal.SIGTERM)
host.wait()

host = start("--Delivery:TtlUnit=10.00:00:00")
rule = ask("POST", "routing-rule/rules", {"rule_name": "status", "subject": {"resource": "device.message.status", "event": "update"}})["rule_id"]
ask("POST", "routing-rule/actions", {"rule_id": rule, "channel": "HTTP_FORWARDING", "channel_detail":
                                     {"http_forwarding": {"url": f"http://127.0.0.1:{receiver.server_port}/status"}}})
ask("PUT", f"routing-rule/rules/{rule}", {"active": True})
send("owing", "owing-1")
host.send_signal(signal.SIGKILL)
host.wait()

[name] = [f for f in os.listdir(os.path.join(FOLDER, "data")) if f.endswith(".db")]
db = sqlite3.connect(os.path.join(FOLDER, "data", name))
print(name, db.execute("select * from wake_up").fetchall())
db.execute("pragma journal_mode=delete")
db.execute("vacuum")
db.close()
shutil.copy(os.path.join(FOLDER, "data", name), os.path.join(HERE, name))
print(os.listdir(os.path.join(FOLDER, "data")), os.path.getsize(os.path.join(HERE, name)))
shutil.rmtree(FOLDER)
