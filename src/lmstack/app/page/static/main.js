// Wires the page together: the conversation, the panel, the status line and the keys.

import { CLOSEST, Turn } from "/static/answer.js";
import { ApiError, ask, json } from "/static/api.js";
import { Composer } from "/static/composer.js";
import { Filters } from "/static/filters.js";
import { addKeyForm, askForKey } from "/static/key.js";
import { Manner } from "/static/manner.js";
import { remember, remembered } from "/static/memory.js";
import { Panel } from "/static/panel.js";
import { hidePreview } from "/static/preview.js";
import { Status } from "/static/status.js";
import { appendText, element, squeezed } from "/static/text.js";
import { useThemeButton } from "/static/theme_button.js";

const HISTORY_TURNS = 4;
const byId = (id) => document.getElementById(id);
const scroll = byId("scroll");
const turns = [];
let running = null; // {turn, abort}
let pointed = null; // {turn, index}: the source that is open
let following = false;

const filters = new Filters({ changed: () => panel.narrowed(), opened: () => panel.toggleFilters() });
const panel = new Panel({ closed: () => composer.focus(), pointed: point, filters });
const manner = new Manner();
const composer = new Composer({ ask: start, stop });
const status = new Status({ changed: statusChanged, refused: () => showKeyForm(byId("welcome")) });

// ---- conversation

function start(question) {
  if (running) return;
  const turn = addTurn(question, filters.where && { where: filters.where, words: filters.words });
  turn.manner = manner.wanted;
  answer(turn);
}

/** `within`: the filter that the question is asked under, {where, words}, or null. */
function addTurn(question, within) {
  const turn = new Turn(question, within, { open: openSource, retry, askKey: (which, node) => addKeyForm(node, () => (retry(which), status.poll())), judged: () => remember(turns), grown: afterGrowth });
  turns.push(turn);
  byId("welcome").hidden = true;
  byId("fresh").hidden = false;
  byId("turns").append(turn.root);
  return turn;
}

function restore() {
  for (const { question, within, final } of remembered()) addTurn(question, within).finish(final);
  if (!turns.length) return;
  settleHeight();
  scroll.scrollTop = turns.at(-1).root.offsetTop;
}

function retry(turn) {
  if (running) return;
  turn.reset();
  answer(turn);
}

async function answer(turn) {
  const abort = new AbortController();
  running = { turn, abort };
  composer.setBusy(true);
  following = false;
  settleHeight();
  turn.say("Searching");
  announce("Searching");
  turn.root.focus({ preventScroll: true });
  scroll.scrollTop = turn.root.offsetTop;
  try {
    await follow(turn, abort.signal);
  } catch (error) {
    if (abort.signal.aborted) turn.stop();
    else fail(turn, error);
  }
  running = null;
  composer.setBusy(false);
  noteBelow();
  remember(turns);
}

async function follow(turn, signal) {
  const reader = new Reader();
  const wanted = { where: turn.within?.where ?? null, answers: turn.manner };
  for await (const { event, data } of ask(turn.question, historyBefore(turn), wanted, signal)) {
    if (event === "hits") turn.setHits(data.hits);
    else if (event === "quotes") turn.setQuotes(data.quotes);
    else if (event === "citation") turn.addCitation(data);
    else if (event === "sentence") turn.addSentence(data);
    else if (event === "reading") turn.say(`Reading ${data.done} of ${data.total} passages`);
    else if (event === "outcome") {
      turn.setOutcome(data.outcome);
      if (data.outcome === "closest") announce(CLOSEST);
    }
    else if (event === "error") throw new ApiError(data.message, { hint: data.hint, status: data.status });
    else if (event === "delta") {
      turn.append(data.text);
      reader.add(data.text);
    } else if (event === "done") {
      turn.finish(data);
      remember(turns); // Before the connection ends: a reload may come first.
      reader.end(data);
    }
    afterGrowth();
  }
  if (!turn.final) throw new ApiError("The answer broke off.", { hint: "Retry asks the same question again." });
}

function fail(turn, error) {
  if (!(error instanceof ApiError)) console.error(error);
  if (error.status === 0 || error.status === undefined) status.poll();
  turn.fail(error);
}

function stop() {
  if (!running) return false;
  running.abort.abort();
  announce("Stopped");
  return true;
}

function historyBefore(turn) {
  const earlier = turns.slice(0, turns.indexOf(turn)).filter((other) => other.final && other.final.outcome !== "nothing");
  return earlier.slice(-HISTORY_TURNS).flatMap((other) => [
    { role: "user", content: other.question },
    { role: "assistant", content: other.text },
  ]);
}

function fresh() {
  stop();
  panel.close();
  filters.clear();
  manner.choose(null);
  turns.splice(0);
  remember(turns);
  byId("turns").replaceChildren();
  byId("welcome").hidden = false;
  byId("fresh").hidden = true;
  suggest();
  composer.focus();
}

