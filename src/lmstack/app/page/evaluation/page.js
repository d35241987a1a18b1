// What opens for print.
(() => {
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
})();
