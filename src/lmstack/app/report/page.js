// What pages that are one file share: the theme, filters and search of entries, and opening all that
// they leave. Text is never written as HTML.
"use strict";
(() => {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  button.hidden = false;
  button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    button.setAttribute("aria-pressed", String(isDark()));
  });

  const open = document.getElementById("open");
  if (open) open.hidden = false;
  open?.addEventListener("click", () => {
    const all = open.getAttribute("aria-pressed") !== "true";
    open.setAttribute("aria-pressed", String(all));
    open.textContent = all ? "Close all" : "Open all";
    for (const row of document.querySelectorAll(".steps details, .entry:not([hidden]) > details")) row.open = all;
  });

  const form = document.getElementById("filters");
  if (!form) return;
  const selects = [...form.querySelectorAll("[data-filter]")];
  const search = document.getElementById("search");
  const entries = [...document.querySelectorAll(".entry")].map((node) => ({
    node,
    // By filter, what an entry is shown for: one word, or a list.
    is: selects.map((each) => [JSON.parse(node.dataset[each.dataset.filter])].flat().map(String)),
    text: node.textContent.toLowerCase(),
  }));

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { node, is, text } of entries) {
      const fits =
        selects.every((each, place) => each.value === "" || is[place].includes(each.value)) &&
        words.every((word) => text.includes(word));
      node.hidden = !fits;
      found += fits ? 1 : 0;
    }
    document.getElementById("count").textContent = `${found} of ${entries.length} ${form.dataset.noun}`;
    document.getElementById("none").hidden = found > 0;
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const control of [search, ...selects]) control.addEventListener("input", filter);
  filter();
})();
