// Every slot of a pool as a tile, grouped by backend. A tile's shape and colour are its state.
import { attribute, byId, h, keyed, setText } from "./dom.js";
import { inOrder, number, plain } from "./format.js";
import { SLOTS, condition, slotLabel, slotSentence } from "./state.js";

const COLUMNS_MAX = 20; // of tiles in a group
const HINT = "Point at a slot, or use the arrow keys, to read about it.";

function densityOf(count) {
  if (count <= 60) return "few";
  return count <= 300 ? "some" : "many";
}

function summary(list) {
  const counts = countStates(list);
  return SLOTS.filter((one) => counts[one.state]).map((one) => `${counts[one.state]} ${one.label}`).join(", ") || "no slots";
}

function countStates(list) {
  const counts = {};
  for (const one of list) counts[one.state] = (counts[one.state] || 0) + 1;
  return counts;
}

export class Slots {
  constructor() {
    this.box = byId("slots");
    this.line = byId("slot-line");
    this.tiles = [];    // in the order in which they are shown
    this.chosen = null; // the id of the one that is read
    this.made = 0;      // tiles, so that each has an id of its own
    this.leases = new Map(); // by slot
    this.box.addEventListener("pointerover", (event) => this.pointAt(event.target.closest(".tile")));
    this.box.addEventListener("click", (event) => this.pointAt(event.target.closest(".tile")));
    this.box.addEventListener("keydown", (event) => this.press(event));
    for (const one of SLOTS) {
      byId("legend").append(h("li", { title: one.help, "data-state": one.state },
        h("span", { class: "tile", "data-state": one.state, "aria-hidden": "true" }), h("b", {}, "0"), ` ${one.label}`));
    }
  }

  show(pool) {
    const connections = pool.connections || [];
    this.leases = new Map((pool.leases || []).map((lease) => [lease.slot, lease]));
    this.showLegend(connections, pool);
    attribute(this.box, "data-density", densityOf(connections.length));
    const groups = this.groupsOf(pool, connections);
    const widest = groups.reduce((most, group) => Math.max(most, group.list.length), 1);
    this.box.style.setProperty("--columns", Math.min(widest, COLUMNS_MAX));
    keyed(this.box, groups, (group) => group.key, () => this.newGroup(), (node, group) => this.fill(node, group));
    this.tiles = [...this.box.querySelectorAll(".tile")];
    this.read();
  }

  showLegend(connections, pool) {
    const counts = countStates(connections);
    for (const node of byId("legend").children) {
      const count = counts[node.dataset.state] || 0;
      setText(node.querySelector("b"), number(count));
      attribute(node, "data-none", count === 0);
    }
    const hidden = pool.more && pool.more.connections > 0 ? `, … ${pool.more.connections} more are not shown` : "";
    setText(byId("slots-count"), `${connections.length}${hidden}`);
  }

  groupsOf(pool, connections) {
    const groups = new Map();
    for (const backend of [...(pool.backends || [])].sort((a, b) => inOrder(a.key, b.key))) {
      groups.set(backend.key, { key: backend.key, backend, list: [] });
    }
    for (const one of connections) {
      if (!groups.has(one.backend)) groups.set(one.backend, { key: one.backend, backend: { key: one.backend, state: "removed" }, list: [] });
      groups.get(one.backend).list.push(one);
    }
    return [...groups.values()];
  }

  newGroup() {
    const name = h("span", { class: "group-name" });
    return h("div", { class: "group", role: "group" }, h("div", { class: "group-head", "aria-hidden": "true" }, h("span", { class: "sign" }), name,
      h("span", { class: "quiet group-count" })), h("div", { class: "tiles", role: "presentation" }));
  }

  fill(node, { backend, list }) {
    const where = condition(backend);
    const [head, tiles] = node.children;
    attribute(node, "data-condition", where.name);
    attribute(node, "aria-label", `${plain(backend.key, 80)}, ${where.label}: ${summary(list)}`);
    setText(head.children[0], where.sign);
    setText(head.children[1], plain(backend.name || backend.key, 80));
    setText(head.children[2], where.name === "up" ? list.length : `${where.label} · ${list.length}`);
    keyed(tiles, list, (one) => one.slot, () => this.newTile(), (tile, one) => {
      tile.connection = one;
      const lease = this.leases.get(one.slot);
      attribute(tile, "data-state", one.state);
      attribute(tile, "data-overdue", Boolean(lease && lease.is_overdue));
      attribute(tile, "aria-label", `slot ${one.slot}: ${slotLabel(one.state)}`);
    });
  }

  newTile() {
    this.made += 1;
    return h("span", { class: "tile", role: "option", id: `tile-${this.made}`, "aria-selected": "false" });
  }

  pointAt(tile) {
    if (!tile || !tile.connection) return;
    this.chosen = tile.id;
    this.read();
  }

  read() {
    const tile = this.chosen && this.tiles.find((one) => one.id === this.chosen);
    for (const one of this.box.querySelectorAll('[aria-selected="true"]')) if (one !== tile) one.setAttribute("aria-selected", "false");
    if (!tile) {
      this.chosen = null;
      attribute(this.box, "aria-activedescendant", null);
      setText(this.line, this.tiles.length > 0 ? HINT : "No slots.");
      return;
    }
    const one = tile.connection;
    attribute(tile, "aria-selected", "true");
    attribute(this.box, "aria-activedescendant", tile.id);
    const sentence = slotSentence(one, this.leases.get(one.slot));
    setText(this.line, sentence);
    attribute(tile, "aria-label", sentence);
  }

  press(event) {
    if (this.tiles.length === 0) return;
    const now = this.tiles.findIndex((one) => one.id === this.chosen);
    const next = this.moveFrom(now, event.key);
    if (event.key === "Escape") this.chosen = null;
    else if (next === null) return;
    else this.chosen = this.tiles[next].id;
    event.preventDefault();
    this.read();
    if (this.chosen) this.tiles[next].scrollIntoView({ block: "nearest" });
  }

  moveFrom(now, key) {
    const last = this.tiles.length - 1;
    const within = (index) => Math.min(last, Math.max(0, index));
    if (key === "ArrowRight") return within(now + 1);
    if (key === "ArrowLeft") return within(now - 1);
    if (key === "Home") return 0;
    if (key === "End") return last;
    if (key === "ArrowDown" || key === "ArrowUp") return this.vertical(within(now), key === "ArrowDown" ? 1 : -1);
    return null;
  }

  // The nearest tile in the row above or below.
  vertical(now, direction) {
    const from = this.tiles[now].getBoundingClientRect();
    let best = now;
    let least = Infinity;
    this.tiles.forEach((tile, index) => {
      const box = tile.getBoundingClientRect();
      const down = (box.top - from.top) * direction;
      if (down < from.height / 2) return;
      const distance = down * 1000 + Math.abs(box.left - from.left);
      if (distance < least) { least = distance; best = index; }
    });
    return best;
  }
}

