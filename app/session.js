// The session has ended while the page is open: ask for name and password over the page, then repeat what was asked for.
// Nothing that was chosen is lost, and a verdict that was being saved is saved. Somebody else gets a page of his own.
(() => {
  const plain = window.fetch.bind(window);
  let asking = null;

  window.fetch = async (input, init) => {
    let answer = await plain(input, init);
    while (answer.status === 401) {
      asking ??= ask().finally(() => { asking = null; });
      await asking;
      answer = await plain(input, init);
    }
    return answer;
  };

  function ask() {
    return new Promise((resolve) => {
      const dialog = document.createElement("dialog");
      dialog.id = "again";
      dialog.setAttribute("aria-label", "Log in again");
      dialog.addEventListener("cancel", (event) => event.preventDefault());
      dialog.addEventListener("keydown", (event) => event.stopPropagation());
      document.body.append(dialog);

      const show = (html) => {
        const form = new DOMParser().parseFromString(html, "text/html").querySelector("form");
        dialog.replaceChildren();
        dialog.insertAdjacentHTML("beforeend",
          "<h2>Your session has ended</h2><p>Log in again. What you chose is kept and will be saved.</p>");
        dialog.append(form);
        form.addEventListener("submit", async (event) => {
          event.preventDefault();
          const name = form.elements.name.value;
          const body = new URLSearchParams(new FormData(form));
          const answer = await plain(form.action, { method: "POST", body, redirect: "manual" });
          if (answer.type !== "opaqueredirect") return show(await answer.text());
          if (name !== window.gradio_config.username) return location.reload();
          dialog.remove();
          resolve();
        });
        (form.querySelector("input[type=text], input:not([type])") ?? form).focus();
      };

      plain("login").then((answer) => answer.text()).then((html) => { dialog.showModal(); show(html); });
    });
  }
})();