// ---- what a screen reader hears: sentence by sentence, not token by token

class Reader {
  constructor() {
    this.pending = "";
  }

  add(text) {
    this.pending += text;
    const end = Math.max(...[". ", "! ", "? ", "\n"].map((mark) => this.pending.lastIndexOf(mark)));
    if (end < 40) return;
    announce(this.pending.slice(0, end + 1));
    this.pending = this.pending.slice(end + 1);
  }

  end(answer) {
    announce(this.pending);
    const count = answer.citations.length;
    const what = { answer: "answer", closest: "closest passages" }[answer.outcome];
    if (what) announce(`End of the ${what}, ${count} source${count === 1 ? "" : "s"}.`);
  }
}

function announce(text) {
  const spoken = squeezed(text.replace(/[`*]/g, ""));
  if (!spoken) return;
  const live = byId("live");
  live.append(element("p", {}, spoken));
  while (live.childElementCount > 12) live.firstElementChild.remove();
}

// ---- scrolling: a new question goes to the top, the answer grows below it and nothing moves

function settleHeight() {
  // Measured first: a layout without the height would move the place one reads at.
  const height = `${scroll.clientHeight}px`;
  for (const turn of turns) turn.root.style.minHeight = turn === turns.at(-1) ? height : "";
}

function afterGrowth() {
  if (following) scroll.scrollTop = scroll.scrollHeight;
  noteBelow();
}

function noteBelow() {
  const under = turns.at(-1)?.root.lastElementChild.getBoundingClientRect().bottom ?? 0;
  const below = byId("below");
  const over = under <= scroll.getBoundingClientRect().bottom + 24;
  // One who goes by the keyboard must not fall back to the top of the page; a tap opens no keyboard.
  if (over && below.matches(":focus-visible")) byId("question").focus();
  below.hidden = over;
}

scroll.addEventListener("wheel", (event) => event.deltaY < 0 && (following = false), { passive: true });
scroll.addEventListener("touchmove", () => (following = false), { passive: true });
scroll.addEventListener("scroll", noteBelow, { passive: true });
byId("below").addEventListener("click", () => {
  following = true;
  scroll.scrollTop = scroll.scrollHeight;
  noteBelow();
});
new ResizeObserver(() => {
  settleHeight();
  noteBelow();
}).observe(scroll);

// ---- sources

function openSource(turn, index) {
  hidePreview();
  panel.openSource(turn, index);
}

function point(turn, index) {
  if (pointed) pointed.turn.point(null);
  pointed = turn ? { turn, index } : null;
  if (turn) turn.point(index);
}

/** The answer that keys 1 to 9 are about: the one with the focus or the open source, else the last. */
function currentTurn() {
  const focused = document.activeElement?.closest(".turn");
  return turns.find((turn) => turn.root === focused) ?? pointed?.turn ?? turns.at(-1);
}

// ---- status, suggestions, key

function statusChanged(value, { recovered }) {
  panel.update(value);
  manner.allow(value.answers);
  document.title = `${value.folder} · lmstack`;
  if (recovered) announce("The connection is back.");
  // While files come in, the first suggestions stay: nothing changes under the pointer.
  const settled = value.state === "ready" || !byId("tries").childElementCount;
  if (recovered || (settled && suggestedAt !== value.revision)) suggest(value.revision);
}

let suggestedAt = null;

async function suggest(revision = suggestedAt) {
  if (turns.length) return;
  suggestedAt = revision;
  let questions = [];
  try {
    questions = (await json("/api/suggestions")).questions;
  } catch {
    return; // The status line says what is wrong.
  }
  byId("tries-title").hidden = !questions.length;
  byId("tries").replaceChildren(...questions.map((question) => {
    const button = element("button", { type: "button", dir: "auto", onclick: () => start(question) });
    appendText(button, question);
    return element("li", {}, button);
  }));
}

function showKeyForm(parent) {
  if (parent.hidden || parent.querySelector(".key-form")) return;
  askForKey(parent, () => status.poll());
}

// ---- keys

const writing = (node) => node instanceof HTMLElement && node.matches("textarea, input");

addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (hidePreview() || stop() || panel.close()) event.preventDefault();
  } else if (writing(event.target)) {
    return;
  } else if (/^[1-9]$/.test(event.key)) {
    const turn = currentTurn();
    const index = turn ? turn.sources.findIndex((source, at) => (source.id ?? at + 1) === Number(event.key)) : -1;
    if (index >= 0) openSource(turn, index);
  } else if (event.key === "/" && !panel.covers) {
    event.preventDefault();
    composer.focus();
  }
});

// ---- the bar

byId("folder").addEventListener("click", () => panel.toggleFiles());
byId("fresh").addEventListener("click", fresh);

useThemeButton(byId("theme"));
restore();
status.poll();
if (!matchMedia("(pointer: coarse)").matches) composer.focus();
