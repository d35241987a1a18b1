// The box to write in: Enter asks, Shift+Enter breaks the line, the draft outlives a reload.

const DRAFT = "lmstack-draft";
const byId = (id) => document.getElementById(id);

export class Composer {
  constructor({ ask, stop }) {
    this.form = byId("ask");
    this.box = byId("question");
    this.send = byId("send");
    this.stop = byId("stop");
    this.busy = false;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(ask);
    });
    this.stop.addEventListener("click", stop);
    this.box.addEventListener("input", () => this.changed());
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit(ask);
    });
    this.box.value = recall();
    this.changed();
  }

  submit(ask) {
    const question = this.box.value.trim();
    if (!question || this.busy) return;
    this.set("");
    ask(question);
  }

  set(text) {
    this.box.value = text;
    this.changed();
  }

  focus() {
    this.box.focus();
  }

  /** While an answer comes, the button stops it. */
  setBusy(busy) {
    const focused = document.activeElement === this.stop || document.activeElement === this.send;
    this.busy = busy;
    this.send.hidden = busy;
    this.stop.hidden = !busy;
    if (focused) (busy ? this.stop : this.box).focus();
    this.changed();
  }

  changed() {
    this.send.disabled = !this.box.value.trim();
    if (!CSS.supports("field-sizing", "content")) {
      this.box.style.height = "auto";
      this.box.style.height = `${this.box.scrollHeight}px`;
    }
    try {
      sessionStorage.setItem(DRAFT, this.box.value);
    } catch {
      // A draft that cannot be kept is still in the box.
    }
  }
}

function recall() {
  try {
    return sessionStorage.getItem(DRAFT) ?? "";
  } catch {
    return "";
  }
}
