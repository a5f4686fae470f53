// Elements, made so that no text can become anything but text: there is no way here to parse HTML, and attributes are named by the caller.

// h("td", { class: "number", hidden: true }, "text", node): children are nodes, or become text.
export function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) attribute(node, name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) attribute(node, name, value);
  node.append(...children);
  return node;
}

// Sets an attribute only where it differs, so that what stays the same costs no layout. null and false take it away.
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

export function setText(node, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export const byId = (id) => document.getElementById(id);

// Makes the children of a node those of a list, each known by its key: what is there stays, in the order of the list.
const known = new WeakMap();

export function keyed(parent, list, keyOf, create, update) {
  const before = known.get(parent) || new Map();
  const after = new Map();
  let place = parent.firstChild;
  for (const one of list) {
    const key = keyOf(one);
    if (after.has(key)) continue;
    let node = before.get(key);
    if (!node) node = create(one);
    before.delete(key);
    after.set(key, node);
    update(node, one);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of before.values()) node.remove();
  known.set(parent, after);
}

// Says how many are not shown; nothing if none.
export function more(node, count, what) {
  node.hidden = !(count > 0);
  setText(node, count > 0 ? `… ${count} more ${what}` : "");
}

// Times that go on between two snapshots: a node that has a beginning tells how long ago that was, one that has an end how long until then.
// They are reckoned from the moment at which the snapshot came, whenever it is drawn.
// What hardly moved stays as it was, so that seconds neither stand still nor leap.
const JITTER_MS = 700;
const SHORT_MS = 10000;

let base = 0;

// From when on times are reckoned, by performance.now().
export function reckonFrom(at) { base = at; }

export function since(node, ms) {
  span(node, "since", ms === null || ms === undefined ? null : base - ms);
}

export function until(node, ms, from = base) {
  span(node, "until", ms === null || ms === undefined ? null : from + ms);
}

function span(node, kind, at) {
  if (at === null) {
    delete node.dataset[kind];
    setText(node, "");
    return;
  }
  const before = Number(node.dataset[kind]);
  const isShort = Math.abs(at - performance.now()) < SHORT_MS;
  if (!node.dataset[kind] || isShort || Math.abs(before - at) > JITTER_MS) node.dataset[kind] = at.toFixed(1);
}
