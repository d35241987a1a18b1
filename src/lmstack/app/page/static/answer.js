// One turn: a question, its answer as it streams, and what stands under it.

import { Feedback } from "/static/feedback.js";
import { attachPreview } from "/static/preview.js";
import { Prose } from "/static/prose.js";
import { modelName } from "/static/status.js";
import { appendText, element, glimpse, pointOf, sentence, squeezed, unitOffset } from "/static/text.js";

/** Above what is shown where no passage is certain to answer. */
export const CLOSEST = "Closest in your documents. It may not answer.";
const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** Draws into `root`; `within`: the filter of the question, {where, words}, or null;
 * `manner`: "write", "quote", or null for what is usual; `actions` are
 * {open(turn, index), retry(turn), askKey(turn, node), judged(turn), grown()}. */
export class Turn {
  constructor(question, within, actions) {
    this.question = question;
    this.within = within ?? null;
    this.manner = null;
    this.actions = actions;
    this.frame = 0;
    const heading = element("h2", { dir: "auto" });
    appendText(heading, question);
    this.progress = element("p", { class: "progress" });
    this.closest = element("p", { class: "closest", hidden: true }, CLOSEST);
    this.body = element("div", { class: "answer" });
    this.under = element("div", { class: "under" });
    this.root = element("li", { class: "turn", tabindex: "-1" }, heading, this.limits(), this.progress, this.closest, this.body, this.under);
    this.prose = new Prose(this.body, (number, { probe }) => this.cite(number, probe));
    this.citations = new Map();
    this.reset();
  }

  /** Which files it was asked of. */
  limits() {
    if (!this.within) return null;
    const note = element("p", { class: "note within", dir: "auto" });
    appendText(note, `Only in files with ${this.within.words}`);
    return note;
  }

  /** Back to the start, for a retry in the same place. */
  reset() {
    this.text = "";
    this.final = null;
    this.sources = []; // What keys 1 to 9 and "next source" go through, in order.
    this.citations.clear();
    this.quotes = []; // What the documents say, before a model has written.
    this.unsupported = [];
    this.setOutcome("answer");
    this.prose.clear();
    this.under.replaceChildren();
  }

  /** What is happening before the first word. */
  say(text) {
    this.progress.textContent = text;
    this.progress.hidden = !text;
  }

  setHits(hits) {
    this.say(hits.length ? `Reading ${counted(hits.length, "passage")}` : "Nothing found");
  }

  setQuotes(quotes) {
    this.quotes = quotes;
    this.say("Writing");
    this.listSources();
  }

  /** While a model writes: what it cites so far, then what was found besides. */
  listSources() {
    const cited = [...this.citations.values()];
    this.sources = [...cited, ...this.besides(cited)];
    this.under.replaceChildren(this.sourceList(this.sources));
  }

  /** The quotations that share nothing with what is cited. */
  besides(cited) {
    const within = (quote) => (source) => source.document_id === quote.document_id && source.start < quote.end && quote.start < source.end;
    return this.quotes.filter((quote) => !cited.some(within(quote))).map((quote) => ({ ...quote, id: null }));
  }

  /** Known before the first text: an "answer", what is "closest", or "nothing". */
  setOutcome(outcome) {
    this.root.dataset.outcome = outcome;
    this.closest.hidden = outcome !== "closest";
  }

  append(text) {
    this.text += text;
    if (this.text.trim()) this.say("");
    this.body.classList.add("streaming");
    this.drawSoon();
  }

  addCitation(citation) {
    if (this.citations.has(citation.id)) return;
    this.citations.set(citation.id, citation);
    if (this.quotes.length) this.listSources();
    else this.sources.push(citation);
    this.drawSoon();
  }

  addSentence(sentence) {
    if (sentence.supported) return;
    this.unsupported.push(sentence);
    this.drawSoon();
  }

