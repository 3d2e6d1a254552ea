// A device, as the README of MQTT.js writes one. Says what it is told, publishes once, and ends with the PUBACK.
import mqtt from 'mqtt';

const { address, version, clientId, user, password, down, up, report } = JSON.parse(process.argv[2]);
const protocol = version === 3 ? { protocolId: 'MQIsdp', protocolVersion: 3 } : { protocolVersion: version };
const client = mqtt.connect(address, { ...protocol, clientId, username: user, password, clean: true, keepalive: 60, reconnectPeriod: 0 });

client.on('connect', () => client.subscribe(down, { qos: 1 }, (error, granted) => {
  if (error) throw error;
  console.log('subscribed', granted[0].qos);
}));
client.on('message', (topic, payload, packet) => {
  console.log('message', packet.qos, payload.toString('hex'));
  client.publish(up, report, { qos: 1 }, (error) => { // called with the PUBACK
    if (error) throw error;
    console.log('published');
    client.end();
  });
});
client.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});
