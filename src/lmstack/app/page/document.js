// What pages that are one file share: the theme, and opening all entries that a filter leaves. Text
// is never written as HTML.
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
  open?.addEventListener("click", () => {
    const all = open.getAttribute("aria-pressed") !== "true";
    open.setAttribute("aria-pressed", String(all));
    open.textContent = all ? "Close all" : "Open all";
    for (const entry of document.querySelectorAll(".entry:not([hidden])")) {
      entry.querySelector("details").open = all;
    }
  });
})();
