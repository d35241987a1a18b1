// What a citation says, shown beside it on hover or focus. Esc hides it; the pointer may enter it.

import { appendText, element, glimpse } from "/static/text.js";

const box = () => document.getElementById("preview");
let timer = 0;
let owner = null;

/** Show `source` beside `anchor` for as long as either is hovered or the anchor has focus. */
export function attachPreview(anchor, source) {
  const later = (wait, action) => {
    clearTimeout(timer);
    timer = setTimeout(action, wait);
  };
  anchor.addEventListener("mouseenter", () => later(150, () => show(anchor, source())));
  anchor.addEventListener("mouseleave", () => later(200, hidePreview));
  anchor.addEventListener("focus", () => {
    if (anchor.matches(":focus-visible")) later(0, () => show(anchor, source()));
  });
  anchor.addEventListener("blur", () => later(0, hidePreview));
}

/** True where there was a preview to hide. */
export function hidePreview() {
  clearTimeout(timer);
  const shown = !box().hidden;
  box().hidden = true;
  owner?.removeAttribute("aria-describedby");
  owner = null;
  return shown;
}

function show(anchor, source) {
  if (!source || !anchor.isConnected) return;
  hidePreview();
  const where = element("div", { class: "where" });
  appendText(where, [source.path, ...(source.section ?? [])].join(" \u203a "));
  const quote = element("div", { class: "quote", dir: "auto" });
  appendText(quote, glimpse(source));
  box().replaceChildren(where, quote);
  box().hidden = false;
  owner = anchor;
  anchor.setAttribute("aria-describedby", "preview");
  place(anchor.getBoundingClientRect());
}

function place(anchor) {
  const size = box().getBoundingClientRect();
  const left = Math.max(12, Math.min(anchor.left - 12, innerWidth - size.width - 12));
  const ceiling = document.getElementById("desk").getBoundingClientRect().top;
  const above = anchor.top - size.height - 8;
  const below = Math.min(anchor.bottom + 8, innerHeight - size.height - 8);
  box().style.left = `${left}px`;
  box().style.top = `${above > ceiling ? above : below}px`;
}

document.addEventListener("scroll", hidePreview, true);
box().addEventListener("mouseenter", () => clearTimeout(timer));
box().addEventListener("mouseleave", () => {
  timer = setTimeout(hidePreview, 200);
});
