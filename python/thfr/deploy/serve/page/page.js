"use strict";
// All text that came from outside is set as textContent, never as HTML.
const at = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const PAGE = 24, POLL = 2000, BINS = 40;
let models = [], newest = 0, oldest = null, scores = null, searching = 0, offered = null;

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...(options.headers || {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) { at("login").hidden = false; at("work").hidden = true; at("token").focus(); }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(told.detail || `status ${answer.status}`),
      { status: answer.status, after: Number(answer.headers.get("Retry-After")) });
  }
  return answer;
}
const get = async (path) => (await ask(path)).json();
const post = (path, value) => ask(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value),
});
const tell = (text) => { at("state").textContent = text; };
const number = (value) => value === null ? "none" : Number(value).toPrecision(4);
const person = () => at("who").value.trim() || localStorage.getItem("who") || "the page";
const model = () => encodeURIComponent(at("model").value);

// --- inspections -----------------------------------------------------------------------------------
function card(row, fresh) {
  const figure = make("figure");
  picture(row, figure);
  const word = row.verdict === null ? make("span", {}, "no threshold")
    : make("span", { class: `is-${row.verdict}` }, row.verdict === "bad" ? "✗ bad" : "✓ good");
  const when = make("time", { datetime: new Date(row.time * 1000).toISOString() },
    new Date(row.time * 1000).toLocaleString());
  const count = `${row.findings.length}\u00a0finding${row.findings.length === 1 ? "" : "s"}`;
  const said = make("div", { class: "said", role: "group", "aria-label": "Feedback" });
  for (const truth of ["good", "bad"]) {
    const button = make("button", { type: "button", "data-truth": truth,
      "aria-pressed": String(row.truth === truth) }, `This was ${truth}`);
    button.onclick = () => say(row, truth, said);
    said.append(button);
  }
  return make("article", { "data-id": row.id, ...(fresh ? { class: "new" } : {}) }, figure,
    make("h3", {}, row.file || `Inspection ${row.id}`),
    make("p", {}, word, ` · score\u00a0${number(row.score)} of\u00a0${number(row.threshold)} · ${count}`),
    make("p", {}, when, ` · ${row.model}`), said);
}
async function picture(row, figure) {
  try {
    const blob = await (await ask(`/v1/inspections/${row.id}/picture`)).blob();
    const image = make("img", { alt: `Heat map of ${row.file || row.id}` });
    image.onload = () => URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(blob);
    figure.append(image);
    for (const box of row.findings) {
      const frame = make("i", { title: `${box.area} pixels, peak ${number(box.peak)}` });
      const share = (part, whole) => `${100 * part / whole}%`;
      frame.style.left = share(box.x, row.width);
      frame.style.top = share(box.y, row.height);
      frame.style.width = share(box.width, row.width);
      frame.style.height = share(box.height, row.height);
      figure.append(frame);
    }
  } catch { figure.remove(); }
}
async function say(row, truth, group) {
  try {
    await post(`/v1/inspections/${row.id}/feedback`, { truth, who: person() });
    row.truth = truth;
    for (const button of group.children)
      button.setAttribute("aria-pressed", String(button.dataset.truth === truth));
    await loadScores();
  } catch (error) { tell(`Feedback not saved: ${error.message}`); }
}
function query(extra) {
  const wanted = { model: at("model").value, text: at("text").value, verdict: at("verdict").value,
    truth: at("truth").value, ...extra };
  return new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== "" && value !== null));
}
async function search() {
  const mine = ++searching;
  const page = await get(`/v1/inspections?${query({ limit: PAGE })}`);
  if (mine !== searching) return;  // a later search has begun
  at("feed").replaceChildren(...page.inspections.map((row) => card(row, false)));
  newest = page.inspections.length ? page.inspections[0].id : 0;
  shown(page);
}
function shown(page) {
  oldest = page.next;
  at("more").hidden = oldest === null;
  at("empty").hidden = at("feed").childElementCount > 0;
}
async function older() {
  const mine = searching;
  const page = await get(`/v1/inspections?${query({ limit: PAGE, before: oldest })}`);
  if (mine !== searching) return;
  at("feed").append(...page.inspections.map((row) => card(row, false)));
  shown(page);
}
async function poll() {
  if (document.hidden || at("work").hidden || at("history").hidden) return;
  try {
    const mine = searching;
    const page = await get(`/v1/inspections?${query({ limit: PAGE, after: newest })}`);
    if (mine !== searching) return;
    if (page.inspections.length) {
      newest = page.inspections[0].id;
      at("feed").prepend(...page.inspections.map((row) => card(row, true)));
      at("empty").hidden = true;
      await loadScores();
      await loadModels(at("model").value);
    }
    tell("Live");
  } catch (error) { tell(error.status ? error.message : "The service does not answer"); }
}

