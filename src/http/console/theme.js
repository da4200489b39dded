// The button that chooses between the system's colours, light and dark. Loaded in the head, before anything is drawn.
"use strict";
(() => {
  const names = ["system", "light", "dark"];
  const root = document.documentElement;
  const read = () => {
    // Without storage each visit begins with the system's colours.
    try { return localStorage.getItem("fanline-theme"); } catch { return null; }
  };
  function choose(name) {
    root.dataset.theme = names.includes(name) ? name : "system";
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${root.dataset.theme}`;
    dispatchEvent(new Event("themechange"));
  }
  choose(read());
  addEventListener("DOMContentLoaded", () => {
    choose(root.dataset.theme);
    document.getElementById("theme").addEventListener("click", () => {
      choose(names[(names.indexOf(root.dataset.theme) + 1) % names.length]);
      try { localStorage.setItem("fanline-theme", root.dataset.theme); } catch { /* as above */ }
    });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
})();
