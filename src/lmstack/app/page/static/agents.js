// Agents' runs as they go on: the list, or one run with its timeline and what waits for a person.

import { ApiError, changed, json, useKey } from "/static/api.js";
import { askForKey } from "/static/key.js";
import { build, patch } from "/static/nodes.js";
import { element, sentence } from "/static/text.js";
import { useThemeButton } from "/static/theme_button.js";

const LIVE_MS = 1000;
const ENDED_MS = 5000;
// A button that has just appeared under the pointer, or the finger, is not pressed by mistake.
const SETTLE_MS = 700;

// `lmstack agent run --page` prints an address with the key of its run, which no server is sent.
const given = /^#key=([\w-]+)$/.exec(location.hash);
if (given) {
  useKey(given[1]);
  history.replaceState(null, "", location.pathname);
}

const byId = (id) => document.getElementById(id);
const run = location.pathname.replace(/^\/agents\/?/, "");
const source = run ? `/api/agents/${run}` : "/api/agents";
let body = null; // what `patch` keeps up to date
let shown = null; // the last answer of the server
let etag = null;
let timer = 0;
let polling = false;

async function poll() {
  if (polling) return;
  polling = true;
  clearTimeout(timer);
  let wait = LIVE_MS;
  try {
    const found = await changed(source, { etag, signal: AbortSignal.timeout(8000) });
    if (found) show(found);
    byId("trouble").replaceChildren();
    say(shown.live ? "live" : "ended", shown.live ? "live" : "");
    wait = shown.live ? LIVE_MS : ENDED_MS;
  } catch (error) {
    if (error.name === "TypeError") throw error;
    failed(error);
    if (error.status === 401 || error.status === 403 || error.status === 404) wait = null;
  } finally {
    polling = false;
  }
  if (wait !== null && !document.hidden) timer = setTimeout(poll, wait);
}

function show(found) {
  const before = shown;
  shown = found.value;
  etag = found.etag;
  document.title = `${shown.waiting ? `(${shown.waiting}) ` : ""}${shown.title} · lmstack`;
  const had = document.activeElement;
  if (body) body = patch(body, shown.body);
  else byId("main").append((body = build(shown.body)));
  // What had the focus has gone: it was about a call that is decided.
  if (had !== document.activeElement && !had.isConnected) (byId("waiting") ?? byId("timeline"))?.focus();
  settle();
  const all = byId("open");
  if (all) all.hidden = false;
  if (shown.waiting > (before?.waiting ?? 0)) announce("A call waits for your approval.");
  if (before?.live && !shown.live) announce(`The run has ended: ${shown.end}.`);
}

function failed(error) {
  const trouble = byId("trouble");
  if (error.status === 401) {
    say("offline", "key needed");
    trouble.replaceChildren();
    askForKey(trouble, poll);
  } else if (error.status === 0 || error.status === undefined || error.status === 503) {
    say("offline", "offline, reconnecting");
  } else {
    say("offline", "cannot be shown");
    const hint = error.hint ? ` ${sentence(error.hint)}.` : "";
    trouble.replaceChildren(element("p", { class: "wrong", role: "alert" }, `${sentence(error.message)}.${hint}`));
  }
}

function say(state, text) {
  byId("state").dataset.state = state;
  if (byId("state").textContent !== text) byId("state").textContent = text;
}

function announce(text) {
  byId("live").replaceChildren(element("p", {}, text));
}

// ---- what waits for a person

const settled = new WeakSet();

function settle() {
  for (const button of document.querySelectorAll("button[data-decide]")) {
    if (settled.has(button)) continue;
    settled.add(button);
    button.disabled = true;
    setTimeout(() => (button.disabled = false), SETTLE_MS);
  }
}

async function decide(button) {
  const card = button.closest(".card");
  const said = card.querySelector("[data-said]");
  const buttons = card.querySelectorAll("button[data-decide]");
  const verdict = button.dataset.decide;
  const reason = verdict === "denied" ? card.querySelector("[data-reason]").value : "";
  said.textContent = "";
  for (const each of buttons) each.disabled = true;
  try {
    await json(`/api/approvals/${button.value}`, { body: { verdict, reason } });
    announce(verdict === "approved" ? "Approved." : "Denied.");
    (byId("waiting") ?? byId("timeline"))?.focus();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    said.textContent = `${sentence(error.message)}. ${sentence(error.hint)}`;
    for (const each of buttons) each.disabled = false;
    button.focus();
  }
  poll();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.decide) decide(button);
  else if (button?.id === "open") openAll(button);
});

function openAll(button) {
  const all = button.getAttribute("aria-pressed") !== "true";
  for (const row of document.querySelectorAll(".steps details")) row.open = all;
  button.setAttribute("aria-pressed", String(all));
  button.firstChild.data = all ? "Close all" : "Open all";
}

document.addEventListener("visibilitychange", () => document.hidden || poll());
window.addEventListener("online", poll);
byId("list").hidden = !run;
useThemeButton(byId("theme"));
poll();
