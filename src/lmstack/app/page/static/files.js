// The list of sources: how far each file is, and what is wrong with those that could not be read.

import { json } from "/static/api.js";
import { appendText, element, timeLeft } from "/static/text.js";

const FILTER_FROM = 12;
const WORDS = { indexed: "", waiting: "waiting", indexing: "indexing", problem: "problem" };
const number = (count) => count.toLocaleString("en");

export class Files {
  constructor(open, filters) {
    this.open = open;
    this.filters = filters;
    this.answer = { documents: [], found: 0, total: 0 };
    this.seen = -1;
    this.run = 0;
    this.timer = 0;
    this.status = null;
    this.meter = element("div", { class: "meter", hidden: true });
    this.filter = element("input", { class: "filter", type: "search", placeholder: "Filter files", "aria-label": "Filter files", hidden: true });
    this.filter.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.refresh(), 120);
    });
    this.rows = element("ul", { class: "files" });
    this.note = element("p", { class: "panel-note" });
    this.chosen = element("p", { class: "panel-note" });
    this.again = element("button", { class: "plain small", type: "button" }, "Check for changes");
    this.again.addEventListener("click", () => this.rescan());
    this.root = element("div", {}, this.meter, this.filter, this.chosen, this.rows, this.note, this.again);
  }

  /** A new status; the list is fetched again only where something changed and it is seen. */
  update(status, visible) {
    this.status = status;
    this.drawMeter();
    if (visible && status.revision !== this.seen) this.refresh();
  }

  async refresh() {
    const run = (this.run += 1);
    try {
      const query = new URLSearchParams({ find: this.filter.value.trim() });
      const { where } = this.filters;
      if (where) query.set("where", JSON.stringify(where));
      const answer = await json(`/api/documents?${query}`);
      if (run !== this.run) return;
      this.answer = answer;
      this.seen = answer.revision;
      this.render();
    } catch (error) {
      this.note.textContent = error.message;
    }
  }

  async rescan() {
    this.again.disabled = true;
    try {
      await json("/api/index", { body: {} });
      this.again.textContent = "Checking";
    } catch (error) {
      this.note.textContent = `${error.message} ${error.hint}`;
    }
    setTimeout(() => {
      this.again.disabled = false;
      this.again.textContent = "Check for changes";
    }, 1500);
  }

  drawMeter() {
    const { state, files, remaining_s: remaining, problem } = this.status;
    const busy = state === "indexing" || state === "starting";
    this.meter.hidden = !busy && !problem;
    this.again.hidden = busy;
    if (problem) {
      const message = element("strong");
      appendText(message, problem.message);
      const hint = element("p");
      appendText(hint, problem.hint ?? "");
      this.meter.replaceChildren(element("div", { class: "trouble" }, message, hint));
    } else if (busy) {
      const done = files.indexed + files.problems;
      const line = element("span");
      appendText(line, `${number(done)} of ${number(files.total)} files indexed${timeLeft(remaining)}. Answers already use what is in.`);
      const bar = element("progress", { max: Math.max(files.total, 1), value: done, "aria-label": "Indexing" });
      this.meter.replaceChildren(line, bar);
    }
  }

  render() {
    const { documents, found, total } = this.answer;
    this.filter.hidden = total < FILTER_FROM;
    const focused = this.rows.contains(document.activeElement) ? document.activeElement.dataset.path : null;
    this.rows.replaceChildren(...documents.map((file) => element("li", {}, this.row(file))));
    if (focused !== null) this.rows.querySelector(`[data-path="${CSS.escape(focused)}"]`)?.focus();
    const rest = found - documents.length;
    this.chosen.textContent = this.filters.where ? "Only files that match the filter." : "";
    if (rest > 0) this.note.textContent = `${number(rest)} more; type to filter.`;
    else if (!total && this.filters.where) this.note.textContent = "No file matches the filter.";
    else if (!total) this.note.textContent = "No text, Markdown or HTML file was found in this folder.";
    else this.note.textContent = found ? "" : "No file has this in its name.";
  }

  row(file) {
    const name = element("span", { class: "name" });
    appendText(name, file.path);
    const word = element("span", { class: "state-word" }, WORDS[file.state]);
    const below = file.problem ? [file.problem.message, file.problem.hint].filter(Boolean).join("\n") : file.title;
    const title = element("span", { class: "title", dir: "auto" });
    appendText(title, below && below !== file.path ? below : "");
    const tone = { problem: " problem", indexing: " now" }[file.state] ?? "";
    if (file.id === null) return element("div", { class: `file${tone}` }, name, word, below ? title : null);
    return element("button", { class: `file${tone}`, type: "button", "data-path": file.path, onclick: () => this.open(file) }, name, word, below ? title : null);
  }
}
