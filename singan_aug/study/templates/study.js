"use strict";
const study = JSON.parse(document.getElementById("study").textContent);
const STORED = "singan-aug-study-" + study.id;
const CROSS_MS = 500;
const COLUMNS = ["study", "participant", "protocol", "trial", "check", "real", "fake", "fake_shown", "answer", "correct",
  "exposure_ms", "wanted_ms", "response_ms", "answered_at"];
const at = (id) => document.getElementById(id);

// What is kept in the browser: {participant, answers, running: {protocol, trials, done} or null}

function restored() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORED));
    if (kept) return kept;
  } catch { /* unreadable or forbidden: begin anew */ }
  return { participant: hex(8), answers: [], running: null };
}

function keep() {
  try {
    localStorage.setItem(STORED, JSON.stringify(state));
  } catch {
    at("unsaved").hidden = false;
  }
}

// Chance

function hex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, "0")).join("");
}

function below(count) {
  return Math.floor(crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32 * count);
}

function shuffled(values) {
  const made = [...values];
  for (let i = made.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [made[i], made[j]] = [made[j], made[i]];
  }
  return made;
}

// Trials: {real, fake, check, side}; images by number, null where there is none; side 0 or 1 is where the fake stands

function trialsOf(protocol) {
  const trials = protocol === "paired" ? pairedTrials() : unpairedTrials();
  const each = study.trials_for_a_check;
  const checks = Math.ceil(trials.length / each);
  for (let i = checks - 1; i >= 0; i--) {  // one at a random place among every ten, from the end
    const { real, fake } = study.checks[below(study.checks.length)];
    const check = { real: protocol === "paired" ? real : null, fake, check: true, side: below(2) };
    trials.splice(i * each + below(Math.min(each, trials.length - i * each)) + 1, 0, check);
  }
  return trials;
}

function pairedTrials() {
  const pairs = study.sources.flatMap(({ real, fakes }) => fakes.map((fake) => ({ real, fake })));
  return shuffled(pairs).slice(0, study.trials.paired).map((pair) => ({ ...pair, check: false, side: below(2) }));
}

function unpairedTrials() {  // real images of one half of the sources, fakes of the other
  const count = study.trials.unpaired, sources = shuffled(study.sources);
  const reals = sources.slice(0, count).map(({ real }) => ({ real, fake: null }));
  const fakes = sources.slice(count, 2 * count).map((source) => ({ real: null, fake: source.fakes[below(source.fakes.length)] }));
  return shuffled([...reals, ...fakes]).map((shown) => ({ ...shown, check: false, side: 0 }));
}

// Showing

const pictures = new Map();

function picture(index) {
  if (!pictures.has(index)) {
    const image = new Image();
    image.src = study.images[index].uri;
    image.alt = "";
    image.draggable = false;
    pictures.set(index, image);
  }
  return pictures.get(index);
}

