# A consumer of a queue, as Qpid Proton's examples write one.
import json
import sys

from proton import SSLDomain
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Consumer(MessagingHandler):
    def __init__(self, host, port, ca, user, password, queue, hold):
        super().__init__(auto_accept=False)
        self.url = f"{'amqps' if ca else 'amqp'}://{host}:{port}"
        self.ca, self.user, self.password, self.queue, self.hold = ca, user, password, queue, hold

    def on_start(self, event):
        domain = None
        if self.ca:
            domain = SSLDomain(SSLDomain.MODE_CLIENT)
            domain.set_trusted_ca_db(self.ca)
            domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
        connection = event.container.connect(
            self.url, user=self.user, password=self.password, ssl_domain=domain, heartbeat=8)
        event.container.create_receiver(connection, self.queue)

    def on_message(self, event):
        body = event.message.body
        print("message", json.dumps(body), flush=True)  # a string, or the spec fails
        if self.hold and self.hold in body:
            self.hold = None  # neither accepted nor released
        else:
            self.accept(event.delivery)

    def on_link_error(self, event):
        print("link", event.link.remote_condition, file=sys.stderr, flush=True)
        super().on_link_error(event)

    def on_connection_error(self, event):
        print("connection", event.connection.remote_condition, file=sys.stderr, flush=True)
        super().on_connection_error(event)


Container(Consumer(**json.loads(sys.argv[1]))).run()
