import { MesaClient, sessionPositions } from "/mesa.mjs";

const KEPT = 100; // lines of a log
const CHIPS = 7; // messages of an outbox that are shown one by one

const WORDS = { connecting: "connecting", open: "connected", waiting: "trying again", closed: "offline" };

/** One user: a client of its own, and the card that shows what comes. */
export class User {
  #client = null;
  #expected; // what was dispatched to this user and has not come yet
  #counts = { received: 0, addressed: 0, replayed: 0, position: null, top: 0, acknowledged: 0 };
  #openSince = Infinity;
  #state = "closed";
  #attempts = 0;
  #url = null;
  #left = Promise.resolve(); // until the client before has saved its position

  constructor(id, place) {
    this.id = id;
    this.card = document.getElementById("user").content.firstElementChild.cloneNode(true);
    this.#find("h2").textContent = `User ${id}`;
    this.#find("h2").id = `user-${id}`;
    this.card.setAttribute("aria-labelledby", `user-${id}`);
    this.card.dataset.user = id;
    this.#find(".log").setAttribute("aria-label", `Messages of user ${id}`);
    this.#find(".network").addEventListener("click", () => (this.#client ? this.leave() : this.join()));
    this.#find("select").addEventListener("change", (event) => this.#move(event.target.value));
    this.#expected = JSON.parse(sessionStorage.getItem(`expected-${id}`) ?? "[]");
    this.#counts.addressed = this.#expected.length;
    place.append(this.card);
    this.#show();
  }

  /** Offer the servers that the user can be at; the first time, connect to one. */
  offer(servers) {
    const select = this.#find("select");
    if (select.options.length === servers.length) return;
    select.replaceChildren(...servers.map(({ name, url }) => new Option(`Server ${name}`, url)));
    this.#find(".seat").hidden = servers.length < 2;
    select.selectedIndex = Number(this.id) % servers.length;
    this.#url = select.value;
    this.join();
  }

