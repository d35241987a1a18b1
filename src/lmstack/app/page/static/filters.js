// What the answers may come from: chosen by kind, folder, year or tag, shown as chips to take away.

import { json } from "/static/api.js";
import { appendText, element, sentence } from "/static/text.js";

const CHOSEN = "lmstack-filters";
const byId = (id) => document.getElementById(id);
const number = (count) => count.toLocaleString("en");

/** `changed()` is called when another filter holds; `opened()` when the choices are asked for. */
export class Filters {
  constructor({ changed, opened }) {
    this.changed = changed;
    this.chosen = recall(); // A list of {field, title, value, where}.
    this.run = 0;
    this.note = element("p", { class: "panel-note", role: "status" });
    this.groups = element("div", { class: "facets" });
    this.root = element("div", {}, this.note, this.groups);
    byId("narrow").addEventListener("click", opened);
    this.draw();
  }

  /** The filter as the server takes it, or null. Of one field any value does; all fields must hold. */
  get where() {
    if (!this.chosen.length) return null;
    return { all: [...grouped(this.chosen).values()].map((choices) => ({ any: choices.map((choice) => choice.where) })) };
  }

  /** What holds, in words; "" where nothing does. */
  get words() {
    return this.chosen.map(({ title, value }) => `${title}: ${value}`).join(", ");
  }

  clear() {
    if (this.chosen.length) this.set([]);
  }

  set(chosen) {
    this.chosen = chosen;
    try {
      sessionStorage.setItem(CHOSEN, JSON.stringify(chosen));
    } catch {
      // Not kept over a reload, but it holds.
    }
    this.draw();
    this.mark();
    this.changed();
  }

  toggle(choice, on) {
    const others = this.chosen.filter((other) => !same(other, choice));
    this.set(on ? [...others, choice] : others);
  }

  draw() {
    byId("narrow").setAttribute("aria-pressed", String(this.chosen.length > 0));
    byId("chips").replaceChildren(...this.chosen.map((choice) => {
      const name = element("span", { dir: "auto" });
      appendText(name, `${choice.title}: ${choice.value}`);
      const remove = () => {
        this.toggle(choice, false);
        (byId("chips").querySelector("button") ?? byId("narrow")).focus();
      };
      const label = `Remove the filter ${choice.title}: ${choice.value}`;
      const button = element("button", { class: "chip", type: "button", "aria-label": label, title: label, onclick: remove }, name, element("span", { class: "cross", "aria-hidden": "true" }, "\u00d7"));
      return element("li", {}, button);
    }));
  }

  async refresh() {
    const run = (this.run += 1);
    try {
      const { facets } = await json("/api/facets");
      if (run !== this.run) return;
      this.note.textContent = facets.length
        ? "Answers then come only from files that match. Of one kind any choice will do; all kinds must hold."
        : "There is nothing to choose by: the files do not differ in kind, folder, year or tags.";
      this.groups.replaceChildren(...facets.map((facet) => this.group(facet)));
    } catch (error) {
      this.note.textContent = `${sentence(error.message)} ${sentence(error.hint ?? "")}`;
    }
  }

  group({ field, title, values, more }) {
    const legend = element("legend");
    appendText(legend, title);
    const rows = values.map(({ value, count, where }) => {
      const choice = { field, title, value, where };
      const box = element("input", { type: "checkbox" });
      box.checked = this.chosen.some((other) => same(other, choice));
      box.addEventListener("change", () => this.toggle(choice, box.checked));
      box.choice = choice;
      const name = element("span", { class: "facet-value", dir: "auto" });
      appendText(name, value);
      return element("label", { class: "facet" }, box, name, element("span", { class: "facet-count" }, number(count)));
    });
    const rest = more > 0 ? element("p", { class: "facet-count" }, `${number(more)} rarer ones are not shown`) : null;
    return element("fieldset", {}, legend, ...rows, rest);
  }

  /** The boxes follow the chips. */
  mark() {
    for (const box of this.groups.querySelectorAll("input")) {
      box.checked = this.chosen.some((choice) => same(choice, box.choice));
    }
  }
}

const same = (a, b) => a.field === b.field && JSON.stringify(a.where) === JSON.stringify(b.where);

function grouped(choices) {
  const fields = new Map();
  for (const choice of choices) fields.set(choice.field, [...(fields.get(choice.field) ?? []), choice]);
  return fields;
}

function recall() {
  try {
    const chosen = JSON.parse(sessionStorage.getItem(CHOSEN));
    return Array.isArray(chosen) ? chosen : [];
  } catch {
    return [];
  }
}
