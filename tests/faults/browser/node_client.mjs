/** node node_client.mjs CLIENT URL USER INTERVAL: writes what its user is sent to stdout, a JSON list a line. */

const [client, url, user, interval] = process.argv.slice(2);
const { MesaClient } = await import(client);

const note = (kind, value = 0) => {
  process.stdout.write(`${JSON.stringify([Date.now() / 1000, kind, value])}\n`);
};
const mesa = new MesaClient(url, {
  token: async () => user,
  keepalive: { interval: Number(interval), timeout: Number(interval) },
  reconnect: { maxPause: 1 },
});
mesa.on("NUMBER", (number) => note("number", number));
mesa.onReset(() => note("reset"));
mesa.onForked((rollback) => note("forked", rollback));
mesa.onLost((count) => note("lost", count));
mesa.onStateChange((state) => note("state", state));
