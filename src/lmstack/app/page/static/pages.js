// The pages of a PDF file as pictures, with the cited passage marked where it stands.

import { json, picture } from "/static/api.js";
import { element } from "/static/text.js";

const ZOOMS = [1, 1.5, 2, 3];
const PIXELS_WIDE = 1000; // drawn for a page as wide as the panel; more for a zoomed one

/** One document's pages. `source`: the passage to mark, or null. `failed(error)` where none can be shown. */
export class Pages {
  constructor({ file, count, source, address, failed }) {
    Object.assign(this, { file, count, source, address, failed });
    this.number = 1;
    this.zoom = 0;
    this.marked = new Map(); // page number to {width, height, boxes, focus}
    this.run = 0;
    this.sheet = element("div", { class: "sheet" });
    this.place = element("span", { class: "page-number", role: "status" });
    this.back = this.button("Previous page", "\u2039", () => this.turn(-1));
    this.next = this.button("Next page", "\u203a", () => this.turn(1));
    this.closer = this.button("Zoom in", "+", () => this.scale(1));
    this.farther = this.button("Zoom out", "\u2212", () => this.scale(-1));
    this.root = element("div", { class: "pages" },
      element("div", { class: "page-tools", role: "group", "aria-label": "Pages" }, this.back, this.place, this.next, element("span", { class: "bar-gap" }), this.farther, this.closer),
      element("div", { class: "sheet-scroll", tabindex: "0", role: "region", "aria-label": "Page" }, this.sheet),
    );
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "PageDown" && event.altKey) this.turn(1);
      else if (event.key === "PageUp" && event.altKey) this.turn(-1);
      else return;
      event.preventDefault();
    });
  }

  button(label, text, action) {
    return element("button", { class: "quiet small", type: "button", "aria-label": label, title: label, onclick: action }, text);
  }

  /** Find the passage, and show the page that it is on. */
  async open() {
    if (this.source) {
      const { start, end, focus } = this.source;
      const pages = await this.boxes(start, end);
      const points = focus && (focus[0] > start || focus[1] < end) ? await this.boxes(...focus) : [];
      for (const page of pages) {
        const point = points.find(({ number }) => number === page.number);
        if (page.boxes.length) this.marked.set(page.number, { ...page, focus: point?.boxes ?? [] });
      }
      const first = points.find((page) => page.boxes.length) ?? pages.find((page) => page.boxes.length) ?? pages[0];
      this.number = first?.number ?? 1;
    }
    await this.draw();
  }

  /** Where the text from `start` to `end` stands: a list of {number, width, height, boxes}. */
  async boxes(start, end) {
    return (await json(this.address("/boxes", { start, end }))).pages;
  }

  turn(by) {
    const wanted = Math.min(Math.max(this.number + by, 1), this.count);
    if (wanted === this.number) return;
    this.number = wanted;
    this.draw().catch((error) => this.failed(error));
  }

  scale(by) {
    const wanted = Math.min(Math.max(this.zoom + by, 0), ZOOMS.length - 1);
    if (wanted === this.zoom) return;
    this.zoom = wanted;
    this.draw().catch((error) => this.failed(error));
  }

  async draw() {
    const run = (this.run += 1);
    this.fit();
    const factor = ZOOMS[this.zoom];
    const width = Math.min(3000, Math.round(PIXELS_WIDE * factor));
    const bitmap = await picture(this.address(`/pages/${this.number}`, { width }));
    if (run !== this.run) return;
    const canvas = element("canvas", { role: "img", "aria-label": this.label(), width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    this.sheet.replaceChildren(canvas, ...this.marks());
    this.sheet.style.width = `${100 * factor}%`;
    this.reveal();
  }

  fit() {
    this.place.textContent = `Page ${this.number} of ${this.count}`;
    this.back.disabled = this.number <= 1;
    this.next.disabled = this.number >= this.count;
    this.farther.disabled = this.zoom <= 0;
    this.closer.disabled = this.zoom >= ZOOMS.length - 1;
  }

  label() {
    const here = this.marked.has(this.number) ? ", with the cited passage marked" : "";
    return `Page ${this.number} of ${this.count}${here}. Choose Text to read it.`;
  }

  marks() {
    const page = this.marked.get(this.number);
    if (!page) return [];
    const place = (kind) => ([left, top, right, bottom]) => {
      const mark = element("div", { class: kind, "aria-hidden": "true" });
      mark.style.left = `${(100 * left) / page.width}%`;
      mark.style.top = `${(100 * top) / page.height}%`;
      mark.style.width = `${(100 * (right - left)) / page.width}%`;
      mark.style.height = `${(100 * (bottom - top)) / page.height}%`;
      return mark;
    };
    return [...page.boxes.map(place("page-mark")), ...page.focus.map(place("page-mark focus"))];
  }

  reveal() {
    const scroll = this.sheet.parentElement;
    const mark = this.sheet.querySelector(".page-mark.focus") ?? this.sheet.querySelector(".page-mark");
    if (!mark) return void scroll.scrollTo(0, 0);
    const [inner, outer] = [mark.getBoundingClientRect(), scroll.getBoundingClientRect()];
    scroll.scrollBy(inner.left - outer.left - outer.width / 4, inner.top - outer.top - outer.height / 4);
  }
}
