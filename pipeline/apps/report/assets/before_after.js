// Completions before and after a training, the largest changes first; texts are those of the viewer below.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("completion-data").textContent);
  if (data === null) return;
  const { element, paragraph } = modelText;
  const { seeds, samples, prompts, completions, scores, hidden, pairs } = data;
  const REFERENCE = "reference";
  const judge = data.primary;
  const get = (id) => document.getElementById(id);
  const perSeed = prompts.length * samples;
  let isRevealed = false;

  const number = (score) => (score === null ? "missing" : (score / data.scale).toFixed(3));

  function change(row, method) {
    const [before, after] = [REFERENCE, method].map((policy) => scores[judge][policy][row]);
    if (before === null || after === null) return "missing";
    const difference = ((after - before) / data.scale).toFixed(3);
    return difference.startsWith("-") ? difference.replace("-", "\u2212") : `+${difference}`;
  }

  function answer(row, policy, title) {
    const made = element("section", "answer");
    made.style.setProperty("--hue", data.colors[policy]);
    const head = element("h4", "", title);
    head.append(element("span", "", `${judge} ${number(scores[judge][policy][row])}`));
    const isVisible = isRevealed || hidden[policy][row] === "0";
    made.append(head, paragraph("completion", completions[policy][row], isVisible));
    return made;
  }

  function pairElement(row, method) {
    const prompt = Math.floor((row % perSeed) / samples);
    const where = [`prompt ${prompt + 1}`];
    if (seeds.length > 1) where.push(`seed ${seeds[Math.floor(row / perSeed)]}`);
    const made = element("article", "pair");
    made.dataset.row = row;
    made.setAttribute("aria-label", where.join(", "));
    const head = element("div", "row-head");
    head.append(element("span", "", where.join(" \u00b7 ")), element("b", "", change(row, method)));
    const answers = element("div", "answers");
    answers.append(answer(row, REFERENCE, "before"), answer(row, method, "after"));
    made.append(head, paragraph("prompt", prompts[prompt].text, isRevealed), answers);
    return made;
  }

  function render() {
    const method = get("pair-method").value;
    const { first, last, total } = pairs[method];
    const groups = [
      ["Largest falls", first],
      ["The other end", last],
    ];
    get("pairs").replaceChildren(
      ...groups
        .filter(([, rows]) => rows.length > 0)
        .flatMap(([title, rows]) => [element("h3", "", title), ...rows.map((row) => pairElement(row, method))]));
    get("pair-count").textContent = `${first.length + last.length} of ${total.toLocaleString("en")} pairs of ${data.labels[method]}`;
    get("pair-reveal").textContent = isRevealed ? "Hide these texts" : "Show these texts";
    get("pair-reveal").setAttribute("aria-pressed", String(isRevealed));
  }

  function reveal(wanted) {
    isRevealed = wanted;
    render();
  }

  for (const method of Object.keys(pairs)) {
    const option = element("option", "", data.labels[method]);
    option.value = method;
    get("pair-method").append(option);
  }
  if (Object.keys(pairs).length === 0) {
    get("pair-controls").hidden = true;
    return;
  }
  get("pair-controls").addEventListener("submit", (event) => event.preventDefault());
  get("pair-method").addEventListener("change", render);
  get("pair-reveal").addEventListener("click", () => reveal(!isRevealed));
  // The button of the viewer below shows and hides all texts of the page; its own handler has run before this one.
  get("reveal").addEventListener("click", () => reveal(get("reveal").getAttribute("aria-pressed") === "true"));
  render();
})();
