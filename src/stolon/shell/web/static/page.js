// What a browser can do beyond a form: drop and paste pictures, and say so when the agent falls silent.
// The page works without it. Text is only ever put in place as text.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const form = byId("upload"), input = byId("picture"), drop = byId("drop"), answer = byId("answer"), lost = byId("lost");
  document.documentElement.classList.add("script");
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target === form) answer.setAttribute("aria-busy", "true");
  });

  const refuse = (sentence) => {
    const told = document.createElement("p");
    told.className = "refused";
    told.textContent = sentence;
    answer.replaceChildren(told);
  };

  const send = () => {
    const file = input.files[0];
    if (!file) return;
    if (file.size > Number(answer.dataset.most) - 1024) {
      refuse("The picture is too large. Up to 8 MB are taken.");
      form.reset();
    } else {
      form.requestSubmit();
    }
  };

  const take = (files) => {
    if (!files || !files.length) return false;
    const one = new DataTransfer();
    one.items.add(files[0]);
    input.files = one.files;
    send();
    return true;
  };

  input.addEventListener("change", send);
  // Pictures may be dropped anywhere: a browser would otherwise leave the page to show them.
  let inside = 0;
  const mark = () => drop.classList.toggle("over", inside > 0);
  addEventListener("dragenter", (event) => { event.preventDefault(); inside += 1; mark(); });
  addEventListener("dragleave", () => { inside = Math.max(0, inside - 1); mark(); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    mark();
    take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => { if (take(event.clipboardData.files)) event.preventDefault(); });

  const body = document.body;
  body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target !== answer) return;
    event.detail.shouldSwap = true; // refusals are answers too
    event.detail.isError = false;
  });
  body.addEventListener("htmx:afterRequest", (event) => {
    if (event.target !== form) return;
    answer.removeAttribute("aria-busy");
    form.reset(); // the same file may be chosen again
  });
  const silent = (event) => {
    lost.hidden = false;
    if (event.target === form) refuse("The picture did not reach the agent. Try again.");
  };
  body.addEventListener("htmx:sendError", silent);
  body.addEventListener("htmx:timeout", silent);
  body.addEventListener("htmx:afterOnLoad", () => { lost.hidden = true; });
})();