// --- new images ------------------------------------------------------------------------------------
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
async function upload(files) {
  for (const file of files) {
    const line = make("li", {}, `${file.name}: waiting`);
    at("uploads").prepend(line);
    try {
      const form = new FormData();
      form.append("image", file, file.name);
      const found = await patient(() => ask(`/v1/inspect?model=${model()}`, { method: "POST", body: form }));
      const row = await found.json();
      line.textContent = `${file.name}: ${row.verdict || "no threshold"}, score ${number(row.score)}, `
        + `${row.findings.length} finding(s), ${Math.round(row.ms)} ms`;
    } catch (error) { line.textContent = `${file.name}: ${error.message}`; }
  }
  await poll();
}
/* The images of what was dropped, folders with all that is in them. */
async function filesOf(entries) {
  const found = [];
  for (const entry of entries) {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      if (file.type.startsWith("image/")) found.push(file);
    } else {
      const reader = entry.createReader();
      for (;;) {  // it gives at most a hundred at a time, and none at the end
        const some = await new Promise((done, failed) => reader.readEntries(done, failed));
        if (some.length === 0) break;
        found.push(...await filesOf(some));
      }
    }
  }
  return found;
}
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const folders = entries.some((entry) => entry.isDirectory);
  await upload(folders ? await filesOf(entries) : [...transfer.files]);
}
async function patient(request) {
  for (let left = 5; ; left--) {
    try { return await request(); } catch (error) {
      if (error.status !== 503 || left === 0) throw error;
      await pause(error.after || 1);
    }
  }
}

