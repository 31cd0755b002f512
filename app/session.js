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
    return new Promise((resolve, reject) => {
      // A shadow root: the login page's style and the page's keep apart.
      const host = document.createElement("div");
      host.id = "again";
      for (const kind of ["keydown", "keyup", "keypress"]) host.addEventListener(kind, (event) => event.stopPropagation());
      const root = host.attachShadow({ mode: "open" });
      root.innerHTML = '<link rel="stylesheet" href="login.css"><dialog class="again" aria-labelledby="why"><h2 id="why">'
        + "Your session has ended</h2><p>Log in again. What you chose is kept.</p><div></div></dialog>";
      const dialog = root.querySelector("dialog");
      dialog.addEventListener("cancel", (event) => event.preventDefault());
      document.body.append(host);
      dialog.showModal();

      const silent = (form) => {
        form.querySelector(".problem")?.remove();
        form.insertAdjacentHTML("afterbegin", '<p class="problem" role="alert">The server does not answer; try again.</p>');
      };
      const show = (html) => {
        const form = new DOMParser().parseFromString(html, "text/html").querySelector("form");
        root.querySelector("div").replaceChildren(form);
        form.elements.name.value ||= window.gradio_config.username;
        form.elements.password.focus();
        form.addEventListener("submit", async (event) => {
          event.preventDefault();
          const name = form.elements.name.value;
          const body = new URLSearchParams(new FormData(form));
          const answer = await plain(form.action, { method: "POST", body, redirect: "manual" }).catch(() => null);
          if (answer === null) return silent(form);
          if (answer.type !== "opaqueredirect") return show(await answer.text());
          if (name !== window.gradio_config.username) return location.reload();
          host.remove();
          resolve();
        });
      };

      plain("login").then((answer) => answer.text()).then(show).catch((problem) => { host.remove(); reject(problem); });
    });
  }
})();
