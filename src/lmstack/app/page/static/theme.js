// Runs before the first paint, so that a remembered theme does not flash.
"use strict";
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("lmstack-theme");
  } catch {
    // Storage may be off; the system's theme then applies.
  }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();