  join() {
    const positions = sessionPositions(`mesa-demo-${this.id}`);
    const left = this.#left;
    const client = new MesaClient(this.#url, {
      token: () => ({ id: this.id }),
      positions: { load: () => left.then(() => this.#resume(positions.load())), save: (at) => positions.save(at) },
      reconnect: { maxPause: 1 },
    });
    const here = (handle) => (...given) => this.#client === client && handle(...given);
    client.on("*", here((data, message) => this.#take(message)));
    client.onStateChange(here((state, detail) => this.#turn(state, detail)));
    client.onReset(here(() => this.#reset()));
    client.onLost(here((count) => this.#tell(`${count} ${plural(count, "message")} lost: the outbox was over its limits`, "bad")));
    client.onForked(here(() => this.#tell("Redis came back and may have forgotten its newest messages", "bad")));
    this.#client = client;
    this.#turn("connecting");
  }

  leave() {
    this.#left = this.#client.close();
    this.#client = null;
    this.#turn("closed");
  }

  /** Note a dispatch before it is sent; `count` of them. Returns what takes the note back. */
  expect(type, data, count) {
    const now = Date.now();
    const notes = Array.from({ length: count }, () => ({ what: named(type, data), at: now }));
    this.#expected.push(...notes);
    this.#counts.addressed += count;
    this.#keep();
    return () => {
      const left = this.#expected.filter((note) => !notes.includes(note));
      this.#counts.addressed -= this.#expected.length - left.length;
      this.#expected = left;
      this.#keep();
    };
  }

  /** Show how far the outbox is; nothing of it can be known while no server answers. */
  showOutbox(outbox) {
    const waiting = outbox?.waiting ?? [];
    const chips = waiting.slice(0, CHIPS).map((sequence) => element("li", "", `#${sequence}`));
    if (waiting.length > CHIPS) chips.push(element("li", "more", `+${waiting.length - CHIPS}`));
    this.#find(".outbox ul").replaceChildren(...chips);
    this.#find(".waiting").textContent = !outbox
      ? "unknown while the server is down"
      : waiting.length ? `${waiting.length} not acknowledged` : "empty";
    this.card.classList.toggle("holding", waiting.length > 0);
    this.#counts.acknowledged = outbox ? outbox.acknowledged : null;
    this.#show();
  }

  #move(url) {
    this.#url = url;
    if (!this.#client) return;
    this.leave();
    this.join();
  }

  #resume(at) {
    this.#counts.position = at?.s ?? null;
    this.#show();
    return at;
  }

  #take(message) {
    const index = this.#expected.findIndex((note) => note.what === named(message.type, message.data));
    const [note] = index < 0 ? [] : this.#expected.splice(index, 1);
    const isReplayed = note !== undefined && note.at < this.#openSince;
    this.#counts.received += 1;
    if (note === undefined) this.#counts.addressed += 1; // from elsewhere, such as `mesa dispatch`
    if (isReplayed) this.#counts.replayed += 1;
    if (message.sequence !== undefined) this.#counts.position = message.sequence;
    this.#write(message, note && Date.now() - note.at, isReplayed);
    this.#keep();
  }

  #turn(state, detail = {}) {
    const before = this.#state;
    this.#state = state;
    if (state === "open") {
      this.#openSince = Date.now();
      this.#attempts = 0;
      this.#tell(`connected to ${this.#seat}`, "good");
    } else if (before === "open") {
      if (state === "closed") this.#tell("went offline", "");
      else this.#tell(`connection lost${detail.code ? ` (${detail.code})` : ""}`, "bad");
    }
    if (state === "waiting") this.#attempts += 1;
    this.#show();
  }

  #reset() {
    const forgotten = this.#expected.length;
    this.#expected = [];
    this.#counts.position = null;
    this.#keep();
    const cost = forgotten ? `; ${forgotten} dispatched ${plural(forgotten, "message")} went with them` : "";
    this.#tell(`reset: the server has lost its outboxes${cost}. An application loads its state again here`, "bad");
  }

  get #seat() {
    const select = this.#find("select");
    return select.options.length < 2 ? "the server" : select.selectedOptions[0].text.replace("S", "s");
  }

  #keep() {
    sessionStorage.setItem(`expected-${this.id}`, JSON.stringify(this.#expected));
    this.#show();
  }

  #show() {
    const { received, addressed, replayed, position, acknowledged } = this.#counts;
    this.#count("received", `${received}`, ` of ${addressed}`);
    this.#count("replayed", `${replayed}`);
    this.#count("position", position === null ? "–" : `#${position}`);
    this.#count("acknowledged", acknowledged ? `#${acknowledged}` : "–");
    const again = this.#attempts > 1 && this.#state !== "open" && this.#state !== "closed";
    this.card.dataset.state = again ? "waiting" : this.#state;
    this.#find(".word").textContent = again ? `attempt ${this.#attempts}` : WORDS[this.#state];
    this.#find(".network").textContent = this.#state === "closed" ? "Go online" : "Go offline";
  }

  #count(name, value, rest = "") {
    const place = this.#find(`[data-count=${name}]`);
    if (place.textContent !== value + rest) place.replaceChildren(value, element("small", "", rest));
  }

  #write(message, after, isReplayed) {
    const line = element("li", isReplayed ? "message replayed" : "message");
    line.append(
      element("span", "sequence", message.sequence === undefined ? "*" : `#${message.sequence}`),
      element("strong", "", message.type ?? ""),
      element("code", "", JSON.stringify(message.data)),
      element("span", "when", `${isReplayed ? "replayed, " : ""}${after === undefined ? "" : duration(after)}`),
    );
    this.#add(line);
  }

  #tell(text, tone) {
    this.#add(element("li", `event ${tone}`, text));
  }

  #add(line) {
    const log = this.#find(".log");
    log.prepend(line);
    while (log.childElementCount > KEPT) log.lastElementChild.remove();
  }

  #find(selector) {
    return this.card.querySelector(selector);
  }
}

export function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

const plural = (count, word) => (count === 1 ? word : `${word}s`);

const named = (type, data) => JSON.stringify([type, data]);

const duration = (ms) => (ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`);
