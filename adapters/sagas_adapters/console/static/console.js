// What the console does in a browser besides following what happens. Everything works without it.
(() => {
  "use strict";

  // --- one stream for each page that is looked at: browsers allow few connections to a server ---
  const sources = new Set();
  let paused = false;
  window.htmx.createEventSource = (address) => {
    const source = new EventSource(address);
    sources.add(source);
    if (paused || document.hidden) source.close();
    return source;
  };
  const follow = () => {
    const closed = [...sources].some((source) => source.readyState === EventSource.CLOSED);
    if (paused || document.hidden) {
      for (const source of sources) source.close();
    } else if (closed) {
      sources.clear();
      const address = document.getElementById("live").getAttribute("hx-get");
      window.htmx.ajax("GET", address, { target: "#page", select: "#page", swap: "outerHTML" });
    }
  };
  document.addEventListener("visibilitychange", follow);
  document.addEventListener("htmx:sseClose", (event) => sources.delete(event.detail.source));

  const button = document.getElementById("pause");
  if (button) {
    button.hidden = false;
    button.addEventListener("click", () => {
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
      follow();
    });
  }

  // --- "4 min ago" grows older, although nothing has changed ---
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  const words = (seconds) => {
    for (const [size, unit] of units) if (seconds >= size) return `${Math.round(seconds / size)} ${unit}`;
    return `${Math.round(seconds)} s`;
  };
  setInterval(() => {
    if (paused || document.hidden) return;
    for (const one of document.querySelectorAll("time.ago")) {
      const seconds = (Date.now() - Date.parse(one.dateTime)) / 1000;
      const told = seconds >= 0 ? `${words(seconds)} ago` : `in ${words(-seconds)}`;
      if (one.textContent !== told) one.textContent = told;
    }
  }, 10000);

  // --- a link to a step opens it ---
  const openTarget = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", openTarget);
  openTarget();

  // --- what somebody has opened or ticked stays so when a part of the page is replaced ---
  let opened = [];
  let closed = [];
  let ticked = [];
  let scrolled = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    const all = [...event.detail.target.querySelectorAll("details[id]")];
    opened = all.filter((one) => one.open).map((one) => one.id);
    closed = all.filter((one) => !one.open).map((one) => one.id);
    ticked = [...event.detail.target.querySelectorAll("input[type=checkbox][id]:checked")].map((one) => one.id);
    scrolled = [...event.detail.target.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollLeft]);
  });
  document.addEventListener("htmx:afterSwap", () => {
    const there = (id) => document.getElementById(id);
    for (const id of opened) if (there(id)) there(id).open = true;
    for (const id of closed) if (there(id)) there(id).open = false;
    for (const id of ticked) if (there(id)) there(id).checked = true;
    for (const [id, left] of scrolled) if (there(id)) there(id).scrollLeft = left;
  });
})();
