// Asks for the API key, where the server wants one.

import { ApiError, storedKey, tryKey } from "/static/api.js";
import { element } from "/static/text.js";

let keyForms = 0;

/** Says in `parent` that a key is wanted, and asks; calls `then` once the server accepts it. */
export function askForKey(parent, then) {
  const why = storedKey() ? "This server no longer accepts the API key." : "This server asks for an API key.";
  const box = element("div", { class: "trouble" }, element("strong", {}, why));
  addKeyForm(box, () => {
    box.remove();
    then();
  });
  parent.append(box);
}

/** Asks for the key until the server accepts one; what was typed stays, to be corrected. */
export function addKeyForm(parent, then) {
  const wrong = element("p", { role: "alert", id: `key-wrong-${(keyForms += 1)}` });
  const input = element("input", { type: "password", "aria-label": "API key", "aria-describedby": wrong.id, placeholder: "API key", autocomplete: "off", required: true });
  const button = element("button", { class: "plain", type: "submit" }, "Use this key");
  const form = element("form", { class: "key-form" }, input, button, wrong);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    button.disabled = true;
    try {
      await tryKey(input.value.trim());
      then();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      wrong.textContent = error.status === 401 ? "The server did not accept this key." : error.message;
      input.setAttribute("aria-invalid", String(error.status === 401));
      input.focus();
    } finally {
      button.disabled = false;
    }
  });
  parent.append(form);
}
