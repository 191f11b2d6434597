
"use strict";
(() => {
  const tip = document.getElementById("tip");
  let shown = null;
  const hide = () => {
    if (shown) shown.removeAttribute("aria-describedby");
    shown = null;
    tip.hidden = true;
  };
  const place = () => {
    if (!shown) return;
    const box = shown.getBoundingClientRect();
    const size = tip.getBoundingClientRect();
    const room = document.documentElement.clientWidth;
    const left = Math.min(Math.max(8, box.right - size.width), room - size.width - 8);
    const above = box.top - size.height - 8;
    tip.style.left = left + "px";
    tip.style.top = (above > 8 ? above : box.bottom + 8) + "px";
  };
  const open = (cell) => {
    hide();
    shown = cell;
    tip.textContent = cell.dataset.tip;
    tip.hidden = false;
    cell.setAttribute("aria-describedby", "tip");
    place();
  };
  const move = (cell, key) => {
    const row = cell.parentElement;
    const at = [...row.children].indexOf(cell);
    if (key === "ArrowLeft") return cell.previousElementSibling;
    if (key === "ArrowRight") return cell.nextElementSibling;
    const rows = [...row.closest("table").querySelectorAll("tbody tr:not(.group)")];
    const next = rows[rows.indexOf(row) + (key === "ArrowUp" ? -1 : 1)];
    return next && next.children[at];
  };
  const sorters = (table) => {
    const heads = [...table.querySelectorAll("thead th[data-sort]")];
    const bodies = [...table.tBodies];
    const original = bodies.map((body) => [...body.rows].filter((row) => row.className !== "group"));
    const status = document.createElement("p");
    status.className = "vh";
    status.setAttribute("role", "status");
    table.parentElement.after(status);
    const order = (index, kind, sign) => {
      const key = (row) => row.children[index].dataset.v;
      const compare = (a, b) => {
        const x = key(a), y = key(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        if (kind === "text") return sign * x.localeCompare(y);
        const p = Number(x.replace("inf", "Infinity")), q = Number(y.replace("inf", "Infinity"));
        return sign * (p === q ? 0 : p - q);
      };
      bodies.forEach((body, i) => {
        const rows = sign ? [...original[i]].sort(compare) : original[i];
        body.append(...rows);
      });
    };
    heads.forEach((head) => {
      const kind = head.dataset.sort;
      const first = kind === "higher" ? -1 : 1;
      const button = document.createElement("button");
      button.type = "button";
      if (!head.querySelector(".label")) button.className = "plain";
      button.append(...head.childNodes);
      const mark = document.createElement("span");
      mark.className = "sortmark";
      mark.setAttribute("aria-hidden", "true");
      if (kind === "text") button.append(mark);
      else button.prepend(mark);
      head.append(button);
      let state = 0;
      head.reset = () => {
        state = 0;
        head.removeAttribute("aria-sort");
        mark.textContent = "";
      };
      button.addEventListener("click", () => {
        const next = (state + 1) % 3;
        heads.forEach((other) => other.reset());
        state = next;
        const sign = [0, first, -first][state];
        order(head.cellIndex, kind, sign);
        const words = sign > 0 ? "ascending" : "descending";
        if (sign) {
          head.setAttribute("aria-sort", words);
          mark.textContent = sign > 0 ? "▲" : "▼";
        }
        const name = (head.querySelector(".label") || head).textContent.trim();
        status.textContent = sign ? "Sorted by " + name + ", " + words : "In the protocol's order";
      });
    });
  };
  document.querySelectorAll("table.board").forEach((table) => {
    sorters(table);
    const cells = [...table.querySelectorAll("td[tabindex]")];
    cells.forEach((cell, i) => {
      cell.tabIndex = i ? -1 : 0;
    });
    table.querySelectorAll("[title]").forEach((cell) => {
      cell.dataset.tip = cell.title;
      cell.removeAttribute("title");
      cell.addEventListener("mouseenter", () => open(cell));
      cell.addEventListener("mouseleave", hide);
    });
    table.addEventListener("focusin", (event) => {
      const cell = event.target.closest("[data-tip]");
      if (!cell) return hide();
      if (cell.matches("td[tabindex]")) {
        cells.forEach((other) => {
          other.tabIndex = other === cell ? 0 : -1;
        });
      }
      open(cell);
    });
    table.addEventListener("focusout", hide);
    table.addEventListener("keydown", (event) => {
      if (!event.key.startsWith("Arrow") || !event.target.matches("td[tabindex]")) return;
      const next = move(event.target, event.key);
      if (next && next.matches("td[tabindex]")) next.focus();
      event.preventDefault();
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
  addEventListener("scroll", place, { capture: true, passive: true });
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((item) => {
      item.open = true;
    });
  });
})();
