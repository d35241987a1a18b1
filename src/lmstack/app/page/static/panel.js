// The side panel: the sources with their state, or one document with its passage highlighted.

import { json, storedKey } from "/static/api.js";
import { Files } from "/static/files.js";
import { Pages } from "/static/pages.js";
import { appendText, element, sentence, unitOffset } from "/static/text.js";
import { Uploads } from "/static/upload.js";

const NARROW = matchMedia("(max-width: 52rem)");
const byId = (id) => document.getElementById(id);

/** `closed()` is called when it closes; `pointed(turn, index)` when another source is shown. */
export class Panel {
  constructor({ closed, pointed, filters }) {
    this.closed = closed;
    this.filters = filters;
    this.pointed = pointed;
    this.root = byId("panel");
    this.files = new Files((file) => this.openDocument(file), filters);
    this.uploads = new Uploads({ wanted: () => this.view === "files" || this.showFiles(), landed: () => this.files.refresh() });
    this.sources = element("div", {}, this.uploads.root, this.files.root);
    this.opener = null;
    this.view = null; // "files", "filters", "document" or null
    this.run = 0;
    NARROW.addEventListener("change", () => this.fit());
    byId("desk").addEventListener("pointerdown", (event) => {
      if (this.covers && !this.root.contains(event.target)) this.close();
    });
  }

  /** Whether one can see nothing of the conversation but the panel. */
  get covers() {
    return this.view !== null && NARROW.matches;
  }

  showFiles() {
    this.enter("files");
    this.pointed(null, null);
    this.layout("Sources", "", this.sources, []);
    this.files.refresh();
    this.focus();
  }

  toggleFiles() {
    if (this.view === "files") this.close();
    else this.showFiles();
  }

  toggleFilters() {
    if (this.view === "filters") return void this.close();
    this.enter("filters");
    this.pointed(null, null);
    this.layout("Filter", "", this.filters.root, []);
    this.filters.refresh();
    this.focus();
  }

  /** Another filter holds. */
  narrowed() {
    if (this.view === "files") this.files.refresh();
  }

  /** The status of the folder changed. */
  update(status) {
    this.uploads.allow(status.uploads);
    this.files.update(status, this.view === "files");
  }

  /** Show source `index` of `turn` in its document. */
  async openSource(turn, index) {
    const source = turn.sources[index];
    if (!source) return;
    this.enter("document");
    this.pointed(turn, index);
    const count = turn.sources.length;
    const step = (by) => () => this.openSource(turn, (index + by + count) % count);
    const buttons = count < 2 ? [] : [
      element("button", { class: "plain small", type: "button", onclick: step(-1) }, "Previous source"),
      element("button", { class: "plain small", type: "button", onclick: step(1) }, "Next source"),
    ];
    const why = `${count > 1 ? `Source ${index + 1} of ${count}. ` : ""}${foundBy(source.ranks)}`;
    await this.load({ id: source.document_id, path: source.path }, source, why, buttons);
  }

  /** `file`: {id, path}. */
  async openDocument(file) {
    this.enter("document");
    this.pointed(null, null);
    await this.load(file, null, "", []);
  }

  close() {
    if (!this.view) return false;
    this.run += 1;
    this.view = null;
    this.root.hidden = true;
    this.fit();
    this.pointed(null, null);
    const opener = this.opener;
    this.opener = null;
    if (opener?.isConnected) opener.focus({ preventScroll: true });
    else this.closed();
    return true;
  }

  enter(view) {
    if (!this.root.contains(document.activeElement)) this.opener = document.activeElement;
    this.view = view;
    this.root.hidden = false;
    this.run += 1;
    this.fit();
  }

  /** Lay out for the width: beside the conversation, or over it. */
  fit() {
    const open = this.view !== null;
    byId("desk").classList.toggle("open", open);
    byId("folder").setAttribute("aria-expanded", String(open));
    byId("talk").inert = this.covers;
  }

  focus() {
    this.root.focus({ preventScroll: true });
  }

  layout(title, subtitle, body, foot) {
    const name = element("h2", { id: "panel-title", dir: "auto" });
    appendText(name, title);
    const below = element("p", { dir: "auto" });
    appendText(below, subtitle);
    const back = this.view !== "files"
      ? element("button", { class: "quiet small", type: "button", onclick: () => this.showFiles() }, "All sources")
      : null;
    const close = element("button", { class: "quiet small", type: "button", onclick: () => this.close() }, "Close");
    this.root.replaceChildren(
      element("div", { class: "panel-head" }, element("div", { class: "panel-title" }, name, subtitle ? below : null), back, close),
      element("div", { class: "panel-body", tabindex: "0", role: "region", "aria-labelledby": "panel-title" }, body),
      element("div", { class: "panel-foot" }, ...foot),
    );
  }

  async load(file, source, why, buttons) {
    const run = this.run;
    let page;
    try {
      page = await json(address(file, "", source ? { around: source.start } : {}));
    } catch (error) {
      if (run === this.run) this.trouble(error, source, () => this.load(file, source, why, buttons));
      return;
    }
    if (run !== this.run) return;
    const text = element("div", { class: "document", dir: "auto" });
    const body = element("div", {}, text);
    fill(text, page, source);
    if (source && !text.querySelector("mark")) {
      body.prepend(element("p", { class: "panel-note", role: "status" }, "The file has changed since this answer, and the passage is no longer in this part of it."));
    }
    this.addMore(body, page, file);
    const foot = [element("span", { class: "why" }, why), ...openLink(file), ...buttons];
    const subtitle = page.title === page.path ? "" : page.title;
    const showText = (note = "") => {
      if (note) body.prepend(element("p", { class: "panel-note", role: "status" }, note));
      this.layout(page.path, subtitle, body, page.pages ? [this.choice("Page", showPages), ...foot] : foot);
      this.reveal(text.querySelector("mark"));
    };
    const showPages = () => this.showPages(page, file, source, subtitle, foot, showText);
    if (page.pages) await showPages();
    else showText();
  }

