// Views, keys and the worklist's table: what the browser does without asking the server.
(() => {
  "use strict";
  const root = document.documentElement;
  const by = (id) => document.getElementById(id);
  const findings = () => [...document.querySelectorAll(".one")];
  const press = (id) => {
    const button = by(id);
    if (button && !button.disabled) button.click();
  };
  const at = () => root.dataset.view;
  root.dataset.view = "worklist";

  const medtl = (window.medtl = {
    wanted: 0,
    picked: 0,
    show(view) {
      if (!view) return;
      root.dataset.view = view;
      for (const name of ["worklist", "case", "agreement"])
        by(`to-${name}`)?.setAttribute("aria-current", name === view ? "page" : "false");
      if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    },
    top() {
      by("table").scrollTop = 0;
    },
    mark(place) {
      medtl.picked = Number(place);
      findings().forEach((each, index) => each.classList.toggle("current", index === medtl.picked));
    },
    pick(place) {
      if (place === medtl.picked || place >= findings().length) return;
      medtl.mark(place);
      press("pick");
    },
    open(number) {
      medtl.wanted = number;
      press("open");
    },
  });

  const choose = (value) => findings()[medtl.picked]?.querySelector(`input[value="${value}"]`)?.click();
  const mark = () => {
    const choices = [...document.querySelectorAll("#marked input")];
    choices[(choices.findIndex((each) => each.checked) + 1) % choices.length]?.click();
  };
  const step = (by_) => {
    const buttons = [...document.querySelectorAll("#table [data-case]")];
    const place = buttons.indexOf(document.activeElement);
    buttons[place < 0 ? 0 : Math.min(Math.max(place + by_, 0), buttons.length - 1)]?.focus();
  };
  const help = () => {
    const dialog = by("keys");
    if (dialog.open) dialog.close();
    else dialog.showModal();
  };

  const ON_A_CASE = {
    a: () => choose("agree"),
    d: () => choose("disagree"),
    p: () => choose("present"),
    x: () => choose("absent"),
    u: () => choose("unsure"),
    b: () => by("bad")?.querySelector("input")?.click(),
    r: () => by("instead")?.querySelector("input")?.focus(),
    f: () => mark(),
    t: () => by("note")?.querySelector("textarea")?.focus(),
    n: () => press("save"),
    s: () => press("skip"),
    h: () => root.classList.toggle("no-heat"),
    i: () => by("invert")?.querySelector("input")?.click(),
  };
  const ON_THE_WORKLIST = {
    n: () => press("next-case"),
    arrowdown: () => step(1),
    arrowup: () => step(-1),
  };
  const EVERYWHERE = { z: () => press("undo"), w: () => press("to-worklist"), "?": help };

  const typing = (target) =>
    target.matches?.("textarea, select, [contenteditable=true], input:not([type=radio], [type=checkbox], [type=range])") &&
    !target.readOnly;

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // Also out of a menu: one that is only about to open would hold all keys otherwise.
    if (event.key === "Escape" && event.target.matches?.("input, textarea")) return event.target.blur();
    if (typing(event.target)) return;
    const key = event.key.toLowerCase();
    if (event.repeat && !key.startsWith("arrow")) return;
    if (by("keys")?.open && key !== "?") return;
    if (event.target.getAttribute?.("aria-expanded") === "true") return; // a menu is open
    const here = at() === "case" ? ON_A_CASE : at() === "worklist" ? ON_THE_WORKLIST : {};
    const act = EVERYWHERE[key] ?? here[key];
    if (act) act();
    else if (at() === "case" && /^[1-9]$/.test(key)) medtl.pick(Number(key) - 1);
    else return;
    event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    const row = event.target.closest("[data-case], [data-row]");
    if (row) medtl.open(Number(row.dataset.case ?? row.dataset.row));
    const finding = event.target.closest(".one");
    if (finding) medtl.pick(findings().indexOf(finding));
  });
})();
