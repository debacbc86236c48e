// Light or dark: as the reader's system says until the button is pressed. Charts listen to the event "scheme".
"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("scheme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const current = () => root.dataset.scheme || (system.matches ? "dark" : "light");

  function tell() {
    const other = current() === "dark" ? "Light" : "Dark";
    button.textContent = other;
    button.setAttribute("aria-label", `Switch to the ${other.toLowerCase()} scheme`);
    root.dispatchEvent(new CustomEvent("scheme", { detail: current() }));
  }

  button.addEventListener("click", () => {
    root.dataset.scheme = current() === "dark" ? "light" : "dark";
    tell();
  });
  system.addEventListener("change", tell);
  window.currentScheme = current;
  tell();
})();
