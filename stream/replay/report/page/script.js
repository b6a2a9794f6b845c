"use strict";
(() => {
  const said = document.getElementById("said");

  // A row's value in a column; NaN or null where there is none: such rows stay last.
  const valueOf = (row, place, kind) => {
    const told = row.cells[place].dataset.v;
    if (told === undefined) return null;
    return kind === "number" ? Number(told) : told.toLowerCase();
  };

  const sort = (head) => {
    const table = head.closest("table");
    const place = head.cellIndex;
    const kind = head.dataset.kind;
    const before = head.getAttribute("aria-sort");
    const first = kind === "number" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = before === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [valueOf(row, place, kind), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      if (a === b) return 0;
      return (kind === "text" ? a.localeCompare(b) : a - b) * sign;
    });
    body.append(...rows.map(([, row]) => row));
    for (const each of head.parentElement.cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    said.textContent = `Sorted by ${head.querySelector("button span").textContent}, ${order}.`;
  };

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  // Where a page may not write to the clipboard, the words are selected instead.
  const copy = async (button) => {
    const words = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(words.textContent);
      button.textContent = "Copied";
      said.textContent = "The command is copied.";
    } catch {
      getSelection().selectAllChildren(words);
      button.textContent = "Selected: copy it now";
      said.textContent = "The command is selected.";
    }
  };
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }

  // Paper has nothing to unfold.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = Array.from(document.querySelectorAll("details:not([open])"));
    for (const each of unfolded) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of unfolded) each.open = false;
  });

  // A link into a folded part opens it.
  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const fold = target && target.closest("details");
    if (fold) fold.open = true;
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
