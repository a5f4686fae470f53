// Who waits for a connection, and who holds one.
import { attribute, byId, h, keyed, more, setText, since, until } from "./dom.js";
import { plain } from "./format.js";
import { holder } from "./state.js";

const ROWS_MAX = 100;

const cell = (label, attributes, ...children) => h("td", { role: "cell", "data-label": label, ...attributes }, ...children);

function newWaiter() {
  return h("tr", { role: "row" }, cell("Waited", { class: "number" }, h("span")), cell("Left", { class: "number" }, h("span")), cell("Who", {}));
}

function newHolder() {
  return h("tr", { role: "row" }, cell("Held", { class: "number" }, h("span")),
    cell("Who", {}, h("span"), h("span", { class: "quiet place" })));
}

// Two lists in one table: the rows, and the row that says that there are none.
function rows(id, list, keyOf, create, update, emptyText) {
  const table = byId(id);
  const marked = list.length > 0 ? list : [{ isNone: true }];
  keyed(table, marked, (one) => (one.isNone ? "none" : keyOf(one)), (one) => {
    if (!one.isNone) return create();
    return h("tr", { role: "row", class: "none" }, h("td", { role: "cell", colspan: "3" }, emptyText));
  }, (node, one) => { if (!one.isNone) update(node, one); });
}

// What who waits holds himself: of such claims deadlocks are made.
function holdings({ holds, holds_elsewhere: elsewhere }) {
  const parts = (Array.isArray(holds) ? holds : []).map((id) => `lease ${plain(id, 20)}`);
  for (const one of Array.isArray(elsewhere) ? elsewhere : []) parts.push(`one of ${plain(one.pool, 60)}`);
  return parts.length > 0 ? ` (holds ${parts.slice(0, 5).join(", ")}${parts.length > 5 ? ` and ${parts.length - 5} more` : ""})` : "";
}

function whereNow(lease) {
  if (lease.waits_for) return `, waits for ${plain(lease.waits_for, 60)}${lease.at ? ` at ${plain(lease.at, 100)}` : ""}`;
  return lease.at && lease.at !== lease.site ? `, now at ${plain(lease.at, 100)}` : "";
}

export class Claims {
  show(pool) {
    this.waiters(pool);
    this.holders(pool);
  }

  waiters(pool) {
    const list = pool.waiters || [];
    const hidden = (pool.more && pool.more.waiters) || 0;
    setText(byId("waiters-count"), list.length + hidden);
    rows("waiter-rows", list.slice(0, ROWS_MAX), (one) => one.id ?? one.number, newWaiter, (node, one) => {
      since(node.children[0].firstChild, one.waited_ms);
      const left = node.children[1].firstChild;
      if (Number.isFinite(one.remaining_ms)) until(left, one.remaining_ms);
      else setText(left, "no limit");
      left.dataset.before = "bare";
      setText(node.children[2], (holder(one) || `claim ${plain(one.number, 20)}`) + holdings(one));
    }, "nobody waits");
    more(byId("waiters-more"), Math.max(0, list.length - ROWS_MAX) + hidden, "wait");
  }

  holders(pool) {
    const list = [...(pool.leases || [])].sort((a, b) => b.held_ms - a.held_ms);
    const hidden = (pool.more && pool.more.leases) || 0;
    setText(byId("holders-count"), list.length + hidden);
    rows("holder-rows", list.slice(0, ROWS_MAX), (one) => `${one.slot} ${one.id}`, newHolder, (node, one) => {
      attribute(node, "data-overdue", Boolean(one.is_overdue));
      since(node.children[0].firstChild, one.held_ms);
      const [who, place] = node.children[1].children;
      setText(who, (one.is_overdue ? "overdue · " : "") + (holder(one) || `lease ${plain(one.id, 30)}`));
      setText(place, `slot ${plain(one.slot, 20)} of ${plain(one.backend, 60)}${whereNow(one)}`);
    }, "nobody holds a connection");
    more(byId("holders-more"), Math.max(0, list.length - ROWS_MAX) + hidden, "hold one");
  }
}