function shownIn(trial) {
  const both = trial.side ? [trial.real, trial.fake] : [trial.fake, trial.real];
  return both.filter((index) => index !== null).map(picture);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
const stacked = matchMedia("(max-width: 600px) and (orientation: portrait)");

function choices(protocol) {
  if (protocol === "unpaired") return { ask: "Was it real or fake?", names: ["real", "fake"], labels: ["← Real", "Fake →"] };
  const labels = stacked.matches ? ["↑ Upper", "Lower ↓"] : ["← Left", "Right →"];
  return { ask: "Which one was fake?", names: ["first", "second"], labels };
}

async function expose(images) {  // how long they were to be seen, by the frames of the screen
  const stage = at("stage");
  stage.classList.toggle("two", images.length > 1);
  await Promise.all(images.map((image) => image.decode()));  // before, so that both appear at once
  await pause(CROSS_MS);
  await frame();
  at("cross").hidden = true;
  stage.append(...images);
  const began = await frame();
  let now = began;
  while (now - began < study.exposure_ms - 8) now = await frame();  // half a frame early is nearer than one late
  images.forEach((image) => image.remove());
  return now - began;
}

let answering = null;  // called with 0 or 1 while a question stands
let playing = 0;  // which run is on: a paused one stops

async function play() {
  const run = ++playing, { protocol, trials } = state.running;
  at("start").hidden = true;
  at("trial").hidden = false;
  while (state.running.done < trials.length) {
    const trial = trials[state.running.done], { ask, names, labels } = choices(protocol);
    at("question").classList.add("waiting");
    at("cross").hidden = false;
    showProgress(state.running.done, trials.length);
    const exposure = await expose(shownIn(trial));
    if (run !== playing) return;
    [at("ask").textContent, at("first").textContent, at("second").textContent] = [ask, ...labels];
    at("question").classList.remove("waiting");
    const asked = performance.now();
    const choice = await new Promise((resolve) => { answering = resolve; });
    answering = null;
    if (run !== playing) return;
    record(protocol, trial, names, choice, exposure, performance.now() - asked);
    if (state.running.done + 1 < trials.length) shownIn(trials[state.running.done + 1]);
    state.running.done += 1;
    keep();
  }
  state.running = null;
  keep();
  showStart();
}

function record(protocol, trial, names, choice, exposure, response) {
  const name = (index) => index === null ? "" : study.images[index].name;
  const right = protocol === "paired" ? trial.side : Number(trial.fake !== null);
  state.answers.push({
    study: study.id, participant: state.participant, protocol, trial: state.running.done, check: Number(trial.check),
    real: name(trial.real), fake: name(trial.fake), fake_shown: protocol === "paired" ? names[trial.side] : "",
    answer: names[choice], correct: Number(choice === right), exposure_ms: Math.round(exposure),
    wanted_ms: study.exposure_ms, response_ms: Math.round(response), answered_at: new Date().toISOString(),
  });
}

function showProgress(done, total) {
  const bar = document.querySelector(".progress");
  bar.setAttribute("aria-valuemax", total);
  bar.setAttribute("aria-valuenow", done);
  bar.firstElementChild.style.width = 100 * done / total + "%";
  at("count").textContent = `${done + 1} of ${total}`;
}

function showStart() {
  playing += 1;
  answering = null;
  document.querySelectorAll("#stage img").forEach((image) => image.remove());
  at("trial").hidden = true;
  at("start").hidden = false;
  at("resume").hidden = !state.running;
  at("protocols").hidden = Boolean(state.running);
  for (const mark of document.querySelectorAll("[data-done]")) {
    const played = state.answers.some((answer) => answer.protocol === mark.dataset.done);
    const over = played && state.running?.protocol !== mark.dataset.done;
    mark.textContent = over ? "Done, thank you." : "";
    document.querySelector(`[data-protocol=${mark.dataset.done}]`).disabled = over;  // once each: images are known then
  }
  at("results").hidden = !state.answers.length;
  const counted = state.answers.filter((answer) => !answer.check);
  const right = counted.filter((answer) => answer.correct).length;
  const told = state.running ? "" : ` You were right in ${right}.`;  // not between trials: it would teach
  at("summary").textContent = `Answers so far: ${counted.length}.${told}`;
  document.querySelector("#start button:not([disabled])")?.focus();
}

// Answers as a file

function csv() {
  const cell = (value) => /[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  const rows = state.answers.map((answer) => COLUMNS.map((column) => cell(answer[column])).join(","));
  return [COLUMNS.join(","), ...rows].join("\r\n") + "\r\n";
}

at("export").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = `answers-${study.id}-${state.participant}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});

at("forget").addEventListener("click", () => {
  if (!confirm("Delete your answers from this browser?")) return;
  try {
    localStorage.removeItem(STORED);
  } catch { /* nothing is kept */ }
  state = restored();
  showStart();
});

for (const button of document.querySelectorAll("[data-protocol]")) {
  button.addEventListener("click", () => {
    state.running = { protocol: button.dataset.protocol, trials: trialsOf(button.dataset.protocol), done: 0 };
    keep();
    play();
  });
}
at("continue").addEventListener("click", play);
at("pause").addEventListener("click", showStart);
at("first").addEventListener("click", () => answering?.(0));
at("second").addEventListener("click", () => answering?.(1));

const KEYS = { ArrowLeft: 0, ArrowUp: 0, 1: 0, ArrowRight: 1, ArrowDown: 1, 2: 1 };
addEventListener("keydown", (event) => {
  if (!answering || event.repeat) return;
  if (event.key in KEYS) {
    event.preventDefault();
    answering(KEYS[event.key]);
  } else if (event.key === "Escape") {
    showStart();
  }
});

let state = restored();
keep();
showStart();
