// A consumer of a queue, as rhea's README and the vendor's Node.js sample write one.
import { readFileSync } from 'node:fs';
import container from 'rhea';

const { host, port, ca, user, password, queue, hold } = JSON.parse(process.argv[2]);
let held = false;

container.on('message', ({ message, delivery }) => {
  console.log('message', JSON.stringify(message.body)); // a string, or the spec fails
  if (hold && !held && message.body.includes(hold)) {
    held = true; // neither accepted nor released
    return;
  }
  delivery.accept();
});
for (const problem of ['connection_error', 'receiver_error', 'protocol_error', 'error']) {
  container.on(problem, (context) => console.error(problem, context.error ?? context.connection?.error ?? context));
}

const tls = ca ? { transport: 'tls', ca: [readFileSync(ca)] } : {};
const connection = container.connect({ host, port, username: user, password, reconnect: true, idle_time_out: 8000, ...tls });
connection.open_receiver({ source: queue, autoaccept: false });
