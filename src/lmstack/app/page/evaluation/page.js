// Filters and search of samples, and what opens for print. Text is never written as HTML.
(() => {
  const at = (id) => document.getElementById(id);
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const node of document.querySelectorAll("#gate details, #calibration details, #cost > details, #sources > details")) {
      if (!node.open) opened.push(node);
      node.open = true;
    }
  });
  addEventListener("afterprint", () => {
    for (const node of opened.splice(0)) node.open = false;
  });

  const form = at("filters");
  if (!form) return;
  const entries = [...document.querySelectorAll(".entry")].map((node) => ({
    node,
    text: node.textContent.toLowerCase(),
  }));
  const selects = [...form.querySelectorAll("[data-filter]")];
  const search = at("search");

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { node, text } of entries) {
      const fits =
        selects.every((each) => each.value === "" || node.dataset[each.dataset.filter] === each.value) &&
        words.every((word) => text.includes(word));
      node.hidden = !fits;
      found += fits ? 1 : 0;
    }
    at("count").textContent = `${found} of ${entries.length} samples`;
    at("none").hidden = found > 0;
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const control of [search, ...selects]) control.addEventListener("input", filter);
  filter();
})();
