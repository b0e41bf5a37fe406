/**
 * /tab.html?url=...&user=...&client=...&positions=... : what the client delivers is written to `sessionStorage`
 * in the same moment, so that a reload loses no note. `journal()` has all of it, `newest()` the highest number,
 * `leads()` tells whether this page has a connection that it shares. `say()` sends messages, and `said()` tells how
 * many were sent, and written, since the page was loaded; `reload()` loads it again in the midst of a message,
 * after some milliseconds. Where the module has a `SharedClient`, that one is used.
 */

const { url, user, client, positions, interval } = Object.fromEntries(new URLSearchParams(location.search));
const { MesaClient, SharedClient, localPositions, sessionPositions } = await import(client);

let next = Number(sessionStorage.getItem("notes") ?? 0);
let highest = Number(sessionStorage.getItem("highest") ?? -1);

function note(kind, value = 0) {
  sessionStorage.setItem(`note:${next++}`, JSON.stringify([Date.now() / 1000, kind, value]));
  sessionStorage.setItem("notes", next);
}

window.journal = () => Array.from({ length: next }, (_, n) => JSON.parse(sessionStorage.getItem(`note:${n}`)));
window.newest = () => highest;
window.leads = () =>
  navigator.locks.request(`me ${crypto.randomUUID()}`, async (me) => {
    const { held } = await navigator.locks.query();
    const holder = (isIt) => held.find(({ name }) => isIt(name))?.clientId;
    return holder((name) => name == me.name) == holder((name) => name.endsWith(" leader"));
  });

const stores = { local: () => localPositions(`mesa:${user}`), session: () => sessionPositions(`mesa:${user}`) };
const mesa = new (SharedClient ?? MesaClient)(url, {
  token: user,
  positions: stores[positions]?.(),
  keepalive: { interval: Number(interval), timeout: Number(interval) },
  reconnect: { maxPause: 1 },
});

const pause = (milliseconds) => new Promise((then) => setTimeout(then, milliseconds));
let leaving;
window.reload = (milliseconds) => {
  leaving = milliseconds;
};
mesa.on("NUMBER", async (number) => {
  await pause(5);
  if (leaving) {
    await pause(leaving);
    location.reload();
    await new Promise(() => {}); // it has not handled this one
  }
  note("number", number);
  sessionStorage.setItem("highest", (highest = Math.max(highest, number)));
});
mesa.onReset(() => {
  note("reset");
});
mesa.onForked((rollback) => {
  note("forked", rollback);
});
mesa.onLost((count) => {
  note("lost", count);
});

let sent = 0;
let written = 0;
window.said = () => [sent, written];
window.say = async () => {
  for (let n = 0; n < 60; n++) {
    sent++;
    mesa.send("SAID", n).then(() => written++, (error) => note("refused", error.code));
    await pause(5);
  }
};

mesa.onStateChange((state) => {
  note("state", state);
});
