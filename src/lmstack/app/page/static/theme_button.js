// The button that switches between light and dark, until then the system's; remembered.

/** Make `button` that button. */
export function useThemeButton(button) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  dark.addEventListener("change", show);
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("lmstack-theme", theme);
    } catch {
      // Not remembered, but switched.
    }
    show();
  });
  show();
}
