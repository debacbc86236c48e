// Completions side by side; how their text enters the document is in texts.js.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("completion-data").textContent);
  if (data === null) return;
  const { element, paragraph } = modelText;
  const { seeds, samples, prompts, completions, scores, hidden, policies, judges } = data;
  const PAGE = 10;
  const REFERENCE = "reference";
  const get = (id) => document.getElementById(id);
  const perSeed = prompts.length * samples;
  const total = seeds.length * perSeed;
  const revealed = new Set();
  let matches = [];
  let page = 0;
  let revealAll = false;
  let haystacks = null;

  const promptOf = (row) => prompts[Math.floor((row % perSeed) / samples)];
  const seedOf = (row) => Math.floor(row / perSeed);
  const scoreOf = (row, policy, judge) => scores[judge][policy][row];
  const isShown = (row) => revealAll || revealed.has(row);

  // what to show, and in which order
  function keyOf(row) {
    const [by, policy] = get("sort").value.split(":");
    const judge = get("judge").value;
    if (by === "prompt") return row;
    const score = scoreOf(row, policy, judge);
    if (by === "toxicity" || score === null) return score;
    const reference = scoreOf(row, REFERENCE, judge);
    return reference === null ? null : score - reference;
  }

  function texts(row) {
    haystacks ??= Array.from({ length: total }, (_, at) =>
      [promptOf(at).text, ...policies.map((policy) => completions[policy][at])].join("\n").toLowerCase());
    return haystacks[row];
  }

  function select() {
    const wanted = get("search").value.trim().toLowerCase();
    const category = get("category").value;
    const seed = get("seed").value;
    const direction = get("sort").value.startsWith("prompt") ? 1 : Number(get("order").value);
    const keys = new Map();
    for (let row = 0; row < total; row++) {
      if (seed !== "" && seedOf(row) !== Number(seed)) continue;
      if (category !== "" && !promptOf(row).categories.includes(category)) continue;
      if (wanted !== "" && !texts(row).includes(wanted)) continue;
      keys.set(row, keyOf(row));
    }
    matches = [...keys.keys()].sort((a, b) => {
      const [first, second] = [keys.get(a), keys.get(b)];
      if (first === null || second === null) return (first === null) - (second === null) || a - b; // missing last
      return direction * (first - second) || a - b;
    });
    page = 0;
    render();
    get("rows").dataset.search = wanted;
  }

  // elements
  function marked(text) {
    const wanted = get("search").value.trim().toLowerCase();
    const lower = text.toLowerCase();
    if (wanted === "" || lower.length !== text.length) return [text];
    const parts = [];
    let from = 0;
    for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
      parts.push(text.slice(from, at), element("mark", "", text.slice(at, at + wanted.length)));
      from = at + wanted.length;
    }
    return [...parts, text.slice(from)];
  }

  const shownScore = (score) => (score === null ? "missing" : (score / data.scale).toFixed(3));

  function answerElement(row, policy) {
    const made = element("section", "answer");
    made.style.setProperty("--hue", data.colors[policy]);
    if (get("sort").value.split(":")[1] === policy) made.classList.add("sorted");
    const judge = get("judge").value;
    const score = scoreOf(row, policy, judge);
    const head = element("h3", "", data.labels[policy]);
    head.append(element("span", "", `${judge} ${shownScore(score)}`));
    const meter = element("span", "meter");
    const filled = element("i");
    filled.style.width = `${(100 * (score ?? 0)) / data.scale}%`;
    meter.append(filled);
    const isVisible = isShown(row) || hidden[policy][row] === "0";
    const others = judges.filter((name) => name !== judge).map((name) => `${name} ${shownScore(scoreOf(row, policy, name))}`);
    made.append(head, meter, paragraph("completion", completions[policy][row], isVisible, marked(completions[policy][row])));
    made.append(element("p", "scores", others.join(" · ")));
    return made;
  }

  function rowElement(row) {
    const prompt = promptOf(row);
    const place = Math.floor((row % perSeed) / samples) + 1;
    const where = [`prompt ${place}`, `sample ${(row % samples) + 1}`];
    if (seeds.length > 1) where.push(`seed ${seeds[seedOf(row)]}`);
    const made = element("article", "row");
    made.dataset.row = row;
    made.setAttribute("aria-label", where.join(", "));
    const head = element("div", "row-head");
    head.append(element("span", "", [...where, ...prompt.categories.map((name) => name.replaceAll("_", " "))].join(" · ")));
    const button = element("button", "", isShown(row) ? "Hide texts" : "Show texts");
    button.type = "button";
    button.setAttribute("aria-pressed", String(isShown(row)));
    button.disabled = revealAll;
    button.addEventListener("click", () => {
      if (!revealed.delete(row)) revealed.add(row);
      const renewed = rowElement(row);
      made.replaceWith(renewed);
      renewed.querySelector("button").focus();
    });
    head.append(button);
    const answers = element("div", "answers");
    answers.append(...policies.map((policy) => answerElement(row, policy)));
    made.append(head, paragraph("prompt", prompt.text, isShown(row), marked(prompt.text)), answers);
    return made;
  }

  function render() {
    const pages = Math.max(1, Math.ceil(matches.length / PAGE));
    get("rows").replaceChildren(...matches.slice(page * PAGE, (page + 1) * PAGE).map(rowElement));
    get("count").textContent = `${matches.length.toLocaleString("en")} of ${total.toLocaleString("en")} samples, ${(matches.length * policies.length).toLocaleString("en")} completions`;
    get("page").textContent = `page ${page + 1} of ${pages}`;
    for (const id of ["previous", "previous-below"]) get(id).disabled = page === 0;
    for (const id of ["next", "next-below"]) get(id).disabled = page >= pages - 1;
  }

  // controls
  function option(value, text) {
    const made = element("option", "", text);
    made.value = value;
    return made;
  }

  function group(title, kind, names) {
    const made = element("optgroup");
    made.label = title;
    made.append(...names.map((policy) => option(`${kind}:${policy}`, `${title.toLowerCase()} ${data.labels[policy]}`)));
    return made;
  }

  function turn(step, toTop) {
    page += step;
    render();
    if (toTop) get("controls").scrollIntoView();
  }

  get("sort").append(option("prompt:", "prompt"), group("Toxicity of", "toxicity", policies));
  const methods = policies.filter((policy) => policy !== REFERENCE);
  if (policies.includes(REFERENCE)) get("sort").append(group("Difference to reference of", "difference", methods));
  get("judge").append(...judges.map((judge) => option(judge, judge)));
  const categories = [...new Set(prompts.flatMap((prompt) => prompt.categories))].sort();
  get("category").append(...categories.map((name) => option(name, name.replaceAll("_", " "))));
  get("seed").append(...seeds.map((seed, at) => option(String(at), String(seed))));
  get("seed").parentElement.hidden = seeds.length === 1;
  let waiting = 0;
  get("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(select, 120);
  });
  get("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["sort", "order", "judge", "category", "seed"]) get(id).addEventListener("change", select);
  get("reveal").addEventListener("click", () => {
    revealAll = !revealAll;
    if (!revealAll) revealed.clear();
    get("reveal").textContent = revealAll ? "Hide all texts" : "Show all texts";
    get("reveal").setAttribute("aria-pressed", String(revealAll));
    render();
  });
  get("previous").addEventListener("click", () => turn(-1, false));
  get("next").addEventListener("click", () => turn(1, false));
  get("previous-below").addEventListener("click", () => turn(-1, true));
  get("next-below").addEventListener("click", () => turn(1, true));
  select();
})();
