"use strict";
const { entries, measures, worse } = JSON.parse(document.getElementById("summary").textContent);
const at = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

if (matchMedia("(max-width: 600px)").matches) at("totals")?.removeAttribute("open");  // on a phone pictures come first

// Cards are there from the start; their measures and pictures are shown near the view alone, pictures given back far from it.

const cards = entries.map((entry, i) => {
  const title = make("h2", {}, entry.name + " ", make("small", {}, [...entry.classes, entry.about].join(" · ")));
  const card = make("article", { className: "card", id: entry.key, tabIndex: -1 }, title,
    make("ul", { className: "measures" }), make("div", { className: "pictures" }));
  card.dataset.index = i;
  return card;
});
const seen = new Set();
const watcher = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) {
    if (isIntersecting) {
      seen.add(target);
      fill(target);
    } else if (seen.delete(target)) {
      const pictures = target.querySelector(".pictures");
      pictures.style.minHeight = pictures.offsetHeight + "px";  // so that nothing jumps
      pictures.replaceChildren();
    }
  }
}, { rootMargin: "1200px 0px" });

function startOf(entry) {
  return Math.min(Number(at("start").value), entry.measures.length - 1);
}

function shownOf(index) {  // [label, picture, mask or null] of all that a card shows
  const pictures = JSON.parse(at("pictures-" + index).textContent);
  const { variants, masks } = pictures.scales[startOf(entries[index])];
  return [["source", pictures.source, pictures.mask], ["reconstruction", pictures.reconstruction, null],
    ...variants.map((variant, i) => [`variant ${i + 1}`, variant, masks[i] ?? null])];
}

function framed(picture, mask, alt) {
  const frame = make("span", { className: "frame" }, make("img", { src: picture, alt, decoding: "async" }));
  if (mask) frame.append(make("img", { src: mask, alt: "", className: "mask" }));
  return frame;
}

function fill(card) {
  tell(card);
  const index = Number(card.dataset.index), entry = entries[index], pictures = card.querySelector(".pictures");
  pictures.replaceChildren(...shownOf(index).map(([label, picture, mask], place) => {
    const button = make("button", { type: "button", className: "picture" }, framed(picture, mask, `${entry.name}, ${label}`), label);
    button.addEventListener("click", () => zoom(index, place));
    return button;
  }));
  pictures.style.minHeight = "";
}

function tell(card) {
  const entry = entries[card.dataset.index], start = startOf(entry), row = entry.measures[start];
  card.querySelector(".measures").replaceChildren(make("li", {}, `start scale ${start} of ${entry.measures.length - 1}`),
    ...measures.filter(([name]) => name in row)
      .map(([name, title]) => make("li", {}, title + " ", make("b", {}, row[name].toPrecision(3)))));
}

// Order and choice

function value(entry, name) {
  const found = entry.measures[startOf(entry)][name];
  return found === undefined ? -Infinity : worse[name] === "low" ? -found : found;
}

function arrange() {
  const by = at("sort").value, wanted = at("class")?.value;
  const shown = cards.filter((card) => !wanted || entries[card.dataset.index].classes.includes(wanted));
  if (by !== "name") {
    shown.sort((a, b) => value(entries[b.dataset.index], by) - value(entries[a.dataset.index], by));
  }
  at("cards").replaceChildren(...shown);
  at("shown").textContent = `${shown.length} of ${cards.length} images`;
}

function restart() {
  at("start-value").textContent = at("start").value;
  if (at("sort").value !== "name") arrange();
  seen.forEach(fill);
}

function showMasks() {
  document.body.classList.toggle("with-masks", at("masks")?.checked ?? false);
}

// Zoom

let zoomed = null;

function zoom(index, place) {
  const shown = shownOf(index);
  zoomed = { index, place: (place + shown.length) % shown.length };
  const [label, picture, mask] = shown[zoomed.place], frame = framed(picture, mask, label), image = frame.firstChild;
  image.addEventListener("load", () => at("zoomed").style.setProperty("--ratio", image.naturalHeight / image.naturalWidth));
  at("zoomed").replaceChildren(frame);
  at("zoom").querySelector("figcaption").textContent = `${entries[index].name}, start scale ${startOf(entries[index])}, ${label}`;
  if (!at("zoom").open) at("zoom").showModal();
}

at("zoom").addEventListener("click", (event) => {
  if (event.target === at("zoom") || event.target.id === "close") at("zoom").close();
  else if (event.target.dataset.step) zoom(zoomed.index, zoomed.place + Number(event.target.dataset.step));
});

// Keys

function step(by) {
  const shown = [...at("cards").children];
  const here = shown.indexOf(document.activeElement?.closest(".card"));
  const next = shown[Math.max(0, Math.min(shown.length - 1, here + by))];
  next?.scrollIntoView({ block: "start" });
  next?.focus({ preventScroll: true });
}

function move(by) {
  at("start").value = Number(at("start").value) + by;
  restart();
}

const KEYS = { j: () => step(1), k: () => step(-1), ArrowLeft: () => move(-1), ArrowRight: () => move(1),
  m: () => at("masks")?.click(), Enter: () => document.activeElement?.querySelector?.(".picture")?.click() };
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, summary")) return;
  if (at("zoom").open) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) zoom(zoomed.index, zoomed.place + by);
  } else if (event.key in KEYS && !(event.key === "Enter" && event.target.matches("button, a"))) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

if (entries.length) {
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("start").addEventListener("input", restart);
  at("sort").addEventListener("change", arrange);
  at("class")?.addEventListener("change", arrange);
  at("masks")?.addEventListener("change", showMasks);
  at("size").addEventListener("input", () => at("cards").style.setProperty("--size", at("size").value + "px"));
  cards.forEach((card) => watcher.observe(card));
  showMasks();
  arrange();
}
