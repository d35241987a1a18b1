// A principle in the table filters by it.
for (const button of document.querySelectorAll(".pick")) {
  button.addEventListener("click", () => {
    const select = document.getElementById("principle");
    select.value = button.dataset.principle;
    select.dispatchEvent(new Event("input"));
    document.getElementById("filters").scrollIntoView();
    select.focus();
  });
}
