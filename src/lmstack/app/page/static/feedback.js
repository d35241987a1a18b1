// What one thinks of an answer: helpful or not, which sources are wrong, how it should read, a word
// about it, and whether models may be trained with that.

import { json } from "/static/api.js";
import { element, sentence } from "/static/text.js";

const NOTHING = { verdict: null, comment: "", wrong_sources: [], edit: "", consent: false };

/** Under `answer`; `changed()` is called when something was kept. Each change is sent as it is made. */
export class Feedback {
  constructor(answer, changed) {
    this.answer = answer;
    this.changed = changed;
    this.state = { ...NOTHING, ...answer.feedback };
    this.marks = []; // {id, button}
    this.yes = this.verdictButton("Helpful", "helpful");
    this.no = this.verdictButton("Not helpful", "not_helpful");
    this.note = element("span", { class: "feedback-note", role: "status" });
    this.box = element("textarea", { rows: "2", maxlength: "2000", "aria-label": "What about it? Optional", placeholder: "What about it? Optional" });
    this.box.value = this.state.comment;
    this.form = element("form", { class: "feedback-form" }, this.box, element("button", { class: "plain small", type: "submit" }, "Send"));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.save({ comment: this.box.value.trim() });
    });
    this.correct = element("button", { class: "quiet small", type: "button", "aria-expanded": "false" }, "Correct it");
    this.correct.addEventListener("click", () => this.openDraft(this.draft.hidden));
    this.draft = this.makeDraft();
    this.agree = element("input", { type: "checkbox" });
    this.agree.addEventListener("change", () => this.save({ consent: this.agree.checked }));
    this.consent = element("label", { class: "feedback-consent" }, this.agree, " This may be used to train models");
    const line = element("div", { class: "feedback-line", role: "group", "aria-label": "Was this answer helpful?" }, this.yes, this.no, this.correct, this.note);
    this.root = element("div", { class: "feedback" }, line, this.draft, this.form, this.consent);
    this.draw();
  }

  /** The answer to be changed; left as it was, or emptied, it is no correction. */
  makeDraft() {
    const text = element("textarea", { rows: "6", maxlength: "20000", dir: "auto", "aria-label": "How the answer should read" });
    text.value = this.state.edit || this.answer.answer;
    const draft = element("form", { class: "feedback-form", hidden: true }, text, element("button", { class: "plain small", type: "submit" }, "Keep"));
    draft.addEventListener("submit", async (event) => {
      event.preventDefault();
      const edit = text.value.trim();
      await this.save({ edit: edit === this.answer.answer.trim() ? "" : edit });
      text.value = this.state.edit || this.answer.answer;
    });
    return draft;
  }

  openDraft(open) {
    this.draft.hidden = !open;
    this.correct.setAttribute("aria-expanded", String(open));
    if (open) this.draft.querySelector("textarea").focus();
  }

  verdictButton(text, verdict) {
    const chosen = () => this.save({ verdict: this.state.verdict === verdict ? null : verdict });
    return element("button", { class: "quiet small", type: "button", onclick: chosen }, text);
  }

  /** A button that says of citation `id` that it does not say what it is cited for. */
  wrongButton(id) {
    const button = element("button", { class: "quiet small wrong", type: "button", "aria-label": `Source ${id} is wrong` }, "Wrong source");
    button.addEventListener("click", () => {
      const others = this.state.wrong_sources.filter((other) => other !== id);
      const on = others.length === this.state.wrong_sources.length;
      this.save({ wrong_sources: on ? [...others, id].sort((a, b) => a - b) : others });
    });
    this.marks.push({ id, button });
    this.draw();
    return button;
  }

  async save(change) {
    const before = this.state;
    this.state = { ...before, ...change };
    this.draw();
    try {
      const { kept } = await json("/api/feedback", { body: { request_id: this.answer.request_id, ...this.state } });
      this.answer.feedback = this.state;
      this.note.textContent = kept ? "Kept. Thank you." : "Taken back.";
      this.changed();
    } catch (error) {
      this.state = before;
      this.draw();
      this.note.textContent = [error.message, error.hint].filter(Boolean).map(sentence).map(ended).join(" ");
    }
  }

  draw() {
    const { verdict, wrong_sources: wrong, edit, comment, consent } = this.state;
    this.yes.setAttribute("aria-pressed", String(verdict === "helpful"));
    this.no.setAttribute("aria-pressed", String(verdict === "not_helpful"));
    this.form.hidden = verdict === null && !wrong.length && !comment;
    this.correct.classList.toggle("chosen", edit !== "");
    this.consent.hidden = this.form.hidden && !edit;
    this.agree.checked = consent;
    for (const { id, button } of this.marks) button.setAttribute("aria-pressed", String(wrong.includes(id)));
  }
}

const ended = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);
