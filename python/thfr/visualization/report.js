"use strict";
/* Sorts, filters and fades the gallery. The state is in the address behind "#", so that it can be linked. */
(() => {
  const form = document.querySelector(".tools");
  const cards = document.querySelector(".gallery .cards");
  const articles = [...cards.querySelectorAll("article")];
  const controls = [...form.elements].filter((control) => control.name);
  const limit = form.dataset.limit === "" ? null : Number(form.dataset.limit);

  const line = document.createElement("div");
  line.className = "limit";
  const nothing = document.createElement("p");
  nothing.className = "nothing";
  nothing.textContent = "No image is like that.";

  const orders = {
    surprise: (a, b) => b.dataset.surprise - a.dataset.surprise,
    high: (a, b) => b.dataset.score - a.dataset.score,
    low: (a, b) => a.dataset.score - b.dataset.score,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
  };

  function wanted(data, state) {
    const words = `${data.name} ${data.defects}`.toLowerCase();
    return (!state.kind || data.kind === state.kind) && (!state.verdict || data.verdict === state.verdict)
      && (!state.find || words.includes(state.find.trim().toLowerCase()));
  }

  /* Where scores are in order, a line shows which of them raise an alarm. */
  function drawLimit(shown, sort) {
    line.remove();
    if (limit === null || !(sort === "high" || sort === "low")) return;
    const above = (article) => Number(article.dataset.score) > limit;
    const next = shown.find((article) => above(article) === (sort === "low"));
    if (next === undefined || next === shown[0]) return;
    const value = Number(limit.toPrecision(4));
    line.textContent = sort === "high"
      ? `decision threshold ${value}: no alarm from here on` : `decision threshold ${value}: an alarm from here on`;
    next.before(line);
  }

  /* Lays each map over its image, the more of it the further the slider is. */
  function fade(share) {
    for (const article of articles) {
      let layer = article.querySelector(".layer");
      if (layer === null && share > 0) {
        layer = article.querySelector(".anomaly-map img").cloneNode();
        layer.className = "layer";
        layer.alt = "";
        article.querySelector(".image span").append(layer);
      }
      if (layer !== null) layer.style.opacity = share;
    }
  }

  function show() {
    const state = Object.fromEntries(new FormData(form));
    const shown = articles.filter((article) => wanted(article.dataset, state)).sort(orders[state.sort]);
    cards.replaceChildren(...shown, ...(shown.length ? [] : [nothing]));
    drawLimit(shown, state.sort);
    fade(Number(state.fade) / 100);
    form.querySelector("output").textContent = `${shown.length} of ${articles.length} images`;
    return state;
  }

  function remember(state) {
    const first = controls[0].options[0].value;
    const changed = Object.entries(state).filter(([name, value]) =>
      value !== { sort: first, fade: "0" }[name] && value !== "");
    history.replaceState(null, "", `#${new URLSearchParams(changed)}`);
  }

  function recall() {
    form.reset();
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      const control = controls.find((other) => other.name === name);
      if (control === undefined) continue;
      if (control.options && ![...control.options].some((option) => option.value === value)) continue;
      control.value = value;
    }
    show();
  }

  form.addEventListener("input", () => remember(show()));
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", recall);
  form.hidden = false;
  recall();
})();
