// Draws every chart of the page from the specifications that it holds, again whenever the scheme changes.
"use strict";
(() => {
  const root = document.documentElement;
  const { specs, themes } = JSON.parse(document.getElementById("chart-data").textContent);
  const places = [...document.querySelectorAll("[data-chart]")];
  const drawn = new Map();
  let round = 0;

  async function draw(place, scheme) {
    const options = { mode: "vega-lite", renderer: "svg", config: themes[scheme], tooltip: { theme: scheme } };
    drawn.get(place)?.finalize();
    try {
      drawn.set(place, await window.vegaEmbed(place, specs[place.dataset.chart], options));
    } catch (error) {
      place.textContent = "This chart could not be drawn.";
      console.error(place.dataset.chart, error);
    }
  }

  async function drawAll() {
    const mine = ++round;
    root.dataset.charts = "drawing";
    for (const place of places) {
      if (mine !== round) return; // the scheme changed again meanwhile
      await draw(place, window.currentScheme());
    }
    root.dataset.charts = "drawn";
  }

  root.addEventListener("scheme", drawAll);
  drawAll();
})();