  /** The whole answer has come: what streamed gives way to what was checked. */
  finish(answer) {
    this.final = answer;
    this.text = answer.answer;
    this.citations = new Map(answer.citations.map((citation) => [citation.id, citation]));
    const conflicts = answer.conflicts ?? [];
    this.setOutcome(answer.outcome);
    this.quotes = answer.outcome === "answer" ? (answer.quotes ?? []) : [];
    this.found = [...answer.citations, ...this.besides(answer.citations)];
    this.sources = [...this.found, ...conflicts.map((conflict) => ({ ...conflict, id: null }))];
    this.feedback = answer.request_id ? new Feedback(answer, () => this.actions.judged(this)) : null;
    this.unsupported = answer.sentences.filter((sentence) => !sentence.supported);
    this.settle();
    this.under.replaceChildren(...this.support(answer));
    if (conflicts.length) this.under.append(...this.disagreement(conflicts));
    if (this.feedback) this.under.append(this.feedback.root);
    this.under.append(this.metaLine([...this.asked(answer), ...facts(answer)]));
  }

  /** How a follow-up was understood. */
  asked({ query }) {
    return query && query !== this.question ? [{ text: `searched for “${query}”` }] : [];
  }

  /** Stopped by the person: keep what came. */
  stop() {
    this.settle();
    const note = this.text ? "Stopped. What came is kept above." : "Stopped.";
    this.under.replaceChildren(element("p", { class: "note" }, note), this.metaLine([], this.retryButton("quiet small")));
  }

  /** In its place, with what to do; what had come stays. */
  fail(error) {
    this.settle();
    const message = element("strong");
    appendText(message, sentence(error.message));
    const trouble = element("div", { class: "trouble", role: "alert" }, message);
    if (error.hint) {
      const hint = element("p");
      appendText(hint, sentence(error.hint));
      trouble.append(hint);
    }
    if (error.status === 401) this.actions.askKey(this, trouble);
    else trouble.append(this.retryButton("plain small"));
    this.under.replaceChildren(trouble);
  }

  settle() {
    this.say("");
    this.body.classList.remove("streaming");
    cancelAnimationFrame(this.frame);
    this.draw();
  }

