"""The one script of a page: a click on a column's name sorts the table."""

import base64
import hashlib

# Numbers sort as numbers, other columns as text; missing values last, whichever way.
SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const isNumeric = head.classList.contains("number");
    const read = (row) => {
      const order = row.cells[column].dataset.order;
      if (order === "") return null;
      return isNumeric ? Number(order) : order;
    };
    head.querySelector("button").addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const compare = (a, b) => {
        const first = read(a), second = read(b);
        if (first === null || second === null) return (first === null) - (second === null);
        if (isNumeric) return sign * (first - second);
        return sign * first.localeCompare(second, "en", { numeric: true });
      };
      body.append(...Array.from(body.rows).sort(compare));
    });
  });
}
"""


def script_source() -> str:
    """Name the script in a Content-Security-Policy, which runs no other."""
    digest = hashlib.sha256(SCRIPT.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
