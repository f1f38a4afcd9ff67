"use strict";
const { charts, samples } = JSON.parse(document.getElementById("data").textContent);

// Charts: Python gives data and axes, the colours of the theme are added here.
function draw() {
  const css = getComputedStyle(document.documentElement);
  const color = (name) => css.getPropertyValue(`--${name}`).trim();
  charts.forEach((figure, i) => {
    if (!figure) return;
    const element = document.getElementById(`chart-${i}`);
    const narrow = element.clientWidth < 480;
    const layout = {
      font: { color: color("text"), size: narrow ? 11 : 12, family: "system-ui, sans-serif" },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: color("panel"), bordercolor: color("line"), font: { color: color("text") } },
      hovermode: "x unified",
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      margin: { l: 8, r: 8, t: 8, b: 8 },
      dragmode: narrow ? false : "zoom", // a finger scrolls the page
      ...figure.layout,
    };
    for (const key of Object.keys(layout).filter((key) => /axis/.test(key))) {
      const lines = { gridcolor: color("line"), zerolinecolor: color("line"), linecolor: color("line") };
      const spikes = key.startsWith("x") && { spikecolor: color("muted"), spikethickness: -1 }; // -: without an outline
      layout[key] = { automargin: true, ...lines, ...spikes, ...layout[key] };
    }
    // Only buttons that work without a network.
    const modeBarButtons = [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
    Plotly.react(element, figure.data, layout, { displaylogo: false, responsive: true, displayModeBar: !narrow && "hover", modeBarButtons });
  });
}
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

// Rollouts. What the model wrote reaches the page through textContent only.
const CORRECT = 0.5; // the least score of a correct response
const find = (id) => document.getElementById(id);
let current = 0;

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

const whole = (text) => (Array.isArray(text) ? text[0] + text[2] : text);
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const round = (x) => (typeof x === "number" ? String(Number(x.toPrecision(3))).replace("-", "−") : x);

function textBlock(text) {
  const pre = make("pre", "");
  if (Array.isArray(text)) {
    pre.append(text[0], make("span", "cut", `… ${count(text[1], "character")} left out …`), text[2]);
  } else {
    pre.append(text);
  }
  const length = whole(text).length;
  if (length < 700 && pre.textContent.split("\n").length < 16) return [pre];
  pre.classList.add("folded");
  const more = make("button", "more", `show all ${count(length, "character")}`);
  more.onclick = () => {
    more.textContent = pre.classList.toggle("folded") ? `show all ${count(length, "character")}` : "show less";
  };
  return [pre, more];
}

function responseBlock(response) {
  const correct = response.score >= CORRECT;
  const head = make("p", "", make("b", "", `${correct ? "✓" : "✗"} reward ${round(response.reward)}`));
  head.append(make("span", "", `advantage ${round(response.advantage)}`), make("span", "", count(response.tokens, "token")));
  if (response.truncated) head.append(make("mark", "", "truncated"));
  return make("div", correct ? "response correct" : "response", head, ...textBlock(response.text));
}

function show() {
  const record = samples[current];
  const outcome = find("outcome").value;
  const wanted = find("text").value.toLowerCase();
  const has = (text) => whole(text).toLowerCase().includes(wanted);
  let shown = 0;
  let total = 0;
  const groups = [];
  for (const group of record.groups) {
    const inPrompt = has(group.prompt) || has(group.label);
    const responses = group.responses.filter(
      (r) => (outcome === "all" || (outcome === "correct") === r.score >= CORRECT) && (inPrompt || has(r.text)),
    );
    total += group.responses.length;
    shown += responses.length;
    if (!responses.length) continue;
    const block = make("div", "group", make("h3", "", "Prompt"), ...textBlock(group.prompt));
    block.append(make("h3", "", "Label"), ...textBlock(group.label));
    block.append(make("div", "responses", ...responses.map(responseBlock)));
    if (group.left_out) block.append(make("p", "muted", `${count(group.left_out, "more response")} left out of this page.`));
    groups.push(block);
  }
  find("groups").replaceChildren(...groups);
  find("step").textContent = record.step;
  find("slider").value = current;
  find("slider").setAttribute("aria-valuetext", `step ${record.step}`);
  find("previous").disabled = current === 0;
  find("next").disabled = current === samples.length - 1;
  const leftOut = record.left_out ? ` ${count(record.left_out, "more prompt")} of this step left out of this page.` : "";
  find("status").textContent = `${shown} of ${count(total, "response")} to ${count(record.groups.length, "prompt")}.${leftOut}`;
}

let hashTimer;
function go(place) {
  current = Math.min(Math.max(place, 0), samples.length - 1);
  show();
  clearTimeout(hashTimer); // browsers limit how often the address may change
  hashTimer = setTimeout(() => history.replaceState(null, "", `#step=${samples[current].step}`), 200);
}

// #step=12 opens the samples of step 12, or of the nearest step the page holds.
function goToHash() {
  const match = /^#step=(\d+)$/.exec(location.hash);
  if (!match) return false;
  const distance = (record) => Math.abs(record.step - Number(match[1]));
  current = samples.reduce((best, record, i) => (distance(record) < distance(samples[best]) ? i : best), 0);
  show();
  find("rollouts").scrollIntoView();
  return true;
}

if (samples.length) {
  find("slider").max = samples.length - 1;
  find("slider").oninput = (event) => go(Number(event.target.value));
  find("previous").onclick = () => go(current - 1);
  find("next").onclick = () => go(current + 1);
  find("outcome").onchange = show;
  find("text").oninput = show;
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select")) return;
    event.preventDefault();
    go(current + by);
  });
  addEventListener("hashchange", goToHash);
  if (!goToHash()) show();
}
