import { User, element } from "/user.js";

const token = document.documentElement.dataset.token;
const main = document.querySelector("main");
const form = document.getElementById("dispatch");
const data = form.elements.data;
const users = ["0", "1"].map((id) => new User(id, main));

const STORAGE = {
  memory:
    "This server keeps outboxes in its own memory: kill it, and what waits there is gone; users are told by a reset. " +
    "With redis-server 7 on the PATH, or --redis, outboxes outlive their servers.",
  "own redis": "Outboxes are kept in Redis, which the demo has started: kill a server, or both, and nothing is lost.",
  redis: "Outboxes are kept in your Redis: kill a server, or both, and nothing is lost.",
};

const ENDED = "The demo has ended: start it again, and open the address that it prints.";

const WITHOUT_REDIS =
  "Dispatch to two users. Take one offline, dispatch again, and bring it back: what it missed arrives, in order, once.";

/** Ask the demo's process to do something; throws what it says went wrong. */
async function ask(path, what) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-demo-token": token },
    body: JSON.stringify(what),
  }).catch(() => {
    throw new Error(ENDED);
  });
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text);
  throw new Error(text.startsWith("{") ? JSON.parse(text).error : text);
}

function say(text, isBad = false) {
  const outcome = document.getElementById("outcome");
  outcome.textContent = text;
  outcome.classList.toggle("bad", isBad);
}

// Dispatching

/** What the form holds; `data` is missing where it cannot be read. */
function read() {
  const fields = new FormData(form);
  const to = fields.get("to").split(",");
  const excluding = fields.getAll("excluding");
  const receivers = users.filter(({ id }) => (to[0] === "*" || to.includes(id)) && !excluding.includes(id));
  const asked = { type: fields.get("type"), to, excluding };
  try {
    return { receivers, asked: { ...asked, data: JSON.parse(data.value) } };
  } catch (error) {
    return { receivers, asked, problem: `Data is no JSON: ${error.message}` };
  }
}

function python(value) {
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${python(each)}`).join(", ")}}`;
}

function preview() {
  const { asked, problem } = read();
  const shown = problem ? "…" : python(asked.data);
  const others = asked.excluding.length ? `, ${python(asked.excluding)}` : "";
  const lines = [
    `data = ${shown}`,
    `message = Message(0, data, ${python(asked.type)})`,
    `dispatcher.dispatch(message, ${python(asked.to)}${others})`,
  ];
  document.getElementById("call").replaceChildren(...lines.map((line) => element("span", "", `${line}\n`)));
  const told = document.getElementById("data-problem");
  told.textContent = problem ?? "";
  told.hidden = !problem;
  data.setAttribute("aria-invalid", String(Boolean(problem)));
}

async function dispatch(times) {
  const { receivers, asked, problem } = read();
  if (problem) return data.focus();
  const forget = receivers.map((user) => user.expect(asked.type, asked.data, times));
  try {
    const stored = Object.entries(await ask("/dispatch", { ...asked, times }));
    const where = stored.map(([id, sequence]) => `for ${id} as ${numbers(sequence, times)}`).join(", ");
    const everybody = asked.excluding.length ? `everybody but ${asked.excluding.join(" and ")}` : "everybody";
    if (where) say(`Stored ${where}.`);
    else say(asked.to[0] === "*" ? `Sent to ${everybody}.` : "Sent to no user: every recipient is excluded.");
  } catch (error) {
    forget.forEach((undo) => undo());
    say(`Not dispatched: ${error.message}`, true);
  }
}

const numbers = (last, times) => (times === 1 ? `#${last}` : `#${last - times + 1} to #${last}`);

form.addEventListener("input", preview);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  dispatch(Number(event.submitter?.value || 1));
});
data.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
preview();

// Servers

const rows = [];

function showServers(servers) {
  servers.forEach(({ name, url, running }, index) => {
    rows[index] ??= addServer(index, name, url);
    showServer(rows[index], name, running);
  });
}

function showServer(row, name, running) {
  const button = row.querySelector("button");
  row.dataset.running = running;
  button.textContent = running ? "kill -9" : "Start";
  button.className = running ? "danger" : "primary";
  button.setAttribute("aria-label", `${button.textContent} server ${name}`);
}

function addServer(index, name, url) {
  const row = document.getElementById("server").content.firstElementChild.cloneNode(true);
  row.querySelector(".name").textContent = `Server ${name}`;
  row.querySelector(".address").textContent = `:${new URL(url).port}`;
  const button = row.querySelector("button");
  button.addEventListener("click", async () => {
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    try {
      const { running } = await ask(`/servers/${index}`, { running: row.dataset.running !== "true" });
      showServer(row, name, running);
      say(`Server ${name} ${running ? "runs again" : "was killed"}.`);
    } catch (error) {
      say(error.message, true);
    }
    button.ariaBusy = "false";
  });
  document.getElementById("servers").append(row);
  return row;
}

// What is, as it changes

const events = new EventSource(`/events?token=${token}`);
events.addEventListener("message", (event) => {
  const { storage, servers, outboxes, problem } = JSON.parse(event.data);
  document.getElementById("storage").textContent = STORAGE[storage];
  if (storage === "memory") document.getElementById("lead").textContent = WITHOUT_REDIS;
  document.body.classList.remove("ended");
  showServers(servers);
  users.forEach((user) => {
    user.offer(servers);
    user.showOutbox(outboxes?.[user.id]);
  });
});
events.addEventListener("error", () => {
  document.body.classList.add("ended");
  say(ENDED, true);
});
