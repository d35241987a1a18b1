// Filters and search. Text is never written: entries are only hidden and shown.
(() => {
  const at = (id) => document.getElementById(id);
  const entries = [...document.querySelectorAll(".entry")].map((node) => ({
    node,
    is: new Set(node.dataset.is.split(" ")),
    principles: new Set(JSON.parse(node.dataset.principles)),
    text: node.textContent.toLowerCase(),
  }));
  const search = at("search");
  const show = at("show");
  const principle = at("principle");

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const entry of entries) {
      const fits =
        (show.value === "all" || entry.is.has(show.value)) &&
        (principle.value === "" || entry.principles.has(principle.value)) &&
        words.every((word) => entry.text.includes(word));
      entry.node.hidden = !fits;
      found += fits ? 1 : 0;
    }
    at("count").textContent = `${found} of ${entries.length} prompts`;
    at("none").hidden = found > 0;
  }

  at("filters").hidden = false;
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const control of [search, show, principle]) control.addEventListener("input", filter);
  for (const button of document.querySelectorAll(".pick")) {
    button.addEventListener("click", () => {
      principle.value = button.dataset.principle;
      filter();
      at("filters").scrollIntoView();
      principle.focus();
    });
  }

  filter();
})();
