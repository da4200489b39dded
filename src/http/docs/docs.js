// Shows openapi.json in Swagger UI, with the addresses and the colours of this page.
"use strict";

function follow() {
  const { theme } = document.documentElement.dataset;
  const isDark = theme === "dark" || (theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.classList.toggle("dark-mode", isDark);
}
addEventListener("themechange", follow);
follow();

fetch("openapi.json").then((response) => response.json()).then((spec) => {
  // Requests of "Try it out" keep a path prefix.
  spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }];
  SwaggerUIBundle({ spec, dom_id: "#api", deepLinking: true, validatorUrl: null, defaultModelsExpandDepth: 0, docExpansion: "list" });
});