  drawSoon() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = 0;
    const units = (point) => unitOffset(this.text, point);
    this.prose.draw(this.text, this.unsupported.map(({ start, end }) => [units(start), units(end)]));
    this.actions.grown();
  }

  cite(number, probe) {
    const citation = this.citations.get(number);
    if (!citation || probe) return citation ? "known" : null;
    const button = element("button", {
      class: "cite",
      type: "button",
      "data-cite": number,
      "aria-label": `Source ${number}: ${citation.path}`,
      onclick: () => this.actions.open(this, this.sources.findIndex((source) => source.id === number)),
    }, String(number));
    attachPreview(button, () => this.citations.get(number));
    return button;
  }

  support({ outcome, searched }) {
    const list = this.found.length ? [this.sourceList(this.found)] : [];
    if (outcome !== "answer") return [...list, this.searched(searched)];
    return list.length ? list : [element("p", { class: "note" }, "No source is cited for this answer.")];
  }

  /** What was looked through for what is no answer. */
  searched({ files, waiting }) {
    const rest = waiting ? ` ${counted(waiting, "file")} ${waiting === 1 ? "is" : "are"} still being indexed.` : "";
    const note = `Searched ${counted(files, "file")}${this.within ? " that match the filter" : ""} by meaning and by words.${rest}`;
    return element("p", { class: "note" }, note);
  }

  /** Passages that answer otherwise than what is cited. */
  disagreement(conflicts) {
    const before = this.found.length;
    const title = element("p", { class: "sources-title" }, conflicts.length === 1 ? "One passage says otherwise" : "Some passages say otherwise");
    const list = this.sourceList(this.sources.slice(before), { first: before, label: "Passages that say otherwise", about: otherwise });
    return [title, list];
  }

  /** `first`: the place of the first of them among all sources; `about(source)`: a word before its path. */
  sourceList(sources, { first = 0, label = "Sources of this answer", about = () => "" } = {}) {
    const items = sources.map((source, at) => {
      const index = first + at;
      const where = element("span", { class: "where" });
      appendText(where, about(source) + source.path);
      const section = element("span", { class: "section" });
      appendText(section, source.section?.at(-1) ?? "");
      if (section.textContent) where.append(" ", section);
      const quote = element("span", { class: "quote", dir: "auto" });
      appendText(quote, glimpse(source));
      const number = element("span", { class: "number" }, String(source.id ?? index + 1));
      const open = () => this.actions.open(this, index);
      const button = element("button", { class: "source", type: "button", "data-source": index, onclick: open }, number, where, quote);
      const wrong = this.feedback && source.id !== null ? this.feedback.wrongButton(source.id) : null;
      return element("li", {}, button, wrong);
    });
    return element("ol", { class: "sources", "aria-label": label }, ...items);
  }

  metaLine(parts, ...buttons) {
    const actions = element("span", { class: "actions" }, ...buttons);
    if (this.text) actions.append(this.copyButton());
    return element("div", { class: "meta" }, ...parts.map(({ text, kind }) => element("span", { class: kind ? `fact ${kind}` : "fact" }, text)), actions);
  }

  retryButton(style) {
    return element("button", { class: style, type: "button", onclick: () => this.actions.retry(this) }, "Retry");
  }

  copyButton() {
    const button = element("button", { class: "quiet small", type: "button" }, "Copy");
    button.addEventListener("click", async () => {
      button.textContent = (await copied(this.forClipboard())) ? "Copied" : "Copying is blocked";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    return button;
  }

  forClipboard() {
    const list = [...this.citations.values()].map((c) => `[${c.id}] ${c.path}  "${squeezed(pointOf(c))}"`);
    const above = this.final?.outcome === "closest" ? [CLOSEST, ""] : [];
    return [...above, this.text, ...(list.length ? ["", ...list] : [])].join("\n");
  }

  /** Show which source is open in the panel; null for none. */
  point(index) {
    const source = index === null ? null : this.sources[index];
    for (const node of this.root.querySelectorAll("[data-source]")) {
      setCurrent(node, Number(node.dataset.source) === index);
    }
    for (const node of this.root.querySelectorAll("[data-cite]")) {
      setCurrent(node, source && Number(node.dataset.cite) === source.id);
    }
  }
}

/** Whose word it is that differs, and from when. */
function otherwise({ citation, relation, date }) {
  const who = { older: "An older edition", newer: "A newer edition" }[relation] ?? "Another document";
  return `${who}${date ? ` (${date})` : ""}, against [${citation}]: `;
}

function setCurrent(node, on) {
  if (on) node.setAttribute("aria-current", "true");
  else node.removeAttribute("aria-current");
}

function facts(answer) {
  const { timings, usage, model } = answer;
  const parts = [...likely(answer), `${seconds(timings.first_token_s)} to first token`];
  const rate = usage.completion_tokens / Math.max(timings.writing_s, 1e-6);
  if (usage.completion_tokens > 1 && timings.writing_s > 0) parts.push(`${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s`);
  if (usage.cached_tokens) parts.push(`prefix ${Math.round((100 * usage.cached_tokens) / usage.prompt_tokens)} %`);
  parts.push(`${answer.searched.cited} of ${counted(answer.searched.passages, "passage")} cited`);
  // The bar names the model too, where it has the room.
  return [...parts.map((text) => ({ text })), { text: modelName(model), kind: "model-fact" }];
}

/** How often answers like this one are right, where that is known; never as if it were certain. */
function likely({ confidence, outcome }) {
  if (confidence === null || confidence === undefined || outcome === "nothing") return [];
  return [`${Math.min(99, Math.max(1, Math.round(100 * confidence)))} % likely right`];
}

function seconds(value) {
  return value < 0.095 ? `${Math.max(1, Math.round(value * 1000))} ms` : `${value.toFixed(1)} s`;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
