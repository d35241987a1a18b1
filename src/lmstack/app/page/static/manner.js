// Whether the model writes the answers or the documents are quoted, where the model can do both well.

const CHOSEN = "lmstack-answers";
const byId = (id) => document.getElementById(id);

export class Manner {
  constructor() {
    this.usual = null; // "write" or "quote": what the server does where nothing is chosen.
    this.chosen = recall();
    for (const button of this.buttons) button.addEventListener("click", () => this.choose(button.value));
  }

  get buttons() {
    return [...byId("manner").querySelectorAll("button")];
  }

  /** What to ask for: "write", "quote", or null for what is usual. */
  get wanted() {
    return byId("manner").hidden ? null : this.chosen;
  }

  /** `usual`: of the server. What a small model would write is not worth a choice. */
  allow(usual) {
    if (usual === this.usual) return;
    this.usual = usual;
    byId("manner").hidden = usual !== "write";
    this.draw();
  }

  choose(manner) {
    this.chosen = manner;
    try {
      if (manner === null) sessionStorage.removeItem(CHOSEN);
      else sessionStorage.setItem(CHOSEN, manner);
    } catch {
      // Not kept over a reload, but it holds.
    }
    this.draw();
  }

  draw() {
    for (const button of this.buttons) {
      button.setAttribute("aria-pressed", String(button.value === (this.chosen ?? this.usual)));
    }
  }
}

function recall() {
  try {
    const chosen = sessionStorage.getItem(CHOSEN);
    return chosen === "write" || chosen === "quote" ? chosen : null;
  } catch {
    return null;
  }
}