// --- threshold -------------------------------------------------------------------------------------
async function loadScores() {
  if (at("history").hidden || !at("model").value) return;
  scores = await get(`/v1/models/${model()}/scores`);
  const earlier = scores.history.map((old) => make("li", {},
    `${number(old.value)} by ${old.who}, ${new Date(old.time * 1000).toLocaleString()}: ${old.why}`));
  at("earlier").replaceChildren(...earlier);
  draw();
}
const every = () => [...scores.good, ...scores.calibration, ...scores.bad, ...scores.unknown];
function range() {
  const all = [...every(), ...(scores.threshold === null ? [] : [scores.threshold])];
  const low = all.reduce((a, b) => Math.min(a, b), Infinity);
  const high = all.reduce((a, b) => Math.max(a, b), -Infinity);
  const edge = (high - low) * 0.04 || Math.abs(high) * 0.1 || 1;
  return [low - edge, high + edge];
}
function chosen() {
  const [low, high] = range();
  return low + (high - low) * at("slider").value / 1000;
}
function draw() {
  at("limits").hidden = every().length === 0;
  if (at("limits").hidden) return;
  if (!at("slider").dataset.moved) {
    const [low, high] = range();
    const start = scores.threshold === null ? (low + high) / 2 : scores.threshold;
    at("slider").value = Math.round(1000 * (start - low) / (high - low));
  }
  histogram();
}
function histogram() {
  const [low, high] = range();
  const groups = { good: [...scores.good, ...scores.calibration], bad: scores.bad, unknown: scores.unknown };
  const bins = Object.fromEntries(Object.entries(groups).map(([name, values]) => {
    const counts = new Array(BINS).fill(0);
    for (const value of values) counts[Math.min(BINS - 1, Math.floor(BINS * (value - low) / (high - low)))]++;
    return [name, counts];
  }));
  let most = 1;
  for (let i = 0; i < BINS; i++) most = Math.max(most, bins.good[i] + bins.bad[i] + bins.unknown[i]);
  const svg = at("histogram"), space = "http://www.w3.org/2000/svg";
  const draw = (tag, attributes, text = "") => {
    const node = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    svg.append(node);
  };
  svg.replaceChildren();
  for (let i = 0; i < BINS; i++) {
    let base = 145;
    for (const name of ["good", "bad", "unknown"]) {
      const height = 130 * bins[name][i] / most;
      base -= height;
      if (height) draw("rect", { class: name, x: 600 * i / BINS + 1, y: base, width: 600 / BINS - 2, height });
    }
  }
  const limit = moved() ? chosen() : (scores.threshold ?? chosen());
  const x = 600 * (limit - low) / (high - low);
  draw("line", { x1: x, x2: x, y1: 8, y2: 150 });
  draw("text", { x: 0, y: 165 }, number(low));
  draw("text", { x: 600, y: 165, "text-anchor": "end" }, number(high));
  at("value").textContent = number(limit);
  const alarms = groups.good.filter((value) => value > limit).length;
  const misses = groups.bad.filter((value) => value <= limit).length;
  at("errors").textContent = `False alarms: ${alarms} of ${groups.good.length} good · `
    + `misses: ${misses} of ${groups.bad.length} bad`;
  at("slider").setAttribute("aria-valuetext", `${number(limit)}; ${at("errors").textContent}`);
}
const moved = () => Boolean(at("slider").dataset.moved);
async function save(event) {
  event.preventDefault();
  localStorage.setItem("who", at("who").value.trim());
  const value = moved() ? chosen() : (scores.threshold ?? chosen());
  try {
    await post(`/v1/models/${model()}/threshold`, { value, who: person(), why: at("why").value });
    at("saved").textContent = `Saved: bad above ${number(value)} from now on.`;
    at("why").value = "";
    delete at("slider").dataset.moved;
    await loadScores();
  } catch (error) { at("saved").textContent = `Not saved: ${error.message}`; }
}

// --- teaching --------------------------------------------------------------------------------------
function describe() {
  const one = models.find((each) => each.name === at("model").value);
  at("teaching").hidden = at("history").hidden || !one?.teachable;
  at("lesson").textContent = "Adds the last images that somebody called good to what the model keeps of good "
    + "products, without training. A new model answers beside this one, and in its place if you say so.";
  const offer = one && offered?.model === one.name ? offered
    : one && one.run !== one.name ? { model: one.name, run: one.name } : null;
  at("placed").hidden = !offer;
  if (offer) {
    at("place").textContent = one.run === one.name ? `${one.name} answers as before.` : `${one.run} answers as ${one.name}.`;
    at("swap").textContent = offer.run === one.name ? `Go back to ${one.name}` : `Let ${offer.run} answer as ${one.name}`;
    at("swap").dataset.run = offer.run;
  }
  at("drift").hidden = !one;
  if (one) at("drift").textContent = drift(one.drift);
}
function drift(found) {
  const parts = ["scores", "features"].filter((name) => found[name])
    .map((name) => `${name} ${found[name].level} (PSI ${found[name].psi.toFixed(2)})`);
  return parts.length ? `Drift of the last ${found.images}: ${parts.join(", ")}`
    : `Drift: nothing to say yet (${found.images} images)`;
}
async function teach(event) {
  event.preventDefault();
  localStorage.setItem("who", at("teacher").value.trim());
  const button = at("start-teaching"), parent = at("model").value;
  button.disabled = true;
  at("changed").hidden = true;
  at("taught").textContent = `Teaching ${parent} …`;
  try {
    const answer = await post(`/v1/models/${model()}/teach`,
      { who: at("teacher").value.trim(), why: at("reason").value });
    const found = await answer.json();
    offered = { model: parent, run: found.model };
    await loadModels(parent);
    const count = (role, which, word) => found.changes
      .filter((one) => one.role === role && one[`verdict_${which}`] === word).length;
    at("taught").textContent = `${found.model} answers beside ${parent} now; choose it above. ${found.taught} image(s) taught. `
      + `Called good: ${count("taught", "before", "bad")} bad before, ${count("taught", "after", "bad")} now; `
      + `called bad: ${count("checked", "before", "bad")} bad before, ${count("checked", "after", "bad")} now; `
      + `good ones that set the threshold: ${count("held out", "before", "bad")} bad before, `
      + `${count("held out", "after", "bad")} now. `
      + `Threshold ${number(found.threshold_before)} → ${number(found.threshold)}. ${found.notes.join(" ")}`;
    const shown = found.changes.filter((one) => one.role !== "held out" || one.verdict_before !== one.verdict_after);
    at("changes").replaceChildren(...shown.map((one) => make("tr", {}, make("td", {}, one.file || `${one.id}`),
      make("td", {}, one.role), verdict(one.verdict_before, one.score_before),
      verdict(one.verdict_after, one.score_after))));
    at("changed").hidden = shown.length === 0;
    at("reason").value = "";
  } catch (error) { at("taught").textContent = `Not taught: ${error.message}`; }
  button.disabled = false;
}
async function swap() {
  const name = at("model").value, run = at("swap").dataset.run;
  at("swap").disabled = true;
  try {
    const answer = await post(`/v1/models/${model()}/swap`,
      { run, who: at("teacher").value.trim() || person(), why: run === name ? "back" : "taught from the page" });
    const done = await answer.json();
    offered = null;
    at("taught").textContent = `${done.run} answers as ${done.model} from now on, instead of ${done.before}.`;
    await loadModels(name);
    await loadScores();
  } catch (error) { at("taught").textContent = `Nothing has changed: ${error.message}`; }
  at("swap").disabled = false;
}
const verdict = (word, score) => make("td", word ? { class: `is-${word}` } : {}, `${word || "–"} ${number(score)}`);

