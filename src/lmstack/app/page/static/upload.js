// Adding files: by the button or by dropping them on the page, one after the other, each with its state.

import { json, upload } from "/static/api.js";
import { appendText, element } from "/static/text.js";

const LOOK_MS = 1000;
const WORDS = { queued: "in line", uploading: "uploading", waiting: "waiting", ready: "ready", problem: "problem" };

/** `wanted()` opens the list of sources; `landed()` is called when a file is in the folder. */
export class Uploads {
  constructor({ wanted, landed }) {
    this.wanted = wanted;
    this.landed = landed;
    this.limits = null; // {max_bytes, endings} where files are taken
    this.files = []; // {file, state, share, path, problem}
    this.sending = false;
    this.timer = 0;
    this.input = element("input", { type: "file", multiple: true, class: "hidden", tabindex: "-1", "aria-label": "Files to add" });
    this.input.addEventListener("change", () => {
      this.add([...this.input.files]);
      this.input.value = "";
    });
    this.button = element("button", { class: "plain small", type: "button", onclick: () => this.input.click() }, "Add files");
    this.note = element("span", { class: "upload-note" }, "or drop them anywhere on this page");
    this.rows = element("ul", { class: "files", "aria-label": "Files added", "aria-live": "polite" });
    this.root = element("div", { class: "uploads", hidden: true }, element("div", { class: "upload-line" }, this.button, this.note, this.input), this.rows);
    this.cover = element("div", { class: "drop", hidden: true, "aria-hidden": "true" }, element("p", {}, "Drop files to add them to this folder"));
    document.body.append(this.cover);
    this.listen();
  }

  /** What the server takes, from its status; null for nothing. */
  allow(limits) {
    this.limits = limits ?? null;
    this.root.hidden = !limits;
    document.getElementById("welcome-drop").hidden = !limits;
    if (limits) this.input.accept = limits.endings.join(",");
  }

  listen() {
    const carries = (event) => this.limits && event.dataTransfer?.types.includes("Files");
    addEventListener("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // Even where none are taken: the browser would leave the page for it.
      event.dataTransfer.dropEffect = this.limits ? "copy" : "none";
      this.cover.hidden = !this.limits;
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) this.cover.hidden = true;
    });
    addEventListener("drop", (event) => {
      this.cover.hidden = true;
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
      if (carries(event)) this.add([...event.dataTransfer.files]);
    });
  }

  add(files) {
    if (!files.length) return;
    this.wanted();
    this.files = this.files.filter(({ state }) => state !== "ready");
    for (const file of files) this.files.push({ file, state: "queued", share: 0, path: null, problem: null });
    this.draw();
    this.send();
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    for (let entry = this.next(); entry; entry = this.next()) await this.sendOne(entry);
    this.sending = false;
  }

  next() {
    return this.files.find(({ state }) => state === "queued");
  }

  async sendOne(entry) {
    entry.state = "uploading";
    this.draw();
    try {
      if (entry.file.size > this.limits.max_bytes) {
        const limit = (this.limits.max_bytes / 1e6).toLocaleString("en");
        throw Object.assign(new Error(`It is larger than ${limit} MB.`), { hint: "Split it, or copy it into the folder on the server." });
      }
      const told = (share) => {
        entry.share = share;
        this.draw();
      };
      entry.path = (await upload(entry.file, told)).path;
      entry.state = "waiting";
      this.landed();
      this.look();
    } catch (error) {
      entry.state = "problem";
      entry.problem = { message: error.message, hint: error.hint ?? "" };
    }
    entry.file = { name: entry.file.name }; // The bytes are not kept for a line in a list.
    this.draw();
  }

  /** What became of those that wait to be read. */
  look() {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      for (const entry of this.files.filter(({ state }) => state === "waiting")) await this.ask(entry);
      if (this.files.some(({ state }) => state === "waiting")) this.look();
    }, LOOK_MS);
  }

  async ask(entry) {
    let rows;
    try {
      rows = (await json(`/api/documents?${new URLSearchParams({ find: entry.path })}`)).documents;
    } catch {
      return; // The status line says so, and this looks again.
    }
    const row = rows.find(({ path }) => path === entry.path);
    if (!row || row.state === "waiting") return;
    entry.state = row.state === "indexed" ? "ready" : "problem";
    entry.problem = row.problem;
    this.draw();
    this.landed();
  }

  draw() {
    this.rows.replaceChildren(...this.files.map((entry) => element("li", {}, this.row(entry))));
  }

  row({ file, state, share, problem }) {
    const name = element("span", { class: "name" });
    appendText(name, file.name);
    const word = element("span", { class: "state-word" }, state === "uploading" ? `${Math.round(100 * share)} %` : WORDS[state]);
    const parts = [name, word];
    if (state === "uploading") parts.push(element("progress", { max: 1, value: share, "aria-label": "Uploading" }));
    if (problem) {
      const below = element("span", { class: "title", dir: "auto" });
      appendText(below, [problem.message, problem.hint].filter(Boolean).join("\n"));
      parts.push(below);
    }
    return element("div", { class: `file${{ problem: " problem", ready: "", queued: "" }[state] ?? " now"}` }, ...parts);
  }
}
