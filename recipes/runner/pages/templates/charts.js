// Draws the figures of a report, and the network of a point that is clicked. Everything is in the page; nothing is fetched.
"use strict";
const night = matchMedia("(prefers-color-scheme: dark)");

function look() {
  const ink = night.matches ? "#d5d9de" : "#333", grid = night.matches ? "#363a40" : "#e6e6e6";
  const axis = {gridcolor: grid, zerolinecolor: grid, linecolor: grid};
  return {font: {color: ink, size: 13}, xaxis: axis, yaxis: axis};
}

function shown(figure) {
  const {font, xaxis, yaxis} = look(), layout = figure.layout;
  return {...layout, font, xaxis: {...layout.xaxis, ...xaxis}, yaxis: {...layout.yaxis, ...yaxis}};
}

function element(name, text, style) {
  const made = document.createElement(name);
  made.textContent = text;
  if (style) made.className = style;
  return made;
}

// A stage a row, a block a box: wider for a larger expansion, darker for a larger kernel.
function drawn(lines) {
  const rows = document.createElement("div");
  for (const line of lines) {
    const row = element("div", "", "stage"), [stage, blocks] = line.includes(": ") ? line.split(/: (.*)/) : ["", line];
    row.append(element("span", stage, "of"));
    for (const block of blocks.split(", ")) {
      const box = element("span", block, block === "skip" || block === "none" ? "box idle" : "box");
      const kernel = /k(\d+)/.exec(block), expansion = /mb(\d+)/.exec(block);
      if (kernel) box.dataset.kernel = Math.min(Number(kernel[1]), 7);
      if (expansion) box.style.paddingInline = `${4 + 3 * Number(expansion[1])}px`;
      row.append(box);
    }
    rows.append(row);
  }
  return rows;
}

function pick(point) {
  const text = [].concat(point.data.text || [])[point.pointNumber], place = document.getElementById("picked");
  if (!text || !place) return;
  const trial = point.customdata === undefined ? "" : `, trial ${point.customdata}`;
  const number = value => Number(value).toLocaleString("en", {maximumSignificantDigits: 4});
  const said = `${point.data.name}${trial}: ${point.yaxis.title.text} ${number(point.y)}, ${point.xaxis.title.text} ${number(point.x)}`;
  place.replaceChildren(element("h3", said), drawn(text.replaceAll("<br>\u00a0", " ").split("<br>")));
  place.hidden = false;
}

const charts = [...document.querySelectorAll("[data-chart]")].map(place => {
  return {place, figure: JSON.parse(document.getElementById(place.dataset.chart).textContent), done: false};
});

function draw(chart) {
  if (chart.done) return;
  chart.done = true;
  Plotly.newPlot(chart.place, chart.figure.data, shown(chart.figure), {responsive: true, displaylogo: false, displayModeBar: false});
  chart.place.on("plotly_click", event => pick(event.points[0]));
}

const near = new IntersectionObserver(seen => {
  for (const entry of seen) if (entry.isIntersecting) draw(charts.find(chart => chart.place === entry.target));
}, {rootMargin: "400px"});
charts.forEach(chart => near.observe(chart.place));
addEventListener("beforeprint", () => charts.forEach(draw));
night.addEventListener("change", () => charts.filter(chart => chart.done).forEach(chart => Plotly.relayout(chart.place, shown(chart.figure))));