  choice(name, action) {
    return element("button", { class: "plain small", type: "button", onclick: action }, name);
  }

  /** The pages of a PDF file; its text where they cannot be drawn. */
  async showPages(page, file, source, subtitle, foot, showText) {
    const run = this.run;
    const note = (error) => sentence(error.message);
    const pages = new Pages({
      file,
      source,
      count: page.pages,
      address: (part, query) => address({ id: page.id, path: file.path }, part, query),
      failed: (error) => run === this.run && showText(note(error)),
    });
    this.layout(page.path, subtitle, pages.root, [this.choice("Text", () => showText()), ...foot]);
    this.focus();
    try {
      await pages.open();
    } catch (error) {
      pages.failed(error);
    }
  }

  reveal(mark) {
    this.focus();
    const body = this.root.querySelector(".panel-body");
    if (!mark) return;
    const margin = Math.min(120, body.clientHeight / 4);
    const below = (node, edge) => node.getBoundingClientRect()[edge] - body.getBoundingClientRect().top;
    const focus = mark.querySelector(".focus") ?? mark;
    // The quote from its beginning, unless its point would then be out of sight.
    const seen = below(focus, "bottom") - below(mark, "top") + margin <= body.clientHeight;
    body.scrollTop += below(seen ? mark : focus, "top") - margin;
  }

  /** Buttons for what comes before and after, where a document is longer than a page of it. */
  addMore(body, page, file) {
    if (page.start > 0) {
      const first = element("button", { class: "plain small panel-more", type: "button" }, "Show from the start");
      first.addEventListener("click", () => this.openDocument(file));
      body.prepend(first);
    }
    if (page.end >= page.characters) return;
    const more = element("button", { class: "plain small panel-more", type: "button" }, "Show more");
    more.addEventListener("click", async () => {
      more.disabled = true;
      try {
        const next = await json(address(file, "", { start: page.end }));
        const part = element("div", { class: "document", dir: "auto" });
        fill(part, next, null);
        more.replaceWith(part);
        this.addMore(body, { ...next, start: 0 }, file);
      } catch (error) {
        more.disabled = false;
        more.textContent = `${error.message} Show more`;
      }
    });
    body.append(more);
  }

  trouble(error, source, retry) {
    const message = element("strong");
    appendText(message, sentence(error.message));
    const hint = element("p");
    appendText(hint, sentence(error.hint));
    const again = element("button", { class: "plain small", type: "button", onclick: retry }, "Retry");
    this.layout(source?.path ?? "Document", "", element("div", { class: "trouble", role: "alert" }, message, hint, again), []);
    this.focus();
  }
}

/** The page of a document as text: headings stand out, the source is marked. */
function fill(parent, page, source) {
  const { text, start } = page;
  const units = (point) => unitOffset(text, point - start);
  const spans = page.sections
    .filter((section) => section.start >= start && section.heading_end <= page.end)
    .map((section) => ({ from: units(section.start), to: units(section.heading_end), kind: "heading" }));
  const mark = source && findQuote(text, units(source.start), source.quote);
  const focus = mark && focusIn(mark, source);
  const edges = new Set([0, text.length, ...spans.flatMap(({ from, to }) => [from, to])]);
  for (const span of [mark, focus]) if (span) edges.add(span.from).add(span.to);
  const sorted = [...edges].sort((a, b) => a - b);
  let marked = null;
  for (let index = 1; index < sorted.length; index += 1) {
    const [from, to] = [sorted[index - 1], sorted[index]];
    const heading = spans.some((span) => span.from <= from && to <= span.to);
    const inside = mark && mark.from <= from && to <= mark.to;
    if (inside && !marked) parent.append((marked = element("mark", { id: "passage", "aria-label": "cited passage" })));
    const target = inside ? marked : parent;
    const stands = [heading && "heading", focus && focus.from <= from && to <= focus.to && "focus"].filter(Boolean);
    const piece = stands.length ? element("span", { class: stands.join(" ") }) : target;
    appendText(piece, text.slice(from, to));
    if (piece !== target) target.append(piece);
  }
}

/** Where the point of the quote stands, if that is not all of it. */
function focusIn(mark, { start, quote, focus }) {
  if (!focus) return null;
  const [from, to] = focus.map((point) => mark.from + unitOffset(quote, point - start));
  return from > mark.from || to < mark.to ? { from, to } : null;
}

/** Where the quote stands; it may have moved if the file changed since, or be gone. */
function findQuote(text, from, quote) {
  const at = text.startsWith(quote, from) ? from : text.indexOf(quote);
  return quote && at >= 0 ? { from: at, to: at + quote.length } : null;
}

function address({ id, path }, part, query) {
  return `/api/documents/${encodeURIComponent(id)}${part}?${new URLSearchParams({ path, ...query })}`;
}

function openLink(file) {
  if (storedKey()) return [];
  return [element("a", { class: "open-file", href: address(file, "/text", {}), target: "_blank", rel: "noopener" }, "Open file")];
}

const FINDERS = { dense: "meaning", lexical: "words", late: "late interaction", rerank: "reranked", mmr: "variety" };

/** The place that each way of searching gave the passage; null where it did not find it. */
function foundBy(ranks) {
  const places = Object.entries(ranks ?? {}).filter(([, rank]) => rank);
  if (!places.length) return "";
  return `Found by: ${places.map(([kind, rank]) => `${FINDERS[kind] ?? kind.replaceAll("_", " ")} ${rank}`).join(", ")}`;
}
