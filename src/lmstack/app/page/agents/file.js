// Opens all rows, and switches the theme. Text is never written but on the two buttons.
"use strict";
(() => {
  const open = document.getElementById("open");
  open.hidden = false;
  open.addEventListener("click", () => {
    const all = open.getAttribute("aria-pressed") !== "true";
    for (const row of document.querySelectorAll(".steps details")) row.open = all;
    open.setAttribute("aria-pressed", String(all));
    open.textContent = all ? "Close all" : "Open all";
  });

  const theme = document.getElementById("theme");
  const root = document.documentElement;
  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  theme.hidden = false;
  theme.setAttribute("aria-pressed", String(isDark()));
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    theme.setAttribute("aria-pressed", String(isDark()));
  });
})();
