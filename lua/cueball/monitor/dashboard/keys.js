// What the keys do, and the list of that. None of it where somebody types.
import { byId, h } from "./dom.js";

const isTyping = (node) => node && (node.isContentEditable || (/^(INPUT|SELECT|TEXTAREA)$/.test(node.tagName) && node.type !== "checkbox"));

function goTo(id) {
  const section = byId(id);
  section.scrollIntoView({ block: "start" });
  const first = section.querySelector("[tabindex], input, button, select");
  if (first) first.focus({ preventScroll: true });
}

export function startKeys({ pause, theme, pools, retry }) {
  const keys = [
    ["j", "the next pool", () => pools.step(1)],
    ["k", "the pool before", () => pools.step(-1)],
    ["s", "slots; then arrows, Home, End read one after another", () => goTo("section-slots")],
    ["b", "backends", () => goTo("section-backends")],
    ["h", "holders and those who wait", () => goTo("section-claims")],
    ["w", "what if", () => goTo("section-whatif")],
    ["e", "events", () => byId("log").focus()],
    ["/", "filter events", () => byId("log-filter").focus()],
    ["p", "pause: the page stands still, the program does not", pause],
    ["r", "try the connection to the program now", retry],
    ["t", "theme: system, dark, light", theme],
    ["?", "this list", () => byId("keys").showModal()],
  ];
  byId("keys-list").append(...keys.flatMap(([key, help]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, help)]),
    h("dt", {}, h("kbd", {}, "Esc")), h("dd", {}, "leaves a field; closes this list"));
  byId("help").addEventListener("click", () => byId("keys").showModal());
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isTyping(event.target)) event.target.blur();
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || byId("keys").open) return;
    const found = keys.find(([key]) => key === event.key);
    if (!found) return;
    event.preventDefault();
    found[2]();
  });
}