// --- start -----------------------------------------------------------------------------------------
async function start() {
  try {
    await loadModels(new URLSearchParams(location.hash.slice(1)).get("model"));
    at("login").hidden = true;
    at("work").hidden = false;
    tell("Ready");
    at("history").hidden = !(await logged());
    if (at("history").hidden) tell("Ready; without --log there is no history");
    else await change();
  } catch (error) { tell(error.status ? error.message : "The service does not answer"); }
}
async function loadModels(chosen) {
  const names = models.map((one) => one.name).join();
  models = (await get("/v1/models")).models;
  if (names !== models.map((one) => one.name).join())  // else an open list would close
    at("model").replaceChildren(...models.map((one) => make("option", { value: one.name },
      `${one.name} (${one.kind})`)));
  if (models.some((one) => one.name === chosen)) at("model").value = chosen;
  describe();
}
async function logged() {
  try { await get("/v1/inspections?limit=1"); return true; } catch (error) {
    if (error.status === 404) return false;
    throw error;
  }
}
async function change() {
  delete at("slider").dataset.moved;
  history.replaceState(null, "", `#model=${model()}`);
  describe();
  await Promise.all([search(), loadScores()]);
}
at("teacher").value = localStorage.getItem("who") || "";
at("who").value = localStorage.getItem("who") || "";
at("login").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value.trim());
  at("token").value = "";
  start();
};
at("files").onchange = (event) => { upload([...event.target.files]); event.target.value = ""; };
const drop = at("drop");
for (const name of ["dragenter", "dragover"])
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  dropped(event.dataTransfer).catch((error) => tell(error.message));
});
const searchAgain = () => search().catch((error) => tell(error.message));
at("model").onchange = () => change().catch((error) => tell(error.message));
at("search").onsubmit = (event) => event.preventDefault();
at("text").oninput = at("verdict").onchange = at("truth").onchange = searchAgain;
at("more").onclick = () => older().catch((error) => tell(error.message));
at("slider").oninput = () => { at("slider").dataset.moved = "1"; histogram(); };
at("save").onsubmit = save;
at("teach").onsubmit = teach;
at("swap").onclick = swap;
setInterval(poll, POLL);
start();
