// What the picture does without asking the server: zoom, pan, inversion, opacity, scale bars and the mark.
// Nothing is kept on the elements: Gradio writes them anew with every slice.
const medtlViewer = (() => {
  "use strict";
  const MOST_ZOOM = 16;
  const LEAST_MARK_PX = 4; // on the screen; a shorter drag was a click
  const HINT = "Drag a rectangle. Keys: arrows move, Shift+arrows size, Enter keeps, Escape undoes";
  const root = document.documentElement;
  const one = (selector) => document.querySelector(selector);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const place = () => one("#scan svg.place");

  // Zoom and pan, for both panes: in units of the screen, around the middle of a pane.
  let zoom = 1, x = 0, y = 0, scan = "";

  function apply() {
    const pane = one("#shown");
    if (pane) {
      x = clamp(x, (-pane.clientWidth * (zoom - 1)) / 2, (pane.clientWidth * (zoom - 1)) / 2);
      y = clamp(y, (-pane.clientHeight * (zoom - 1)) / 2, (pane.clientHeight * (zoom - 1)) / 2);
    }
    root.style.setProperty("--zoom", zoom);
    root.style.setProperty("--pan-x", `${x}px`);
    root.style.setProperty("--pan-y", `${y}px`);
    scales();
  }

  function fit() {
    zoom = 1, x = 0, y = 0;
    apply();
  }

  // The point of the picture below the pointer stays where it is.
  function zoomBy(factor, event) {
    const next = clamp(zoom * factor, 1, MOST_ZOOM);
    const pane = event && event.target.closest("#shown, #prior");
    if (pane) {
      const box = pane.getBoundingClientRect();
      const fromX = event.clientX - box.left - box.width / 2, fromY = event.clientY - box.top - box.height / 2;
      x = fromX - ((fromX - x) * next) / zoom;
      y = fromY - ((fromY - y) * next) / zoom;
    } else {
      x *= next / zoom;
      y *= next / zoom;
    }
    zoom = next;
    apply();
  }

  // Where the picture is on the screen: its corner, and screen pixels per unit of its view box.
  function onScreen(svg) {
    const box = svg.getBoundingClientRect(), { width, height } = svg.viewBox.baseVal;
    const scale = Math.min(box.width / width, box.height / height);
    return { left: box.left + (box.width - width * scale) / 2, top: box.top + (box.height - height * scale) / 2, scale, width, height };
  }

  // The longest of 1, 2, 5, 10... mm that takes up at most a quarter of the pane.
  function scales() {
    for (const bar of document.querySelectorAll("#viewer .scale")) {
      const svg = bar.parentElement.querySelector("svg.place");
      const shown = onScreen(svg), perMm = (shown.width * shown.scale) / Number(svg.dataset.mm);
      const room = bar.parentElement.clientWidth / 4 / perMm;
      const decade = 10 ** Math.floor(Math.log10(room));
      const mm = decade * (room >= 5 * decade ? 5 : room >= 2 * decade ? 2 : 1);
      bar.style.width = `${mm * perMm}px`;
      bar.firstElementChild.textContent = `${Number(mm.toPrecision(1))} mm`;
    }
  }

  // The mark: corners in pixels of the picture as it was read, in the field #region, together with the slice.
  let marking = null; // while a region is being marked: what the field said before

  const field = () => one("#region textarea, #region input");

  // Null where nothing is marked on what is shown.
  function corners(text = field()?.value) {
    const svg = place(), [x0, y0, x1, y1, ...cut] = (text || "").split("@")[0].split(",");
    return svg && y1 !== undefined && cut.join() === svg.dataset.slice ? [x0, y0, x1, y1].map(Number) : null;
  }

  function write(text) {
    const input = field();
    if (!input) return;
    input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    draw(text);
  }

  function keep([x0, y0, x1, y1]) {
    const { columns, rows, slice } = place().dataset;
    const across = [x0, x1].map((at) => clamp(at, 0, columns)), along = [y0, y1].map((at) => clamp(at, 0, rows));
    const box = [Math.min(...across), Math.min(...along), Math.max(...across), Math.max(...along)];
    // It belongs to the finding that is chosen now, whichever is chosen later.
    const finding = window.medtl ? `@${window.medtl.picked}` : "";
    write(box.map((at) => at.toFixed(1)).join() + (slice && `,${slice}`) + finding);
  }

  function draw(text) {
    const unmark = one("[data-do=unmark]"), svg = place();
    if (unmark) unmark.disabled = !text;
    if (!svg) return;
    const box = corners(text);
    svg.replaceChildren();
    svg.setAttribute("aria-hidden", String(!box));
    if (!box) return;
    const { width, height } = svg.viewBox.baseVal, across = width / svg.dataset.columns, down = height / svg.dataset.rows;
    const [x0, y0, x1, y1] = box;
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `Marked region: columns ${x0} to ${x1}, rows ${y0} to ${y1}`);
    for (const layer of ["under", "over"]) {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const sides = { class: layer, x: x0 * across, y: y0 * down, width: (x1 - x0) * across, height: (y1 - y0) * down };
      for (const [name, value] of Object.entries(sides)) line.setAttribute(name, value);
      svg.append(line);
    }
  }

  function pixel(event) {
    const svg = place(), shown = onScreen(svg);
    return [
      ((event.clientX - shown.left) / shown.scale / shown.width) * svg.dataset.columns,
      ((event.clientY - shown.top) / shown.scale / shown.height) * svg.dataset.rows,
    ];
  }

  function mark(on) {
    if (on && !place()) return;
    marking = on ? (field()?.value ?? "") : null;
    root.classList.toggle("marking", on);
    one("[data-do=mark]")?.setAttribute("aria-pressed", String(on));
    const hint = one("#viewer .hint");
    if (hint) hint.textContent = on ? HINT : "";
    if (on) one("#viewer").focus({ preventScroll: true });
  }

  // By keys: the rectangle begins in the middle of what is seen, and moves by about five pixels of the screen.
  function nudge(right, down, size) {
    const svg = place(), shown = onScreen(svg), { columns, rows } = svg.dataset;
    const wide = (px) => ((px / shown.scale / shown.width) * columns), high = (px) => ((px / shown.scale / shown.height) * rows);
    const box = corners();
    if (!box) {
      const pane = one("#shown").getBoundingClientRect();
      const [column, row] = pixel({ clientX: pane.left + pane.width / 2, clientY: pane.top + pane.height / 2 });
      const across = Math.min(wide(pane.width), columns) / 8, along = Math.min(high(pane.height), rows) / 8;
      return keep([column - across, row - along, column + across, row + along]);
    }
    const [x0, y0, x1, y1] = box, stepX = wide(5 * right), stepY = high(5 * down);
    if (size) return keep([x0, y0, Math.max(x1 + stepX, x0 + wide(5)), Math.max(y1 + stepY, y0 + high(5))]);
    const moveX = clamp(stepX, -x0, columns - x1), moveY = clamp(stepY, -y0, rows - y1);
    keep([x0 + moveX, y0 + moveY, x1 + moveX, y1 + moveY]);
  }

  // Pointers: one drags or marks, two pinch.
  const down = new Map();
  let first = null; // corner of the rectangle that is being dragged

  document.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.target.closest?.("#shown, #prior") || !place()) return;
    one("#viewer").setPointerCapture(event.pointerId);
    one("#viewer").focus({ preventScroll: true });
    event.preventDefault();
    down.set(event.pointerId, event);
    first = marking !== null && event.target.closest("#shown") ? { at: pixel(event), x: event.clientX, y: event.clientY } : null;
    root.classList.toggle("dragging", !first);
  });

  document.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    down.set(event.pointerId, event);
    if (first) {
      if (Math.hypot(event.clientX - first.x, event.clientY - first.y) >= LEAST_MARK_PX) keep([...first.at, ...pixel(event)]);
    } else if (down.size === 2) {
      const [other] = [...down.values()].filter((each) => each.pointerId !== event.pointerId);
      const far = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
      zoomBy(far(event) / Math.max(far(before), 1), { target: one("#shown"), clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 });
    } else {
      x += event.clientX - before.clientX;
      y += event.clientY - before.clientY;
      apply();
    }
  });

  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, (event) => {
      if (!down.delete(event.pointerId)) return;
      root.classList.remove("dragging");
      if (first && Math.hypot(event.clientX - first.x, event.clientY - first.y) >= LEAST_MARK_PX) mark(false);
      first = null;
    });
  }

  document.addEventListener("dblclick", (event) => {
    if (event.target.closest("#viewer")) fit(); // a captured pointer clicks on all of it
  });

  // The wheel zooms an image and turns the slices of a volume, which it zooms with Ctrl, as pinching a touchpad does.
  document.addEventListener("wheel", (event) => {
    if (!event.target.closest("#viewer") || !place()) return;
    event.preventDefault();
    const slider = one("#slice input[type=range]");
    if (!slider || event.ctrlKey) return zoomBy(Math.exp(-event.deltaY * 0.002), event);
    if (slider.disabled) return;
    slider.value = Number(slider.value) + (event.deltaY > 0 ? -1 : 1);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }, { passive: false });

  const acts = {
    in: () => zoomBy(1.25), out: () => zoomBy(1 / 1.25), fit,
    mark: () => mark(marking === null), unmark: () => { mark(false); write(""); },
  };
  document.addEventListener("click", (event) => acts[event.target.closest?.("#buttons [data-do]")?.dataset.do]?.());

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const LETTERS = { "+": "in", "=": "in", "-": "out", 0: "fit", m: "mark", M: "mark" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !place() || !one("#viewer").getClientRects().length) return;
    const typing = event.target.closest("input:not([type=checkbox], [type=radio], [type=range]), textarea, select, [contenteditable=true]");
    if ((typing && !typing.readOnly) || event.target.ariaExpanded === "true") return;
    const arrow = ARROWS[event.key], here = event.target.closest("#viewer");
    if (marking !== null && (event.key === "Enter" || event.key === "Escape") && !event.target.closest("button")) {
      if (event.key === "Escape") write(marking);
      mark(false);
    } else if (arrow && here && marking !== null) {
      nudge(...arrow, event.shiftKey);
    } else if (arrow && here) {
      x -= 40 * arrow[0], y -= 40 * arrow[1];
      apply();
    } else if (acts[LETTERS[event.key]]) {
      acts[LETTERS[event.key]]();
    } else return;
    event.preventDefault();
  });

  document.addEventListener("input", (event) => {
    const { target } = event;
    if (target.id === "opacity") {
      root.style.setProperty("--heat", target.value / 100);
      one("#opacity-shown").textContent = `${target.value} %`;
    }
    if (target.closest("#invert")) root.classList.toggle("inverted", target.checked);
    if (target.closest("#outlined")) root.classList.toggle("bare", !target.checked);
  });

  // Gradio changes the picture in place, and an <img> shows the old one until the new one is there. Of the same scan in
  // another window that is well; of another scan nothing is seen before it is there.
  async function blank() {
    const wanted = scan, arrives = (img) => img.complete || new Promise((done) => {
      for (const end of ["load", "error"]) img.addEventListener(end, done, { once: true });
    });
    root.classList.add("coming");
    await Promise.all([...document.querySelectorAll("#viewer img.scan")].map(arrives));
    if (scan === wanted) root.classList.remove("coming");
  }

  // Another picture: another scan is fitted, another slice of the same one stays where it is.
  function renewed() {
    const svg = place(), viewer = one("#viewer");
    if (!viewer) return;
    if (!viewer.hasAttribute("tabindex")) {
      viewer.tabIndex = 0;
      viewer.setAttribute("role", "group");
      viewer.setAttribute("aria-label", "Picture: plus and minus zoom, arrow keys move it, M marks a region");
      sizes.observe(viewer);
    }
    if (!svg) mark(false);
    if ((svg?.dataset.scan ?? "") !== scan) {
      scan = svg?.dataset.scan ?? "";
      fit();
      blank();
    }
    draw(field()?.value);
    scales();
  }

  const sizes = new ResizeObserver(apply);
  new MutationObserver((changes) => {
    const holds = (node) => node.nodeType === 1 && (node.closest("#viewer") || node.querySelector("#viewer"));
    const own = (node) => node.closest?.("svg.place, .scale, .hint"); // what is drawn here
    if (changes.some(({ type, target, addedNodes }) => type === "attributes" || !own(target) && (target.closest?.("#viewer") || [...addedNodes].some(holds)))) renewed();
  }).observe(document, { childList: true, subtree: true, attributeFilter: ["data-scan"] });

  return { draw };
})();
