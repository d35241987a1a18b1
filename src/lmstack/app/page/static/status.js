// The bar: which folder, how far the index is, which model, and whether the server answers.

import { json } from "/static/api.js";
import { timeLeft } from "/static/text.js";

const IDLE_MS = 3000;
const BUSY_MS = 700;
const LOST_MS = 1000;

const byId = (id) => document.getElementById(id);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** Polls `/api/status`; tells `listener(status, {recovered})` and, on a refusal, `refused`. */
export class Status {
  constructor({ changed, refused }) {
    this.changed = changed;
    this.refused = refused;
    this.value = null;
    this.offline = false;
    this.timer = 0;
    this.polling = false;
    document.addEventListener("visibilitychange", () => document.hidden || this.poll());
    window.addEventListener("online", () => this.poll());
  }

  /** Ask now, and again after a while for as long as the page is seen. */
  async poll() {
    if (this.polling) return;
    this.polling = true;
    clearTimeout(this.timer);
    let wait = IDLE_MS;
    try {
      const value = await json("/api/status", { signal: AbortSignal.timeout(8000) });
      const recovered = this.offline;
      this.offline = false;
      this.value = value;
      wait = value.state === "indexing" || value.state === "starting" ? BUSY_MS : IDLE_MS;
      show(value);
      this.changed(value, { recovered });
    } catch (error) {
      wait = LOST_MS;
      this.failed(error);
    }
    this.polling = false;
    if (!document.hidden) this.timer = setTimeout(() => this.poll(), wait);
  }

  failed(error) {
    if (error.status === 401) {
      showState("problem", "key needed");
      this.refused(error);
      return;
    }
    this.offline = true;
    if (error.status === 503) showState("indexing", "starting");
    else showState("offline", "offline, reconnecting");
  }
}

function show(status) {
  setText("folder-name", status.folder);
  setText("welcome-folder", status.folder);
  byId("folder").title = status.root;
  byId("welcome-none").hidden = status.state !== "ready" || status.files.indexed > 0;
  setCount(status);
  byId("agents").hidden = !status.agents;
  setText("model", modelName(status.model));
  setText("welcome-model", reader(status.model));
  byId("model").title = status.model.digest ?? "a remote model";
  if (status.state === "indexing") showState("indexing", "indexing");
  else if (status.state === "starting") showState("indexing", "starting");
  else if (status.state === "problem") showState("problem", "indexing failed");
  else showState("ready", "ready");
}

/** `name@digest`, the digest cut to what a person compares. */
export function modelName(model) {
  const digest = model.digest ? `@${model.digest.replace(/^sha256:/, "").slice(0, 7)}` : "";
  return `${model.name}${digest}`;
}

/** Who reads the files; a model without a digest runs elsewhere, and that must be plain. */
function reader(model) {
  if (model.digest) return "a model on this machine";
  return `${model.name}, which runs on another machine: questions and the passages found are sent there`;
}

function setCount(status) {
  const { total, indexed, problems } = status.files;
  const busy = status.state === "indexing" || status.state === "starting";
  const files = busy && total ? `${indexed} of ${plural(total, "file")}` : plural(indexed, "file");
  const left = busy ? timeLeft(status.remaining_s) : "";
  setText("welcome-index", busy && total ? `Files are still being read: ${files}${left}. Answers already use what is in.` : "");
  let rest = busy ? left : ", up to date";
  if (problems) rest = `, ${plural(problems, "problem")}${left}`;
  if (status.state === "problem") rest = ", not up to date";
  const count = byId("folder-count");
  const text = `(${files}${rest})`;
  if (count.textContent === text) return;
  const more = document.createElement("span");
  more.className = "more";
  more.textContent = rest;
  count.replaceChildren(`(${files}`, more, ")");
}

function showState(state, text) {
  byId("state").dataset.state = state;
  setText("state-text", text);
}

function setText(id, text) {
  const node = byId(id);
  if (node.textContent !== text) node.textContent = text;
}
