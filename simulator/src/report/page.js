"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.querySelector(".tip");
  const plots = [...document.querySelectorAll("svg.timed")];
  const seconds = (ms) => (ms < 1000 ? ms + " ms" : (ms / 1000).toFixed(1) + " s");
  const hide = () => {
    tip.style.visibility = "hidden";
    plots.forEach((plot) => (plot.querySelector(".cursor").style.visibility = "hidden"));
  };
  const line = (chain, text) => {
    const row = document.createElement("div");
    if (chain) { row.className = "c-" + chain; row.append(document.createElement("i")); }
    row.append(text);
    return row;
  };
  const show = (event, plot) => {
    const box = plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * data.width;
    if (x < data.left || x > data.right) return hide();
    const at = ((x - data.left) / (data.right - data.left)) * data.end_ms;
    plots.forEach((other) => {
      const cursor = other.querySelector(".cursor");
      cursor.setAttribute("x1", x); cursor.setAttribute("x2", x);
      cursor.style.visibility = "visible";
    });
    const step = Math.min(Math.floor(at / data.step_ms), data.steps - 1);
    tip.replaceChildren();
    const head = document.createElement("b");
    head.append(seconds(step * data.step_ms) + " to " + seconds((step + 1) * data.step_ms));
    tip.append(head);
    for (const chain of data.chains) {
      const p = chain.latency[step];
      const took = p ? "; to final p50 " + seconds(p.p50) + ", p99 " + seconds(p.p99) : "";
      tip.append(line(chain.chain, chain.intended[step] + " due, " + chain.finalized[step] + " final" + took));
    }
    for (const fault of data.faults) {
      const to = fault.to_ms === null ? data.end_ms : Math.max(fault.to_ms, fault.from_ms + data.step_ms);
      if (fault.from_ms <= at && at <= to) {
        const row = line("", fault.name + ": " + fault.what);
        row.className = "hit";
        tip.append(row);
      }
    }
    const right = event.clientX + 18 + tip.offsetWidth > window.innerWidth;
    tip.style.left = (right ? event.clientX - 18 - tip.offsetWidth : event.clientX + 18) + "px";
    tip.style.top = Math.min(event.clientY + 12, window.innerHeight - tip.offsetHeight - 8) + "px";
    tip.style.visibility = "visible";
  };
  plots.forEach((plot) => {
    plot.addEventListener("mousemove", (event) => show(event, plot));
    plot.addEventListener("mouseleave", hide);
  });
  document.querySelectorAll(".legend button").forEach((button) => {
    button.addEventListener("click", () => {
      const off = document.body.classList.toggle("hide-" + button.dataset.chain);
      button.setAttribute("aria-pressed", String(!off));
    });
  });
  document.querySelectorAll("[data-copy]").forEach((button) => {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  });
})();
